"""A tokenizer without a codebook: finite scalar quantization (FSQ, arXiv 2309.15505), for chapter 14.

The encoder gives a few numbers per position, one for each entry of `levels`. Each is squashed into a range of as many
integers as its entry says, and rounded. A token is the number whose digits these are, so there are prod(levels) codes.
No code is learned, and none dies because every encoding lies nearer to another.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse.config import VQGANConfig
from minimuse.vqgan import Decoder, Encoder, straight_through

LEVELS = (8, 5, 5, 5)  # 1,000 codes
EDGE = 1e-3  # by what share squashing passes the outer values, which a finite number could not reach otherwise


def squash(z: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """Any numbers [..., len(levels)] -> numbers that round to exactly L integers around 0, each L of levels.

    An odd L gives -(L - 1) / 2 to (L - 1) / 2; an even one has one more below 0 than above, as its middle lies between
    two integers. z = 0 always becomes 0.
    """
    count = jnp.asarray(levels, z.dtype)
    half, middle = (count - 1) * (1 + EDGE) / 2, jnp.where(count % 2 == 0, 0.5, 0.0)
    return jnp.tanh(z + jnp.arctanh(middle / half)) * half - middle


def round_through(z: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """`squash`ed and rounded to integers; gradients pass the rounding as if it were not there."""
    z = squash(z, levels)
    return straight_through(z, jnp.round(z))


def to_tokens(values: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """Rounded values [..., len(levels)] -> tokens int32 [...]: digits of mixed base, the first entry the last digit."""
    digits = values.astype(jnp.int32) + jnp.asarray(levels) // 2
    return jnp.sum(digits * jnp.asarray(_places(levels)), -1)


def from_tokens(tokens: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """The inverse of `to_tokens`: tokens int [...] -> values float32 [..., len(levels)]."""
    sizes = jnp.asarray(levels)
    digits = tokens[..., None] // jnp.asarray(_places(levels)) % sizes
    return (digits - sizes // 2).astype(jnp.float32)


def _places(levels: tuple[int, ...]) -> np.ndarray:
    return np.cumprod([1, *levels[:-1]])


class FSQTokenizer(nnx.Module):
    """A VQGAN's encoder and decoder with finite scalar quantization between them. config.codebook_size must be
    prod(levels), and config.code_dim len(levels)."""

    def __init__(self, config: VQGANConfig, levels: tuple[int, ...] = LEVELS, *, rngs: nnx.Rngs):
        if min(levels, default=0) < 2 or (math.prod(levels), len(levels)) != (config.codebook_size, config.code_dim):
            raise ValueError(
                f"Levels {levels} give {math.prod(levels)} codes of {len(levels)} numbers, each level at least 2; the "
                f"config has {config.codebook_size} codes of {config.code_dim}. Use `with_levels`."
            )
        self.levels = tuple(levels)
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)

    def encode(self, images: jax.Array) -> jax.Array:
        """Pixels [B, H, W, 3] in [-1, 1] -> rounded values [B, h, w, len(levels)], with gradients."""
        return round_through(self.encoder(images), self.levels)

    def decode(self, values: jax.Array) -> jax.Array:
        """Rounded values [B, h, w, len(levels)] -> pixels [B, H, W, 3]."""
        return self.decoder(values / (jnp.asarray(self.levels) // 2))

    def tokenize(self, images: jax.Array) -> jax.Array:
        """Pixels [B, H, W, 3] in [-1, 1] -> tokens int32 [B, h, w]."""
        return to_tokens(self.encode(images), self.levels)

    def detokenize(self, tokens: jax.Array) -> jax.Array:
        """Tokens int32 [B, h, w] -> pixels [B, H, W, 3]."""
        return self.decode(from_tokens(tokens, self.levels))


def with_levels(config: VQGANConfig, levels: tuple[int, ...] = LEVELS) -> VQGANConfig:
    """A tokenizer's config for FSQ with these levels."""
    return dataclasses.replace(config, codebook_size=math.prod(levels), code_dim=len(levels))
