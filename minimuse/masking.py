"""Mask rates: how much is hidden in training, and how much is still hidden at each step of decoding (section 2.6).

A law maps progress u in [0, 1] to a mask rate r, from 1 (all hidden) to 0. Decoding walks down the law; training
draws u uniformly, so r = law(u) has the law's density. The cosine law gives the paper's truncated arccos density
p(r) = (2 / pi) (1 - r^2)^(-1/2), whose mean is 2 / pi. (r = arccos(u) * 2 / pi is another law that is often taken for
it: the same mean, another density.)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

LAWS = {
    "cosine": lambda u: jnp.cos(jnp.pi / 2 * u),
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u**2,
    "cubic": lambda u: 1 - u**3,
    "square root": lambda u: 1 - jnp.sqrt(u),
}


def mask_rate(u, law: str = "cosine") -> jax.Array:
    """The mask rate r at progress u, both in [0, 1] and of one shape."""
    if law not in LAWS:
        raise ValueError(f"There is no masking law {law!r}; the laws are {', '.join(LAWS)}.")
    return jnp.clip(LAWS[law](jnp.asarray(u, jnp.float32)), 0.0, 1.0)


def random_mask(key: jax.Array, batch: int, tokens: int, law: str = "cosine") -> jax.Array:
    """A training mask, bool [B, N], True where hidden: each row draws its own r and hides exactly
    max(1, round(N r)) of its N places, all subsets alike."""
    rate_key, place_key = jax.random.split(key)
    r = mask_rate(jax.random.uniform(rate_key, (batch, 1)), law)
    count = jnp.maximum(1, jnp.round(tokens * r))
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(place_key, (batch, tokens)), axis=-1), axis=-1)
    return rank < count


def decode_schedule(steps: int, tokens: int, law: str = "cosine") -> np.ndarray:
    """How many of `tokens` are still hidden after each step, int [steps]: floor(N law((s + 1) / steps)), but every
    step reveals at least one token, and the last leaves none."""
    if not 1 <= steps <= tokens:
        raise ValueError(f"{steps} decoding steps for {tokens} tokens; choose from 1 to {tokens}.")
    with jax.ensure_compile_time_eval():  # numbers, also when a program that decodes is being traced
        rates = np.asarray(mask_rate(np.arange(1, steps + 1) / steps, law))
    hidden, left = tokens, []
    for s, r in enumerate(rates):
        # At least one now, and at least one for every step to come.
        hidden = max(min(math.floor(tokens * r + 1e-4), hidden - 1), steps - 1 - s)
        left.append(hidden)
    return np.array(left)
