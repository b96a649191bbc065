"""What super-resolution costs: `python -m benchmarks.superres`.

First, the time of its 8 decoding steps for 256, 1,024 and 4,096 tokens with multi-axis and with full attention and
random weights; the two take turns. Then the time of each stage of one picture with the shipped weights, and the time of
one picture in a fresh process with a warm compilation cache.

    --json           one JSON object instead of tables
    --largest 32     leave out grids larger than 32 x 32; 64 x 64 takes most of the time, and 3 GB
"""

import argparse
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.decoding import compiled, prompts, race
from benchmarks.first_image import CAPTION, seconds
from benchmarks.flops import attended
from minimuse import layers
from minimuse.config import Sampling, SuperresConfig
from minimuse.decoding import sample_tokens
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.train.loop import machine
from minimuse.transformer import SuperresTransformer

SIDES, STEPS, ROUNDS = (16, 32, 64), 8, 5
WAYS = {"multi-axis": 8, "full": 0}  # positions per side of a window


def contestants(side: int) -> dict[str, tuple[SuperresConfig, Callable]]:
    """{name: (config, program)}: both kinds of attention on a grid of side x side tokens, for one picture."""
    found = {}
    for name, window in WAYS.items():
        size = dict(grid=(side, side), low_grid=(side // 4, side // 4), window=window)
        config = dataclasses.replace(get_preset("tiny").superres, **size)
        low = jnp.zeros((1, (side // 4) ** 2), jnp.int32)
        sampling = Sampling(steps=STEPS, guidance=0.0, guided=False)
        model = layers.init(SuperresTransformer, config)
        found[name] = config, compiled(sample_tokens, model, sampling, prompts(config, 1), low)
    return found


def shares(drawer: Muse) -> dict[str, float]:
    """Median seconds of every stage of one picture, one after another."""
    found = {}

    def timed(name: str, call: Callable) -> Any:
        call()  # compiles
        times, result = [], None
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            result = jax.block_until_ready(call())
            times.append(time.perf_counter() - begun)
        found[name] = float(f"{statistics.median(times):.3g}")
        return result

    given = timed("text encoder", lambda: drawer.prompts([CAPTION]))
    plan, tokens = drawer.plan(), None
    for stage, sampling in plan.stages.items():
        inputs = drawer.stage_inputs(stage, given, tokens)
        draw = functools.partial(sample_tokens, drawer.models[stage], sampling, *inputs)
        tokens, _ = timed(f"{stage}, {sampling.steps} steps", draw)
    ids = np.asarray(tokens).reshape(1, *drawer.configs["superres"].grid)
    timed("decoder", lambda: drawer.detokenize(ids, "superres", finetuned=plan.finetuned))
    return found


def fresh_process() -> float:
    """Seconds of `minimuse generate` of one picture with its compiled programs on disk, including Python's start."""
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
    report = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    rows = []
    report(f"{'tokens':>8}   seconds of {STEPS} steps (positions that a position attends to)")
    for side in (side for side in SIDES if side <= options.largest):
        pair = contestants(side)
        found = race({name: program for name, (_, program) in pair.items()})
        row = {name: dict(seconds=float(f"{s:.3g}"), looks=attended(pair[name][0])) for name, s in found.items()}
        ratio = round(found["full"] / found["multi-axis"], 2)
        rows.append(dict(tokens=side * side) | row | {"full / multi-axis": ratio})
        line = "   ".join(f"{name}: {values['seconds']:.3g} ({values['looks']})" for name, values in row.items())
        report(f"{side * side:>8}   {line}   ratio {ratio}")

    result, drawer = dict(cost=rows), Muse.from_pretrained("tiny")
    if "superres" in drawer.configs:
        result["stages"] = shares(drawer)
        total = sum(result["stages"].values())
        report("\none picture of 128 px, in one process")
        for name, spent in result["stages"].items():
            report(f"{name:>20}  {spent:6.3f} s  {spent / total:5.1%}")
        result["fresh process, warm cache"] = fresh_process()
        report(f"\nin a fresh process with a warm cache: {result['fresh process, warm cache']} s")
    if options.json:
        print(json.dumps(result | dict(machine=machine())))


if __name__ == "__main__":
    main()
