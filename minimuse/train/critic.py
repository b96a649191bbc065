"""Training the token critic: the frozen base fills hidden places, and the critic learns to find what was filled.

As in Token-Critic (arXiv 2209.04439), a token's label is whether it was sampled, even if it is the true one: then the
critic's odds say how much more often the base samples such a token there than it occurs. `CriticTraining.label` can be
"wrong" instead: whether the token differs from the true one. That label never blames a token for being sampled, but it
blames every choice that the caption leaves open.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from minimuse import layers
from minimuse.beyond.critic import TokenCritic, features
from minimuse.config import CriticConfig, CriticTraining, Preset, Sampling, TrainConfig, TransformerConfig
from minimuse.data.cache import TokenCache, batch_indices, held_out_parts, held_out_rows
from minimuse.decoding import draw_tokens
from minimuse.muse import init_stage
from minimuse.train.inputs import fingerprint, load_stage
from minimuse.train.loop import Job
from minimuse.train.losses import draw_masks, held_out
from minimuse.train.starting import starting_weights
from minimuse.train.step import Loss, make_step, share_of_mean
from minimuse.transformer import BaseTransformer

LABELS = ("sampled", "wrong")


@functools.partial(jax.jit, static_argnames=("config", "train"))
def filled(
    base: BaseTransformer,
    key: jax.Array,
    batch: dict,
    sampling: Sampling,
    *,
    config: TransformerConfig,
    train: TrainConfig,
) -> dict[str, jax.Array]:
    """Real tokens and captions, a batch of the token cache -> what the critic learns from: features float32 [B, N, D]
    of pictures that the base has filled in; sampled bool [B, N], where it has; wrong, where it missed the true token.

    train      of the critic: how places are hidden, see `losses.draw_masks`
    sampling   of the base: its token_temperature and top_k
    """
    mask_key, token_key = jax.random.split(key)
    batch = draw_masks(config, train, mask_key, batch)
    base, tokens, mask = layers.cast(base, train.dtype), batch["tokens"], batch["mask"]
    condition = base.condition((batch["text"].astype(jnp.float32), batch["text_mask"]))
    logits = base(jnp.where(mask, config.codebook_size, tokens), *condition)
    keys = jax.random.split(token_key, len(tokens))
    drawn, _ = draw_tokens(keys, logits, sampling.token_temperature, sampling.top_k)
    found = jnp.where(mask, drawn, tokens)
    return dict(
        features=features(base, found, condition).astype(jnp.float32),
        sampled=mask,
        wrong=found != tokens,
    )


def separation(logits: jax.Array, positive: jax.Array) -> jax.Array:
    """How often a positive place has a greater logit than another: the area under the ROC curve, of arrays of one
    shape. 0.5 is chance; NaN without places of both kinds."""
    positive = positive.reshape(-1)
    ranks = jnp.argsort(jnp.argsort(logits.reshape(-1))) + 1.0
    count = jnp.sum(positive)
    mean = jnp.sum(ranks * positive / count)
    return (mean - (count + 1) / 2) / (len(positive) - count)


def _as_given(label: str, key: jax.Array | None, batch: dict) -> dict:
    del label, key  # all that is random is drawn before, by `filled`
    return batch


def _judging(label: str, model: TokenCritic, rows: dict, batch: dict) -> tuple[jax.Array, dict, dict]:
    logits, labels = model(rows["features"]), rows[label]
    loss = share_of_mean(optax.sigmoid_binary_cross_entropy(logits, labels), batch)
    right = share_of_mean((logits > 0) == labels, batch)
    return loss, dict(accuracy=right), dict(logits=logits) | {name: rows[name] for name in LABELS}


def _judging_metrics(sums: dict, by_row: dict) -> dict[str, jax.Array]:
    return sums | {f"separation_{name}": separation(by_row["logits"], by_row[name]) for name in LABELS}


critic_loss = Loss(_as_given, _judging, _judging_metrics)
"""(label, model, key, batch) -> (loss, metrics): binary cross-entropy of the label, a name in LABELS, over all places
of a batch of `filled`; its accuracy, and the `separation` by either label."""


def label_of(train: TrainConfig) -> str:
    """The label that the critic learns, or a ValueError for an unknown one."""
    label = train.label if isinstance(train, CriticTraining) else LABELS[0]
    if label not in LABELS:
        raise ValueError(f"There is no label {label!r} for the critic; there are {', '.join(LABELS)}.")
    return label


def critic_job(preset: Preset, out: Path, stage: str, cache: TokenCache, made_from: str) -> tuple[CriticConfig, Job]:
    """The critic of the base that the run has trained, or else of the shipped one: its config, and the job.

    made_from    the cache's name

    The base only makes the batches. It is not in the state, so gradients do not reach it, and it is not saved again.
    """
    train, config = preset.train[stage], preset.critic
    base = load_stage(preset, out, "base")
    model: Any = init_stage(stage, config, train.seed)
    if train.start:
        model = starting_weights(train.start, stage, model)
    rows, held = held_out_rows(train, len(cache))
    parts, key = held_out_parts(train, held), jax.random.key(train.seed)
    fill = functools.partial(filled, sampling=preset.sampling["base"], config=preset.base, train=train)

    def batch_at(step: int) -> dict:
        indices = rows[np.sort(batch_indices(step, train.batch, len(rows), train.seed))]
        examples = cache.batch(indices, np.random.default_rng((train.seed, step)))
        return fill(base, jax.random.fold_in(key, step), examples)

    loss = functools.partial(critic_loss, label_of(train))
    held_out_loss = held_out(loss)

    def judge(weights: TokenCritic) -> dict[str, jax.Array]:
        return held_out_loss(
            weights, (fill(base, jax.random.key(i), cache.batch(part)) for i, part in enumerate(parts))
        )

    # The features of another base mean something else: such a run must not be resumed.
    about = dict(model=dataclasses.asdict(config), cache=made_from, base=fingerprint(base))
    return config, Job(model, make_step(loss, train), batch_at, about=about, held_out=judge if parts else None)
