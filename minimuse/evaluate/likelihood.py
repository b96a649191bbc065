"""How likely a transformer finds the tokens of pictures: the loss on examples that it has not learned from."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from minimuse import layers, masking
from minimuse.config import SuperresConfig, TrainConfig, TransformerConfig
from minimuse.data.cache import TokenCache
from minimuse.decoding import halton_ranks
from minimuse.transformer import BaseTransformer


def token_losses(logits: jax.Array, tokens: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of logits [B, N, K] against tokens [B, N] in nats, float [B, N]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    right = jnp.take_along_axis(log_p, tokens[..., None], -1)[..., 0]
    return -(1 - smoothing) * right - smoothing * jnp.mean(log_p, -1)


def stratified_counts(key: jax.Array, batch: int, tokens: int) -> jax.Array:
    """How many of N `tokens` are hidden, int [batch], each uniform from 1 to N. They are spread: `batch` equal parts of
    that range have about one each, so that a mean over them varies less."""
    shift, order = jax.random.split(key)
    u = (jnp.arange(batch) + jax.random.uniform(shift, (batch,), jnp.float32)) / batch
    return 1 + jnp.minimum(tokens - 1, jnp.floor(tokens * jax.random.permutation(order, u))).astype(jnp.int32)


def bits_bound(model: BaseTransformer, text: tuple, tokens: jax.Array, keys: jax.Array) -> jax.Array:
    """An upper bound of -log2 p(tokens | text): float [M, B], one estimate of it per key and picture.

    text      (embeddings [B, S, text_width], mask bool [B, S])
    tokens    int [B, N]
    keys      [M]

    One estimate hides k of the N tokens, k uniform from 1 to N and every subset equally likely. It is N / k times the
    sum of their -log2 p. Its expectation is the mean, over all orders of the positions, of what the tokens cost one by
    one in that order, each given those before it: the loss of masked diffusion (MD4, arXiv 2406.04329), where the
    weight of a mask rate r under the law 1 - u is 1 / r.
    """
    condition, (b, n) = model.condition(text), tokens.shape

    def once(key: jax.Array) -> jax.Array:
        count_key, position_key = jax.random.split(key)
        count = stratified_counts(count_key, b, n)[:, None]
        rank = jnp.argsort(jnp.argsort(jax.random.uniform(position_key, (b, n), jnp.float32), -1), -1)
        mask = rank < count
        losses = token_losses(model(jnp.where(mask, model.mask_id, tokens), *condition), tokens)
        return n / count[:, 0] * jnp.sum(losses * mask, -1) / jnp.log(2.0)

    return jax.lax.map(once, keys)


picture_bits = jax.jit(bits_bound)


def training_mask(config: TransformerConfig, train: TrainConfig, key: jax.Array, batch: int, tokens: int) -> jax.Array:
    """What training hides of a batch with this key, bool [batch, tokens]."""
    mask = masking.random_mask(jax.random.split(key)[0], batch, tokens, train.schedule)
    if not train.halton:
        return mask
    row_key, rate_key = jax.random.split(jax.random.fold_in(key, 3))
    ordered = masking.ordered_mask(rate_key, batch, halton_ranks(*config.grid))
    return jnp.where(jax.random.uniform(row_key, (batch, 1), jnp.float32) < train.halton, ordered, mask)


@functools.partial(jax.jit, static_argnames=("config", "train"))
def _judged(
    config: TransformerConfig, train: TrainConfig, model: BaseTransformer, key: jax.Array, batch: dict
) -> tuple[jax.Array, jax.Array]:
    tokens, low = batch["tokens"], batch.get("low")
    if isinstance(config, SuperresConfig) and low is not None and train.low_noise:
        low = masking.replace_some(jax.random.fold_in(key, 2), low, train.low_noise, config.low_codebook_size)
    mask = training_mask(config, train, key, len(tokens), tokens.shape[1])
    model = layers.cast(model, train.dtype)
    condition = model.condition((batch["text"].astype(jnp.float32), batch["text_mask"]), low)
    logits = model(jnp.where(mask, config.codebook_size, tokens), *condition)
    mean = lambda value: jnp.sum(value * mask) / jnp.sum(mask)
    return mean(token_losses(logits, tokens, train.label_smoothing)), mean(jnp.argmax(logits, -1) == tokens)


def held_out_loss(
    config: TransformerConfig,
    train: TrainConfig,
    model: BaseTransformer,
    cache: TokenCache,
    parts: Sequence[np.ndarray],
) -> dict[str, float]:
    """Loss in nats and accuracy of hidden tokens, means over parts of one size of a cache's examples: what a training
    log has as held_out_loss and held_out_accuracy, with the same masks for the same parts."""
    found = [_judged(config, train, model, jax.random.key(i), cache.batch(part)) for i, part in enumerate(parts)]
    loss, accuracy = np.mean(np.array(found), 0)
    return dict(loss=round(float(loss), 4), accuracy=round(float(accuracy), 4))
