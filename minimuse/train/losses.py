"""The losses of every stage (paper sections 2.2, 2.3, 2.4 and 2.7).

With its settings given, each is a function (model, key, batch) -> (loss, metrics).
"""

import jax
import jax.numpy as jnp

from minimuse import layers, masking
from minimuse.config import SuperresConfig, TrainConfig, TransformerConfig, VQGANConfig
from minimuse.evaluate.baselines import AutoregressiveTransformer, DiffusionTransformer, signal_and_noise
from minimuse.evaluate.metrics import perplexity, psnr
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
    metrics = dict(commitment=commitment, perplexity=perplexity(counts), usage=jnp.mean(counts > 0))
    arrays = dict(counts=counts, encodings=z.reshape(-1, config.code_dim), tokens=tokens.reshape(-1))
    arrays["distance"] = jnp.sum((z - quantized) ** 2, -1).reshape(-1)
    # Codes that are running means need no gradient of their own.
    loss = quantize * (config.beta * commitment + (0.0 if config.codebook_ema else codebook_loss))
    return decoded, loss, metrics | jax.lax.stop_gradient(arrays)


def tokenizer_loss(
    config: VQGANConfig, model: VQGAN, key: jax.Array, batch: dict
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Reconstruction (L1 + L2) and quantization losses on batch["images"] uint8 [B, H, W, 3].

    batch["quantize"], bool [B] and all equal, says whether quantization has begun; without it, it has.
    """
    del key  # nothing random in this loss
    images, quantize = to_float(batch["images"]), jnp.all(batch.get("quantize", True))
    decoded, codes, metrics = code_losses(model, config, images, quantize)
    metrics["quantize"] = quantize.astype(jnp.float32)
    loss, l1 = pixel_loss(decoded, images)
    return loss + codes, metrics | dict(l1=l1, psnr=psnr(decoded, images))


RATES = (0.0, 0.25, 0.5, 0.75, 1.0)  # mask rates between which training reports its loss separately


def drop_captions(key: jax.Array, text_mask: jax.Array, rate: float) -> jax.Array:
    """Take the caption from a share `rate` of the examples: their text_mask rows [B, S] become all False."""
    keep = jax.random.uniform(key, (text_mask.shape[0], 1)) >= rate
    return text_mask & keep


def token_losses(logits: jax.Array, tokens: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy of logits [B, N, K] against tokens [B, N] in nats, float [B, N]."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    right = jnp.take_along_axis(log_p, tokens[..., None], -1)[..., 0]
    return -(1 - smoothing) * right - smoothing * jnp.mean(log_p, -1)


def masked_loss(logits: jax.Array, tokens: jax.Array, mask: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy averaged over the masked positions only."""
    return jnp.sum(token_losses(logits, tokens, smoothing) * mask) / jnp.maximum(jnp.sum(mask), 1)


def by_mask_rate(values: dict[str, jax.Array], mask: jax.Array) -> dict[str, jax.Array]:
    """Means of values [B, N] over the masked positions, separately for pictures of different mask rates.

    Their names end in the rate's upper end in percent: loss_r25 is the mean of "loss" where up to a quarter was
    hidden. NaN where the batch has no such picture.
    """
    rate, found = jnp.mean(mask, -1, keepdims=True), {}
    for low, high in zip(RATES, RATES[1:]):
        counted = mask & (low < rate) & (rate <= high)
        for name, value in values.items():
            found[f"{name}_r{round(100 * high)}"] = jnp.sum(value * counted) / jnp.sum(counted)
    return found


def replace_some(key: jax.Array, tokens: jax.Array, most: float, codebook_size: int) -> jax.Array:
    """Random codes at some positions of tokens int [B, n], a share of each row that is drawn uniformly up to `most`."""
    share_key, position_key, code_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (len(tokens), 1), maxval=most)
    codes = jax.random.randint(code_key, tokens.shape, 0, codebook_size)
    return jnp.where(jax.random.uniform(position_key, tokens.shape) < share, codes, tokens)


def transformer_loss(
    config: TransformerConfig, train: TrainConfig, model: BaseTransformer, key: jax.Array, batch: dict
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Masked-token loss on batch: tokens int [B, N], text [B, S, text_width], text_mask bool [B, S]; for the
    super-resolution transformer also low, int [B, n]."""
    model = layers.cast(model, train.dtype)
    mask_key, drop_key = jax.random.split(key)
    tokens, low = batch["tokens"].astype(jnp.int32), batch.get("low")
    if low is not None and train.low_noise:
        assert isinstance(config, SuperresConfig)
        low = replace_some(jax.random.fold_in(key, 2), low, train.low_noise, config.low_codebook_size)
    mask = masking.random_mask(mask_key, len(tokens), tokens.shape[1], train.schedule)
    text_mask = drop_captions(drop_key, batch["text_mask"], train.caption_dropout)
    keys_values, seen = model.condition((batch["text"].astype(jnp.float32), text_mask), low)
    logits = model(jnp.where(mask, config.codebook_size, tokens), keys_values, seen)
    losses, right = token_losses(logits, tokens, train.label_smoothing), jnp.argmax(logits, -1) == tokens

    def mean(value: jax.Array) -> jax.Array:
        return jnp.sum(value * mask) / jnp.sum(mask)

    metrics = dict(accuracy=mean(right), mask_rate=jnp.mean(mask))
    return mean(losses), metrics | by_mask_rate(dict(loss=losses, accuracy=right), mask)


def autoregressive_loss(
    config: TransformerConfig, train: TrainConfig, model: AutoregressiveTransformer, key: jax.Array, batch: dict
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Cross-entropy of every token given those before it; batch as for transformer_loss."""
    model, tokens = layers.cast(model, train.dtype), batch["tokens"].astype(jnp.int32)
    text_mask = drop_captions(key, batch["text_mask"], train.caption_dropout)
    logits = model(tokens, model.text_keys_values(batch["text"].astype(jnp.float32)), text_mask)
    loss = jnp.mean(token_losses(logits, tokens, train.label_smoothing))
    return loss, dict(accuracy=jnp.mean(jnp.argmax(logits, -1) == tokens))


def diffusion_loss(
    config: TransformerConfig, train: TrainConfig, model: DiffusionTransformer, key: jax.Array, batch: dict
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared error of v, at a progress that is uniform from 0 to 1; batch as for transformer_loss."""
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    x = model.codes()[batch["tokens"].astype(jnp.int32)]
    progress = jax.random.uniform(time_key, (len(x),))
    alpha, sigma = (share[:, None, None] for share in signal_and_noise(progress))
    noise = jax.random.normal(noise_key, x.shape)
    text_mask = drop_captions(drop_key, batch["text_mask"], train.caption_dropout)
    keys_values = model.text_keys_values(batch["text"].astype(jnp.float32))
    v = model(alpha * x + sigma * noise, progress, keys_values, text_mask)
    return jnp.mean((v - (alpha * noise - sigma * x)) ** 2), {}


BASELINE_LOSSES = dict(autoregressive=autoregressive_loss, diffusion=diffusion_loss)
