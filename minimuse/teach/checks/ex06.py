"""Exercises 06: variable masking."""

from collections.abc import Callable

import numpy as np

from minimuse.teach.checking import Wrong, call, exercise, numbers, same, unless

U = np.array([0.0, 0.1, 0.25, 0.5, 2 / 3, 0.9, 1.0])
COSINE = np.array([1.0, 0.98769, 0.92388, 0.70711, 0.5, 0.15643, 0.0])


@exercise(points=2)
def cosine_rate(answer: Callable) -> None:
    """u float [B] in [0, 1] -> rates float [B]."""
    got = numbers(call(answer, U), U.shape)
    mistakes = {
        "That is the arccos schedule, the mirror image of the cosine schedule about r = u. The paper's arccos is "
        "the distribution function; sampling uses its inverse, a cosine.": 2 / np.pi * np.arccos(U),
        "This rises from 0 to 1. Decoding begins at u = 0 with everything hidden: r must fall from 1 to 0. Did you "
        "use a sine instead of a cosine?": np.sin(np.pi / 2 * U),
        "It falls from 1 to -1: half a turn. The cosine schedule makes a quarter of a turn, up to π/2.": np.cos(
            np.pi * U
        ),
        "That is the straight line 1 - u, the linear schedule. Use a cosine.": 1 - U,
    }
    unless(got, mistakes)
    same(got, COSINE, f"u = {U.round(3).tolist()}")
    for shape in ((1,), (5,)):  # a batch of one, and values that are not in the table
        u = np.random.default_rng(len(shape)).random(shape)
        got = numbers(call(answer, u), shape)
        same(got**2 + np.sin(np.pi / 2 * u) ** 2, np.ones(shape), "r² + sin²(πu/2), which is 1 for a cosine")


@exercise(points=3)
def exact_mask(answer: Callable) -> None:
    """rates float [B], n int, rng numpy Generator -> bool [B, n], True where hidden."""
    rates = np.array([0.0, 0.1, 0.5, 0.77, 1.0])
    for n in (10, 64):
        expected = np.maximum(1, np.round(rates * n)).astype(int)
        mask = numbers(call(answer, rates, n, np.random.default_rng(n)), (5, n), "bool")
        counts, plain = mask.sum(1), np.round(rates * n).astype(int)
        mistakes = {
            "Nothing is hidden where r is 0, so there would be nothing to learn from: hide at least one token.": plain,
            "The counts are those of the known tokens. True means hidden.": n - expected,
            "Every row hides as many as the first one. Each image has a rate of its own.": expected[:1].repeat(5),
        }
        unless(counts, mistakes, right=expected)
        if (np.abs(counts - expected) <= 4 * np.sqrt(n)).all() and (counts != expected).any():
            again = call(answer, rates, n, np.random.default_rng(n + 1)).sum(1)
            if (again != counts).any():
                raise Wrong(
                    "The counts vary from call to call, as if a coin were tossed for every position. Hide exactly "
                    "max(1, round(r n)) positions: rank random numbers, and take the lowest ranks."
                )
        same(counts, expected, f"the rates {rates.tolist()} and n = {n}, the hidden positions of each row")
    many = numbers(call(answer, np.full(3000, 0.25), 12, np.random.default_rng(1)), (3000, 12), "bool")
    if (many == many[0]).all():
        raise Wrong(
            "All rows hide the same positions. Draw random numbers of shape [B, n], different ones for every row."
        )
    shares = many.mean(0)
    if np.abs(shares - 0.25).max() > 0.06:
        raise Wrong(
            f"Over 3,000 rows with r = 0.25, the twelve positions are hidden in {shares.min():.0%} to "
            f"{shares.max():.0%} of the rows. All should be near 25%: every position must have the same chance."
        )
    one, two, three = (call(answer, np.full(1, 0.5), 64, np.random.default_rng(seed)) for seed in (3, 3, 4))
    if not (one == two).all():
        raise Wrong("The same rng gives a different mask each time. Take all random numbers from `rng`.")
    if (one == three).all():
        raise Wrong("A different rng gives the same mask. Take the random numbers from `rng`, not from a fixed seed.")


LEFT = {  # (steps, n): how many are hidden after each step
    (8, 64): [62, 59, 53, 45, 35, 24, 12, 0],
    (1, 64): [0],
    (4, 10): [9, 7, 3, 0],
    (6, 6): [5, 4, 3, 2, 1, 0],
    (12, 16): [15, 14, 13, 12, 11, 10, 9, 8, 6, 4, 2, 0],
}


@exercise(points=3)
def hidden_after(answer: Callable) -> None:
    """steps int, n int -> int [steps]: how many of n tokens are hidden after each step."""
    for (steps, n), expected in LEFT.items():
        got, s = numbers(call(answer, steps, n), (steps,), "int"), np.arange(steps)
        revealed = -np.diff(expected, prepend=n)
        mistakes = {
            "These are the tokens revealed at each step. Return how many are still hidden after it.": revealed,
            "This begins with all hidden: these are the counts before each step. After step s, counted from 0, the "
            "progress is (s + 1) / steps.": [n, *expected[:-1]],
            "Some steps reveal nothing: two neighbours have the same floor. Every step must reveal at least one "
            "token, and leave at least one for every later step.": np.floor(
                n * np.cos(np.pi / 2 * (s + 1) / steps) + 1e-6
            ),
        }
        unless(got, mistakes, right=expected)
        same(got, expected, f"{steps} steps and {n} tokens")


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


FEWEST = {(64, 64): 1, (64, 32): 3, (64, 12): 8, (64, 8): 12, (256, 32): 13, (10, 1): 10, (12, 5): 4}


@exercise(points=2)
def fewest_steps(answer: Callable) -> None:
    """n int, most int -> int: the least number of steps such that no step reveals more than `most` of n tokens."""
    for (n, most), expected in FEWEST.items():
        got = numbers(call(answer, n, most), (), "int")
        even = -(-n // most)
        if got == even != expected:
            raise Wrong(
                f"For n = {n} and most = {most} you return {got}: enough if all steps revealed the same number. But "
                f"the cosine schedule reveals most at its end; one of {got} steps reveals more than {most}."
            )
        if got < expected:
            raise Wrong(
                f"For n = {n} and most = {most}, {got} steps are too few: one of them reveals more than {most}. Is "
                "the first step counted, from n to the number hidden after it?"
            )
        if got > expected:
            raise Wrong(
                f"For n = {n} and most = {most}, {got} steps are enough, but fewer are enough as well. Try from 1 "
                "upwards; exactly `most` tokens are allowed."
            )
