"""How much memory a stage's training step takes, from its compiled program, before anything is trained.

Only shapes go in: no weights, no pictures. XLA plans where every array lies when it compiles, so its plan is what the
step will take.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from minimuse import layers, vqgan
from minimuse.config import TRANSFORMERS, AdversarialConfig, Preset, TrainConfig, VQGANConfig
from minimuse.evaluate import baselines
from minimuse.muse import build
from minimuse.processes import is_first
from minimuse.train import adversarial, codebook, losses
from minimuse.train.devices import mesh_shape
from minimuse.train.perceptual import network_of
from minimuse.train.step import Tree, init_state, make_step

CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Plan(NamedTuple):
    """Bytes of a compiled program on one device."""

    kept: int  # what goes in or out: weights, their average and the optimizer's sums, and the batch
    working: int  # what is needed in between, mostly what the backward pass needs

    @property
    def total(self) -> int:
        return self.kept + self.working


def planned(program: Callable, *shapes: Any) -> Plan:
    """The plan of a jitted function for arguments of these shapes, which it is compiled for."""
    stats = program.lower(*shapes).compile().memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]
    kept = stats.argument_size_in_bytes + stats.output_size_in_bytes - stats.alias_size_in_bytes
    return Plan(kept, stats.temp_size_in_bytes)


def _array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _tokenizer(config: VQGANConfig, train: TrainConfig) -> tuple[Callable, Tree, dict]:
    loss = functools.partial(losses.tokenizer_loss, config)
    step = make_step(loss, train, functools.partial(codebook.update_codes, config))
    extra = jax.eval_shape(lambda: codebook.codebook_state(config))
    state = jax.eval_shape(
        lambda model, extra: init_state(model, train, **extra), layers.abstract(vqgan.VQGAN, config), extra
    )
    side = config.image_size
    return step, state, dict(images=_array("uint8", train.batch, side, side, 3), quantize=_array(bool, train.batch))


def _adversarial(config: VQGANConfig, train: AdversarialConfig, own: bool) -> tuple[Callable, Tree, dict]:
    codes = None if train.freeze_tokens else jax.eval_shape(lambda: codebook.codebook_state(config))

    def start(tokenizer: Tree, codes: dict | None) -> dict:
        params, extra = adversarial.starting_state(tokenizer, train)
        return init_state(params, train, **extra | (codes or {}))

    update = functools.partial(codebook.update_codes, config) if codes else None
    maps, channels = network_of(train, own)
    step = adversarial.make_step(config, train, maps, update, channels)
    side = train.crop or config.image_size
    tokenizer = layers.abstract(vqgan.VQGAN, config)
    return step, jax.eval_shape(start, tokenizer, codes), dict(images=_array("uint8", train.batch, side, side, 3))


def _transformer(preset: Preset, stage: str, train: TrainConfig, length: int) -> tuple[Callable, Tree, dict]:
    if stage in baselines.BASELINES:
        config, loss = baselines.twin_config(stage, preset), losses.BASELINE_LOSSES[stage]
        model = layers.abstract(baselines.BASELINES[stage].module, config)
    else:
        config, loss = getattr(preset, stage), losses.transformer_loss
        model = build(stage, config)
    step = make_step(functools.partial(loss, config, train), train)
    grids = dict(tokens=config.grid) | (dict(low=preset.superres.low_grid) if stage == "superres" else {})
    batch = {name: _array("int32", train.batch, math.prod(grid)) for name, grid in grids.items()}
    batch |= dict(text=_array("float16", train.batch, length, config.text_width))
    batch |= dict(text_mask=_array(bool, train.batch, length))
    return step, jax.eval_shape(lambda model: init_state(model, train), model), batch


def step_of(preset: Preset, phase: str, length: int = 0) -> tuple[Callable, Tree, dict]:
    """The training step of a stage, or of a tokenizer's second phase (tokenizer_adversarial), and the shapes of its
    state and its batch. Not for text and scorer, which are small.

    length    text tokens of the longest caption; 0: as many as the preset's captions can have
    """
    train, stage = preset.train[phase], phase.removesuffix("_adversarial")
    if isinstance(train, AdversarialConfig):
        config = preset.superres_tokenizer if stage == "superres_decoder" else getattr(preset, stage)
        if stage == "superres_decoder":
            config = dataclasses.replace(config, decoder_growth=2)
        return _adversarial(config, train, own=bool(preset.data))
    if stage.endswith("tokenizer"):
        return _tokenizer(getattr(preset, stage), train)
    return _transformer(preset, stage, train, length or preset.base.text_length)


# --- does it fit? ---------------------------------------------------------------------------------------------------


def device_memory() -> int:
    """Bytes that one device has: what JAX may use of a GPU or TPU, the machine's memory for a CPU; 0 if unknown."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and stats.get("bytes_limit"):
        return stats["bytes_limit"]
    try:
        sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
        sizes += [int(text) for path in CONTAINER if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 0
    return min(sizes)


def rough_size(preset: Preset, phase: str) -> int:
    """Roughly the bytes of a training step's largest arrays, in float32, without compiling it. In all a step takes
    about twice as much; in bfloat16, or where layers are computed again (`remat`), less."""
    train, stage = preset.train[phase], phase.removesuffix("_adversarial")
    if stage in TRANSFORMERS:
        config: Any = getattr(preset, stage, preset.base)
        n, per_layer = math.prod(config.grid), 12 * config.width
        return 4 * train.batch // train.accumulate * n * (4 * config.codebook_size + config.depth * per_layer)
    config = preset.superres_tokenizer if stage == "superres_decoder" else getattr(preset, stage)
    side = getattr(train, "crop", 0) or config.image_size
    grown = 4 if stage == "superres_decoder" else 1
    finest = (side * 2 ** (len(config.channels) - 1) // config.factor) ** 2 * config.channels[0]
    codes = (side // config.factor) ** 2 * config.codebook_size
    seen = 270 * side**2 if getattr(train, "perceptual_network", "") else 0  # VGG16's features of a picture
    return 4 * train.batch // train.accumulate * (3 * codes + 16 * grown * config.blocks * finest + seen)


def check_memory(preset: Preset, phases: tuple[str, ...]) -> None:
    """Compile the training steps that may be too large for the device, and say what they take; ValueError, with the
    setting that would help, for one that does not fit.

    It takes up to a minute for each; otherwise hours would be lost. The programs stay in the compilation cache.
    """
    limit = int(preset.run.memory * 2**30) if preset.run.memory else device_memory()
    for phase in phases if limit > 0 else ():
        train = preset.train[phase]
        data, fsdp = mesh_shape(preset.run.mesh, train)
        own = dataclasses.replace(train, batch=train.batch // (data * fsdp))  # of one device
        one = dataclasses.replace(preset, train=preset.train | {phase: own})
        if (rough := rough_size(one, phase)) < limit / 4:
            continue
        program, *shapes = step_of(one, phase)
        plan = planned(program, *shapes) if rough < 8 * limit else Plan(_bytes(shapes), 2 * rough)  # hopeless
        plan = Plan(plan.kept // fsdp, plan.working)
        there = f"a training step takes about {_gib(plan.total)}, and the device has {_gib(limit)}"
        if plan.total > limit:
            raise ValueError(
                f"{phase} does not fit in memory: {there}. {_advice(phase, own, plan, limit, data * fsdp)}"
            )
        if is_first():
            print(f"{phase}: {there}.")


def _bytes(shapes: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))


def _gib(n: int) -> str:
    return f"{n / 2**30:.3g} GiB"


def _advice(phase: str, train: TrainConfig, plan: Plan, limit: int, devices: int) -> str:
    """The setting with which a plan would fit; `train` has the batch of one device."""
    for n in (n for n in range(2, train.batch + 1) if train.batch % (n * train.accumulate) == 0):
        if plan.kept + plan.working / n < 0.9 * limit:
            if isinstance(train, AdversarialConfig):  # whose batch is computed as a whole
                return f"Set --train.{phase.replace('_', '-')}.batch {train.batch // n * devices}."
            return f"Set --train.{phase.replace('_', '-')}.accumulate {n * train.accumulate}; the result is the same."
    return "Choose a smaller batch, smaller sizes, or more devices along fsdp (--mesh)."
