"""What weighting the masked loss does (chapter 14): `python -m experiments.weights`.

The same small transformer, trained with equal weights for all hidden tokens, or with those that make the loss a bound
of -log p (MD4, arXiv 2406.04329): N / n for a picture of which n of N tokens are hidden, under a mask rate that is
uniform. Measured are that bound on held-out scenes, and pictures drawn in the paper's way.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.small import RUNS, TRAIN, experiment, load_small, measured, muse_of, own_sampling, small_preset
from minimuse.config import TrainConfig, TransformerConfig
from minimuse.data import scenes
from minimuse.evaluate.likelihood import bits_bound, token_losses
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse
from minimuse.train import losses, stages
from minimuse.train.inputs import load_text
from minimuse.train.loop import fit
from minimuse.train.step import Loss, make_step, share_of_mean
from minimuse.transformer import BaseTransformer
from minimuse.weights import save_weights

ARMS = {  # weights, and the law of the mask rate
    "equal, cosine": ("equal", "cosine"),
    "equal, uniform": ("equal", "uniform"),
    "bound, uniform": ("bound", "uniform"),
}
STEPS = (4, 12)
CAPTIONS, SCENES, ESTIMATES = 240, 480, 4


def _bound(
    config: TransformerConfig, train: TrainConfig, model: BaseTransformer, rows: dict, batch: dict
) -> tuple[jax.Array, dict, dict]:
    tokens, mask = rows["tokens"], rows["mask"]
    condition = model.condition((rows["text"].astype(jnp.float32), rows["text_mask"]))
    logits = model(jnp.where(mask, config.codebook_size, tokens), *condition)
    weight = mask.shape[1] / jnp.maximum(jnp.sum(mask, -1, keepdims=True), 1)
    bound = weight * mask * token_losses(logits, tokens, train.label_smoothing)
    return share_of_mean(bound, batch), dict(mask_rate=share_of_mean(mask, batch)), {}


bound_loss = Loss(losses.draw_masks, _bound)
"""The bound in nats per token; called as losses.transformer_loss."""


def trained(arm: str, train: TrainConfig, run: Path) -> BaseTransformer:
    """The small transformer of an arm, trained in the folder `run` if it is not there yet."""
    weights, law = ARMS[arm]
    train = dataclasses.replace(train, schedule=law)
    if not (run / "base.safetensors").is_file():
        preset = small_preset(train)
        cache, made_from = stages.token_cache(preset, run, RUNS, "base")
        config, job = stages.transformer_job(preset, run, "base", cache, made_from)
        if weights == "bound":
            job = job._replace(step=make_step(functools.partial(bound_loss, config, train), train))
        run.mkdir(parents=True, exist_ok=True)
        save_weights(run / "base.safetensors", fit(job, train, preset.run, run / "base")["ema"])
    return load_small(run)


def bits(muse: Muse) -> float:
    """The bound of held-out scenes in bits a picture."""
    examples, found = [scenes.example("val", 50_000 + i) for i in range(SCENES)], []
    judge = jax.jit(bits_bound)
    for start in range(0, SCENES, 48):
        some = examples[start : start + 48]
        tokens = muse.tokenize(scenes.render_batch([scene for scene, _ in some], 64)).reshape(len(some), -1)
        text = muse.text.encode([caption for _, caption in some])
        keys = jax.random.split(jax.random.key(start), ESTIMATES)
        found.append(np.asarray(judge(muse.models["base"], text, jnp.asarray(tokens), keys)).mean(0))
    return round(float(np.concatenate(found).mean()), 3)


def run(arm: str, seed: int) -> dict:
    train, folder = dataclasses.replace(TRAIN, seed=seed), RUNS / "weights" / f"{arm}-{seed}".replace(", ", "-")
    base = trained(arm, train, folder)
    muse = muse_of(base, load_text(small_preset(train), folder))
    return dict(bits=bits(muse), steps={str(steps): measured(muse, CAPTIONS, steps=steps) for steps in STEPS})


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(TRAIN), steps=STEPS, captions=CAPTIONS, own=own_sampling())
    settings |= dict(arms=ARMS, scenes=SCENES, estimates=ESTIMATES)
    experiment("weights", list(ARMS), run, settings, only=sys.argv[1:], weights=weights_of("tokenizer"))
