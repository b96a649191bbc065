"""The stages of training: what each trains on, and what it writes."""

import dataclasses
import random
import shutil
import signal

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minimuse.config import VQGANConfig, from_dict
from minimuse.data import scenes, sources
from minimuse.presets import PRESETS
from minimuse.train import adversarial, stages
from minimuse.train.loop import Stopped
from minimuse.vqgan import read_tokens
from minimuse.weights import read_config

MICRO = PRESETS["micro"]


def test_large_objects_are_large_and_of_every_kind():
    drawn = [sources.large_object(i, 0) for i in range(600)]
    assert all(len(scene.items) == 1 and scene.items[0].size == max(scenes.SIZES) for scene in drawn)
    assert len({scene.items[0].name for scene in drawn}) > 65
    assert 0.18 < np.mean([scene.task == "colours" for scene in drawn]) < 0.32
    assert sources.large_object(7, 0) == drawn[7] != sources.large_object(7, 1)


def test_every_other_scene_of_the_tokenizer_is_large(tmp_path, monkeypatch):
    batches = {}

    def fit(out, step, state, batch_at, *rest, **settings):
        batches[out.name] = batch_at(2)["images"]  # the third batch of eight
        return state

    monkeypatch.setattr(stages, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    plain = lambda i: scenes.example("train", i, 0)[0]
    # The second phase goes on where the first one ends, after 8 batches of 8.
    for phase, first in (("tokenizer", 16), ("tokenizer_adversarial", 64 + 16)):
        for i, image in enumerate(batches[phase], first):
            assert (image == scenes.render(sources.large_object(i // 2, 0) if i % 2 else plain(i // 2))).all()
    assert {scenes.example("train", i // 2)[0].task for i in range(0, 64, 2)} == set(scenes.TASKS)


def test_the_codebook_comes_after_some_steps(tmp_path, monkeypatch):
    flags = []

    def fit(out, step, state, batch_at, *rest, **settings):
        flags.append([batch_at(i).get("quantize") for i in (0, 1, 2, 7)])
        return state

    monkeypatch.setattr(stages, "fit", fit)
    stages.train_tokenizer(MICRO, tmp_path)
    assert MICRO.train["tokenizer"].quantize_start == 2
    assert [flag.tolist() for flag in flags[0]] == [[False] * 8] * 2 + [[True] * 8] * 2
    assert flags[1] == [None] * 4  # the second phase is quantized from its first step on


def test_what_is_shipped_is_the_average_of_the_weights(tmp_path, monkeypatch):
    """After the first phase all of it; after the second the decoder, with encoder and codebook of the first."""

    def fit(out, step, state, *rest, **settings):
        value = 0.5 if out.name == "tokenizer" else 0.25
        return state | dict(ema=jax.tree.map(lambda x: jax.numpy.full_like(x, value), state["ema"]))

    monkeypatch.setattr(stages, "fit", fit)
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
    with pytest.raises(Stopped, match=r"(?=.*\b8\b).*\b4\b"):
        stages.train_tokenizer(MICRO, killed)
    stages.train_tokenizer(MICRO, killed)
    assert calls == [0, 1, 2, 3, 4, 5, 6, 7]
    one, other = (load_file(out / "tokenizer.safetensors") for out in (whole, killed))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_second_phase_is_not_resumed_on_another_first(tmp_path):
    stages.train_tokenizer(MICRO, tmp_path)
    shutil.rmtree(tmp_path / "tokenizer")
    train = MICRO.train | dict(tokenizer=dataclasses.replace(MICRO.train["tokenizer"], seed=1))
    with pytest.raises(ValueError, match="tokenizer_adversarial.*begun_from"):
        stages.train_tokenizer(dataclasses.replace(MICRO, train=train), tmp_path)


def test_base_is_not_resumed_on_other_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "CACHE_PART", 40)  # the cache of 64 examples in two parts
    for stage in ("tokenizer", "base"):
        stages.TRAIN[stage](MICRO, tmp_path)
    (cache,) = tmp_path.glob("tokens-*")  # no part is left
    assert load_file(cache)["tokens"].shape == (64, 8, 8)
    weights = load_file(tmp_path / "tokenizer.safetensors")
    save_file({name: -value for name, value in weights.items()}, tmp_path / "tokenizer.safetensors")
    with pytest.raises(ValueError, match=r"\bcache\b.*tokens-.*tokens-"):
        stages.TRAIN["base"](MICRO, tmp_path)


def test_superres_trains_on_both_resolutions_of_the_same_scenes(tmp_path, monkeypatch):
    for stage in ("tokenizer", "superres_tokenizer"):
        stages.TRAIN[stage](MICRO, tmp_path)
    seen = {}

    def fit(out, step, state, batch_at, *rest, **settings):
        seen.update(batch_at(0) | settings)
        return state

    monkeypatch.setattr(stages, "fit", fit)
    stages.TRAIN["superres"](MICRO, tmp_path)
    assert seen["tokens"].shape == (2, 1024) and seen["low"].shape == (2, 64)
    (path,) = tmp_path.glob("tokens-*")
    cache = load_file(path)
    assert cache["tokens"].shape == (16, 32, 32) and cache["low"].shape == (16, 8, 8)
    for name, size, kept in (("tokenizer", 64, "low"), ("superres_tokenizer", 128, "tokens")):
        graphdef, params = stages.load_tokenizer(MICRO, tmp_path, name)
        images = scenes.render_batch([scenes.example("train", i)[0] for i in range(16)], size)
        assert (np.asarray(read_tokens(graphdef, params, images)) == cache[kept]).mean() > 0.99


def test_the_grown_decoder_leaves_tokens_as_they_were(tmp_path, monkeypatch):
    stages.TRAIN["superres_tokenizer"](MICRO, tmp_path)
    before = (tmp_path / "superres_tokenizer.safetensors").read_bytes()
    states = []

    def fit(out, step, state, batch_at, *rest, **settings):
        images = batch_at(0)["images"]
        assert images.shape == (2, 64, 64, 3) and images.std((1, 2, 3)).min() > 1  # pieces with something in them
        for i in range(2):
            state, metrics = step(state, batch_at(i))
        states.append(state)
        return state

    monkeypatch.setattr(stages, "fit", fit)
    stages.TRAIN["superres_decoder"](MICRO, tmp_path)
    assert (tmp_path / "superres_tokenizer.safetensors").read_bytes() == before
    tokenizer = stages.load_tokenizer(MICRO, tmp_path, "superres_tokenizer")[1]
    assert set(states[0]["frozen"]) == {"encoder", "codebook"} and set(states[0]["params"]) == {"decoder"}
    for part in ("encoder", "codebook"):
        jax.tree.map(np.testing.assert_array_equal, states[0]["frozen"][part], tokenizer[part])
    config = from_dict(VQGANConfig, read_config(tmp_path)["superres_decoder"])
    assert config == dataclasses.replace(MICRO.superres_tokenizer, decoder_growth=2)
    saved = load_file(tmp_path / "superres_decoder.safetensors")
    assert all(name.startswith("stages.") for name in saved)  # the decoder, and nothing else


def test_pieces_of_pictures_hold_an_object_and_lie_on_the_grid():
    rng = random.Random(0)
    for i in range(50):
        scene = scenes.example("train", i)[0]
        image = scenes.render(scene, 128)
        piece = sources.piece_around(scene, image, 64, 4, rng)
        assert piece.shape == (64, 64, 3)
        places = [(y, x) for y in range(0, 65, 4) for x in range(0, 65, 4)]
        assert any((image[y : y + 64, x : x + 64] == piece).all() for y, x in places)
        assert (piece != np.asarray(scenes.BACKGROUNDS[scene.background])).any()
