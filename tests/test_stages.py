"""The stages of training: what each trains on, and what it writes."""

import dataclasses
import shutil
import signal

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minimuse import adversarial, scenes, stages, training
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
        batches[out.name] = batch_at(2)["images"]  # the third batch of eight
        return state

    monkeypatch.setattr(training, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    plain = lambda i: scenes.example("train", i, 0)[0]  # noqa: E731
    # The second phase goes on where the first one ends, after 8 batches of 8.
    for phase, first in (("tokenizer", 16), ("tokenizer_adversarial", 64 + 16)):
        for i, image in enumerate(batches[phase], first):
            assert (image == scenes.render(stages.large_object(i // 2, 0) if i % 2 else plain(i // 2))).all()
    assert {scenes.example("train", i // 2)[0].task for i in range(0, 64, 2)} == set(scenes.TASKS)


def test_the_codebook_comes_after_some_steps(tmp_path, monkeypatch):
    flags = []

    def fit(out, step, state, batch_at, *rest, **settings):
        flags.append([batch_at(i).get("quantize") for i in (0, 1, 2, 7)])
        return state

    monkeypatch.setattr(training, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    assert MICRO.train["tokenizer"].quantize_start == 2
    assert [flag.tolist() for flag in flags[0]] == [[False] * 8] * 2 + [[True] * 8] * 2
    assert flags[1] == [None] * 4  # the second phase is quantized from its first step on


def test_what_is_shipped_is_the_average_of_the_weights(tmp_path, monkeypatch):
    """After the first phase all of it; after the second the decoder, with encoder and codebook of the first."""

    def fit(out, step, state, *rest, **settings):
        value = 0.5 if out.name == "tokenizer" else 0.25
        return state | dict(ema=jax.tree.map(lambda x: jax.numpy.full_like(x, value), state["ema"]))

    monkeypatch.setattr(training, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    first, final = (load_file(tmp_path / f"{name}.safetensors") for name in ("tokenizer_reconstruction", "tokenizer"))
    assert first.keys() == final.keys() and all((value == 0.5).all() for value in first.values())
    for name, value in final.items():
        assert (value == (0.25 if name.startswith("decoder") else 0.5)).all(), name


def test_the_second_phase_is_resumed_where_it_was_stopped(tmp_path, monkeypatch):
    """Killed in the second phase and started again, the tokenizer comes out bit for bit as if nothing had happened."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for out in (whole, killed):
        out.mkdir()
    stages.train_tokenizer(MICRO, whole)
    make_step, calls = adversarial.make_step, []

    def stopping(*args):
        step = make_step(*args)

        def counted(state, batch):
            calls.append(int(state["step"]))
            if len(calls) == 4:
                signal.raise_signal(signal.SIGTERM)
            return step(state, batch)

        return counted

    monkeypatch.setattr(adversarial, "make_step", stopping)
    with pytest.raises(training.Stopped, match="Stopped at step 4 of 8"):
        stages.train_tokenizer(MICRO, killed)
    stages.train_tokenizer(MICRO, killed)
    assert calls == [0, 1, 2, 3, 4, 5, 6, 7]
    one, other = (load_file(out / "tokenizer.safetensors") for out in (whole, killed))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_second_phase_is_not_resumed_on_another_first(tmp_path):
    stages.train_tokenizer(MICRO, tmp_path)
    shutil.rmtree(tmp_path / "tokenizer")
    train = MICRO.train | dict(tokenizer=dataclasses.replace(MICRO.train["tokenizer"], seed=1))
    with pytest.raises(ValueError, match="tokenizer_adversarial holds a run with other settings .*begun_from was"):
        stages.train_tokenizer(dataclasses.replace(MICRO, train=train), tmp_path)


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
