"""What the checks of exercises 09 know of windows: the masks of multi-axis attention, attention within windows, and the
mistakes that are made in both."""

from collections.abc import Callable
from typing import Any

import numpy as np


def groups(grid: tuple[int, int], window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Near and across, bool [N, N]: windows are cut out one by one, and all pairs of a group are marked."""
    (h, w), (a, b) = grid, window
    places = np.arange(h * w).reshape(h, w)
    windows = np.array([places[y : y + a, x : x + b].reshape(-1) for y in range(0, h, a) for x in range(0, w, b)])
    masks = np.zeros((2, h * w, h * w), bool)
    for mask, lists in zip(masks, (windows, windows.T)):
        for positions in lists:
            mask[np.ix_(positions, positions)] = True
    return masks[0], masks[1]


def _equal(f: Callable) -> Callable:
    """A mask by a number of each position: f(row, column, h, w, a, b)."""

    def mask(grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
        number = f(*np.indices(grid).reshape(2, -1), *grid, *window)
        return np.equal.outer(number, number)

    return mask


def _by_columns(which: int) -> Callable:
    """A mask for positions that are numbered column by column."""

    def mask(grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
        order = np.arange(grid[0] * grid[1]).reshape(grid).T.reshape(-1)
        return groups(grid, window)[which][np.ix_(order, order)]

    return mask


def _without_itself(which: int) -> Callable:
    return lambda grid, window: groups(grid, window)[which] & ~np.eye(grid[0] * grid[1], dtype=bool)


ITSELF = "A position does not see itself. It should: each head needs the position's own content."
INVERTED = "The mask is inverted: True means that a position is seen."
STRETCHES = (
    "Windows are treated as stretches of the list of positions. But positions are numbered row by row, so a window "
    "holds pieces of several rows."
)
COLUMNS = (
    "Positions are numbered column by column in your answer (as by `np.kron` with rows and columns swapped). Number "
    "them row by row."
)
TURNED = "Your windows are a positions wide and b high. A window is (a, b): a rows of b positions."
AXIAL = (
    "That is a row and a column for every position, as in axial attention. Near is the token's own window, across is "
    "the same position in each window."
)
NEAR = {
    "The two masks are swapped: near comes first, across second.": lambda *given: groups(*given)[1],
    STRETCHES: lambda grid, window: np.equal.outer(*[np.arange(grid[0] * grid[1]) // (window[0] * window[1])] * 2),
    AXIAL: _equal(lambda row, column, h, w, a, b: row),
    ITSELF: _without_itself(0),
    "Some windows get the same number: a row of windows is counted as if it had h / a of them. It has w / b.": _equal(
        lambda row, column, h, w, a, b: row // a * (h // a) + column // b
    ),
    "Windows in the same row of windows count as one. Their columns differ.": (
        _equal(lambda row, column, h, w, a, b: row // a)
    ),
    "Windows in the same column of windows count as one. Their rows differ.": (
        _equal(lambda row, column, h, w, a, b: column // b)
    ),
    INVERTED: lambda *given: ~groups(*given)[0],
    COLUMNS: _by_columns(0),
    "The positions of your windows are spread over the grid, h / a rows and w / b columns from each other (as by "
    "`np.kron` with its arguments swapped). A window is a block of neighbours.": _equal(
        lambda row, column, h, w, a, b: row % (h // a) * w + column % (w // b)
    ),
    TURNED: _equal(lambda row, column, h, w, a, b: row // b * w + column // a),
    "Positions that are at most a rows and b columns away are seen, as if each position had a window around itself. "
    "The windows are fixed: they divide the grid.": lambda grid, window: np.logical_and(
        *(abs(np.subtract.outer(x, x)) < side for x, side in zip(np.indices(grid).reshape(2, -1), window))
    ),
}
ACROSS = {
    "The second mask is near once more. Across is the same offset in every window.": lambda *given: groups(*given)[0],
    STRETCHES: lambda grid, window: np.equal.outer(*[np.arange(grid[0] * grid[1]) % (window[0] * window[1])] * 2),
    AXIAL: _equal(lambda row, column, h, w, a, b: column),
    ITSELF: _without_itself(1),
    "Some positions inside a window get the same number: a row of a window has b positions, not a.": _equal(
        lambda row, column, h, w, a, b: row % a * a + column % b
    ),
    "Rows and columns of the offset are confused: the row of a position in its window is row % a, its column is "
    "column % b.": _equal(lambda row, column, h, w, a, b: row % b * w + column % a),
    "Only the columns of the offsets are compared. Their rows must be the same, too.": _equal(
        lambda row, column, h, w, a, b: column % b
    ),
    "Only the rows of the offsets are compared. Their columns must be the same, too.": _equal(
        lambda row, column, h, w, a, b: row % a
    ),
    INVERTED: lambda *given: ~groups(*given)[1],
    COLUMNS: _by_columns(1),
    "Across, your positions are neighbours in blocks of h / a x w / b (as by `np.kron` with its arguments swapped). "
    "They have the same offset in every window.": _equal(
        lambda row, column, h, w, a, b: row // (h // a) * w + column // (w // b)
    ),
}


def near(q: Any, k: Any, v: Any, grid: Any, window: Any, masks: Callable | None = None, scale: float | None = None):
    """Full attention under the mask near, in float64."""
    q, k, v = (np.asarray(x, float) for x in (q, k, v))
    mask = (masks or (lambda *given: groups(*given)[0]))(grid, window)
    scores = q @ k.swapaxes(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    raised = np.where(mask, np.exp(scores - scores.max()), 0)
    return raised / raised.sum(-1, keepdims=True) @ v


def _by_mask(mask: Callable) -> Callable:
    """A mistake: attention under another mask(grid, window)."""
    return lambda q, k, v, grid, window: near(q, k, v, grid, window, mask)


def _in_window_order(q: Any, k: Any, v: Any, grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
    (h, w), (a, b) = grid, window
    out = near(q, k, v, grid, window)
    parts = out.reshape(-1, h // a, a, w // b, b, out.shape[-1]).swapaxes(2, 3)
    return parts.reshape(out.shape)


ATTENTION_MISTAKES = {
    "That is full attention. Each position attends only to its own window.": (
        _by_mask(lambda grid, window: np.ones((grid[0] * grid[1],) * 2, bool))
    ),
    "That is across: the same offset in every window. Near is the position's own window.": (
        _by_mask(lambda *given: groups(*given)[1])
    ),
    STRETCHES: _by_mask(NEAR[STRETCHES]),
    TURNED: _by_mask(NEAR[TURNED]),
    "The windows are right, but each position attends only to its own row of them.": _by_mask(
        _equal(lambda row, column, h, w, a, b: row * w + column // b)
    ),
    "The results are in the order of the windows. Undo it: the same `swapaxes`, backwards.": _in_window_order,
    "The scores are not divided by √D.": lambda *given: near(*given, scale=1.0),
    "The scores are divided by D instead of √D.": lambda *given: near(*given, scale=1 / np.shape(given[0])[-1]),
    "The mean of the window's values is taken. Weight them by the softmax of the scores.": (
        lambda q, *given: near(0 * np.asarray(q), *given)
    ),
    "q and k are swapped: each position of q compares itself with all k of its window.": (
        lambda q, k, *given: near(k, q, *given)
    ),
    "The softmax goes over the queries. For each query, the weights of the keys must sum to 1.": (
        lambda q, k, v, grid, window: _over_queries(q, k, v, grid, window)
    ),
}


def _over_queries(q: Any, k: Any, v: Any, grid: Any, window: Any) -> np.ndarray:
    q, k, v = (np.asarray(x, float) for x in (q, k, v))
    raised = np.where(groups(grid, window)[0], np.exp(q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5), 0)
    return raised / raised.sum(1, keepdims=True) @ v
