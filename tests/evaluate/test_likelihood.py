"""The bound of masked diffusion, by hand and against a model whose likelihood is known."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, random_weights, transformer_inputs

from minimuse.evaluate.likelihood import bits_bound, picture_bits, stratified_counts


class Table:
    """A joint distribution p [K, K] of two tokens as a masked model: the exact conditional at every hidden position."""

    mask_id = 3

    def __init__(self, p):
        self.p = jnp.asarray(p)

    def condition(self, text):
        return ()

    def __call__(self, tokens):
        def one(row):
            known = [jnp.where(t == 3, jnp.ones(3), jax.nn.one_hot(t, 3)) for t in row]
            joint = self.p * known[0][:, None] * known[1]
            return jnp.log(jnp.stack([joint.sum(1), joint.sum(0)]) + 1e-9)

        return jax.vmap(one)(tokens)


P = np.array([[4, 1, 0], [0, 2, 1], [1, 0, 3]]) / 12


def test_an_exact_model_costs_what_the_picture_is_worth():
    model = Table(P)
    for a, b in itertools.product(range(3), repeat=2):
        if not P[a, b]:
            continue
        tokens = jnp.full((64, 2), jnp.array([a, b]))
        found = bits_bound(model, (), tokens, jax.random.split(jax.random.key(0), 40))
        assert found.shape == (40, 64)
        # Both orders of an exact model multiply to p(a, b), so the bound is reached.
        assert float(found.mean()) == pytest.approx(-math.log2(P[a, b]), abs=0.1)


def test_a_model_that_ignores_what_is_known_costs_more():
    independent = Table(np.outer(P.sum(1), P.sum(0)))
    tokens = jnp.array([[a, b] for a in range(3) for b in range(3) for _ in range(round(12 * P[a, b]))])
    keys = jax.random.split(jax.random.key(1), 400)
    costs = [float(bits_bound(model, (), tokens, keys).mean()) for model in (Table(P), independent)]
    entropy = lambda p: float(-np.sum(p[p > 0] * np.log2(p[p > 0])))
    assert costs[0] == pytest.approx(entropy(P), abs=0.03)
    assert costs[1] == pytest.approx(entropy(P.sum(1)) + entropy(P.sum(0)), abs=0.03) and costs[1] > costs[0] + 0.3


def test_counts_are_uniform_and_spread():
    counts = np.stack([stratified_counts(jax.random.key(i), 8, 4) for i in range(200)])
    assert (np.sort(counts) == [1, 1, 2, 2, 3, 3, 4, 4]).all() and (np.ptp(counts, 0) > 0).all()
    assert 1 <= stratified_counts(jax.random.key(0), 1, 64)[0] <= 64


def test_it_is_a_program_for_a_transformer():
    tokens, text, mask = transformer_inputs(BASE)
    keys = jax.random.split(jax.random.key(2), 3)
    found = picture_bits(random_weights("base", BASE), (text, mask), tokens % BASE.codebook_size, keys)
    assert found.shape == (3, len(tokens)) and (found > 0).all()
    again = picture_bits(random_weights("base", BASE), (text, mask), tokens % BASE.codebook_size, keys[:1])
    assert jnp.allclose(again[0], found[0], rtol=1e-4)
