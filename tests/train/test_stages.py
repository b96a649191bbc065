"""The stages of training: what each trains on, and what it writes."""

import dataclasses
import json
import random
import shutil
import signal

import jax
import numpy as np
import pytest
from conftest import random_weights
from safetensors.numpy import load_file

from minimuse.config import VQGANConfig, data_dir, from_dict
from minimuse.data import scenes, sources
from minimuse.data.artwork import Artwork
from minimuse.data.cache import held_out_rows
from minimuse.files import read_log
from minimuse.presets import PRESETS
from minimuse.train import adversarial, codebook, memory, stages
from minimuse.train.inputs import load_tokenizer, token_cache
from minimuse.train.loop import Stopped, fit
from minimuse.vqgan import read_tokens
from minimuse.weights import named_arrays, read_config, save_weights

MICRO = PRESETS["micro"]
SCENES = sources.Scenes()
TOKENIZERS = ("tokenizer", "superres_tokenizer")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A run folder whose two tokenizers have random weights."""
    out = tmp_path_factory.mktemp("untrained")
    for stage in TOKENIZERS:
        save_weights(out / f"{stage}.safetensors", random_weights(stage, getattr(MICRO, stage)))
        stages.describe(out, MICRO, stage, getattr(MICRO, stage))
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder with a trained tokenizer."""
    out = tmp_path_factory.mktemp("trained")
    stages.TRAIN["tokenizer"](MICRO, out)
    return out


def first_phase(out):
    """The last state of a finished first phase; nothing is trained."""
    job = stages.tokenizer_job(MICRO, SCENES)._replace(batch_at=None)
    return fit(job, MICRO.train["tokenizer"], MICRO.run, out / "tokenizer")


def second_phase(out, state, batch_at=None):
    """A second phase from that state; nothing is trained if it is finished."""
    job = stages.second_phase_job(MICRO, SCENES, "tokenizer", state)
    job = job._replace(batch_at=batch_at and (lambda step: batch_at(job, step)))
    return fit(job, MICRO.train["tokenizer_adversarial"], MICRO.run, out / "tokenizer_adversarial")


def test_large_objects_are_large_and_of_every_kind():
    drawn = [sources.large_object(i, 0) for i in range(600)]
    assert all(len(scene.items) == 1 and scene.items[0].size == max(scenes.SIZES) for scene in drawn)
    assert len({scene.items[0].name for scene in drawn}) > 65
    assert 0.18 < np.mean([scene.task == "colours" for scene in drawn]) < 0.32
    assert sources.large_object(7, 0) == drawn[7] != sources.large_object(7, 1)


def test_every_other_scene_of_the_tokenizer_is_large():
    first = stages.tokenizer_job(MICRO, SCENES)
    state = dict(ema=first.params) | first.extra
    second = stages.second_phase_job(MICRO, SCENES, "tokenizer", state)

    def plain(i):
        return scenes.example("train", i, 0)[0]

    # The third batch of eight. The second phase continues where the first one ends, after 8 batches of 8.
    for job, start in ((first, 16), (second, 64 + 16)):
        for i, image in enumerate(job.batch_at(2)["images"], start):
            assert (image == scenes.render(sources.large_object(i // 2, 0) if i % 2 else plain(i // 2))).all()
    assert {scenes.example("train", i // 2)[0].task for i in range(0, 64, 2)} == set(scenes.TASKS)
    # The codebook comes after some steps; the second phase is quantized from its first step on.
    assert MICRO.train["tokenizer"].quantize_start == 2
    flags = [first.batch_at(i)["quantize"].tolist() for i in (0, 1, 2, 7)]
    assert flags == [[False] * 8] * 2 + [[True] * 8] * 2 and "quantize" not in second.batch_at(0)


def test_codes_learn_in_the_second_phase_where_tokens_are_not_frozen():
    free = dataclasses.replace(MICRO.train["tokenizer_adversarial"], freeze_tokens=False)
    preset = dataclasses.replace(MICRO, train=MICRO.train | dict(tokenizer_adversarial=free))
    state = dict(ema=random_weights("tokenizer", MICRO.tokenizer)) | codebook.codebook_state(MICRO.tokenizer)
    job = stages.second_phase_job(preset, SCENES, "tokenizer", state)
    assert job.extra["usage"] is state["usage"] and job.params is state["ema"] and not job.extra["frozen"]
    frozen = stages.second_phase_job(MICRO, SCENES, "tokenizer", state)
    assert "usage" not in frozen.extra and frozen.params is state["ema"].decoder


def same(saved, weights) -> bool:
    """Whether a file has these weights, in float16."""
    return all((saved[name] == np.asarray(x, np.float16)).all() for name, x in named_arrays(weights).items())


def test_what_is_shipped_is_the_average_of_the_weights(trained):
    """After the first phase all of it; after the second the decoder, with encoder and codebook of the first."""
    files = [load_file(trained / f"{name}.safetensors") for name in ("tokenizer_reconstruction", "tokenizer")]
    first = first_phase(trained)
    assert same(files[0], first["ema"]) and not same(files[0], first["params"])
    second = second_phase(trained, first)
    assert same(files[1], adversarial.tokenizer_of(MICRO.tokenizer, second))
    assert not same(files[1], adversarial.tokenizer_of(MICRO.tokenizer, second, "params"))
    assert files[0].keys() == files[1].keys()
    for name in files[0]:
        assert (files[0][name] == files[1][name]).all() or name.startswith("decoder."), name


def test_the_second_phase_is_resumed_where_it_was_stopped(trained, tmp_path):
    """Stopped in the second phase and started again, the tokenizer comes out bit for bit as if nothing had happened."""
    shutil.copytree(trained / "tokenizer", tmp_path / "tokenizer")

    def stopping(job, step):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        return stages.second_phase_job(MICRO, SCENES, "tokenizer", state).batch_at(step)

    state = first_phase(tmp_path)
    with pytest.raises(Stopped, match=r"(?=.*\b8\b).*\b4\b"):
        second_phase(tmp_path, state, stopping)
    stages.TRAIN["tokenizer"](MICRO, tmp_path)
    assert read_log(tmp_path / "tokenizer_adversarial" / "log.jsonl")["step"].tolist() == [4, 8]
    one, other = (load_file(out / "tokenizer.safetensors") for out in (trained, tmp_path))
    assert all((one[name] == other[name]).all() for name in one)


def test_a_second_phase_is_not_resumed_on_another_first(trained):
    state = first_phase(trained)
    with pytest.raises(ValueError, match="tokenizer_adversarial.*begun_from"):
        second_phase(trained, state | dict(ema=jax.tree.map(lambda x: -x, state["ema"])))


def test_a_cache_is_named_by_what_decides_its_content(untrained, tmp_path):
    """And a transformer is not resumed on another: its name is in the job's `about`."""

    def name_of(preset=MICRO, changed=None):
        model = load_tokenizer(MICRO, untrained)
        save_weights(tmp_path / "tokenizer.safetensors", changed(model) if changed else model)
        stages.describe(tmp_path, MICRO, "tokenizer", MICRO.tokenizer)
        cache, name = token_cache(preset, tmp_path, tmp_path, part=40)  # 64 examples in two parts
        assert load_file(tmp_path / f"{name}.safetensors")["tokens"].shape == (len(cache), 8, 8)
        assert not list(tmp_path.glob("*.part*"))
        return name

    def without_codes(model):
        return adversarial.with_decoder(
            MICRO.tokenizer, jax.tree.map(lambda x: -x, adversarial.frozen_arrays(model)), model.decoder
        )

    def without_decoder(model):
        decoder = jax.tree.map(lambda x: -x, model.decoder)
        return adversarial.with_decoder(MICRO.tokenizer, adversarial.frozen_arrays(model), decoder)

    base, fewer = MICRO.train["base"], dataclasses.replace(MICRO.train["base"], scenes=48)
    name = name_of()
    assert name.startswith("tokens-") and name == name_of(changed=without_decoder)  # the decoder decides no token
    assert len({name, name_of(changed=without_codes), name_of(dataclasses.replace(MICRO, train=dict(base=fewer)))}) == 3
    assert base.scenes == 64


def test_superres_trains_on_both_resolutions_of_the_same_scenes(untrained):
    cache, name = token_cache(MICRO, untrained, untrained, "superres")
    _, job = stages.transformer_job(MICRO, untrained, "superres", cache, name)
    batch = job.batch_at(0)
    assert batch["tokens"].shape == (2, 1024) and batch["low"].shape == (2, 64)
    assert job.about["cache"] == name
    planned = memory.step_of(MICRO, "superres", cache.text_length)[2]
    assert {k: (x.shape, x.dtype) for k, x in batch.items()} == {k: (x.shape, x.dtype) for k, x in planned.items()}
    assert cache.tokens.shape == (16, 32, 32) and cache.low.shape == (16, 8, 8)
    for stage, size, kept in (("tokenizer", 64, cache.low), ("superres_tokenizer", 128, cache.tokens)):
        images = scenes.render_batch([scenes.example("train", i)[0] for i in range(16)], size)
        assert (np.asarray(read_tokens(load_tokenizer(MICRO, untrained, stage), images)) == kept).mean() > 0.99


def test_the_grown_decoder_leaves_tokens_as_they_were(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "superres_tokenizer.safetensors").read_bytes()
    stages.TRAIN["superres_decoder"](MICRO, tmp_path)
    assert (tmp_path / "superres_tokenizer.safetensors").read_bytes() == before
    config = from_dict(VQGANConfig, read_config(tmp_path)["superres_decoder"])
    assert config == dataclasses.replace(MICRO.superres_tokenizer, decoder_growth=2)
    saved = load_file(tmp_path / "superres_decoder.safetensors")
    assert all(name.startswith("stages.") for name in saved)  # the decoder, and nothing else

    _, job = stages.decoder_job(MICRO, tmp_path, SCENES)
    images = job.batch_at(0)["images"]
    assert images.shape == (2, 64, 64, 3) and images.std((1, 2, 3)).min() > 1  # pieces with something in them
    state = fit(job, MICRO.train["superres_decoder"], MICRO.run, tmp_path / "superres_decoder")  # the finished run
    assert same(saved, state["ema"])
    kept = adversarial.frozen_arrays(load_tokenizer(MICRO, tmp_path, "superres_tokenizer"))
    assert state["frozen"].keys() == kept.keys() and all((state["frozen"][name] == kept[name]).all() for name in kept)


def with_decoder(**settings):
    """MICRO, with other settings of the grown decoder's training."""
    train = dataclasses.replace(MICRO.train["superres_decoder"], **settings)
    return dataclasses.replace(MICRO, train=MICRO.train | dict(superres_decoder=train))


def test_a_decoder_learns_from_artwork_and_leaves_tokens_as_they_were(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path, dirs_exist_ok=True)
    artwork = str(data_dir() / "sprites.parquet")  # any file of that form
    preset = with_decoder(artwork=artwork, adversarial=0.0)
    stages.TRAIN["superres_decoder"](preset, tmp_path)
    _, job = stages.decoder_job(preset, tmp_path, SCENES)
    assert job.about["artwork"] == Artwork(artwork).about["artwork"]
    plain = stages.decoder_job(MICRO, tmp_path, SCENES)[1]
    assert "artwork" not in plain.about
    assert (job.batch_at(0)["images"] != plain.batch_at(0)["images"]).any()
    state = fit(job, preset.train["superres_decoder"], preset.run, tmp_path / "superres_decoder")  # the finished run
    tokenizer = load_tokenizer(MICRO, tmp_path, "superres_tokenizer")
    kept = adversarial.tokenizer_of(dataclasses.replace(MICRO.superres_tokenizer, decoder_growth=2), state)
    images = scenes.render_batch([scenes.example("train", i)[0] for i in range(4)], 128)
    assert (np.asarray(read_tokens(kept, images)) == np.asarray(read_tokens(tokenizer, images))).all()
    assert read_config(tmp_path)["trained"]["superres_decoder"]["artwork"] == artwork


def test_a_decoder_is_trained_further(untrained, tmp_path):
    """From a checkpoint's decoder, on pictures that it has not had; not if its tokenizer is another."""
    shutil.copytree(untrained, tmp_path / "one")
    stages.TRAIN["superres_decoder"](MICRO, tmp_path / "one")
    shutil.copytree(untrained, tmp_path / "two")
    preset = with_decoder(start=str(tmp_path / "one"), seed=0)
    config, job = stages.decoder_job(preset, tmp_path / "two", SCENES)
    assert config.decoder_growth == 2
    assert same(load_file(tmp_path / "one" / "superres_decoder.safetensors"), job.params)
    before = stages.decoder_job(MICRO, tmp_path / "two", SCENES)[1]
    trained = MICRO.train["superres_decoder"]
    shown = [before.batch_at(step)["images"] for step in range(trained.steps)]
    assert not any((job.batch_at(0)["images"] == images).all() for images in shown)

    with pytest.raises(ValueError, match=str(untrained)):  # it has no grown decoder
        stages.decoder_job(with_decoder(start=str(untrained)), tmp_path / "two", SCENES)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stages.decoder_job(with_decoder(start="nowhere"), tmp_path / "two", SCENES)
    other = jax.tree.map(lambda x: -x, load_tokenizer(MICRO, untrained, "superres_tokenizer"))
    save_weights(tmp_path / "two" / "superres_tokenizer.safetensors", other)
    with pytest.raises(ValueError, match=str(tmp_path / "one")):
        stages.decoder_job(preset, tmp_path / "two", SCENES)


def started(stage, checkpoint):
    """MICRO, with a stage that starts from a checkpoint."""
    train = dataclasses.replace(MICRO.train[stage], start=str(checkpoint))
    return dataclasses.replace(MICRO, train=MICRO.train | {stage: train})


def test_a_tokenizer_starts_from_a_checkpoint_and_keeps_its_codes(untrained, tmp_path):
    job = stages.tokenizer_job(started("tokenizer", untrained), SCENES)
    assert same(load_file(untrained / "tokenizer.safetensors"), job.params)
    batch = job.batch_at(0)
    assert batch["quantize"].all() and not stages.tokenizer_job(MICRO, SCENES).batch_at(0)["quantize"].any()
    one = dataclasses.replace(MICRO.train["tokenizer"], steps=1, start=str(untrained))
    state = fit(job, one, MICRO.run, tmp_path / "run")
    moved = np.abs(np.asarray(state["params"].codebook[...]) - np.asarray(job.params.codebook[...])).max(-1)
    assert (moved < 0.1).all()  # they are not laid onto the first batch again


def test_a_transformer_starts_from_a_checkpoint_with_its_tokenizer(micro_folder, tmp_path):
    preset = started("base", micro_folder)
    stages.begin(preset, ("base",), tmp_path, str(micro_folder))
    assert read_config(tmp_path)["tokenizer"] == read_config(micro_folder)["tokenizer"]
    shutil.copytree(data_dir() / "t5-scenes", tmp_path / "other" / "text")
    values = read_config(micro_folder) | dict(text="text")
    (tmp_path / "other" / "config.json").write_text(json.dumps(values))
    stages.begin(preset, ("base",), tmp_path, str(tmp_path / "other"))  # the run has its tokenizer already
    assert (tmp_path / "text" / "model.safetensors").is_file()
    cache, name = token_cache(preset, tmp_path, tmp_path)
    _, job = stages.transformer_job(preset, tmp_path, "base", cache, name)
    assert same(load_file(micro_folder / "base.safetensors"), job.params)
    stages.check(preset, ("base",), tmp_path)


def test_examples_that_are_held_out_are_not_trained_on(untrained):
    train = dataclasses.replace(MICRO.train["base"], held_out=3, batch=61, steps=4)
    preset = dataclasses.replace(MICRO, train=MICRO.train | dict(base=train))
    cache, name = token_cache(preset, untrained, untrained)
    _, job = stages.transformer_job(preset, untrained, "base", cache, name)
    rows, held = held_out_rows(train, 64)
    assert len(held) == 3 and sorted([*rows, *held]) == list(range(64))
    assert (job.batch_at(0)["tokens"] == cache.batch(rows)["tokens"]).all()
    judged = job.held_out(job.params)
    assert judged.keys() == {"held_out_loss", "held_out_accuracy"} and 2 < judged["held_out_loss"] < 9
    assert judged == job.held_out(job.params)  # the same masks every time
    assert len(held_out_rows(train, 20)[1]) == 2  # a tenth of few
    assert stages.transformer_job(MICRO, untrained, "base", cache, name)[1].held_out is None


@pytest.mark.parametrize("changes", [dict(width=64), dict(depth=1), dict(codebook_size=32)])
def test_weights_of_other_sizes_are_refused_before_training(micro_folder, tmp_path, changes):
    preset = started("base", micro_folder)
    preset = dataclasses.replace(preset, base=dataclasses.replace(preset.base, **changes))
    with pytest.raises(ValueError, match=rf"{micro_folder}.*--from"):
        stages.check(preset, ("base",), tmp_path)
    with pytest.raises(ValueError, match="superres_decoder"):
        stages.check(started("superres_decoder", micro_folder), ("superres_decoder",), tmp_path)


def test_pieces_of_pictures_hold_an_object_and_lie_on_the_grid():
    rng = random.Random(0)
    for i in range(50):
        scene = scenes.example("train", i)[0]
        image = scenes.render(scene, 128)
        piece = sources.piece_around(scene, image, 64, 4, rng)
        assert piece.shape == (64, 64, 3)
        corners = [(y, x) for y in range(0, 65, 4) for x in range(0, 65, 4)]
        assert any((image[y : y + 64, x : x + 64] == piece).all() for y, x in corners)
        assert (piece != np.asarray(scenes.BACKGROUNDS[scene.background])).any()
