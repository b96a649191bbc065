"""Modules as pytrees, the linear layer, attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, random_weights
from flax import nnx

from minimuse import layers
from minimuse.transformer import BaseTransformer
from minimuse.weights import named_arrays

INIT = nnx.initializers.lecun_normal()


# --- modules --------------------------------------------------------------------------------------------------------


def test_modules_of_one_config_have_one_structure_with_and_without_weights():
    like = layers.abstract(BaseTransformer, BASE)
    assert layers.abstract(BaseTransformer, BASE) is like
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(like))
    fresh = [layers.init(layers.Linear, 5, 7, INIT, seed=seed) for seed in (1, 1, 2)]
    assert len({jax.tree.structure(one) for one in [*fresh, layers.abstract(layers.Linear, 5, 7, INIT)]}) == 1
    one, same, other = (model.kernel[...] for model in fresh)
    assert one.shape == (5, 7) and (one == same).all() and (one != other).any()


def test_fresh_weights_are_those_of_the_constructor():
    expected = layers.Linear(5, 7, INIT, rngs=nnx.Rngs(3))
    np.testing.assert_array_equal(layers.init(layers.Linear, 5, 7, INIT, seed=3).kernel[...], expected.kernel[...])


def test_a_second_module_of_one_config_compiles_nothing():
    double = jax.jit(lambda model, x: 2 * model(x))
    for seed in range(3):
        double(layers.init(layers.Linear, 5, 7, INIT, seed=seed), jnp.ones((1, 5)))
    assert double._cache_size() == 1


def test_a_module_goes_through_grad_and_tree_map():
    model = layers.init(layers.Linear, 2, 1, INIT)
    slope = jax.grad(lambda model: model(jnp.array([[2.0, 3.0]])).sum())(model)
    assert isinstance(slope, layers.Linear) and slope.kernel[...].ravel().tolist() == [2, 3]
    stepped = jax.tree.map(lambda w, g: w - g, model, slope)
    np.testing.assert_allclose(stepped.kernel[...], model.kernel[...] - np.array([[2.0], [3.0]]), rtol=1e-6)


def test_cast_changes_the_type_of_weights_except_of_exact_ones_and_of_what_is_computed():
    half = layers.cast(random_weights("base", BASE), "bfloat16")
    kept = {name for name, x in named_arrays(half).items() if x.dtype != jnp.bfloat16}
    assert kept == set(half.exact) == {"text_mean", "text_whiten"}
    assert layers.cast(half, "float32").text_whiten[...].dtype == jnp.float32
    assert half.embed(jnp.array([0])).dtype == jnp.bfloat16
    assert list(named_arrays(half)) == list(named_arrays(random_weights("base", BASE)))


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_linear_is_that_of_flax(shape):
    ours = layers.Linear(5, 7, INIT, rngs=nnx.Rngs(0))
    flax = nnx.Linear(5, 7, use_bias=False, kernel_init=INIT, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(ours.kernel[...], flax.kernel[...])
    x, weights = (np.random.default_rng(seed).normal(size=size) for seed, size in enumerate([shape, (*shape[:-1], 7)]))
    np.testing.assert_allclose(ours(x), flax(x), rtol=1e-5, atol=1e-6)

    def gradient(layer):
        return jax.grad(lambda layer, x: (layer(x) * weights).sum(), (0, 1))(layer, x)

    for one, other in zip(jax.tree.leaves(gradient(ours)), jax.tree.leaves(gradient(flax)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_without_a_mesh_rows_stay_where_they_are():
    x = jnp.ones((4, 2))
    assert layers.rows_apart(x) is x


# --- attention ------------------------------------------------------------------------------------------------------


def test_attention_by_hand():
    """One head of one number: the weights are softmax(q k); what is masked has none."""
    q, k, v = (jnp.array(x).reshape(1, -1, 1, 1) for x in ([2.0], [0.0, 1.0, 5.0], [10.0, 20.0, 30.0]))
    weight = np.exp(2) / (1 + np.exp(2))
    seen = layers.attend(q, k, v, jnp.array([[True, True, False]]))
    assert seen.shape == (1, 1, 1) and seen[0, 0, 0] == pytest.approx(10 * (1 - weight) + 20 * weight, abs=1e-4)


@pytest.mark.parametrize("how", ["plain", "xla"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_that_of_jax(masked, how):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, n, 3, 4)), jnp.float32) for n in (5, 7, 7))
    mask = jnp.arange(7)[None] < jnp.array([[4], [7]]) if masked else None
    expected = jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None] if masked else None)
    np.testing.assert_allclose(layers.attend(q, k, v, mask, how), expected.reshape(2, 5, 12), atol=1e-5)


def test_a_mask_may_differ_from_query_to_query():
    """A causal mask [B, N, S]: the first query sees one value only."""
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 4, 1, 3)), jnp.float32) for _ in range(3))
    seen = layers.attend(q, k, v, jnp.tril(jnp.ones((1, 4, 4), bool)))
    np.testing.assert_allclose(seen[:, 0], v[:, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen[:, 3], layers.attend(q, k, v)[:, 3], atol=1e-6)


def test_another_attention_is_refused():
    with pytest.raises(ValueError, match=r"\bflash\b.*\bplain\b"):
        layers.attend(*(jnp.ones((1, 2, 1, 4)),) * 3, how="flash")
