"""Muse at the paper's sizes, with random weights: `python -m benchmarks.paper_sizes`.

Without a flag: the weights of every stage beside the paper's, and what one picture costs at least on some chips, on
paper: a stage cannot be faster than its arithmetic at the chip's peak, or than reading its weights once a step.

    --measure        also time it on this device, in bfloat16: one picture of 256 px and one of 512 px, every stage of
                     them, and a training step of the base; that of muse-3b held 72 GB on an H200
    --preset NAME    which to measure; default muse-3b
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

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.decoding import compiled
from benchmarks.flops import condition_flops, forward_flops, pass_flops
from minimuse import layers, t5
from minimuse.config import T5Config, TransformerConfig
from minimuse.decoding import sample_tokens
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step
from minimuse.vqgan import Decoder, draw_pixels
from minimuse.weights import STAGES, abstract

PAPER = {  # millions of weights that the paper tells, and its seconds on a TPUv4 (section 1)
    "muse-900m": dict(base=632, superres=268),
    "muse-3b": dict(base=3000, seconds={"256 px": 0.5, "512 px": 1.3}),
}
CHIPS = {  # dense bfloat16 flops and bytes a second, from the makers' data sheets
    "TPUv4": (275e12, 1.2e12),
    "A100": (312e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "T4 (float16)": (65e12, 0.3e12),
}
T5_XXL = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
LENGTH, ROUNDS = 77, 10


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def counts(name: str) -> dict[str, float]:
    """Millions of weights, by stage."""
    preset = get_preset(name)
    stages = ("tokenizer", "base", "superres_tokenizer", "superres")
    return {stage: round(count(abstract(stage, getattr(preset, stage))[1]) / 1e6, 1) for stage in stages}


def floors(name: str, chips: dict = CHIPS) -> dict[str, dict[str, float]]:
    """{chip: {stage: seconds}}: the least that one guided picture's transformers can take, in bfloat16."""
    preset, found = get_preset(name), {}
    for chip, (peak, bandwidth) in chips.items():
        found[chip] = {}
        for stage, steps in zip(("base", "superres"), preset.sampling.steps):
            config = getattr(preset, stage)
            arithmetic = steps * 2 * pass_flops(config, LENGTH) / peak  # twice: with the caption and without
            reading = steps * 2 * count(abstract(stage, config)[1]["blocks"]) / bandwidth  # 2 bytes a weight
            found[chip][stage] = float(f"{max(arithmetic, reading):.2g}")
    return found


def fresh(cls: type[nnx.Module], config, dtype: str = "bfloat16") -> tuple[nnx.GraphDef, dict]:
    """Random weights, made in the type that they stay in."""
    make = lambda: nnx.to_pure_dict(nnx.split(cls(config, rngs=nnx.Rngs(0)))[1])
    return layers.abstract(cls, config)[0], jax.jit(lambda: layers.cast(make(), dtype))()


def middle(program, rounds: int = ROUNDS) -> float:
    """Median seconds of a compiled program without arguments."""
    times = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        jax.block_until_ready(program())
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def peak_flops(side: int = 8192) -> float:
    """What one large bfloat16 matrix product reaches here."""
    square = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)
    return 2 * side**3 / middle(functools.partial(jax.jit(lambda x: x @ x), square))


def prompt(config: TransformerConfig) -> tuple:
    embeddings = jax.random.normal(jax.random.key(0), (1, LENGTH, config.text_width))
    mask = jnp.arange(LENGTH)[None] < 20
    return (embeddings, mask), (embeddings, jnp.zeros_like(mask)), jax.random.split(jax.random.key(1), 1)


def drawing(preset, peak: float) -> dict[str, dict]:
    """Seconds of every stage of one picture, and what share of `peak` its transformer's arithmetic is."""
    found, numbers = {}, dict(guidance=4.0, ramp=True, temperature=4.5, token_temperature=1.0)
    encoder, words = fresh(t5.T5Encoder, T5_XXL), (jnp.ones((1, LENGTH), int), jnp.ones((1, LENGTH), bool))
    found["text encoder"] = dict(seconds=middle(functools.partial(t5.encode, *encoder, *words)))
    del encoder
    for i, (stage, tokenizer) in enumerate((("base", "tokenizer"), ("superres", "superres_tokenizer"))):
        config, own, steps = getattr(preset, stage), getattr(preset, tokenizer), preset.sampling.steps[i]
        low = jnp.zeros((1, math.prod(preset.base.grid)), jnp.int32) if i else None
        model, static = fresh(STAGES[stage][1], config), dict(guided=True, order="confidence", steps=steps)
        seconds = middle(compiled(sample_tokens, *model, prompt(config), numbers, low, **static))
        work = steps * 2 * pass_flops(config, LENGTH) + 2 * condition_flops(config, LENGTH)
        found[f"{stage}, {steps} steps"] = dict(seconds=seconds, share_of_peak=round(work / seconds / peak, 3))
        graphdef, params = fresh(Decoder, own)
        codes = jnp.ones((own.codebook_size, own.code_dim), jnp.bfloat16)
        tokens = jnp.zeros((1, *config.grid), jnp.int32)
        pixels = functools.partial(draw_pixels, graphdef, params, codes, tokens)
        found[f"pixels, {own.image_size} px"] = dict(seconds=middle(pixels))
    return {name: row | dict(seconds=float(f"{row['seconds']:.3g}")) for name, row in found.items()}


def training_step(preset, batch: int, peak: float) -> dict:
    """Seconds of one step of the base, weights and their average in float32, and its share of `peak`."""
    config, train = preset.base, dataclasses.replace(preset.train["base"], batch=batch)
    graphdef, params = fresh(STAGES["base"][1], config, "float32")
    loss = functools.partial(losses.transformer_loss, graphdef, config, train)
    step, state = make_step(loss, train), init_state(params, train)
    del params
    grid, key = math.prod(config.grid), jax.random.key(2)
    example = dict(
        tokens=jax.random.randint(key, (batch, grid), 0, config.codebook_size),
        text=jax.random.normal(key, (batch, LENGTH, config.text_width), jnp.float16),
        text_mask=jnp.ones((batch, LENGTH), bool),
    )

    def one_step():
        nonlocal state
        state, metrics = step(state, example)
        return metrics["loss"]

    seconds, work = middle(one_step, 5), 3 * batch * forward_flops(config, LENGTH)
    rate = round(batch * grid / seconds)
    told = dict(batch=batch, seconds=float(f"{seconds:.3g}"), share_of_peak=round(work / seconds / peak, 3))
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return told | {"image tokens a second": rate, "gigabytes at most": round(memory / 1e9, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--preset", default="muse-3b", choices=list(PAPER))
    parser.add_argument("--batch", type=int, default=32, metavar="B")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tell = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    weights = {name: dict(here=counts(name), paper=told) for name, told in PAPER.items()}
    result = dict(weights=weights, floors=floors("muse-3b"))
    for name, row in weights.items():
        tell(f"{name}: millions of weights {row['here']}; in the paper {row['paper']}")
    for chip, row in result["floors"].items():
        tell(f"{chip:>14}: one guided 512 px picture of muse-3b takes at least {row} s")
    if options.measure:
        result |= measure(get_preset(options.preset), options.batch, tell)
    if options.json:
        print(json.dumps(result | dict(machine=machine())))


def measure(preset, batch: int, tell) -> dict:
    """Everything of one preset that this device is to tell."""
    peak = peak_flops()
    tell(f"one large bfloat16 product: {peak / 1e12:.0f} teraflops a second")
    drawn = drawing(preset, peak)
    for name, row in drawn.items():
        tell(f"{preset.name} {name}: {row}")
    seconds = {name: row["seconds"] for name, row in drawn.items()}
    small = [name for name in seconds if not name.startswith("superres") and not name.endswith(" 512 px")]
    large = [name for name in seconds if not name.endswith(" 256 px")]
    total = {"256 px": sum(seconds[n] for n in small), "512 px": sum(seconds[n] for n in large)}
    total = {name: float(f"{value:.3g}") for name, value in total.items()}
    tell(f"{preset.name}, one picture, all stages: {total}")
    result = dict(preset=preset.name, peak_teraflops=round(peak / 1e12), stages=drawn, seconds_a_picture=total)
    if batch:
        result["training_step"] = training_step(preset, batch, peak)
        tell(f"{preset.name} training step: {result['training_step']}")
    return result


if __name__ == "__main__":
    main()
