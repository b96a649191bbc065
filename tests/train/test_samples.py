"""Pictures that are drawn in training, and the strip of them."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import random_weights
from PIL import Image
from test_cli import run

from minimuse.data import scenes
from minimuse.data.cache import held_out_rows
from minimuse.decoding import sample_tokens
from minimuse.presets import PRESETS
from minimuse.teach import figures
from minimuse.train import samples, stages
from minimuse.train.inputs import token_cache
from minimuse.train.loop import fit
from minimuse.weights import save_weights

MICRO = PRESETS["micro"]
TRAIN = dataclasses.replace(MICRO.train["base"], steps=5, held_out=3)


def preset_with(every: int, **changes):
    train = MICRO.train | dict(base=dataclasses.replace(TRAIN, **changes))
    return dataclasses.replace(MICRO, train=train, run=dataclasses.replace(MICRO.run, samples_every=every))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A run folder with a tokenizer of random weights."""
    out = tmp_path_factory.mktemp("untrained")
    for stage in ("tokenizer", "superres_tokenizer"):
        save_weights(out / f"{stage}.safetensors", random_weights(stage, getattr(MICRO, stage)))
        stages.describe(out, MICRO, stage, getattr(MICRO, stage))
    return out


@pytest.fixture(scope="module")
def trained(untrained):
    compiled = sample_tokens._cache_size()
    stages.TRAIN["base"](preset_with(2), untrained)
    assert sample_tokens._cache_size() == compiled + 1  # one program for all steps
    return untrained / "base"


def test_pictures_of_held_out_captions_are_drawn_at_intervals_and_at_the_end(trained):
    folder = trained / "samples"
    assert {path.name for path in folder.iterdir()} == {"captions.json", "2.png", "4.png", "5.png"}
    held = held_out_rows(TRAIN, TRAIN.scenes)[1]
    assert json.loads((folder / "captions.json").read_text()) == [scenes.example("train", int(i))[1] for i in held]
    drawn = [np.asarray(Image.open(folder / f"{step}.png")) for step in (2, 4, 5)]
    assert all(picture.shape == (64, 3 * 64, 3) for picture in drawn)


def test_the_last_pictures_are_those_of_the_averaged_weights(trained, untrained, tmp_path):
    preset = preset_with(2)
    _, job = stages.transformer_job(preset, untrained, "base", *token_cache(preset, untrained, untrained))
    weights = fit(job, preset.train["base"], preset.run, trained)["ema"]  # the finished run
    job.samples(weights, tmp_path, 7)
    assert (tmp_path / "7.png").read_bytes() == (trained / "samples" / "5.png").read_bytes()
    job.samples(job.params, tmp_path, 8)
    assert (tmp_path / "8.png").read_bytes() != (tmp_path / "7.png").read_bytes()


def test_without_held_out_examples_the_first_are_drawn_and_by_default_none(untrained, tmp_path):
    preset = preset_with(2, held_out=0)
    cache, name = token_cache(preset, untrained, untrained)
    _, job = stages.transformer_job(preset, untrained, "base", cache, name)
    job.samples(job.params, tmp_path, 1)
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert captions == [scenes.example("train", i)[1] for i in range(samples.COUNT)]
    assert stages.transformer_job(MICRO, untrained, "base", cache, name)[1].samples is None


@pytest.mark.slow
def test_superres_raises_the_true_tokens(untrained, tmp_path):
    preset = dataclasses.replace(MICRO, run=dataclasses.replace(MICRO.run, samples_every=2))
    cache, name = token_cache(preset, untrained, untrained, "superres")
    _, job = stages.transformer_job(preset, untrained, "superres", cache, name)
    job.samples(job.params, tmp_path, 1)
    assert Image.open(tmp_path / "1.png").size == (samples.COUNT * 128, 128)


def test_the_strip_has_a_row_for_each_caption_and_a_column_for_each_step(trained, tmp_path, capsys):
    figure = figures.sample_strip(trained)
    assert len(figure.axes) == 3 * 3 and [ax.get_title() for ax in figure.axes[:3]] == ["step 2", "step 4", "step 5"]
    shown = np.asarray(figure.axes[3].images[0].get_array())  # the second caption at step 2
    assert (shown == np.asarray(Image.open(trained / "samples" / "2.png"))[:, 64:128]).all()
    captions = json.loads((trained / "samples" / "captions.json").read_text())
    assert all(ax.get_ylabel().replace("\n", " ") == words for ax, words in zip(figure.axes[::3], captions))
    words = figures.strip_words(trained, columns=2)
    assert "2, 5" in words and all(caption in words for caption in captions)
    assert [ax.get_title() for ax in figures.sample_strip(trained / "samples", 2).axes[:2]] == ["step 2", "step 5"]
    out = tmp_path / "strip.png"
    assert run("strip", trained, "--out", out, "--columns", 2) == 0 and words in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.info["Description"] == words


def test_a_strip_of_nothing_is_refused(tmp_path, capsys):
    assert run("strip", tmp_path, "--out", tmp_path / "strip.png") == 2
    assert "--run.samples-every" in capsys.readouterr().err and not list(tmp_path.iterdir())
