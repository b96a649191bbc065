"""What a run learns from: scenes as they always were, and any folder of captioned pictures in their place."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import minimuse as mm
from minimuse import cli
from minimuse.config import TrainConfig
from minimuse.data import captioned, scenes, sources
from minimuse.data.cache import TokenCache
from minimuse.presets import PRESETS
from minimuse.train import stages
from minimuse.weights import read_config

SIZES = [(64, 64), (100, 40), (30, 90), (128, 128), (64, 80)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Prepared pictures are kept in a folder of the test."""
    monkeypatch.setattr(sources, "DEFAULT_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    """An imagefolder: five pictures of one grey each, with a caption that says which."""
    folder = tmp_path / "my pictures é"
    folder.mkdir()
    lines = []
    for i, size in enumerate(SIZES):
        Image.new("RGB", size, (40 * i,) * 3).save(folder / f"{i}.png")
        lines.append(json.dumps(dict(file_name=f"{i}.png", text=f"grey number {i}")))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def greys(images: np.ndarray) -> list[int]:
    """Which of the pictures each of images [B, H, H, 3] is."""
    assert (images == images[:, :1, :1, :1]).all()
    return (images[:, 0, 0, 0] // 40).tolist()


def test_every_picture_is_seen_once_per_time_through(folder):
    source = sources.Pictures(folder)
    images = source.pictures(range(15), 32, seed=0)
    assert images.shape == (15, 32, 32, 3) and images.dtype == np.uint8
    seen = greys(images)
    times = [seen[start : start + 5] for start in (0, 5, 10)]
    assert all(sorted(time) == [0, 1, 2, 3, 4] for time in times) and times[0] != times[1]
    assert greys(source.pictures(range(4, 9), 32, seed=0)) == seen[4:9]  # by number, whatever was asked before
    assert greys(source.pictures(range(15), 32, seed=1)) != seen


def test_examples_are_the_pictures_in_their_order_in_both_sizes(folder):
    source = sources.Pictures(folder)
    assert source.count(TrainConfig(steps=1, batch=1, scenes=7)) == 5
    for i in range(5):
        (small, large), caption = source.example(i, (32, 64), TrainConfig(1, 1))
        assert caption == (f"grey number {i}",)
        with Image.open(folder / f"{i}.png") as picture:
            assert (small == captioned.to_square(picture, 32)).all() and (
                large == captioned.to_square(picture, 64)
            ).all()


def test_pieces_are_cut_at_multiples_of_a_token(folder):
    gradient = np.zeros((64, 64, 3), np.uint8)
    gradient[..., 0], gradient[..., 1] = np.arange(64), np.arange(64)[:, None]  # every pixel says where it is
    for i in range(5):
        Image.fromarray(gradient).save(folder / f"{i}.png")
    pieces = sources.Pictures(folder).pieces(range(40), 64, 0, crop=32, factor=8, name="a")
    assert pieces.shape == (40, 32, 32, 3)
    corners = {tuple(map(int, piece[0, 0, :2])) for piece in pieces}
    assert all(x % 8 == y % 8 == 0 and max(x, y) <= 32 for x, y in corners) and len(corners) > 10
    assert all((piece[..., 0] == piece[0, 0, 0] + np.arange(32)).all() for piece in pieces)


def test_scenes_are_what_they_were():
    source = sources.open_source("")
    assert source.about == {} and source.count(TrainConfig(steps=1, batch=1, scenes=7)) == 7
    (image,), caption = source.example(3, (64,), TrainConfig(1, 1, seed=2))
    scene, expected = scenes.example("train", 3, 2)
    assert caption == expected and (image == scenes.render(scene, 64)).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n"), r"(?i)\brow 2\b"),
        (
            lambda folder: (folder / "metadata.jsonl").write_text('{"file_name": "0.png", "text": null}'),
            r"(?i)\brow 0\b.*None",
        ),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_row(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=message):
        sources.Pictures(folder).pictures(range(5), 32, 0)


def train(*arguments) -> None:
    cli.main(["train", *map(str, arguments), "--preset", "micro"])


@pytest.mark.slow
def test_a_muse_of_ones_own_pictures_is_trained_and_draws(folder, tmp_path):
    out = tmp_path / "run"
    for stage in ("tokenizer", "base"):
        train(stage, "--data", folder, "--out", out, "--batch", 4, "--steps", 4)
    values = read_config(out)
    assert values["data"] == str(folder) and values["text"] == "t5-scenes"
    assert mm.Muse.from_pretrained(out).generate("grey number 2").shape == (1, 64, 64, 3)
    cache = TokenCache.load(next(out.glob("tokens-*.safetensors")))
    assert len(cache) == 5 and cache.tokens.shape == (5, 8, 8)


def test_a_run_is_resumed_with_a_moved_folder_and_not_with_other_captions(folder, tmp_path):
    """What a tokenizer's job says must be the same when its run is resumed; tests/train/test_training.py resumes it."""

    def about(folder):
        return stages.tokenizer_job(PRESETS["micro"], sources.open_source(str(folder))).about

    before, moved = about(folder), folder.rename(tmp_path / "moved")
    assert about(moved) == before
    lines = (moved / "metadata.jsonl").read_text()
    shutil.copytree(moved, other := tmp_path / "other")
    (other / "metadata.jsonl").write_text(lines.replace("grey", "gray"))
    assert {name for name, value in about(other).items() if value != before[name]} == {"captions"}


@pytest.mark.parametrize("stage", ["base", "all"])
def test_fewer_pictures_than_a_batch_are_reported_at_once(folder, tmp_path, capsys, stage):
    with pytest.raises(SystemExit, match="2"):
        train(stage, "--data", folder, "--out", tmp_path / "run")
    assert {"8", "5"} <= set(re.findall(r"\d+", capsys.readouterr().err))
    assert not (tmp_path / "run").exists()


def test_another_text_encoder_changes_the_widths(tmp_path):
    shutil.copytree(mm.config.data_dir() / "t5-scenes", tmp_path / "t5")
    values = json.loads((tmp_path / "t5" / "config.json").read_text())
    (tmp_path / "t5" / "config.json").write_text(json.dumps(values | dict(d_model=64)))
    settings = stages.with_text(PRESETS["colab"], str(tmp_path / "t5"))
    assert settings.base.text_width == settings.superres.text_width == 64
    assert settings.text == str(tmp_path / "t5")


def test_a_share_of_the_scenes_is_everyday():
    source, train = sources.Scenes(), TrainConfig(1, 1, everyday=0.25)
    plain = [source.example(i, (32,), TrainConfig(1, 1))[1] for i in range(400)]
    mixed = [source.example(i, (32,), train)[1] for i in range(400)]
    share = sum(one != other for one, other in zip(plain, mixed)) / 400
    assert 0.18 < share < 0.32


def test_tokens_of_other_pictures_with_the_same_captions_are_not_used(folder, tmp_path):
    """The same captions once hid that the pictures had changed."""
    before = sources.open_source(str(folder)).about
    for i, size in enumerate(SIZES):
        Image.new("RGB", size, (200, 0, 40 * i)).save(folder / f"{i}.png")
    after = sources.open_source(str(folder)).about
    assert before["captions"] == after["captions"] and before["pictures"] != after["pictures"]
