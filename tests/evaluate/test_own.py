"""Pictures of one's own: which captions are drawn, the loss on what was held out, and how it is reported."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from conftest import random_weights
from PIL import Image
from test_cli import run

from minimuse.data import scenes
from minimuse.data.cache import held_out_rows
from minimuse.evaluate import fid_clip, own
from minimuse.files import read_log
from minimuse.presets import PRESETS
from minimuse.train import stages
from minimuse.weights import save_weights

MICRO = PRESETS["micro"]
COUNT = 40


def captioned(folder, count: int = COUNT, first: int = 0):
    """A folder of scenes with captions."""
    folder.mkdir()
    rows = []
    for i in range(count):
        scene, caption = scenes.example("val", first + i)
        Image.fromarray(scenes.render(scene)).save(folder / f"{i:02}.png")
        rows.append(dict(file_name=f"{i:02}.png", text=caption))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A preset of one's own pictures, four of which are held out, and a run whose base is trained on the others."""
    data, out = captioned(tmp_path_factory.mktemp("own") / "pictures"), tmp_path_factory.mktemp("run")
    own = dict(held_out=4, batch=4, steps=4, accumulate=2)
    train = {name: dataclasses.replace(MICRO.train[name], **own) for name in ("base", "superres")}
    pictures = dataclasses.replace(MICRO.pictures, cache=str(tmp_path_factory.mktemp("cache")))
    preset = dataclasses.replace(MICRO, data=str(data), pictures=pictures, train=MICRO.train | train)
    source = stages.open_prepared(preset)
    for stage in ("tokenizer", "superres_tokenizer"):
        save_weights(out / f"{stage}.safetensors", random_weights(stage, getattr(MICRO, stage)))
        stages.describe(out, preset, stage, getattr(MICRO, stage), source=source)
    stages.TRAIN["base"](preset, out)
    return preset, out


def evaluate(capsys, *arguments) -> dict:
    assert run("evaluate", "generation", "--steps", 2, "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


class Seen:
    """A judge that keeps what it is given, in the place of a network of torch."""

    meaning = dict(clip="the number of captions")
    given: list = []

    @classmethod
    def from_pretrained(cls, name):
        return cls()

    def measure(self, images, captions, true):
        Seen.given = [images, captions, true]
        return dict(clip=float(len(captions)))


@pytest.mark.parametrize("stage", ["base", pytest.param("superres", marks=pytest.mark.slow)])
def test_held_out_pictures_are_drawn_and_their_loss_is_that_of_the_log(trained, stage, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(fid_clip, "Clip", Seen)
    preset, out = trained
    if stage == "superres":
        out = shutil.copytree(out, tmp_path / "cascade")
        stages.TRAIN[stage](preset, out)
    sheet = tmp_path / "sheet.png"
    options = ["--preset", out, "--data", preset.data, "--stage", stage, "--judges", "clip", "--out", sheet]
    result = evaluate(capsys, *options)
    held = held_out_rows(preset.train["base"], COUNT)[1]
    images, captions, true = Seen.given
    assert captions == [scenes.example("val", int(i))[1] for i in held] and len(images) == 4
    side = 64 if stage == "base" else 128
    assert images.shape == true.shape == (4, side, side, 3)
    if stage == "base":
        assert (true == scenes.render_batch([scenes.example("val", int(i))[0] for i in held])).all()
    both = np.asarray(Image.open(sheet))
    assert both.shape == (side, 8 * side, 3)
    assert (both[:, :side] == true[0]).all() and (both[:, side : 2 * side] == images[0]).all()
    assert result["held_out"].keys() == {"base", stage} and result["clip"] == 4
    for name, values in result["held_out"].items():
        log = read_log(out / name / "log.jsonl")
        assert values["loss"] == pytest.approx(log["held_out_loss"][-1], rel=2e-3)
        assert values["accuracy"] == pytest.approx(log["held_out_accuracy"][-1], abs=0.02) and values["pictures"] == 4
    assert result["meaning"].keys() == {"held_out", "clip"} and "held out" in result["settings"]["captions"]
    assert "overall" not in result and not any("scorer" in name for name in result["weights"])


def test_moved_pictures_are_known_and_others_are_all_used(trained, capsys, tmp_path):
    preset, out = trained
    moved = evaluate(capsys, "--preset", out, "--data", captioned(tmp_path / "moved"), "--n", 2)
    assert moved["settings"]["n"] == 2 and "held out" in moved["settings"]["captions"] and moved["held_out"]
    other = own.from_data(str(out), str(captioned(tmp_path / "other", first=100)), ("base",))
    assert len(other.captions) == COUNT and not other.held and "not trained on" in other.what


def test_pictures_that_have_changed_since_training_are_refused(trained, tmp_path):
    preset, out = trained
    config = json.loads((out / "config.json").read_text())
    config["data"] = str(captioned(tmp_path / "grown", COUNT + 1))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="grown.*held out"):
        own.from_data(str(tmp_path), config["data"], ("base",))


def test_nothing_held_out_is_said(trained, tmp_path):
    preset, out = trained
    config = json.loads((out / "config.json").read_text())
    config["trained"]["base"]["held_out"] = 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = own.from_data(str(tmp_path), preset.data, ("base",))
    assert len(asked.captions) == COUNT and not asked.held and "none was held out" in asked.what


def test_scenes_are_not_drawn_for_pictures_of_ones_own(trained, capsys):
    preset, out = trained
    for name in ("generation", "editing", "autoregressive"):
        assert run("evaluate", name, "--preset", out) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"--data {preset.data}" in error and "--captions" in error


TEXTS = {
    "captions.txt": "a cat\n\n  two dogs \n",
    "captions.csv": 'number,caption\n1,a cat\n2,"two dogs"\n',
    "captions.jsonl": '{"text": "a cat"}\n{"text": ["two dogs", "dogs"]}\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_captions_of_a_file_are_drawn(name, micro_folder, tmp_path, capsys):
    (tmp_path / name).write_text(TEXTS[name])
    assert own.from_file(tmp_path / name).captions == ["a cat", "two dogs"]
    if name == "captions.txt":
        sheet = tmp_path / "sheet.png"
        result = evaluate(capsys, "--preset", micro_folder, "--captions", tmp_path / name, "--out", sheet)
        assert Image.open(sheet).size == (128, 64)
        assert result.keys() == {"meaning", "seconds", "settings", "weights"} and result["settings"]["n"] == 2


@pytest.mark.parametrize(
    "name, text, line, words",
    [
        ("nowhere.txt", None, "", r"nowhere\.txt"),
        ("captions.png", "", "", r"captions\.png"),
        ("captions.txt", "\n \n", "", r"captions\.txt"),
        ("captions.csv", "a,b\n1,2\n", "", r"captions\.csv"),
        ("captions.jsonl", '{"text": "a cat"}\n{"text": ""}\n', "", r"Row 2 .*captions\.jsonl"),
        ("captions.txt", "a cat", "--data pictures", "--data"),
        ("captions.txt", "a cat", "--split everyday", "--split"),
        ("captions.txt", "a cat", "--judges inception", "--data"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(name, text, line, words, micro_folder, tmp_path, capsys):
    if text is not None:
        (tmp_path / name).write_text(text)
    options = ["--preset", micro_folder, "--captions", tmp_path / name, *line.split()]
    assert run("evaluate", "generation", *options) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count("\n") == 1
