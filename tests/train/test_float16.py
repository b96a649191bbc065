"""float16 with a scaled loss: small gradients survive, an overflow costs one step, and weights stay float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_weights

from minimuse.config import TrainConfig
from minimuse.presets import get_preset
from minimuse.train import losses
from minimuse.train.step import FIRST_SCALE, STEPS_TO_DOUBLE, Loss, gradients, init_state, make_step, next_scale

MICRO = get_preset("micro")
TRAIN = TrainConfig(steps=40, batch=8, warmup=2, learning_rate=1e-2, dtype="float16", caption_dropout=0.0)


@pytest.mark.parametrize(
    ("scale", "steps", "finite", "expected"),
    [
        (1024.0, 7, True, (1024.0, 8)),
        (1024.0, 7, False, (512.0, 0)),
        (1024.0, STEPS_TO_DOUBLE - 1, True, (2048.0, 0)),
        (1024.0, STEPS_TO_DOUBLE - 1, False, (512.0, 0)),
    ],
)
def test_the_scale_halves_after_an_overflow_and_doubles_after_many_good_steps(scale, steps, finite, expected):
    found = next_scale(dict(scale=jnp.float32(scale), steps=jnp.int32(steps)), jnp.bool_(finite))
    assert (float(found["scale"]), int(found["steps"])) == expected


def half(params, key, batch):
    """A loss whose gradient, 1e-8 x, is 0 in float16."""
    value = jnp.sum(params.astype(jnp.float16) * jnp.float16(1e-4) * batch["x"].astype(jnp.float16) * jnp.float16(1e-4))
    return value.astype(jnp.float32), {}


def test_small_gradients_survive_in_float16_if_the_loss_is_scaled():
    batch, weights = dict(x=np.array([0.5, 1, 2])), jnp.array([1e-3, 1e-3, 1e-3])
    assert not gradients(half, 1, weights, None, batch)[0].any()
    grads, metrics = gradients(half, 1, weights, None, batch, scale=2.0**14)
    np.testing.assert_allclose(grads, [0.5e-8, 1e-8, 2e-8], rtol=2e-3)
    assert grads.dtype == jnp.float32


def test_the_scale_changes_neither_metrics_nor_gradients_in_pieces():
    share = lambda model, rows, batch: (jnp.sum(model * rows["x"]) / 4, dict(seen=jnp.sum(rows["x"])), {})
    loss = Loss(lambda key, batch: batch, share)
    for pieces in (1, 2, 4):
        grads, metrics = gradients(loss, pieces, jnp.float32(3), None, dict(x=np.array([1.0, 2, 3, 4])), scale=64.0)
        assert (grads, metrics["loss"], metrics["seen"]) == (2.5, 7.5, 10)


def case():
    rng, config = np.random.default_rng(0), MICRO.base
    batch = dict(
        tokens=rng.integers(0, config.codebook_size, (8, 64)),
        text=rng.normal(size=(8, 5, config.text_width)).astype(np.float16),
        text_mask=np.ones((8, 5), bool),
    )
    return random_weights("base", config), functools.partial(losses.transformer_loss, config), batch


def test_training_in_float16_follows_float32():
    model, loss, batch = case()
    curves = {}
    for dtype in ("float32", "float16"):
        train = TrainConfig(steps=40, batch=8, warmup=2, learning_rate=1e-2, dtype=dtype, caption_dropout=0.0)
        state, step = init_state(model, train), make_step(functools.partial(loss, train), train)
        curves[dtype] = []
        for _ in range(40):
            state, metrics = step(state, batch)
            curves[dtype].append(float(metrics["loss"]))
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((state["params"], state["ema"])))
    exact, half = (np.array(curves[dtype]) for dtype in ("float32", "float16"))
    assert exact[-1] < exact[0] - 0.2  # it learns
    np.testing.assert_allclose(half, exact, rtol=0.02)


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    model, loss, batch = case()
    step, state = make_step(functools.partial(loss, TRAIN), TRAIN), init_state(model, TRAIN)
    assert state["scaling"]["scale"] == FIRST_SCALE
    state, good = step(state, batch)
    before = jax.device_get({name: state[name] for name in ("params", "ema", "opt")})
    state["scaling"] = dict(scale=jnp.float32(1e30), steps=jnp.array(3))
    state, metrics = step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get({name: state[name] for name in before}))
    assert state["step"] == 2 and state["scaling"]["steps"] == 0
    assert state["scaling"]["scale"] == pytest.approx(0.5e30)
    assert np.isnan(metrics["grad_norm"]) and np.isfinite(metrics["loss"])
    assert np.isfinite(good["grad_norm"])


def test_only_float16_scales():
    model, _, _ = case()
    assert "scaling" not in init_state(model, TrainConfig(steps=1, batch=8, dtype="bfloat16"))
