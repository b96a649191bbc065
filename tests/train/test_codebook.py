"""A codebook in use: restart of dead codes, and codes that are running means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_weights

from minimuse.config import TrainConfig, VQGANConfig
from minimuse.train import codebook
from minimuse.train.step import optimizer
from minimuse.weights import named_arrays, with_arrays

TINY = VQGANConfig(codebook_size=4, code_dim=4, channels=(4,), blocks=0)


def state_of(codes, **more):
    """A training state whose codebook is `codes`."""
    model = with_arrays(random_weights("tokenizer", TINY), dict(codebook=jnp.asarray(codes)))
    return dict(params=model, ema=jax.tree.map(jnp.copy, model), **more)


def codes_of(state, name="params"):
    return named_arrays(state[name])["codebook"]


def test_dead_codes_move_onto_encodings_and_live_ones_stay():
    codes = jnp.eye(4)
    state = state_of(codes, step=9, usage=jnp.array([1.0, 1, 0, 0]))
    encodings = jnp.full((5, 4), 0.5)
    metrics = dict(counts=jnp.array([3, 2, 0, 0]), encodings=encodings, distance=jnp.ones(5))
    after = codebook.restart_dead_codes(state, jax.random.key(0), metrics)
    for name in ("params", "ema"):
        assert (codes_of(after, name)[:2] == codes[:2]).all()
        assert (codes_of(after, name)[2:] == 0.5).all()
    assert after["step"] == 9 and (after["usage"][2:] > 0.02).all()  # some time to be of use
    again = codebook.restart_dead_codes(after, jax.random.key(1), metrics | dict(encodings=-encodings))
    assert (codes_of(again)[2:] == 0.5).all()


@pytest.mark.parametrize("settings", [{}, dict(muon=0.01), dict(optimizer="adafactor")])
def test_the_optimizer_forgets_moved_codes(settings):
    train = TrainConfig(steps=9, batch=1, warmup=1, **settings)
    state = state_of(jnp.eye(4), usage=jnp.array([1.0, 1, 0, 0]))
    tx, grads = optimizer(train), jax.tree.map(jnp.ones_like, state["params"])
    opt = tx.update(grads, tx.init(state["params"]), state["params"])[1]
    metrics = dict(counts=jnp.array([3, 2, 0, 0]), encodings=jnp.full((5, 4), 0.5), distance=jnp.ones(5))
    after = codebook.restart_dead_codes(state | dict(opt=opt), jax.random.key(0), metrics)["opt"]
    assert jax.tree.structure(after) == jax.tree.structure(opt)
    before, found = named_arrays(opt), named_arrays(after)
    moments = [name for name, x in before.items() if name.endswith(".codebook") and x.shape == (4, 4)]
    assert len(moments) == 2  # a mean of the gradient, and one of its square
    for name, x in before.items():
        if name in moments:
            assert (x != 0).all() and (found[name][:2] == x[:2]).all() and not found[name][2:].any()
        else:
            assert (found[name] == x).all()


def test_the_codebook_is_laid_out_when_quantization_begins():
    state = state_of(jnp.eye(4), usage=jnp.zeros(4))
    metrics = dict(counts=jnp.array([5, 0, 0, 0]), distance=jnp.ones(1))
    for value, begun in ((0.3, 0.0), (0.4, 0.0), (0.5, 1.0), (0.6, 1.0)):
        metrics |= dict(encodings=jnp.full((1, 4), value), quantize=jnp.float32(begun))
        state = codebook.restart_dead_codes(state, jax.random.key(0), metrics)
        # Laid again on the encodings of every step, for the last time on those of the first one that is quantized.
        assert jnp.allclose(codes_of(state), min(value, 0.5))
        assert bool((state["usage"] > 0).all()) == bool(begun)


def test_a_code_becomes_the_mean_of_the_encodings_that_chose_it():
    config = VQGANConfig(codebook_size=3, code_dim=2, codebook_ema=0.5)
    state = state_of(jnp.eye(3, 2), **codebook.codebook_state(config))
    encodings = jnp.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    metrics = dict(tokens=jnp.array([0, 0, 1]), encodings=encodings)
    after = codebook.average_codes(state, metrics, 0.5)
    # Code 0: half of (0.6, 0.8) + (1, 0) = (1.6, 0.8), to length 1. Code 2 was chosen by nothing and stays.
    expected = np.array([[2, 1], [0, np.sqrt(5)], [0, 0]]) / np.sqrt(5)
    for name in ("params", "ema"):
        np.testing.assert_allclose(codes_of(after, name), expected, atol=1e-6)
    # A second batch counts as much as the first, halved: 0.25 (1.6, 0.8) + 0.5 (0, 1.2).
    again = codebook.average_codes(after, dict(tokens=jnp.array([0]), encodings=jnp.array([[0.0, 1.2]])), 0.5)
    np.testing.assert_allclose(codes_of(again)[0], np.array([0.4, 0.8]) / np.sqrt(0.8), atol=1e-6)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_running_sums_are_kept_only_where_codes_are_means(ema):
    config = VQGANConfig(codebook_size=4, code_dim=4, codebook_ema=ema)
    kept = codebook.codebook_state(config)
    assert kept.keys() == ({"usage", "sums"} if ema else {"usage"}) and not kept["usage"].any()
    metrics = dict(counts=jnp.array([2, 0, 0, 0]), encodings=jnp.full((2, 4), 0.5), distance=jnp.ones(2))
    metrics |= dict(tokens=jnp.array([0, 0]))
    after = codebook.update_codes(config, state_of(jnp.eye(4), **kept), jax.random.key(0), metrics)
    assert jnp.allclose(codes_of(after), 0.5) and after.keys() == {"params", "ema", *kept}
    if ema:
        assert jnp.allclose(after["sums"], 0.5)  # those of dead codes begin again, too
