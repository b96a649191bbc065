"""Exercises 04: a frozen T5."""

import math
from collections.abc import Callable

import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, exercise, numbers, same, unless

# (buckets, furthest): the distances at which the next bucket begins, worked out by hand. For 32 and 128 the growing
# ones are 8 · 16^(k/8): 11.3, 16, 22.6, 32, 45.3, 64, 90.5.
BEGINS = {
    (32, 128): [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91],
    (16, 40): [1, 2, 3, 4, 8, 13, 23],
    (8, 16): [1, 2, 6],
}


@exercise(points=3)
def distance_bucket(answer: Callable) -> None:
    """distance int [Q, K], buckets int, furthest int -> int [Q, K]."""
    for (buckets, furthest), begins in BEGINS.items():
        half, e = buckets // 2, buckets // 4
        for queries, keys, first in ((3, 5, 0), (1, 400, -200), (90, 2, -50)):
            d = np.arange(keys)[None, :] - np.arange(queries)[:, None] + first
            got = numbers(call(answer, d, buckets, furthest), d.shape, "int")
            n = np.abs(d)
            inside, right = np.searchsorted(begins, n, side="right"), d > 0
            expected = inside + half * right
            endless = [*range(1, e), *(e * (furthest / e) ** (np.arange(60) / e))]
            whole = [*range(1, half), *(half * (furthest / half) ** (np.arange(half) / half))]
            unless(
                got,
                {
                    "Left and right are swapped: d = j - i is positive where the key is on the right, and these "
                    "keys have the second half.": inside + half * (d < 0),
                    "A token's own position, d = 0, belongs to the first half, to bucket 0.": inside + half * (d >= 0),
                    "Left and right have the same buckets, so T5 could not know on which side a word is: keys on "
                    "the right are half a table higher.": inside,
                    "Far distances leave their half. The bucket inside a half is at most 2 E - 1.": np.searchsorted(
                        endless, n + 1e-9, side="right"
                    )
                    + half * right,
                    "Distances are clipped at 2 E - 1, without the logarithm: far ones share buckets too soon.": (
                        np.minimum(n, half - 1) + half * right
                    ),
                    "You round the logarithm to the nearest number. Take its floor.": np.searchsorted(
                        [*range(1, e + 1), *(e * (furthest / e) ** ((np.arange(1, e) - 0.5) / e))], n, side="right"
                    )
                    + half * right,
                    "Half of the buckets have one distance each. In both directions it is a quarter: E = buckets / "
                    "4.": np.minimum(np.searchsorted(whole, n + 1e-9, side="right"), buckets - 1) + half * right,
                },
                right=expected,
            )
            same(got, expected, f"distances from {d.min()} to {d.max()}, {buckets} buckets and furthest = {furthest}")


@exercise(points=2)
def t5_norm(answer: Callable) -> None:
    """x float16 or float32 [..., D], scale float32 [D], epsilon float -> float32, the shape of x."""
    for shape, epsilon, size in (((2, 3, 8), 1e-6, 1), ((1, 5), 0.5, 1), ((2,), 1e-6, 4), ((4, 1, 2, 6), 1e-6, 0.1)):
        rng = np.random.default_rng(len(shape))
        x = (rng.normal(size=shape) * size + 0.7).astype(np.float32)
        scale = rng.uniform(1.5, 3, shape[-1]).astype(np.float32)
        got = numbers(call(answer, x, scale, epsilon), shape)
        vectors = x.reshape(-1, shape[-1]).tolist()
        roots = [math.sqrt(math.fsum(value * value for value in vector) / len(vector) + epsilon) for vector in vectors]
        roots = np.array(roots).reshape(*shape[:-1], 1)
        right, centred, squares = x / roots * scale, x - x.mean(-1, keepdims=True), (x**2).mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        unless(
            got,
            {
                "That is LayerNorm: it subtracts the mean first. T5 keeps the mean, and divides by the root of the "
                "mean of x².": centred / spread * scale,
                "You divide by the standard deviation, which subtracts the mean. T5 uses the root of the mean of "
                "x² itself.": x / spread * scale,
                "The vectors have length 1. Divide by the root of the mean of the squares, not of their sum.": x
                / np.sqrt(shape[-1] * squares + epsilon)
                * scale,
                "The scale is missing. Multiply by g at the end.": x / roots,
                "You multiply by 1 + g. Some networks store their scale like this; T5 does not.": x
                / roots
                * (1 + scale),
                "You divide by the mean square. Take its root.": x / (squares + epsilon) * scale,
                "Epsilon is missing, or so small that it does nothing.": x / np.sqrt(squares) * scale,
                "Epsilon is outside the root. Add it to the mean square, then take the root.": x
                / (np.sqrt(squares) + epsilon)
                * scale,
                "All vectors are divided by one number. The mean goes only along the last axis, with "
                "`keepdims=True`.": x / np.sqrt((x**2).mean() + epsilon) * scale,
            },
            right=right,
        )
        same(got, right, f"x of shape {list(shape)} and epsilon = {epsilon:g}")
    x = np.array([[300, -400, 500, 600], [0, 0, 0, 0]], np.float16)
    with np.errstate(all="ignore"):
        got = call(answer, x, np.ones(4, np.float32), 1e-6)
        if np.size(got) != 8 or not np.asarray(got, float).reshape(-1)[:4].all() or not np.isfinite(got).all():
            raise Wrong(
                "It fails for float16 numbers such as 300: their squares are infinite in float16. Convert x to "
                "float32 before you square it. And a vector of zeros must stay zero."
            )
    root = math.sqrt((9 + 16 + 25 + 36) / 4)
    same(numbers(got, (2, 4)), [[3 / root, -4 / root, 5 / root, 6 / root], [0] * 4], "float16 numbers up to 600", 2e-3)


@exercise(points=3)
def weights_on_real(answer: Callable) -> None:
    """scores float [B, Q, S], mask bool [B, S] -> weights float [B, Q, S]."""
    cases = (((2, 5, 5), 1.0, 0.0), ((1, 7, 4), 1.0, 3.0), ((3, 2, 6), 100.0, 0.0), ((2, 3, 8), 1.0, 2000.0))
    for seed, ((b, q, s), spread, junk) in enumerate(cases):
        rng = np.random.default_rng(seed)
        mask = np.arange(s) < rng.integers(1, s, (b, 1))
        if seed == 2:
            mask = np.logical_not(mask)  # real tokens need not come first
            mask[0] = True
        scores = rng.normal(size=(b, q, s)) * spread + junk * np.logical_not(mask)[:, None, :]
        with np.errstate(all="ignore"):
            got = call(answer, scores, mask)
        if getattr(got, "shape", None) == scores.shape and np.isnan(np.asarray(got, float)).any():
            raise Wrong(
                "There are values that are not numbers (nan). Scores may be large, especially those of padding: "
                "subtract the largest score of the real keys from all scores before `np.exp`."
            )
        got = numbers(got, (b, q, s))
        right = np.zeros((b, q, s))
        for i in range(b):  # each caption by itself, without its padding
            own = scores[i][:, mask[i]]
            powers = np.exp(own - own.max(-1, keepdims=True))
            right[i][:, mask[i]] = powers / powers.sum(-1, keepdims=True)
        _padding_seen(got, right, scores, mask)
        same(got, right, f"scores of shape {[b, q, s]} and {mask.sum(-1).tolist()} real tokens")


def _padding_seen(got: np.ndarray, right: np.ndarray, scores: np.ndarray, mask: np.ndarray) -> None:
    """Raise Wrong for the results of the known mistakes."""

    def soft(scores, axis=-1):
        powers = np.exp(scores - scores.max(axis, keepdims=True))
        return powers / powers.sum(axis, keepdims=True)

    q, s = scores.shape[1:]
    keys, unmasked = mask[:, None, :], soft(scores)
    known = {
        "Padding still gets attention: the mask does nothing.": unmasked,
        "The weights of padding are 0 now, but they were removed after the softmax: the others add up to less than "
        "1. Mask the scores, before the softmax.": unmasked * keys,
        "You multiply the scores by the mask. A score of 0 is not nothing: exp of it is 1. Padding needs a score "
        "of minus infinity.": soft(scores * keys),
        "The mask is upside down: the weights are on padding, and real tokens get none. True is a real token.": soft(
            np.where(keys & ~np.all(mask, -1, keepdims=True)[..., None], -1e9, scores)
        ),
        "The softmax goes over the queries. Each query's weights must add up to 1, along the last axis.": soft(
            np.where(keys, scores, -1e9), 1
        ),
    }
    if q == s:
        known |= {
            "Rows of padding are 0 now, but real tokens still attend to padding: you masked the queries. The keys "
            "are the last axis: `mask[:, None, :]`.": unmasked * mask[:, :, None],
            "The mask is on the scores, but on the axis of the queries. The keys are the last axis: `mask[:, None, "
            ":]`.": soft(np.where(mask[:, :, None], scores, -1e9)),
        }
    unless(got, known, right)


GAPS = (  # ids, spans, last_id, input, target
    ([10, 11, 12, 13, 14, 15], [(1, 2), (3, 5)], 99, [10, 99, 12, 98, 15, 1], [99, 11, 98, 13, 14, 97, 1]),
    ([20, 21, 22, 23, 24, 25, 26], [(0, 3), (5, 7)], 50, [50, 23, 24, 49, 1], [50, 20, 21, 22, 49, 25, 26, 48, 1]),
    ([7, 8, 9], [(0, 3)], 30, [30, 1], [30, 7, 8, 9, 29, 1]),
    ([5], [(0, 1)], 1999, [1999, 1], [1999, 5, 1998, 1]),
    (
        [3, 4, 3, 4, 3, 4, 3, 4],
        [(1, 2), (4, 6), (7, 8)],
        60,
        [3, 60, 3, 4, 59, 3, 58, 1],
        [60, 4, 59, 3, 4, 58, 4, 57, 1],
    ),
)
FIRST = {  # the results of mistakes for the first of them
    "Every hidden token has a sentinel of its own. There is one per span: the model must also find out its length.": [
        [10, 99, 12, 98, 97, 15, 1],
        [99, 11, 98, 13, 97, 14, 96, 1],
    ],
    "`end` is counted as part of the span, or as its length. It is the first position after it: `ids[begin:end]`.": [
        [10, 99, 98, 1],
        [99, 11, 12, 98, 13, 14, 15, 97, 1],
    ],
}


@exercise(points=3)
def gap_exercise(answer: Callable) -> None:
    """ids list of S ints, spans list of (begin, end), last_id int -> (input, target), two lists of ints."""
    for ids, spans, last_id, source, target in GAPS:
        got = call(answer, ids, spans, last_id)
        if not isinstance(got, (tuple, list)) or len(got) != 2 or any(np.ndim(part) != 1 for part in got):
            raise Wrong("Return two lists of ints, the input and the target: `return source, target`.")
        got = [numbers(part, (len(part),), "int").tolist() for part in got]
        sentinels = range(last_id, last_id - len(spans) - 1, -1)
        about = f"ids {ids}, spans {spans} and last_id {last_id}"
        known = {
            "Input and target are swapped. The input is what is left of the sentence.": [target, source],
            "The target is not closed: one more sentinel belongs between its last token and </s>.": [
                source,
                [*target[:-2], 1],
            ],
            "Both lists end with </s>, id 1.": [source[:-1], target[:-1]],
            "The input also ends with </s>, id 1.": [source[:-1], target],
            "The target also ends with </s>, id 1.": [source, target[:-1]],
            "Every gap has the same sentinel, so they cannot be distinguished. The next one is one id lower.": [
                [last_id if i in sentinels else i for i in part] for part in (source, target)
            ],
            "Your sentinels count up, beyond the vocabulary: last_id is its last id. Count down.": [
                [2 * last_id - i if i in sentinels else i for i in part] for part in (source, target)
            ],
            "The input has no sentinels, so it does not show where words are missing.": [
                [i for i in source if i not in sentinels],
                target,
            ],
        }
        for paragraph, lists in (known | (FIRST if ids is GAPS[0][0] else {})).items():
            if got == lists and lists != [source, target]:
                raise Wrong(paragraph)
        for name, own, right in zip(("input", "target"), got, (source, target)):
            if own != right:
                raise Wrong(f"For {about} the {name} is {right}; yours is {own}.")


@exercise(points=1)
def why_frozen(answer: Callable) -> None:
    """No arguments -> the letter of the right reason."""
    chosen(
        answer,
        "c",
        {
            "a": "Its image model handles the words of training about as well as the others: look at the first column.",
            "b": (
                "All three were trained for the same number of steps, on the same images. And the random encoder is "
                "frozen as well."
            ),
            "d": (
                "The random encoder never changes either, and its image model gets almost no unseen words right. "
                "What the vectors encode does matter."
            ),
        },
    )
