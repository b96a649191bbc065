"""Training's speed against the number of devices: `python -m benchmarks.mesh`.

The base transformer of a preset on 1, 2, 4, ... devices, data parallel (weights whole on every device) and fully
sharded (FSDP), each device with the same number of pictures: with perfect scaling n devices read n times the tokens.
Batches come from the host as in training. Weights are random, and meshes are timed one after another, as the states of
all of them together might not fit.

    --json           one JSON object instead of a table
    --simulate 8     so many devices made of this machine's CPU. They share its cores, so what it shows is that the
                     program runs and which part of the weights a device holds; it cannot show scaling
    --preset muse-900m --batch 32    another preset, and pictures a device
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
from minimuse.presets import get_preset
from minimuse.train import devices, losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step
from minimuse.weights import init

ROUNDS, STEPS = 5, 4  # rounds of so many steps
WORDS = 16  # text tokens
SIMULATED = "These devices are simulated on one CPU and share its cores: the rates say nothing about scaling."


def shapes(devices: int) -> list[tuple[int, int]]:
    """Meshes (data, fsdp) of 1, 2, 4, ... devices, either way, and the two mixed."""
    sizes = [2**i for i in range(1, devices.bit_length()) if 2**i <= devices]
    found = [(1, 1)] + [shape for n in sizes for shape in ((n, 1), (1, n))]
    return found + ([(2, sizes[-1] // 2)] if len(sizes) > 1 else [])


def measure(preset: Preset, shape: tuple[int, int], batch: int) -> dict:
    """Tokens a second on a mesh, and megabytes of training state on one of its devices."""
    config = preset.base
    train = dataclasses.replace(preset.train["base"], batch=batch * math.prod(shape), accumulate=1)
    rng, grid = np.random.default_rng(0), math.prod(config.grid)
    example = dict(
        tokens=rng.integers(0, config.codebook_size, (train.batch, grid)).astype(np.int32),
        text=rng.normal(size=(train.batch, WORDS, config.text_width)).astype(np.float16),
        text_mask=np.ones((train.batch, WORDS), bool),
    )
    (graphdef, params), mesh = init("base", config), devices.make_mesh(shape, train)
    step = make_step(functools.partial(losses.transformer_loss, graphdef, config, train), train)
    state = init_state(devices.place(params, mesh), train)
    del params
    step, state, batch_at = devices.spread(mesh, step, state, lambda i: example, train.batch)
    held = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    seconds = []
    for _ in range(ROUNDS + 1):  # the first compiles
        begun = time.perf_counter()
        for i in range(STEPS):
            state, metrics = step(state, batch_at(i))
        jax.block_until_ready((state, metrics))
        seconds.append(time.perf_counter() - begun)
    rate = STEPS * train.batch * grid / statistics.median(seconds[1:])
    return {"image tokens a second": float(f"{rate:.3g}"), "megabytes a device": round(held / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--simulate", type=int, metavar="DEVICES")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--batch", type=int, default=32, metavar="PICTURES", help="a device")
    options = parser.parse_args()
    if options.simulate:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.simulate)
    tell = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    preset, rows = get_preset(options.preset), []
    tell(f"{'data x fsdp':>11} {'tokens a second':>16} {'times one device':>17} {'MB of state a device':>21}")
    for shape in shapes(jax.device_count()):
        row = measure(preset, shape, options.batch)
        rate, megabytes = row.values()
        first = rows[0]["image tokens a second"] if rows else rate
        rows.append(dict(mesh=shape, devices=math.prod(shape)) | row | {"times one device": round(rate / first, 2)})
        tell(f"{shape[0]:>5} x {shape[1]:<3} {rate:>16,.0f} {rate / first:>17.2f} {megabytes:>21,.1f}")
    note = SIMULATED if jax.default_backend() == "cpu" else ""
    tell(note)
    about = dict(preset=options.preset, batch_a_device=options.batch, note=note, machine=machine())
    if options.json:
        print(json.dumps(dict(meshes=rows) | about))


if __name__ == "__main__":
    main()
