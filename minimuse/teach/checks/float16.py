"""Losses that strain float16, and a step with a scaled loss by hand: for exercises 13."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, beside, numbers, pair

HALF = jnp.float16


def faint(p: dict) -> jax.Array:
    """A loss of w [n] and b [] with gradients of about 2^-27, below what a float16 can hold."""
    return (jnp.sum(p["w"] ** 2) + p["b"] ** 2) * HALF(2**-18)


def steep(p: dict) -> jax.Array:
    """A loss whose gradients in w overflow if it is scaled much."""
    return jnp.sum(p["w"] ** 2) * HALF(16) + p["b"]


def one_steep(p: dict) -> jax.Array:
    """A loss whose gradient overflows in b only."""
    return jnp.sum(p["w"]) * HALF(2**-6) + p["b"] ** 2 * HALF(64)


def high(p: dict) -> jax.Array:
    """A loss of 400, which overflows when it is scaled, although its gradients do not."""
    return jnp.sum(p["w"]) * HALF(0.25) + p["b"] * HALF(0.5) + HALF(400)


def broken(p: dict) -> jax.Array:
    """A loss with a gradient of nan at any scale: the derivative of a root at 0, times 0."""
    return jnp.sum(p["w"]) + jnp.sqrt(p["b"] * HALF(0))


def slopes(p: dict, kind: Callable) -> np.ndarray:
    """The gradients of a loss by hand, of b and of w."""
    w, b = np.asarray(p["w"], float), float(p["b"])
    with_b = lambda by_b, by_w: np.r_[by_b, np.broadcast_to(by_w, w.shape)]
    table = {faint: (2**-17 * b, 2**-17 * w), steep: (1, 32 * w), one_steep: (128 * b, 2**-6), high: (0.5, 0.25)}
    return with_b(*table.get(kind, (np.nan, 1.0)))


def half(x: np.ndarray) -> np.ndarray:
    """x rounded to float16, with infinity for what is too large."""
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(np.float16).astype(float)


def scaled(loss: Callable, params: dict, scale: float, rate: float, way: str = "right") -> np.ndarray:
    """[scale, b, w ...] after a step, by hand."""
    start = np.r_[float(params["b"]), np.asarray(params["w"], float)]
    found = half(slopes(params, loss) * (1 if way == "plain" else scale))
    fine = np.isfinite(found)
    used = {"plain": found, "not unscaled": found, "half": half(found / scale)}.get(way, found / scale)
    moved = start - rate * used
    if way in ("by element", "by array"):
        by_array = np.r_[fine[:1], np.full(len(fine) - 1, fine[1:].all())]
        return np.r_[
            scale if fine.all() else scale / 2, np.where(fine if way == "by element" else by_array, moved, start)
        ]
    kept = dict(never=scale, always=scale / 2).get(way, scale if fine.all() else scale / 2)
    kept = scale * 2 if way == "doubled" and not fine.all() else kept
    return np.r_[kept, moved if fine.all() else start]


def _step(answer: Callable, loss: Callable, params: dict, scale: float, rate: float) -> Any:
    def watched(params: dict) -> jax.Array:
        if {x.dtype for x in jax.tree.leaves(params)} != {jnp.dtype(HALF)}:
            raise Wrong("The loss was called with parameters that are not float16: cast params before it.")
        return loss(params)

    program = lambda params, scale: answer(watched, params, scale, rate)
    try:
        jax.eval_shape(program, params, jnp.float32(scale))
    except jax.errors.ConcretizationTypeError:
        raise Wrong(
            "It decides by a Python `if`, or by `bool(...)` or `float(...)`, so it cannot be compiled. Compute "
            "both results, and choose with `jnp.where`."
        ) from None
    return program(params, jnp.float32(scale))


def stepped(answer: Callable) -> Callable:
    """The answer with its results in one array: (loss, params, scale, rate) -> [scale, b, w ...]. It is traced, but
    then run operation by operation: in a compiled program, XLA may compute float16 with the range of float32."""

    def run(loss: Callable, params: dict, scale: float, rate: float) -> np.ndarray:
        new, kept = pair(beside(_step, answer, loss, params, scale, rate), "return params, scale")
        if not isinstance(new, dict) or set(new) != set(params):
            raise Wrong("Return first params, a dictionary like the given one, and then the scale.")
        for name, value in new.items():
            if np.shape(value) != np.shape(params[name]) or value.dtype != jnp.float32:
                raise Wrong(f"The new {name} is {value.dtype} {list(np.shape(value))}; params are kept in float32.")
        result = np.r_[float(numbers(kept)), float(new["b"]), np.asarray(new["w"])]
        if not np.isfinite(result).all():
            raise Wrong(
                "Params are not finite after a step whose gradients are not finite. Such a step must be skipped: keep "
                "the old params. (Multiplying by 0 does not help: 0 · inf is nan.)"
            )
        return result

    return run
