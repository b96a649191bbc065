"""NNX modules as data: a graph definition, which is static, and a nested dict of arrays, which travels through jit."""

import functools

import jax
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
