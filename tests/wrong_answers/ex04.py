"""Wrong answers to exercises 04."""

import numpy as np


def inside(d, buckets, furthest, take=np.floor, cap=True, exact=None):
    """The bucket of |d| inside its half."""
    half, exact, n = buckets // 2, exact or buckets // 4, np.abs(d)
    growing = np.log(np.maximum(n, 1) / exact) / np.log(furthest / exact) * exact
    far = exact + take(growing)
    return np.where(n < exact, n, np.minimum(far, half - 1) if cap else far).astype(int)


def norm(x, scale, epsilon, centre=False, size=lambda x, e: np.sqrt((x**2).mean(-1, keepdims=True) + e)):
    x = x.astype(np.float32)
    x = x - x.mean(-1, keepdims=True) if centre else x
    return x / size(x, epsilon) * scale


def in_float16(x, scale, epsilon):
    return (x / np.sqrt((x**2).mean(-1, keepdims=True, dtype=x.dtype) + x.dtype.type(epsilon)) * scale).astype(
        np.float32
    )


def softmax(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def masked(scores, mask, off=-1e9, axis=-1):
    return softmax(np.where(mask, scores, off), axis)


def keys(mask):
    return mask[:, None, :]


def no_largest(scores, mask):
    powers = np.exp(scores) * keys(mask)
    return powers / powers.sum(-1, keepdims=True)


def largest_of_all(scores, mask):
    powers = np.exp(scores - scores.max(-1, keepdims=True)) * keys(mask)
    return powers / powers.sum(-1, keepdims=True)


def gaps(ids, spans, last_id, step=-1, close=True, behind=0):
    source, target, place = [], [], 0
    for i, (begin, end) in enumerate(spans):
        source += [*ids[place:begin], last_id + step * i]
        target += [last_id + step * i, *ids[begin : end + behind]]
        place = end + behind
    return [*source, *ids[place:], 1], [*target, *([last_id + step * len(spans)] if close else []), 1]


def one_each(ids, spans, last_id):
    return gaps(ids, [(i, i + 1) for begin, end in spans for i in range(begin, end)], last_id)


def no_sentinels(ids, spans, last_id):
    hidden = {i for begin, end in spans for i in range(begin, end)}
    return [*(token for i, token in enumerate(ids) if i not in hidden), 1], gaps(ids, spans, last_id)[1]


def no_ends(ids, spans, last_id):
    return tuple(part[:-1] for part in gaps(ids, spans, last_id))


WRONG = {
    "distance_bucket": {
        "left and right swapped": (lambda d, b, f: inside(d, b, f) + b // 2 * (d < 0), "Left and right are swapped"),
        "0 on the right": (lambda d, b, f: inside(d, b, f) + b // 2 * (d >= 0), "own position"),
        "one half for both": (inside, "the same buckets"),
        "no cap": (lambda d, b, f: inside(d, b, f, cap=False) + b // 2 * (d > 0), "leave their half"),
        "no logarithm": (
            lambda d, b, f: np.minimum(np.abs(d), b // 2 - 1) + b // 2 * (d > 0),
            "without the logarithm",
        ),
        "rounded": (lambda d, b, f: inside(d, b, f, np.round) + b // 2 * (d > 0), "Take its floor"),
        "a half has a distance each": (
            lambda d, b, f: np.minimum(inside(d, b, f, cap=False, exact=b // 2), b - 1) + b // 2 * (d > 0),
            "quarter",
        ),
        "floats": (lambda d, b, f: (inside(d, b, f) + b // 2 * (d > 0)).astype(float), "return ints"),
        "the table turned": (lambda d, b, f: (inside(d, b, f) + b // 2 * (d > 0)).T, "rows and columns"),
    },
    "t5_norm": {
        "LayerNorm": (lambda x, g, e: norm(x, g, e, centre=True), "That is LayerNorm"),
        "standard deviation": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: np.sqrt(x.var(-1, keepdims=True) + e)),
            "standard deviation",
        ),
        "length 1": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: np.sqrt((x**2).sum(-1, keepdims=True) + e)),
            "length 1",
        ),
        "no scale": (lambda x, g, e: norm(x, 1, e), "scale is missing"),
        "one and scale": (lambda x, g, e: norm(x, 1 + g, e), "1 + g"),
        "no root": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: (x**2).mean(-1, keepdims=True) + e),
            "Take its root",
        ),
        "no epsilon": (lambda x, g, e: norm(x, g, 0.0), "Epsilon is missing"),
        "epsilon outside": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: np.sqrt((x**2).mean(-1, keepdims=True)) + e),
            "outside the root",
        ),
        "one number for all": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: np.sqrt((x**2).mean() + e)),
            "along the last axis",
        ),
        "float16 squared": (in_float16, "infinite in float16"),
    },
    "weights_on_real": {
        "the mask forgotten": (lambda scores, mask: softmax(scores), "mask does nothing"),
        "the careless program": (lambda scores, mask: softmax(scores) * mask[:, :, None], "you masked the queries"),
        "queries masked": (lambda scores, mask: masked(scores, mask[:, :, None]), "on the axis of the queries"),
        "after the softmax": (lambda scores, mask: softmax(scores) * keys(mask), "less than 1"),
        "times the mask": (lambda scores, mask: softmax(scores * keys(mask)), "A score of 0 is not nothing"),
        "upside down": (lambda scores, mask: masked(scores, ~keys(mask)), "upside down"),
        "over the queries": (lambda scores, mask: masked(scores, keys(mask), axis=1), "goes over the queries"),
        "the largest of all": (largest_of_all, "nan"),
        "no largest": (no_largest, "nan"),
    },
    "gap_exercise": {
        "swapped": (lambda *a: gaps(*a)[::-1], "swapped"),
        "not closed": (lambda *a: gaps(*a, close=False), "not closed"),
        "no ends": (no_ends, "Both lists end"),
        "no end of the input": (lambda *a: (gaps(*a)[0][:-1], gaps(*a)[1]), "The input also ends"),
        "no end of the target": (lambda *a: (gaps(*a)[0], gaps(*a)[1][:-1]), "The target also ends"),
        "the same sentinel": (lambda *a: gaps(*a, step=0), "the same sentinel"),
        "counting up": (lambda *a: gaps(*a, step=1), "count up"),
        "no sentinels": (no_sentinels, "has no sentinels"),
        "one for each token": (one_each, "sentinel of its own"),
        "end included": (lambda *a: gaps(*a, behind=1), "`end`"),
        "only the input": (lambda *a: gaps(*a)[0], "two lists"),
    },
    "why_frozen": {
        "a": (lambda: "a", "first column"),
        "b": (lambda: "b", "same number of steps"),
        "d": (lambda: "d", "does matter"),
    },
}
