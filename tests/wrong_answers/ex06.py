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
        "squared": (lambda u: np.cos(np.pi / 2 * u) ** 2, "square"),
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
        "less than most": (lambda n, most: fewest(n, most - 1) if most > 1 else n, "allowed"),
        "the first step forgotten": (lambda n, most: fewest(n, most, lambda left, n: -np.diff(left)), "first step"),
        "one too few": (lambda n, most: fewest(n, most) - 1, "too few"),
    },
}


def mutates(u):
    right = np.cos(np.pi / 2 * u)
    u *= 0
    return right


def run_of_positions(rates, n, rng):
    """The right number in every row and the right share at every position, but always neighbours."""
    hidden = np.zeros((len(rates), n), bool)
    for row, count in zip(hidden, np.maximum(1, np.round(rates * n)).astype(int)):
        row[(rng.integers(n) + np.arange(count)) % n] = True
    return hidden


def counted(rates, n, rng, count):
    return np.argsort(np.argsort(rng.random((len(rates), n)), axis=1), axis=1) < count(rates * n)[:, None]


REFUSED = {
    "cosine_rate": {
        "changes its argument": mutates,
        "half a cosine": lambda u: (1 + np.cos(np.pi * u)) / 2,
        "degrees": lambda u: np.cos(90 * u),
        "a whole turn": lambda u: np.cos(2 * np.pi * u),
        "an eighth": lambda u: np.cos(np.pi / 4 * u),
        "a parabola": lambda u: 1 - u**2,
        "a root": lambda u: np.sqrt(1 - u),
        "the derivative": lambda u: np.pi / 2 * np.sin(np.pi / 2 * u),
        "rounded": lambda u: np.cos(np.pi / 2 * u).round(2),
        "the known values only": lambda u: np.interp(u, [0, 0.1, 0.5, 0.9, 1], [1, 0.98769, 0.70711, 0.15643, 0]),
        "the mean": lambda u: np.cos(np.pi / 2 * u).mean(),
        "a generator": lambda u: (np.cos(np.pi / 2 * x) for x in u),
    },
    "exact_mask": {
        "neighbours": run_of_positions,
        "rounded down": lambda r, n, rng: counted(r, n, rng, lambda x: np.maximum(1, np.floor(x))),
        "rounded up": lambda r, n, rng: counted(r, n, rng, lambda x: np.maximum(1, np.ceil(x))),
        "one too many": lambda r, n, rng: counted(r, n, rng, lambda x: np.maximum(1, np.round(x)) + 1),
        "two at least": lambda r, n, rng: counted(r, n, rng, lambda x: np.maximum(2, np.round(x))),
        "never all": lambda r, n, rng: counted(r, n, rng, lambda x: np.clip(np.round(x), 1, n - 1)),
        "ranks of positions": lambda r, n, rng: np.argsort(rng.random((len(r), n)), 1) < np.round(r * n)[:, None],
        "numbers": lambda r, n, rng: ranked(r, n, rng).astype(int),
        "one row": lambda r, n, rng: ranked(r, n, rng)[:1],
        "turned round": lambda r, n, rng: ranked(r, n, rng).T,
        "sorted counts": lambda r, n, rng: ranked(np.sort(r)[::-1], n, rng),
    },
    "hidden_after": {
        "without the millionth": lambda t, n: np.array(
            [
                left
                for left, _ in [
                    (max(min(int(n * np.cos(np.pi / 2 * (s + 1) / t)), n - 1 - s), t - 1 - s), s) for s in range(t)
                ]
            ]
        ),
        "a line": lambda t, n: np.array([n - n * (s + 1) // t for s in range(t)]),
        "rounded": lambda t, n: np.maximum(np.round(n * np.cos(np.pi / 2 * (np.arange(t) + 1) / t)), 0).astype(int),
        "a sine": lambda t, n: np.floor(n * np.sin(np.pi / 2 * (np.arange(t) + 1) / t)).astype(int),
        "a ceiling": lambda t, n: np.ceil(n * np.cos(np.pi / 2 * (np.arange(t) + 1) / t) - 1e-6).astype(int),
        "only the second bound": lambda t, n: np.maximum(floors(t, n), t - 1 - np.arange(t)),
        "backwards": lambda t, n: schedule(t, n)[::-1],
        "the last forgotten": lambda t, n: schedule(t, n)[:-1],
        "one more": lambda t, n: schedule(t, n) + 1,
        "of 64 always": lambda t, n: schedule(t, 64),
    },
    "which_law": {
        "the variance, the wrong way": lambda rates: "cosine" if rates.var() < 0.09 else "arccos",
        "by how many there are": lambda rates: "cosine" if len(rates) % 2 else "arccos",
        "the largest": lambda rates: "cosine" if rates.max() > 0.9999 else "arccos",
        "the first": lambda rates: "cosine" if rates[0] > 0.7 else "arccos",
        "capitals": lambda rates: "COSINE" if (rates > 0.9).mean() > 0.22 else "ARCCOS",
        "a letter": lambda rates: "c" if (rates > 0.9).mean() > 0.22 else "a",
        "a bool": lambda rates: bool((rates > 0.9).mean() > 0.22),
        "half": lambda rates: "cosine" if (rates > 0.5).mean() > 0.9 else "arccos",
        "always arccos": lambda rates: "arccos",
        "nothing": lambda rates: None,
    },
    "fewest_steps": {
        "one too many": lambda n, most: fewest(n, most) + 1,
        "the most": lambda n, most: most,
        "all": lambda n, most: n,
        "twice as many": lambda n, most: 2 * -(-n // most),
        "half more": lambda n, most: -(-3 * n // (2 * most)),
        "by the mean": lambda n, most: fewest(n, most, lambda left, n: [n / len(left)]),
        "by the last step": lambda n, most: fewest(n, most, lambda left, n: [left[-2] if len(left) > 1 else n]),
        "by what is left": lambda n, most: fewest(n, most, lambda left, n: left),
        "a float": lambda n, most: float(fewest(n, most)),
        "a list": lambda n, most: [fewest(n, most)],
    },
}


class Equal(str):
    """A text that claims to be equal to everything."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash(str(self))


REFUSED["which_law"]["equal to everything"] = lambda rates: Equal("cosine")


def swaps(rates, n, rng):
    """By shuffling: as right as ranks."""
    rows = [rng.permutation(np.arange(n) < max(1, np.round(rate * n))) for rate in rates]
    return np.array(rows)


def counts_down(steps, n):
    left = [n]
    for s in range(1, steps + 1):
        left.append(min(left[-1] - 1, max(int(n * np.cos(np.pi * s / 2 / steps) + 1e-6), steps - s)))
    return left[1:]


UNUSUAL = {
    "cosine_rate": {
        "a sine, moved": lambda u: np.sin(np.pi / 2 * (1 - u)),
        "complex numbers": lambda u: np.exp(0.5j * np.pi * u).real,
        "a list": lambda u: [float(np.cos(np.pi / 2 * x)) for x in u],
    },
    "exact_mask": {"shuffled rows": swaps},
    "hidden_after": {
        "a list, counted down": counts_down,
        "without the lower bound, which never binds": lambda t, n: np.minimum(floors(t, n), n - 1 - np.arange(t)),
    },
    "which_law": {"by the median": lambda rates: np.str_("cosine" if np.median(rates) > 0.69 else "arccos")},
    "fewest_steps": {"a numpy number": lambda n, most: np.int32(fewest(n, most))},
}
