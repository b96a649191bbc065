"""The tokenizer (paper section 2.2): a convolutional encoder, a quantizer with a learned codebook, a decoder.

Pixels are float32 [B, H, W, 3] in [-1, 1]; tokens are int32 [B, H/f, W/f] in [0, K). Nothing here knows the image's
size: any height and width that are multiples of f work. Normalisation is over the channels at each position, not over
the whole image, so that a token depends only on its surroundings and equal patches get equal tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from minimuse.config import VQGANConfig
from minimuse.layers import init
from minimuse.weights import named_arrays, with_arrays

MEMORY = 2**31  # bytes that reading tokens takes at most; a T4 has 16 GB


def space_to_depth(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] -> [B, H/size, W/size, size * size * C]: resolution into channels, without loss."""
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

    def __call__(self, x: jax.Array) -> jax.Array:
        return space_to_depth(x, 2)


class Double(nnx.Module):
    """Twice the height and width, a quarter of the channels."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return depth_to_space(x, 2)


class Swish(nnx.Module):
    """x sigmoid(x)."""

    def __call__(self, x: jax.Array) -> jax.Array:
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

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.conv1(jax.nn.swish(self.norm1(x)))
        return x + self.conv2(jax.nn.swish(self.norm2(h)))


class Encoder(nnx.Module):
    """[B, H, W, 3] -> [B, H/f, W/f, code_dim].

    The stem gathers patches of f / 2^(levels - 1) pixels, so that no convolution runs at full resolution, where a CPU
    spends most of its time. With encoder_kernel 1 a token depends only on its own f x f pixels: equal patches get
    equal tokens wherever they are, so there are fewer kinds to learn. The decoder sees the neighbours; the encoder need
    not.
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

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.stages(space_to_depth(images, self.patch))


class Decoder(nnx.Module):
    """[B, h, w, code_dim] -> [B, h f, w f, 3], the encoder's mirror image with one more block per resolution;
    channels and blocks are multiplied by config.decoder_growth."""

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

    def __call__(self, codes: jax.Array) -> jax.Array:
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

    groups    how many groups the output channels are split into afterwards (4 before `Double`); each has both copies

    The copies of an input add up to what it was, whatever is added to one and subtracted from the other: that term is
    random, so that the copies learn different things.
    """
    k, _, _, out = kernel.shape
    if outputs:
        parts = kernel.reshape(k, k, -1, groups, out // groups)
        kernel = jnp.concatenate([parts, parts], -1).reshape(k, k, -1, 2 * out)
    if inputs:
        difference = jnp.asarray(rng.normal(size=kernel.shape), kernel.dtype) * jnp.std(kernel) / 2
        kernel = jnp.concatenate([kernel / 2 + difference, kernel / 2 - difference], 2)
    return kernel


def grow_decoder(config: VQGANConfig, decoder: Decoder, seed: int = 0) -> tuple[VQGANConfig, Decoder, list[int]]:
    """A decoder of twice the channels and residual blocks that draws exactly what `decoder` draws (section 2.5).

    decoder    a Decoder(config)
    -> config of the grown one, the grown one, and which of its layers are new

    Every channel becomes two, so no weight of the small decoder is lost (compare Net2Net, arXiv 1511.05641). After each
    block stands a new one, whose last convolution is zero and so adds nothing yet.
    """
    if config.decoder_growth != 1:
        raise ValueError(f"This decoder has grown {config.decoder_growth} times already; grow the small one.")
    grown_config = dataclasses.replace(config, decoder_growth=2)
    grown, rng, layers = init(Decoder, grown_config, seed=seed), np.random.default_rng(seed), decoder.stages.layers
    arrays, new, number = {}, [], 0  # number counts the grown decoder's layers

    def twice(x: jax.Array) -> jax.Array:
        return jnp.concatenate([x, x])

    def wide(name: str, conv: nnx.Conv, inputs: bool = True, outputs: bool = True) -> None:
        kernel, bias = (named_arrays(conv)[part] for part in ("kernel", "bias"))
        groups = 4 if kernel.shape[0] == 1 else 1  # the only 1 x 1 kernels are those before `Double`
        if outputs:
            bias = jnp.concatenate([bias.reshape(groups, -1)] * 2, 1).ravel()
        arrays[f"{name}.kernel"] = widen(kernel, rng, inputs=inputs, outputs=outputs, groups=groups)
        arrays[f"{name}.bias"] = bias

    for i, layer in enumerate(layers):
        name = f"stages.layers.{number}"
        if isinstance(layer, nnx.Conv):
            wide(name, layer, inputs=i > 0, outputs=i < len(layers) - 1)
        elif isinstance(layer, nnx.RMSNorm):
            arrays[f"{name}.scale"] = twice(named_arrays(layer)["scale"])
        elif isinstance(layer, ResBlock):
            for norm, conv in (("norm1", "conv1"), ("norm2", "conv2")):
                arrays[f"{name}.{norm}.scale"] = twice(named_arrays(getattr(layer, norm))["scale"])
                wide(f"{name}.{conv}", getattr(layer, conv))
            number += 1
            new.append(number)
            last = named_arrays(grown.stages.layers[number].conv2)
            arrays |= {f"stages.layers.{number}.conv2.{part}": jnp.zeros_like(x) for part, x in last.items()}
        number += 1
    return grown_config, with_arrays(grown, arrays), new


def to_float(images: ArrayLike) -> jax.Array:
    """uint8 pixels -> float32 in [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1


def to_uint8(images: jax.Array) -> jax.Array:
    """float pixels in [-1, 1] -> uint8; values outside are clipped."""
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


def check_tokens(tokens: ArrayLike, codes: int, side: int) -> np.ndarray:
    """Tokens int [B, h, w], or [B, side * side] as [B, side, side]; ValueError for anything else, and for tokens that
    are not from 0 to codes - 1, such as [MASK]."""
    try:
        ids = np.asarray(tokens)
    except Exception:  # lists of unequal lengths
        ids = np.asarray(None)
    if ids.ndim == 2 and ids.shape[1] == side * side:
        ids = ids.reshape(-1, side, side)
    if ids.dtype.kind not in "iu" or ids.ndim != 3 or 0 in ids.shape[1:]:
        raise ValueError(
            f"Tokens are whole numbers [B, h, w], or [B, {side * side}]; these are {ids.dtype} {list(ids.shape)}."
        )
    if ids.size and (ids.min() < 0 or ids.max() >= codes):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(
            f"Tokens are from 0 to {codes - 1}; one of these is {wrong}{' ([MASK])' if wrong == codes else ''}."
        )
    return ids.astype(np.int32)


@jax.jit
def draw_pixels(decoder: Decoder, codebook: jax.Array, tokens: jax.Array) -> jax.Array:
    """Tokens int [B, h, w] -> pixels uint8 [B, H, W, 3], by a decoder and the codebook [K, C].

    On a CPU one picture at a time: in a batch, convolutions add up in an order that depends on its size, and a few
    values then differ by 1. So there a picture is the same, bit for bit, in any batch. Elsewhere that would be slow.
    """
    if jax.default_backend() != "cpu":
        return to_uint8(decoder(unit(codebook)[tokens]))
    return jax.lax.map(lambda one: to_uint8(decoder(unit(codebook)[one[None]]))[0], tokens)


def pictures_at_once(model: VQGAN, height: int, width: int, memory: int | None = None) -> int:
    """How many pictures of height x width pixels a tokenizer reads within `memory` bytes, at least one.

    memory    default MEMORY

    Per picture that is the distance of each position to each code, and about four arrays of the encoder's finest level.
    """
    area, arrays = height * width, named_arrays(model)
    codes, channels = arrays["codebook"].shape[0], arrays["encoder.stages.layers.0.kernel"].shape[-1]
    finest = area // model.encoder.patch**2 * channels
    each = np.dtype(np.float32).itemsize * (area // model.factor**2 * codes + 4 * finest)
    return max(1, (MEMORY if memory is None else memory) // max(each, 1))


def read_tokens(model: VQGAN, images: np.ndarray | jax.Array) -> jax.Array:
    """Pixels uint8 [B, H, W, 3] -> tokens int [B, h, w], as many pictures at once as `pictures_at_once` says.

    A picture's tokens do not depend on the pictures beside it.
    """
    b, height, width = images.shape[:3]
    pieces = -(-b // pictures_at_once(model, height, width))
    if pieces <= 1:
        return _read(model, images)
    size = -(-b // pieces)
    numbers = np.arange(pieces * size) % b  # the last piece is filled up, so that one program reads all
    parts = [_read(model, images[numbers[i : i + size]]) for i in range(0, len(numbers), size)]
    return jnp.concatenate(parts)[:b]


@jax.jit
def _read(model: VQGAN, images: np.ndarray | jax.Array) -> jax.Array:
    """`read_tokens` in one piece.

    In full float32, whatever a GPU or TPU multiplies with by default: two codes of nearly one colour differ by less
    than TF32 resolves, and other tokens than those of training mean nothing to the transformers.
    """
    with jax.default_matmul_precision("highest"):
        return model.tokenize(to_float(images))
