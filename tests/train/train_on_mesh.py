"""Trains a very small base transformer on simulated devices; test_mesh.py starts it in processes of its own.

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

import minimuse
from minimuse import processes
from minimuse.config import RunConfig, TrainConfig
from minimuse.presets import PRESETS
from minimuse.train import devices, losses
from minimuse.train.loop import Job, fit
from minimuse.train.step import make_step
from minimuse.weights import named_arrays

STEPS = 4


def train(out: str, mesh_shape: tuple[int, int], stop: int = STEPS, **settings) -> None:
    """Train in the folder `out` on a mesh, to a sudden end before step `stop`. out/end.npz has the weights at the end,
    out/devices0.json what one device holds of every array, which rows of a batch this process's devices hold, and the
    steps that were taken."""
    config = PRESETS["micro"].base
    train, shape = TrainConfig(steps=STEPS, batch=8, warmup=1, **settings), tuple(mesh_shape)
    run = RunConfig(shape, save_seconds=-1 if stop < STEPS else 1e9, log_every=1)
    out, asked = Path(out), []

    def batch_at(i):
        if i == stop:
            raise TimeoutError
        asked.append(i)
        rng = np.random.default_rng(i)
        tokens = rng.integers(0, config.codebook_size, (train.batch, 64)).astype(np.int32)
        text = rng.normal(size=(train.batch, 6, config.text_width)).astype(np.float16)
        return dict(tokens=tokens, text=text, text_mask=np.ones((train.batch, 6), bool))

    step = make_step(functools.partial(losses.transformer_loss, config, train), train)
    try:
        state = fit(Job(random_weights("base", config), step, batch_at), train, run, out)
    except TimeoutError:
        return
    arrays = named_arrays(state)
    held = {name: x.addressable_shards[0].data.shape for name, x in arrays.items()}
    share = sum(x.addressable_shards[0].data.size for x in arrays.values()) / sum(x.size for x in arrays.values())
    found = dict(held=held, share=share, asked=asked.copy())
    batch, mesh, rows = batch_at(0), devices.make_mesh(shape, train), []
    for piece in jax.numpy.asarray(devices.shard_batch(batch, mesh)["tokens"]).addressable_shards:
        numbers = np.arange(train.batch)[piece.index[0]].tolist()
        assert (np.asarray(piece.data) == batch["tokens"][numbers]).all()
        rows += numbers
    weights = {name: processes.to_host(x) for name, x in arrays.items() if name.startswith(("params.", "ema."))}
    if processes.is_first():
        np.savez(out / "end.npz", **weights)
    (out / f"devices{jax.process_index()}.json").write_text(json.dumps(found | dict(rows=sorted(rows))))


if __name__ == "__main__":
    minimuse.enable_compilation_cache()
    if sys.argv[2:]:
        processes.start(sys.argv[2])
    for arguments in json.loads(sys.argv[1]):
        train(**arguments)
