"""What super-resolution costs: `python -m benchmarks.superres`.

First, the time of its 8 decoding steps for 256, 1,024 and 4,096 tokens, with multi-axis and with full attention, random
weights; each pair takes turns. Then where the time of one picture goes, stage by stage, with the shipped weights, and
how long one takes in a fresh process with a warm compilation cache.

    --json           one JSON object instead of tables
    --largest 32     leave out larger grids than 32 x 32; 64 x 64 takes most of the time, and 3 GB
"""

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.decoding import compiled, prompts, race
from benchmarks.first_image import CAPTION, seconds
from benchmarks.flops import looks
from minimuse import layers
from minimuse.decoding import sample_tokens
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.train.loop import machine
from minimuse.transformer import SuperresTransformer

SIDES, STEPS, ROUNDS = (16, 32, 64), 8, 5
WAYS = {"multi-axis": 8, "full": 0}  # places a side of a window


def contestants(side: int) -> dict:
    """{name: (config, program)}: both kinds of attention on a grid of side x side tokens, one picture."""
    found = {}
    for name, window in WAYS.items():
        size = dict(grid=(side, side), low_grid=(side // 4, side // 4), window=window)
        config = dataclasses.replace(get_preset("tiny").superres, **size)
        low = jnp.zeros((1, (side // 4) ** 2), jnp.int32)
        options = dict(guidance=0.0, ramp=True, temperature=4.5, token_temperature=0.25)
        graphdef, params = layers.init(SuperresTransformer, config)
        static = dict(guided=False, order="confidence", steps=STEPS)
        program = compiled(sample_tokens, graphdef, params, prompts(config, 1), options, low, **static)
        found[name] = config, program
    return found


def shares(drawer: Muse) -> dict[str, float]:
    """Median seconds of every stage of one picture, one after another."""
    found = {}

    def timed(name: str, call):
        call()  # compiles
        times = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            result = jax.block_until_ready(call())
            times.append(time.perf_counter() - begun)
        found[name] = float(f"{statistics.median(times):.3g}")
        return result

    asked = timed("text encoder", lambda: drawer.prompts([CAPTION], 1, 0, None))
    plan, low = drawer.plan(), None
    for stage, (_, static) in plan.stages.items():
        name = f"{stage}, {static['steps']} steps"
        low, _ = timed(name, functools.partial(drawer.sample, plan, stage, asked, low=low))
    ids = np.asarray(low).reshape(1, *drawer.configs["superres"].grid)
    timed("decoder", lambda: drawer.detokenize(ids, "superres", finetuned=plan.finetuned))
    return found


def fresh_process() -> float:
    """Seconds of `minimuse generate` of one picture, its compiled programs on disk, the start of Python included."""
    with tempfile.TemporaryDirectory() as folder:
        draw = ["-m", "minimuse", "generate", CAPTION, "--out", str(Path(folder) / "cat.png")]
        cache = dict(JAX_COMPILATION_CACHE_DIR=str(Path(folder) / "cache"))
        seconds(*draw, **cache)
        return min(seconds(*draw, **cache) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--largest", type=int, default=max(SIDES), metavar="SIDE", choices=SIDES)
    options = parser.parse_args()
    tell = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    rows = []
    tell(f"{'tokens':>8}   seconds of {STEPS} steps (places that a place looks at)")
    for side in (side for side in SIDES if side <= options.largest):
        pair = contestants(side)
        found = race({name: program for name, (_, program) in pair.items()})
        row = {name: dict(seconds=float(f"{s:.3g}"), looks=looks(pair[name][0])) for name, s in found.items()}
        ratio = round(found["full"] / found["multi-axis"], 2)
        rows.append(dict(tokens=side * side) | row | {"full / multi-axis": ratio})
        told = "   ".join(f"{name}: {values['seconds']:.3g} ({values['looks']})" for name, values in row.items())
        tell(f"{side * side:>8}   {told}   ratio {ratio}")

    result, drawer = dict(cost=rows), Muse.from_pretrained("tiny")
    if "superres" in drawer.configs:
        result["stages"] = shares(drawer)
        total = sum(result["stages"].values())
        tell("\none picture of 128 px, in one process")
        for name, spent in result["stages"].items():
            tell(f"{name:>20}  {spent:6.3f} s  {spent / total:5.1%}")
        result["fresh process, warm cache"] = fresh_process()
        tell(f"\nin a fresh process with a warm cache: {result['fresh process, warm cache']} s")
    if options.json:
        print(json.dumps(result | dict(machine=machine())))


if __name__ == "__main__":
    main()
