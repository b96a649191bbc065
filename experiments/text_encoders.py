"""A frozen, a random, a learned and a fine-tuned text encoder (chapter 04): `python -m experiments.text_encoders`.

The same small transformer, with captions encoded by

(a) the frozen, pretrained t5-scenes,
(b) the same T5 with random weights, frozen,
(c) the same T5 from random weights, trained together with the transformer, only on the captions,
(d) the pretrained one, trained like (c) at a tenth of the learning rate.

The vectors of (a), (b) and (d) are whitened, in (d) as the pretrained ones; those of (c) are not, since there are none
to begin with.
"""

import dataclasses
import functools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.small import (
    RUNS,
    SMALL,
    TRAIN,
    experiment,
    measured,
    muse_of,
    own_sampling,
    small_preset,
    trained_muse,
)
from minimuse import layers
from minimuse.config import TrainConfig, data_dir
from minimuse.data import scenes
from minimuse.data.cache import batch_indices
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse
from minimuse.t5 import T5Encoder, TextEncoder, save_t5
from minimuse.train import losses
from minimuse.train.init import sample_rows, start_from_codes, start_from_text
from minimuse.train.inputs import load_tokenizer, token_cache
from minimuse.train.loop import Job, fit
from minimuse.train.stages import TEXT_SAMPLE
from minimuse.train.step import make_step
from minimuse.transformer import BaseTransformer

ARMS = ("frozen, pretrained", "frozen, random", "learned", "fine-tuned")
RATE = 0.1  # of the fine-tuned encoder's learning rate, relative to the transformer's
SPLITS = ("val", "unseen_words")
CAPTIONS = 240


def random_t5(folder: Path, seed: int) -> None:
    """A Hugging Face folder like t5-scenes, with random weights."""
    shipped = TextEncoder.from_pretrained("t5-scenes")
    save_t5(folder, shipped.config, dict(encoder=layers.init(T5Encoder, shipped.config, seed=seed)))
    shutil.copyfile(data_dir() / "t5-scenes" / "tokenizer.json", folder / "tokenizer.json")


def learned_muse(run: Path, train: TrainConfig, pretrained: bool = False) -> Muse:
    """Train transformer and text encoder together, from the words of the captions.

    pretrained   begin with the weights of t5-scenes, and train RATE times as fast: what is trained is a difference from
                 them, divided by RATE
    """
    preset, text = small_preset(train), TextEncoder.from_pretrained("t5-scenes")
    cache, made_from = token_cache(preset, run, RUNS)
    base = layers.init(BaseTransformer, SMALL, seed=train.seed)
    base = start_from_codes(base, np.asarray(load_tokenizer(preset, run).codebook[...]))
    learned, length = layers.init(T5Encoder, text.config, seed=train.seed), cache.text_length
    encoder = lambda learned: learned
    if pretrained:
        base = start_from_text(base, sample_rows(cache.embeddings, TEXT_SAMPLE, train.seed).astype(np.float32))
        learned = jax.tree.map(jnp.zeros_like, learned)
        encoder = lambda learned: jax.tree.map(lambda start, change: start + RATE * change, text.model, learned)
    models = dict(base=base, text=learned)

    def loss(models: dict, key: jax.Array, batch: dict) -> tuple[jax.Array, dict]:
        vectors = encoder(models["text"])(batch["ids"], batch["text_mask"])
        return losses.transformer_loss(SMALL, train, models["base"], key, batch | dict(text=vectors))

    @functools.cache
    def caption(i: int) -> str:
        return scenes.example("train", i, train.seed)[1]

    def batch_at(step: int) -> dict:
        picked = np.sort(batch_indices(step, train.batch, len(cache), train.seed))
        ids, mask = text.tokenize([caption(int(i)) for i in picked], length)
        return dict(tokens=cache.batch(picked)["tokens"], ids=ids, text_mask=mask)

    job = Job(models, make_step(loss, train), batch_at, about=dict(model=dataclasses.asdict(SMALL), cache=made_from))
    found = fit(job, train, preset.run, run / "base")["ema"]
    return muse_of(found["base"], TextEncoder(text.config, encoder(found["text"]), text.tokenizer))


def run(arm: str, seed: int) -> dict:
    train, folder = dataclasses.replace(TRAIN, seed=seed), RUNS / "text_encoders" / f"{arm.replace(', ', '-')}-{seed}"
    if arm == "frozen, random" and not (folder / "text" / "config.json").is_file():
        random_t5(folder / "text", seed)
    together = arm in ("learned", "fine-tuned")
    muse = learned_muse(folder, train, arm == "fine-tuned") if together else trained_muse(folder, train)
    return dict(splits={split: measured(muse, CAPTIONS, split) for split in SPLITS})


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(TRAIN), splits=SPLITS, captions=CAPTIONS, own=own_sampling())
    experiment("text_encoders", list(ARMS), run, settings, weights=weights_of("tokenizer"))
