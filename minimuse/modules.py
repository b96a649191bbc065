"""NNX modules as data: a graph definition, which is static, and a nested dict of arrays, which travels through jit."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx


@functools.cache  # one and the same for equal arguments: a second model of a config then compiles nothing
def abstract(cls: type[nnx.Module], *config) -> tuple[nnx.GraphDef, dict]:
    """Graph definition and the nested dict of shapes of cls(*config, rngs=...), without making any weights."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: cls(*config, rngs=nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(state)


def init(cls: type[nnx.Module], *config, seed: int = 0) -> tuple[nnx.GraphDef, dict]:
    """Graph definition and fresh weights; one compiled program instead of one a weight."""
    make = jax.jit(lambda: nnx.to_pure_dict(nnx.split(cls(*config, rngs=nnx.Rngs(seed)))[1]))
    return abstract(cls, *config)[0], make()


def cast(params: dict, dtype: str) -> dict:
    """The same weights in another type. A transformer computes in the type of its weights; softmax, norms' statistics
    and losses are in float32 all the same."""
    return jax.tree.map(lambda x: x.astype(jnp.dtype(dtype)), params)


class Embed(nnx.Embed):
    """ids int [...] -> [..., D], in the type of the weights; nnx.Embed stays with the type it was made in."""

    def __call__(self, ids: jax.Array) -> jax.Array:
        return jnp.take(self.embedding[...], ids, axis=0)


class Linear(nnx.Module):
    """x [..., in] -> x W [..., out], without a bias.

    nnx.Linear with all axes but the last made one. From [B, N, out], XLA's CPU backend transposes the whole gradient
    before it multiplies, and W's gradient takes two to four times as long (`python -m benchmarks.linear`).
    """

    def __init__(self, width_in: int, width_out: int, kernel_init: nnx.Initializer, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (width_in, width_out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x.reshape(-1, x.shape[-1]) @ self.kernel[...]).reshape(*x.shape[:-1], -1)
