"""Finite scalar quantization by hand, and that it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import layers
from minimuse.beyond import fsq
from minimuse.config import TrainConfig, VQGANConfig
from minimuse.train import losses
from minimuse.train.step import init_state, make_step

SMALL = VQGANConfig(image_size=16, factor=4, channels=(8,), blocks=1)


def test_values_by_hand():
    far = jnp.array([[-99.0], [0.0], [99.0]])
    for levels, expected in (((5,), [-2, 0, 2]), ((4,), [-2, 0, 1]), ((2,), [-1, 0, 0]), ((3,), [-1, 0, 1])):
        assert jnp.round(fsq.squash(far, levels)).ravel().tolist() == expected
    assert fsq.squash(far[1], (4,)).tolist() == pytest.approx([0.0], abs=1e-6)
    many = jnp.round(fsq.squash(jnp.linspace(-9, 9, 999)[:, None], (8,)))
    assert sorted(set(many.ravel().tolist())) == list(range(-4, 4))


def test_tokens_by_hand_and_back():
    levels = (4, 3)
    assert fsq.to_tokens(jnp.array([[-2, -1], [1, -1], [-2, 0], [1, 1]]), levels).tolist() == [0, 3, 4, 11]
    tokens = jnp.arange(1000).reshape(10, 100)
    values = fsq.from_tokens(tokens, fsq.LEVELS)
    assert (fsq.to_tokens(values, fsq.LEVELS) == tokens).all()
    assert len(np.unique(values.reshape(-1, 4), axis=0)) == 1000
    assert (jnp.round(values) == values).all() and values[..., 0].min() == -4 and values[..., 0].max() == 3


def test_gradients_pass_the_rounding():
    z = jnp.array([0.3, -0.2])
    there = jax.grad(lambda z: jnp.sum(fsq.round_through(z, (5, 4))))(z)
    assert there == pytest.approx(jax.grad(lambda z: jnp.sum(fsq.squash(z, (5, 4))))(z)) and (there > 0.5).all()


def test_decoding_tokens_is_decoding_what_was_encoded():
    model = layers.init(fsq.FSQTokenizer, fsq.with_levels(SMALL))
    images = jax.random.uniform(jax.random.key(0), (2, 16, 24, 3), minval=-1, maxval=1)
    there_and_back = jax.jit(lambda m, x: (m.detokenize(m.tokenize(x)), m.decode(m.encode(x)), m.tokenize(x)))
    drawn, decoded, tokens = there_and_back(model, images)
    assert drawn.shape == images.shape and jnp.allclose(drawn, decoded, atol=1e-5)
    assert tokens.shape == (2, 4, 6) and 0 <= tokens.min() and tokens.max() < 1000


@pytest.mark.parametrize("levels, changes", [((8, 5), {}), ((5, 1), dict(codebook_size=5)), ((), {})])
def test_levels_that_do_not_fit_are_refused(levels, changes):
    with pytest.raises(ValueError, match=str(len(levels))):
        layers.init(functools.partial(fsq.FSQTokenizer, levels=levels), dataclasses.replace(SMALL, **changes))


def test_it_learns_without_any_loss_but_pixels():
    config, train = fsq.with_levels(SMALL), TrainConfig(steps=60, batch=8, learning_rate=1e-2, warmup=5, weight_decay=0)
    images = jax.random.randint(jax.random.key(1), (8, 4, 4, 3), 0, 256).repeat(4, 1).repeat(4, 2).astype(jnp.uint8)
    model = layers.init(fsq.FSQTokenizer, config)
    step = make_step(losses.fsq_loss, train)
    state, curve = init_state(model, train), []
    for _ in range(60):
        state, metrics = step(state, dict(images=images))
        curve.append({name: float(value) for name, value in metrics.items()})
    assert curve[-1]["psnr"] > curve[0]["psnr"] + 3 and curve[-1]["perplexity"] > 20
