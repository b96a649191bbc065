"""A learned codebook against rounding (chapter 14): `python -m experiments.fsq`.

Small tokenizers of one encoder and decoder, trained on the same pictures: with a codebook moved by its gradients, with
a codebook of running means, and with finite scalar quantization (minimuse/fsq.py), which has nearly as many codes.
Names of arms after the command run only these arms.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.small import RUNS, experiment
from minimuse import layers
from minimuse.beyond.fsq import FSQTokenizer, with_levels
from minimuse.config import TrainConfig, VQGANConfig
from minimuse.data.sources import open_source
from minimuse.evaluate.stored import weights_of
from minimuse.evaluate.unseen import evaluate_unseen
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.loop import Job, fit
from minimuse.train.stages import tokenizer_job
from minimuse.train.step import make_step
from minimuse.vqgan import VQGAN, to_float, to_uint8

PRESET = get_preset("tiny")
CONFIG = VQGANConfig(channels=(128,), encoder_kernel=1)
TRAIN = TrainConfig(steps=800, batch=16, muon=0.01, warmup=50, weight_decay=1e-4, b2=0.99, ema=0.99, quantize_start=100)
ARMS = {"codebook": CONFIG, "running means": dataclasses.replace(CONFIG, codebook_ema=0.99), "fsq": with_levels(CONFIG)}
PICTURES = 512


def job_of(arm: str, train: TrainConfig) -> Job:
    """What trains the tokenizer of an arm."""
    config, source = ARMS[arm], open_source(PRESET.data)
    if arm != "fsq":
        train_of = PRESET.train | dict(tokenizer=train)
        return tokenizer_job(dataclasses.replace(PRESET, tokenizer=config, train=train_of), source)

    def batch_at(step: int) -> dict:
        numbers = range(step * train.batch, (step + 1) * train.batch)
        return dict(images=source.pictures(numbers, config.image_size, train.seed))

    model = layers.init(FSQTokenizer, config, seed=train.seed)
    return Job(model, make_step(losses.fsq_loss, train), batch_at, about=dict(model=dataclasses.asdict(config)))


class Rebuilding:
    """A tokenizer, with what `evaluate_unseen` asks of a Muse."""

    def __init__(self, model: VQGAN | FSQTokenizer, config: VQGANConfig):
        self.model, self.configs = model, dict(tokenizer=config)
        self._tokens = jax.jit(lambda model, images: model.tokenize(to_float(images)))
        self._pixels = jax.jit(lambda model, tokens: to_uint8(model.detokenize(tokens)))

    def tokenize(self, images: np.ndarray, stage: str = "base") -> np.ndarray:
        return np.asarray(self._tokens(self.model, images))

    def detokenize(self, tokens: np.ndarray, stage: str = "base", **_: bool) -> np.ndarray:
        return np.asarray(self._pixels(self.model, jnp.asarray(tokens)))


def run(arm: str, seed: int) -> dict:
    train, config = dataclasses.replace(TRAIN, seed=seed), ARMS[arm]
    folder = RUNS / "fsq" / f"{arm}-{seed}".replace(" ", "-")
    model = fit(job_of(arm, train), train, PRESET.run, folder)["ema"]
    found = evaluate_unseen(Rebuilding(model, config), "base", PICTURES)
    return dict(seen=found["seen"], unseen=found["unseen"], codes=config.codebook_size)


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(TRAIN), pictures=PICTURES)
    settings["arms"] = {arm: dataclasses.asdict(config) for arm, config in ARMS.items()}
    experiment("fsq", list(ARMS), run, settings, only=sys.argv[1:], weights=weights_of("scorer", text=False))
