"""Parallel decoding (paper section 2.8) and guidance (section 2.7).

`parallel_decode` knows nothing of text or weights: it is given `logits_fn(tokens, t)` and calls it once a step. Every
image has a key of its own, so it comes out the same in any batch. `sample_tokens` gives it a transformer.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse.masking import decode_schedule

ORDERS = ("confidence", "halton", "random")  # in which places are revealed
MOST = 1e6  # guidance and temperatures; logits must stay finite in float32
CPU_PLACES = 2**11  # image tokens that a CPU takes at once; more and what a layer computes falls out of its cache


# --- what is given ----------------------------------------------------------------------------------------------------


def is_whole(value) -> bool:
    """Whether this is an integer, of Python or NumPy, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def number(name: str, value) -> float:
    """`value` as a float, or a ValueError that says what is wrong."""
    try:
        if isinstance(value, (str, bytes)):  # which float would read
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number; it was {value!r}.") from None


def checked(numbers: dict) -> dict[str, float]:
    """Guidance and temperatures as floats, or a ValueError that says what is wrong."""
    numbers = {name: number(name, value) for name, value in numbers.items()}
    if not all(0 <= value <= MOST for value in numbers.values()):  # false for nan, too
        told = ", ".join(f"{name} was {value}" for name, value in numbers.items())
        raise ValueError(f"guidance and temperatures must be finite and cannot be negative or above {MOST:g}; {told}.")
    if (low := numbers.get("token_temperature", 1)) < 1 / MOST:
        raise ValueError(
            f"token_temperature divides the logits and cannot be 0; a small one, 0.01, does the same. It was {low:g}."
        )
    return numbers


def whole_number(name: str, value, low: int, high: int) -> int:
    """`value` as an int from low to high, or a ValueError that says what is wrong."""
    if not is_whole(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}; it was {value!r}.")
    return int(value)


# --- parallel decoding ------------------------------------------------------------------------------------------------


class Trace(NamedTuple):
    """What happened at each step, for looking at; the first axis is the step."""

    tokens: jax.Array  # int [steps, B, N], the tokens drawn, hidden places included
    confidence: jax.Array  # float [steps, B, N], probability with which the token was drawn; 1 where it was known
    hidden: jax.Array  # bool [steps, B, N], still hidden after the step


def guide(conditional: jax.Array, unconditional: jax.Array, t: jax.Array) -> jax.Array:
    """Equation 1: (1 + t) l_c - t l_u."""
    return (1 + t) * conditional - t * unconditional


@jax.jit  # one program; operation by operation, a fresh process compiles several
def other_keys(keys: jax.Array, number) -> jax.Array:
    """Random keys [B] for another use than `keys` [B]: each folded with the same number, from 0 to 2^32 - 1."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, jnp.asarray(number).astype(jnp.uint32))


def both_halves(guided, unguided):
    """Two trees of arrays [B, ...] as one of [2 B, ...]: one batch for the two answers that `guide` takes."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), guided, unguided)


def keep_likeliest(logits: jax.Array, top_k: int) -> jax.Array:
    """Logits [..., K] with all but the top_k greatest at minus infinity; what equals the last of them stays, too."""
    return jnp.where(logits < jax.lax.top_k(logits, top_k)[0][..., -1:], -jnp.inf, logits)


def draw_tokens(
    keys: jax.Array, logits: jax.Array, temperature: float | jax.Array = 1.0, top_k: int = 0
) -> tuple[jax.Array, jax.Array]:
    """One token a place: keys [B], logits [B, N, K] -> tokens int [B, N], and softmax(logits) of each, [B, N].

    temperature   1 draws from softmax(logits); less prefers the likelier tokens
    top_k         draw from so many likeliest tokens alone; 0: from all

    Both change what is drawn, not how probable the model holds it to be. By inverse CDF: one random number a token
    instead of one a code, three times as fast on a CPU.
    """
    p = jax.nn.softmax(logits.astype(jnp.float32))
    changed = keep_likeliest(logits, top_k) if top_k else logits
    cdf = jnp.cumsum(jax.nn.softmax(changed.astype(jnp.float32) / temperature), -1)
    u = jax.vmap(lambda key: jax.random.uniform(key, (logits.shape[1], 1)))(keys)
    # Scaled by the last entry, which rounding leaves a little off 1: no u can then pass the end.
    tokens = jnp.minimum(jnp.sum(cdf <= u * cdf[..., -1:], -1), logits.shape[-1] - 1)
    return tokens, jnp.take_along_axis(p, tokens[..., None], -1)[..., 0]


def halton_ranks(h: int, w: int) -> np.ndarray:
    """The Halton order of h x w places (arXiv 2503.17076): int [h w], the turn at which each place is revealed.

    Point i of the sequence has i's digits in base 2 mirrored at the point as its x, in base 3 as its y: every stretch
    of it is spread evenly, so places that are revealed together lie apart. A place's turn is that of its first point.
    """

    def mirrored(i: int, base: int) -> float:
        value, unit = 0.0, 1.0
        while i:
            i, digit = divmod(i, base)
            unit /= base
            value += digit * unit
        return value

    turns, i = {}, 0
    while len(turns) < h * w:
        i += 1
        turns.setdefault(int(mirrored(i, 3) * h) * w + int(mirrored(i, 2) * w), len(turns))
    return np.array([turns[place] for place in range(h * w)])


def order_ranks(order: str, grid: tuple[int, int], keys: jax.Array) -> jax.Array | None:
    """`ranks` for parallel_decode: int [N] for halton, [B, N] for random, another one for every key, else None."""
    h, w = grid
    if order == "halton":
        return jnp.asarray(halton_ranks(h, w))
    if order == "random":  # steps have the numbers 0 to N - 1, so N is free
        return jax.vmap(lambda key: jax.random.permutation(jax.random.fold_in(key, h * w), h * w))(keys)
    if order != "confidence":
        raise ValueError(f"There is no order {order!r}; there are {', '.join(ORDERS)}.")
    return None


def hide_least_confident(confidence: jax.Array, count: jax.Array) -> jax.Array:
    """bool [B, N], True at the `count` ([] or [B, 1]) lowest places of each row of confidence [B, N]."""
    rank = jnp.argsort(jnp.argsort(confidence, -1), -1)
    return rank < count


def parallel_decode(
    logits_fn: Callable,
    tokens: jax.Array,
    keys: jax.Array,
    *,
    mask_id: int,
    steps: int,
    guidance: float | jax.Array = 0.0,
    ramp: bool | jax.Array = True,
    temperature: float | jax.Array = 4.5,
    token_temperature: float | jax.Array = 1.0,
    top_k: int = 0,
    law: str = "cosine",
    ranks: jax.Array | None = None,
    trace: bool = False,
) -> tuple[jax.Array, Trace | None]:
    """Fill in the places of tokens int [B, N] that hold mask_id, in `steps` steps; the others stay as they are.

    logits_fn    (tokens [B, N], t) -> logits [B, N, K], t the guidance scale of this step
    keys         [B], one random key an image
    ramp         t rises linearly, to `guidance` at the last step; False: it is `guidance` at every step
    temperature  of the Gumbel noise on log confidence; step s of T has temperature (1 - (s + 1) / T), so the last
                 choices are the surest
    token_temperature   1 draws tokens as the model's probabilities say; less prefers the likelier ones
    top_k        only the top_k likeliest codes of a place are drawn from; 0: all
    law, steps   the decode schedule, see masking.decode_schedule
    ranks        int [N] or [B, N]: reveal places in this order, the least first, whatever their confidence

    A step draws a token for every hidden place, then hides those of least (noisy) confidence again, as many as the
    schedule says. Rows may have different numbers of known tokens: the schedule is scaled to each row.
    """
    n = tokens.shape[1]
    left = jnp.asarray(decode_schedule(steps, n, law))
    to_fill = jnp.sum(tokens == mask_id, -1, keepdims=True)

    def step(tokens, s):
        ratio = (s + 1) / steps
        known = tokens != mask_id
        step_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, s)))(keys)
        logits = logits_fn(tokens, guidance * jnp.where(ramp, ratio, 1.0))
        drawn, probability = draw_tokens(step_keys[:, 0], logits, token_temperature, top_k)
        drawn = jnp.where(known, tokens, drawn)
        if ranks is None:
            noise = jax.vmap(lambda key: jax.random.gumbel(key, (n,)))(step_keys[:, 1])
            score = jnp.log(jnp.maximum(probability, 1e-30)) + temperature * (1 - ratio) * noise
        else:
            score = -ranks
        score = jnp.where(known, jnp.inf, score)
        hidden = hide_least_confident(score, left[s] * to_fill // n)
        record = Trace(drawn, jnp.where(known, 1.0, probability), hidden) if trace else None
        return jnp.where(hidden, mask_id, drawn), record

    return jax.lax.scan(step, tokens, jnp.arange(steps))


# --- with a transformer -----------------------------------------------------------------------------------------------

STATIC = ("graphdef", "guided", "order", "steps", "top_k", "law", "trace")


@functools.partial(jax.jit, static_argnames=STATIC)
def sample_tokens(
    graphdef, params, text, negative, keys, options, low=None, start=None, *, guided: bool, order: str, **static
):
    """Draw the tokens of one stage: the whole of parallel decoding with guidance as one program.

    text, negative   (embeddings [B, S, text_width], mask bool [B, S]); the negative takes the unconditional half's
                     place, and its mask is all False when there is none
    keys             [B]
    options, static  for `parallel_decode`: numbers that need no compiling anew (guidance, ramp, both temperatures), and
                     what does (steps, top_k, law, trace)
    low              int [B, n], the low-resolution tokens that the super-resolution stage draws from; None for the base
    start            int [B, N], to fill in where it holds the transformer's mask_id; None: all of it
    -> tokens int [B, N], Trace or None
    """
    model = nnx.merge(graphdef, params)
    places = model.grid[0] * model.grid[1]

    def draw(pictures):
        text, negative, keys, low, start = pictures
        seen = model.condition(both_halves(text, negative) if guided else text, low)

        def logits_fn(tokens, t):
            if not guided:
                return model(tokens, *seen)
            logits = model(both_halves(tokens, tokens), *seen)
            return guide(logits[: len(keys)], logits[len(keys) :], t)

        if start is None:
            start = jnp.full((len(keys), places), model.mask_id, jnp.int32)
        ranks = order_ranks(order, model.grid, keys)
        return parallel_decode(logits_fn, start, keys, mask_id=model.mask_id, ranks=ranks, **static, **options)

    pictures, batch = (text, negative, keys, low, start), len(keys)
    group = max(1, CPU_PLACES // (places * (2 if guided else 1)))
    alike = all(jnp.ndim(value) == 0 for value in options.values()) and not static.get("trace")
    if jax.default_backend() != "cpu" or batch <= group or batch % group or not alike:
        return draw(pictures)
    # No picture knows of another, so a CPU takes as many at once as its cache holds.
    grouped = jax.tree.map(lambda x: x.reshape(batch // group, group, *x.shape[1:]), pictures)
    tokens, _ = jax.lax.map(draw, grouped)
    return tokens.reshape(batch, places), None
