"""What the presets promise: sizes that fit together and, of `own`, a training without a network."""

import dataclasses

import pytest

from minimuse.config import AdversarialConfig
from minimuse.data.cache import held_out_rows
from minimuse.muse import TOKENIZERS, build
from minimuse.presets import PRESETS
from minimuse.train import memory
from minimuse.weights import named_arrays

OWN, TINY = PRESETS["own"], PRESETS["tiny"]


def shapes(preset, stage):
    return {name: x.shape for name, x in named_arrays(build(stage, getattr(preset, stage))).items()}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_grids_and_codes_are_those_of_the_tokenizers(preset):
    for stage, name in TOKENIZERS.items():
        tokenizer, config = getattr(preset, name), getattr(preset, stage)
        side = tokenizer.image_size // tokenizer.factor
        assert config.grid == (side, side) and config.codebook_size == tokenizer.codebook_size
    superres = preset.superres
    assert (superres.low_grid, superres.low_codebook_size) == (preset.base.grid, preset.base.codebook_size)
    assert superres.text_width == preset.base.text_width


@pytest.mark.parametrize("stage", TOKENIZERS.values())
def test_the_tokenizers_of_own_can_start_from_the_shipped_ones(stage):
    assert shapes(OWN, stage) == shapes(TINY, stage)


def test_own_trains_all_of_muse_offline_and_holds_pictures_out():
    assert OWN.text == "t5-scenes" and not OWN.data
    assert list(OWN.train) == ["tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder"]
    decoder = OWN.train["superres_decoder"]
    assert isinstance(decoder, AdversarialConfig) and decoder.adversarial == 0
    held = {stage: held_out_rows(OWN.train[stage], 1956)[1].tolist() for stage in ("base", "superres")}
    assert held["base"] == held["superres"] and len(held["base"]) == 128


@pytest.mark.slow
@pytest.mark.parametrize("phase", OWN.train)
def test_own_takes_little_memory(phase):
    train = OWN.train | {"superres_decoder": dataclasses.replace(OWN.train["superres_decoder"], perceptual=0.0)}
    preset = dataclasses.replace(OWN, data="pictures", train=train)
    assert memory.planned(*memory.step_of(preset, phase)).total < 4 * 2**30
