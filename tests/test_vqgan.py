"""The tokenizer: shapes, the quantizer by hand, growing the decoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree, random_weights

from minimuse import layers, vqgan
from minimuse.config import VQGANConfig
from minimuse.presets import get_preset
from minimuse.weights import named_arrays

SMALL = VQGANConfig(codebook_size=16, code_dim=4, channels=(8, 16), blocks=1)


@pytest.fixture(scope="module")
def model():
    return random_weights("tokenizer", SMALL)


def pixels(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)


tokenize = jax.jit(lambda model, images: model.tokenize(images))


def test_space_to_depth_gathers_patches_and_goes_back():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert vqgan.space_to_depth(x, 2)[0, 0, 1].tolist() == [2, 3, 6, 7]
    y = pixels(0, 2, 8, 12, 3)
    assert (vqgan.depth_to_space(vqgan.space_to_depth(y, 4), 4) == y).all()


@pytest.mark.parametrize(
    "channels, factor, height, width",
    [((8, 16), 8, 16, 16), ((16,), 8, 32, 16), ((8, 16), 4, 8, 24), ((8, 16, 16), 16, 16, 48)],
)
def test_any_multiple_of_f_even_if_not_square(channels, factor, height, width):
    """Shapes only, so nothing is compiled."""
    config = VQGANConfig(codebook_size=16, code_dim=4, channels=channels, factor=factor, blocks=1)
    model = layers.abstract(vqgan.VQGAN, config)
    images = jax.ShapeDtypeStruct((2, height, width, 3), np.uint8)
    tokens = jax.eval_shape(vqgan.read_tokens, model, images)
    assert tokens.shape == (2, height // factor, width // factor) and tokens.dtype == jnp.int32
    decoded = jax.eval_shape(lambda model, tokens: model.detokenize(tokens), model, tokens)
    assert decoded.shape == (2, height, width, 3) and decoded.dtype == jnp.float32
    drawn = jax.eval_shape(vqgan.draw_pixels, model.decoder, model.codebook, tokens)
    assert drawn.shape == (2, height, width, 3) and drawn.dtype == jnp.uint8


def test_pixels_to_tokens_and_back(model):
    images = np.asarray(255 * pixels(0, 2, 16, 24, 3) ** 2, np.uint8)
    tokens = vqgan.read_tokens(model, images)
    assert tokens.shape == (2, 2, 3) and 0 <= tokens.min() and tokens.max() < 16
    assert (tokens == tokenize(model, vqgan.to_float(images))).mean() > 0.8  # but for precision
    drawn = vqgan.draw_pixels(model.decoder, model.codebook[...], tokens)
    decoded = jax.jit(lambda model, tokens: model.detokenize(tokens))(model, tokens)
    np.testing.assert_allclose(drawn.astype(int), vqgan.to_uint8(decoded).astype(int), atol=1)
    with_scaled_codes = vqgan.draw_pixels(model.decoder, 7 * model.codebook[...], tokens)  # only directions count
    np.testing.assert_allclose(with_scaled_codes.astype(int), drawn.astype(int), atol=1)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_pictures_are_read_in_pieces_that_fit(model, monkeypatch, most):
    """The tokens are the same, bit for bit, whatever the pieces are; all but the last picture's piece are full."""
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 24, 3)).astype(np.uint8)
    whole, sizes, read = vqgan.read_tokens(model, images), [], vqgan._read
    monkeypatch.setattr(vqgan, "MEMORY", most * vqgan.MEMORY // vqgan.pictures_at_once(model, 16, 24))
    monkeypatch.setattr(vqgan, "_read", lambda model, images: sizes.append(len(images)) or read(model, images))
    assert (vqgan.read_tokens(model, images) == whole).all() and whole.shape == (7, 2, 3)
    assert len(set(sizes)) == 1 and sizes[0] <= most and len(sizes) == -(-7 // most)


@pytest.mark.parametrize("preset, stage", [("colab", "superres_tokenizer"), ("muse-3b", "superres_tokenizer")])
def test_what_is_read_at_once_fits(preset, stage):
    """As XLA plans it; 256 pictures of 256 px in one piece would take 17 GiB."""
    config = getattr(get_preset(preset), stage)
    side, model = config.image_size, layers.abstract(vqgan.VQGAN, config)
    most = vqgan.pictures_at_once(model, side, side)
    images = jax.ShapeDtypeStruct((most, side, side, 3), np.uint8)
    program = vqgan._read.lower(model, images).compile()
    assert vqgan.MEMORY / 2 < program.memory_analysis().temp_size_in_bytes < vqgan.MEMORY


def test_other_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"(?=.*\b8\b).*12 x 16"):
        model.tokenize(pixels(0, 1, 16, 12, 3))


@pytest.mark.parametrize("kernel, reach", [(1, 1), (3, 9)])
def test_how_far_a_token_looks(kernel, reach):
    """Another patch in the middle changes the encodings of its own position only, or of its neighbours too."""
    config = VQGANConfig(codebook_size=16, code_dim=4, channels=(16,), blocks=0, encoder_kernel=kernel)
    model = random_weights("tokenizer", config)
    one = pixels(0, 1, 40, 40, 3)
    other = one.at[:, 16:24, 16:24].set(pixels(1, 1, 8, 8, 3))
    encode = jax.jit(lambda model, images: model.encode(images))
    assert (jnp.abs(encode(model, one) - encode(model, other)).max((0, -1)) > 1e-6).sum() == reach


def test_tokens_do_not_depend_on_the_batch(model):
    images = pixels(0, 4, 16, 24, 3)
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


def test_pixels_survive_the_way_to_floats_and_back():
    values = jnp.arange(256, dtype=jnp.uint8)
    assert (vqgan.to_uint8(vqgan.to_float(values)) == values).all()
    assert vqgan.to_uint8(jnp.array([-9.0, 9.0])).tolist() == [0, 255]


# --- growing the decoder --------------------------------------------------------------------------------------------

GROWING = (
    VQGANConfig(codebook_size=16, code_dim=6, channels=(8, 16), blocks=1),
    VQGANConfig(image_size=16, factor=4, codebook_size=16, code_dim=6, channels=(8,), blocks=2),
)
CODES = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)


@pytest.fixture(scope="module", params=GROWING)
def grown(request):
    """A small decoder, and what `grow_decoder` makes of it: config, decoder, numbers of new layers."""
    small = random_tree(layers.abstract(vqgan.Decoder, request.param))
    return small, *vqgan.grow_decoder(request.param, small)


def test_a_grown_decoder_draws_what_the_small_one_drew(grown):
    small, config, large, new = grown
    assert config.decoder_growth == 2
    assert jax.tree.structure(large) == jax.tree.structure(layers.abstract(vqgan.Decoder, config))
    shapes = lambda tree: {name: leaf.shape for name, leaf in named_arrays(tree).items()}
    assert shapes(large) == shapes(layers.abstract(vqgan.Decoder, config))
    decode = jax.jit(lambda decoder, codes: decoder(codes))
    np.testing.assert_allclose(decode(large, CODES), decode(small, CODES), atol=1e-4)


def test_a_grown_decoder_has_twice_the_channels_and_blocks(grown):
    small, _, large, new = grown
    blocks = lambda decoder: [i for i, one in enumerate(decoder.stages.layers) if isinstance(one, vqgan.ResBlock)]
    assert len(blocks(large)) == 2 * len(blocks(small)) and len(new) == len(blocks(small))
    assert set(new) < set(blocks(large))
    first = lambda decoder: decoder.stages.layers[0].kernel[...].shape
    assert first(large) == (*first(small)[:3], 2 * first(small)[3])
    for number in new:  # a new block has weights, and adds nothing yet
        block = large.stages.layers[number]
        assert block.conv1.kernel[...].std() > 0 and not block.conv2.kernel[...].any()


def test_the_copies_of_a_channel_learn_different_things(grown):
    _, _, large, _ = grown
    slope = jax.jit(jax.grad(lambda decoder: jnp.mean(decoder(CODES) ** 2)))(large)
    kernel = np.asarray(slope.stages.layers[0].kernel[...])  # the first convolution: its outputs are copied as is
    one, other = np.split(kernel, 2, -1)
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
    config = dataclasses.replace(GROWING[0], decoder_growth=2)
    with pytest.raises(ValueError, match=r"grow.*\b2\b"):
        vqgan.grow_decoder(config, layers.abstract(vqgan.Decoder, config))
