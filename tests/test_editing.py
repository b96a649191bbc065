"""Editing: masks from pixels to tokens, what must not change, canvases, mask-free editing."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from minimuse import canvas, editing
from minimuse.data import scenes
from minimuse.transformer import forward

FAST = dict(steps=(2, 2))


@pytest.fixture(scope="module")
def picture():
    return scenes.render(scenes.example("val", 3)[0], 128)


def tokens_of(muse, pixels):
    small = np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS))
    return muse.tokenize(small[None])[0], muse.tokenize(pixels[None], "superres")[0]


# --- masks ----------------------------------------------------------------------------------------------------------


def test_every_touched_token_counts_by_hand():
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = True
    assert canvas.touched(mask, (2, 3)).tolist() == [[False, True, False], [False, False, False]]
    assert canvas.touched(mask, (4, 6)).tolist() == mask.tolist()
    # Three tokens over four rows: pixel row 1 lies in the first and in the second.
    assert canvas.touched(mask, (3, 3))[:, 1].tolist() == [True, True, False]
    assert canvas.touched(mask, (8, 12)).sum() == 4  # a pixel larger than a token touches all it covers
    mask[3, 5] = True
    assert canvas.touched(mask, (2, 3)).tolist() == [[False, True, False], [False, False, True]]


def test_touched_is_none_for_none_and_all_for_all():
    for shape, grid in (((64, 64), (8, 8)), ((70, 45), (8, 8)), ((5, 3), (8, 8))):
        assert not canvas.touched(np.zeros(shape, bool), grid).any()
        assert canvas.touched(np.ones(shape, bool), grid).all()
        rng = np.random.default_rng(0)
        mask = rng.random(shape) < 0.02
        expected = np.zeros(grid, bool)  # pixel by pixel, the slow way
        for y, x in np.argwhere(mask):
            for i in range(grid[0]):
                for j in range(grid[1]):
                    over = y * grid[0] < (i + 1) * shape[0] and (y + 1) * grid[0] > i * shape[0]
                    along = x * grid[1] < (j + 1) * shape[1] and (x + 1) * grid[1] > j * shape[1]
                    expected[i, j] |= over and along
        assert (canvas.touched(mask, grid) == expected).all()


def test_masks_of_every_kind_say_the_same():
    wanted = np.array([[True, False], [False, True]])
    kinds = [wanted, wanted.astype(int), 255 * wanted.astype(np.uint8), wanted.astype(float), 0.6 * wanted]
    kinds += [Image.fromarray(255 * wanted.astype(np.uint8)), Image.fromarray(wanted), wanted.tolist()]
    clear = np.full((2, 2, 4), 255, np.uint8)  # white where it may change, and nothing elsewhere
    clear[..., 3] = 255 * wanted
    for kind in [*kinds, Image.fromarray(clear)]:
        assert (canvas.to_mask(kind, (2, 2)) == wanted).all()


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.zeros((2, 3), bool), r"(?=.*\[2, 2\]).*\[2, 3\]"),
        (np.zeros((2, 2, 3), bool), r"\[2, 2, 3\]"),
        (np.full((2, 2), np.nan), r"\bnan\b"),
        (np.full((2, 2), 2.0), r"2\.0"),
        (np.full((2, 2), -1), "-1"),
        (np.full((2, 2), 256), "256"),
        (np.full((2, 2), None), r"\bobject\b"),
        (np.full((2, 2), "a"), "<U1"),
        (np.zeros((2, 2), complex), "complex128"),
    ],
)
def test_other_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        canvas.to_mask(mask, (2, 2))


def test_a_soft_edge_by_hand():
    mask = np.array([[0, 1, 1, 1, 1, 1]], bool)
    assert canvas.soft_edge(mask, 0).tolist() == [[0, 1, 1, 1, 1, 1]]
    np.testing.assert_allclose(canvas.soft_edge(mask, 3), [[0, 0.25, 0.5, 0.75, 1, 1]])
    narrow = np.array([[0, 1, 1, 1, 0, 0]], bool)  # two pixels deep at most
    np.testing.assert_allclose(canvas.soft_edge(narrow, 3), [[0, 0.5, 1, 0.5, 0, 0]])
    assert not canvas.soft_edge(np.zeros((2, 2), bool), 3).any()
    old, new = np.full((1, 6, 3), 10, np.uint8), np.full((2, 1, 6, 3), 110, np.uint8)
    assert canvas.blend(new, old, mask, 3)[1, 0, :, 0].tolist() == [10, 35, 60, 85, 110, 110]


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_of_every_mode_come_in():
    rgb = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    assert (canvas.to_pixels(image) == rgb).all() and (canvas.to_pixels(rgb) == rgb).all()
    grey = canvas.to_pixels(rgb[..., 0])
    assert (grey == rgb[..., :1]).all()
    for mode in ("L", "P", "1", "CMYK", "RGBA", "LA", "YCbCr", "HSV"):
        assert canvas.to_pixels(image.convert(mode)).shape == (6, 6, 3)
    deep = Image.fromarray(257 * rgb[..., 0].astype(np.uint16))  # 16 bits a pixel
    assert deep.mode.startswith("I;16") and (canvas.to_pixels(deep) == rgb[..., :1]).all()
    for mode in ("I", "F"):
        with pytest.raises(ValueError, match=rf"\b{mode}\b"):
            canvas.to_pixels(image.convert("L").convert(mode))
    clear = np.dstack([rgb, np.zeros((6, 6), np.uint8)])
    assert (canvas.to_pixels(clear) == 255).all() and (canvas.to_pixels(Image.fromarray(clear)) == 255).all()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match=rf"{image.dtype}.*\{list(image.shape)}"):
        canvas.to_pixels(image)


@pytest.mark.parametrize("image", [np.zeros((0, 0, 3), np.uint8), np.zeros((0, 5), np.uint8), Image.new("L", (0, 0))])
def test_pictures_without_pixels_are_refused(image):
    with pytest.raises(ValueError, match="pixel"):
        canvas.to_pixels(image)


def test_squares_are_resized_and_other_pictures_never_squashed():
    blank = lambda h, w: np.zeros((h, w, 3), np.uint8)
    assert canvas.fit(blank(300, 300), 128, 16).shape == (128, 128, 3)
    assert canvas.fit(blank(128, 256), 128, 16).shape == (128, 256, 3)
    for h, w in ((200, 150), (64, 128), (128, 200)):
        with pytest.raises(ValueError, match=rf"\b{w} x {h}\b"):
            canvas.fit(blank(h, w), 128, 16)
    assert canvas.fit(blank(256, 256), 128, 16, canvas=True).shape == (256, 256, 3)


# --- inpainting -----------------------------------------------------------------------------------------------------


def test_the_empty_mask_gives_back_the_picture_and_its_tokens(cascade, picture):
    mask = np.zeros((128, 128), bool)
    result = cascade.inpaint(picture, mask, "a cat", trace=True, **FAST)
    coarse, fine = tokens_of(cascade, picture)
    assert (result.tokens[0] == coarse).all() and (result.superres_tokens[0] == fine).all()
    assert (result.images[0] == picture).all() and not result.redrawn.any()
    decoded = cascade.inpaint(picture, mask, "a cat", edge=None, **FAST)
    assert (decoded == cascade.detokenize(fine[None], "superres", finetuned=True)).all()


def test_the_full_mask_is_generating(cascade, picture):
    options = dict(seed=5, trace=True, **FAST)
    result = cascade.inpaint(picture, np.ones((128, 128), bool), ["a cat", "a dog"], n=2, edge=None, **options)
    drawn = cascade.generate(["a cat", "a dog"], n=2, **options)
    assert (result.tokens == drawn.tokens).all() and (result.superres_tokens == drawn.superres_tokens).all()
    assert (result.images == drawn.images).all()


def test_tokens_and_pixels_outside_the_mask_stay(cascade, picture):
    mask = np.zeros((128, 128), bool)
    mask[40:70, 24:30] = True
    coarse, fine = tokens_of(cascade, picture)
    result = cascade.inpaint(picture, mask, "a cat on a pink background", n=3, seed=1, trace=True, **FAST)
    hidden = np.zeros((8, 8), bool)
    hidden[2:5, 1] = True  # rows 40 to 69 of 16 each, columns 24 to 29
    assert (result.redrawn == hidden).all()
    assert (result.tokens[:, ~hidden] == coarse[~hidden]).all() and (result.tokens[:, hidden] != coarse[hidden]).any()
    places = hidden.repeat(4, 0).repeat(4, 1)
    assert (result.superres_tokens[:, ~places] == fine[~places]).all()
    assert (result.superres_tokens[:, places] != fine[places]).any()
    assert (result.images[:, ~mask] == picture[~mask]).all() and (result.images[:, mask] != picture[mask]).any()
    assert (result.images[0] != result.images[1]).any()


def test_a_mask_of_one_pixel_redraws_one_token(micro):
    small = scenes.render(scenes.example("val", 3)[0])
    mask = np.zeros((64, 64), bool)
    mask[9, 17] = True
    result = micro.inpaint(small, mask, "a cat", steps=3, trace=True)
    assert np.argwhere(result.redrawn[0]).tolist() == [[1, 2]] and result.images.shape == (1, 64, 64, 3)
    assert (result.images[0] != small).any(-1).sum() <= 1 and result.superres_tokens is None


def test_known_tokens_reach_the_transformer(micro):
    """What is outside the mask decides what is drawn inside it."""
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    drawn = []
    for level in (0, 255):
        small = np.full((64, 64, 3), level, np.uint8)
        drawn.append(
            micro.inpaint(small, mask, "a cat", steps=1, token_temperature=1.0, trace=True).tokens[0, 2:6, 2:6]
        )
    assert (drawn[0] != drawn[1]).any()


def test_large_pictures_are_resized_with_their_masks(micro):
    scene = scenes.example("val", 3)[0]
    mask = np.zeros((256, 256), bool)
    mask[100:130, 0:5] = True
    result = micro.inpaint(Image.fromarray(scenes.render(scene, 256)), mask, "a cat", steps=2, trace=True)
    assert result.images.shape == (1, 64, 64, 3)
    assert np.argwhere(result.redrawn[0]).tolist() == [[3, 0], [4, 0]]


def test_wide_pictures_are_drawn_window_by_window(cascade):
    left, right = (scenes.render(scenes.example("val", i)[0], 128) for i in (3, 4))
    wide = np.concatenate([left, right], 1)
    mask = np.zeros((128, 256), bool)
    mask[32:64, 96:240] = True
    result = cascade.inpaint(wide, mask, "a cat", trace=True, **FAST)
    assert result.tokens.shape == (1, 8, 16) and result.superres_tokens.shape == (1, 32, 64)
    assert result.redrawn[0].sum() == 2 * 9 and result.redrawn[0, 2:4, 6:15].all()
    assert (result.images[0][~mask] == wide[~mask]).all() and (result.images[0][mask] != wide[mask]).any()
    assert result.tokens.max() < 64 and result.superres_tokens.max() < 64  # no place is left hidden


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


# --- windows and outpainting ----------------------------------------------------------------------------------------


def test_windows_by_hand():
    hidden = np.zeros((4, 10), bool)
    hidden[:, 4:] = True
    # The first window sees half of what is known; each next one half of what was just drawn.
    assert list(canvas.windows(hidden, (4, 4), 2)) == [(0, 2), (0, 4), (0, 6)]
    assert list(canvas.windows(np.zeros((4, 4), bool), (4, 4), 2)) == []
    assert list(canvas.windows(np.ones((4, 4), bool), (4, 4), 2)) == [(0, 0)]


def test_windows_cover_what_is_hidden_and_nothing_twice():
    rng = np.random.default_rng(0)
    for shape in ((8, 8), (12, 16), (9, 21)):
        hidden = rng.random(shape) < 0.3
        left = hidden.copy()
        for y, x in canvas.windows(hidden, (8, 8), 4):
            part = left[y : y + 8, x : x + 8]
            assert part.shape == (8, 8) and part.any()
            part[:] = False
        assert not left.any()


@pytest.mark.parametrize("amounts", [dict(right=128), dict(left=16, top=32), dict(bottom=48)])
def test_outpainting_grows_the_canvas_and_keeps_the_picture(cascade, picture, amounts):
    result = cascade.outpaint(picture, "a cat", seed=2, trace=True, **amounts, **FAST)
    top, left = amounts.get("top", 0), amounts.get("left", 0)
    height, width = 128 + top + amounts.get("bottom", 0), 128 + left + amounts.get("right", 0)
    assert result.images.shape == (1, height, width, 3)
    assert (result.images[0, top : top + 128, left : left + 128] == picture).all()
    coarse, fine = tokens_of(cascade, picture)
    y, x = top // 16, left // 16
    assert (result.tokens[0, y : y + 8, x : x + 8] == coarse).all()
    assert (result.superres_tokens[0, 4 * y : 4 * y + 32, 4 * x : 4 * x + 32] == fine).all()
    assert result.redrawn.sum() == height * width // 256 - 64
    assert result.tokens.max() < 64 and result.superres_tokens.max() < 64


def test_outpainting_by_part_of_a_token_is_refused(cascade, micro, picture):
    with pytest.raises(ValueError, match=r"(?=.*\b16\b).*\bright\b.*\b20\b"):
        cascade.outpaint(picture, "a cat", right=20)
    with pytest.raises(ValueError, match=r"(?=.* 8\b).*\btop\b.*-8"):
        micro.outpaint(picture, "a cat", top=-8)
    with pytest.raises(ValueError, match=r"(?=.*\b16384\b)(?=.*\bright\b.*80{21}).*\bbottom\b.*None"):
        micro.outpaint(picture, "a cat", right=8 * 10**21, left=8, bottom=None)
    assert (micro.outpaint(picture, "a cat")[0] == np.asarray(Image.fromarray(picture).resize((64, 64), 1))).all()


# --- mask-free editing ----------------------------------------------------------------------------------------------


def test_every_iteration_redraws_its_share_and_no_more(micro):
    small = scenes.render(scenes.example("val", 3)[0])
    result = micro.edit(small, "a cat", n=2, seed=1, iterations=6, fraction=0.1, trace=True)
    assert result.states.shape == (6, 2, 8, 8) and (result.states[-1] == result.tokens).all()
    before = micro.tokenize(small[None])[0]
    for state in result.states:
        changed = (state != before).reshape(2, -1).sum(-1)
        assert (changed <= 6).all() and changed.any()  # six of 64 are drawn; some come out as they were
        before = state
    assert (result.tokens[0] != result.tokens[1]).any()
    assert (result.redrawn == (result.tokens != micro.tokenize(small[None]))).all()


def test_no_iteration_gives_back_the_picture_and_the_caption_matters(micro):
    small = scenes.render(scenes.example("val", 3)[0])
    tokens = micro.tokenize(small[None])

    def run(caption, **options):
        return micro.edit(small, caption, iterations=4, fraction=0.3, trace=True, **options).tokens

    assert (micro.edit(small, "a cat", iterations=0, trace=True).tokens == tokens).all()
    plain = run("a cat")
    assert (plain == run("a cat")).all() and (plain != tokens).any()
    assert (plain != run("three dogs")).any() and (plain != run("a cat", negative="three dogs")).any()
    assert (plain != run("a cat", guidance=0.0)).any() and (plain != run("a cat", top_k=0)).any()


def test_iterations_compile_once_for_all_captions(micro):
    small = scenes.render(scenes.example("val", 3)[0])
    editing.resample.clear_cache()
    for caption, guidance in (("a cat", 4.0), ("two dogs on a pink background", 1.5)):
        micro.edit(small, caption, iterations=3, guidance=guidance)
    assert editing.resample._cache_size() == 1


def test_resampling_draws_the_likeliest_code_of_what_it_hides(micro):
    """One place of all hidden at a time, top 1: what is drawn is the argmax given all others."""
    small = scenes.render(scenes.example("val", 3)[0])
    tokens = micro.tokenize(small[None])
    options = dict(iterations=1, fraction=0.01, top_k=1, guidance=0.0, trace=True)
    states = [micro.edit(small, "a cat", seed=seed, **options).tokens for seed in range(8)]
    places = [np.flatnonzero((state != tokens).ravel()) for state in states]
    assert max(map(len, places)) == 1
    seed = [len(changed) for changed in places].index(1)
    text, mask = micro.text.encode(["a cat"])
    hidden = tokens.reshape(1, 64).copy()
    hidden[0, places[seed]] = 64
    logits = forward(micro.graphdefs["base"], micro.params["base"], jnp.asarray(hidden), text, mask)
    assert int(logits[0, places[seed][0]].argmax()) == int(states[seed].ravel()[places[seed][0]])


def test_the_cascade_raises_only_what_has_changed(cascade, picture):
    result = cascade.edit(picture, "a cat", iterations=3, trace=True)
    coarse, fine = tokens_of(cascade, picture)
    changed = (result.tokens[0] != coarse).repeat(4, 0).repeat(4, 1)
    assert changed.any() and not changed.all()
    assert (result.superres_tokens[0][~changed] == fine[~changed]).all()
    assert (result.superres_tokens[0][changed] != fine[changed]).any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(iterations=-1), r"\biterations\b.*-1"),
        (dict(fraction=0), r"\bfraction\b.*\b0\b"),
        (dict(fraction=1.5), r"\bfraction\b.*1\.5"),
        (dict(fraction="a"), r"\bfraction\b.*'a'"),
        (dict(guidance=-1.0), r"\bguidance\b.*-1"),
        (dict(top_k=100), r"\btop_k\b.*\b100\b"),
    ],
)
def test_bad_edits_get_a_sentence(micro, options, message):
    with pytest.raises(ValueError, match=message):
        micro.edit(np.zeros((64, 64, 3), np.uint8), "a cat", **options)


# --- variations and interpolation -----------------------------------------------------------------------------------


def test_variations_redraw_their_share(cascade, picture):
    coarse, fine = tokens_of(cascade, picture)
    for strength, count in ((0.0, 0), (0.25, 16), (1.0, 64)):
        result = cascade.vary(picture, "a cat", n=2, strength=strength, trace=True, **FAST)
        assert result.redrawn.reshape(2, -1).sum(-1).tolist() == [count, count]
        kept = ~result.redrawn
        assert all((result.tokens[i][kept[i]] == coarse[kept[i]]).all() for i in range(2))
        places = kept.repeat(4, 1).repeat(4, 2)
        assert all((result.superres_tokens[i][places[i]] == fine[places[i]]).all() for i in range(2))
    drawn = cascade.generate("a cat", n=2, trace=True, **FAST)
    assert (result.tokens == drawn.tokens).all()  # strength 1
    with pytest.raises(ValueError, match=r"\bstrength\b.*None"):
        cascade.vary(picture, "a cat", strength=None)
    with pytest.raises(ValueError, match=r"\bstrength\b.*\b2\b"):
        cascade.vary(picture, "a cat", strength=2)


def test_interpolation_begins_and_ends_at_the_captions(cascade):
    plain = dict(steps=(3, 2), guidance=0.0, seed=4)
    images = cascade.interpolate("a cat", "three dogs on a pink background", n=3, steps=(3, 2), seed=4)
    assert images.shape == (3, 128, 128, 3)
    ends = [cascade.generate(caption, **plain)[0] for caption in ("a cat", "three dogs on a pink background")]
    for image, end in zip((images[0], images[-1]), ends):
        assert (image == end).mean() > 0.9  # but for rounding at ties
    assert (ends[0] == ends[1]).mean() < 0.9 and (images[1] != images[0]).any() and (images[1] != images[2]).any()
    with pytest.raises(ValueError, match=r"\bn\b.*\b1\b"):
        cascade.interpolate("a cat", "a dog", n=1)
    with pytest.raises(ValueError, match=r"\['a cat', 'a dog'\]"):
        cascade.interpolate(["a cat", "a dog"], "a fox")


def test_wide_pictures_are_no_matter_of_a_caption_alone(micro):
    wide = np.zeros((64, 128, 3), np.uint8)
    with pytest.raises(ValueError, match="128 x 64"):
        micro.edit(wide, "a cat")
    with pytest.raises(ValueError, match="128 x 64"):
        micro.vary(wide, "a cat")


def test_a_large_square_is_a_canvas_only_if_that_is_said(cascade, picture):
    large = cascade.outpaint(picture, "a cat", right=32, bottom=32, **FAST)[0]
    mask = np.zeros((160, 160), bool)
    mask[100:110, 100:110] = True
    assert cascade.inpaint(large, mask, "a cat", **FAST).shape == (1, 128, 128, 3)
    again = cascade.inpaint(large, mask, "a cat", canvas=True, **FAST)[0]
    assert again.shape == (160, 160, 3) and (again[~mask] == large[~mask]).all()
    assert cascade.outpaint(large, "a cat", left=16, canvas=True, **FAST).shape == (1, 160, 176, 3)


def test_a_picture_of_the_bases_own_size_keeps_its_tokens(cascade):
    small = scenes.render(scenes.example("val", 3)[0])
    result = cascade.inpaint(small, np.zeros((64, 64), bool), "a cat", trace=True, **FAST)
    assert (result.tokens == cascade.tokenize(small[None])).all()
