"""Exercises 06: variable masking."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, compare, compiled, describe, exercise, in_any_order, numbers

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


def _counts(key: jax.Array, rates: jax.Array, n: int) -> np.ndarray:
    """How many of n positions to hide, for each rate; rates are chosen so that no r n ends in .5."""
    return np.maximum(1, np.round(np.asarray(rates) * n)).astype(int)


@exercise(points=3)
def exact_mask(answer: Callable) -> None:
    """key, rates float [B], n int -> bool [B, n], True where hidden."""
    rates, keys = jnp.array([0.0, 0.17, 0.52, 0.77, 1.0]), jax.random.split(jax.random.key(0), 3)
    program = compiled(answer, static=(2,))
    for n in (10, 64):
        one, two = (numbers(call(program, key, rates, n), (5, n), "bool").sum(1) for key in keys[:2])
        near = np.abs(one - _counts(keys[0], rates, n)) <= 4 * np.sqrt(n)
        if near.all() and (one != two).any():
            raise Wrong(
                "The counts vary from key to key, as if a coin were tossed for every position. Hide exactly "
                "max(1, round(r n)) positions: rank random numbers, and take the lowest ranks."
            )
    compare(
        program,
        [(keys[0], rates, 10), (keys[1], rates, 10), (keys[2], rates, 64)],
        _counts,
        {
            "Nothing is hidden where r is 0, so there would be nothing to learn from: hide at least one token.": (
                lambda key, rates, n: np.round(rates * n)
            ),
            "The counts are those of the known tokens. True means hidden.": lambda *case: case[2] - _counts(*case),
            "Every row hides as many as the first one. Each image has a rate of its own.": (
                lambda key, rates, n: _counts(key, rates, n)[:1].repeat(len(rates))
            ),
            "One too many is hidden. Ranks begin at 0: `rank < count`, not `<=`.": (
                lambda key, rates, n: np.minimum(_counts(key, rates, n) + 1, n)
            ),
            "r n is rounded down. Round to the nearest whole number.": (
                lambda key, rates, n: np.maximum(1, np.floor(np.asarray(rates) * n))
            ),
            "r n is rounded up. Round to the nearest whole number.": (
                lambda key, rates, n: np.maximum(1, np.ceil(np.asarray(rates) * n))
            ),
        },
        read=lambda mask: numbers(mask, np.shape(mask), "bool").sum(-1),
    )
    _all_subsets(program)
    many = numbers(call(program, keys[0], jnp.full(1000, 0.5), 64), (1000, 64), "bool")
    if len(np.unique(many, axis=0)) < 1000:
        raise Wrong("Of 1,000 rows with n = 64 some are the same. Draw random numbers of shape [B, n].")
    one, two = (call(program, key, rates, 64) for key in keys[:2])
    if np.array_equal(one, two):
        raise Wrong("Another key gives the same mask. Take the random numbers from `key`, not from a fixed seed.")


def _all_subsets(answer: Callable) -> None:
    """Raise Wrong unless all pairs of four positions are hidden about equally often."""
    mask = numbers(call(answer, jax.random.key(1), jnp.full(6000, 0.5), 4), (6000, 4), "bool")
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


def _left(steps: int, n: int) -> list[int]:
    """How many of n are hidden after each step: the floor of n cos, but fewer than before. Step by step."""
    left, now = [], n
    for s in range(steps):
        now = min(int(n * np.cos(np.pi / 2 * (s + 1) / steps) + 1e-3), now - 1)
        left.append(now)
    return left


def _all_left(steps: int, n: jax.Array) -> list[list[int]]:
    return [_left(steps, int(one)) for one in n]


@exercise(points=3)
def hidden_after(answer: Callable) -> None:
    """steps int, n int [B] -> int [B, steps]: how many of each row's n tokens are hidden after each step."""
    # By hand: 8 steps of 64 leave 62 59 53 45 35 24 12 0. Where 3 divides the steps, a cosine is exactly 1/2, which
    # float32 computes as a little less.
    cases = [(1, [64]), (4, [10, 4, 7]), (6, [64, 6]), (8, [64, 8]), (12, [16, 256, 12, 64]), (15, [256, 52, 15])]
    values = lambda steps, n: np.outer(n, np.cos(np.pi / 2 * (np.arange(steps) + 1) / steps))
    compare(
        compiled(answer, static=(0,)),
        [(steps, jnp.array(n)) for steps, n in cases],
        _all_left,
        {
            "These are the tokens revealed at each step. Return how many are still hidden after it.": (
                lambda steps, n: -np.diff(_all_left(steps, n), prepend=np.asarray(n)[:, None])
            ),
            "This begins with all hidden: these are the counts before each step. After step s, counted from 0, the "
            "progress is (s + 1) / steps.": lambda steps, n: [[int(one), *_left(steps, int(one))[:-1]] for one in n],
            "Some steps reveal nothing: two neighbours have the same floor. Every step must reveal at least one "
            "token.": lambda steps, n: np.floor(values(steps, n) + 1e-3),
            "All rows have the schedule of the first one. Each has a number of tokens of its own.": (
                lambda steps, n: [_left(steps, int(n[0]))] * len(n)
            ),
            "A value that should be 32 was computed as 31.99999. Add a thousandth before you take the floor.": (
                lambda steps, n: np.minimum(np.floor(values(steps, n) - 1e-5), _all_left(steps, n))
            ),
        },
        kind="int",
    )


def _law(answer: Callable, rates: np.ndarray) -> str:
    got = call(answer, rates)
    got = str.__str__(got) if isinstance(got, str) else got  # not what a subclass says that it equals
    if not isinstance(got, str) or got not in ("cosine", "arccos"):
        raise Wrong(f'It returned {describe(got)}; return "cosine" or "arccos".')
    return got


@exercise(points=3)
def which_law(answer: Callable) -> None:
    """rates float [M], sampled by an unknown program -> "cosine" or "arccos"."""
    right, sampled = ["cosine", "arccos"] * 4, []
    for seed, size in ((0, 2000), (1, 2000), (2, 20_000), (3, 5000)):
        u = np.random.default_rng(seed).random(size)
        sampled += [np.cos(np.pi / 2 * u), 2 / np.pi * np.arccos(u)]
    returned, tables = in_any_order(lambda rates: _law(answer, rates), sampled), []
    by_mean = ["cosine" if rates.mean() > 2 / np.pi else "arccos" for rates in sampled]
    for rates, got, law in zip(sampled, returned, right):
        about = {"median": f"{np.median(rates):.3f}", "above 0.9": f"{(rates > 0.9).mean():.1%}"}
        tables.append({"rates": describe(rates)} | about | {"yours": got, "right": law})
    failed = [table for table in tables if table["yours"] != table["right"]]
    if len(failed) == len(right):
        raise Wrong("All answers are swapped. Which schedule gives more rates above 0.9: 29% of them, or 16%?")
    if len(set(returned)) == 1:
        raise Wrong(f"It returns {returned[0]} for all rates. Count something in which the two schedules differ.")
    if returned == by_mean:
        raise Wrong(
            "You compare the mean with 2/π. That is the mean of both schedules, so chance decides. Use the ends, such "
            "as the share of rates above 0.9, or the median."
        )
    if failed:
        raise Wrong(
            f"{len(right) - len(failed)} of {len(right)} programs are identified correctly. One that is not:", failed[0]
        )


def _fewest(n: int, most: int, first: bool = True) -> int:
    """The least number of steps such that none reveals more than `most`; first: the first step counts as well."""
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
