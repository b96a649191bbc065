"""What the checks of JAX exercises share: an answer as a compiled program, and its gradients."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, beside

UNTRACEABLE = "Use `jnp` and `jax` only: no numpy, no `float(...)`, and no `if` on a traced value."


def random(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Normal random numbers, float32, an array for each shape."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def _parts(program: Any) -> Iterator[Any]:
    """A program of JAX, and all that are called in it."""
    yield program
    for line in program.eqns:
        for value in line.params.values():
            for part in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(part := getattr(part, "jaxpr", part), "eqns"):
                    yield from _parts(part)


class Recorded(NamedTuple):
    """What JAX records when it traces an answer."""

    lines: int  # of the program
    largest: int  # how many numbers its largest array holds
    loops: list[int]  # how often each of its loops runs


def _recorded(answer: Callable, static: tuple[int, ...], *args: Any) -> list:
    try:
        program = jax.make_jaxpr(answer, static_argnums=static)(*args)
    except NotImplementedError:
        raise
    except Exception as error:
        raise Wrong(f"JAX cannot trace it ({type(error).__name__}). {UNTRACEABLE}") from None
    lines = [line for part in _parts(program.jaxpr) for line in part.eqns]
    sizes = [int(np.prod(getattr(out.aval, "shape", ()))) for line in lines for out in line.outvars]
    loops = [line.params["length"] for line in lines if "length" in line.params]
    return [str(program).count("\n"), max(sizes, default=0), loops]


def recorded(answer: Callable, *args: Any, static: tuple[int, ...] = ()) -> Recorded:
    """What JAX records when it traces an answer.

    static   the places of arguments that stay Python values
    """
    return Recorded(*beside(_recorded, answer, static, *args))


def constant_length(programs: Iterable[Recorded], of: str, advice: str) -> None:
    """Wrong if the second of two programs, for more steps or examples, is longer than the first."""
    one, two = (program.lines for program in programs)
    if two > one + 5:
        raise Wrong(
            f"The results are right, but the program grows: for {of} it has {two} lines, and {one} for fewer. JAX "
            f"unrolls a Python loop. {advice}"
        )


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights from 0.5 to 2.5, all different, float [*shape]: the gradient of a weighted sum shows every derivative."""
    return 1.5 + np.cos(1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape)


def _gradient(answer: Callable, wrt: int, *args: Any) -> jax.Array:
    def total(x: jax.Array) -> jax.Array:
        value = answer(*args[:wrt], x, *args[wrt + 1 :])
        return jnp.sum(jnp.asarray(weights(np.shape(value)), jnp.float32) * value)

    try:
        return jax.grad(total)(jnp.asarray(args[wrt], jnp.float32))
    except Exception as error:
        raise Wrong(
            f"The values are right, but JAX cannot take a gradient ({type(error).__name__}). {UNTRACEABLE}"
        ) from None


def right_slope(slope: np.ndarray, right: Callable, wrt: int, *args: Any) -> None:
    """Wrong unless this is the gradient of Σ weights · right(...) with respect to one of the arguments, as a central
    difference in one direction gives it."""
    direction, ends = np.cos(np.arange(slope.size)).reshape(slope.shape), []
    for h in (1e-4, -1e-4):
        value = right(*args[:wrt], np.asarray(args[wrt], float) + h * direction, *args[wrt + 1 :])
        ends.append((weights(np.shape(value)) * value).sum())
    if not np.isclose((slope * direction).sum(), (ends[0] - ends[1]) / 2e-4, rtol=1e-3, atol=1e-3):
        name = [*inspect.signature(right).parameters][wrt]
        raise Wrong(f"The values are right, but their gradient with respect to {name} is not.")


def gradient(answer: Callable, wrt: int = 0) -> Callable:
    """A function of the answer's arguments: the gradient of Σ weights · answer with respect to one of them."""
    return lambda *args: beside(_gradient, answer, wrt, *args)
