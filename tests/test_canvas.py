"""Pictures and masks as they come, and canvases: what a token covers, soft edges, windows."""

import numpy as np
import pytest
from conftest import turned
from PIL import Image

from minimuse import canvas

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


def test_a_mask_that_selects_nothing_is_refused_unless_it_is_zero():
    dark = np.array([[0, 100], [0, 0]], np.uint8)
    palette = Image.fromarray(dark // 100, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])  # class 1 of a segmentation, in dark red
    noise = Image.fromarray(dark // 100)  # nearly black: as a picture, this is not a mask of 0 and 1
    for mask, high in ((dark, 100), (palette, 38), (noise, 1), (dark / 255, 0.39), (np.full((2, 2), 127), 127)):
        with pytest.raises(ValueError, match=rf"\b{high}"):
            canvas.to_mask(mask, (2, 2))
    assert canvas.to_mask(np.asarray(noise), (2, 2)).tolist() == [[False, True], [False, False]]
    zero = np.zeros((2, 2), np.uint8)
    for mask in (zero, zero.astype(bool), zero.astype(float), Image.fromarray(zero)):
        assert not canvas.to_mask(mask, (2, 2)).any()


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
    deep = Image.fromarray(257 * rgb[..., 0].astype(np.uint16))  # 16 bits per pixel
    assert deep.mode.startswith("I;16") and (canvas.to_pixels(deep) == rgb[..., :1]).all()
    for mode in ("I", "F"):
        assert (canvas.to_pixels(image.convert("L").convert(mode))[..., 0] == np.asarray(image.convert("L"))).all()
    clear = np.dstack([rgb, np.zeros((6, 6), np.uint8)])
    assert (canvas.to_pixels(clear) == 255).all() and (canvas.to_pixels(Image.fromarray(clear)) == 255).all()


def test_pictures_and_masks_are_turned_upright():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stored = turned(Image.fromarray(rgb))
    assert stored.size == (4, 6) and (canvas.to_pixels(stored) == rgb).all()
    mask = rgb[..., 0] > 99
    assert (canvas.to_mask(turned(Image.fromarray(255 * mask.astype(np.uint8))), (4, 6)) == mask).all()


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
    assert canvas.to_size(blank(300, 300), 128, 16).shape == (128, 128, 3)
    assert canvas.to_size(blank(128, 256), 128, 16).shape == (128, 256, 3)
    for h, w in ((200, 150), (64, 128), (128, 200)):
        with pytest.raises(ValueError, match=rf"\b{w} x {h}\b"):
            canvas.to_size(blank(h, w), 128, 16)
    assert canvas.to_size(blank(256, 256), 128, 16, canvas=True).shape == (256, 256, 3)


def test_a_square_is_a_square_and_nothing_else():
    assert canvas.square(np.zeros((5, 5, 3), np.uint8), "Editing takes").shape == (5, 5, 3)
    with pytest.raises(ValueError, match="Editing takes a square.*5 x 4"):
        canvas.square(np.zeros((4, 5, 3), np.uint8), "Editing takes")


def test_a_canvas_has_the_tokens_of_every_stage(cascade):
    """The base sees the picture decimated."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (64, 64, 3), np.uint8)
    large = small.repeat(2, 0).repeat(2, 1)
    found = canvas.to_canvas(cascade, ("base", "superres"), large, canvas=True)
    assert (found.pixels == large).all() and list(found.tokens) == ["base", "superres"]
    assert (found.tokens["base"] == cascade.tokenize(small[None])[0]).all()
    assert (found.tokens["superres"] == cascade.tokenize(large[None], "superres")[0]).all()
    only = canvas.to_canvas(cascade, ("base",), large)
    assert only.pixels.shape == (64, 64, 3) and only.tokens.keys() == {"base"}


# --- windows --------------------------------------------------------------------------------------------------------


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
