"""Wrong answers to exercises 12."""

import time
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np


def fits(wish, thing):
    return wish[1] == thing[1] and wish[0] in (None, thing[0])


def granted(wishes, things, order=lambda wish: wish[0] is None):
    """Whether each wish, in this order, finds an object that is left."""
    left = list(things)
    for wish in sorted(wishes, key=order):
        found = [thing for thing in left if fits(wish, thing)]
        if not found:
            return False
        left.remove(found[0])
    return True


def shares(wishes, seen, asked=granted, exact=None):
    exact = exact or (lambda w, t: asked(w, t) and len(w) == len(t))
    judged = [(asked(w, t), exact(w, t)) for w, t in zip(wishes, seen)]
    return float(np.mean([one for one, _ in judged])), float(np.mean([two for _, two in judged]))


def present(wishes, things):
    return all(any(fits(wish, thing) for thing in things) for wish in wishes)


def of_wishes(wishes, seen):
    found = [any(fits(wish, thing) for thing in t) for w, t in zip(wishes, seen) for wish in w]
    return float(np.mean(found)) if found else 1.0, shares(wishes, seen)[1]


def colourless(wishes, seen):
    return shares([[(None, name) for _, name in w] for w in wishes], seen)


def interval(own, other, key, samples, tails=(2.5, 97.5)):
    far = (own - other).mean(1)
    picks = jax.random.randint(key, (samples, len(far)), 0, len(far))
    return jnp.percentile(far[picks].mean(1), jnp.array(tails))


def unpaired(own, other, key, samples):
    keys = jax.random.split(key)
    one, two = (
        v.mean(1)[jax.random.randint(k, (samples, len(v)), 0, len(v))].mean(1) for v, k in zip((own, other), keys)
    )
    return jnp.percentile(one - two, jnp.array([2.5, 97.5]))


def of_pictures(own, other, key, samples):
    return interval(own.reshape(-1, 1), other.reshape(-1, 1), key, samples)


def of_captions(own, other, key, samples):
    return jnp.percentile((own - other).mean(1), jnp.array([2.5, 97.5]))


def shuffled(own, other, key, samples):
    far = (own - other).mean(1)
    means = jax.vmap(lambda k: jax.random.permutation(k, far).mean())(jax.random.split(key, samples))
    return jnp.percentile(means, jnp.array([2.5, 97.5]))


def normal(own, other, key, samples):
    far = (own - other).mean(1)
    half = 1.96 * far.std(ddof=1) / jnp.sqrt(len(far))
    return jnp.stack([far.mean() - half, far.mean() + half])


def numpy_interval(own, other, key, samples):
    far = np.asarray(own - other).mean(1)
    picks = np.asarray(jax.random.randint(key, (samples, len(far)), 0, len(far)))
    return np.percentile(far[picks].mean(1), [2.5, 97.5])


def root(matrix):
    values, vectors = jnp.linalg.eigh(matrix)
    return vectors * jnp.sqrt(jnp.maximum(values, 0)) @ vectors.T


def frechet(x, y, shared=lambda a, b: jnp.trace(root(root(a) @ b @ root(a))), factor=2.0, ddof=1, power=2.0):
    a, b = (jnp.atleast_2d(jnp.cov(v, rowvar=False, ddof=ddof)) for v in (x, y))
    means = jnp.sum(jnp.abs(x.mean(0) - y.mean(0)) ** power)
    return means + jnp.trace(a) + jnp.trace(b) - factor * shared(a, b)


def each(**options):
    return lambda x, y: jax.vmap(lambda one, other: frechet(one, other, **options))(x, y)


def together(x, y):
    return jnp.full(len(x), frechet(*(v.reshape(-1, v.shape[-1]) for v in (x, y))))


def without_maximum(x, y):
    def distance(one, other):
        a, b = (jnp.atleast_2d(jnp.cov(v, rowvar=False)) for v in (one, other))
        values, vectors = jnp.linalg.eigh(a)
        half = vectors * jnp.sqrt(values) @ vectors.T
        shared = jnp.sqrt(jnp.linalg.eigvalsh(half @ b @ half)).sum()
        return jnp.sum((one.mean(0) - other.mean(0)) ** 2) + jnp.trace(a) + jnp.trace(b) - 2 * shared

    return jax.vmap(distance)(x, y)


def singular_values(x, y):
    """Without any covariance: the singular values of the product of the centred features."""
    a, b = ((v - v.mean(1, keepdims=True)) / jnp.sqrt(v.shape[1] - 1) for v in (x, y))
    shared = jnp.linalg.svd(jnp.einsum("gmf,glf->gml", a, b), compute_uv=False).sum(-1)
    return ((x.mean(1) - y.mean(1)) ** 2).sum(-1) + (a**2).sum((1, 2)) + (b**2).sum((1, 2)) - 2 * shared


def complex_roots(x, y):
    """A loop over tasks, and the eigenvalues of a product that is not symmetric."""
    return jnp.stack(
        [
            frechet(one, other, lambda a, b: jnp.sqrt(jnp.linalg.eigvals(a @ b).astype(complex)).real.sum())
            for one, other in zip(x, y)
        ]
    )


def standard(scores):
    return (scores - scores.mean(0)) / scores.std(0)


def place(values):
    model, judge = np.unravel_index(np.argmax(values), values.shape)
    return int(model), int(judge)


def outlier(scores, scale=standard):
    values = scale(scores)
    return place(values - np.median(values, 1, keepdims=True))


def by_rank(seen, unseen):
    rank = unseen.argsort(0).argsort(0)
    return place(rank - np.median(rank, 1, keepdims=True))


def cheating_model(seen, unseen):
    """The model in whose row the judges differ most, and its highest judge."""
    values = standard(unseen)
    model = values.std(1).argmax()
    return model, values[model].argmax()


def without_the_others(seen, unseen):
    """Each judge against the mean of the others, model by model."""
    values = standard((seen + unseen) / 2)
    others = (values.sum(1, keepdims=True) - values) / (values.shape[1] - 1)
    return np.array(place(values - others))


def front(curve):
    curve = curve[np.argsort(curve[:, 0])]
    best = np.maximum.accumulate(np.concatenate([[-np.inf], curve[:-1, 1]]))
    return curve[curve[:, 1] > best]


def seconds(curve, levels):
    return np.interp(levels, front(curve)[:, 1], front(curve)[:, 0], right=np.inf)


def ratios(own, rival, levels, of=seconds):
    with np.errstate(all="ignore"):
        return of(rival, levels) / of(own, levels)


def fastest(curve, levels):
    return np.array([min((s for s, quality in curve if quality >= level), default=np.inf) for level in levels])


def nearest(curve, levels):
    return np.array([curve[np.abs(curve[:, 1] - level).argmin(), 0] for level in levels])


def unsorted(curve, levels):
    return np.interp(levels, curve[:, 1], curve[:, 0], right=np.inf)


def by_quality(curve, levels):
    """In order of quality, dominated settings included."""
    return unsorted(curve[np.argsort(curve[:, 1])], levels)


def through_all(curve, levels):
    """The first crossing of the curve through all settings."""
    curve, found = curve[np.argsort(curve[:, 0])], []
    for level in levels:
        time = curve[0, 0] if curve[0, 1] >= level else np.inf
        for (begun, low), (ended, high) in zip(curve, curve[1:]):
            if time == np.inf and low < level <= high:
                time = begun + (ended - begun) * (level - low) / (high - low)
        found.append(time)
    return np.array(found)


def rounds(of, digits):
    return lambda own, rival, levels: np.round(ratios(own, rival, levels, of), digits)


WRONG = {
    "asked_and_exact": {
        "one object for two wishes": (lambda w, s: shares(w, s, present), "two wishes"),
        "any colour first": (
            lambda w, s: shares(w, s, lambda a, b: granted(a, b, order=lambda wish: 0)),
            "wishes with a colour first",
        ),
        "only the number": (lambda w, s: shares(w, s, exact=lambda a, b: len(a) == len(b)), "whatever they are"),
        "objects too many": (lambda w, s: shares(w, s, exact=granted), "no object more"),
        "asked forbids more": (
            lambda w, s: shares(w, s, lambda a, b: granted(a, b) and len(a) == len(b)),
            "Only exact forbids",
        ),
        "share of wishes": (of_wishes, "shares of wishes"),
        "no colours": (colourless, "colours are ignored"),
        "exchanged": (lambda w, s: shares(w, s)[::-1], "order"),
    },
    "difference_interval": {
        "unpaired": (unpaired, "different captions"),
        "single pictures": (of_pictures, "Single pictures"),
        "90%": (lambda a, b, k, n: interval(a, b, k, n, (5.0, 95.0)), "90%"),
        "of captions": (of_captions, "mean of every resample"),
        "other minus own": (lambda a, b, k, n: interval(b, a, k, n), "sign"),
        "high and low": (lambda a, b, k, n: interval(a, b, k, n)[::-1], "lower end"),
        "without replacement": (shuffled, "replacement"),
        "the first picture": (lambda a, b, k, n: interval(a[:, :1], b[:, :1], k, n), "first picture"),
        "1.96 standard errors": (normal, "without a bootstrap"),
        "a key of its own": (lambda a, b, k, n: interval(a, b, jax.random.key(0), n), "Another key"),
        "numpy": (numpy_interval, "cannot compile"),
    },
    "frechet_by_task": {
        "roots of entries": (each(shared=lambda a, b: jnp.trace(jnp.sqrt(jnp.maximum(a @ b, 0)))), "each entry"),
        "product of roots": (each(shared=lambda a, b: jnp.trace(root(a) @ root(b))), "product of two roots"),
        "diagonals": (each(shared=lambda a, b: jnp.sqrt(jnp.diag(a) * jnp.diag(b)).sum()), "diagonals"),
        "divided by M": (each(ddof=0), "M - 1"),
        "no factor 2": (each(factor=1.0), "factor 2"),
        "absolute values": (each(power=1.0), "absolute values"),
        "no means": (lambda x, y: each()(x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)), "means"),
        "all tasks together": (together, "all tasks together"),
        "a root of it": (lambda x, y: jnp.sqrt(each()(x, y)), "root of the distance"),
        "negative eigenvalues": (without_maximum, "nan"),
        "numpy": (lambda x, y: np.asarray(each()(x, y)), "cannot compile"),
    },
    "trained_against": {
        "the one that memorized": (lambda seen, unseen: place(standard(seen) - standard(unseen)), "memorized"),
        "the highest score": (lambda seen, unseen: place(standard(unseen)), "honest"),
        "the largest number": (lambda seen, unseen: place(unseen), "largest number"),
        "no units": (lambda seen, unseen: outlier(unseen, lambda v: v - np.median(v, 0)), "without their units"),
        "exchanged": (lambda seen, unseen: outlier(unseen)[::-1], "a row"),
        "counted from 1": (lambda seen, unseen: tuple(i + 1 for i in outlier(unseen)), "from 0"),
    },
    "times_as_fast": {
        "upside down": (lambda own, rival, levels: ratios(rival, own, levels), "upside down"),
        "never reached": (
            lambda own, rival, levels: seconds(rival, levels) / np.interp(levels, front(own)[:, 1], front(own)[:, 0]),
            "does not reach",
        ),
        "settings that are not better": (lambda *case: ratios(*case, through_all), "not better"),
        "the fastest setting": (lambda *case: ratios(*case, fastest), "fastest measured"),
        "the nearest setting": (lambda *case: ratios(*case, nearest), "nearest"),
        "not sorted": (
            lambda own, rival, levels: np.interp(levels, *rival.T[::-1]) / unsorted(own, levels),
            "order of their seconds",
        ),
    },
}


def changes_wishes(wishes, seen):
    """Right, but it takes the granted objects out of the lists that it is given."""
    found = shares(wishes, seen)
    for things in seen:
        things.clear()
    return found


def changes_scores(seen, unseen):
    found = outlier(unseen)
    unseen -= unseen.mean(0)
    return found


def sorts_in_place(own, rival, levels):
    own.sort(0)
    return ratios(own, rival, levels)


def in_order(wishes, things):
    return len(wishes) == len(things) and all(map(fits, wishes, things))


def means_of_both(own, other, key, samples):
    """The interval of a single model."""
    return interval(own, jnp.zeros_like(other), key, samples)


def swapped_axes(own, other, key, samples):
    """Resamples draws, and takes the mean of captions."""
    return interval(own.T, other.T, key, samples)


REFUSED = {
    "asked_and_exact": {
        "changes its argument": changes_wishes,
        "in the same order": lambda w, s: shares(w, s, exact=in_order),
        "sets": lambda w, s: shares(w, s, lambda a, b: {n for _, n in a} <= {n for _, n in b}),
        "colours taken literally": lambda w, s: shares(w, s, lambda a, b: not Counter(a) - Counter(b)),
        "no wish is never asked": lambda w, s: shares(w, s, lambda a, b: bool(a) and granted(a, b)),
        "an empty picture is exact": lambda w, s: shares(
            w, s, exact=lambda a, b: not b or (granted(a, b) and len(a) == len(b))
        ),
        "any wish": lambda w, s: shares(w, s, lambda a, b: any(granted([wish], b) for wish in a)),
        "the last wish": lambda w, s: shares(w, s, lambda a, b: granted(a[-1:], b)),
        "one more is allowed": lambda w, s: shares(w, s, exact=lambda a, b: granted(a, b) and len(b) <= len(a) + 1),
        "numbers of pictures": lambda w, s: tuple(len(w) * share for share in shares(w, s)),
        "percent": lambda w, s: tuple(100 * share for share in shares(w, s)),
        "shares of wrong ones": lambda w, s: tuple(1 - share for share in shares(w, s)),
        "the first picture": lambda w, s: shares(w[:1], s[:1]),
        "one number": lambda w, s: shares(w, s)[0],
        "names at least, colours at least": lambda w, s: shares(
            w,
            s,
            lambda a, b: (
                not Counter(n for _, n in a) - Counter(n for _, n in b)
                and not Counter(o for o in a if o[0]) & Counter() - Counter(b)
            ),
        ),
    },
    "difference_interval": {
        "one model": means_of_both,
        "resampled draws": swapped_axes,
        "80%": lambda a, b, k, n: interval(a, b, k, n, (10.0, 90.0)),
        "99%": lambda a, b, k, n: interval(a, b, k, n, (0.5, 99.5)),
        "all of it": lambda a, b, k, n: interval(a, b, k, n, (0.0, 100.0)),
        "shares for percent": lambda a, b, k, n: interval(a, b, k, n, (0.025, 0.975)),
        "only the upper end": lambda a, b, k, n: interval(a, b, k, n, (50.0, 97.5)),
        "sums": lambda a, b, k, n: len(a) * interval(a, b, k, n),
        "half of the captions": lambda a, b, k, n: interval(a[::2], b[::2], k, n),
        "absolute differences": lambda a, b, k, n: interval(jnp.abs(a - b), 0 * b, k, n),
        "fewer captions": lambda a, b, k, n: jnp.percentile(
            (a - b).mean(1)[jax.random.randint(k, (n, len(a) // 2), 0, len(a))].mean(1), jnp.array([2.5, 97.5])
        ),
        "never the last caption": lambda a, b, k, n: jnp.percentile(
            (a - b).mean(1)[jax.random.randint(k, (n, len(a)), 0, len(a) - 1)].mean(1), jnp.array([2.5, 97.5])
        ),
        "always 1,000 resamples": lambda a, b, k, n: interval(a, b, k, 1000),
        "global numbers": lambda a, b, k, n: interval(a, b, jax.random.key(time.time_ns() % 2**31), n),
        "one picture of each caption, redrawn": lambda a, b, k, n: interval(
            *(v[:, jax.random.randint(k, (), 0, v.shape[1])][:, None] for v in (a, b)), k, n
        ),
    },
    "frechet_by_task": {
        "the mean of tasks": lambda x, y: each()(x, y).mean(),
        "the sum of tasks": lambda x, y: each()(x, y).sum(),
        "the first task": lambda x, y: jnp.full(len(x), frechet(x[0], y[0])),
        "no shared part": each(factor=0.0),
        "four times": each(factor=4.0),
        "only the means": lambda x, y: ((x.mean(1) - y.mean(1)) ** 2).sum(-1),
        "mean over features": lambda x, y: each()(x, y) / x.shape[-1],
        "no root": each(shared=lambda a, b: jnp.trace(a @ b)),
        "root of the trace": each(shared=lambda a, b: jnp.sqrt(jnp.trace(a @ b))),
        "Cholesky factors": each(
            shared=lambda a, b: jnp.trace(
                jnp.linalg.cholesky(a + 1e-6 * jnp.eye(len(a))) @ jnp.linalg.cholesky(b + 1e-6 * jnp.eye(len(b)))
            )
        ),
        "features and pictures exchanged": lambda x, y: each()(
            x.swapaxes(1, 2)[:, :, : y.shape[1]], y.swapaxes(1, 2)[:, :, : x.shape[1]]
        ),
        "the same number of pictures": lambda x, y: each()(x[:, : y.shape[1]], y[:, : x.shape[1]]),
        "symmetric part of the product": each(shared=lambda a, b: jnp.trace(root((a @ b + b @ a) / 2))),
        "one root only": each(shared=lambda a, b: jnp.trace(root(root(a) @ b))),
        "rounded": lambda x, y: jnp.round(each()(x, y)),
    },
    "trained_against": {
        "changes its argument": changes_scores,
        "the first": lambda seen, unseen: (0, 0),
        "the best model": lambda seen, unseen: (
            standard(unseen).mean(1).argmax(),
            standard(unseen)[standard(unseen).mean(1).argmax()].argmax(),
        ),
        "the worst model": lambda seen, unseen: (
            standard(unseen).mean(1).argmin(),
            standard(unseen)[standard(unseen).mean(1).argmin()].argmax(),
        ),
        "the lowest": lambda seen, unseen: place(-standard(unseen)),
        "the highest on seen ones": lambda seen, unseen: place(standard(seen)),
        "seen minus unseen": lambda seen, unseen: place(seen - unseen),
        "only the model": lambda seen, unseen: outlier(unseen)[0],
        "floats": lambda seen, unseen: tuple(map(float, outlier(unseen))),
        "by columns": lambda seen, unseen: place(
            unseen - unseen.mean(1, keepdims=True) - (unseen - unseen.mean(1, keepdims=True)).mean(0)
        ),
        "standardized by model": lambda seen, unseen: place(standard(unseen.T).T),
        "the judge that varies most": lambda seen, unseen: (unseen[:, unseen.std(0).argmax()].argmax(), 0),
        "the lowest compared with the others": lambda seen, unseen: outlier(-unseen),
        "a flat index": lambda seen, unseen: outlier(unseen)[0] * unseen.shape[1] + outlier(unseen)[1],
    },
    "times_as_fast": {
        "changes its argument": sorts_in_place,
        "in order of quality": lambda *case: ratios(*case, by_quality),
        "a difference": lambda own, rival, levels: np.nan_to_num(
            seconds(rival, levels) - seconds(own, levels), neginf=0.0
        ),
        "percent faster": lambda *case: 100 * (ratios(*case) - 1),
        "at equal settings": lambda own, rival, levels: np.full(len(levels), rival[0, 0] / own[0, 0]),
        "the mean ratio": lambda *case: np.full(len(case[2]), ratios(*case).mean()),
        "one number": lambda *case: ratios(*case).mean(),
        "rounded": rounds(seconds, 1),
        "logarithms": lambda *case: ratios(
            *case,
            lambda c, levels: np.exp(np.interp(levels, front(c)[:, 1], np.log(front(c)[:, 0]), right=np.inf)),
        ),
        "seconds and quality exchanged": lambda own, rival, levels: (
            np.interp(levels, rival[:, 0], rival[:, 1]) / np.interp(levels, own[:, 0], own[:, 1])
        ),
        "quality at equal seconds": lambda own, rival, levels: ratios(own[:, ::-1], rival[:, ::-1], levels, unsorted),
        "nothing below the cheapest": lambda *case: ratios(
            *case, lambda c, levels: np.interp(levels, front(c)[:, 1], front(c)[:, 0], left=0.0, right=np.inf)
        ),
        "not a number where never reached": lambda *case: np.where(ratios(*case) == 0, np.nan, ratios(*case)),
        "the best of each": lambda own, rival, levels: np.full(
            len(levels), rival[rival[:, 1].argmax(), 0] / own[own[:, 1].argmax(), 0]
        ),
        "sorted by columns": lambda own, rival, levels: ratios(np.sort(own, 0), np.sort(rival, 0), levels),
    },
}


def every_way(wishes, things):
    """By recursion: the first wish takes each object that fits."""
    if not wishes:
        return True
    return any(fits(wishes[0], t) and every_way(wishes[1:], things[:i] + things[i + 1 :]) for i, t in enumerate(things))


def counted(wishes, seen):
    """By counters: the wishes with a colour first, then names among what is left."""
    asked = []
    for w, t in zip(wishes, seen):
        left = Counter(t)
        left.subtract(wish for wish in w if wish[0])
        names = Counter()
        for (_, name), number in left.items():
            names[name] += number
        fine = min(left.values(), default=0) >= 0 and not Counter(n for c, n in w if not c) - names
        asked.append((fine, fine and len(w) == len(t)))
    return np.array(asked, float).mean(0)


def weights_of_captions(own, other, key, samples):
    """How often each caption comes, as weights; sorted instead of `percentile`; all pictures of a caption kept."""
    captions = len(own)
    picks = jax.random.choice(key, captions, (samples, captions))
    weights = jax.nn.one_hot(picks, captions).sum(1) / captions
    means = jnp.einsum("sc,cd->s", weights, own - other) / own.shape[1]
    return tuple(jnp.quantile(means, tail) for tail in (0.025, 0.975))


def key_for_each(own, other, key, samples):
    def one(key):
        rows = jax.random.randint(key, (len(own),), 0, len(own))
        return own[rows].mean() - other[rows].mean()

    means = jax.lax.map(one, jax.random.split(key, samples), batch_size=500)
    return jnp.percentile(means, jnp.array([2.5, 97.5]))


def search(own, rival, levels):
    """By loops: the least time over all pairs of settings, of which the second is slower and better."""

    def least(curve, level):
        points = sorted(curve.tolist())
        if points[0][1] >= level:
            return points[0][0]
        kept = points[:1]
        for point in points[1:]:
            if point[1] > kept[-1][1]:
                kept.append(point)
        for (a, p), (b, q) in zip(kept, kept[1:]):
            if p < level <= q:
                return a + (b - a) * (level - p) / (q - p)
        return None

    found = []
    for level in levels:
        mine = least(own, level)
        found.append(least(rival, level) / mine if mine else 0)
    return found


UNUSUAL = {
    "asked_and_exact": {
        "every way": lambda w, s: shares(w, s, every_way, lambda a, b: every_way(a, b) and len(a) == len(b)),
        "counters": counted,
        "jnp": lambda w, s: jnp.array(shares(w, s)),
    },
    "difference_interval": {"weights": weights_of_captions, "a key for each resample": key_for_each},
    "frechet_by_task": {"singular values": singular_values, "complex roots": complex_roots},
    "trained_against": {
        "ranks": by_rank,
        "the row that differs most": cheating_model,
        "against the mean of the others": without_the_others,
        "on seen ones": lambda seen, unseen: [np.int64(i) for i in outlier(seen)],
    },
    "times_as_fast": {"loops": search, "jnp": lambda *case: jnp.array(ratios(*case))},
}
