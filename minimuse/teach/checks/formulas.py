"""Functions that the checks of JAX exercises hand to answers, with their gradients by hand in numpy."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


class Formula:
    """A function for answers to call, and by hand, in numpy, its gradients with respect to each argument."""

    def __init__(self, name: str, f: Callable, *by: Callable):
        self.__name__, self.__wrapped__, self.by = name, f, by

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)


def floats(value: Any) -> np.ndarray:
    """A value as float64 numbers."""
    return np.asarray(value, float)


def flat(tree: dict) -> np.ndarray:
    """All numbers of a dictionary of arrays, in the order of its names."""
    return np.concatenate([np.ravel(floats(tree[name])) for name in sorted(tree)])


# Each with its gradients with respect to a and to b.
SQUARE = Formula("a² b", lambda a, b: a**2 * b, lambda a, b: 2 * a * b, lambda a, b: a**2)
SUM = Formula("Σ a b²", lambda a, b: jnp.sum(a * b**2), lambda a, b: b**2, lambda a, b: 2 * a * b)
WAVE = Formula(
    "Σ sin(a @ b)",
    lambda a, b: jnp.sum(jnp.sin(a @ b)),
    lambda a, b: np.outer(np.cos(floats(a) @ floats(b)), b),
    lambda a, b: np.cos(floats(a) @ floats(b)) @ floats(a),
)
ROWS = Formula(
    "Σ b[a]²",  # a holds row numbers, which have no gradient
    lambda a, b: jnp.sum(b[a] ** 2),
    lambda a, b: None,
    lambda a, b: 2 * np.bincount(a, minlength=len(b))[:, None] * floats(b),
)


# Of a dictionary of arrays.
BOWL = Formula(
    "Σ (w - 1)² + 2 b²",
    lambda params: jnp.sum((params["w"] - 1) ** 2) + 2 * params["b"] ** 2,
    lambda params: dict(w=2 * (params["w"] - 1), b=4 * params["b"]),
)
VALLEY = Formula(
    "(b Σ w - 1)²",
    lambda params: (params["b"] * jnp.sum(params["w"]) - 1) ** 2,
    lambda params: (lambda slope: dict(w=slope * params["b"] * np.ones(3), b=slope * params["w"].sum()))(
        2 * (params["b"] * params["w"].sum() - 1)
    ),
)
FOURTH = Formula("Σ v⁴", lambda params: jnp.sum(params["v"] ** 4), lambda params: dict(v=4 * params["v"] ** 3))

# The loss of one example, and its gradient with respect to params.
LINE = Formula(
    "(Σ w x + b - y)²",
    lambda params, x, y: (jnp.sum(params["w"] * x) + params["b"] - y) ** 2,
    lambda params, x, y: (lambda gap: dict(w=2 * gap * x, b=2 * gap))(np.sum(params["w"] * x) + params["b"] - y),
)
POWER = Formula(
    "y Σ v² x",
    lambda params, x, y: y * jnp.sum(params["v"] ** 2 * x),
    lambda params, x, y: dict(v=2 * y * params["v"] * x),
)
