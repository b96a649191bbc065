"""The band behind chapter 05's training run: `python -m experiments.first_transformer`.

The chapter's small transformer, trained on the same cached tokens with several seeds; their logs become
data/curves/first_transformer.json. The chapter trains with seed 0, which is not one of them. The band belongs to the
shipped tokenizer and text encoder: run this again when they are replaced.
"""

import dataclasses
import functools
import json
import sys
import time

import jax
import numpy as np

from minimuse import layers
from minimuse.config import TrainConfig, TransformerConfig, data_dir
from minimuse.data import scenes
from minimuse.data.cache import TokenCache, batch_indices
from minimuse.evaluate.curves import curve_of_seeds
from minimuse.evaluate.stored import weights_of
from minimuse.files import write_text
from minimuse.muse import Muse
from minimuse.train import losses
from minimuse.train.init import start_from_codes, start_from_text
from minimuse.train.inputs import fingerprint
from minimuse.train.loop import machine, mean_metrics
from minimuse.train.step import init_state, make_step
from minimuse.transformer import BaseTransformer

NAME = "first_transformer"
SIZE = dict(width=96, depth=3, heads=4, mlp_width=384)
TRAIN = TrainConfig(steps=200, batch=32, learning_rate=3e-3, warmup=20, ema=0.95, label_smoothing=0.0, scenes=2048)
SEEDS = (1, 2, 3, 4)
EVERY = 10  # steps per line of the log


def token_cache(muse: Muse, size: int) -> TokenCache:
    """Tokens and text vectors of the first `size` training scenes."""
    examples, chunk = functools.partial(scenes.pictured, "train"), min(256, size)
    return TokenCache.build(examples, size, muse.tokenize, muse.text.encode, chunk)


def run(muse: Muse, cache: TokenCache, config: TransformerConfig, train: TrainConfig) -> dict[str, np.ndarray]:
    """Train once; returns the log's columns."""
    model = layers.init(BaseTransformer, config, seed=train.seed)
    model = start_from_codes(model, np.asarray(muse.models["tokenizer"].codebook[...]))
    model = start_from_text(model, cache.embeddings.astype(np.float32))
    step = make_step(functools.partial(losses.transformer_loss, config, train), train)
    state, rows, since, begun = init_state(model, train), [], [], time.monotonic()
    for i in range(train.steps):
        state, metrics = step(state, cache.batch(batch_indices(i, train.batch, len(cache), train.seed)))
        since.append(metrics)
        if (i + 1) % EVERY == 0:
            row, since = mean_metrics(jax.device_get(since)), []
            rows.append(dict(step=i + 1, seconds=time.monotonic() - begun) | row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in rows[-1]}


def made_from(muse: Muse) -> str:
    """A few letters that distinguish these tokens and text vectors from those of different weights."""
    tokenizer = muse.models["tokenizer"]
    return fingerprint(tokenizer.encoder, tokenizer.codebook[...], muse.text.model)


def about(muse: Muse, config: TransformerConfig) -> dict:
    """What is stored beside the curve."""
    settings = dict(train=dataclasses.asdict(TRAIN), model=dataclasses.asdict(config), seeds=SEEDS)
    return dict(
        command=f"python -m experiments.{NAME}",
        settings=json.loads(json.dumps(settings | dict(made_from=made_from(muse)))),
        weights=weights_of("tokenizer", scorer=False),
    )


def main() -> None:
    muse, begun = Muse.from_pretrained("tiny"), time.monotonic()
    config = TransformerConfig(muse.configs["base"].codebook_size, text_width=muse.text.width, **SIZE)
    if sys.argv[1:] == ["--about"]:
        return print(json.dumps(about(muse, config)))
    cache, logs = token_cache(muse, TRAIN.scenes), []
    for seed in SEEDS:
        logs.append(run(muse, cache, config, dataclasses.replace(TRAIN, seed=seed)))
        print(f"seed {seed}: loss {logs[-1]['loss'][-1]:.3f}, {logs[-1]['seconds'][-1]:.0f} s", flush=True)
    took = round(time.monotonic() - begun, 1)
    curve = curve_of_seeds(logs, machine=machine(), took=took, **about(muse, config))
    write_text(data_dir() / "curves" / f"{NAME}.json", json.dumps(curve) + "\n")


if __name__ == "__main__":
    main()
