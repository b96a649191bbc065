"""Trains a very small base transformer on simulated devices; tests/test_mesh.py starts it in processes of its own.

train_on_mesh.py RUNS [PROCESSES]: RUNS is a JSON list of dicts of the arguments of `train`, PROCESSES as for
`processes.start`. JAX_NUM_CPU_DEVICES says how many devices this process has.
"""

import functools
import json
import sys
from pathlib import Path

import jax
import numpy as np
from conftest import random_weights
from flax import traverse_util

import minimuse
from minimuse import processes
from minimuse.config import RunConfig, TrainConfig
from minimuse.presets import PRESETS
from minimuse.train import devices, loop, losses
from minimuse.train.loop import fit
from minimuse.train.step import init_state, make_step

STEPS = 4
loop.LOG_EVERY = 1
loop.mean_metrics = lambda rows: {name: float(value) for name, value in rows[0].items()}  # with all their digits


def train(out: str, mesh_shape: tuple[int, int], stop: int = STEPS, **settings) -> None:
    """Train in the folder `out` on a mesh, to a sudden end before step `stop`; out/end.npz tells what has become of
    the weights, out/shares.json which part of every array one device holds."""
    config = PRESETS["micro"].base
    train, shape = TrainConfig(steps=STEPS, batch=8, warmup=1, **settings), tuple(mesh_shape)
    run = RunConfig(shape, save_seconds=-1 if stop < STEPS else 1e9)
    graphdef, params = random_weights("base", config)
    out, asked = Path(out), []

    def batch_at(i, rows=slice(None)):
        if i == stop:
            raise TimeoutError
        asked.append([rows.start, rows.stop])
        rng = np.random.default_rng(i)
        tokens = rng.integers(0, config.codebook_size, (train.batch, 64)).astype(np.int32)
        text = rng.normal(size=(train.batch, 6, config.text_width)).astype(np.float16)
        return dict(tokens=tokens[rows], text=text[rows], text_mask=np.ones((train.batch, 6), bool)[rows])

    step = make_step(functools.partial(losses.transformer_loss, graphdef, config, train), train)
    state = init_state(devices.place(params, devices.make_mesh(shape, train)), train)
    try:
        state = fit(out, step, state, batch_at, train, run)
    except TimeoutError:
        return
    flat = traverse_util.flatten_dict(dict(params=state["params"], ema=state["ema"]), sep="/")
    held = {name: x.addressable_shards[0].data.shape for name, x in flat.items()}
    leaves = jax.tree.leaves(state)
    share = sum(x.addressable_shards[0].data.size for x in leaves) / sum(x.size for x in leaves)
    whole = {name: processes.to_host(x) for name, x in flat.items()}
    if processes.is_first():
        np.savez(out / "end.npz", **whole)
        (out / "shares.json").write_text(json.dumps(dict(held=held, share=share)))
    (out / f"rows{jax.process_index()}.json").write_text(json.dumps(asked))


if __name__ == "__main__":
    minimuse.enable_compilation_cache()
    if sys.argv[2:]:
        processes.start(sys.argv[2])
    for arguments in json.loads(sys.argv[1]):
        train(**arguments)
