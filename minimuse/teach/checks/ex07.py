"""Exercises 07: parallel decoding."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, compare, compiled, exercise, numbers, pair


def _passed(p: Any, u: Any, tau: float) -> np.ndarray:
    """Position by position: how many codes are passed before the running sum exceeds u times the whole sum."""
    p, u = np.asarray(p, float), np.asarray(u, float)
    tokens = np.zeros(u.shape, int)
    for i, j in np.ndindex(u.shape):
        weights = [value ** (1 / tau) for value in p[i, j]]
        total = weights[0]
        while total <= u[i, j] * sum(weights) and tokens[i, j] < p.shape[-1] - 1:
            tokens[i, j] += 1
            total += weights[tokens[i, j]]
    return tokens


def _of(values: Any, tokens: np.ndarray) -> np.ndarray:
    return np.take_along_axis(np.asarray(values, float), tokens[..., None], -1)[..., 0]


def _sharpened(p: Any, tau: float) -> np.ndarray:
    weights = np.asarray(p, float) ** (1 / tau)
    return weights / weights.sum(-1, keepdims=True)


def _counted(compared: Callable) -> Callable:
    """A mistake in what is counted along the last axis: compared(p, u [B, N, 1], tau) -> bool [B, N, K]."""
    return lambda p, u, tau: compared(np.asarray(p, float), np.asarray(u, float)[..., None], tau).sum(-1)


DRAW_MISTAKES = {
    "That is the most likely code of every position, for any u. Sample instead: add up the weights, and compare the "
    "sums with u.": lambda p, u, tau: np.asarray(p).argmax(-1),
    "It is one code too far. The sums that are not greater than u belong to the codes that were passed; their number "
    "is the sampled code, since codes begin at 0.": lambda *case: _passed(*case) + 1,
    "It is one code too few. If one sum is not greater than u, code 1 is sampled.": lambda *case: _passed(*case) - 1,
    "You count the sums above u. Count those that are not: they were passed.": (
        _counted(lambda p, u, tau: np.cumsum(_sharpened(p, tau), -1) > u)
    ),
    "The weights themselves were compared with u. Compare their running sums, `jnp.cumsum(..., axis=-1)`.": (
        _counted(lambda p, u, tau: _sharpened(p, tau) <= u)
    ),
    "The token temperature makes no difference. Draw from p^(1/τ).": lambda p, u, tau: _passed(p, u, 1.0),
    "You raise p to the power τ. A low temperature sharpens: the power is 1/τ.": lambda p, u, tau: _passed(
        p, u, 1 / tau
    ),
    "p^(1/τ) does not sum to 1. Divide it by its sum, or compare with u times the last running sum.": (
        _counted(lambda p, u, tau: np.cumsum(p ** (1 / tau), -1)[..., :-1] <= u)
    ),
    "p^(1/τ) does not sum to 1: divide it by its sum. And a u that no sum exceeds draws the last code.": (
        _counted(lambda p, u, tau: np.cumsum(p ** (1 / tau), -1) <= u)
    ),
    "At u = 0 it draws a code with probability 0. A sum must be greater than u, not equal to it.": (
        lambda p, u, tau: _passed(p, np.asarray(u) - 1e-12, tau)
    ),
    "The order of the codes is turned: add up from the first code to the last.": (
        lambda p, u, tau: np.shape(p)[-1] - 1 - _passed(np.asarray(p)[..., ::-1], u, tau)
    ),
}


def _draws(seed: int, b: int, n: int, k: int, tau: float) -> tuple:
    """p, u and tau, such that no u lies near the end of a code."""
    rng = np.random.default_rng(seed)
    p = (rng.random((b, n, k)) ** 3 + 0.01).astype(np.float32)
    p /= p.sum(-1, keepdims=True)
    ends = np.cumsum(_sharpened(p, tau), -1)
    within, codes = rng.uniform(0.2, 0.8, (b, n)), rng.integers(0, k, (b, n))
    share = _of(_sharpened(p, tau), codes)
    codes = np.where(share < 1e-3, _sharpened(p, tau).argmax(-1), codes)
    u = _of(ends, codes) - within * _of(_sharpened(p, tau), codes)
    return jnp.asarray(p), jnp.asarray(u, jnp.float32), tau


@exercise(points=3)
def draw_by_cdf(answer: Callable) -> None:
    """p float [B, N, K], u float [B, N], tau float -> tokens int [B, N], confidence float [B, N]."""
    p = jnp.array([[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], [[0.0, 0.25, 0.75], [0.25, 0.25, 0.5]]])
    u, last = jnp.array([[0.6, 0.1], [0.15, 0.6]]), np.nextafter(np.float32(1), np.float32(0))
    cases = [
        (p, u, 1.0),  # the sums are 1/2, 3/4, 1 | 1/8, 1/4, 1 | 0, 1/4, 1 | 1/4, 1/2, 1
        (p, u, 0.5),
        (p, jnp.zeros((2, 2)), 1.0),
        (p, jnp.zeros((2, 2)), 2.0),
        *(_draws(seed, 4, 15, 7, tau) for seed, tau in enumerate((1.0, 0.3, 3.0))),
        _draws(4, 1, 2, 1, 0.7),
    ]
    program, both = compiled(answer), lambda value, part: pair(value, "return tokens, confidence")[part]
    compare(program, cases, _passed, DRAW_MISTAKES, kind="int", read=lambda value: both(value, 0))
    ends = [(jnp.full((1, 3, 10), 0.1), jnp.full((1, 3), last), tau) for tau in (1.0, 0.5)]
    for case in ends:
        if numbers(both(call(program, *case), 0), (1, 3), "int").max() == 10:
            raise Wrong(
                "With ten codes, 0 to 9, it draws code 10 where u is almost 1: rounding leaves the last sum too small, "
                "and all are passed. Draw the last code then: `jnp.minimum`."
            )
    compare(program, ends, _passed, kind="int", read=lambda value: both(value, 0))
    compare(
        program,
        [*cases, *ends],
        lambda p, u, tau: _of(p, _passed(p, u, tau)),
        {
            "The codes are right. The confidence is the largest probability of each position; return that of the "
            "sampled code.": lambda p, u, tau: np.asarray(p).max(-1),
            "The codes are right. The confidence is the running sum; return the sampled code's probability.": (
                lambda p, u, tau: _of(np.cumsum(p, -1), _passed(p, u, tau))
            ),
            "The codes are right. The confidence is the probability after p^(1/τ). The temperature changes what is "
            "drawn, not how sure the model is: return the probability in p.": (
                lambda p, u, tau: _of(_sharpened(p, tau), _passed(p, u, tau))
            ),
        },
        read=lambda value: both(value, 1),
    )


def _after(tokens: Any, drawn: Any, confidence: Any, left: Any, mask_id: int) -> np.ndarray:
    """Row by row: the hidden positions sorted by confidence, equal ones in reading order."""
    result = np.array(tokens)
    for row, old, new, sure, count in zip(result, *map(np.asarray, (tokens, drawn, confidence, left))):
        hidden = sorted(zip(*np.nonzero(old == mask_id)), key=lambda at: sure[at])
        for at in hidden[count:]:
            row[at] = new[at]
    return result


def _step(
    score: Callable = lambda known, sure: np.where(known, np.inf, sure),
    rank: Callable = lambda score: score.argsort(1, kind="stable").argsort(1),
    count: Callable = lambda left, hidden: left,
    old: Callable = lambda tokens, drawn: tokens,
) -> Callable:
    """A step with a mistake, on flat rows."""

    def wrong(tokens: Any, drawn: Any, confidence: Any, left: Any, mask_id: int) -> np.ndarray:
        flat = [np.asarray(array).reshape(len(left), -1) for array in (tokens, drawn, confidence)]
        known, left = flat[0] != mask_id, np.asarray(left)
        hide = rank(score(known, flat[2])) < count(left, (~known).sum(1))[:, None]
        return np.where(hide, mask_id, np.where(known, old(*flat[:2]), flat[1])).reshape(np.shape(tokens))

    return wrong


def _line_by_line(tokens: Any, drawn: Any, confidence: Any, left: Any, mask_id: int) -> np.ndarray:
    """Ranks along the last axis only."""
    known = np.asarray(tokens) != mask_id
    rank = np.where(known, np.inf, confidence).argsort(-1, kind="stable").argsort(-1)
    return np.where(rank < np.asarray(left)[:, None, None], mask_id, np.where(known, tokens, drawn))


def _all_ties(score: np.ndarray) -> np.ndarray:
    """The rank of the first of all equal ones."""
    return (score[:, :, None] > score[:, None, :]).sum(-1)


STEP_MISTAKES = {
    "The right number is hidden, but at the wrong positions, some of them known. One `argsort` gives the position at "
    "each rank; the rank of each position is the `argsort` of that.": (
        _step(rank=lambda score: score.argsort(1, kind="stable"))
    ),
    "Known tokens were hidden again. They must never be chosen, whatever their confidence: give them a score of "
    "+infinity before you rank.": _step(lambda known, sure: sure),
    "Known tokens were hidden again: they have the score 1, and a confidence may be greater. Give them +infinity.": (
        _step(lambda known, sure: np.where(known, 1.0, sure))
    ),
    "Known tokens were replaced by sampled ones. A known token stays; only hidden positions take `drawn`.": (
        _step(old=lambda tokens, drawn: drawn)
    ),
    "The most confident tokens were hidden again. Hide the least confident, and keep the others.": (
        _step(lambda known, sure: np.where(known, np.inf, -sure))
    ),
    "This keeps `left` positions of each row and hides the others. `left` is how many are hidden after the step.": (
        _step(count=lambda left, hidden: hidden - left)
    ),
    "Every row hides as many as the first one. Each row has its own number, `left[b]`.": (
        _step(count=lambda left, hidden: np.minimum(left[:1].repeat(len(left)), hidden))
    ),
    "One too many is hidden. Ranks begin at 0: `rank < left`, not `<=`.": (
        _step(count=lambda left, hidden: np.minimum(left + 1, hidden))
    ),
    "One too few is hidden. Ranks begin at 0: the lowest `left` ranks are 0 to left - 1.": (
        _step(count=lambda left, hidden: left - 1)
    ),
    "Of equally confident tokens all are hidden. Exactly `left` must be: use ranks, not a limit.": _step(
        rank=_all_ties
    ),
    "Each line of the grid hides `left` tokens. `left` is the number for the whole picture: rank the positions of a "
    "picture together, as one row of H W.": _line_by_line,
    "Nothing was revealed: the hidden positions are unchanged.": lambda tokens, *rest: tokens,
    "All hidden positions were revealed. `left[b]` of them must become [MASK] again.": (
        _step(count=lambda left, hidden: 0 * left)
    ),
}


def _states(seed: int, b: int, h: int, w: int, sure: Callable, count: Callable) -> tuple:
    """Arguments of hide_again: sure(rng, shape) is the confidence, count(rng, hidden) how many stay hidden."""
    rng, mask_id = np.random.default_rng(seed), 7
    tokens, drawn = rng.integers(0, mask_id, (2, b, h, w))
    tokens[rng.random(tokens.shape) < 0.6] = mask_id
    left = count(rng, (tokens == mask_id).sum((1, 2)))
    confidence = np.float32(sure(rng, tokens.shape))
    return *(jnp.asarray(array) for array in (tokens, drawn, confidence, left)), mask_id


@exercise(points=4)
def hide_again(answer: Callable) -> None:
    """tokens and drawn int [B, H, W], confidence float [B, H, W], left int [B], mask_id int -> int [B, H, W]."""
    m = 9  # [MASK] of the example by hand
    by_hand = (
        jnp.array([[[m, m, m], [m, 2, 3]], [[m, 1, m], [m, 4, m]]]),
        jnp.array([[[5, 6, 7], [8, 1, 1]], [[3, 7, 3], [3, 3, 8]]]),
        jnp.array([[[0.9, 0.3, 0.8], [0.5, 0.1, 0.2]], [[0.4, 0.05, 0.6], [0.2, 0.01, 0.7]]]),
        jnp.array([1, 3]),  # -> 5 9 7 / 8 2 3 and 9 1 9 / 9 4 8
        m,
    )
    some, uniform = lambda rng, hidden: rng.integers(0, hidden + 1), lambda rng, shape: rng.random(shape)
    noisy, tied = lambda rng, shape: 4 * rng.gumbel(size=shape), lambda rng, shape: rng.integers(1, 4, shape) / 4
    cases = [
        by_hand,
        *(_states(seed, 2, 2, 3, sure, some) for seed, sure in enumerate((uniform, noisy, tied))),
        *(_states(seed, 4, 3, 6, sure, some) for seed, sure in enumerate((uniform, noisy, tied, uniform), 3)),
        _states(7, 4, 3, 6, noisy, lambda rng, hidden: 0 * hidden),
        _states(8, 4, 3, 6, tied, lambda rng, hidden: hidden),
    ]
    compare(compiled(answer), cases, _after, STEP_MISTAKES, kind="int")


@exercise(points=2)
def noise_strengths(answer: Callable) -> None:
    """steps int, temperature float -> float [steps]."""
    compare(
        answer,
        [(1, 3.0), (2, 1.0), (4, 2.0), (5, 4.5), (3, 0.0), (8, 16.0), (12, 0.6)],
        lambda steps, temperature: [temperature - (s + 1) * temperature / steps for s in range(steps)],
        {
            "It still compounds: each step multiplies the result of the previous one. Compute every strength from the "
            "original temperature.": lambda t, tau: tau * np.cumprod(1 - np.arange(1, t + 1) / t),
            "It is one step late: the first step has the full temperature, and the last one still has noise. Steps "
            "count from 0, so the progress is (s + 1) / T.": lambda t, tau: tau * (1 - np.arange(t) / t),
            "The strength is the same at every step. It must fall to 0 at the last one.": (
                lambda t, tau: np.full(t, tau)
            ),
            "The strength rises. It must fall: the last choices should be the surest.": (
                lambda t, tau: tau * np.arange(1, t + 1) / t
            ),
            "This is only 1 - (s + 1) / T. Multiply it by the temperature.": lambda t, tau: 1 - np.arange(1, t + 1) / t,
            "It is one step early: these are the strengths of the next steps.": (
                lambda t, tau: np.maximum(tau * (1 - np.arange(2, t + 2) / t), 0)
            ),
            "It falls to 0 in equal steps, but begins with the full temperature. The first strength is already one of "
            "T steps below it.": lambda t, tau: np.linspace(tau, 0, t),
            "It falls by a constant factor. It must fall in equal steps.": (
                lambda t, tau: tau * (1 - 1 / t) ** np.arange(1, t + 1)
            ),
        },
    )


def _changed(before: np.ndarray, after: np.ndarray, mask_id: int) -> int:
    return sum(old not in (mask_id, new) for old, new in zip(before.ravel().tolist(), after.ravel().tolist()))


def _sums(condition: Callable) -> Callable:
    """A mistake in what is counted: condition(before, after, mask_id) -> bool [T, B, N]."""
    return lambda states, mask_id: condition(states[:-1], states[1:], mask_id).sum((1, 2))


TOUCHED_MISTAKES = {
    "Tokens that were revealed at a step are counted as well. A position that held [MASK] before the step was not "
    "known.": _sums(lambda before, after, m: before != after),
    "Only tokens that were hidden again are counted. A token whose code changed was touched as well.": (
        _sums(lambda before, after, m: (before != m) & (after == m))
    ),
    "Only tokens whose code changed are counted. A token that was hidden again was touched as well.": (
        _sums(lambda before, after, m: (before != m) & (after != m) & (before != after))
    ),
    "It compares with the start, so it misses tokens that became known later. Compare each state with the one before "
    "it.": lambda states, m: ((states[:1] != m) & (states[1:] != states[:1])).sum((1, 2)),
    "These are sums over all steps so far. Return the number at each step.": (
        lambda states, m: _sums(lambda before, after, m: (before != m) & (before != after))(states, m).cumsum()
    ),
    "It counts the tokens revealed at each step. Count those that were known before it and changed.": (
        _sums(lambda before, after, m: (before == m) & (after != m))
    ),
    "These are the tokens that did not change. Count those that did.": (
        _sums(lambda before, after, m: (before != m) & (before == after))
    ),
    "The largest id is taken for [MASK]. Use the argument `mask_id`.": (
        lambda states, m: _sums(lambda before, after, m: (before != m) & (before != after))(states, states.max())
    ),
    "A token counts if it was known after the step. It must have been known before it.": (
        _sums(lambda before, after, m: (after != m) & (before != after))
    ),
}


@exercise(points=3)
def touched_tokens(answer: Callable) -> None:
    """states int [T + 1, B, N], mask_id int -> int [T]: how many tokens known before a step differ after it."""
    # One image, 7 is [MASK]. Step 0: the third is hidden again. Step 1: the first changes its code, the third is
    # revealed. Step 2: the second is hidden again and the fourth changes its code. Step 3: the last two are revealed.
    trace = [[1, 2, 3, 7, 7, 7], [1, 2, 7, 5, 7, 7], [0, 2, 4, 5, 7, 7], [0, 7, 4, 6, 5, 7], [0, 2, 4, 6, 5, 3]]
    by_hand = np.array(trace)[:, None]
    value = call(answer, by_hand, 7)
    if np.shape(value) == (4, 1):
        raise Wrong("It counts each image separately, [T, B]. Sum over images as well: one number per step, [T].")
    if np.shape(value) == () and isinstance(value, (int, float, np.number, np.ndarray)):
        raise Wrong("It returned a single number. Return one per step: do not sum over the first axis.")
    cases = [(by_hand, 7)]
    for seed, (t, b, n, mask_id, most) in enumerate(
        [(1, 1, 4, 3, 4), (2, 3, 5, 0, 4), (3, 1, 15, 10, 11), (6, 4, 12, 2, 6)]
    ):
        cases.append((np.random.default_rng(seed).integers(0, most, (t + 1, b, n)), mask_id))
    cases.append((np.broadcast_to(np.arange(8), (5, 2, 8)).copy(), 8))  # nothing changes
    cases.append((np.arange(12).reshape(3, 1, 4), 20))  # all tokens change, and none is [MASK]
    compare(
        answer,
        cases,
        lambda states, mask_id: [_changed(one, two, mask_id) for one, two in zip(states, states[1:])],
        TOUCHED_MISTAKES,
        kind="int",
    )


@exercise(points=1)
def waits_and_work(answer: Callable) -> None:
    """No arguments -> the letter "a", "b", "c" or "d"."""
    chosen(
        answer,
        "d",
        {
            "a": (
                "Parallel decoding does not wait longer: it makes T = 12 passes at both sizes. The passes grow, not "
                "their number."
            ),
            "b": (
                "Each parallel pass computes all N positions, of which there are four times as many. Parallel "
                "decoding saves waiting, not work."
            ),
            "c": (
                "That would hold if every autoregressive pass computed all positions. It caches what it has "
                "computed, and computes only the new position: N passes of one position."
            ),
        },
    )
