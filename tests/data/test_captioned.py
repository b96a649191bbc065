"""Captioned pictures as `datasets`, and batches of them."""

import io
import json

import datasets
import numpy as np
import pytest
from conftest import turned
from PIL import Image

from minimuse.data import captioned, scenes


@pytest.fixture
def pictures(tmp_path):
    """An imagefolder with metadata.jsonl: pictures of several modes and sizes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = []
    for i, (mode, size) in enumerate([("RGB", (64, 64)), ("RGBA", (100, 40)), ("L", (30, 90)), ("P", (64, 64))]):
        Image.new(mode, size, 0).save(folder / f"{i}.png")
        lines.append(json.dumps(dict(file_name=f"{i}.png", text=f"picture {i}")))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_a_split_as_a_dataset_and_back_through_parquet(tmp_path):
    dataset = captioned.scene_dataset("val", 12, size=64)
    assert dataset.column_names == ["image", "caption", "task"] and len(dataset) == 12
    scene, caption = scenes.example("val", 5)
    assert dataset[5]["caption"] == caption and dataset[5]["task"] == scene.task
    assert (np.asarray(dataset[5]["image"]) == scenes.render(scene)).all()
    dataset.to_parquet(tmp_path / "val.parquet")
    again = captioned.load_captioned(tmp_path / "val.parquet")
    assert again.column_names == ["image", "caption"]
    assert again["caption"][:] == dataset["caption"][:]
    assert (np.asarray(again[3]["image"]) == np.asarray(dataset[3]["image"])).all()


def test_an_imagefolder_comes_in_square_and_opaque(pictures):
    dataset = captioned.load_captioned(pictures)
    batch = next(captioned.batches(dataset, 4, size=32))
    assert batch["images"].shape == (4, 32, 32, 3) and batch["images"].dtype == np.uint8
    assert sorted(batch["captions"]) == [f"picture {i}" for i in range(4)]
    transparent = batch["images"][batch["captions"].index("picture 1")]
    assert (transparent == 255).all()


def test_a_hub_name_goes_to_the_hub(monkeypatch):
    asked = []
    local = datasets.Dataset.from_dict(dict(img=[b"..."], prompt=["a"]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: asked.append((args, options)) or local)
    dataset = captioned.load_captioned("someone/birds-v1.5", image="img", split="test")
    assert asked == [(("someone/birds-v1.5",), dict(split="test"))]
    assert dataset.column_names == ["image", "caption"] and dataset["caption"][0] == "a"


def test_the_middle_square_is_cut_out():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (captioned.to_square(Image.fromarray(wide), 10) == 200).all()


def test_pictures_are_turned_as_their_exif_data_say():
    upright = np.random.default_rng(0).integers(0, 256, (10, 30, 3), dtype=np.uint8)
    stored = turned(Image.fromarray(upright))
    assert stored.size == (10, 30)
    assert (np.asarray(captioned.upright(stored)) == upright).all()
    assert (captioned.to_square(stored, 10) == upright[:, 10:20]).all()


def test_exif_data_that_cannot_be_read_change_nothing():
    pixels, file = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "png", exif=b"Exif\0\0junk")
    assert (np.asarray(captioned.upright(Image.open(file))) == pixels).all()
    with pytest.raises(OSError):  # a damaged picture is still an error
        captioned.upright(Image.open(io.BytesIO(file.getvalue()[:-40])))


def test_batches_are_a_function_of_seed_and_epoch():
    dataset = captioned.scene_dataset("val", 10)
    captions = lambda **options: [b["captions"] for b in captioned.batches(dataset, 4, **options)]
    two = captions(epochs=2)
    assert len(two) == 4 and two[:2] == captions() and two[:2] != two[2:]
    assert captions(seed=1) != captions()


def test_a_set_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"(?=.*\b8\b).*\b3\b"):
        next(captioned.batches(captioned.scene_dataset("train", 3), 8))


def test_missing_columns_and_folders_are_explained(pictures, tmp_path):
    with pytest.raises(ValueError, match="'title'"):
        captioned.load_captioned(pictures, caption="title")
    with pytest.raises(ValueError, match="'photo'"):
        captioned.load_captioned(pictures, image="photo")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet"):
        captioned.load_captioned(tmp_path / "nowhere.parquet")
