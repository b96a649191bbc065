"""Modules as data, and the linear layer."""

import jax
import numpy as np
import pytest
from flax import nnx

from minimuse import layers


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_linear_is_that_of_flax(shape):
    init = nnx.initializers.lecun_normal()
    ours = layers.Linear(5, 7, init, rngs=nnx.Rngs(0))
    flax = nnx.Linear(5, 7, use_bias=False, kernel_init=init, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(ours.kernel[...], flax.kernel[...])
    x, weights = (np.random.default_rng(seed).normal(size=size) for seed, size in enumerate([shape, (*shape[:-1], 7)]))
    np.testing.assert_allclose(ours(x), flax(x), rtol=1e-5, atol=1e-6)

    def gradient(layer):
        graphdef, state = nnx.split(layer)
        return jax.grad(lambda state, x: (nnx.merge(graphdef, state)(x) * weights).sum(), (0, 1))(state, x)

    for one, other in zip(jax.tree.leaves(gradient(ours)), jax.tree.leaves(gradient(flax)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_module_is_described_once_and_without_weights():
    config = (5, 7, nnx.initializers.lecun_normal())
    graphdef, shapes = layers.abstract(layers.Linear, *config)
    assert layers.abstract(layers.Linear, *config)[0] is graphdef
    assert isinstance(shapes["kernel"], jax.ShapeDtypeStruct) and shapes["kernel"].shape == (5, 7)
    params = layers.init(layers.Linear, *config, seed=1)[1]
    assert params["kernel"].shape == (5, 7) and not np.array_equal(
        params["kernel"], layers.init(layers.Linear, *config, seed=2)[1]["kernel"]
    )
