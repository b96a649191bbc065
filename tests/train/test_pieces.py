"""A batch in pieces gives the gradients and the metrics of the whole, with the same random draws, at every stage."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree, random_weights

from minimuse import layers
from minimuse.config import DiffusionConfig, T5Config, TrainConfig
from minimuse.evaluate.baselines import BASELINES
from minimuse.evaluate.scorer import ScorerConfig, ScorerNet
from minimuse.presets import get_preset
from minimuse.train import codebook, losses
from minimuse.train.scorer import scorer_loss, training_batch
from minimuse.train.step import Loss, gradients, init_state, make_step
from minimuse.train.t5_pretraining import T5, pretrain_loss

MICRO = get_preset("micro")
ROWS = 8
LONG = ("scorer", "superres_tokenizer", "superres", "autoregressive")  # to compile; their losses are like the others'
STAGES = ["text", "tokenizer", "base", "diffusion", *(pytest.param(stage, marks=pytest.mark.slow) for stage in LONG)]


@functools.cache
def case(stage):
    """A stage of the preset micro: weights, loss, a batch of 8."""
    rng = np.random.default_rng(0)
    if stage == "text":
        config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, num_decoder_layers=1)
        length = rng.integers(2, 9, (ROWS, 1))  # rows of unequal length: a mean over pieces would be another number
        ids = lambda n: np.where(np.arange(n) < length, rng.integers(2, 40, (ROWS, n)), 0).astype(np.int32)
        return random_tree(layers.abstract(T5, config)), pretrain_loss, dict(inputs=ids(8), targets=ids(8))
    if stage == "scorer":
        return random_tree(layers.abstract(ScorerNet, ScorerConfig())), scorer_loss, training_batch(0, ROWS)
    if stage.endswith("tokenizer"):
        config = getattr(MICRO, stage)
        images = rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8)
        return random_weights(stage, config), functools.partial(losses.tokenizer_loss, config), dict(images=images)
    config, train = MICRO.superres if stage == "superres" else MICRO.base, MICRO.train[stage]
    if stage == "diffusion":
        config = DiffusionConfig(**dataclasses.asdict(config), code_dim=4)
    n = config.grid[0] * config.grid[1]
    batch = dict(
        tokens=rng.integers(0, config.codebook_size, (ROWS, n)),
        text=rng.normal(size=(ROWS, 5, config.text_width)).astype(np.float16),
        text_mask=np.arange(5) < rng.integers(1, 6, (ROWS, 1)),
    )
    if stage == "superres":
        batch["low"] = rng.integers(0, config.low_codebook_size, (ROWS, 64))
    if stage in BASELINES:
        model, loss = random_tree(layers.abstract(BASELINES[stage].module, config)), losses.BASELINE_LOSSES[stage]
    else:
        model, loss = random_weights(stage, config), losses.transformer_loss
    return model, functools.partial(loss, config, train), batch


@functools.cache
def found(stage, pieces):
    model, loss, batch = case(stage)
    return jax.jit(functools.partial(gradients, loss, pieces))(model, jax.random.key(3), batch)


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_and_metrics_in_pieces_are_those_of_the_whole(stage):
    (whole, seen), (pieces, parts) = found(stage, 1), found(stage, 4)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(whole))
    assert scale > 0
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5 * max(scale, 1), rtol=1e-5)
    assert parts.keys() == seen.keys()
    for name in seen:
        np.testing.assert_allclose(parts[name], seen[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_codes_of_a_batch_in_pieces_restart_as_those_of_the_whole():
    """Order matters: a dead code moves to an encoding by its number in the batch."""
    model, loss, batch = case("tokenizer")
    update, after = functools.partial(codebook.update_codes, MICRO.tokenizer), []
    for accumulate in (1, 4):
        train = TrainConfig(steps=4, batch=ROWS, warmup=1, accumulate=accumulate)
        state = init_state(model, train, **codebook.codebook_state(MICRO.tokenizer))
        after.append(make_step(loss, train, update)(state, batch)[0])
    for one, other in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_shares_are_added_and_rows_keep_their_order():
    """By hand: the mean over the positive entries of the rows 1, 2, -1, 4, where pieces have two and one of them."""

    def share(model, rows, batch):
        total = jnp.sum(model * rows["x"] * rows["chosen"]) / jnp.sum(batch["chosen"])
        return total, dict(count=jnp.sum(rows["chosen"])), dict(x=rows["x"])

    loss = Loss(lambda key, batch: batch | dict(chosen=batch["x"] > 0), share)
    for pieces in (1, 2, 4):
        grads, metrics = gradients(loss, pieces, jnp.float32(2), jax.random.key(0), dict(x=np.array([1.0, 2, -1, 4])))
        assert grads == pytest.approx(7 / 3) and metrics["loss"] == pytest.approx(14 / 3)
        assert metrics["count"] == 3 and metrics["x"].tolist() == [1, 2, -1, 4]


def test_every_piece_takes_its_rows_of_one_draw():
    def share(model, rows, batch):
        return jnp.sum(model * rows["noise"]), {}, dict(noise=rows["noise"])

    loss = Loss(lambda key, batch: batch | dict(noise=jax.random.normal(key, batch["x"].shape)), share)
    key, batch = jax.random.key(0), dict(x=np.zeros(6, np.float32))
    grads, metrics = gradients(loss, 3, jnp.float32(1), key, batch)
    np.testing.assert_array_equal(metrics["noise"], jax.random.normal(key, (6,)))
    np.testing.assert_allclose(grads, jax.random.normal(key, (6,)).sum(), rtol=1e-6)


def test_pieces_need_less_memory():
    model, loss, batch = case("base")
    batch = {name: np.concatenate([x] * 8) for name, x in batch.items()}

    def planned(pieces):
        program = jax.jit(functools.partial(gradients, loss, pieces)).lower(model, jax.random.key(0), batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert planned(8) < planned(1) / 3
