"""Wrong answers to exercises 06."""

import numpy as np


def coins(rates, n, rng):
    return rng.random((len(rates), n)) < rates[:, None]


def ranked(rates, n, rng, least=1, rows=None):
    count = np.maximum(least, np.round(rates * n))
    rank = np.argsort(np.argsort(rng.random((rows or len(rates), n)), axis=1), axis=1)
    return rank < count[:, None]


def first_places(rates, n, rng):
    return np.arange(n) < np.maximum(1, np.round(rates * n))[:, None]


def drifting(rates, n, rng):
    """Sorted before it is ranked: every row hides its first positions."""
    count = np.maximum(1, np.round(rates * n))
    return np.sort(rng.random((len(rates), n)), 1).argsort(1) < count[:, None]


def floors(steps, n, shift=1):
    return np.floor(n * np.cos(np.pi / 2 * (np.arange(steps) + shift) / steps) + 1e-6).astype(int)


def schedule(steps, n):
    left, now = [], n
    for s in range(steps):
        now = max(min(int(floors(steps, n)[s]), now - 1), steps - 1 - s)
        left.append(now)
    return np.array(left)


def fewest(n, most, count=lambda left, n: -np.diff(left, prepend=n)):
    return next(steps for steps in range(1, n + 1) if max(count(schedule(steps, n), n), default=0) <= most)


WRONG = {
    "cosine_rate": {
        "arccos": (lambda u: 2 / np.pi * np.arccos(u), "arccos"),
        "a sine": (lambda u: np.sin(np.pi / 2 * u), "rises from 0 to 1"),
        "half a turn": (lambda u: np.cos(np.pi * u), "quarter of a turn"),
        "linear": (lambda u: 1 - u, "linear"),
        "squared": (lambda u: np.cos(np.pi / 2 * u) ** 2, "the answer is"),
    },
    "exact_mask": {
        "a coin for every position": (coins, "coin"),
        "nothing hidden at r = 0": (lambda r, n, rng: ranked(r, n, rng, least=0), "hide at least one"),
        "kept and masked swapped": (lambda r, n, rng: ~ranked(r, n, rng), "True means hidden"),
        "the first row's rate for all": (lambda r, n, rng: ranked(r[:1].repeat(len(r)), n, rng), "rate of its own"),
        "always the first positions": (first_places, "same positions"),
        "sorted before it is ranked": (drifting, "same positions"),
        "one order for all rows": (lambda r, n, rng: ranked(r, n, rng, rows=1), "same positions"),
        "a seed of its own": (lambda r, n, rng: ranked(r, n, np.random.default_rng(0)), "fixed seed"),
        "chance from elsewhere": (lambda r, n, rng: ranked(r, n, np.random.default_rng()), "from `rng`"),
    },
    "hidden_after": {
        "what is revealed": (lambda t, n: -np.diff(schedule(t, n), prepend=n), "revealed at each step"),
        "one step early": (lambda t, n: np.array([n, *schedule(t, n)[:-1]]), "before each step"),
        "steps that reveal nothing": (floors, "reveal nothing"),
        "floats": (lambda t, n: schedule(t, n).astype(float), "return ints"),
        "one too many": (lambda t, n: np.array([n, *schedule(t, n)]), "shape"),
    },
    "which_law": {
        "the mean": (lambda rates: "cosine" if rates.mean() > 2 / np.pi else "arccos", "mean"),
        "always the same": (lambda rates: "cosine", "for all rates"),
        "the wrong way round": (lambda rates: "arccos" if (rates > 0.9).mean() > 0.22 else "cosine", "swapped"),
        "another word": (lambda rates: "Cosine law", "return"),
    },
    "fewest_steps": {
        "as if all steps were equal": (lambda n, most: -(-n // most), "same number"),
        "less than most": (lambda n, most: fewest(n, most - 1) if most > 1 else n, "fewer"),
        "the first step forgotten": (lambda n, most: fewest(n, most, lambda left, n: -np.diff(left)), "first step"),
        "one too few": (lambda n, most: fewest(n, most) - 1, "too few"),
    },
}
