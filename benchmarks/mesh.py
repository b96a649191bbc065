"""Speed of training by the number of devices: `python -m benchmarks.mesh`.

The base transformer of a preset on 1, 2, 4, ... devices, data parallel (every device holds all weights) and fully
sharded (FSDP), with the same number of pictures per device: with perfect scaling n devices process n times the tokens.
Batches come from the host as in training. Weights are random. Meshes are timed one after another, since the training
states of all meshes together might not fit.

    --json           one JSON object instead of a table
    --simulate 8     simulate this many devices on the CPU. They share its cores, so this shows that the program runs
                     and how much of the weights a device holds, not how it scales
    --preset muse-900m --batch 32    a different preset, and pictures per device
"""

import argparse
import dataclasses
import functools
import json
import math
import statistics
import time

import jax
import numpy as np

from minimuse.config import Preset
from minimuse.muse import init_stage
from minimuse.presets import get_preset
from minimuse.train import devices, losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step

ROUNDS, STEPS = 5, 4  # rounds, each of STEPS training steps
WORDS = 16  # text tokens
SIMULATED = "These devices are simulated on one CPU and share its cores: the rates do not show scaling."


def shapes(devices: int) -> list[tuple[int, int]]:
    """Meshes (data, fsdp) of 1, 2, 4, ... devices, each along one of the two axes, and one along both."""
    sizes = [2**i for i in range(1, devices.bit_length()) if 2**i <= devices]
    found = [(1, 1)] + [shape for n in sizes for shape in ((n, 1), (1, n))]
    return found + ([(2, sizes[-1] // 2)] if len(sizes) > 1 else [])


def measure(preset: Preset, shape: tuple[int, int], batch: int) -> dict:
    """Image tokens per second on a mesh, and megabytes of training state on one of its devices."""
    config = preset.base
    train = dataclasses.replace(preset.train["base"], batch=batch * math.prod(shape), accumulate=1)
    rng, grid = np.random.default_rng(0), math.prod(config.grid)
    example = dict(
        tokens=rng.integers(0, config.codebook_size, (train.batch, grid)).astype(np.int32),
        text=rng.normal(size=(train.batch, WORDS, config.text_width)).astype(np.float16),
        text_mask=np.ones((train.batch, WORDS), bool),
    )
    mesh = devices.make_mesh(shape, train)
    state = init_state(devices.shard(init_stage("base", config), mesh), train)
    state = devices.shard(state, mesh)
    step = make_step(functools.partial(losses.transformer_loss, config, train), train)
    step = devices.on_mesh(step, state, mesh)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    seconds = []
    for _ in range(ROUNDS + 1):  # the first compiles
        begun = time.perf_counter()
        for _ in range(STEPS):
            state, _ = step(state, devices.shard_batch(example, mesh))
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - begun)
    rate = STEPS * train.batch * grid / statistics.median(seconds[1:])
    return {"image tokens a second": float(f"{rate:.3g}"), "megabytes a device": round(held / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--simulate", type=int, metavar="DEVICES")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch", type=int, default=32, metavar="PICTURES", help="per device")
    options = parser.parse_args()
    if options.simulate:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.simulate)
    report = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    preset, rows = get_preset(options.preset), []
    report(f"{'data x fsdp':>11} {'tokens per second':>17} {'times one device':>17} {'MB of state per device':>23}")
    for shape in shapes(jax.device_count()):
        row = measure(preset, shape, options.batch)
        rate, megabytes = row.values()
        first = rows[0]["image tokens a second"] if rows else rate
        rows.append(dict(mesh=shape, devices=math.prod(shape)) | row | {"times one device": round(rate / first, 2)})
        report(f"{shape[0]:>5} x {shape[1]:<3} {rate:>17,.0f} {rate / first:>17.2f} {megabytes:>23,.1f}")
    note = SIMULATED if jax.default_backend() == "cpu" else ""
    report(note)
    about = dict(preset=options.preset, batch_a_device=options.batch, note=note, machine=machine())
    if options.json:
        print(json.dumps(dict(meshes=rows) | about))


if __name__ == "__main__":
    main()
