"""Drawings that no training saw: what is in the file, what is drawn with it, and that no training reads it."""

import ast
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import minimuse
from minimuse import cli
from minimuse.config import VQGANConfig, data_dir
from minimuse.data import scenes
from minimuse.data.artwork import read_artwork
from minimuse.evaluate import unseen

FOLDER = Path(minimuse.__file__).parent
FILE, MODULE = "unseen_artwork", "evaluate.unseen"


class Copier:
    """A tokenizer that keeps the pictures as they are, or loses their last bits."""

    configs = dict(tokenizer=VQGANConfig(image_size=64), superres_tokenizer=VQGANConfig(image_size=128))

    def __init__(self, lost: int = 1):
        self.lost = lost

    def tokenize(self, images, stage):
        self.kept = images
        return np.zeros((len(images), 8, 8), np.int32)

    def detokenize(self, tokens, stage, finetuned=False):
        return self.kept // self.lost * self.lost


def test_the_file_has_many_drawings_of_every_category():
    table = pyarrow.parquet.read_table(data_dir() / f"{FILE}.parquet")
    rows = table.to_pylist()
    assert len(rows) >= 200 and {"name", "category", "code_point", "image"} == set(table.column_names)
    counts = Counter(row["category"] for row in rows)
    assert len(counts) == 8 and len(set(counts.values())) == 1
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(row["code_point"].startswith("U+") for row in rows)
    drawings = unseen.unseen_artwork()
    assert all(drawing.size == (128, 128) and drawing.mode == "RGBA" for drawing in drawings)
    # Cropped to what is drawn.
    assert all(128 in (box[2] - box[0], box[3] - box[1]) for box in (d.getchannel("A").getbbox() for d in drawings))
    assert (data_dir() / f"{FILE}.parquet").stat().st_size < 2 * 2**20
    assert (data_dir() / "LICENSE-artwork.md").is_file()


def test_no_drawing_is_a_sprite():
    sprites = {sprite.image.tobytes() for sprite in scenes.sprites().values()}
    assert not sprites & {drawing.tobytes() for drawing in unseen.unseen_artwork()}
    assert not set(read_artwork(data_dir() / "sprites.parquet")) & set(read_artwork(data_dir() / f"{FILE}.parquet"))


def test_no_training_opens_it():
    """Only one module names the file, and only what measures imports that module."""
    named = {
        p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.py") if f"{FILE}.parquet" in p.read_text("utf-8")
    }
    assert named == {"evaluate/unseen.py"}
    importing = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            if any(f"{module}.{name}".removeprefix(".").endswith(MODULE) or MODULE in module for name in names):
                importing.add(path.relative_to(FOLDER).as_posix())
    assert importing == {"evaluate/commands.py"}


def test_scenes_keep_their_places_and_backgrounds():
    """Where a sprite's box ends, the picture is that of the course's scene; inside it is not."""
    for i in range(24):
        scene = scenes.example("val", i)[0]
        image, usual = unseen.unseen_picture(i, 64), scenes.render(scene, 64)
        inside = np.zeros((64, 64), bool)
        for item in scene.items:
            box = slice(item.y, item.y + item.size), slice(item.x, item.x + item.size)
            inside[box] = True
            assert (image[box] != usual[box]).any()
        assert (image[~inside] == scenes.BACKGROUNDS[scene.background]).all()


def test_equal_sprites_become_equal_drawings():
    number = next(i for i in range(2, 99, 6) if len(scenes.example("val", i)[0].items) == 4)
    image = unseen.unseen_picture(number, 128)
    boxes = [
        image[2 * item.y :, 2 * item.x :][: 2 * item.size, : 2 * item.size]
        for item in scenes.example("val", number)[0].items
    ]
    assert all((box == boxes[0]).all() for box in boxes)


def test_pictures_are_a_function_of_number_and_seed(monkeypatch):
    images = unseen.unseen_pictures(6, 64)
    assert images.shape == (6, 64, 64, 3) and images.dtype == np.uint8
    assert (unseen.unseen_picture(4, 64) == images[4]).all()
    assert (unseen.unseen_picture(4, 64, seed=1) != images[4]).any()
    white = tuple(Image.new("RGBA", (128, 128), "white") for _ in range(6))
    monkeypatch.setattr(unseen, "unseen_artwork", lambda: white)
    assert (unseen.unseen_picture(4, 64) != images[4]).any()


def test_both_numbers_are_measured_on_the_same_scenes():
    result = unseen.evaluate_unseen(Copier(), n=6)
    assert result["n"] == 6 and result["artwork"] == len(unseen.unseen_artwork())
    for kind in ("seen", "unseen"):
        assert result[kind]["psnr"] > 120 and result[kind]["ssim"] == 1 and result[kind]["sharpness"] == 1
    assert result["seen"]["readable"] == 1 and "readable" not in result["unseen"]
    worse = unseen.evaluate_unseen(Copier(lost=32), "superres", n=6)
    assert 20 < worse["unseen"]["psnr"] < 40 and worse["unseen"]["psnr"] != worse["seen"]["psnr"]
    assert worse["unseen"]["frechet"] > result["unseen"]["frechet"]


@pytest.mark.parametrize("artwork", ["seen", "unseen"])
def test_the_command_measures_what_it_is_asked_for(artwork, monkeypatch, capsys):
    class Pretrained:
        from_pretrained = staticmethod(lambda preset: Copier())

    monkeypatch.setattr("minimuse.muse.Muse", Pretrained)
    cli.main(["evaluate", "tokenizer", "--artwork", artwork, "--n", "3", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert ("unseen" in result) == (artwork == "unseen") and result.get("seen", result)["psnr"] > 120
