"""Exercises 06: variable masking."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import numpy as np

from minimuse.teach.asking import Wrong, call, compare, exercise, numbers

U = np.array([0.0, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1.0])


@exercise(points=2)
def cosine_rate(answer: Callable) -> None:
    """u float [B] in [0, 1] -> rates float [B]."""
    cases = [(np.random.default_rng(n).random(n).round(2),) for n in (1, 5)]  # values that are in no table
    compare(
        answer,
        [*cases, (U,)],
        lambda u: np.sqrt(1 - np.sin(np.pi / 2 * u) ** 2),
        {
            "That is the arccos schedule, the mirror image of the cosine schedule about r = u. The paper's arccos is "
            "the distribution function; sampling uses its inverse, a cosine.": lambda u: 2 / np.pi * np.arccos(u),
            "This rises from 0 to 1. Decoding begins at u = 0 with everything hidden: r must fall from 1 to 0. Did you "
            "use a sine instead of a cosine?": lambda u: np.sin(np.pi / 2 * u),
            "It falls from 1 to -1: half a turn. The cosine schedule makes a quarter of a turn, up to π/2.": (
                lambda u: np.cos(np.pi * u)
            ),
            "This is half a turn of the cosine, moved and scaled to fall from 1 to 0, as learning rates do; it equals "
            "the square of the right one. The cosine schedule is the first quarter of a turn, as it is.": (
                lambda u: (1 + np.cos(np.pi * u)) / 2
            ),
            "That is the straight line 1 - u, the linear schedule. Use a cosine.": lambda u: 1 - u,
        },
    )


def _counts(rates: np.ndarray, n: int, *_) -> np.ndarray:
    """How many of n positions to hide, for each rate; rates are chosen so that no r n ends in .5."""
    return np.maximum(1, np.round(rates * n)).astype(int)


@exercise(points=3)
def exact_mask(answer: Callable) -> None:
    """rates float [B], n int, rng numpy Generator -> bool [B, n], True where hidden."""
    rates, seeds = np.array([0.0, 0.13, 0.52, 0.77, 1.0]), range(2)
    for n in (4, 10, 64):
        one, two = (call(answer, rates, n, np.random.default_rng(seed)) for seed in seeds)
        one, two = (numbers(mask, (5, n), "bool").sum(1) for mask in (one, two))
        near = np.abs(one - _counts(rates, n)) <= 4 * np.sqrt(n)
        if near.all() and (one != two).any():
            raise Wrong(
                "The counts vary from call to call, as if a coin were tossed for every position. Hide exactly "
                "max(1, round(r n)) positions: rank random numbers, and take the lowest ranks."
            )
    compare(
        answer,
        [(rates, n, np.random.default_rng(n)) for n in (4, 10, 64)],
        lambda rates, n, rng: _counts(rates, n),
        {
            "Nothing is hidden where r is 0, so there would be nothing to learn from: hide at least one token.": (
                lambda rates, n, rng: np.round(rates * n)
            ),
            "The counts are those of the known tokens. True means hidden.": lambda rates, n, rng: n - _counts(rates, n),
            "Every row hides as many as the first one. Each image has a rate of its own.": (
                lambda rates, n, rng: _counts(rates, n)[:1].repeat(len(rates))
            ),
            "One too many is hidden. Ranks begin at 0: `rank < count`, not `<=`.": (
                lambda rates, n, rng: np.minimum(_counts(rates, n) + 1, n)
            ),
            "r n is rounded down. Round to the nearest whole number.": (
                lambda rates, n, rng: np.maximum(1, np.floor(rates * n))
            ),
            "r n is rounded up. Round to the nearest whole number.": (
                lambda rates, n, rng: np.maximum(1, np.ceil(rates * n))
            ),
        },
        read=lambda mask: numbers(mask, np.shape(mask), "bool").sum(-1),
    )
    mask = numbers(call(answer, np.full(6000, 0.5), 4, np.random.default_rng(1)), (6000, 4), "bool")
    if (mask == mask[0]).all():
        raise Wrong(
            "All rows hide the same positions. Draw random numbers of shape [B, n], different ones for every row."
        )
    rows = Counter(tuple(np.flatnonzero(row).tolist()) for row in mask)
    shares = {pair: rows[pair] / 6000 for pair in combinations(range(4), 2)}
    if max(abs(share - 1 / 6) for share in shares.values()) > 0.03:  # six standard deviations
        raise Wrong(
            "Not all sets of positions are equally likely. Here are the shares of 6,000 rows with r = 0.5 and n = 4 in "
            "which each two of the four positions are hidden; each should be near 17%.",
            {f"positions {one}, {two}": f"{share:.0%}" for (one, two), share in shares.items()},
        )
    one, two, three = (call(answer, np.full(1, 0.5), 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    if not np.array_equal(one, two):
        raise Wrong("The same rng gives a different mask each time. Take all random numbers from `rng`.")
    if np.array_equal(one, three):
        raise Wrong("A different rng gives the same mask. Take the random numbers from `rng`, not from a fixed seed.")


def _left(steps: int, n: int) -> list[int]:
    """How many of n are hidden after each step: the floor of n cos, but fewer than before, and enough to go on."""
    left, now = [], n
    for s in range(steps):
        now = max(min(int(n * np.cos(np.pi / 2 * (s + 1) / steps) + 1e-6), now - 1), steps - 1 - s)
        left.append(now)
    return left


@exercise(points=3)
def hidden_after(answer: Callable) -> None:
    """steps int, n int -> int [steps]: how many of n tokens are hidden after each step."""
    compare(
        answer,
        # By hand: 8 steps of 64 leave 62 59 53 45 35 24 12 0. With the steps 39, 51 and 63, a cosine of exactly 1/2 is
        # computed as a little less.
        [(1, 64), (4, 10), (6, 6), (8, 64), (12, 16), (39, 64), (51, 256), (63, 256)],
        _left,
        {
            "These are the tokens revealed at each step. Return how many are still hidden after it.": (
                lambda steps, n: -np.diff(_left(steps, n), prepend=n)
            ),
            "This begins with all hidden: these are the counts before each step. After step s, counted from 0, the "
            "progress is (s + 1) / steps.": lambda steps, n: [n, *_left(steps, n)[:-1]],
            "Some steps reveal nothing: two neighbours have the same floor. Every step must reveal at least one "
            "token, and leave at least one for every later step.": lambda steps, n: np.floor(
                n * np.cos(np.pi / 2 * (np.arange(steps) + 1) / steps) + 1e-6
            ),
        },
        kind="int",
    )


@exercise(points=3)
def which_law(answer: Callable) -> None:
    """rates float [M], sampled by an unknown program -> "cosine" or "arccos"."""
    returned = []
    for seed, size in ((0, 2000), (1, 2000), (2, 20_000), (3, 5000)):
        u = np.random.default_rng(seed).random(size)
        sampled = {"cosine": np.cos(np.pi / 2 * u), "arccos": 2 / np.pi * np.arccos(u)}
        for law, rates in sampled.items():
            got = call(answer, rates)
            if got not in ("cosine", "arccos"):
                raise Wrong(f'It returned {got!r}; return "cosine" or "arccos".')
            returned.append((law, got))
    right = [law == got for law, got in returned]
    if not any(right):
        raise Wrong("All answers are swapped. Which schedule gives more rates above 0.9: 29% of them, or 16%?")
    if len({got for _, got in returned}) == 1:
        raise Wrong(f"It returns {returned[0][1]} for all rates. Count something in which the two schedules differ.")
    if not all(right):
        raise Wrong(
            f"{sum(right)} of {len(right)} programs are identified correctly. Do you use the mean? It is 2/π for both "
            "schedules. Use the ends, such as the share of rates above 0.9, or the median."
        )


def _fewest(n: int, most: int, first: bool = True) -> int:
    """The least number of steps of which none reveals more than `most`; first: the first step counts as well."""
    for steps in range(1, n + 1):
        left = [n, *_left(steps, n)] if first else _left(steps, n)
        if max((one - two for one, two in zip(left, left[1:])), default=0) <= most:
            return steps
    raise ValueError(f"No number of steps reveals at most {most} of {n} at once.")


@exercise(points=2)
def fewest_steps(answer: Callable) -> None:
    """n int, most int -> int: the least number of steps such that no step reveals more than `most` of n tokens."""
    compare(
        answer,
        [(1, 1), (10, 1), (12, 5), (64, 64), (64, 32), (64, 12), (64, 8), (37, 7), (256, 32)],
        _fewest,
        {
            "That would be enough if all steps revealed the same number. But the cosine schedule reveals most at its "
            "end.": lambda n, most: -(-n // most),
            "The first step is not counted: it reveals n minus the number hidden after it.": (
                lambda n, most: _fewest(n, most, first=False)
            ),
            "Exactly `most` tokens are allowed: compare with <=.": (
                lambda n, most: _fewest(n, most - 1) if most > 1 else n
            ),
            "It is one too few.": lambda n, most: _fewest(n, most) - 1,
            "It is one too many.": lambda n, most: _fewest(n, most) + 1,
        },
        kind="int",
    )
