"""The step of one device of a mesh, by hand, and meshes to try it on: for exercises 13."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, beside, compiled, numbers


def power_loss(power: int) -> Callable:
    """A loss of linear weights: (w [n], xs [B, n], ys [B]) -> the mean of the errors to this power."""
    return lambda w, xs, ys: jnp.mean((xs @ w - ys) ** power)


def _mesh_step(answer: Callable, w: jax.Array, xs: jax.Array, ys: jax.Array, rate: float, power: int) -> jax.Array:
    fsdp = xs.shape[1]
    shape = (len(w) // fsdp,)

    def device(shard: jax.Array, xs: jax.Array, ys: jax.Array) -> jax.Array:
        new = answer(power_loss(power), shard, xs, ys, rate)
        if np.shape(new) != shape:
            raise Wrong(
                f"A device returned an array of shape {list(np.shape(new))}; its share has shape {list(shape)}. "
                "Return only the device's own share of the new weights."
            )
        return jnp.asarray(new)

    row = jax.vmap(device, axis_name="fsdp")
    grid = compiled(jax.vmap(row, in_axes=(None, 0, 0), axis_name="data"))
    try:
        return grid(w.reshape(fsdp, -1), xs, ys)
    except NotImplementedError as error:
        if str(error) == "one_device_step":  # the stub
            raise
        raise Wrong(f"JAX cannot run it on a mesh: {error}. `all_gather` takes one axis at a time.") from None


def on_mesh(answer: Callable) -> Callable:
    """The answer, a program of one device, run on a mesh: (w, xs, ys, rate, power) -> the weights that each row of
    devices holds afterwards, [data, n]."""

    def run(w: np.ndarray, xs: np.ndarray, ys: np.ndarray, rate: float, power: int) -> np.ndarray:
        shares = numbers(beside(_mesh_step, answer, w, xs, ys, rate, power), (*xs.shape[:2], len(w) // xs.shape[1]))
        return shares.reshape(len(xs), -1)

    return run


def gradient_of_rows(w: np.ndarray, xs: np.ndarray, ys: np.ndarray, power: int) -> np.ndarray:
    """By hand, of the mean over some rows."""
    xs, ys = xs.reshape(-1, len(w)), ys.reshape(-1)
    return power * (xs.T @ (xs @ w - ys) ** (power - 1)) / len(xs)


def after_step(
    w: np.ndarray, xs: np.ndarray, ys: np.ndarray, rate: float, power: int, over: str = "both", first: bool = False
) -> np.ndarray:
    """The weights [data, n] after a step if gradients are averaged over these axes of the mesh, by a loop over devices;
    first: every device takes the first share of the gradient."""
    data, fsdp = xs.shape[:2]
    found = np.zeros((data, fsdp, len(w) // fsdp))
    for d in range(data):
        for f in range(fsdp):
            rows = dict(both=(slice(None),), data=(slice(None), f), fsdp=(d,), none=(d, f))[over]
            g = gradient_of_rows(w, xs[rows], ys[rows], power)
            own = lambda v, i: v.reshape(fsdp, -1)[i]
            found[d, f] = own(w, f) - rate * own(g, 0 if first else f)
    return found.reshape(data, -1)


def mesh_case(seed: int, data: int, fsdp: int, rows: int, width: int, power: int) -> tuple:
    """Weights [width], inputs [data, fsdp, rows, width] and targets of every device, a rate, and the loss's power."""
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=width), rng.normal(size=(data, fsdp, rows, width)), rng.normal(size=(data, fsdp, rows))
    return *(array.astype(np.float32) for array in arrays), 0.1, power
