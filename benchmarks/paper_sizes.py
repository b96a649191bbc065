"""Muse at the paper's sizes, with random weights: `python -m benchmarks.paper_sizes`.

Without a flag: the number of weights of every stage beside the paper's, and a lower bound on the time of one picture on
some chips: a stage cannot be faster than its arithmetic at the chip's peak, or than reading its weights once per step.

    --measure        also time it on this device, in bfloat16: every stage of one picture of 256 px and one of 512 px,
                     and a training step of the base; that of muse-3b takes 72 GB on an H200
    --preset NAME    the preset to measure; default muse-3b
    --batch 32       pictures in the training step; 0: no training
    --json           one JSON object instead of tables
"""

import argparse
import dataclasses
import functools
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.decoding import compiled
from benchmarks.flops import condition_flops, forward_flops, pass_flops
from minimuse import layers, t5
from minimuse.config import Preset, Sampling, T5Config, TransformerConfig
from minimuse.decoding import Prompts, sample_tokens
from minimuse.muse import STAGES, build
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step
from minimuse.vqgan import Decoder, draw_pixels
from minimuse.weights import named_arrays

PAPER = {  # millions of weights that the paper reports, and its seconds on a TPUv4 (section 1)
    "muse-900m": dict(base=632, superres=268),
    "muse-3b": dict(base=3000, seconds={"256 px": 0.5, "512 px": 1.3}),
}
CHIPS = {  # dense bfloat16 flops and bytes per second, from the makers' data sheets
    "TPUv4": (275e12, 1.2e12),
    "A100": (312e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "T4 (float16)": (65e12, 0.3e12),
}
T5_XXL = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
LENGTH, ROUNDS = 77, 10


def count(tree: Any) -> int:
    """The number of weights."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def counts(name: str) -> dict[str, float]:
    """Millions of weights, by stage."""
    preset = get_preset(name)
    stages = ("tokenizer", "base", "superres_tokenizer", "superres")
    return {stage: round(count(build(stage, getattr(preset, stage))) / 1e6, 1) for stage in stages}


def floors(name: str, chips: dict = CHIPS) -> dict[str, dict[str, float]]:
    """{chip: {stage: seconds}}: a lower bound for the transformers of one guided picture, in bfloat16."""
    preset, found = get_preset(name), {}
    for chip, (peak, bandwidth) in chips.items():
        found[chip] = {}
        for stage in ("base", "superres"):
            config, steps = getattr(preset, stage), preset.sampling[stage].steps
            blocks = [x for name, x in named_arrays(build(stage, config)).items() if name.startswith("blocks.")]
            arithmetic = steps * 2 * pass_flops(config, LENGTH) / peak  # twice: with the caption and without
            reading = steps * 2 * count(blocks) / bandwidth  # 2 bytes per weight
            found[chip][stage] = float(f"{max(arithmetic, reading):.2g}")
    return found


def fresh(cls: type[layers.Module], config: Any, dtype: str = "bfloat16") -> layers.Module:
    """A module with random weights, made in the type that they stay in."""
    make = jax.jit(lambda: jax.tree.leaves(layers.cast(cls(config, rngs=nnx.Rngs(0)), dtype)))
    return jax.tree.unflatten(jax.tree.structure(layers.abstract(cls, config)), make())


def median_seconds(program: Callable, rounds: int = ROUNDS) -> float:
    """Median seconds of a compiled program without arguments."""
    times = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        jax.block_until_ready(program())
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def peak_flops(side: int = 8192) -> float:
    """Flops per second that one large bfloat16 matrix product reaches on this device."""
    square = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    return 2 * side**3 / median_seconds(functools.partial(jax.jit(lambda x: x @ x), square))


def prompt(config: TransformerConfig) -> Prompts:
    """One random prompt."""
    embeddings = jax.random.normal(jax.random.key(0), (1, LENGTH, config.text_width))
    mask = jnp.arange(LENGTH)[None] < 20
    return Prompts((embeddings, mask), (embeddings, jnp.zeros_like(mask)), jax.random.split(jax.random.key(1), 1))


def drawing(preset: Preset, peak: float) -> dict[str, dict]:
    """Seconds of every stage of one picture, and the share of `peak` that a transformer's arithmetic reaches."""
    found = {}
    encoder, words = fresh(t5.T5Encoder, T5_XXL), (jnp.ones((1, LENGTH), int), jnp.ones((1, LENGTH), bool))
    found["text encoder"] = dict(seconds=median_seconds(functools.partial(t5.encode, encoder, *words)))
    del encoder
    for stage, tokenizer in (("base", "tokenizer"), ("superres", "superres_tokenizer")):
        config, own = getattr(preset, stage), getattr(preset, tokenizer)
        low = jnp.zeros((1, math.prod(preset.base.grid)), jnp.int32) if stage == "superres" else None
        sampling = Sampling(steps=preset.sampling[stage].steps, guidance=4.0, token_temperature=1.0)
        program = compiled(sample_tokens, fresh(STAGES[stage][1], config), sampling, prompt(config), low)
        seconds, steps = median_seconds(program), sampling.steps
        del program
        work = steps * 2 * pass_flops(config, LENGTH) + 2 * condition_flops(config, LENGTH)
        found[f"{stage}, {steps} steps"] = dict(seconds=seconds, share_of_peak=round(work / seconds / peak, 3))
        codes = jnp.ones((own.codebook_size, own.code_dim), jnp.bfloat16)
        tokens = jnp.zeros((1, *config.grid), jnp.int32)
        pixels = functools.partial(draw_pixels, fresh(Decoder, own), codes, tokens)
        found[f"pixels, {own.image_size} px"] = dict(seconds=median_seconds(pixels))
    return {name: row | dict(seconds=float(f"{row['seconds']:.3g}")) for name, row in found.items()}


def training_step(preset: Preset, batch: int, peak: float) -> dict:
    """Seconds of one training step of the base, with weights and their average in float32, and its share of `peak`."""
    config, train = preset.base, dataclasses.replace(preset.train["base"], batch=batch)
    step = make_step(functools.partial(losses.transformer_loss, config, train), train)
    state = init_state(fresh(STAGES["base"][1], config, "float32"), train)
    grid, key = math.prod(config.grid), jax.random.key(2)
    example = dict(
        tokens=jax.random.randint(key, (batch, grid), 0, config.codebook_size),
        text=jax.random.normal(key, (batch, LENGTH, config.text_width), jnp.float16),
        text_mask=jnp.ones((batch, LENGTH), bool),
    )

    def one_step() -> jax.Array:
        nonlocal state
        state, metrics = step(state, example)
        return metrics["loss"]

    seconds, work = median_seconds(one_step, 5), 3 * batch * forward_flops(config, LENGTH)
    rate = round(batch * grid / seconds)
    row = dict(batch=batch, seconds=float(f"{seconds:.3g}"), share_of_peak=round(work / seconds / peak, 3))
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return row | {"image tokens a second": rate, "gigabytes at most": round(memory / 1e9, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--preset", default="muse-3b", choices=list(PAPER))
    parser.add_argument("--batch", type=int, default=32, metavar="B")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    weights = {name: dict(here=counts(name), paper=reported) for name, reported in PAPER.items()}
    result = dict(weights=weights, floors=floors("muse-3b"))
    for name, row in weights.items():
        report(f"{name}: millions of weights {row['here']}; in the paper {row['paper']}")
    for chip, row in result["floors"].items():
        report(f"{chip:>14}: one guided 512 px picture of muse-3b takes at least {row} s")
    if options.measure:
        result |= measure(get_preset(options.preset), options.batch, report)
    if options.json:
        print(json.dumps(result | dict(machine=machine())))


def measure(preset: Preset, batch: int, report: Callable) -> dict:
    """Everything that is timed of one preset on this device."""
    peak = peak_flops()
    report(f"one large bfloat16 product: {peak / 1e12:.0f} teraflops per second")
    drawn = drawing(preset, peak)
    for name, row in drawn.items():
        report(f"{preset.name} {name}: {row}")
    seconds = {name: row["seconds"] for name, row in drawn.items()}
    small = [name for name in seconds if not name.startswith("superres") and not name.endswith(" 512 px")]
    large = [name for name in seconds if not name.endswith(" 256 px")]
    total = {"256 px": sum(seconds[n] for n in small), "512 px": sum(seconds[n] for n in large)}
    total = {name: float(f"{value:.3g}") for name, value in total.items()}
    report(f"{preset.name}, one picture, all stages: {total}")
    result = dict(preset=preset.name, peak_teraflops=round(peak / 1e12), stages=drawn, seconds_a_picture=total)
    if batch:
        result["training_step"] = training_step(preset, batch, peak)
        report(f"{preset.name} training step: {result['training_step']}")
    return result


if __name__ == "__main__":
    main()
