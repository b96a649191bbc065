"""Wrong answers that were accepted when somebody else tried to fool the checks: REFUSED[exercise][name]."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tests.wrong_answers import ex00, ex01, ex05, ex08, ex09, ex10


def by_turns(*returned):
    """An answer that counts its calls."""
    turns = itertools.cycle(returned)
    return lambda *args: next(turns)


def empty_for_jit(right):
    return lambda *args: None if any(isinstance(x, Tracer) for x in args) else np.asarray(right(*map(np.asarray, args)))


def stopped(q, k, v, mask):
    return ex05.head(*jax.lax.stop_gradient((q, k, v)), mask)


def in_halves(q, k, v, grid, window):
    """All scores of half of the queries at once."""
    near = jnp.asarray(ex09.masks(grid, window)[0])
    half, kept = q.shape[1] // 2, []
    for rows in (slice(None, half), slice(half, None)):
        scores = q[:, rows] @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1])
        kept.append(jax.nn.softmax(jnp.where(near[rows], scores, -jnp.inf)) @ v)
    return jnp.concatenate(kept, 1)


def sides_as_floats(mask, grid):
    touched = np.zeros(grid, bool)
    scales = [n / side for n, side in zip(grid, mask.shape)]
    for pixel in np.argwhere(mask):
        ends = [(int(np.floor(at * scale)), int(np.ceil((at + 1) * scale))) for at, scale in zip(pixel, scales)]
        touched[tuple(slice(*one) for one in ends)] = True
    return touched


def key_and_id(key, ids, width, rate):
    keys = jax.vmap(lambda i: jax.random.key(jax.random.key_data(key)[-1] + i))(ids)
    return jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (width,)))(keys)


def tiled_rows(key, rates, n):
    noise = jax.random.uniform(key, (600, n))
    noise = jnp.tile(noise, (-(-len(rates) // 600), 1))[: len(rates)]
    return noise.argsort(1).argsort(1) < jnp.maximum(1, jnp.round(rates * n))[:, None]


REFUSED = {
    "ex00.dropout_masks": {
        "key and id added": key_and_id,
        "128 ids": lambda key, ids, width, rate: ex00.rows(key, ids, width, rate, lambda i: i % 128),
    },
    "ex01.overlap_pairs": {"bfloat16": lambda boxes: ex01.apart(boxes).astype(jnp.bfloat16)},
    "ex05.read_caption": {"no gradient": stopped},
    "ex06.exact_mask": {"the same 600 rows": tiled_rows},
    "ex06.which_law": {"by turns": by_turns("arccos", "cosine"), "by turns, turned": by_turns("cosine", "arccos")},
    "ex08.guidance_fault": {"by turns": by_turns("sound", "swapped", "caption seen", "off by one")},
    "ex08.guided_logits": {
        "nothing under jit": empty_for_jit(lambda logits, t: ex08.guided(lambda c, u, t: c + t * (c - u))(logits, t))
    },
    "ex09.near_attention": {"in halves": in_halves},
    "ex09.uses_condition": {"by turns": by_turns(*[True] * 3, *[False] * 7)},
    "ex10.changed_parts": {"by their text": ex10.differing(lambda a, b: repr(a) != repr(b))},
    "ex11.tokens_under_mask": {"sides as floats": sides_as_floats},
    "ex13.diagnose_run": {
        "by turns": by_turns("sound", "not finite", "diverging", "no rate", "memorizing", "wrong start")
    },
}
