"""What the checks of exercises 11 know of masks: from pixels to tokens, from base tokens to fine ones, and the mistakes
that are made in both."""

from collections.abc import Callable

import numpy as np

MEETS = {  # (pixels, tokens): which tokens each pixel touches, by hand
    (2, 1): ["0", "0"],
    (3, 1): ["0", "0", "0"],
    (2, 2): ["0", "1"],
    (2, 4): ["01", "23"],
    (5, 2): ["0", "0", "01", "1", "1"],
    (6, 3): ["0", "0", "1", "1", "2", "2"],
    (7, 3): ["0", "0", "01", "1", "12", "2", "2"],
    (10, 4): ["0", "0", "01", "1", "1", "2", "2", "23", "3", "3"],
}


def _tokens(pixel: int, pixels: int, tokens: int) -> list[int]:
    """Which tokens a pixel touches: by hand, or compared as whole numbers."""
    if (pixels, tokens) in MEETS:
        return [*map(int, MEETS[pixels, tokens][pixel])]
    return [t for t in range(tokens) if t * pixels < (pixel + 1) * tokens and (t + 1) * pixels > pixel * tokens]


def met(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The tokens with a pixel of the mask, pixel by pixel."""
    touched = np.zeros(grid, bool)
    for pixel in np.argwhere(mask).tolist():
        touched[np.ix_(*map(_tokens, pixel, mask.shape, grid))] = True
    return touched


def _filled(first: Callable, end: Callable) -> Callable:
    """A mistake: each pixel of the mask touches the tokens from first(pixel, tokens, pixels) to end(...)."""

    def touched(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        result = np.zeros(grid, bool)
        for pixel in np.argwhere(mask).tolist():
            at = [*zip(pixel, grid, mask.shape)]
            result[tuple(slice(first(*one), end(*one)) for one in at)] = True
        return result

    return touched


def _share(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """What share of each token is in the mask."""
    (h, w), (tall, wide) = grid, mask.shape
    return mask.repeat(h, 0).repeat(w, 1).reshape(h, tall, w, wide).mean((1, 3))


def _middles(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    return mask[np.ix_(*((np.arange(n) * side + side // 2) // n for n, side in zip(grid, mask.shape)))]


def _box(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    touched = met(mask, grid)
    rows, columns = np.nonzero(touched)
    if len(rows):
        touched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return touched


TOUCH_MISTAKES = {
    "Tokens are left out that the mask touches only a little. One pixel is enough: the mask need not cover most of a "
    "token.": lambda mask, grid: _share(mask, grid) > 0.5,
    "Only the pixel in the middle of each token counts in your answer. One pixel is enough, wherever it is.": _middles,
    "Only tokens that the mask covers entirely are True in your answer. One pixel is enough.": (
        lambda mask, grid: _share(mask, grid) == 1
    ),
    "It is inverted: True marks the tokens that are touched, and sampled again.": lambda *given: ~met(*given),
    "Each pixel touches only one token in your answer, the first one. A pixel on the border of two tokens touches "
    "both: round down for the first, up for the last.": _filled(
        lambda y, h, tall: y * h // tall, lambda y, h, tall: y * h // tall + 1
    ),
    "Each pixel touches only the token of its middle in your answer. A pixel on the border of two tokens touches "
    "both: round down for the first, up for the last.": _filled(
        lambda y, h, tall: (2 * y + 1) * h // (2 * tall), lambda y, h, tall: (2 * y + 1) * h // (2 * tall) + 1
    ),
    "Too many tokens are True. Where a pixel ends exactly at the border of two tokens, it does not touch the second.": (
        _filled(lambda y, h, tall: y * h // tall, lambda y, h, tall: (y + 1) * h // tall + 1)
    ),
    "The box around the mask is filled. A mask may have several pieces: what is between them stays.": _box,
}


def start(fine: np.ndarray, hidden: np.ndarray, fine_mask: int) -> np.ndarray:
    """Square by square."""
    k, result = len(fine) // len(hidden), fine.copy()
    for y, x in np.argwhere(hidden):
        result[k * y : k * y + k, k * x : k * x + k] = fine_mask
    return result


def _first_of_each(fine: np.ndarray, hidden: np.ndarray, fine_mask: int) -> np.ndarray:
    k, result = len(fine) // len(hidden), fine.copy()
    result[::k, ::k][hidden] = fine_mask
    return result


BASE_MISTAKES = {
    "The base is as it was. Hidden base tokens become [MASK].": lambda b, f, hidden, low, high: b,
    "The mask is inverted: hidden tokens stay, and the others become [MASK].": (
        lambda b, f, hidden, low, high: np.where(hidden, b, low)
    ),
    "The two [MASK] ids are mixed up: the base got the one of the fine stage.": (
        lambda b, f, hidden, low, high: np.where(hidden, high, b)
    ),
    "All base tokens are [MASK], even those that should stay.": lambda b, f, hidden, low, high: np.full_like(b, low),
}
FINE_MISTAKES = {
    "The fine tokens are all as they were. The image comes from them, so nothing would change: those under a hidden "
    "base token must be sampled again with it.": lambda b, f, hidden, low, high: f,
    "All fine tokens are [MASK], even those that should stay.": lambda b, f, hidden, low, high: np.full_like(f, high),
    "The fine mask is made of whole copies of the base mask, side by side. Every position of the base mask must become "
    "a square of k x k.": lambda b, f, hidden, low, high: np.where(np.tile(hidden, (len(f) // len(b),) * 2), high, f),
    "Of the k x k fine tokens under a hidden base token only the first one is [MASK].": (
        lambda b, f, hidden, low, high: _first_of_each(f, hidden, high)
    ),
    "The fine stage got the base's [MASK] id: it has a codebook, and so a [MASK], of its own.": (
        lambda b, f, hidden, low, high: start(f, hidden, low)
    ),
    "The fine mask is inverted: what a hidden base token covers stays.": (
        lambda b, f, hidden, low, high: start(f, ~hidden, high)
    ),
    "The rows of the base mask are repeated and its columns tiled, or the reverse. Repeat both.": (
        lambda b, f, hidden, low, high: np.where(
            np.tile(hidden.repeat(len(f) // len(b), 0), (1, len(f) // len(b))), high, f
        )
    ),
    "The fine mask is that of a base mask with rows and columns swapped.": (
        lambda b, f, hidden, low, high: start(f, hidden.T, high)
    ),
}
