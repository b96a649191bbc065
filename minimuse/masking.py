"""Mask rates: how much is hidden in training, and how much is still hidden at each step of decoding (section 2.6).

A law maps progress u in [0, 1] to a mask rate r, from 1 (all hidden) to 0. Decoding follows the law downwards; training
samples u uniformly, so r = law(u) has the law's density. The cosine law gives the paper's truncated arccos density
p(r) = (2 / pi) (1 - r^2)^(-1/2), whose mean is 2 / pi. (r = arccos(u) * 2 / pi is a different law, often mistaken for
it: it has the same mean, but not the same density.)
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from minimuse.files import as_given


class Law(NamedTuple):
    """A law in three forms. n is the number of tokens N, on which two of the laws depend."""

    rate: Callable  # (u, n) -> r
    density: Callable  # (r, n) -> p(r), the density of r for a uniform u
    mean: Callable  # n -> the mean of r


STEEPNESS = 5.0  # of the law "exp"
FALL = 1 - math.exp(-STEEPNESS)
REVISED = (0.25, 0.1)  # shares of the positions that the first and the last revising pass hide again
LINEAR = Law(lambda u, n: 1 - u, lambda r, n: jnp.ones_like(r), lambda n: 1 / 2)
LAWS = {
    "cosine": Law(
        lambda u, n: jnp.cos(jnp.pi / 2 * u),
        lambda r, n: 2 / jnp.pi / jnp.sqrt(1 - r**2),
        lambda n: 2 / math.pi,
    ),
    "linear": LINEAR,
    "uniform": LINEAR,  # the same, named after its density
    "square": Law(lambda u, n: 1 - u**2, lambda r, n: 1 / (2 * jnp.sqrt(1 - r)), lambda n: 2 / 3),
    "cubic": Law(lambda u, n: 1 - u**3, lambda r, n: (1 - r) ** (-2 / 3) / 3, lambda n: 3 / 4),
    "square root": Law(lambda u, n: 1 - jnp.sqrt(u), lambda r, n: 2 * (1 - r), lambda n: 1 / 3),
    # In the first 1 / N of u everything is hidden: besides its density, this law has a mass of 1 / N at r = 1.
    "log": Law(
        lambda u, n: -jnp.log(jnp.maximum(u, 1e-12)) / math.log(n),
        lambda r, n: math.log(n) * n**-r,
        lambda n: (1 - 1 / n) / math.log(n),
    ),
    # Starts with all but one token hidden: r is never above 1 - 1 / N.
    "exponential": Law(
        lambda u, n: 1 - n ** (u - 1),
        lambda r, n: jnp.where(r <= 1 - 1 / n, 1 / ((1 - r) * math.log(n)), 0.0),
        lambda n: 1 - (1 - 1 / n) / math.log(n),
    ),
    # eMIGM's (arXiv 2503.07197), named as in its code: 1 - exp(-5 (1 - u)), divided by its value at u = 0, so that it
    # starts with everything hidden. MaskGIT's "exponential" is 1 - exp(-ln(N) (1 - u)): the same curve, but its
    # steepness depends on N (5 would be N = 148), and nothing scales it to start at 1.
    "exp": Law(
        lambda u, n: (1 - jnp.exp(STEEPNESS * (u - 1))) / FALL,
        lambda r, n: FALL / (STEEPNESS * (1 - FALL * r)),
        lambda n: 1 / FALL - 1 / STEEPNESS,
    ),
    "arccos": Law(
        lambda u, n: 2 / jnp.pi * jnp.arccos(u),
        lambda r, n: jnp.pi / 2 * jnp.sin(jnp.pi / 2 * r),
        lambda n: 2 / math.pi,
    ),
}


def _law(law: str) -> Law:
    if law not in LAWS:
        raise ValueError(f"There is no masking law {as_given(law)}; the laws are {', '.join(LAWS)}.")
    return LAWS[law]


def mask_rate(u: ArrayLike, law: str = "cosine", tokens: int = 64) -> jax.Array:
    """The mask rate r at progress u, both in [0, 1] and of one shape; `tokens` is N."""
    return jnp.clip(_law(law).rate(jnp.asarray(u, jnp.float32), max(tokens, 2)), 0.0, 1.0)


_mask_rate = jax.jit(mask_rate, static_argnums=(1, 2))  # one program, so that a new process compiles fewer


def density(r: ArrayLike, law: str = "cosine", tokens: int = 64) -> jax.Array:
    """p(r) at mask rates r in (0, 1), of the same shape: how often training samples a rate near r."""
    return _law(law).density(jnp.asarray(r, jnp.float32), max(tokens, 2))


def mean_rate(law: str = "cosine", tokens: int = 64) -> float:
    """The mean of r, in closed form from the density."""
    return _law(law).mean(max(tokens, 2))


def draw_rates(key: jax.Array, shape: tuple[int, ...], law: str | float = "cosine", tokens: int = 64) -> jax.Array:
    """Mask rates as training samples them, float of `shape`. A number instead of a law is that rate every time."""
    if not isinstance(law, str):
        if not 0 < law <= 1:
            raise ValueError(f"A fixed mask rate must be above 0 and at most 1; it was {law}.")
        return jnp.full(shape, law, jnp.float32)
    return mask_rate(jax.random.uniform(key, shape, jnp.float32), law, tokens)


def random_mask(key: jax.Array, batch: int, tokens: int, law: str | float = "cosine") -> jax.Array:
    """A training mask, bool [B, N], True where hidden: each row samples its own r and hides exactly
    max(1, round(N r)) of its N positions; all subsets are equally likely."""
    rate_key, position_key = jax.random.split(key)
    count = jnp.maximum(1, jnp.round(tokens * draw_rates(rate_key, (batch, 1), law, tokens)))
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(position_key, (batch, tokens), jnp.float32), axis=-1), axis=-1)
    return rank < count


def ordered_mask(key: jax.Array, batch: int, ranks: ArrayLike, law: str | float = "exp") -> jax.Array:
    """A mask as sampling in a fixed order leaves it, bool [B, N], True where hidden: each row samples its own r and
    hides the max(1, round(N r)) positions of the greatest `ranks`, int [N]."""
    ranks = jnp.asarray(ranks)
    rates = draw_rates(key, (batch, 1), law, ranks.size)
    return ranks >= ranks.size - jnp.maximum(1, jnp.round(ranks.size * rates))


def decode_schedule(steps: int, tokens: int, law: str = "cosine") -> np.ndarray:
    """How many of `tokens` are still hidden after each step, int [steps]: floor(N law((s + 1) / steps)), except that
    every step reveals at least one token, and the last one leaves none."""
    if not 1 <= steps <= tokens:
        raise ValueError(f"{steps} decoding steps for {tokens} tokens; choose from 1 to {tokens}.")
    with jax.ensure_compile_time_eval():  # numbers, even while a program that decodes is traced
        rates = np.asarray(_mask_rate(np.arange(1, steps + 1) / steps, law, tokens))
    hidden, left = tokens, []
    for s, r in enumerate(rates):
        # Reveal at least one now, and keep at least one for every later step.
        hidden = max(min(math.floor(tokens * r + 1e-4), hidden - 1), steps - 1 - s)
        left.append(hidden)
    return np.array(left)


def revise_schedule(passes: int, tokens: int) -> np.ndarray:
    """How many of `tokens` each of the revising passes hides again, int [passes]: a share that falls geometrically from
    25% to 10%, but at least one token."""
    return np.maximum(1, np.floor(tokens * np.geomspace(*REVISED, passes) + 1e-4)).astype(int)


def replace_some(key: jax.Array, tokens: jax.Array, most: float, codebook_size: int) -> jax.Array:
    """Random codes at some positions of tokens int [B, n], a share of each row that is drawn uniformly up to `most`."""
    share_key, position_key, code_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (len(tokens), 1), jnp.float32, maxval=most)
    codes = jax.random.randint(code_key, tokens.shape, 0, codebook_size, jnp.int32)
    return jnp.where(jax.random.uniform(position_key, tokens.shape, jnp.float32) < share, codes, tokens)
