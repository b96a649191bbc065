"""What the checks of JAX exercises share: an answer as a compiled program, and its gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong

UNTRACEABLE = "Use `jnp` and `jax` only: no numpy, no `float(...)`, and no `if` on a traced value."


def random(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Normal random numbers, float32, an array for each shape."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def program(answer: Callable, *args: Any) -> str:
    """The program that JAX records when it traces the answer; Wrong if it cannot."""
    try:
        return str(jax.make_jaxpr(answer)(*args))
    except Exception as error:
        raise Wrong(f"JAX cannot trace it ({type(error).__name__}). {UNTRACEABLE}") from None


def constant_length(programs: list[str], of: str, advice: str) -> None:
    """Wrong if the second of two programs, for more steps or examples, is longer than the first."""
    one, two = (text.count("\n") for text in programs)
    if two > one + 5:
        raise Wrong(
            f"The results are right, but the program grows: for {of} it has {two} lines, and {one} for fewer. JAX "
            f"unrolls a Python loop. {advice}"
        )


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights from 0.5 to 2.5, all different, float [*shape]: the gradient of a weighted sum shows every derivative."""
    return 1.5 + np.cos(1.0 + np.arange(np.prod(shape, dtype=int))).reshape(shape)


def gradient(answer: Callable, wrt: int = 0) -> Callable:
    """A function of the answer's arguments: the gradient of Σ weights · answer with respect to one of them."""

    def run(*args: Any) -> jax.Array:
        def total(x: jax.Array) -> jax.Array:
            value = answer(*args[:wrt], x, *args[wrt + 1 :])
            return jnp.sum(jnp.asarray(weights(np.shape(value)), jnp.float32) * value)

        try:
            return jax.grad(total)(jnp.asarray(args[wrt], jnp.float32))
        except Exception as error:
            raise Wrong(
                f"The values are right, but JAX cannot take a gradient ({type(error).__name__}). {UNTRACEABLE}"
            ) from None

    return run
