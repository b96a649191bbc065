"""Tests need no network and no accelerator, and share compiled programs."""

import dataclasses
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import pytest

import minimuse

minimuse.enable_compilation_cache()


def random_weights(stage: str, config, seed: int = 0):
    """Graph definition and random weights of a stage's model, without compiling its initialisation."""
    from minimuse import weights

    graphdef, like = weights.abstract(stage, config)
    return graphdef, random_tree(like, seed)


def random_tree(like, seed: int = 0):
    """Random weights of these shapes."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        fan_in = int(np.prod(leaf.shape[-4:-1])) if len(leaf.shape) > 1 else 1  # a norm's scale has none
        noise = rng.normal(size=leaf.shape) / fan_in**0.5
        return jax.numpy.asarray(noise if len(leaf.shape) > 1 else 1 + 0.1 * noise, jax.numpy.float32)

    return jax.tree.map(draw, like)


def random_checkpoint(folder, preset, stages: dict):
    """A checkpoint folder with random weights of these stages' configs."""
    from minimuse import weights

    config = dict(format=weights.FORMAT, text="t5-scenes", sampling=dataclasses.asdict(preset.sampling))
    for stage, stage_config in stages.items():
        config[stage] = dataclasses.asdict(stage_config)
        weights.save_weights(folder / f"{stage}.safetensors", random_weights(stage, stage_config)[1])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory):
    """A checkpoint folder of the micro preset with random weights and the shipped text encoder: the base stage."""
    from minimuse.presets import get_preset

    preset = get_preset("micro")
    stages = dict(tokenizer=preset.tokenizer, base=preset.base)
    return random_checkpoint(tmp_path_factory.mktemp("micro"), preset, stages)


@pytest.fixture(scope="session")
def cascade_folder(tmp_path_factory):
    """The same with all stages: two resolutions, and a decoder that has grown."""
    from minimuse.presets import get_preset

    preset = get_preset("micro")
    names = ("tokenizer", "superres_tokenizer", "base", "superres")
    grown = dataclasses.replace(preset.superres_tokenizer, decoder_growth=2)
    stages = {name: getattr(preset, name) for name in names} | dict(superres_decoder=grown)
    return random_checkpoint(tmp_path_factory.mktemp("cascade"), preset, stages)


@pytest.fixture(scope="session")
def micro(micro_folder):
    return minimuse.Muse.from_pretrained(micro_folder)


@pytest.fixture(scope="session")
def cascade(cascade_folder):
    return minimuse.Muse.from_pretrained(cascade_folder)
