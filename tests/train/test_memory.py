"""What a training step takes of memory, known before anything is trained."""

import dataclasses
import re

import pytest
from conftest import random_weights

from minimuse.data.sources import Scenes
from minimuse.presets import PRESETS
from minimuse.train import adversarial, memory, stages
from minimuse.train.step import init_state
from minimuse.weights import named_arrays

MICRO = PRESETS["micro"]


def shapes(tree):
    return {name: (x.shape, x.dtype) for name, x in named_arrays(tree).items()}


@pytest.mark.parametrize("phase", ["tokenizer", "tokenizer_adversarial"])
def test_the_shapes_are_those_of_the_job(phase):
    train, weights = MICRO.train[phase], random_weights("tokenizer", MICRO.tokenizer)
    if phase == "tokenizer":
        job = stages.tokenizer_job(MICRO, Scenes())
    else:
        job = stages.adversarial_job(MICRO.tokenizer, train, weights, Scenes(), 0)
    _, state, batch = memory.step_of(MICRO, phase)
    assert shapes(state) == shapes(init_state(job.params, train, **job.extra))
    assert shapes(job.batch_at(0)) == shapes(batch)


def with_memory(gib, **changes):
    """MICRO on a device of `gib` GiB, with other settings of the base's training."""
    train = dataclasses.replace(MICRO.train["base"], **changes)
    run = dataclasses.replace(MICRO.run, memory=gib, mesh=(1, 1))
    return dataclasses.replace(MICRO, run=run, train=MICRO.train | dict(base=train))


def test_what_does_not_fit_is_refused_with_the_setting_that_does(capsys):
    plan = memory.planned(*memory.step_of(MICRO, "base"))
    assert plan.total > plan.working > 4 * 8 * 64 * 64  # the logits at least
    enough = plan.total / 2**30
    memory.check_memory(with_memory(1.01 * enough), ("base",))
    assert "base" in capsys.readouterr().out
    little = (plan.kept + 0.7 * plan.working) / 2**30
    with pytest.raises(ValueError, match=r"base.*accumulate \d+") as error:
        memory.check_memory(with_memory(little), ("base",))
    pieces = int(re.search(r"accumulate (\d+)", str(error.value))[1])
    memory.check_memory(with_memory(little, accumulate=pieces), ("base",))
    with pytest.raises(ValueError, match=r"base.*--mesh"):
        memory.check_memory(with_memory(plan.kept / 2**31), ("base",))


def test_nothing_is_compiled_where_it_surely_fits_or_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(memory, "planned", None)
    for gib in (0.0, -1.0, 1000.0):
        memory.check_memory(with_memory(gib), ("base", "superres_tokenizer", "superres_decoder"))
    assert memory.device_memory() > 2**30


def test_a_batch_against_a_discriminator_is_made_smaller(monkeypatch):
    monkeypatch.setattr(memory, "planned", lambda *program: memory.Plan(2**20, 2**31))
    monkeypatch.setattr(memory, "rough_size", lambda preset, phase: 2**30)
    assert isinstance(MICRO.train["superres_decoder"], adversarial.AdversarialConfig)
    with pytest.raises(ValueError, match=r"superres-decoder\.batch 1\b"):
        memory.check_memory(with_memory(1.9), ("superres_decoder",))


def test_what_is_far_too_large_is_refused_without_compiling_it(monkeypatch):
    monkeypatch.setattr(memory, "planned", None)
    colab = PRESETS["colab"]
    train = dataclasses.replace(colab.train["superres"], accumulate=1)
    run = dataclasses.replace(colab.run, memory=2.0, mesh=(1, 1))
    with pytest.raises(ValueError, match=r"superres.*\baccumulate 32\b"):
        memory.check_memory(
            dataclasses.replace(colab, run=run, train=colab.train | dict(superres=train)), ("superres",)
        )


def test_a_perceptual_network_is_planned_for(tmp_path):
    train = dataclasses.replace(MICRO.train["tokenizer_adversarial"], perceptual_network=str(tmp_path))
    with_network = dataclasses.replace(MICRO, train=dict(tokenizer_adversarial=train))
    more = memory.rough_size(with_network, "tokenizer_adversarial") - memory.rough_size(MICRO, "tokenizer_adversarial")
    assert more > 4 * train.batch * 64**2 * 2 * 64  # the first two convolutions have 64 channels
    with pytest.raises(FileNotFoundError, match="safetensors"):
        memory.step_of(with_network, "tokenizer_adversarial")
    own = dataclasses.replace(MICRO, data="user/pictures")
    with pytest.raises(ValueError, match="perceptual_network"):
        memory.step_of(own, "tokenizer_adversarial")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["base", "superres"])
def test_the_transformers_of_colab_fit_a_t4(stage):
    plan = memory.planned(*memory.step_of(PRESETS["colab"], stage))
    assert plan.total < 12 * 2**30
