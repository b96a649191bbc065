"""Exercises 07: parallel decoding."""

from collections.abc import Callable

import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, exercise, numbers, pair, same, unless


@exercise(points=3)
def draw_by_cdf(answer: Callable) -> None:
    """p float [B, N, K], u float [B, N] -> tokens int [B, N], confidence float [B, N]."""
    # All sums are exact in binary: 1/2, 3/4, 1 | 1/8, 1/4, 1 | 0, 1/4, 1 | 1/4, 1/2, 1.
    p = np.array([[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], [[0.0, 0.25, 0.75], [0.25, 0.25, 0.5]]])
    u, expected = np.array([[0.6, 0.1], [0.1, 0.6]]), np.array([[1, 0], [1, 2]])
    own = np.array([[0.25, 0.125], [0.25, 0.5]])
    tokens, confidence = pair(call(answer, p, u), "return tokens, confidence")
    tokens, confidence = numbers(tokens, (2, 2), "int"), numbers(confidence, (2, 2))
    unless(
        tokens,
        {
            "That is the most likely code of every position, for any u. Sample instead: add up the probabilities, "
            "and compare the sums with u.": np.array([[0, 2], [2, 2]]),
            "It is one code too far. The sums that are not greater than u belong to the codes that were passed; "
            "their number is the sampled code, since codes begin at 0.": expected + 1,
            "It is one code too few. If one sum is not greater than u, code 1 is sampled.": expected - 1,
            "You count the sums above u. Count those that are not: they were passed.": np.array([[2, 3], [2, 1]]),
            "The probabilities themselves were compared with u. Compare their running sums, `np.cumsum(p, axis=-1)`.": (
                np.array([[3, 0], [1, 3]])
            ),
        },
        right=expected,
    )
    same(tokens, expected, f"u = {u.tolist()}, the sampled codes")
    unless(
        confidence,
        {
            "The codes are right. The confidence is the largest probability of each position; return that of the "
            "sampled code.": p.max(-1),
            "The codes are right. The confidence is the running sum; return the sampled code's probability.": np.array(
                [[0.75, 0.125], [0.25, 1.0]]
            ),
        },
        right=own,
    )
    same(confidence, own, f"u = {u.tolist()}, the confidence")
    u = np.array([[0.5, 0.25], [0.0, 0.0]])
    tokens = numbers(pair(call(answer, p, u), "return tokens, confidence")[0], (2, 2), "int")
    if tokens[1, 0] == 0:
        raise Wrong("At u = 0 it samples a code with probability 0. A sum must be greater than u, not equal to it.")
    same(tokens, np.array([[1, 2], [1, 0]]), f"u = {u.tolist()}, exactly at some sums, the sampled codes")
    p = np.full((1, 3, 10), 0.1 - 1e-6)  # the sums end at 1 - 1e-5
    try:
        tokens = numbers(
            pair(call(answer, p, np.full((1, 3), 1 - 1e-6)), "return tokens, confidence")[0], (1, 3), "int"
        )
    except Wrong as wrong:
        raise Wrong(f"If the last sum is a little below u, sample the last code. {wrong}") from None
    if tokens.max() > 9:
        raise Wrong(
            f"With ten codes, 0 to 9, it returned {tokens.max()}: if the last sum is below u, sample the last code."
        )
    same(tokens, np.full((1, 3), 9), "sums that end a little below u, the sampled codes")
    for seed, (b, n, k) in enumerate([(1, 1, 1), (1, 15, 4), (5, 6, 33), (40, 50, 3)]):
        rng = np.random.default_rng(seed)
        p, u = rng.random((b, n, k)) ** 3, rng.random((b, n))
        p /= p.sum(-1, keepdims=True)
        tokens, confidence = pair(call(answer, p, u), "return tokens, confidence")
        tokens, confidence = numbers(tokens, (b, n), "int"), numbers(confidence, (b, n))
        for i, j in np.ndindex(b, n):
            code, total = 0, p[i, j, 0]
            while total <= u[i, j]:
                code += 1
                total += p[i, j, code]
            about = f"p = {p[i, j].round(3).tolist()} and u = {u[i, j]:.3f}, the sampled code and its confidence"
            same(np.array([tokens[i, j], confidence[i, j]]), [code, p[i, j, code]], about)


M = 9  # [MASK] of the example by hand
TOKENS = np.array([[M, M, M, M, 2, 3], [M, 1, M, M, 4, M]])
DRAWN = np.array([[5, 6, 7, 8, 1, 1], [3, 7, 3, 3, 3, 8]])
CONFIDENCE = np.array([[0.9, 0.3, 0.8, 0.5, 0.1, 0.2], [0.4, 0.05, 0.6, 0.2, 0.01, 0.7]])
LEFT = np.array([1, 3])
AFTER = np.array([[5, M, 7, 8, 2, 3], [M, 1, M, M, 4, 8]])


@exercise(points=4)
def hide_again(answer: Callable) -> None:
    """tokens int [B, N], drawn int [B, N], confidence float [B, N], left int [B], mask_id int -> int [B, N]."""
    got = numbers(call(answer, TOKENS, DRAWN, CONFIDENCE, LEFT, M), (2, 6), "int")
    known = TOKENS != M
    unless(
        got,
        {
            "The right number is hidden, but at the wrong positions, some of them known. One `argsort` gives the "
            "position at each rank; the rank of each position is the `argsort` of that.": np.array(
                [[5, 6, 7, M, 2, 3], [3, M, M, 3, M, 8]]
            ),
        },
    )
    if (got == M)[known].any():
        raise Wrong(
            "Known tokens were hidden again. They must never be chosen, whatever their confidence: give them a score "
            "of +infinity before you rank."
        )
    if (got[known] == DRAWN[known]).all():
        raise Wrong(
            "Known tokens were replaced by sampled ones. A known token stays; only hidden positions take `drawn`."
        )
    unless(
        got,
        {
            "The most confident tokens were hidden again. Hide the least confident, and keep the others.": np.array(
                [[M, 6, 7, 8, 2, 3], [M, 1, M, 3, 4, M]]
            ),
            "This keeps `left` positions of each row and hides the others. `left` is how many are hidden after the "
            "step.": np.array([[5, M, M, M, 2, 3], [3, 1, 3, M, 4, 8]]),
            "Every row hides as many as the first one. Each row has its own number, `left[b]`.": np.array(
                [[5, M, 7, 8, 2, 3], [3, 1, 3, M, 4, 8]]
            ),
            "Nothing was revealed: the hidden positions are unchanged.": TOKENS,
            "All hidden positions were revealed. `left[b]` of them must become [MASK] again.": np.where(
                known, TOKENS, DRAWN
            ),
        },
        right=AFTER,
    )
    same(got, AFTER, "two rows of six positions, with [MASK] = 9 and left = [1, 3], the tokens after the step")
    for seed, (b, n, mask_id) in enumerate([(1, 1, 4), (1, 15, 1024), (4, 12, 7), (6, 64, 32)]):
        rng = np.random.default_rng(seed)
        tokens, drawn = rng.integers(0, mask_id, (2, b, n))
        tokens[rng.random((b, n)) < 0.6] = mask_id
        confidence, count = rng.random((b, n)), (tokens == mask_id).sum(1)
        for left in (rng.integers(0, count + 1), 0 * count, count):
            expected = []
            for i in range(b):
                positions = sorted(np.flatnonzero(tokens[i] == mask_id), key=lambda j: confidence[i, j])
                row = tokens[i].copy()
                row[positions[left[i] :]] = drawn[i, positions[left[i] :]]
                expected.append(row)
            got = numbers(call(answer, tokens, drawn, confidence, left, mask_id), (b, n), "int")
            about = f"tokens of shape {[b, n]}, mask_id = {mask_id} and left = {left.tolist()}"
            same(got, np.array(expected), about)


STRENGTHS = {  # (steps, temperature)
    (4, 2.0): [1.5, 1.0, 0.5, 0.0],
    (5, 4.5): [3.6, 2.7, 1.8, 0.9, 0.0],
    (1, 3.0): [0.0],
    (3, 0.0): [0.0, 0.0, 0.0],
    (8, 16.0): [14.0, 12.0, 10.0, 8.0, 6.0, 4.0, 2.0, 0.0],
}


@exercise(points=2)
def noise_strengths(answer: Callable) -> None:
    """steps int, temperature float -> float [steps]."""
    for (steps, temperature), expected in STRENGTHS.items():
        got, expected = numbers(call(answer, steps, temperature), (steps,)), np.array(expected)
        unless(
            got,
            {
                "It still compounds: each step multiplies the result of the previous one. Compute every strength "
                "from the original temperature.": temperature * np.cumprod(1 - np.arange(1, steps + 1) / steps),
                "It is one step late: the first step has the full temperature, and the last one still has noise. "
                "Steps count from 0, so the progress is (s + 1) / T.": expected + temperature / steps,
                "The strength is the same at every step. It must fall to 0 at the last one.": np.full(
                    steps, temperature
                ),
                "The strength rises. It must fall: the last choices should be the surest.": temperature - expected,
                "This is only 1 - (s + 1) / T. Multiply it by the temperature.": expected / (temperature or 1),
                "It is one step early: these are the strengths of the next steps.": np.maximum(
                    expected - temperature / steps, 0
                ),
                "It falls to 0 in equal steps, but begins with the full temperature. The first strength is already "
                "one of T steps below it.": np.linspace(temperature, 0, steps),
            },
            right=expected,
        )
        same(got, expected, f"{steps} steps and temperature {temperature:g}")


@exercise(points=3)
def touched_tokens(answer: Callable) -> None:
    """states int [T + 1, B, N], mask_id int -> int [T]: how many tokens known before a step differ after it."""
    # One image, 7 is [MASK]. Step 0: the third is hidden again. Step 1: the first changes its code, the third is
    # revealed. Step 2: the second is hidden again and the fourth changes its code. Step 3: the last two are revealed.
    trace = [[1, 2, 3, 7, 7, 7], [1, 2, 7, 5, 7, 7], [0, 2, 4, 5, 7, 7], [0, 7, 4, 6, 5, 7], [0, 2, 4, 6, 5, 3]]
    trace, expected = np.array(trace)[:, None], np.array([1, 1, 2, 0])
    value = call(answer, trace, 7)
    if getattr(value, "shape", None) == (4, 1):
        raise Wrong("It counts each image separately, [T, B]. Sum over images as well: one number per step, [T].")
    if getattr(value, "shape", None) == () or type(value) in (int, float):
        raise Wrong("It returned a single number. Return one per step: do not sum over the first axis.")
    got = numbers(value, (4,), "int")
    unless(
        got,
        {
            "Tokens that were revealed at a step are counted as well. A position that held [MASK] before the step "
            "was not known.": np.array([2, 2, 3, 2]),
            "Only tokens that were hidden again are counted. A token whose code changed was touched as well.": np.array(
                [1, 0, 1, 0]
            ),
            "Only tokens whose code changed are counted. A token that was hidden again was touched as well.": np.array(
                [0, 1, 1, 0]
            ),
            "It compares with the start, so it misses tokens that became known later. Compare each state with "
            "the one before it.": np.array([1, 2, 3, 2]),
            "These are sums over all steps so far. Return the number at each step.": np.array([1, 2, 4, 4]),
            "It counts the tokens revealed at each step. Count those that were known before it and changed.": (
                np.array([1, 1, 1, 2])
            ),
            "These are the tokens that did not change. Count those that did.": np.array([2, 2, 2, 4]),
        },
        right=expected,
    )
    same(got, expected, "one image of six positions, with [MASK] = 7, the touched tokens of four steps")
    for seed, (t, b, n, mask_id) in enumerate([(1, 1, 4, 3), (3, 1, 15, 10), (6, 4, 12, 5)]):
        states = np.random.default_rng(seed).integers(0, mask_id + 1, (t + 1, b, n))
        pairs = [list(zip(states[s].ravel(), states[s + 1].ravel())) for s in range(t)]
        expected = [sum(old != mask_id and new != old for old, new in step) for step in pairs]
        got = numbers(call(answer, states, mask_id), (t,), "int")
        same(got, expected, f"states of shape {[t + 1, b, n]} and mask_id = {mask_id}")
    still = np.broadcast_to(np.arange(8), (5, 2, 8))
    same(numbers(call(answer, still, 8), (4,), "int"), np.zeros(4), "states in which nothing changes")


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
