"""The tokenizer (paper section 2.2): a convolutional encoder, a quantizer with a learned codebook, a decoder.

Pixels are float32 [B, H, W, 3] in [-1, 1]; tokens are int32 [B, H/f, W/f] in [0, K). Nothing here knows the image's
size: any height and width that are multiples of f work. Normalisation is over channels at each place, not over the
whole image, so that a token depends on its surroundings alone and equal patches get equal tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import modules
from minimuse.config import VQGANConfig


def space_to_depth(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] -> [B, H/size, W/size, size * size * C]: resolution into channels, without losing a number."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // size, w // size, size * size * c)


def depth_to_space(x: jax.Array, size: int) -> jax.Array:
    """The inverse of space_to_depth."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, size, size, c // size**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * size, w * size, c // size**2)


# Modules without weights rather than functions: flax 0.11 would take a function in a Sequential for a weight.
class Halve(nnx.Module):
    """Half the height and width, four times the channels."""

    def __call__(self, x):
        return space_to_depth(x, 2)


class Double(nnx.Module):
    """Twice the height and width, a quarter of the channels."""

    def __call__(self, x):
        return depth_to_space(x, 2)


class Swish(nnx.Module):
    """x sigmoid(x)."""

    def __call__(self, x):
        return jax.nn.swish(x)


def _conv(channels_in: int, channels_out: int, kernel: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(channels_in, channels_out, (kernel, kernel), rngs=rngs)


class ResBlock(nnx.Module):
    """x + conv(swish(norm(conv(swish(norm(x))))))), all [B, h, w, C]."""

    def __init__(self, channels: int, kernel: int = 3, *, rngs: nnx.Rngs):
        self.norm1 = nnx.RMSNorm(channels, rngs=rngs)
        self.conv1 = _conv(channels, channels, kernel, rngs)
        self.norm2 = nnx.RMSNorm(channels, rngs=rngs)
        self.conv2 = _conv(channels, channels, kernel, rngs)

    def __call__(self, x):
        h = self.conv1(jax.nn.swish(self.norm1(x)))
        return x + self.conv2(jax.nn.swish(self.norm2(h)))


class Encoder(nnx.Module):
    """[B, H, W, 3] -> [B, H/f, W/f, code_dim].

    The stem gathers patches of f / 2^(levels - 1) pixels, so that no convolution runs at full resolution, where a CPU
    would spend most of its time. With encoder_kernel 1 a token depends on its own f x f pixels alone: equal patches get
    equal tokens wherever they are, so there are fewer kinds to learn. The decoder looks around; the encoder need not.
    """

    def __init__(self, config: VQGANConfig, *, rngs: nnx.Rngs):
        self.patch = config.factor // 2 ** (len(config.channels) - 1)
        widths, kernel = config.channels, config.encoder_kernel
        stages = [_conv(3 * self.patch**2, widths[0], kernel, rngs)]
        for level, width in enumerate(widths):
            if level:
                stages += [Halve(), _conv(4 * widths[level - 1], width, 1, rngs)]
            stages += [ResBlock(width, kernel, rngs=rngs) for _ in range(config.blocks)]
        stages += [nnx.RMSNorm(widths[-1], rngs=rngs), _conv(widths[-1], config.code_dim, 1, rngs)]
        self.stages = nnx.Sequential(*stages)

    def __call__(self, images):
        return self.stages(space_to_depth(images, self.patch))


class Decoder(nnx.Module):
    """[B, h, w, code_dim] -> [B, h f, w f, 3], the encoder's mirror image with one more block a resolution; all that
    times config.decoder_growth."""

    def __init__(self, config: VQGANConfig, *, rngs: nnx.Rngs):
        self.patch = config.factor // 2 ** (len(config.channels) - 1)
        widths = [config.decoder_growth * width for width in config.channels[::-1]]
        stages = [_conv(config.code_dim, widths[0], 3, rngs)]
        for level, width in enumerate(widths):
            if level:
                stages += [_conv(widths[level - 1], 4 * width, 1, rngs), Double()]
            stages += [ResBlock(width, rngs=rngs) for _ in range(config.decoder_growth * (config.blocks + 1))]
        stages += [nnx.RMSNorm(widths[-1], rngs=rngs), Swish(), _conv(widths[-1], 3 * self.patch**2, 3, rngs)]
        self.stages = nnx.Sequential(*stages)

    def __call__(self, codes):
        return depth_to_space(self.stages(codes), self.patch)


def unit(x: jax.Array) -> jax.Array:
    """x scaled to length 1 along its last axis."""
    return x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-12)


def nearest_code(z: jax.Array, codebook: jax.Array) -> jax.Array:
    """Index of the nearest code: z [..., C], codebook [K, C] -> int32 [...].

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2; the first term is the same for every code, so one matrix product does it and
    no [..., K, C] array is built.
    """
    return jnp.argmin(jnp.sum(codebook**2, -1) - 2 * z @ codebook.T, -1).astype(jnp.int32)


def straight_through(z: jax.Array, quantized: jax.Array) -> jax.Array:
    """`quantized` going forward, the identity in z going back."""
    return z + jax.lax.stop_gradient(quantized - z)


class VQGAN(nnx.Module):
    """The whole tokenizer. Codes and encodings are compared on the unit sphere."""

    def __init__(self, config: VQGANConfig, *, rngs: nnx.Rngs):
        self.factor = config.factor
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.codebook = nnx.Param(unit(jax.random.normal(rngs.params(), (config.codebook_size, config.code_dim))))

    def encode(self, images: jax.Array) -> jax.Array:
        """Pixels [B, H, W, 3] in [-1, 1] -> unit vectors [B, h, w, code_dim], before quantization."""
        h, w = images.shape[1:3]
        if h % self.factor or w % self.factor:
            raise ValueError(f"An image of {w} x {h} pixels: both sides must be multiples of {self.factor}.")
        return unit(self.encoder(images))

    def tokenize(self, images: jax.Array) -> jax.Array:
        """Pixels [B, H, W, 3] in [-1, 1] -> tokens int32 [B, h, w]."""
        return nearest_code(self.encode(images), unit(self.codebook[...]))

    def detokenize(self, tokens: jax.Array) -> jax.Array:
        """Tokens int32 [B, h, w] -> pixels [B, H, W, 3], about in [-1, 1]."""
        return self.decoder(unit(self.codebook[...])[tokens])


def widen(
    kernel: jax.Array, rng: np.random.Generator, *, inputs: bool = True, outputs: bool = True, groups: int = 1
) -> jax.Array:
    """A convolution's kernel [k, k, in, out] for twice the channels, the second half of them copies of the first.

    groups    parts that the output channels are split into afterwards (4 where `Double` follows); each has both copies

    Copies of an input add up to what it was, whatever is added to one and taken from the other: that part is random, so
    that the copies learn different things.
    """
    k, _, _, out = kernel.shape
    if outputs:
        parts = kernel.reshape(k, k, -1, groups, out // groups)
        kernel = jnp.concatenate([parts, parts], -1).reshape(k, k, -1, 2 * out)
    if inputs:
        apart = jnp.asarray(rng.normal(size=kernel.shape), kernel.dtype) * jnp.std(kernel) / 2
        kernel = jnp.concatenate([kernel / 2 + apart, kernel / 2 - apart], 2)
    return kernel


def grow_decoder(config: VQGANConfig, decoder: dict, seed: int = 0) -> tuple[VQGANConfig, dict, list[int]]:
    """A decoder of twice the channels and residual blocks that draws exactly what `decoder` draws (section 2.5).

    decoder    weights of Decoder(config), a nested dict
    -> config and weights of the grown one, and which of its layers are new

    Every channel becomes two, so no weight of the small decoder is lost (compare Net2Net, arXiv 1511.05641). After each
    block stands a new one, whose last convolution is zero and so adds nothing yet.
    """
    if config.decoder_growth != 1:
        raise ValueError(f"This decoder has grown {config.decoder_growth} times already; grow the small one.")
    grown = dataclasses.replace(config, decoder_growth=2)
    small, fresh = decoder["stages"]["layers"], modules.init(Decoder, grown, seed=seed)[1]["stages"]["layers"]
    rng, last = np.random.default_rng(seed), max(small)
    twice = lambda x: jnp.concatenate([x, x])  # noqa: E731

    def wide(conv: dict, inputs: bool = True, outputs: bool = True) -> dict:
        groups = 4 if conv["kernel"].shape[0] == 1 else 1  # of all kernels, those before `Double` alone are 1 x 1
        parts = conv["bias"].reshape(groups, -1)
        bias = jnp.concatenate([parts, parts], 1).ravel() if outputs else conv["bias"]
        return dict(kernel=widen(conv["kernel"], rng, inputs=inputs, outputs=outputs, groups=groups), bias=bias)

    layers, new, number = {}, [], 0
    for i in range(last + 1):  # some numbers have no weights, those of Double and Swish
        if "kernel" in (layer := small.get(i, {})):
            layers[number] = wide(layer, inputs=i > 0, outputs=i < last)
        elif "scale" in layer:
            layers[number] = dict(scale=twice(layer["scale"]))
        elif layer:
            norms = {name: dict(scale=twice(layer[name]["scale"])) for name in ("norm1", "norm2")}
            layers[number] = norms | {name: wide(layer[name]) for name in ("conv1", "conv2")}
            number += 1
            new.append(number)
            silent = jax.tree.map(jnp.zeros_like, fresh[number]["conv2"])
            layers[number] = fresh[number] | dict(conv2=silent)
        number += 1
    return grown, dict(stages=dict(layers=layers)), new


def vq_losses(z: jax.Array, quantized: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Codebook loss (moves the codes to the encodings) and commitment loss (the reverse), each a scalar.

    beta belongs on the second: several public implementations have it on the first.
    """
    codebook = jnp.mean(jnp.sum((jax.lax.stop_gradient(z) - quantized) ** 2, -1))
    commitment = jnp.mean(jnp.sum((z - jax.lax.stop_gradient(quantized)) ** 2, -1))
    return codebook, commitment


def perplexity(counts: jax.Array) -> jax.Array:
    """exp of the entropy of the code counts [K]: how many codes are in use as if all were used alike."""
    p = counts / jnp.maximum(counts.sum(), 1)
    return jnp.exp(-jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.maximum(p, 1e-12)), 0)))


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB of images in [-1, 1], over the whole batch."""
    return 10 * jnp.log10(4 / jnp.maximum(jnp.mean((x - y) ** 2), 1e-12))


def to_float(images) -> jax.Array:
    """uint8 pixels -> float32 in [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """float pixels in [-1, 1] -> uint8; what lies outside is clipped."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


# --- training -------------------------------------------------------------------------------------------------------


def pixel_loss(decoded: jax.Array, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean absolute plus mean squared difference of two batches of images, and the first of the two."""
    l1 = jnp.mean(jnp.abs(decoded - images))
    return l1 + jnp.mean((decoded - images) ** 2), l1


def code_losses(model: VQGAN, config: VQGANConfig, images: jax.Array, quantize: jax.Array | bool = True):
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


def tokenizer_loss(graphdef, config: VQGANConfig, params: dict, key: jax.Array, batch: dict):
    """Reconstruction (L1 + L2) and quantization losses on batch["images"] uint8 [B, H, W, 3].

    batch["quantize"], bool [B] and all alike, tells whether quantization has begun; without it, it has.
    """
    del key  # nothing random in this loss
    images, quantize = to_float(batch["images"]), jnp.all(batch.get("quantize", True))
    decoded, codes, metrics = code_losses(nnx.merge(graphdef, params), config, images, quantize)
    metrics["quantize"] = quantize.astype(jnp.float32)
    loss, l1 = pixel_loss(decoded, images)
    return loss + codes, metrics | dict(l1=l1, psnr=psnr(decoded, images))


def restart_dead_codes(state: dict, key: jax.Array, metrics: dict, decay: float = 0.98, floor: float = 0.02) -> dict:
    """Move codes that almost nothing uses onto encodings of this batch.

    state["usage"] [K] is a running mean of the share of a batch that each code gets, times K: 1 on average. A code
    that falls under `floor` is replaced by an encoding of this batch and given some time (a usage of 5 floors) to be of
    use. The encodings farthest from their code are the likeliest to be taken, as in k-means++: most of a batch is plain
    background, which needs no second code. Usage starts at zero: then the whole codebook is laid onto the first
    encodings; without that the encoder soon sends everything to one code. It stays at zero for as long as
    metrics["quantize"] is 0, so the codebook is laid onto what a plain autoencoder has learnt to tell apart.
    """
    share = metrics["counts"] / metrics["counts"].sum() * metrics["counts"].size
    usage = decay * state["usage"] + (1 - decay) * share
    dead = (usage < floor) | ~jnp.any(state["usage"] > 0)
    chance = metrics["distance"] + 1e-8
    fresh = jax.random.choice(key, metrics["encodings"], usage.shape, p=chance / chance.sum())
    replace = lambda codes: jnp.where(dead[:, None], fresh, codes)  # noqa: E731
    params = state["params"] | dict(codebook=replace(state["params"]["codebook"]))
    ema = state["ema"] | dict(codebook=replace(state["ema"]["codebook"]))
    sums = dict(sums=replace(state["sums"])) if "sums" in state else {}
    usage = jnp.where(dead, 5 * floor, usage) * metrics.get("quantize", 1.0)
    return state | sums | dict(params=params, ema=ema, usage=usage)


def average_codes(state: dict, metrics: dict, decay: float) -> dict:
    """Each code becomes the running mean of the encodings that chose it, instead of following a gradient.

    This is k-means a batch at a time. state["sums"] [K, code_dim] holds running means of the sums of encodings; codes
    are compared by direction alone, so the sums need not be divided by counts. A code that nothing chose stays.
    """
    sums = jnp.zeros_like(state["sums"]).at[metrics["tokens"]].add(metrics["encodings"])
    sums = decay * state["sums"] + (1 - decay) * sums
    chosen = jnp.sum(sums**2, -1, keepdims=True) > 1e-12
    codebook = jnp.where(chosen, unit(sums), state["params"]["codebook"])
    params, ema = (state[name] | dict(codebook=codebook) for name in ("params", "ema"))
    return state | dict(params=params, ema=ema, sums=sums)


def codebook_state(config: VQGANConfig) -> dict:
    """What `update_codes` keeps in the training state beside the weights."""
    sums = dict(sums=jnp.zeros((config.codebook_size, config.code_dim))) if config.codebook_ema else {}
    return dict(usage=jnp.zeros(config.codebook_size)) | sums


def update_codes(config: VQGANConfig, state: dict, key: jax.Array, metrics: dict) -> dict:
    """After a step: running means, if the codes are such, then new places for dead codes."""
    if config.codebook_ema:
        state = average_codes(state, metrics, config.codebook_ema)
    return restart_dead_codes(state, key, metrics)
