"""Exercises 04: a frozen T5."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks.tracing import gradient, weights


def _bucket(d: int, buckets: int, furthest: int) -> int:
    """The bucket of one distance, by whole numbers only: n is past begin k if (n / E)^E >= (L / E)^k."""
    e, n = buckets // 4, abs(d)
    past = sum(n**e * e**k >= e**e * furthest**k for k in range(1, e))
    return (n if n < e else e + past) + (buckets // 2 if d > 0 else 0)


def _table(side: Callable = lambda d: d > 0, take: Callable = np.floor, cap: bool = True) -> Callable:
    """The formula with a mistake: side(d) is whether a key has the second half."""

    def wrong(d: np.ndarray, buckets: int, furthest: int) -> np.ndarray:
        n, exact = np.abs(d), buckets // 4
        far = exact + take(np.log(np.maximum(n, 1) / exact) / np.log(furthest / exact) * exact + 1e-9)
        far = np.minimum(far, buckets // 2 - 1) if cap else far
        return np.where(n < exact, n, far) + buckets // 2 * side(d)

    return wrong


def _half_exact(d: np.ndarray, buckets: int, furthest: int) -> np.ndarray:
    """E = buckets / 2: half of the buckets have a distance each."""
    n, exact = np.abs(d), buckets // 2
    far = exact + np.floor(np.log(np.maximum(n, 1) / exact) / np.log(furthest / exact) * exact + 1e-9)
    return np.minimum(np.where(n < exact, n, far), buckets - 1) + buckets // 2 * (d > 0)


# No distance at which the floor is taken of a whole number: rounding would decide there.
DISTANCES = [
    (np.arange(-2, 3)[None], 8, 20),
    (np.arange(4)[None, :] - np.arange(3)[:, None], 16, 40),
    (np.array([[-1, 5, -6, 7, -8, 9, 12, -13, 22, -23]]), 16, 40),
    (np.array([[-200, -91, -90, -63, -33, -17, 0], [200, 91, 90, 63, 33, 17, 1]]), 32, 128),
    (np.array([[-7, 7], [-8, 8], [-11, 11], [-12, 12], [-15, 15], [-23, 22]]), 32, 128),
    (np.array([[-5000, 5000, -127, 129, -3, 3, -1]]), 32, 128),
    (np.array([[-300, 300], [40, -70], [-17, 18], [15, -16]]), 64, 250),
]


@exercise(points=3)
def distance_bucket(answer: Callable) -> None:
    """distance int [Q, K], buckets int, furthest int -> int [Q, K]."""
    compare(
        answer,
        DISTANCES,
        lambda distance, buckets, furthest: [[_bucket(int(d), buckets, furthest) for d in row] for row in distance],
        {
            "Left and right are swapped: d = j - i is positive where the key is on the right, and these keys have the "
            "second half.": _table(lambda d: d < 0),
            "A token's own position, d = 0, belongs to the first half, to bucket 0.": _table(lambda d: d >= 0),
            "Left and right have the same buckets, so T5 could not know on which side a word is: keys on the right are "
            "half a table higher.": _table(lambda d: 0 * d),
            "Far distances leave their half. The bucket inside a half is at most 2 E - 1.": _table(cap=False),
            "Distances are clipped at 2 E - 1, without the logarithm: far ones share buckets too soon.": (
                lambda d, b, f: np.minimum(np.abs(d), b // 2 - 1) + b // 2 * (d > 0)
            ),
            "You round the logarithm to the nearest number. Take its floor.": _table(take=np.round),
            "You round the logarithm up. Take its floor.": _table(take=np.ceil),
            "Half of the buckets have one distance each. It is a quarter: E = buckets / 4.": _half_exact,
            "This is the chapter's table of 32 buckets and distances up to 128. Use `buckets` and `furthest`.": (
                lambda d, b, f: _table()(d, 32, 128)
            ),
            "The logarithm always ends at 128, as in the chapter. Use `furthest`.": lambda d, b, f: _table()(d, b, 128),
        },
        kind="int",
    )


def _vectors(seed: int, shape: tuple[int, ...], dtype: Any = jnp.float32, size: float = 1.0) -> tuple:
    """x and scale of t5_norm; x is exact in its own type."""
    rng = np.random.default_rng(seed)
    x = jnp.asarray((rng.normal(size=shape) + 0.7) * size, dtype)
    return x, jnp.asarray(rng.uniform(1.5, 3, shape[-1]), jnp.float32)


def _normed(x: jax.Array, scale: jax.Array, epsilon: float) -> np.ndarray:
    """Vector by vector, in float64."""
    vectors = np.asarray(x, float).reshape(-1, x.shape[-1])
    roots = [math.sqrt(math.fsum(value * value for value in vector) / len(vector) + epsilon) for vector in vectors]
    return (vectors / np.array(roots)[:, None] * np.asarray(scale)).reshape(x.shape)


def _norm(divisor: Callable, centred: bool = False, factor: Callable = lambda g: g) -> Callable:
    """A norm with a mistake: divisor(x, epsilon) is what x is divided by."""

    def wrong(x: Any, scale: jax.Array, epsilon: float) -> np.ndarray:
        x = np.asarray(x, float)
        return (x - x.mean(-1, keepdims=True) * centred) / divisor(x, epsilon) * factor(np.asarray(scale))

    return wrong


def _root(x: np.ndarray, epsilon: float) -> np.ndarray:
    return np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def _spread(x: np.ndarray, epsilon: float) -> np.ndarray:
    return np.sqrt(x.var(-1, keepdims=True) + epsilon)


def _in_own_type(x: jax.Array, scale: jax.Array, epsilon: float) -> np.ndarray:
    square = (np.asarray(x) ** 2).astype(float)
    return np.asarray(x, float) / np.sqrt(square.mean(-1, keepdims=True) + epsilon) * np.asarray(scale)


@exercise(points=2)
def t5_norm(answer: Callable) -> None:
    """x float16 or float32 [..., D], scale float32 [D], epsilon float -> float32, the shape of x."""
    cases = [
        (*_vectors(0, (2,)), 1e-6),
        (*_vectors(1, (1, 5)), 0.5),
        (*_vectors(2, (2, 3, 8), size=0.1), 0.01),
        (*_vectors(3, (4, 1, 2, 6), size=3.0), 1e-6),
        (*_vectors(4, (2, 4), jnp.float16), 1e-6),
        (*_vectors(5, (2, 4), jnp.float16, 400.0), 1e-6),
        (*_vectors(6, (2, 4), jnp.float16, 600.0), 1e-6),
    ]
    mistakes = {
        "That is LayerNorm: it subtracts the mean first. T5 keeps the mean, and divides by the root mean square.": (
            _norm(_spread, centred=True)
        ),
        "You divide by the standard deviation, which subtracts the mean. T5 uses the root of the mean of x² itself.": (
            _norm(_spread)
        ),
        "The vectors have length 1. Divide by the root of the mean of the squares, not of their sum.": (
            _norm(lambda x, epsilon: np.sqrt((x**2).sum(-1, keepdims=True) + epsilon))
        ),
        "The scale is missing. Multiply by g at the end.": _norm(_root, factor=lambda g: 1),
        "You multiply by 1 + g, as some networks do; T5 multiplies by g.": _norm(_root, factor=lambda g: 1 + g),
        "You divide by g. It is a factor.": _norm(_root, factor=lambda g: 1 / g),
        "You divide by the mean square. Take its root.": _norm(lambda x, epsilon: _root(x, epsilon) ** 2),
        "Epsilon is missing, or so small that it does nothing.": _norm(lambda x, epsilon: _root(x, 0.0)),
        "Epsilon is outside the root. Add it to the mean square, then take the root.": (
            _norm(lambda x, epsilon: _root(x, 0.0) + epsilon)
        ),
        "All vectors are divided by one number. The mean goes only along the last axis, with `keepdims=True`.": (
            _norm(lambda x, epsilon: np.sqrt((x**2).mean() + epsilon))
        ),
        "The squares of float16 numbers such as 300 are infinite. Convert x to float32 before it.": _in_own_type,
    }
    program = compiled(answer)
    compare(program, cases, _normed, mistakes, tolerance=2e-3)
    for x, *others in cases:
        if (dtype := getattr(call(program, x, *others), "dtype", None)) != np.float32:
            raise Wrong(f"The values are right, but for {x.dtype} it returns {dtype or 'no array'}. Return float32.")
    zero = jnp.zeros((2, 4), jnp.float16)
    if np.any(call(program, zero, jnp.ones(4), 1e-6) != zero):
        raise Wrong("A vector of zeros must stay zero. Add epsilon inside the root, in float32: float16 ends at 6e-8.")


def _scores(*rows: list[float]) -> jax.Array:
    return jnp.asarray([rows], jnp.float32)


def _random_scores(seed: int, b: int, q: int, s: int, junk: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Scores [B, Q, S] in quarters, which floats hold exactly, and a mask: in every second caption padding is first."""
    rng = np.random.default_rng(seed)
    mask = np.arange(s) < rng.integers(1, s, (b, 1))
    mask[1::2] = mask[1::2, ::-1]
    scores = rng.integers(-8, 8, (b, q, s)) / 4 + junk * np.logical_not(mask)[:, None, :]
    return jnp.asarray(scores, jnp.float32), jnp.asarray(mask)


def _weights(scores: Any, mask: Any) -> np.ndarray:
    """Each caption by itself, without its padding."""
    scores, mask = np.asarray(scores, float), np.asarray(mask)
    right = np.zeros(scores.shape)
    for i, j in np.ndindex(scores.shape[:2]):
        own = scores[i, j, mask[i]]
        powers = [math.exp(score - max(own)) for score in own]
        right[i, j, mask[i]] = np.array(powers) / math.fsum(powers)
    return right


def _soft(scores: Any, axis: int = -1) -> np.ndarray:
    scores = np.asarray(scores, float)
    powers = np.exp(scores - scores.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _on(mask: Any) -> np.ndarray:
    return np.asarray(mask)[:, None, :]


PADDING_SEEN = {
    "Padding still gets attention: the mask does nothing.": lambda scores, mask: _soft(scores),
    "The weights of padding are 0 now, but they were removed after the softmax: the others add up to less than 1. Mask "
    "the scores, before the softmax.": lambda scores, mask: _soft(scores) * _on(mask),
    "Padding has the score 0. That is not nothing: exp of it is 1. Padding needs a score of minus infinity: exp "
    "of that is 0.": lambda scores, mask: _soft(scores * _on(mask)),
    "The mask is upside down: the weights are on padding, and real tokens get none. True is a real token.": (
        lambda scores, mask: _soft(np.where(_on(mask), -1e9, scores))
    ),
    "The softmax goes over the queries. Each query's weights must add up to 1, along the last axis.": (
        lambda scores, mask: _soft(np.where(_on(mask), scores, -1e9), 1)
    ),
    "Rows of padding are 0 now, but real tokens still attend to padding: you masked the queries. The keys are the last "
    "axis: `mask[:, None, :]`.": lambda scores, mask: _soft(scores) * np.asarray(mask)[:, :, None],
    "The mask is on the scores, but on the axis of the queries. The keys are the last axis: `mask[:, None, :]`.": (
        lambda scores, mask: _soft(np.where(np.asarray(mask)[:, :, None], scores, -1e9))
    ),
    "All captions are masked like the first one. Each has a mask of its own.": (
        lambda scores, mask: _soft(np.where(_on(mask)[:1], scores, -1e9))
    ),
}


def _without_nan(value: Any) -> Any:
    """The value as it is; Wrong if it holds nan."""
    if getattr(value, "dtype", None) is not None and np.isnan(np.asarray(value, float)).any():
        raise Wrong(
            "There are values that are not numbers (nan). Scores may be large, those of padding and those of other "
            "queries: from each query's scores subtract the largest one of its real keys before you take the "
            "exponential. `jax.nn.softmax` does that."
        )
    return value


def _padding_is_excluded(answer: Callable) -> None:
    """Raise Wrong if padding only has a lower score, not none."""
    mask = jnp.array([[True, True, False]])
    low = _scores([-200, -201, 0], [-20_000, -20_001, 0], [0, 0, 0])
    loud = _scores([0, 1, 1e6], [1e6, 0, 0], [0, 0, 0])
    low, loud = (numbers(_without_nan(call(answer, scores, mask)), (1, 3, 3))[..., 2] for scores in (low, loud))
    if loud.any():
        raise Wrong(
            "Where a score of padding is 1,000,000, padding gets attention: you take a number off its scores. Replace "
            "them by `-jnp.inf`, whatever they are."
        )
    if low.any():
        raise Wrong(
            "Where real scores are -200, or -20,000, padding gets attention: its score is a number that is not low "
            "enough. Replace the scores of padding by `-jnp.inf`."
        )


@exercise(points=3)
def weights_on_real(answer: Callable) -> None:
    """scores float [B, Q, S], mask bool [B, S] -> weights float [B, Q, S]."""
    first, last = jnp.array([[True, True, False]]), jnp.array([[False, True, True]])
    square = [_random_scores(0, 1, 3, 3), _random_scores(1, 1, 3, 3), _random_scores(2, 4, 5, 5)]
    cases = [
        (_scores([0, 0.5, 1], [-1, -2, -3]), last),
        (_scores([900, 901, 0], [901, 903, 9]), first),
        (_scores([0, 1, 0], [900, 901, 0]), first),
        (_scores([3, 7.5, 1000], [900, 0, 1]), last),
        *(_random_scores(seed, 3, 2, 4, junk) for seed, junk in ((3, 0.0), (4, 2000.0), (5, -2000.0))),
    ]
    program = compiled(answer)
    compare(program, square, _weights, PADDING_SEEN, read=_without_nan)
    _padding_is_excluded(program)
    compare(program, cases, _weights, PADDING_SEEN, read=_without_nan)
    p = _weights(*cases[-1])
    weight = weights(p.shape)
    by_score = numbers(gradient(answer)(*cases[-1]), p.shape)
    if not np.allclose(by_score, p * (weight - (p * weight).sum(-1, keepdims=True)), atol=1e-3):
        raise Wrong("The weights are right, but their gradient with respect to the scores is not.")


GAPS = [  # ids, spans, last_id
    ([5], [(0, 1)], 1999),
    ([7, 8, 9], [(0, 3)], 30),
    ([10, 11, 12, 13], [(1, 2), (2, 3)], 99),
    ([10, 11, 12, 13, 14, 15], [(1, 2), (3, 5)], 99),
    ([20, 21, 22, 23, 24, 25, 26], [(0, 3), (5, 7)], 50),
    ([3, 4, 3, 4, 3, 4, 3, 4], [(1, 2), (4, 6), (7, 8)], 60),
    ([9, 9, 9, 9, 9, 9], [(0, 2), (2, 5), (5, 6)], 40),
    ([*range(100, 130)], [(2, 4), (9, 10), (17, 22), (24, 25), (28, 29)], 1099),
]


def _gaps(ids: list[int], spans: list[tuple[int, int]], last_id: int) -> tuple[list[int], list[int]]:
    """From back to front: every span is replaced by its sentinel in place."""
    source, target = list(ids), [last_id - len(spans), 1]
    for i in reversed(range(len(spans))):
        begin, end = spans[i]
        source[begin:end] = [last_id - i]
        target = [last_id - i, *ids[begin:end], *target]
    return [*source, 1], target


def _renamed(rename: Callable[[int, int], int]) -> Callable:
    """A mistake in the names of sentinels: rename(last_id, number of the sentinel)."""

    def wrong(ids: list[int], spans: list, last_id: int) -> tuple[list[int], ...]:
        names = {last_id - i: rename(last_id, i) for i in range(len(spans) + 1)}
        return tuple([names.get(token, token) for token in part] for part in _gaps(ids, spans, last_id))

    return wrong


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in spans:
        if merged and merged[-1][1] == begin:
            begin = merged.pop()[0]
        merged.append((begin, end))
    return merged


def _without_sentinels(ids: list[int], spans: list, last_id: int) -> tuple[list[int], list[int]]:
    source, target = _gaps(ids, spans, last_id)
    return [token for token in source if not last_id - len(spans) < token <= last_id], target


def _end_inside(ids: list[int], spans: list, last_id: int) -> tuple[list[int], list[int]]:
    """The end belongs to the span; where spans touch, its token is in both."""
    source, target, place = [], [], 0
    for i, (begin, end) in enumerate(spans):
        source += [*ids[place:begin], last_id - i]
        target += [last_id - i, *ids[begin : end + 1]]
        place = end + 1
    return [*source, *ids[place:], 1], [*target, last_id - len(spans), 1]


GAP_MISTAKES = {
    "Input and target are swapped. The input is what is left of the sentence.": lambda *a: _gaps(*a)[::-1],
    "The target is not closed: one more sentinel belongs between its last token and </s>.": (
        lambda *a: (_gaps(*a)[0], [*_gaps(*a)[1][:-2], 1])
    ),
    "Both lists end with </s>, id 1; yours do not.": lambda *a: tuple(part[:-1] for part in _gaps(*a)),
    "The input also ends with </s>, id 1.": lambda *a: (_gaps(*a)[0][:-1], _gaps(*a)[1]),
    "The target also ends with </s>, id 1.": lambda *a: (_gaps(*a)[0], _gaps(*a)[1][:-1]),
    "Every span has the same sentinel. The next span has the next one, one id lower.": _renamed(lambda last, i: last),
    "Your sentinels count up, beyond the vocabulary. Count down.": _renamed(lambda last, i: last + i),
    "The first sentinel is `last_id` itself, not the id below it.": _renamed(lambda last, i: last - 1 - i),
    "The input has no sentinels, so it does not show where words are missing.": _without_sentinels,
    "Every hidden token has a sentinel of its own. There is one per span: the model must also find out its length.": (
        lambda ids, spans, last: _gaps(ids, [(i, i + 1) for begin, end in spans for i in range(begin, end)], last)
    ),
    "`end` is counted as part of the span. It is the first position after it: `ids[begin:end]`.": _end_inside,
    "Spans that touch became one. Each span has a sentinel of its own, even where the next one begins at its end.": (
        lambda ids, spans, last_id: _gaps(ids, _merged(spans), last_id)
    ),
}


def _two_lists(value: Any) -> list[list[int]]:
    """An answer's two lists; Wrong for anything else."""
    parts = pair(value, "return source, target")
    if any(np.ndim(part) != 1 for part in parts):
        raise Wrong("Return two lists of ints, the input and the target: `return source, target`.")
    return [numbers(part, (len(part),), "int").tolist() for part in parts]


@exercise(points=3)
def gap_exercise(answer: Callable) -> None:
    """ids list of S ints, spans list of (begin, end), last_id int -> (input, target), two lists of ints."""
    right = [[*_gaps(*case)] for case in GAPS]
    got = [_two_lists(call(answer, *case)) for case in GAPS]
    for paragraph, mistake in GAP_MISTAKES.items():
        made = [[*mistake(*case)] for case in GAPS]
        if made == got and sum(one != other for one, other in zip(made, right)) >= 2:
            raise Wrong(paragraph)
    for case, yours, expected in zip(GAPS, got, right):
        if yours != expected:
            table = dict(zip(("ids", "spans", "last_id"), map(str, case)))
            for name, own, other in zip(("input", "target"), yours, expected):
                if own != other:
                    table |= {f"your {name}": str(own), "right": str(other)}
                    raise Wrong(f"Not every {name} is right. The smallest example that is not:", table)


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
