"""Drawings of a Parquet file, collages of them, and their place between the pictures of a source."""

import io
import random

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from minimuse.data import artwork, sources
from minimuse.data.artwork import Artwork, read_artwork, recoloured


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write(path, pictures, names=None):
    """A Parquet file of the form of data/sprites.parquet."""
    names = names or [f"drawing {i}" for i in range(len(pictures))]
    rows = [dict(name=name, image=dict(bytes=picture, path=None)) for name, picture in zip(names, pictures)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def squares(tmp_path):
    """Three drawings, each a square that fills its picture: red, green, blue."""
    colours = [(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)]
    return write(tmp_path / "squares.parquet", [png(Image.new("RGBA", (16, 16), colour)) for colour in colours])


def test_a_collage_is_a_function_of_its_number_and_seed(squares, tmp_path):
    one, other = Artwork(squares), Artwork(squares)
    image, centres = one.collage(5, 64, 0)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    assert artwork.COUNT[0] <= len(centres) <= artwork.COUNT[1]
    assert all(0 <= x <= 64 and 0 <= y <= 64 for x, y in centres)
    other.collage(4, 64, 0)  # whatever was drawn before
    assert (other.collage(5, 64, 0)[0] == image).all()
    for number, seed in ((6, 0), (5, 1)):
        assert (one.collage(number, 64, seed)[0] != image).any()


def test_names_do_not_matter_but_drawings_do(squares, tmp_path):
    pictures = read_artwork(squares)
    renamed = Artwork(write(tmp_path / "renamed.parquet", pictures, ["a", "b", "a"]))
    assert renamed.about == Artwork(squares).about
    assert (renamed.collage(0, 32, 0)[0] == Artwork(squares).collage(0, 32, 0)[0]).all()
    assert Artwork(write(tmp_path / "turned.parquet", pictures[::-1])).about != renamed.about


def test_a_third_of_a_turn_of_the_hue_makes_red_green():
    image = Image.new("RGBA", (1, 2), (255, 0, 0, 7))
    image.putpixel((0, 1), (128, 128, 128, 255))
    assert np.asarray(recoloured(image, 85, 1.0)).tolist() == [[[0, 255, 0, 7]], [[128, 128, 128, 255]]]
    assert np.asarray(recoloured(image, 0, 0.5))[1].tolist() == [[64, 64, 64, 255]]
    assert np.asarray(recoloured(image, 256, 2.0))[0].tolist() == [[255, 0, 0, 7]]  # no more than there is


def test_backgrounds_are_light():
    tones = np.array([artwork.ground(random.Random(i)) for i in range(200)])
    assert len(np.unique(tones, axis=0)) > 50 and tones.min() >= 100 and tones.max() <= 255


def test_half_of_the_pictures_are_collages(squares):
    """The scenes between them are those of a run without artwork, none left out."""
    plain, drawn = sources.Scenes(), Artwork(squares)
    mixed = sources.WithArtwork(plain, drawn)
    scenes = plain.pictures(range(10, 13), 32, 0)
    for start in (20, 21):  # a batch may begin with either kind
        images = mixed.pictures(range(start, 26), 32, 0)
        assert images.shape == (26 - start, 32, 32, 3)
        for number, image in enumerate(images, start):
            expected = scenes[number // 2 - 10] if number % 2 else drawn.collage(number // 2, 32, 0)[0]
            assert (image == expected).all()
    assert (mixed.pictures(range(4, 5), 32, 0)[0] == drawn.collage(2, 32, 0)[0]).all()  # a batch of one collage
    assert mixed.about == drawn.about


def test_pieces_of_collages_hold_what_is_around_a_drawing(squares):
    mixed = sources.WithArtwork(sources.Scenes(), Artwork(squares))
    pieces = mixed.pieces(range(20), 64, 0, 32, 4, "here")
    assert pieces.shape == (20, 32, 32, 3) and pieces.std((1, 2)).max(-1).min() > 1
    assert (mixed.pieces(range(20), 64, 0, 32, 4, "here") == pieces).all()
    assert (mixed.pieces(range(20), 64, 0, 32, 4, "there") != pieces).any()
    whole = mixed.pictures(range(2), 64, 0)
    corners = [(y, x) for y in range(0, 33, 4) for x in range(0, 33, 4)]
    for piece, image in zip(pieces, whole):
        assert any((image[y : y + 32, x : x + 32] == piece).all() for y, x in corners)


def test_what_is_no_artwork_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.parquet"):
        Artwork(tmp_path / "nowhere.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    empty = write(tmp_path / "empty.parquet", [])
    numbers = tmp_path / "numbers.parquet"
    pyarrow.parquet.write_table(pyarrow.table(dict(image=[1, 2])), numbers)
    missing = write(tmp_path / "missing.parquet", [png(Image.new("RGBA", (2, 2))), None])
    for path in (text, empty, numbers, missing):
        with pytest.raises(ValueError, match=path.name):
            Artwork(path)
