"""Figures from tiny arrays."""

import numpy as np
import pytest
from samples import IMAGES, detokenize, generation, png

from minimuse.teach import figures


def test_image_grid():
    figure = figures.image_grid(IMAGES, list("abcde"), columns=3)
    assert len(figure.axes) == 5 and [ax.get_title() for ax in figure.axes] == list("abcde")
    assert png(figure).startswith(b"\x89PNG")
    assert len(figures.image_grid(IMAGES).axes) == 5
    with pytest.raises(ValueError, match=r"(?=.*\b5\b).*\b2\b"):
        figures.image_grid(IMAGES, ["a", "b"])
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\(8, 8, 3\)"):
        figures.image_grid(IMAGES[0])


def test_image_grid_names_rows_and_columns():
    figure = figures.image_grid(IMAGES[:4], ["a", "b"], columns=2, rows=["one", "two"])
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["one", "", "two", ""]
    png(figure)
    with pytest.raises(ValueError, match=r"(?=.*\b3\b).*\b2\b"):
        figures.image_grid(IMAGES[:4], columns=2, rows=["one", "two", "three"])
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\b2\b"):
        figures.image_grid(IMAGES[:4], list("abcd"), columns=2, rows=["one", "two"])


def test_token_grid_writes_every_number():
    figure = figures.token_grid(np.array([[0, 7, 1023], [1024, 5, 6]]), mask_id=1024)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "7", "1023", "M", "5", "6"]
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["////"]
    assert png(figure) != png(figures.token_grid(np.array([[0, 7, 1023], [1024, 5, 6]])))


def test_mask_grid_counts_and_hatches():
    masks = np.array([np.zeros((2, 3)), np.eye(2, 3)], bool)
    figure = figures.mask_grid(masks)
    assert [ax.get_title() for ax in figure.axes] == ["0 of 6 hidden", "2 of 6 hidden"]
    assert [len(ax.patches) for ax in figure.axes] == [0, 1]
    png(figure)


def test_hatches_lie_on_the_hidden_cell():
    figure = figures.mask_grid(np.array([[[False, False], [False, True]]]))
    corners = figure.axes[0].patches[0].get_path().get_extents()
    assert (corners.x0, corners.y0, corners.x1, corners.y1) == (0.5, 0.5, 1.5, 1.5)


def test_a_fine_mask_is_dark_where_hidden():
    mask = np.eye(32, dtype=bool)
    (ax,) = figures.mask_grid(mask[None]).axes
    assert (np.asarray(ax.images[0].get_array() < 0.5) == mask).all() and not ax.patches


def test_decode_steps():
    figure = figures.decode_steps(generation(), 1, detokenize)
    assert len(figure.axes) == 3 * 4 + 1  # and the colour bar
    assert [ax.get_title() for ax in figure.axes[:4]] == [f"step {s}" for s in (1, 2, 3, 4)]
    assert [ax.get_xlabel() for ax in figure.axes[4:8]] == [f"{k} of 6 kept" for k in (1, 2, 4, 6)]
    assert [ax.get_xlabel() for ax in figure.axes[8:12]] == [f"{k} kept just now" for k in (1, 1, 2, 2)]
    png(figure)
    assert len(figures.decode_steps(generation(), 0, detokenize, steps=[1, 4]).axes) == 3 * 2 + 1
    with pytest.raises(ValueError, match=r"image.*\b2\b"):
        figures.decode_steps(generation(), 2, detokenize)
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\[0, 1\]"):
        figures.decode_steps(generation(), 0, detokenize, steps=[0, 1])


def test_one_frame_of_the_decoding():
    figure = figures.decode_frame(generation(), 1, 3, detokenize)
    assert [ax.get_title() for ax in figure.axes] == [
        "1 hidden: 4 of 6",
        "2 probability (bright: 1); 2 kept",
        "3 whole guess",
        "4 kept so far: 4 of 6",
    ]
    written = [text.get_text() for text in figure.axes[3].texts]
    after = generation().trace.hidden[2, 1]
    assert written == [str(token) for token in np.asarray(generation().trace.tokens)[2, 1][~after]]
    png(figure)
    for image, step, message in (
        (2, 1, r"image.*\b2\b"),
        (0, 5, r"(?=.*\b4\b).*\bsteps?\b.*\b5\b"),
        (0, 0, r"(?=.*\b4\b).*\bsteps?\b.*\b0\b"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.decode_frame(generation(), image, step, detokenize)


def test_maps_of_attention_share_a_scale():
    image, maps = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2, 2))
    maps[0], maps[1, 1, 0], maps[1, 0, 0] = [[0.4, 0.1], [0.0, 0.2]], 0.03, np.nan
    figure = figures.attention_over(image, maps, ["cat", "</s>"], hidden=[[True, False], [False, False]], at=(1, 0))
    picture, one, two, scale = figure.axes
    assert [ax.get_title() for ax in (one, two)] == ["cat\nup to 40%", "</s>\nup to 3%"]
    assert [ax.images[0].get_clim() for ax in (one, two)] == [(0, 0.4)] * 2
    np.testing.assert_array_equal(one.images[0].get_array(), maps[0])
    assert scale.get_ylabel() == "attention weight"
    assert picture.patches[0].get_hatch() and picture.patches[-1].get_xy() == (-0.5, 3.5)
    assert one.patches[-1].get_xy() == (-0.5, 0.5)
    png(figure)
    with pytest.raises(ValueError, match=r"(?=.*\b2\b).*\b1\b"):
        figures.attention_over(image, maps, ["cat"])
