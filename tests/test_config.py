"""Configs to JSON and back, and the sampling settings of checkpoints."""

import dataclasses
import json

import jax
import pytest

from minimuse import config, decoding
from minimuse.config import SampleOptions, Sampling, TrainConfig, TransformerConfig, VQGANConfig
from minimuse.presets import PRESETS, get_preset


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_presets_configs_come_back_from_json(preset):
    stages = (preset.tokenizer, preset.superres_tokenizer, preset.base, preset.superres)
    for value in (*stages, preset.run, *preset.train.values()):
        assert config.from_dict(type(value), through_json(dataclasses.asdict(value))) == value
    assert config.sampling_from_dict(through_json(config.sampling_to_dict(preset.sampling))) == preset.sampling


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_presets_sampling_is_one_that_can_be_used(preset):
    for stage in ("base", "superres"):
        own = getattr(preset, stage)
        checked = decoding.check_sampling(preset.sampling[stage], own.grid[0] * own.grid[1], own.codebook_size)
        assert dataclasses.replace(checked, guided=True) == preset.sampling[stage]


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="huge.*tiny"):
        get_preset("huge")


@pytest.mark.parametrize(
    "cls, values, message",
    [
        (TrainConfig, dict(steps=3), r"TrainConfig.*\bbatch\b"),  # a field without a default
        (TransformerConfig, dict(colour=1), r"TransformerConfig.*\bcolour\b"),
        (VQGANConfig, dict(image_size="big"), r"(?=.*VQGANConfig).*\bimage_size\b.*'big'"),
        (TransformerConfig, dict(grid=[8]), r"(?=.*TransformerConfig).*\bgrid\b.*\(8,\)"),
        (TransformerConfig, dict(heads=True), r"(?=.*TransformerConfig).*\bheads\b.*True"),
        (TransformerConfig, None, "TransformerConfig.*None"),
    ],
)
def test_what_is_not_a_config_is_explained(cls, values, message):
    with pytest.raises(ValueError, match=message):
        config.from_dict(cls, values)


def test_lists_become_tuples_and_whole_numbers_may_be_floats():
    assert config.from_dict(VQGANConfig, dict(channels=[8, 16], beta=1)) == VQGANConfig(channels=(8, 16), beta=1)


# --- sampling -------------------------------------------------------------------------------------------------------


def test_every_option_is_a_field_of_the_record():
    fields = {field.name for field in dataclasses.fields(Sampling)}
    assert set(SampleOptions.__annotations__) == fields - {"guided"}
    assert set(config.BASE_ONLY) < fields


def test_numbers_are_leaves_and_the_rest_is_static():
    leaves, structure = jax.tree.flatten(Sampling(guidance=1.5, ramp=False, temperature=2.5, token_temperature=3.5))
    assert leaves == [1.5, False, 2.5, 3.5]
    shape = [dict(steps=2), dict(top_k=2), dict(law="linear"), dict(order="halton"), dict(guided=False)]
    for change in (*shape, dict(guided_from=0.5), dict(guided_to=0.5), dict(revise=1), dict(critic=True)):
        assert jax.tree.structure(Sampling(**change)) != structure


def test_sampling_is_stored_by_stage():
    base = Sampling(steps=3, law="log", guidance=2.0, guided_from=0.25, guided_to=0.5, revise=1)
    records = dict(base=base, superres=Sampling(top_k=5, guided=False))
    stored = through_json(config.sampling_to_dict(records))
    assert stored["base"]["steps"] == 3 and "guided" not in stored["base"]
    back = config.sampling_from_dict(stored)
    assert back["base"] == records["base"] and back["superres"] == dataclasses.replace(records["superres"], guided=True)


def test_the_pairs_of_version_0_1_are_read():
    old = dict(steps=[16, 4], guidance=[2.0, 1.0], temperature=[4.0, 0.5], token_temperature=[0.5, 0.125])
    old |= dict(order="halton", law="square", ramp=False, text_length=32)
    shared = dict(order="halton", law="square", ramp=False)
    assert config.sampling_from_dict(old) == dict(
        base=Sampling(steps=16, guidance=2.0, temperature=4.0, token_temperature=0.5, **shared),
        superres=Sampling(steps=4, guidance=1.0, temperature=0.5, token_temperature=0.125, **shared),
    )


def test_what_is_left_out_of_a_checkpoints_sampling_has_the_defaults():
    defaults = dict(base=Sampling(), superres=Sampling(steps=8, guidance=0.0))
    assert config.sampling_from_dict({}) == config.sampling_from_dict(dict(text_length=32)) == defaults
    for stage in ("base", "superres"):
        expected = defaults | {stage: dataclasses.replace(defaults[stage], top_k=5)}
        assert config.sampling_from_dict({stage: dict(top_k=5)}) == expected
    one, two = (dataclasses.replace(defaults[stage], temperature=1.0) for stage in ("base", "superres"))
    assert config.sampling_from_dict(dict(temperature=1.0)) == dict(base=one, superres=two)


@pytest.mark.parametrize(
    "values, message",
    [
        (None, "None"),
        ([5], r"\[5\]"),
        (dict(steps="a"), r"\bsteps\b.*'a'"),
        (dict(steps=[5, "b"]), r"\bsteps\b.*'b'"),
        (dict(steps=[5, 5, 5]), r"\bsteps\b.*\(5, 5, 5\)"),
        (dict(base=dict(steps="a")), r"\bsteps\b.*'a'"),
        (dict(base=5), r"Sampling.*\b5\b"),
        (dict(colour=1), r"\bcolour\b"),
        (dict(base=dict(colour=1)), r"\bcolour\b"),
    ],
)
def test_what_is_not_sampling_is_explained(values, message):
    with pytest.raises(ValueError, match=message):
        config.sampling_from_dict(values)
