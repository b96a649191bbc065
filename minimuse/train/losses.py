"""The losses of every stage (paper sections 2.2, 2.3, 2.4 and 2.7).

With its settings given, each is a function (model, key, batch) -> (loss, metrics). It is a `step.Loss`, in parts: what
is random is drawn for the whole batch, and the loss of some of its rows is their share of the whole's.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from minimuse import layers
from minimuse.beyond.fsq import FSQTokenizer, to_tokens
from minimuse.config import DiffusionConfig, SuperresConfig, TrainConfig, TransformerConfig, VQGANConfig
from minimuse.evaluate.baselines import AutoregressiveTransformer, DiffusionTransformer, signal_and_noise
from minimuse.evaluate.likelihood import token_losses, training_mask
from minimuse.evaluate.metrics import decibels, perplexity
from minimuse.masking import replace_some
from minimuse.train.step import Loss, share_of_mean
from minimuse.transformer import BaseTransformer
from minimuse.vqgan import VQGAN, nearest_code, straight_through, to_float, unit


def vq_losses(z: jax.Array, quantized: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Codebook loss (moves the codes to the encodings) and commitment loss (the reverse), each a scalar.

    beta belongs on the second: several public implementations have it on the first.
    """
    codebook = jnp.mean(jnp.sum((jax.lax.stop_gradient(z) - quantized) ** 2, -1))
    commitment = jnp.mean(jnp.sum((z - jax.lax.stop_gradient(quantized)) ** 2, -1))
    return codebook, commitment


def pixel_loss(decoded: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean absolute plus mean squared difference of two batches of images, and the first of the two."""
    l1 = jnp.mean(jnp.abs(decoded - images))
    return l1 + jnp.mean((decoded - images) ** 2), l1


def code_use(counts: jax.Array) -> dict[str, jax.Array]:
    """Metrics of how often each code was chosen, counts [K]: perplexity, and the share of the codes that were."""
    return dict(perplexity=perplexity(counts), usage=jnp.mean(counts > 0))


def code_losses(
    model: VQGAN, config: VQGANConfig, images: jax.Array, quantize: jax.Array | bool = True
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """There and back: float images [B, H, W, 3] -> (decoded images, quantization losses, metrics).

    quantize   False lets the encodings themselves through to the decoder, without any quantization loss: a plain
               autoencoder. It may be a traced bool, so that one compiled step does both.
    """
    z = model.encode(images)
    codebook = unit(model.codebook[...])
    tokens = nearest_code(jax.lax.stop_gradient(z), jax.lax.stop_gradient(codebook))
    quantized = codebook[tokens]
    decoded = model.decoder(jnp.where(quantize, straight_through(z, quantized), z))
    codebook_loss, commitment = vq_losses(z, quantized)
    counts = jnp.zeros(config.codebook_size).at[tokens.reshape(-1)].add(1)
    metrics = dict(commitment=commitment) | code_use(counts)
    arrays = dict(counts=counts, encodings=z.reshape(-1, config.code_dim), tokens=tokens.reshape(-1))
    arrays["distance"] = jnp.sum((z - quantized) ** 2, -1).reshape(-1)
    # Codes that are running means need no gradient of their own.
    loss = quantize * (config.beta * commitment + (0.0 if config.codebook_ema else codebook_loss))
    return decoded, loss, metrics | jax.lax.stop_gradient(arrays)


def _as_given(config: VQGANConfig, key: jax.Array | None, batch: dict) -> dict:
    del config, key  # nothing random in this loss
    return batch


def _rebuilding(config: VQGANConfig, model: VQGAN, rows: dict, batch: dict) -> tuple[jax.Array, dict, dict]:
    images, quantize = to_float(rows["images"]), jnp.all(batch.get("quantize", True))
    decoded, codes, found = code_losses(model, config, images, quantize)
    loss, l1 = pixel_loss(decoded, images)
    means = dict(commitment=found["commitment"], l1=l1, quantize=quantize.astype(jnp.float32))
    means |= dict(loss=loss + codes, squares=jnp.mean((decoded - images) ** 2))
    sums = {name: value * (len(images) / len(batch["images"])) for name, value in means.items()}
    by_row = {name: found[name].reshape(len(images), -1) for name in ("tokens", "distance")}
    by_row["encodings"] = found["encodings"].reshape(len(images), -1, config.code_dim)
    return sums.pop("loss"), sums | dict(counts=found["counts"]), by_row


def _rebuilding_metrics(sums: dict, by_row: dict) -> dict[str, jax.Array]:
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in by_row.items()}
    kept = {name: value for name, value in sums.items() if name != "squares"}
    return kept | flat | code_use(sums["counts"]) | dict(psnr=decibels(sums["squares"]))


tokenizer_loss = Loss(_as_given, _rebuilding, _rebuilding_metrics)
"""(config, model, key, batch) -> (loss, metrics): reconstruction (L1 + L2) and quantization losses on batch["images"]
uint8 [B, H, W, 3].

batch["quantize"], bool [B] and all equal, says whether quantization has begun; without it, it has. The metrics that are
arrays are those of `code_losses`, for `codebook.update_codes`.
"""


def _rebuilding_fsq(model: FSQTokenizer, rows: dict, batch: dict) -> tuple[jax.Array, dict, dict]:
    images = to_float(rows["images"])
    values = model.encode(images)
    decoded = model.decode(values)
    loss, l1 = pixel_loss(decoded, images)
    tokens = to_tokens(jax.lax.stop_gradient(values), model.levels)
    counts = jnp.zeros(math.prod(model.levels)).at[tokens.reshape(-1)].add(1)
    means = dict(loss=loss, l1=l1, squares=jnp.mean((decoded - images) ** 2))
    sums = {name: value * (len(images) / len(batch["images"])) for name, value in means.items()}
    return sums.pop("loss"), sums | dict(counts=counts), {}


def _fsq_metrics(sums: dict, by_row: dict) -> dict[str, jax.Array]:
    return dict(l1=sums["l1"], psnr=decibels(sums["squares"])) | code_use(sums["counts"])


fsq_loss = Loss(lambda key, batch: batch, _rebuilding_fsq, _fsq_metrics)
"""(model, key, batch) -> (loss, metrics): FSQ has no loss but that of pixels, on batch["images"] uint8 [B, H, W, 3]."""


RATES = (0.0, 0.25, 0.5, 0.75, 1.0)  # mask rates between which training reports its loss separately


def drop_captions(key: jax.Array, text_mask: jax.Array, rate: float) -> jax.Array:
    """Take the caption from a share `rate` of the examples: their text_mask rows [B, S] become all False."""
    keep = jax.random.uniform(key, (text_mask.shape[0], 1)) >= rate
    return text_mask & keep


def masked_loss(logits: jax.Array, tokens: jax.Array, mask: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy averaged over the masked positions only."""
    return jnp.sum(token_losses(logits, tokens, smoothing) * mask) / jnp.maximum(jnp.sum(mask), 1)


def by_mask_rate(values: dict[str, jax.Array], mask: jax.Array, whole: jax.Array | None = None) -> dict[str, jax.Array]:
    """Means of values [B, N] over the masked positions, separately for pictures of different mask rates.

    whole    the mask of the whole batch, if values and mask are of some of its rows: the means' shares are found

    Their names end in the rate's upper end in percent: loss_r25 is the mean of "loss" where up to a quarter was
    hidden. NaN where the batch has no picture of that kind.
    """

    def counted(mask: jax.Array, low: float, high: float) -> jax.Array:
        rate = jnp.mean(mask, -1, keepdims=True)
        return mask & (low < rate) & (rate <= high)

    whole, found = mask if whole is None else whole, {}
    for limits in zip(RATES, RATES[1:]):
        here, places = counted(mask, *limits), jnp.sum(counted(whole, *limits))
        for name, value in values.items():
            found[f"{name}_r{round(100 * limits[1])}"] = jnp.sum(value * here) / places
    return found


def draw_masks(config: TransformerConfig, train: TrainConfig, key: jax.Array, batch: dict) -> dict:
    """The batch with what is random in it: mask bool [B, N], captions dropped, some of the low-resolution tokens
    replaced."""
    drop_key = jax.random.split(key)[1]
    tokens, low = batch["tokens"].astype(jnp.int32), {}
    if "low" in batch and train.low_noise:
        assert isinstance(config, SuperresConfig)
        noise_key = jax.random.fold_in(key, 2)
        low = dict(low=replace_some(noise_key, batch["low"], train.low_noise, config.low_codebook_size))
    mask = training_mask(config, train, key, len(tokens), tokens.shape[1])
    text_mask = drop_captions(drop_key, batch["text_mask"], train.caption_dropout)
    return batch | low | dict(tokens=tokens, mask=mask, text_mask=text_mask)


def _masked_tokens(
    config: TransformerConfig, train: TrainConfig, model: BaseTransformer, rows: dict, batch: dict
) -> tuple[jax.Array, dict, dict]:
    model, tokens, mask = layers.cast(model, train.dtype), rows["tokens"], rows["mask"]
    keys_values, seen = model.condition((rows["text"].astype(jnp.float32), rows["text_mask"]), rows.get("low"))
    logits = model(jnp.where(mask, config.codebook_size, tokens), keys_values, seen)
    losses, right = token_losses(logits, tokens, train.label_smoothing), jnp.argmax(logits, -1) == tokens

    def mean(value: jax.Array) -> jax.Array:
        return jnp.sum(value * mask) / jnp.sum(batch["mask"])

    metrics = dict(accuracy=mean(right), mask_rate=share_of_mean(mask, batch))
    return mean(losses), metrics | by_mask_rate(dict(loss=losses, accuracy=right), mask, batch["mask"]), {}


transformer_loss = Loss(draw_masks, _masked_tokens)
"""(config, train, model, key, batch) -> (loss, metrics): masked-token loss on batch: tokens int [B, N], text
[B, S, text_width], text_mask bool [B, S]; for the super-resolution transformer also low, int [B, n]."""


def _draw_dropout(config: TransformerConfig, train: TrainConfig, key: jax.Array, batch: dict) -> dict:
    del config
    text_mask = drop_captions(key, batch["text_mask"], train.caption_dropout)
    return batch | dict(tokens=batch["tokens"].astype(jnp.int32), text_mask=text_mask)


def _next_tokens(
    config: TransformerConfig, train: TrainConfig, model: AutoregressiveTransformer, rows: dict, batch: dict
) -> tuple[jax.Array, dict, dict]:
    del config
    model, tokens = layers.cast(model, train.dtype), rows["tokens"]
    logits = model(tokens, model.text_keys_values(rows["text"].astype(jnp.float32)), rows["text_mask"])
    loss = share_of_mean(token_losses(logits, tokens, train.label_smoothing), batch)
    return loss, dict(accuracy=share_of_mean(jnp.argmax(logits, -1) == tokens, batch)), {}


autoregressive_loss = Loss(_draw_dropout, _next_tokens)
"""Cross-entropy of every token given those before it; called as transformer_loss."""


def _draw_noise(config: TransformerConfig, train: TrainConfig, key: jax.Array, batch: dict) -> dict:
    assert isinstance(config, DiffusionConfig)
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    tokens = batch["tokens"].astype(jnp.int32)
    return batch | dict(
        tokens=tokens,
        progress=jax.random.uniform(time_key, (len(tokens),)),
        noise=jax.random.normal(noise_key, (*tokens.shape, config.code_dim)),
        text_mask=drop_captions(drop_key, batch["text_mask"], train.caption_dropout),
    )


def _velocity(
    config: TransformerConfig, train: TrainConfig, model: DiffusionTransformer, rows: dict, batch: dict
) -> tuple[jax.Array, dict, dict]:
    del config, train
    x, noise = model.codes()[rows["tokens"]], rows["noise"]
    alpha, sigma = (share[:, None, None] for share in signal_and_noise(rows["progress"]))
    keys_values = model.text_keys_values(rows["text"].astype(jnp.float32))
    v = model(alpha * x + sigma * noise, rows["progress"], keys_values, rows["text_mask"])
    return share_of_mean((v - (alpha * noise - sigma * x)) ** 2, batch), {}, {}


diffusion_loss = Loss(_draw_noise, _velocity)
"""Mean squared error of v, at a progress that is uniform from 0 to 1; called as transformer_loss."""


def held_out(loss: Callable) -> Callable[[Any, Iterable[dict]], dict[str, jax.Array]]:
    """(model, batches) -> held_out_loss, and held_out_accuracy if the loss (model, key, batch) has one: means over
    batches of one size, at every call with the same masks."""
    program = jax.jit(loss)

    def judge(model: Any, batches: Iterable[dict]) -> dict[str, jax.Array]:
        found = [program(model, jax.random.key(i), batch) for i, batch in enumerate(batches)]
        rows = [dict(loss=value) | {k: v for k, v in metrics.items() if k == "accuracy"} for value, metrics in found]
        return {f"held_out_{name}": jnp.mean(jnp.stack([row[name] for row in rows])) for name in rows[0]}

    return judge


BASELINE_LOSSES = dict(autoregressive=autoregressive_loss, diffusion=diffusion_loss)
