"""The tokenizer: shapes, the quantizer by hand, losses, restart of dead codes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree, random_weights
from flax import nnx

from minimuse import layers, vqgan, weights
from minimuse.config import VQGANConfig
from minimuse.evaluate.metrics import perplexity, psnr
from minimuse.train import codebook, losses

SMALL = VQGANConfig(codebook_size=16, code_dim=4, channels=(8, 16), blocks=1)


def build(config):
    return nnx.merge(*random_weights("tokenizer", config))


@pytest.fixture(scope="module")
def model():
    return build(SMALL)


def pixels(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


def test_space_to_depth_gathers_patches_and_goes_back():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert vqgan.space_to_depth(x, 2)[0, 0, 1].tolist() == [2, 3, 6, 7]
    y = pixels(0, 2, 8, 12, 3)
    assert (vqgan.depth_to_space(vqgan.space_to_depth(y, 4), 4) == y).all()


tokenize = jax.jit(lambda model, images: model.tokenize(images))
detokenize = jax.jit(lambda model, tokens: model.detokenize(tokens))


@pytest.mark.parametrize(
    "channels, factor, height, width",
    [((8, 16), 8, 16, 16), ((16,), 8, 32, 16), ((8, 16), 4, 8, 24), ((8, 16, 16), 16, 16, 48)],
)
def test_any_multiple_of_f_also_not_square(channels, factor, height, width):
    config = VQGANConfig(codebook_size=16, code_dim=4, channels=channels, factor=factor, blocks=1)
    model = build(config)
    tokens = tokenize(model, pixels(0, 2, height, width, 3))
    assert tokens.shape == (2, height // factor, width // factor) and tokens.dtype == jnp.int32
    assert 0 <= tokens.min() and tokens.max() < 16
    assert detokenize(model, tokens).shape == (2, height, width, 3)


def test_other_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"(?=.*\b8\b).*12 x 16"):
        model.tokenize(pixels(0, 1, 16, 12, 3))


@pytest.mark.parametrize("kernel, reach", [(1, 1), (3, 9)])
def test_how_far_a_token_looks(kernel, reach):
    """Another patch in the middle changes the encodings of its own place alone, or of its neighbours too."""
    config = VQGANConfig(codebook_size=16, code_dim=4, channels=(16,), blocks=0, encoder_kernel=kernel)
    model = build(config)
    one = pixels(0, 1, 40, 40, 3)
    other = one.at[:, 16:24, 16:24].set(pixels(1, 1, 8, 8, 3))
    encode = jax.jit(lambda model, images: model.encode(images))
    assert (jnp.abs(encode(model, one) - encode(model, other)).max((0, -1)) > 1e-6).sum() == reach


def test_tokens_do_not_depend_on_the_batch(model):
    images = pixels(0, 4, 32, 32, 3)
    alone = jnp.concatenate([tokenize(model, image[None]) for image in images])
    assert (tokenize(model, images) == alone).all()


def test_nearest_code_by_hand_and_by_brute_force():
    codebook = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    z = jnp.array([[0.4, 0.1], [0.6, 0.0], [0.1, 1.2]])
    assert vqgan.nearest_code(z, codebook).tolist() == [0, 1, 2]
    z, codebook = pixels(1, 50, 6), pixels(2, 30, 6)
    brute = jnp.argmin(jnp.sum((z[:, None] - codebook) ** 2, -1), -1)
    assert (vqgan.nearest_code(z, codebook) == brute).all()


def test_straight_through_by_hand():
    # Forward the code 2.0, backward the identity: d/dz (3 q) = 3.
    value, grad = jax.value_and_grad(lambda z: 3 * vqgan.straight_through(z, jnp.float32(2.0)))(jnp.float32(1.7))
    assert value == pytest.approx(6.0) and grad == 3.0


def test_beta_is_on_the_term_that_moves_the_encoder():
    z, e = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.0]])
    codebook, commitment = losses.vq_losses(z, e)
    assert codebook == commitment == 1.0

    def loss(z, e, beta):
        codebook, commitment = losses.vq_losses(z, e)
        return codebook + beta * commitment

    for beta in (0.25, 2.0):
        to_z, to_e = jax.grad(loss, (0, 1))(z, e, beta)
        assert to_z.tolist() == [[2 * beta, 0.0]]  # the encoder is pulled with weight beta
        assert to_e.tolist() == [[-2.0, 0.0]]  # the codes with weight 1, whatever beta is


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(jnp.array([5, 5, 5, 5, 0, 0])) == pytest.approx(4)
    assert perplexity(jnp.array([7, 0, 0])) == pytest.approx(1)


def test_psnr_by_hand():
    x = jnp.zeros((1, 2, 2, 3))
    assert psnr(x, x + 0.2) == pytest.approx(20.0, abs=1e-3)  # 10 log10(4 / 0.04)


def test_pixels_survive_the_way_to_floats_and_back():
    values = jnp.arange(256, dtype=jnp.uint8)
    assert (vqgan.to_uint8(vqgan.to_float(values)) == values).all()
    assert vqgan.to_uint8(jnp.array([-9.0, 9.0])).tolist() == [0, 255]


def test_dead_codes_move_onto_encodings_and_live_ones_stay():
    codebook = jnp.eye(4)
    state = dict(params=dict(codebook=codebook), ema=dict(codebook=codebook), step=9, usage=jnp.array([1.0, 1, 0, 0]))
    encodings = jnp.full((5, 4), 0.5)
    metrics = dict(counts=jnp.array([3, 2, 0, 0]), encodings=encodings, distance=jnp.ones(5))
    after = codebook.restart_dead_codes(state, jax.random.key(0), metrics)
    for name in ("params", "ema"):
        assert (after[name]["codebook"][:2] == codebook[:2]).all()
        assert (after[name]["codebook"][2:] == 0.5).all()
    assert (after["usage"][2:] > 0.02).all()  # some time to be of use
    again = codebook.restart_dead_codes(after, jax.random.key(1), metrics | dict(encodings=-encodings))
    assert (again["params"]["codebook"][2:] == 0.5).all()


def test_before_quantization_it_is_a_plain_autoencoder():
    graphdef, params = random_weights("tokenizer", SMALL)
    images = jax.random.randint(jax.random.key(0), (2, 16, 16, 3), 0, 256).astype(jnp.uint8)
    batch = lambda begun: dict(images=images, quantize=np.full(2, begun))
    loss = jax.jit(jax.value_and_grad(functools.partial(losses.tokenizer_loss, graphdef, SMALL), has_aux=True))
    (value, metrics), grads = loss(params, None, batch(False))
    model, pixels = nnx.merge(graphdef, params), vqgan.to_float(images)
    assert value == pytest.approx(float(losses.pixel_loss(model.decoder(model.encode(pixels)), pixels)[0]), rel=1e-5)
    assert not metrics["quantize"] and not jnp.any(grads["codebook"])

    (value, metrics), grads = loss(params, None, batch(True))
    rebuilt = model.detokenize(model.tokenize(pixels))
    assert metrics["l1"] == pytest.approx(float(losses.pixel_loss(rebuilt, pixels)[1]), rel=1e-5)
    assert metrics["quantize"] and jnp.any(grads["codebook"])
    assert loss(params, None, dict(images=images))[0][0] == value  # a batch that says nothing is quantized
    assert loss._cache_size() == 2


def test_the_codebook_is_laid_out_when_quantization_begins():
    state = dict(params=dict(codebook=jnp.eye(2)), ema=dict(codebook=jnp.eye(2)), usage=jnp.zeros(2))
    metrics = dict(counts=jnp.array([5, 0]), distance=jnp.ones(1))
    for value, begun in ((0.3, 0.0), (0.4, 0.0), (0.5, 1.0), (0.6, 1.0)):
        metrics |= dict(encodings=jnp.full((1, 2), value), quantize=jnp.float32(begun))
        state = codebook.restart_dead_codes(state, jax.random.key(0), metrics)
        # Laid anew on the encodings of every step, for the last time on those of the first one that is quantized.
        assert jnp.allclose(state["params"]["codebook"], min(value, 0.5))
        assert bool((state["usage"] > 0).all()) == bool(begun)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_learns_and_uses_the_codebook(ema):
    from minimuse.config import TrainConfig
    from minimuse.data import scenes
    from minimuse.train.step import init_state, make_step

    config = VQGANConfig(codebook_size=32, code_dim=8, channels=(32,), blocks=1, codebook_ema=ema)
    train = TrainConfig(steps=150, batch=8, learning_rate=3e-3, warmup=5, weight_decay=0)
    graphdef, params = weights.init("tokenizer", config)
    loss, update = (
        functools.partial(*part)
        for part in ((losses.tokenizer_loss, graphdef, config), (codebook.update_codes, config))
    )
    step = make_step(loss, train, update)
    state = init_state(params, train, **codebook.codebook_state(config))
    batch = dict(images=scenes.render_batch([scenes.example("train", i)[0] for i in range(8)], 32))
    curve = []
    for _ in range(150):
        state, metrics = step(state, batch)
        curve.append({k: float(v) for k, v in metrics.items()})
    assert curve[-1]["psnr"] > curve[0]["psnr"] + 4
    assert curve[-1]["perplexity"] > 3
    assert step._cache_size() == 1
    assert np.isfinite([row["grad_norm"] for row in curve]).all()


def test_a_code_becomes_the_mean_of_the_encodings_that_chose_it():
    config = VQGANConfig(codebook_size=3, code_dim=2, codebook_ema=0.5)
    state = codebook.codebook_state(config) | dict(
        params=dict(codebook=jnp.eye(3, 2)), ema=dict(codebook=jnp.eye(3, 2))
    )
    encodings = jnp.array([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    metrics = dict(tokens=jnp.array([0, 0, 1]), encodings=encodings)
    after = codebook.average_codes(state, metrics, 0.5)
    # Code 0: half of (0.6, 0.8) + (1, 0) = (1.6, 0.8), to length 1. Code 2 was chosen by nothing and stays.
    expected = np.array([[2, 1], [0, np.sqrt(5)], [0, 0]]) / np.sqrt(5)
    for name in ("params", "ema"):
        np.testing.assert_allclose(after[name]["codebook"], expected, atol=1e-6)
    # A second batch counts as much as the first, halved: 0.25 (1.6, 0.8) + 0.5 (0, 1.2).
    again = codebook.average_codes(after, dict(tokens=jnp.array([0]), encodings=jnp.array([[0.0, 1.2]])), 0.5)
    np.testing.assert_allclose(again["params"]["codebook"][0], np.array([0.4, 0.8]) / np.sqrt(0.8), atol=1e-6)


def test_codes_that_are_means_need_no_codebook_loss():
    images = pixels(3, 2, 16, 16, 3)
    for ema, moves in ((0.0, True), (0.9, False)):
        config = VQGANConfig(codebook_size=16, code_dim=4, channels=(8,), codebook_ema=ema)
        graphdef, params = random_weights("tokenizer", config)

        def loss(params, graphdef=graphdef, config=config):
            return losses.code_losses(nnx.merge(graphdef, params), config, images)[1]

        slope = jax.jit(jax.grad(loss))(params)
        assert bool(jnp.any(slope["codebook"] != 0)) == moves
        assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope["encoder"]))  # the commitment goes on


# --- growing the decoder --------------------------------------------------------------------------------------------

GROWING = (
    VQGANConfig(codebook_size=16, code_dim=6, channels=(8, 16), blocks=1),
    VQGANConfig(image_size=16, factor=4, codebook_size=16, code_dim=6, channels=(8,), blocks=2),
)


@pytest.mark.parametrize("config", GROWING)
def test_a_grown_decoder_draws_what_the_small_one_drew(config):
    graphdef, like = layers.abstract(vqgan.Decoder, config)
    params = random_tree(like)
    grown, wide, new = vqgan.grow_decoder(config, params)
    graphdef2, like2 = layers.abstract(vqgan.Decoder, grown)
    assert jax.tree.map(jnp.shape, wide) == jax.tree.map(lambda x: x.shape, like2)
    codes = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
    small = nnx.merge(graphdef, params)(codes)
    np.testing.assert_allclose(nnx.merge(graphdef2, wide)(codes), small, atol=1e-4)
    count = lambda tree: sum("conv1" in layer for layer in tree["stages"]["layers"].values())
    assert count(wide) == 2 * count(params) and len(new) == count(params)
    for number in new:  # a new block has weights, and adds nothing yet
        block = wide["stages"]["layers"][number]
        assert block["conv1"]["kernel"].std() > 0 and not block["conv2"]["kernel"].any()


def test_the_copies_of_a_channel_learn_different_things():
    config = GROWING[0]
    graphdef, wide = vqgan.grow_decoder(config, random_tree(layers.abstract(vqgan.Decoder, config)[1]))[:2]
    graphdef = layers.abstract(vqgan.Decoder, graphdef)[0]
    codes = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
    grads = jax.grad(lambda p: jnp.mean(nnx.merge(graphdef, p)(codes) ** 2))(wide)
    kernel = np.asarray(grads["stages"]["layers"][0]["kernel"])  # the first convolution: its outputs are copied as is
    one, other = kernel[..., :16], kernel[..., 16:]
    assert np.abs(one - other).mean() > 0.3 * np.abs(one).mean()


def test_a_kernel_is_widened_by_hand():
    kernel = jnp.arange(1.0, 9.0).reshape(1, 1, 2, 4)
    rng = np.random.default_rng(0)
    assert vqgan.widen(kernel, rng, inputs=False)[0, 0].tolist() == [[1, 2, 3, 4] * 2, [5, 6, 7, 8] * 2]
    assert vqgan.widen(kernel, rng, inputs=False, groups=2)[0, 0, 0].tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    wide = vqgan.widen(kernel, rng, outputs=False)[0, 0]
    np.testing.assert_allclose(wide[:2] + wide[2:], kernel[0, 0], atol=1e-6)
    assert np.abs(wide[:2] - wide[2:]).min() > 1e-3


def test_a_decoder_grows_once():
    grown = dataclasses.replace(GROWING[0], decoder_growth=2)
    with pytest.raises(ValueError, match=r"grow.*\b2\b"):
        vqgan.grow_decoder(grown, {})
