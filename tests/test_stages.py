"""The stages of training: what each trains on, and what it writes."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minimuse import scenes, stages, training
from minimuse.config import PRESETS

MICRO = PRESETS["micro"]


def test_large_objects_are_large_and_of_every_kind():
    drawn = [stages.large_object(i, 0) for i in range(600)]
    assert all(len(scene.items) == 1 and scene.items[0].size == max(scenes.SIZES) for scene in drawn)
    assert len({scene.items[0].name for scene in drawn}) > 65
    assert 0.18 < np.mean([scene.task == "colours" for scene in drawn]) < 0.32
    assert stages.large_object(7, 0) == drawn[7] != stages.large_object(7, 1)


def test_every_other_scene_of_the_tokenizer_is_large(tmp_path, monkeypatch):
    batches = {}

    def fit(out, step, state, batch_at, *rest, **settings):
        batches.update(images=batch_at(2)["images"])  # the third batch of eight
        return state

    monkeypatch.setattr(training, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    plain = lambda i: scenes.example("train", i, 0)[0]  # noqa: E731
    for i, image in enumerate(batches["images"], 16):
        assert (image == scenes.render(stages.large_object(i, 0) if i % 2 else plain(i))).all()


def test_what_is_shipped_is_the_average_of_the_weights(tmp_path, monkeypatch):
    given = {}

    def fit(out, step, state, *rest, **settings):
        given.update(average=jax.tree.map(lambda x: np.full_like(x, 0.5), state["ema"]))
        return state | dict(ema=given["average"])

    monkeypatch.setattr(training, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    weights = load_file(tmp_path / "tokenizer.safetensors")
    assert len(weights) == len(jax.tree.leaves(given["average"]))
    assert all((value == 0.5).all() for value in weights.values())


def test_base_is_not_resumed_on_other_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "CACHE_PART", 40)  # the cache of 64 examples in two parts
    for stage in ("tokenizer", "base"):
        stages.TRAIN[stage](MICRO, tmp_path)
    (cache,) = tmp_path.glob("tokens-*")  # no part is left
    assert load_file(cache)["tokens"].shape == (64, 8, 8)
    weights = load_file(tmp_path / "tokenizer.safetensors")
    save_file({name: -value for name, value in weights.items()}, tmp_path / "tokenizer.safetensors")
    with pytest.raises(ValueError, match="run with other settings .*cache was tokens-.*, is tokens-"):
        stages.TRAIN["base"](MICRO, tmp_path)
