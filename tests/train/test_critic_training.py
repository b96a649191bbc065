"""Training the token critic: what it learns from, its loss, and that the base stays as it is."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import minimuse as mm
from minimuse import layers
from minimuse.beyond.critic import TokenCritic, features
from minimuse.config import CriticConfig, Sampling
from minimuse.files import read_log
from minimuse.muse import build
from minimuse.presets import PRESETS
from minimuse.train import stages
from minimuse.train.critic import critic_job, critic_loss, filled, separation
from minimuse.train.inputs import load_stage, token_cache
from minimuse.train.step import gradients, init_state
from minimuse.weights import named_arrays, read_config, save_weights

MICRO = PRESETS["micro"]
TRAIN = MICRO.train["critic"]


@pytest.fixture(scope="module")
def run(micro_folder, tmp_path_factory):
    """A run folder with tokenizer and base, and what the critic is trained on."""
    out = tmp_path_factory.mktemp("run")
    shutil.copytree(micro_folder, out, dirs_exist_ok=True)
    return out, *token_cache(MICRO, out, out, "critic")


def with_critic(**changes):
    train = dataclasses.replace(TRAIN, **changes)
    return dataclasses.replace(MICRO, train=MICRO.train | dict(critic=train))


def test_separation_by_hand():
    """Of 2 x 3 pairs: 0.9 is above three, 0.2 above one."""
    logits = jnp.array([[0.9, 0.2, 0.1], [0.3, 0.4, 99.0]])
    positive = jnp.array([[True, True, False], [False, False, True]])
    assert separation(logits[:, :2], positive[:, :2]) == pytest.approx(2 / 4)
    assert separation(logits.reshape(-1)[:5], positive.reshape(-1)[:5]) == pytest.approx(4 / 6)
    assert separation(-logits.reshape(-1)[:5], positive.reshape(-1)[:5]) == pytest.approx(2 / 6)
    assert np.isnan(separation(logits[:1, 2:], positive[:1, 2:]))


def test_the_base_fills_what_is_hidden_and_the_labels_say_where(run):
    out, cache, _ = run
    base, examples = load_stage(MICRO, out, "base"), cache.batch(np.arange(8))
    fill = lambda **changes: filled(
        base, jax.random.key(1), examples, Sampling(token_temperature=1.0), config=MICRO.base,
        train=dataclasses.replace(TRAIN, **changes),
    )  # fmt: skip
    batch = fill()
    assert batch["features"].shape == (8, 64, 32) and batch["sampled"].shape == batch["wrong"].shape == (8, 64)
    assert batch["wrong"].sum() > 50 and not (batch["wrong"] & ~batch["sampled"]).any()  # what is given is right
    # Where nothing was sampled wrongly, features are those of the true picture under its caption.
    condition = base.condition((examples["text"].astype(np.float32), examples["text_mask"]))
    true = features(base, examples["tokens"], condition)
    assert (np.abs(true - batch["features"]).max((1, 2)) > 1e-3).tolist() == batch["wrong"].any(-1).tolist()
    one = fill(schedule=1 / 64, halton=0.0)
    assert one["sampled"].sum(-1).tolist() == [1] * 8
    everything = fill(schedule=1.0, halton=0.0)
    assert everything["sampled"].all() and everything["wrong"].mean() > 0.9


def test_the_loss_is_the_cross_entropy_of_the_label():
    rng = np.random.default_rng(0)
    model = layers.init(TokenCritic, CriticConfig(16, 2, 32))
    batch = dict(features=jnp.asarray(rng.normal(size=(4, 6, 16)), jnp.float32))
    batch |= dict(sampled=jnp.arange(24).reshape(4, 6) % 2 == 0, wrong=jnp.arange(24).reshape(4, 6) % 4 == 0)
    loss, metrics = critic_loss("sampled", model, None, batch)
    assert loss == pytest.approx(np.log(2)) and metrics["accuracy"] == 0.5  # it begins undecided
    model.logit.kernel[...] = jnp.asarray(rng.normal(size=(16, 1)), jnp.float32)
    logits = np.asarray(model(batch["features"]), np.float64)
    for label in ("sampled", "wrong"):
        p = 1 / (1 + np.exp(-logits))
        right = np.asarray(batch[label])
        loss, metrics = critic_loss(label, model, None, batch)
        assert loss == pytest.approx(-np.log(np.where(right, p, 1 - p)).mean(), rel=1e-4)
        assert metrics["accuracy"] == pytest.approx(((logits > 0) == right).mean())
        pairs = [a > b for a in logits[right] for b in logits[~right]]
        assert metrics[f"separation_{label}"] == pytest.approx(np.mean(pairs), abs=1e-5)
    whole, pieces = (gradients(functools.partial(critic_loss, "wrong"), n, model, None, batch) for n in (1, 2))
    for one, other in zip(jax.tree.leaves(whole[0]), jax.tree.leaves(pieces[0])):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert whole[1]["separation_wrong"] == pytest.approx(float(pieces[1]["separation_wrong"]))


def test_a_batch_is_a_pure_function_of_the_step(run):
    job = critic_job(MICRO, run[0], "critic", *run[1:])[1]
    one, same, other = job.batch_at(3), job.batch_at(3), job.batch_at(4)
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["sampled"] != other["sampled"]).any() and "base" in job.about


@pytest.mark.parametrize("label", ["sampled", "wrong"])
def test_it_learns_and_the_base_is_no_part_of_what_is_trained(run, label):
    """On few examples of a random base."""
    preset = with_critic(steps=60, learning_rate=1e-2, label=label)
    base = load_stage(preset, run[0], "base")
    before = {name: np.asarray(x) for name, x in named_arrays(base).items()}
    config, job = critic_job(preset, run[0], "critic", *run[1:])
    assert config == CriticConfig(32, 2, 64)
    state, rows = init_state(job.params, preset.train["critic"]), []
    trained = {name: x.shape for name, x in named_arrays(state["params"]).items()}
    assert trained == {name: x.shape for name, x in named_arrays(build("critic", config)).items()}
    for i in range(60):
        state, metrics = job.step(state, job.batch_at(i))
        rows.append({name: float(value) for name, value in metrics.items()})
    first, last = rows[0], {name: np.mean([row[name] for row in rows[-10:]]) for name in rows[0]}
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5) and last["loss"] < 0.65
    assert last[f"separation_{label}"] > 0.62  # 0.5 is chance
    assert all((np.asarray(x) == before[name]).all() for name, x in named_arrays(base).items())


def test_an_unknown_label_is_refused_before_training(run):
    preset = with_critic(label="masked")
    with pytest.raises(ValueError, match=r"'masked'.*\bsampled\b"):
        stages.check(preset, ("critic",), run[0])


def test_the_stage_writes_a_critic_that_generate_uses(micro_folder, tmp_path):
    shutil.copytree(micro_folder, tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "base.safetensors").read_bytes()
    stages.check(MICRO, ("critic",), tmp_path)
    stages.TRAIN["critic"](with_critic(held_out=6), tmp_path)
    assert (tmp_path / "base.safetensors").read_bytes() == before
    assert read_config(tmp_path)["trained"]["critic"]["label"] == "sampled"
    assert "held_out_loss" in read_log(tmp_path / "critic" / "log.jsonl")
    shapes = {name: x.shape for name, x in load_file(tmp_path / "critic.safetensors").items()}
    assert shapes == {name: x.shape for name, x in named_arrays(build("critic", MICRO.critic)).items()}
    muse = mm.Muse.from_pretrained(tmp_path)
    assert muse.generate("a cat", steps=3, revise=1, critic=True).shape == (1, 64, 64, 3)
    # Another base has other features: the run is not lengthened.
    save_weights(tmp_path / "base.safetensors", jax.tree.map(lambda x: -x, muse.models["base"]))
    with pytest.raises(ValueError, match=r"\bbase\b"):
        stages.TRAIN["critic"](with_critic(held_out=6, steps=9), tmp_path)


def test_the_critic_starts_from_a_checkpoint_with_its_base(run, tmp_path):
    """`--from`: tokenizer and base are copied, and the critic begins with the checkpoint's."""
    shutil.copytree(run[0], tmp_path / "one")
    stages.TRAIN["critic"](MICRO, tmp_path / "one")
    preset = with_critic(start=str(tmp_path / "one"), seed=1)
    (tmp_path / "two").mkdir()
    stages.check(preset, ("critic",), tmp_path / "two")
    stages.begin(preset, ("critic",), tmp_path / "two", str(tmp_path / "one"))
    assert {"tokenizer", "base"} <= read_config(tmp_path / "two").keys()
    job = critic_job(preset, tmp_path / "two", "critic", *run[1:])[1]
    saved = load_file(tmp_path / "one" / "critic.safetensors")
    assert all((np.asarray(x, np.float16) == saved[name]).all() for name, x in named_arrays(job.params).items())
