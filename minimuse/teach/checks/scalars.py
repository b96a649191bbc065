"""What the check of tokens without a codebook, exercise 14.4, knows: tokens by hand, mistakes, encodings."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minimuse.teach.checks.formulas import floats


def fsq(
    squash: Callable = lambda z, half: np.tanh(z) * half,
    rounded: Callable = np.round,
    shift: Callable = lambda half: half,
    places: Callable = lambda levels: np.cumprod([1, *levels[:-1]]),
    half: Callable = lambda levels: (levels - 1) / 2,
) -> Callable:
    """Tokens of z [..., C], with a mistake."""

    def tokens(z: Any, levels: tuple[int, ...]) -> np.ndarray:
        sizes = np.array(levels)
        digits = rounded(squash(floats(z), half(sizes))) + shift(half(sizes))
        return (digits * places(sizes)).sum(-1)

    return tokens


def tokens_by_hand(z: Any, levels: tuple[int, ...]) -> np.ndarray:
    """Position by position, by the nearest of all L values."""
    tokens = np.zeros(np.shape(z)[:-1], int)
    for position in np.ndindex(tokens.shape):
        for value, level in reversed([*zip(floats(z)[position], levels)]):
            far = [abs(np.tanh(value) * (level - 1) / 2 - k) for k in range(-(level // 2), level // 2 + 1)]
            tokens[position] = tokens[position] * level + int(np.argmin(far))
    return tokens


def encodings(seed: int, shape: tuple[int, ...], levels: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """z [*shape, len(levels)] that does not come near a border of rounding."""
    rng, half = np.random.default_rng(seed), (np.array(levels) - 1) / 2
    near = rng.integers(0, levels, (*shape, len(levels))) - half + rng.uniform(-0.4, 0.4, (*shape, len(levels)))
    return np.arctanh(np.clip(near, -0.97 * half, 0.97 * half) / half).astype(np.float32), levels


MISTAKES = {
    "The first entry is the first digit in your answer. It is the last: it counts 1, the second counts as much as the "
    "first has levels.": fsq(places=lambda levels: np.cumprod([1, *levels[:0:-1]])[::-1]),
    "Every digit counts too much: the places are the products of the levels including its own. The first counts 1.": (
        fsq(places=np.cumprod)
    ),
    "Every digit counts as much as its own levels. The first counts 1, and each of the others the product of the "
    "levels before it.": fsq(places=lambda levels: levels),
    "The digits are added up, so different values get the same token. Each digit has a place of its own.": (
        fsq(places=np.ones_like)
    ),
    "The places are powers of the first number of levels. Each is the product of all levels before it.": (
        fsq(places=lambda levels: levels[0] ** np.arange(len(levels)))
    ),
    "The rounded values were used as digits, and half of them are negative. Add (L - 1) / 2.": (
        fsq(shift=lambda half: 0)
    ),
    "The digits begin at 1, one too high. Add (L - 1) / 2.": fsq(shift=lambda half: half + 1),
    "The range is L / 2 to each side, and rounding passes its ends. It should be (L - 1) / 2.": (
        fsq(squash=lambda z, half: np.tanh(z) * (half + 0.5))
    ),
    "The range is L - 1 to each side, twice too wide. It should be (L - 1) / 2.": (
        fsq(squash=lambda z, half: np.tanh(z) * 2 * half)
    ),
    "The values are rounded down. Round to the nearest integer.": fsq(rounded=np.floor),
    "The values are rounded up. Round to the nearest integer.": fsq(rounded=np.ceil),
    "The values are rounded towards 0, as `int` and `astype(int)` do. Round to the nearest integer.": (
        fsq(rounded=np.trunc)
    ),
    "z is rounded and cut off at both ends, without tanh.": fsq(squash=lambda z, half: np.clip(z, -half, half)),
    "z is cut off at -1 and 1, and not squashed by tanh.": fsq(squash=lambda z, half: np.clip(z, -1, 1) * half),
    "That is the sigmoid, scaled: it is tanh(z / 2). Use tanh(z).": fsq(squash=lambda z, half: np.tanh(z / 2) * half),
    "z is rounded before it is squashed. Squash first.": fsq(squash=lambda z, half: np.tanh(np.round(z)) * half),
    "tanh(z) is rounded before it is multiplied by (L - 1) / 2. Round afterwards.": (
        fsq(squash=lambda z, half: np.round(np.tanh(z)) * half)
    ),
    "All entries have the range of the first. Each has its own, (L - 1) / 2.": (
        fsq(half=lambda levels: np.full(len(levels), (levels[0] - 1) / 2))
    ),
    "All entries have the range of the largest number of levels. Each has its own, (L - 1) / 2.": (
        fsq(half=lambda levels: np.full(len(levels), (max(levels) - 1) / 2))
    ),
    "The tokens begin at 1. The first token is 0: all digits are 0.": lambda z, levels: tokens_by_hand(z, levels) + 1,
    "It returned the digits. Put them together to one token per position.": lambda z, levels: (
        np.round(np.tanh(floats(z)) * (np.array(levels) - 1) / 2) + np.array(levels) // 2
    ),
    "It returned the rounded values. Make digits of them, and one token per position.": lambda z, levels: np.round(
        np.tanh(floats(z)) * (np.array(levels) - 1) / 2
    ),
}
