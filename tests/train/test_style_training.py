"""Training a style: what learns, from what, and what stops it before it begins."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from conftest import BASE, random_tree, transformer_inputs

from minimuse import layers
from minimuse.beyond.style import Adapter, Style, merged
from minimuse.config import StyleConfig, TrainConfig
from minimuse.data import styled
from minimuse.data.sources import Pictures
from minimuse.files import read_log
from minimuse.muse import Muse
from minimuse.presets import PRESETS
from minimuse.train import stages, style
from minimuse.train.losses import transformer_loss
from minimuse.train.step import init_state
from minimuse.weights import named_arrays

CONFIG = StyleConfig(rank=2, alpha=4.0)
TRAIN = TrainConfig(steps=2, batch=3, warmup=0, caption_dropout=0.5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sunset")
    styled.save_sunset(folder, n=12)
    return folder


@pytest.fixture(scope="module")
def source(pictures, tmp_path_factory):
    config = dataclasses.replace(PRESETS["micro"].pictures, cache=str(tmp_path_factory.mktemp("cache")))
    return Pictures(pictures, config, (64, 128))


def preset_for(pictures, checkpoint, cache, **changes):
    micro = PRESETS["micro"]
    start = dataclasses.replace(micro.train["style"], start=str(checkpoint), **changes)
    own = dataclasses.replace(micro.pictures, cache=str(cache))
    return dataclasses.replace(micro, data=str(pictures), pictures=own, train=micro.train | dict(style=start))


def batch():
    tokens, text, mask = transformer_inputs()
    return dict(tokens=np.minimum(tokens, BASE.codebook_size - 1), text=text, text_mask=mask)


def test_the_loss_is_that_of_the_transformer_with_the_adapter(base_model):
    adapter, key = random_tree(layers.abstract(Adapter, CONFIG, BASE)), jax.random.key(0)
    loss, metrics = style.style_loss(BASE, TRAIN, 2.0, base_model, adapter, key, batch())
    expected, others = transformer_loss(BASE, TRAIN, merged(base_model, adapter, 2.0), key, batch())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics.keys() == others.keys()
    assert abs(loss - transformer_loss(BASE, TRAIN, base_model, key, batch())[0]) > 1e-3


def test_only_a_and_b_are_trained(base_model):
    before = jax.tree.map(np.array, named_arrays(base_model))
    step = style.style_step(CONFIG, BASE, TRAIN, base_model)
    fresh = layers.init(Adapter, CONFIG, BASE)
    state = init_state(fresh, TRAIN)
    assert jax.tree.structure(state["params"]) == jax.tree.structure(fresh)  # no weight of the transformer is in it
    for _ in range(2):
        state, metrics = step(state, batch())
    first, last = named_arrays(fresh), named_arrays(state["params"])
    assert all((first[name] != last[name]).any() for name in first)  # A, too, once B is not zero
    assert np.isfinite(metrics["loss"]) and all((before[k] == x).all() for k, x in named_arrays(base_model).items())


def test_a_batch_may_be_larger_than_there_are_pictures(micro, source, pictures, tmp_path):
    preset = preset_for(pictures, "tiny", tmp_path, batch=16)
    job = style.style_job(preset, micro, "base", source)
    tokens = micro.tokenize(np.stack([source.example(i, (64,), TRAIN)[0][0] for i in range(12)])).reshape(12, -1)
    seen = [row.tolist() for step in range(3) for row in job.batch_at(step)["tokens"]]
    assert len(seen) == 48 and all(row in tokens.tolist() for row in seen)
    counts = [seen.count(row) for row in tokens.tolist()]
    assert min(counts) >= 1 and max(counts) <= 6
    again = job.batch_at(1)["tokens"]
    assert (again == job.batch_at(1)["tokens"]).all() and (again != job.batch_at(2)["tokens"]).any()


@pytest.mark.parametrize("name", ["micro_folder", "cascade_folder"])
def test_twelve_pictures_train_a_style_of_every_transformer(name, request, pictures, tmp_path):
    folder, out = request.getfixturevalue(name), tmp_path / "run"
    preset = preset_for(pictures, folder, tmp_path)
    stages.check(preset, ("style",), out)
    stages.TRAIN["style"](preset, out)
    found, muse = Style.from_pretrained(out), Muse.from_pretrained(folder)
    assert found.adapters.keys() == {"base", "superres"} & muse.models.keys() and found.about["pictures"] == 12
    assert read_log(out / "style" / "log.jsonl")["step"][-1] == 4
    for stage, adapter in found.adapters.items():
        assert all(named_arrays(adapter)[f"{name}.B"].any() for name in found.config.matrices)
        assert (
            muse.with_style(out).models[stage].blocks.out.kernel[...] != muse.models[stage].blocks.out.kernel[...]
        ).any()
    stages.check(preset, ("style",), out)  # the same command continues there


def test_what_would_stop_a_style_is_said_before_it_begins(pictures, micro_folder, tmp_path):
    good = preset_for(pictures, micro_folder, tmp_path)
    check = functools.partial(stages.check, names=("style",), out=tmp_path / "run")
    check(good)
    with pytest.raises(ValueError, match="--data"):
        check(dataclasses.replace(good, data=""))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check(preset_for(pictures, "nowhere", tmp_path))
    with pytest.raises(ValueError, match=str(micro_folder)):
        check(good, out=micro_folder)
    with pytest.raises(ValueError, match="-3"):
        check(dataclasses.replace(good, style=StyleConfig(rank=-3)))
