"""Editing: what must not change, windows and borders, variations and interpolation."""

import numpy as np
import pytest
from conftest import STEPS, tokens_of, turned
from PIL import Image

from minimuse import decoding
from minimuse.data import scenes

FAST = dict(steps=STEPS, trace=True)


# --- inpainting -----------------------------------------------------------------------------------------------------


def test_the_empty_mask_gives_back_the_picture_and_its_tokens(cascade, picture):
    mask = np.zeros((128, 128), bool)
    result = cascade.inpaint(picture, mask, "a cat", **FAST)
    coarse, fine = tokens_of(cascade, picture)
    assert (result.tokens[0] == coarse).all() and (result.superres_tokens[0] == fine).all()
    assert (result.images[0] == picture).all() and not result.redrawn.any()
    decoded = cascade.inpaint(picture, mask, "a cat", edge=None, steps=STEPS)
    assert (decoded == cascade.detokenize(fine[None], "superres", finetuned=True)).all()


def test_the_full_mask_is_generating(cascade, picture):
    options = dict(n=2, seed=5, **FAST)
    result = cascade.inpaint(picture, np.ones((128, 128), bool), "a cat", edge=None, **options)
    drawn = cascade.generate("a cat", **options)
    assert (result.tokens == drawn.tokens).all() and (result.superres_tokens == drawn.superres_tokens).all()
    assert (result.images == drawn.images).all()


def test_tokens_and_pixels_outside_the_mask_stay(cascade, picture):
    mask = np.zeros((128, 128), bool)
    mask[40:70, 24:30] = True
    coarse, fine = tokens_of(cascade, picture)
    result = cascade.inpaint(picture, mask, "a cat on a pink background", n=2, seed=1, **FAST)
    hidden = np.zeros((8, 8), bool)
    hidden[2:5, 1] = True  # rows 40 to 69 of 16 each, columns 24 to 29
    assert (result.redrawn == hidden).all()
    assert (result.tokens[:, ~hidden] == coarse[~hidden]).all() and (result.tokens[:, hidden] != coarse[hidden]).any()
    positions = hidden.repeat(4, 0).repeat(4, 1)
    assert (result.superres_tokens[:, ~positions] == fine[~positions]).all()
    assert (result.superres_tokens[:, positions] != fine[positions]).any()
    assert (result.images[:, ~mask] == picture[~mask]).all() and (result.images[:, mask] != picture[mask]).any()
    assert (result.images[0] != result.images[1]).any()


def test_a_mask_of_one_pixel_redraws_one_token(micro, small):
    mask = np.zeros((64, 64), bool)
    mask[9, 17] = True
    result = micro.inpaint(small, mask, "a cat", **FAST)
    assert np.argwhere(result.redrawn[0]).tolist() == [[1, 2]] and result.images.shape == (1, 64, 64, 3)
    assert (result.images[0] != small).any(-1).sum() <= 1 and result.superres_tokens is None


def test_known_tokens_reach_the_transformer(micro):
    """What is outside the mask decides what is drawn inside it."""
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    drawn = []
    for level in (0, 255):
        flat = np.full((64, 64, 3), level, np.uint8)
        drawn.append(micro.inpaint(flat, mask, "a cat", token_temperature=1.0, **FAST).tokens[0, 2:6, 2:6])
    assert (drawn[0] != drawn[1]).any()


def test_large_pictures_are_resized_with_their_masks(micro):
    scene = scenes.example("val", 3)[0]
    mask = np.zeros((256, 256), bool)
    mask[100:130, 0:5] = True
    result = micro.inpaint(Image.fromarray(scenes.render(scene, 256)), mask, "a cat", **FAST)
    assert result.images.shape == (1, 64, 64, 3)
    assert np.argwhere(result.redrawn[0]).tolist() == [[3, 0], [4, 0]]


def test_every_way_of_editing_turns_pictures_upright(micro, small):
    stored, mask = turned(Image.fromarray(small)), np.zeros((64, 64), bool)
    mask[:16] = True
    for draw in (
        lambda image: micro.inpaint(image, mask, "a cat", **FAST),
        lambda image: micro.outpaint(image, "a cat", **FAST),
        lambda image: micro.vary(image, "a cat", strength=0.25, **FAST),
        lambda image: micro.edit(image, "a cat", iterations=0, trace=True),
        lambda image: micro.edit(image, "a cat", way="read", masks=5, **FAST),
    ):
        assert (draw(stored).images == draw(small).images).all()
    assert (micro.find_mask(stored, "a cat", masks=5) == micro.find_mask(small, "a cat", masks=5)).all()


def test_a_picture_of_the_bases_own_size_keeps_its_tokens(cascade, small):
    result = cascade.inpaint(small, np.zeros((64, 64), bool), "a cat", **FAST)
    assert (result.tokens == cascade.tokenize(small[None])).all()


def test_options_reach_the_decoder_of_both_stages(cascade, picture):
    """A pair of temperatures changes what both stages draw, and compiles nothing."""
    mask = np.zeros((128, 128), bool)
    mask[:64] = True
    plain = cascade.inpaint(picture, mask, "a cat", **FAST)
    before = decoding.sample_tokens._cache_size()
    again = cascade.inpaint(picture, mask, "a cat", temperature=(0.0, 0.0), token_temperature=(9.0, 9.0), **FAST)
    hidden, fine = plain.redrawn[0], plain.redrawn[0].repeat(4, 0).repeat(4, 1)
    assert (again.tokens[0][hidden] != plain.tokens[0][hidden]).mean() > 0.3
    assert (again.superres_tokens[0][fine] != plain.superres_tokens[0][fine]).mean() > 0.3
    assert decoding.sample_tokens._cache_size() == before
    with pytest.raises(TypeError, match=r"'iterations'"):
        cascade.inpaint(picture, mask, "a cat", iterations=3)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(edge=-1), r"\bedge\b.*-1"),
        (dict(edge=1.5), r"\bedge\b.*1\.5"),
        (dict(steps=0), r"\bsteps\b.*\b0\b"),
        (dict(n=0), r"\bn\b.*\b0\b"),
        (dict(superres=True), "superres"),
    ],
)
def test_bad_settings_get_a_sentence(micro, options, message):
    with pytest.raises(ValueError, match=message):
        micro.inpaint(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool), "a cat", **options)


# --- canvases larger than the trained grid --------------------------------------------------------------------------


def test_wide_pictures_are_drawn_window_by_window(cascade):
    left, right = (scenes.render(scenes.example("val", i)[0], 128) for i in (3, 4))
    wide = np.concatenate([left, right], 1)
    mask = np.zeros((128, 256), bool)
    mask[32:64, 96:240] = True
    result = cascade.inpaint(wide, mask, "a cat", **FAST)
    assert result.tokens.shape == (1, 8, 16) and result.superres_tokens.shape == (1, 32, 64)
    assert result.redrawn[0].sum() == 2 * 9 and result.redrawn[0, 2:4, 6:15].all()
    assert (result.images[0][~mask] == wide[~mask]).all() and (result.images[0][mask] != wide[mask]).any()
    assert result.tokens.max() < 64 and result.superres_tokens.max() < 64  # no position is left hidden


# Canvases of 256 x 128 and of 160 x 160 pixels, as in the tests around them.
@pytest.mark.parametrize("amounts", [dict(right=128), dict(left=16, top=32, right=16)])
def test_outpainting_grows_the_canvas_and_keeps_the_picture(cascade, picture, amounts):
    result = cascade.outpaint(picture, "a cat", seed=2, **amounts, **FAST)
    top, left = amounts.get("top", 0), amounts.get("left", 0)
    height, width = 128 + top, 128 + left + amounts["right"]
    assert result.images.shape == (1, height, width, 3)
    assert (result.images[0, top : top + 128, left : left + 128] == picture).all()
    coarse, fine = tokens_of(cascade, picture)
    y, x = top // 16, left // 16
    assert (result.tokens[0, y : y + 8, x : x + 8] == coarse).all()
    assert (result.superres_tokens[0, 4 * y : 4 * y + 32, 4 * x : 4 * x + 32] == fine).all()
    assert result.redrawn.sum() == height * width // 256 - 64
    assert result.tokens.max() < 64 and result.superres_tokens.max() < 64


def test_a_large_square_is_a_canvas_only_if_that_is_said(cascade, picture):
    large = cascade.outpaint(picture, "a cat", right=32, bottom=32, steps=STEPS)[0]
    assert large.shape == (160, 160, 3) and (large[:128, :128] == picture).all()
    mask = np.zeros((160, 160), bool)
    mask[100:110, 100:110] = True
    assert cascade.inpaint(large, mask, "a cat", steps=STEPS).shape == (1, 128, 128, 3)
    again = cascade.inpaint(large, mask, "a cat", canvas=True, steps=STEPS)[0]
    assert again.shape == (160, 160, 3) and (again[~mask] == large[~mask]).all()
    assert cascade.outpaint(large, "a cat", left=16, canvas=True, steps=STEPS).shape == (1, 160, 176, 3)


def test_outpainting_by_less_than_a_token_is_refused(cascade, micro, picture):
    with pytest.raises(ValueError, match=r"(?=.*\b16\b).*\bright\b.*\b20\b"):
        cascade.outpaint(picture, "a cat", right=20)
    with pytest.raises(ValueError, match=r"(?=.* 8\b).*\btop\b.*-8"):
        micro.outpaint(picture, "a cat", top=-8)
    with pytest.raises(ValueError, match=r"(?=.*\b16384\b)(?=.*\bright\b.*80{21}).*\bbottom\b.*None"):
        micro.outpaint(picture, "a cat", right=8 * 10**21, left=8, bottom=None)
    same = micro.outpaint(picture, "a cat", steps=STEPS)[0]
    assert (same == np.asarray(Image.fromarray(picture).resize((64, 64), 1))).all()


# --- variations and interpolation -----------------------------------------------------------------------------------


def test_pictures_that_are_not_square_need_a_mask_or_a_border(micro):
    wide = np.zeros((64, 128, 3), np.uint8)
    with pytest.raises(ValueError, match="128 x 64"):
        micro.edit(wide, "a cat")
    with pytest.raises(ValueError, match="128 x 64"):
        micro.vary(wide, "a cat")


def test_variations_redraw_their_share(cascade, picture):
    coarse, fine = tokens_of(cascade, picture)
    for strength, count in ((0.0, 0), (0.25, 16), (1.0, 64)):
        result = cascade.vary(picture, "a cat", n=2, strength=strength, **FAST)
        assert result.redrawn.reshape(2, -1).sum(-1).tolist() == [count, count]
        kept = ~result.redrawn
        assert all((result.tokens[i][kept[i]] == coarse[kept[i]]).all() for i in range(2))
        positions = kept.repeat(4, 1).repeat(4, 2)
        assert all((result.superres_tokens[i][positions[i]] == fine[positions[i]]).all() for i in range(2))
    drawn = cascade.generate("a cat", n=2, **FAST)
    assert (result.tokens == drawn.tokens).all()  # strength 1
    for wrong in (None, 2):
        with pytest.raises(ValueError, match=rf"\bstrength\b.*\b{wrong}\b"):
            cascade.vary(picture, "a cat", strength=wrong)


def test_interpolation_begins_and_ends_at_the_captions(cascade):
    captions = ["a cat", "three dogs on a pink background"]
    images = cascade.interpolate(*captions, n=3, steps=STEPS, seed=4)
    assert images.shape == (3, 128, 128, 3)
    # Images of a batch differ in their keys; the first has the key of all images here.
    ends = [cascade.generate([caption, "a fox"], guidance=0.0, seed=4, **FAST).images[0] for caption in captions]
    for image, end in zip((images[0], images[-1]), ends):
        assert (image == end).mean() > 0.9  # but for rounding at ties
    assert (ends[0] == ends[1]).mean() < 0.9 and (images[1] != images[0]).any() and (images[1] != images[2]).any()


def test_what_cannot_be_interpolated_is_refused(cascade):
    with pytest.raises(ValueError, match=r"\bn\b.*\b1\b"):
        cascade.interpolate("a cat", "a dog", n=1)
    with pytest.raises(ValueError, match=r"\['a cat', 'a dog'\]"):
        cascade.interpolate(["a cat", "a dog"], "a fox")
    for name in ("guidance", "ramp", "guided_from", "guided_to"):
        with pytest.raises(TypeError, match=rf"\b{name}\b"):
            cascade.interpolate("a cat", "a dog", **{name: 1})
