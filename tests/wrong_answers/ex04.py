"""Wrong answers to exercises 04."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import NOT_LETTERS


def inside(d, buckets, furthest, take=np.floor, cap=True, exact=None):
    """The bucket of |d| inside its half."""
    half, exact, n = buckets // 2, exact or buckets // 4, np.abs(d)
    growing = np.log(np.maximum(n, 1) / exact) / np.log(furthest / exact) * exact
    far = exact + take(growing)
    return np.where(n < exact, n, np.minimum(far, half - 1) if cap else far).astype(int)


def norm(x, scale, epsilon, centre=False, size=lambda x, e: jnp.sqrt((x**2).mean(-1, keepdims=True) + e)):
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True) if centre else x
    return x / size(x, epsilon) * scale


def in_float16(x, scale, epsilon):
    return (x / jnp.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale).astype(jnp.float32)


def numpy_norm(x, scale, epsilon):
    x = np.asarray(x, np.float32)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def softmax(scores, axis=-1):
    powers = jnp.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def masked(scores, mask, off=-1e9, axis=-1):
    return softmax(jnp.where(mask, scores, off), axis)


def keys(mask):
    return mask[:, None, :]


def no_largest(scores, mask):
    powers = jnp.exp(scores) * keys(mask)
    return powers / powers.sum(-1, keepdims=True)


def largest_of_all(scores, mask):
    powers = jnp.exp(scores - scores.max(-1, keepdims=True)) * keys(mask)
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


def position_by_position(ids, spans, last_id):
    """The chapter's way: spans as a row of bools, in which those that touch cannot be seen."""
    hidden, source, target, sentinel = np.zeros(len(ids), bool), [], [], last_id + 1
    for begin, end in spans:
        hidden[begin:end] = True
    for i, token in enumerate(ids):
        if hidden[i] and not (i and hidden[i - 1]):
            sentinel -= 1
            source.append(sentinel)
            target.append(sentinel)
        (target if hidden[i] else source).append(token)
    return [*source, 1], [*target, sentinel - 1, 1]


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
        "the chapter's table": (lambda d, b, f: inside(d, 32, 128) + 16 * (d > 0), "chapter's table"),
        "the chapter's end": (lambda d, b, f: inside(d, b, 128) + b // 2 * (d > 0), "Use `furthest`"),
        "floats": (lambda d, b, f: (inside(d, b, f) + b // 2 * (d > 0)).astype(float), "return ints"),
        "the table turned": (lambda d, b, f: (inside(d, b, f) + b // 2 * (d > 0)).T, "rows and columns"),
    },
    "t5_norm": {
        "LayerNorm": (lambda x, g, e: norm(x, g, e, centre=True), "That is LayerNorm"),
        "standard deviation": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: jnp.sqrt(x.var(-1, keepdims=True) + e)),
            "standard deviation",
        ),
        "length 1": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: jnp.sqrt((x**2).sum(-1, keepdims=True) + e)),
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
            lambda x, g, e: norm(x, g, e, size=lambda x, e: jnp.sqrt((x**2).mean(-1, keepdims=True)) + e),
            "outside the root",
        ),
        "one number for all": (
            lambda x, g, e: norm(x, g, e, size=lambda x, e: jnp.sqrt((x**2).mean() + e)),
            "along the last axis",
        ),
        "float16 squared": (in_float16, "are infinite"),
        "float16 returned": (lambda x, g, e: norm(x, g, e).astype(x.dtype), "it returns float16"),
        "numpy": (numpy_norm, "jax.jit"),
    },
    "weights_on_real": {
        "the mask forgotten": (lambda scores, mask: softmax(scores), "mask does nothing"),
        "the careless program": (lambda scores, mask: softmax(scores) * mask[:, :, None], "you masked the queries"),
        "queries masked": (lambda scores, mask: masked(scores, mask[:, :, None]), "on the axis of the queries"),
        "after the softmax": (lambda scores, mask: softmax(scores) * keys(mask), "less than 1"),
        "times the mask": (lambda scores, mask: softmax(scores * keys(mask)), "That is not nothing"),
        "upside down": (lambda scores, mask: masked(scores, ~keys(mask)), "upside down"),
        "over the queries": (lambda scores, mask: masked(scores, keys(mask), axis=1), "goes over the queries"),
        "a number that is not low enough": (lambda scores, mask: masked(scores, keys(mask), -100.0), "not low enough"),
        "a number taken off": (lambda scores, mask: softmax(scores - 1e4 * ~keys(mask)), "whatever they are"),
        "the largest of all": (largest_of_all, "nan"),
        "no largest": (no_largest, "nan"),
    },
    "gap_exercise": {
        "touching spans merged": (position_by_position, "touch"),
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


def bucket_by_loop(distance, buckets, furthest):
    def one(d):
        n, e = abs(int(d)), buckets // 4
        far = e + int(e * math.log(max(n, e) / e, furthest / e)) if n >= e else n
        return min(far, 2 * e - 1) + (2 * e if d > 0 else 0)

    return [[one(d) for d in row] for row in distance]


def bucket_by_jnp(distance, buckets, furthest):
    e, n = buckets // 4, jnp.abs(distance)
    far = e + (jnp.log(jnp.maximum(n, e) / e) / math.log(furthest / e) * e).astype(int)
    return jnp.minimum(jnp.where(n < e, n, far), 2 * e - 1) + 2 * e * (distance > 0)


def bucket_in_place(distance, buckets, furthest):
    right = distance > 0
    distance[right] *= 1
    np.abs(distance, out=distance)
    return inside(distance, buckets, furthest) + buckets // 2 * right


def table(inner=inside, high=lambda b: b // 2, right=lambda d: d > 0):
    return lambda d, b, f: inner(d, b, f) + high(b) * right(d)


def jnorm(x, scale, epsilon, to=jnp.float32, after=None, axis=-1):
    x = x.astype(to)
    y = x / jnp.sqrt((x**2).mean(axis, keepdims=True) + epsilon) * scale
    return y if after is None else y.astype(after)


def row_by_row(x, scale, epsilon):
    rows = [row / jnp.sqrt(row @ row / len(row) + epsilon) for row in x.astype(jnp.float32).reshape(-1, x.shape[-1])]
    return (jnp.stack(rows) * scale).reshape(x.shape)


def real(scores, mask, low=-jnp.inf, **options):
    return jax.nn.softmax(jnp.where(mask[:, None, :], scores, low), **options)


def short_captions(scores, mask):
    """As if real tokens always came first."""
    mask = jnp.arange(scores.shape[-1]) < mask.sum(-1, keepdims=True)
    return real(scores, mask)


def shift_all(scores, mask):
    kept = jnp.where(mask[:, None, :], scores, -jnp.inf)
    powers = jnp.exp(kept - kept.max())
    return powers / powers.sum(-1, keepdims=True)


def no_shift(scores, mask):
    powers = jnp.where(mask[:, None, :], jnp.exp(scores), 0)
    return powers / powers.sum(-1, keepdims=True)


def in_place(scores, mask):
    scores = np.array(scores)
    scores[np.broadcast_to(~np.asarray(mask)[:, None, :], scores.shape)] = -np.inf
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


def caption_by_caption(scores, mask):
    one = lambda scores, mask: jnp.exp(jax.nn.log_softmax(jnp.where(mask, scores, -1e30)))
    return jax.vmap(jax.vmap(one, (0, None)))(scores, mask)


def by_hand(scores, mask):
    off = jnp.where(mask, 0.0, -jnp.inf)
    kept = jnp.where(off[:, None] == 0, scores, -jnp.inf)
    largest = jnp.max(kept, axis=2, keepdims=True)
    powers = jnp.exp(kept - largest)
    return jnp.einsum("bqk,bq->bqk", powers, 1 / powers.sum(2))


def by_value(ids, spans, last_id):
    """Finds tokens by their value."""
    cut = [token for begin, end in spans for token in ids[begin:end]]
    source, target = [], []
    for i, token in enumerate(ids):
        begins = [k for k, (begin, _) in enumerate(spans) if begin == i]
        source += [last_id - k for k in begins] or ([token] if token not in cut else [])
    for k, (begin, end) in enumerate(spans):
        target += [last_id - k, *ids[begin:end]]
    return [*source, 1], [*target, last_id - len(spans), 1]


def spoils(ids, spans, last_id):
    answer = gaps(ids, spans, last_id)
    ids.clear()
    return answer


def from_the_back(ids, spans, last_id):
    source, target = np.array(ids), []
    for i, (begin, end) in [*enumerate(spans)][::-1]:
        target = np.concatenate([[last_id - i], source[begin:end], target]).astype(int)
        source = np.concatenate([source[:begin], [last_id - i], source[end:]])
    return np.append(source, 1), np.append(target, [last_id - len(spans), 1])


REFUSED = {
    "distance_bucket": {
        "the chapter's table": lambda d, b, f: table()(d, 32, 128),
        "the chapter's end": lambda d, b, f: table()(d, b, 128),
        "rounded up": table(lambda d, b, f: inside(d, b, f, np.ceil)),
        "no half added": lambda d, b, f: inside(d, b, f) + (d > 0),
        "a quarter added": table(high=lambda b: b // 4),
        "binary logarithm": table(
            lambda d, b, f: np.where(
                np.abs(d) < b // 4, np.abs(d), np.minimum(b // 4 + np.log2(np.maximum(np.abs(d), 1)), b // 2 - 1)
            ).astype(int)
        ),
        "only one direction": lambda d, b, f: inside(np.minimum(d, 0), b, f),
        "one less": table(lambda d, b, f: np.maximum(inside(d, b, f) - 1, 0)),
        "one more at E": table(lambda d, b, f: np.minimum(inside(d, b, f) + (np.abs(d) >= b // 4), b // 2 - 1)),
        "capped at 2 E": table(lambda d, b, f: np.minimum(inside(d, b, f, cap=False), b // 2)),
        "negative on the left": lambda d, b, f: inside(d, b, f) * np.sign(d),
        "the first row for all": lambda d, b, f: np.broadcast_to(table()(d[:1], b, f), d.shape),
        "changes its argument": bucket_in_place,
        "flat": lambda d, b, f: table()(d, b, f).ravel(),
    },
    "t5_norm": {
        "float16 returned": lambda x, g, e: jnorm(x, g, e, after=x.dtype),
        "float64": lambda x, g, e: jnorm(np.asarray(x), np.asarray(g), e, to=np.float64),
        "numpy": numpy_norm,
        "a list": lambda x, g, e: jnorm(x, g, e).tolist(),
        "the first axis": lambda x, g, e: jnorm(x, g, e, axis=0),
        "all but the first axis": lambda x, g, e: jnorm(x, g, e, axis=tuple(range(1, x.ndim)) or None),
        "squared in its own type": lambda x, g, e: jnorm(x, g, e, to=x.dtype).astype(jnp.float32),
        "clipped": lambda x, g, e: jnorm(jnp.clip(x, -255, 255), g, e),
        "a fixed epsilon": lambda x, g, e: jnorm(x, g, 1e-6),
        "epsilon squared": lambda x, g, e: jnorm(x, g, e**2),
        "divided by the scale": lambda x, g, e: jnorm(x, 1 / g, e),
        "the scale's square": lambda x, g, e: jnorm(x, g**2, e),
        "the absolute mean": lambda x, g, e: (
            (x := x.astype(jnp.float32)) / (jnp.abs(x).mean(-1, keepdims=True) + e) * g
        ),
        "D - 1": lambda x, g, e: (
            (x := x.astype(jnp.float32)) / jnp.sqrt((x**2).sum(-1, keepdims=True) / (x.shape[-1] - 1) + e) * g
        ),
        "no axis kept": lambda x, g, e: (x := x.astype(jnp.float32)) / jnp.sqrt((x**2).mean(-1) + e) * g,
        "a zero vector spoiled": lambda x, g, e: jnp.where(jnp.any(x), jnorm(x, g, e), 1.0),
    },
    "weights_on_real": {
        "-100 at padding": lambda scores, mask: real(scores, mask, -100.0),
        "-30 at padding": lambda scores, mask: real(scores, mask, -30.0),
        "-10,000 at padding": lambda scores, mask: real(scores, mask, -1e4),
        "10,000 taken off": lambda scores, mask: jax.nn.softmax(scores - 1e4 * ~mask[:, None, :]),
        "a billion taken off, no largest": lambda scores, mask: no_shift(scores - 1e9 * ~mask[:, None, :], mask),
        "one largest for all": shift_all,
        "no largest": no_shift,
        "0 at padding": lambda scores, mask: real(scores, mask, 0.0),
        "numpy": lambda scores, mask: masked(np.asarray(scores), np.asarray(mask)[:, None, :], -np.inf),
        "numpy, in place": in_place,
        "real tokens first": short_captions,
        "one mask for all": lambda scores, mask: real(scores, mask[:1]),
        "any caption's tokens": lambda scores, mask: real(scores, mask.any(0)[None]),
        "over the queries": lambda scores, mask: real(scores, mask, axis=1),
        "logarithms": lambda scores, mask: jnp.log(real(scores, mask) + 1e-9),
        "shares of scores": lambda scores, mask: (
            scores * mask[:, None] / jnp.abs(scores * mask[:, None]).sum(-1, keepdims=True)
        ),
        "sums to 1 over all": lambda scores, mask: real(scores, mask) / scores.shape[1],
        "turned": lambda scores, mask: real(scores, mask).swapaxes(1, 2),
        "no gradient": lambda scores, mask: jax.lax.stop_gradient(real(scores, mask)),
    },
    "gap_exercise": {
        "touching spans merged": position_by_position,
        "tokens by value": by_value,
        "changes its argument": spoils,
        "from the second": lambda ids, spans, last: gaps(ids, spans, last - 1),
        "the last span only": lambda ids, spans, last: gaps(ids, spans[-1:], last),
        "two spans only": lambda ids, spans, last: gaps(ids, spans[:2], last),
        "closed by the last sentinel": lambda ids, spans, last: (
            gaps(ids, spans, last)[0],
            [*gaps(ids, spans, last)[1][:-2], last - len(spans) + 1, 1],
        ),
        "ended by 0": lambda *a: tuple([*part[:-1], 0] for part in gaps(*a)),
        "the rest forgotten": lambda ids, spans, last: gaps(ids[: spans[-1][1]], spans, last),
        "spans as lengths": lambda ids, spans, last: gaps(ids, [(begin, begin + end) for begin, end in spans], last),
        "floats": lambda *a: tuple(np.array(part, float) for part in gaps(*a)),
        "text": lambda *a: tuple(" ".join(map(str, part)) for part in gaps(*a)),
        "in one list": lambda *a: [*gaps(*a)[0], *gaps(*a)[1]],
        "counted from the end": lambda ids, spans, last: gaps(ids, spans, last - len(spans) + 1, step=1),
        "the first example": lambda *a: ([10, 99, 12, 98, 15, 1], [99, 11, 98, 13, 14, 97, 1]),
    },
    "why_frozen": NOT_LETTERS,
}

UNUSUAL = {
    "distance_bucket": {"a loop": bucket_by_loop, "jnp": bucket_by_jnp},
    "t5_norm": {
        "row by row": row_by_row,
        "rsqrt": lambda x, g, e: (
            (x := x.astype(jnp.float32))
            * jax.lax.rsqrt(jnp.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1] + e)
            * g
        ),
        "by the norm": lambda x, g, e: (
            g * (x := jnp.float32(x)) / jnp.sqrt(jnp.linalg.norm(x, axis=-1, keepdims=True) ** 2 / x.shape[-1] + e)
        ),
    },
    "weights_on_real": {
        "the chapter's number": lambda scores, mask: real(scores, mask, -1e9),
        "by vmap": caption_by_caption,
        "by hand": by_hand,
        "where": lambda scores, mask: jax.nn.softmax(scores, where=mask[:, None, :]),
    },
    "gap_exercise": {
        "from the back, in arrays": from_the_back,
        "a list of two tuples": lambda *a: [tuple(part) for part in gaps(*a)],
    },
    "why_frozen": {"a capital": lambda: " C ", "numpy's text": lambda: np.str_("c")},
}
