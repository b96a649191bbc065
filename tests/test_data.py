"""`datasets` in and out, batches, and the cache of tokens and text."""

import json

import datasets
import numpy as np
import pytest
from PIL import Image

from minimuse.data import captioned, scenes
from minimuse.data.cache import TokenCache, batch_indices


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
    local = datasets.Dataset.from_dict(dict(img=[1], prompt=["a"]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: asked.append((args, options)) or local)
    dataset = captioned.load_captioned("someone/birds-v1.5", image="img", split="test")
    assert asked == [(("someone/birds-v1.5",), dict(split="test"))]
    assert dataset.column_names == ["image", "caption"]


def test_the_middle_square_is_cut_out():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (captioned.to_square(Image.fromarray(wide), 10) == 200).all()


def test_batches_are_a_function_of_seed_and_epoch():
    dataset = captioned.scene_dataset("val", 10)
    captions = lambda **options: [b["captions"] for b in captioned.batches(dataset, 4, **options)]
    two = captions(epochs=2)
    assert len(two) == 4 and two[:2] == captions() and two[:2] != two[2:]
    assert captions(seed=1) != captions()


def test_every_epoch_sees_every_example_once_in_another_order():
    epochs = [np.concatenate([batch_indices(4 * e + s, 3, 14, seed=0) for s in range(4)]) for e in (0, 1)]
    assert all(len(set(epoch)) == 12 for epoch in epochs) and (epochs[0] != epochs[1]).any()
    assert (batch_indices(5, 3, 14, 0) == batch_indices(5, 3, 14, 0)).all()
    with pytest.raises(ValueError, match=r"(?=.*\b8\b).*\b5\b"):
        batch_indices(0, 8, 5, 0)


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


@pytest.fixture
def cache():
    def examples(i):
        return np.full((16, 16, 3), i, np.uint8), "x" * (i % 3 + 1)

    def tokenize(images):
        return images[:, ::8, ::8, 0].astype(int)  # [B, 2, 2], the number of the example

    def encode(captions):
        lengths = np.array([len(c) for c in captions])
        mask = np.arange(8)[None] < lengths[:, None]
        return mask[..., None] * lengths[:, None, None] * np.ones(5, np.float32), mask

    return TokenCache.build(examples, 10, tokenize, encode, chunk=4)


def test_the_cache_gives_back_tokens_and_text_at_true_length(cache):
    assert len(cache) == 10 and len(cache.embeddings) == sum(i % 3 + 1 for i in range(10))
    batch = cache.batch(np.array([0, 7, 2]))
    assert batch["tokens"].tolist() == [[0] * 4, [7] * 4, [2] * 4]
    assert batch["text_mask"].sum(-1).tolist() == [1, 2, 3] and batch["text"].shape == (3, 3, 5)
    assert batch["text"][:, 0, 0].tolist() == [1, 2, 3] and batch["text"][0, 1:].max() == 0


def test_parts_of_a_cache_join_to_the_whole(cache):
    def part(first, last):
        begins = cache.ends[first - 1] if first else 0
        ends = cache.ends[first:last]
        return TokenCache(cache.tokens[first:last], cache.embeddings[begins : ends[-1]], ends - begins)

    joined = TokenCache.join([part(0, 4), part(4, 5), part(5, 10)])
    for name in ("tokens", "embeddings", "ends"):
        assert (getattr(joined, name) == getattr(cache, name)).all()


def test_the_cache_survives_the_disk(cache, tmp_path):
    cache.save(tmp_path / "tokens.safetensors")
    again = TokenCache.load(tmp_path / "tokens.safetensors")
    everything = np.arange(10)
    for key, value in cache.batch(everything).items():
        assert (again.batch(everything)[key] == value).all()
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.safetensors"]


def test_the_cache_of_two_resolutions_keeps_them_together(tmp_path):
    def examples(i):
        return (np.full((4, 4, 3), i, np.uint8), np.full((2, 2, 3), 100 + i, np.uint8)), "x"

    def tokenize(images):
        large, small = images
        return large[:, ::2, ::2, 0], small[:, ::2, ::2, 0]

    encode = lambda captions: (np.ones((len(captions), 1, 5), np.float32), np.ones((len(captions), 1), bool))
    cache = TokenCache.build(examples, 5, tokenize, encode, chunk=2)
    cache.save(tmp_path / "tokens.safetensors")
    both = TokenCache.join([TokenCache.load(tmp_path / "tokens.safetensors"), cache])
    batch = both.batch(np.array([4, 6]))
    assert batch["tokens"].tolist() == [[4] * 4, [1] * 4] and batch["low"].tolist() == [[104], [101]]
