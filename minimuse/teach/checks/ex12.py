"""Exercises 12: does it work?"""

import functools
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, compare, compiled, exercise, numbers
from minimuse.teach.checks.judges import outlier, place, scored, standard

Object = tuple[str | None, str]  # a colour, or None for any, and a name
Lists = Sequence[Sequence[Object]]


# --- 1: asked and exact ---------------------------------------------------------------------------------------------


def _fits(wish: Object, thing: Object) -> bool:
    return wish[1] == thing[1] and wish[0] in (None, thing[0])


def _each_its_own(wishes: Sequence[Object], things: Sequence[Object]) -> bool:
    """Whether every wish can have an object of its own, by trying all ways."""
    return any(all(map(_fits, wishes, some)) for some in permutations(things, len(wishes)))


def _shares(wishes: Lists, seen: Lists, asked: Callable = _each_its_own, exact: Callable | None = None) -> np.ndarray:
    """The shares of pictures that are as asked, and exact, if one picture is judged by these functions."""
    exact = exact or (lambda w, t: asked(w, t) and len(w) == len(t))
    return np.array([[asked(w, t), exact(w, t)] for w, t in zip(wishes, seen)]).mean(0)


def _present(wishes: Sequence[Object], things: Sequence[Object]) -> bool:
    return all(any(_fits(wish, thing) for thing in things) for wish in wishes)


def _in_turn(wishes: Sequence[Object], things: Sequence[Object]) -> bool:
    """Each wish in turn takes the first object left that fits."""
    left = list(things)
    for wish in wishes:
        if not (fitting := [thing for thing in left if _fits(wish, thing)]):
            return False
        left.remove(fitting[0])
    return True


CAT, DOG, RED, BLUE, HEART = (None, "cat"), (None, "dog"), ("red", "heart"), ("blue", "heart"), (None, "heart")
GREY_CAT, WHITE_CAT, BROWN_DOG = ("grey", "cat"), ("white", "cat"), ("brown", "dog")
PICTURES: list[tuple[Lists, Lists]] = [
    ([[CAT]], [[GREY_CAT]]),
    ([[CAT]], [[]]),
    ([[CAT]], [[GREY_CAT, BROWN_DOG]]),
    ([[CAT, CAT]], [[GREY_CAT]]),
    ([[CAT, CAT]], [[WHITE_CAT, BROWN_DOG]]),
    ([[RED]], [[BLUE]]),
    ([[]], [[BROWN_DOG]]),
    ([[]], [[]]),
    ([[RED, DOG]], [[BROWN_DOG, RED]]),
    ([[HEART, RED]], [[RED, BLUE]]),
    ([[HEART, RED]], [[BLUE, RED]]),
    ([[HEART, HEART, RED]], [[RED, BLUE, BLUE]]),
    ([[CAT], [DOG]], [[GREY_CAT, GREY_CAT], [BROWN_DOG]]),
    ([[CAT, DOG], [RED, RED], [CAT]], [[BROWN_DOG, WHITE_CAT], [RED, BLUE, RED], [BROWN_DOG]]),
    ([[BLUE, RED], [CAT, RED], [CAT, CAT, DOG]], [[RED, BLUE], [BLUE, GREY_CAT], [GREY_CAT, BROWN_DOG, WHITE_CAT]]),
]


@exercise(points=3)
def asked_and_exact(answer: Callable) -> None:
    """wishes, seen: B lists of (colour, name) -> the shares of pictures that are as asked, and exact."""
    compare(
        answer,
        PICTURES,
        _shares,
        {
            "One object grants two wishes: a picture with one cat is not as asked for two cats. Each wish needs an "
            "object of its own.": lambda wishes, seen: _shares(wishes, seen, _present),
            "A wish without a colour takes an object that another wish needs: for “a heart” and “a red heart”, a red "
            "and a blue one are as asked. Grant the wishes with a colour first.": (
                lambda wishes, seen: _shares(wishes, seen, _in_turn)
            ),
            "The second share counts pictures with the right number of objects, whatever they are. Exact means: as "
            "asked, and no object more.": (
                lambda wishes, seen: _shares(wishes, seen, exact=lambda w, t: len(w) == len(t))
            ),
            "Objects too many do no harm to exact. It means: as asked, and no object more.": (
                lambda wishes, seen: _shares(wishes, seen, exact=_each_its_own)
            ),
            "A picture with an object too many is not counted as asked. Only exact forbids it.": (
                lambda wishes, seen: _shares(wishes, seen, lambda w, t: _each_its_own(w, t) and len(w) == len(t))
            ),
            "These are shares of wishes. A picture counts only if all wishes of its caption are granted.": (
                lambda wishes, seen: np.array(
                    [
                        np.mean([any(_fits(wish, thing) for thing in t) for w, t in zip(wishes, seen) for wish in w]),
                        _shares(wishes, seen)[1],
                    ]
                )
            ),
            "The colours are ignored: a wish for a red heart needs a red one.": (
                lambda wishes, seen: _shares([[(None, name) for _, name in w] for w in wishes], seen)
            ),
            "The order is wrong: first the share that is as asked, then the exact one.": (
                lambda wishes, seen: _shares(wishes, seen)[::-1]
            ),
        },
    )


# --- 2: a paired bootstrap ------------------------------------------------------------------------------------------


def _two_models(seed: int, captions: int, draws: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two models, [captions, draws]: captions differ much from each other, and in how much better the first
    model is. Without noise it is better at one caption only."""
    rng = np.random.default_rng(seed)
    hard = 160 * rng.normal(size=(captions, 1))
    better = 2 + 24 * rng.normal(size=(captions, 1)) if noise else captions * np.eye(captions)[:, :1]
    scores = [hard + shift + noise * rng.normal(size=(captions, draws)) for shift in (better, 0.0)]
    return scores[0].astype(np.float32), scores[1].astype(np.float32)


# By the number of captions. At 70 x 1, the one caption that matters comes 0 to 3 times in 95% of the resamples.
MODELS = {sizes[1]: _two_models(*sizes) for sizes in ((1, 70, 1, 0), (3, 40, 3, 25), (4, 60, 8, 30))}


@functools.cache
def _means(captions: int, way: str) -> np.ndarray:
    """The mean differences of many resamples of MODELS[captions], sorted. The way is right, or a mistake's name."""
    own, other = (np.asarray(scores, float) for scores in MODELS[captions])
    rng, samples = np.random.default_rng(0), 40_000
    if way == "first":
        own, other = own[:, :1], other[:, :1]
    if way == "pictures":
        own, other, samples = own.reshape(-1, 1), other.reshape(-1, 1), 10_000
    own, other = own.mean(1), other.mean(1)
    if way == "captions":
        return np.sort(own - other)
    picks = rng.integers(len(own), size=(samples, len(own)))
    again = rng.permuted(picks) if way == "unpaired" else picks
    return np.sort(own[picks].mean(1) - other[again].mean(1))


def _ends(way: str = "right", tails: Sequence[float] = (2.5, 97.5), sign: int = 1) -> Callable:
    """A function of an exercise's arguments that gives the interval; sign -1 gives that of other - own."""
    return lambda own, *_: np.sort(sign * np.percentile(_means(len(own), way), tails))


def _normal(own: Any, other: Any, seed: int, samples: int) -> np.ndarray:
    """The mean and 1.96 standard errors to each side."""
    far = (np.asarray(own, float) - other).mean(1)
    return far.mean() + 1.96 * np.array([-1, 1]) * far.std(ddof=1) / np.sqrt(len(far))


@exercise(points=3)
def difference_interval(answer: Callable) -> None:
    """own, other float [C, D], key, samples -> float [2], the bootstrap's 95% interval of the mean difference."""
    program = compiled(answer, static=(3,))
    seeded = lambda own, other, seed, samples: program(own, other, jax.random.key(seed), samples)
    case = lambda captions, seed=0, samples=20_000: (*map(jnp.asarray, MODELS[captions]), seed, samples)
    right = _ends()
    compare(
        seeded,
        [case(captions) for captions in MODELS],
        lambda own, other, seed, samples: right(own),
        {
            "The two models draw different captions. Resample the captions once, and take both models' scores of the "
            "same ones: otherwise easy and hard captions widen the interval.": _ends("unpaired"),
            "Single pictures are resampled. The pictures of one caption are similar, so they count as too many: "
            "resample captions, each with all its pictures.": _ends("pictures"),
            "That is an interval of 90%: 5% are left out at each end. A 95% interval leaves out 2.5% at each end.": (
                _ends(tails=(5, 95))
            ),
            "These are percentiles of the differences of captions. The interval is that of their mean: take the mean "
            "of every resample first.": _ends("captions"),
            "The sign is wrong: it is own minus other.": _ends(sign=-1),
            "The order is wrong: first the lower end, then the upper one.": lambda own, *_: right(own)[::-1],
            "The interval has no width: every resample has the same captions. Draw with replacement, so that some "
            "come twice and some not at all.": lambda *args: np.full(2, _normal(*args).mean()),
            "Only the first picture of each caption is used. Take the mean of all of them.": _ends("first"),
            "That is the mean and 1.96 standard errors to each side, without a bootstrap. It is not the same where a "
            "few captions make all the difference: use percentiles of resampled means.": _normal,
        },
        tolerance=0.06,
    )
    one, again, another = (numbers(call(seeded, *case(40, seed)), (2,)) for seed in (3, 3, 4))
    if not np.array_equal(one, again):
        raise Wrong("The same key gives another interval in the second call. Take all random numbers from `key`.")
    if np.array_equal(one, another):
        raise Wrong("Another key gives the same interval. Do not make a key inside: use the one that is given.")
    low, high = numbers(call(seeded, *case(40, samples=1)), (2,))
    if low != high:
        raise Wrong("With samples = 1 there is one resample, so both ends are its mean. Here they differ.")


# --- 3: Fréchet distances -------------------------------------------------------------------------------------------


def _frechet(
    x: Any, y: Any, ddof: int = 1, shared: Callable | None = None, factor: float = 2.0, power: float = 2.0
) -> np.ndarray:
    """Fréchet distances [G] of x [G, M, F] and y [G, L, F]. The trace of the root of a product of covariances is the
    sum of singular values of a product of the centred features."""
    found = []
    for one, other in zip(np.asarray(x, float), np.asarray(y, float)):
        a, b = ((v - v.mean(0)) / np.sqrt(len(v) - ddof) for v in (one, other))
        root = shared(a.T @ a, b.T @ b) if shared else np.linalg.svd(a @ b.T, compute_uv=False).sum()
        means = (np.abs(one.mean(0) - other.mean(0)) ** power).sum()
        found.append(means + (a**2).sum() + (b**2).sum() - factor * root)
    return np.array(found)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _features(seed: int, groups: int, own: int, other: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Correlated features x [groups, own, width] and y [groups, other, width]."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(2, groups, width, width)) + np.arange(1, width + 1)
    x, y = (rng.normal(size=(groups, n, width)) @ m / 2 for n, m in zip((own, other), mix))
    y += 1.5 * rng.normal(size=(groups, 1, width))
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


@exercise(points=3)
def frechet_by_task(answer: Callable) -> None:
    """x float [G, M, F], y float [G, L, F] -> Fréchet distances float [G]."""
    sizes = ((1, 4, 5, 1), (2, 3, 2, 4), (2, 9, 12, 2), (4, 20, 14, 3))
    compare(
        compiled(answer),
        [_features(seed, *size) for seed, size in enumerate(sizes)],
        _frechet,
        {
            "The root of each entry of a matrix is not the root of the matrix. Take the roots of its eigenvalues.": (
                lambda x, y: _frechet(x, y, shared=lambda a, b: np.sqrt(np.maximum(a @ b, 0)).trace())
            ),
            "The trace of the product of two roots is not that of the root of the product: the two are equal only if "
            "both covariances have the same eigenvectors.": (
                lambda x, y: _frechet(x, y, shared=lambda a, b: (_root(a) @ _root(b)).trace())
            ),
            "Only the diagonals of the covariances are used, as if features were independent.": (
                lambda x, y: _frechet(x, y, shared=lambda a, b: np.sqrt(np.diag(a) * np.diag(b)).sum())
            ),
            "The covariances divide by M and L. Divide by M - 1 and L - 1, as `jnp.cov` does.": (
                lambda x, y: _frechet(x, y, ddof=0)
            ),
            "The factor 2 is missing before the trace of the root.": lambda x, y: _frechet(x, y, factor=1.0),
            "The means are compared by absolute values. Square their differences, feature by feature.": (
                lambda x, y: _frechet(x, y, power=1.0)
            ),
            "The differences of the means are missing.": lambda x, y: _frechet(x, y - (y.mean(1) - x.mean(1))[:, None]),
            "That is the distance of all tasks together, repeated. Each of the G tasks needs its own.": (
                lambda x, y: _frechet(*(v.reshape(1, -1, v.shape[-1]) for v in (x, y))).repeat(len(x))
            ),
            "That is the root of the distance. Return the distance as the formula gives it.": (
                lambda x, y: np.sqrt(_frechet(x, y))
            ),
        },
        tolerance=1e-2,  # roots of float32 eigenvalues near 0 are off by up to 1e-3
    )


# --- 4: trained against its judge -----------------------------------------------------------------------------------


@exercise(points=3)
def trained_against(answer: Callable) -> None:
    """seen, unseen float [models, judges] -> (model, judge), ints: which model was trained with which judge."""
    sizes = ((5, 3), (6, 3), (5, 4), (7, 3), (6, 5), (9, 4), (8, 6))
    compare(
        answer,
        [scored(seed, *size) for seed, size in enumerate(sizes)],
        lambda seen, unseen: outlier(unseen),
        {
            "That model is better on captions that it has seen: it has memorized them, and all judges see it. A model "
            "that was trained with a judge pleases this judge on unseen captions, too, and no other.": (
                lambda seen, unseen: place(standard(seen) - standard(unseen))
            ),
            "That is the highest score in each judge's own units, which may be an honest model's. Compare each score "
            "with what the other judges say of the same model.": lambda seen, unseen: place(standard(unseen)),
            "That is the largest number, so the judge with the largest numbers decides. Judges have different units: "
            "standardize the scores of each judge first.": lambda seen, unseen: place(unseen),
            "Scores of different judges are compared without their units. Divide the scores of each judge by their "
            "spread over models first.": lambda seen, unseen: outlier(unseen, units=False),
            "The order is wrong: first the model (a row), then the judge (a column).": (
                lambda seen, unseen: outlier(unseen)[::-1]
            ),
            "Count models and judges from 0.": lambda seen, unseen: outlier(unseen) + 1,
        },
        kind="int",
    )


# --- 5: times at equal quality --------------------------------------------------------------------------------------


def _seconds(curve: np.ndarray, level: float, front: bool = True) -> float:
    """The least time at which a curve of (seconds, quality) reaches a level; infinite if it never does."""
    points = sorted(map(tuple, curve.tolist()))
    if front:
        points = [p for i, p in enumerate(points) if all(p[1] > before[1] for before in points[:i])]
    if points[0][1] >= level:
        return points[0][0]
    for (begun, low), (ended, high) in zip(points, points[1:]):
        if low < level <= high:
            return begun + (ended - begun) * (level - low) / (high - low)
    return np.inf


def _ratios(own: np.ndarray, rival: np.ndarray, levels: np.ndarray, seconds: Callable = _seconds) -> np.ndarray:
    return np.array([seconds(rival, level) / seconds(own, level) for level in levels])


def _fastest(curve: np.ndarray, level: float) -> float:
    """The fastest measured setting that is as good."""
    return min((s for s, quality in curve.tolist() if quality >= level), default=np.inf)


def _nearest(curve: np.ndarray, level: float) -> float:
    return curve[np.argmin(np.abs(curve[:, 1] - level)), 0]


CURVES = [
    ([[1, 0.5], [2, 0.7]], [[3, 0.4], [5, 0.8]], [0.6]),
    ([[2, 0.3]], [[4, 0.1], [8, 0.5]], [0.2, 0.3, 0.4]),
    ([[4, 0.8], [1, 0.2], [2, 0.6]], [[9, 0.9], [3, 0.3]], [0.1, 0.2, 0.45, 0.6, 0.75, 0.85]),
    ([[1, 0.4], [2, 0.3], [3, 0.35], [4, 0.8]], [[5, 0.5], [6, 0.45], [10, 0.9]], [0.38, 0.4, 0.6, 0.7]),
    ([[0.5, 0.1], [8, 0.9], [1, 0.5], [2, 0.2], [4, 0.5]], [[6, 0.7], [1, 0.6], [7, 0.95], [2, 0.65]], [0.3, 0.7, 0.9]),
    ([[10, 30], [20, 24], [40, 33], [5, 20]], [[1, 22], [80, 32], [30, 31], [20, 31]], [21, 25, 30.5, 31.5, 32]),
]


@exercise(points=2)
def times_as_fast(answer: Callable) -> None:
    """own, rival float [points, 2]: seconds, quality; levels float [L] -> the rival's seconds over own, float [L]."""
    compare(
        answer,
        [tuple(np.array(part, float) for part in case) for case in CURVES],
        _ratios,
        {
            "The ratio is upside down: the rival's seconds are divided by the own ones, so that 2 means twice as "
            "fast.": lambda own, rival, levels: _ratios(rival, own, levels),
            "Where the own curve does not reach the level, the answer is 0: it is never as good.": (
                lambda own, rival, levels: _ratios(
                    own, rival, levels, lambda c, level: min(_seconds(c, level), _seconds(c, c[:, 1].max()))
                )
            ),
            "A setting that takes longer and is not better is used, too. Leave such settings out before you "
            "interpolate.": lambda own, rival, levels: _ratios(
                own, rival, levels, lambda c, level: _seconds(c, level, False)
            ),
            "That is the fastest measured setting that is as good, as in the chapter. Here, interpolate between the "
            "settings.": lambda own, rival, levels: _ratios(own, rival, levels, _fastest),
            "That is the measured setting nearest to the level. Interpolate between two settings.": (
                lambda own, rival, levels: _ratios(own, rival, levels, _nearest)
            ),
            "The curves are not in order of their seconds. Sort them before you interpolate.": (
                lambda own, rival, levels: (
                    np.interp(levels, rival[:, 1], rival[:, 0]) / np.interp(levels, own[:, 1], own[:, 0], right=np.inf)
                )
            ),
        },
    )
