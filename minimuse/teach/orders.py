"""Which positions decoding reveals together: the explorer of chapter 14."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from matplotlib.figure import Figure

from minimuse import decoding, masking
from minimuse.teach import charts
from minimuse.teach.explorers import _control, _explorer, _show

if TYPE_CHECKING:
    import ipywidgets

FIXED = tuple(order for order in decoding.ORDERS if order != "confidence")  # which do not depend on the picture


def revealed_at(order: str, law: str, steps: int, grid: tuple[int, int] = (8, 8), seed: int = 0) -> np.ndarray:
    """At which of the decoding steps, counted from 1, each position is revealed: int [h, w].

    order    one of FIXED; the order of confidence is a different one for every picture
    seed     of the order random
    """
    if order == "confidence":
        raise ValueError(f"The order confidence is known only when a picture is drawn; choose from {', '.join(FIXED)}.")
    ranks = np.asarray(decoding.order_ranks(order, grid, jax.random.split(jax.random.key(seed), 1))).reshape(-1)
    left = masking.decode_schedule(steps, ranks.size, law)  # a position is hidden as long as it is among the last
    return (1 + (ranks[:, None] >= ranks.size - left).sum(-1)).reshape(grid)


def neighbours_together(step_of: np.ndarray) -> int:
    """How many pairs of neighbours, side by side or one above the other, are revealed in the same step: int [h, w] ->
    a number. Such tokens are sampled without knowing of each other."""
    return int((step_of[1:] == step_of[:-1]).sum() + (step_of[:, 1:] == step_of[:, :-1]).sum())


def reveal_map(order: str, law: str, steps: int, seed: int = 0) -> tuple[Figure, str]:
    """The step of every position of an 8 x 8 grid as a heat map, and in words how many neighbours come together."""
    step_of = revealed_at(order, law, steps, seed=seed)
    figure = charts.heat_map(step_of, range(1, 9), range(1, 9), digits=0, xlabel="column", ylabel="row")
    counts, together = np.bincount(step_of.ravel(), minlength=steps + 1)[1:], neighbours_together(step_of)
    return figure, (
        f"order {order}, law {law}, {steps} steps: {', '.join(map(str, counts))} positions per step; {together} of 112 "
        "pairs of neighbours are revealed in the same step"
    )


def order_explorer(order: str = "halton", law: str = "exp") -> "ipywidgets.VBox":
    """Menus for an order and a law, a slider for the steps: at which step each position is revealed."""
    import ipywidgets

    controls = [
        _control(ipywidgets.Dropdown, "Order", order, options=FIXED),
        _control(ipywidgets.Dropdown, "Law", law, options=list(masking.LAWS)),
        _control(ipywidgets.IntSlider, "Steps T", 12, min=1, max=64),
    ]
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        _show(picture, *reveal_map(*(one.value for one in controls)))

    return _explorer(controls, draw, picture)
