"""Losses by hand, and that training with them learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import BASE, FRESH, SUPERRES, random_weights, transformer_inputs

from minimuse import layers, masking, transformer, vqgan
from minimuse.config import TrainConfig, VQGANConfig
from minimuse.decoding import halton_ranks
from minimuse.evaluate.metrics import perplexity, psnr
from minimuse.presets import get_preset
from minimuse.train import codebook, losses
from minimuse.train.step import init_state, make_step

TOKENIZER = VQGANConfig(codebook_size=16, code_dim=4, channels=(8, 16), blocks=1)
TRAIN = TrainConfig(steps=1, batch=3)


def batch_of(config):
    tokens, text, mask, *low = transformer_inputs(config)
    batch = dict(tokens=tokens % config.codebook_size, text=text, text_mask=mask)
    return batch | (dict(low=low[0]) if low else {})


# --- the tokenizer's ------------------------------------------------------------------------------------------------


def test_beta_is_on_the_term_that_moves_the_encoder():
    z, e = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.0]])
    codebook_loss, commitment = losses.vq_losses(z, e)
    assert codebook_loss == commitment == 1.0

    def loss(z, e, beta):
        codebook_loss, commitment = losses.vq_losses(z, e)
        return codebook_loss + beta * commitment

    for beta in (0.25, 2.0):
        to_z, to_e = jax.grad(loss, (0, 1))(z, e, beta)
        assert to_z.tolist() == [[2 * beta, 0.0]]  # the encoder is pulled with weight beta
        assert to_e.tolist() == [[-2.0, 0.0]]  # the codes with weight 1, whatever beta is


def test_pixel_loss_by_hand():
    decoded, images = jnp.array([0.5, -0.5]), jnp.array([0.0, 0.5])
    assert [float(x) for x in losses.pixel_loss(decoded, images)] == [0.75 + 0.625, 0.75]


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(jnp.array([5, 5, 5, 5, 0, 0])) == pytest.approx(4)
    assert perplexity(jnp.array([7, 0, 0])) == pytest.approx(1)


def test_psnr_by_hand():
    x = jnp.zeros((1, 2, 2, 3))
    assert psnr(x, x + 0.2) == pytest.approx(20.0, abs=1e-3)  # 10 log10(4 / 0.04)


def test_before_quantization_it_is_a_plain_autoencoder():
    model = random_weights("tokenizer", TOKENIZER)
    images = jax.random.randint(jax.random.key(0), (2, 16, 16, 3), 0, 256).astype(jnp.uint8)
    batch = lambda begun: dict(images=images, quantize=np.full(2, begun))
    loss = jax.jit(jax.value_and_grad(functools.partial(losses.tokenizer_loss, TOKENIZER), has_aux=True))
    (value, metrics), grads = loss(model, None, batch(False))
    pixels = vqgan.to_float(images)
    plain = jax.jit(lambda model, pixels: model.decoder(model.encode(pixels)))(model, pixels)
    assert value == pytest.approx(float(losses.pixel_loss(plain, pixels)[0]), rel=1e-5)
    assert not metrics["quantize"] and not jnp.any(grads.codebook[...])

    (value, metrics), grads = loss(model, None, batch(True))
    rebuilt = jax.jit(lambda model, pixels: model.detokenize(model.tokenize(pixels)))(model, pixels)
    assert metrics["l1"] == pytest.approx(float(losses.pixel_loss(rebuilt, pixels)[1]), rel=1e-5)
    assert metrics["quantize"] and jnp.any(grads.codebook[...])
    assert loss(model, None, dict(images=images))[0][0] == value  # a batch that says nothing is quantized
    assert loss._cache_size() == 2


def test_codes_that_are_means_need_no_codebook_loss():
    images = jax.random.uniform(jax.random.key(3), (2, 16, 16, 3), minval=-1, maxval=1)
    for ema, moves in ((0.0, True), (0.9, False)):
        config = VQGANConfig(codebook_size=16, code_dim=4, channels=(8,), codebook_ema=ema)
        slope = jax.jit(jax.grad(lambda model, config=config: losses.code_losses(model, config, images)[1]))(
            random_weights("tokenizer", config)
        )
        assert bool(jnp.any(slope.codebook[...] != 0)) == moves
        assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope.encoder))  # the commitment goes on


@pytest.mark.parametrize("ema", [0.0, pytest.param(0.9, marks=pytest.mark.slow)])
def test_training_learns_and_uses_the_codebook(ema):
    """Slow with running means, which test_codebook.py checks by hand."""
    from minimuse.data import scenes

    config = VQGANConfig(codebook_size=32, code_dim=8, channels=(32,), blocks=1, codebook_ema=ema)
    train = TrainConfig(steps=150, batch=8, learning_rate=3e-3, warmup=5, weight_decay=0)
    model = layers.init(vqgan.VQGAN, config)
    loss = functools.partial(losses.tokenizer_loss, config)
    step = make_step(loss, train, functools.partial(codebook.update_codes, config))
    state = init_state(model, train, **codebook.codebook_state(config))
    batch = dict(images=scenes.render_batch([scenes.example("train", i)[0] for i in range(8)], 32))
    curve = []
    for _ in range(150):
        state, metrics = step(state, batch)
        curve.append({k: float(v) for k, v in metrics.items()})
    assert curve[-1]["psnr"] > curve[0]["psnr"] + 4
    assert curve[-1]["perplexity"] > 3
    assert step._cache_size() == 1
    assert np.isfinite([row["grad_norm"] for row in curve]).all()


# --- the transformers' ----------------------------------------------------------------------------------------------


def test_captions_are_dropped_at_the_rate_that_is_asked_for():
    mask = jnp.ones((20_000, 4), bool)
    dropped = ~np.asarray(losses.drop_captions(jax.random.key(0), mask, 0.1)).any(-1)
    assert 0.09 < dropped.mean() < 0.11  # 10%, not 90%
    assert np.asarray(losses.drop_captions(jax.random.key(0), mask, 0.0)).all()


def test_loss_by_hand_counts_only_masked_positions():
    # Two positions, two codes: p = (3/4, 1/4) everywhere.
    logits = jnp.log(jnp.array([[[3.0, 1.0], [3.0, 1.0]]]))
    tokens = jnp.array([[0, 1]])
    for mask, expected in (([[True, False]], np.log(4 / 3)), ([[False, True]], np.log(4)), ([[False, False]], 0.0)):
        assert losses.masked_loss(logits, tokens, jnp.array(mask)) == pytest.approx(expected, abs=1e-6)
    smooth = 0.8 * np.log(4 / 3) + 0.2 * (np.log(4 / 3) + np.log(4)) / 2
    assert losses.masked_loss(logits, tokens, jnp.array([[True, False]]), 0.2) == pytest.approx(smooth, abs=1e-6)


def test_losses_by_mask_rate_by_hand():
    mask = jnp.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], bool)  # a quarter, all, all
    values = jnp.array([[8.0, 1, 1, 1], [1, 2, 3, 4], [5, 6, 7, 8]])
    found = losses.by_mask_rate(dict(loss=values), mask)
    assert list(found) == ["loss_r25", "loss_r50", "loss_r75", "loss_r100"]
    assert found["loss_r25"] == 8 and found["loss_r100"] == 4.5
    assert np.isnan(found["loss_r50"]) and np.isnan(found["loss_r75"])  # not in the batch


def test_the_model_sees_kept_tokens_and_mask_tokens_for_hidden_ones():
    batch, seen = batch_of(BASE), []

    class Spy(transformer.BaseTransformer):
        def __call__(self, tokens, *rest):
            seen.append(np.asarray(tokens))
            return super().__call__(tokens, *rest)

    model = jax.tree.unflatten(
        jax.tree.structure(layers.abstract(Spy, BASE)), jax.tree.leaves(random_weights("base", BASE))
    )
    key = jax.random.key(0)
    loss, metrics = losses.transformer_loss(BASE, TRAIN, model, key, batch)
    hidden = masking.random_mask(jax.random.split(key)[0], *batch["tokens"].shape)  # the first half of the key
    assert 0 < hidden.sum() < hidden.size
    assert (seen[0] == np.where(hidden, 12, batch["tokens"])).all()
    assert metrics["mask_rate"] == pytest.approx(float(hidden.mean())) and np.isfinite(loss)


def test_some_masks_are_those_of_sampling_in_haltons_order():
    batch, ranks = dict(tokens=np.zeros((400, 16), int), text_mask=np.ones((400, 3), bool)), halton_ranks(4, 4)
    config = dataclasses.replace(BASE, grid=(4, 4))

    def ordered(share):
        train = dataclasses.replace(TRAIN, halton=share)
        hidden = np.asarray(losses.transformer_loss.draw(config, train, jax.random.key(0), batch)["mask"])
        return (hidden == (ranks >= 16 - hidden.sum(-1, keepdims=True))).all(-1).mean()

    by_chance = ordered(0.0)  # all hidden, or only the last position
    assert 0 < by_chance < 0.2 and ordered(1.0) == 1
    assert ordered(0.4) == pytest.approx(0.4 + 0.6 * by_chance, abs=0.08)


def test_some_low_resolution_tokens_are_replaced():
    tokens = jnp.zeros((4000, 64), int)
    changed = np.asarray(losses.replace_some(jax.random.key(0), tokens, 0.5, 1000)) != 0
    assert 0.24 < changed.mean() < 0.26  # a share uniform up to a half, of which one code in a thousand was the same
    shares = changed.mean(-1)
    assert shares.min() < 0.02 and 0.45 < shares.max() < 0.75 and changed.mean(0).std() < 0.02
    assert (losses.replace_some(jax.random.key(0), tokens + 5, 0.0, 1000) == 5).all()


def test_the_loss_reads_low_resolution_tokens_with_noise_only_if_asked(superres_model):
    batch = batch_of(SUPERRES)

    @functools.partial(jax.jit, static_argnames="low_noise")
    def found(model, batch, low_noise=0.0):
        train = dataclasses.replace(TRAIN, label_smoothing=0.0, low_noise=low_noise)
        return losses.transformer_loss(SUPERRES, train, model, jax.random.key(0), batch)

    def loss(low, **changes):
        value, metrics = found(superres_model, batch | dict(low=low), **changes)
        assert 0 <= metrics["accuracy"] <= 1
        return float(value)

    low = batch["low"]
    assert loss(low) != loss((low + 1) % 7)
    assert loss(low, low_noise=1.0) != loss(low)
    program = lambda noise: jax.make_jaxpr(lambda batch: found(superres_model, batch, low_noise=noise))(batch)
    assert str(program(0.0)).count("random_bits") < str(program(1.0)).count("random_bits")


def test_whitening_is_not_trained(base_model):
    loss = functools.partial(losses.transformer_loss, BASE, TRAIN)
    grads = jax.jit(jax.grad(loss, has_aux=True))(base_model, jax.random.key(0), batch_of(BASE))[0]
    assert not grads.text_mean[...].any() and not grads.text_whiten[...].any() and grads.text.kernel[...].any()


def test_remat_changes_memory_and_not_gradients():
    config, found = dataclasses.replace(BASE, depth=8), {}
    batch = batch_of(BASE)
    for remat in transformer.REMAT:
        own = dataclasses.replace(config, remat=remat)
        model, loss = random_weights("base", own), functools.partial(losses.transformer_loss, own, TRAIN)
        program = jax.jit(jax.grad(loss, has_aux=True)).lower(model, jax.random.key(0), batch).compile()
        grads = program(model, jax.random.key(0), batch)[0]
        found[remat] = program.memory_analysis().temp_size_in_bytes, jax.tree.leaves(grads)
    assert found["none"][0] > found["dots"][0] > found["full"][0]
    for remat in ("none", "full"):
        for one, other in zip(found[remat][1], found["dots"][1], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("stage", ["base", "superres"])
def test_it_computes_in_the_type_that_is_asked_for(stage):
    """bfloat16: only text is whitened in float32, the loss nearly the same, gradients for float32 weights."""
    preset = get_preset("micro")
    config, train = getattr(preset, stage), preset.train[stage]
    model, batch = random_weights(stage, config), batch_of(config)
    batch |= dict(text=batch["text"].astype(np.float16))

    def loss(model, batch, dtype):
        one = dataclasses.replace(train, dtype=dtype)
        return losses.transformer_loss(config, one, model, jax.random.key(0), batch)[0]

    run = jax.jit(loss, static_argnames="dtype")
    full, half = (float(run(model, batch, dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert half == pytest.approx(full, rel=0.01) and half != full
    gradients = jax.eval_shape(functools.partial(jax.grad(loss), dtype="bfloat16"), model, batch)
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {np.dtype(np.float32)}
    program = str(jax.make_jaxpr(functools.partial(loss, dtype="bfloat16"))(model, batch))
    products = [line.split("=")[0] for line in program.splitlines() if "dot_general" in line]
    assert len([line for line in products if "f32" in line]) == 1 < len(products)


def test_a_small_transformer_learns_what_the_caption_says(fresh_base):
    train = TrainConfig(steps=120, batch=8, learning_rate=1e-2, warmup=5, caption_dropout=0.1, label_smoothing=0.0)
    step = make_step(functools.partial(losses.transformer_loss, FRESH, train), train)
    state = init_state(fresh_base, train)
    text = np.eye(8, dtype=np.float32)[:, None]  # eight captions of one text token, each with one picture
    tokens = np.random.default_rng(0).integers(0, 12, (8, 6))
    batch = dict(tokens=tokens, text=text, text_mask=np.ones((8, 1), bool))
    for _ in range(train.steps):
        state, metrics = step(state, batch)
    hidden = np.full((8, 6), FRESH.codebook_size)
    logits = transformer.forward(state["params"], hidden, text, batch["text_mask"])
    assert (np.argmax(logits, -1) == tokens).mean() > 0.6  # by chance 1 / 12
    assert step._cache_size() == 1
