"""The cascade: both stages of one Muse, the fine-tuned decoder, and what is left out."""

import dataclasses

import numpy as np
import pytest
from conftest import STEPS

import minimuse as mm
from minimuse import decoding, vqgan
from minimuse.config import SampleOptions

TWO = ["a cat", "two dogs"]


def draw(muse, captions, **options):
    """With a trace and STEPS, so that tests share programs."""
    return muse.generate(captions, **dict(steps=STEPS, trace=True) | options)


def test_the_cascade_draws_the_larger_picture(cascade):
    result = draw(cascade, TWO, seed=1)
    assert result.images.shape == (2, 128, 128, 3) and result.tokens.shape == (2, 8, 8)
    assert result.superres_tokens.shape == (2, 32, 32) and result.superres_trace.tokens.shape == (2, 2, 1024)
    assert (result.images == cascade.detokenize(result.superres_tokens, "superres", finetuned=True)).all()


def test_stages_can_be_left_out(cascade, cascade_folder):
    base = draw(cascade, TWO, superres=False)
    assert base.images.shape == (2, 64, 64, 3) and base.superres_tokens is None
    whole = draw(cascade, TWO)
    assert (whole.tokens == base.tokens).all()  # the base stage does not know what comes after it
    small = draw(cascade, TWO, finetuned=False).images
    assert small.shape == whole.images.shape and (small != whole.images).any()
    assert (small == cascade.detokenize(whole.superres_tokens, "superres")).all()
    alone = mm.Muse.from_pretrained(cascade_folder, superres=False)
    assert (draw(alone, TWO).images == base.images).all()
    assert set(alone.configs) == {"tokenizer", "superres_tokenizer", "base"}


def test_the_cascade_draws_the_same_in_any_batch(cascade):
    both = draw(cascade, TWO, seed=3)
    assert (draw(cascade, TWO[0], seed=3).superres_tokens == both.superres_tokens[:1]).all()


def test_a_pair_sets_both_stages_and_a_number_the_base(cascade):
    run = lambda **options: draw(cascade, "a cat", **options)
    plain = run()
    base, superres = (dataclasses.asdict(cascade.sampling[stage]) for stage in ("base", "superres"))
    for name, value in (("guidance", 6.0), ("temperature", 16.0), ("token_temperature", 3.0)):
        changed = run(**{name: (base[name], value)})
        assert (changed.tokens == plain.tokens).all(), name
        assert (changed.superres_tokens != plain.superres_tokens).any(), name
        single, pair = run(**{name: value}), run(**{name: (value, superres[name])})
        assert (single.tokens == pair.tokens).all() and (single.tokens != plain.tokens).any(), name
        assert (single.superres_trace.tokens == pair.superres_trace.tokens).all(), name
    assert (run(guidance=(None, 6.0)).tokens == plain.tokens).all()


def test_the_plan_of_both_stages(cascade):
    plan = lambda **options: cascade.plan(None, None, SampleOptions(**options)).stages
    own = plan()
    assert list(own) == ["base", "superres"] and own["base"].steps == 12 and own["superres"].steps == 8
    assert own["base"].guided and not own["superres"].guided
    changed = plan(steps=3, top_k=(5, None), law=(None, "linear"), order="halton", guidance=(None, 2.0), ramp=False)
    assert changed["base"] == dataclasses.replace(own["base"], steps=3, top_k=5, order="halton", ramp=False)
    assert changed["superres"] == dataclasses.replace(
        own["superres"], law="linear", order="halton", guidance=2.0, guided=True, ramp=False
    )
    assert list(cascade.plan(superres=False).stages) == ["base"]
    assert [cascade.plan(*wanted).finetuned for wanted in ((None, None), (True, False), (False, None))] == [1, 0, 0]


def test_defaults_are_options_that_change_nothing(cascade):
    defaults = cascade.defaults
    assert defaults["steps"] == (12, 8) and defaults["guidance"] == (0.5, 0.0) and defaults["law"] == "cosine"
    assert defaults["temperature"] == (4.5, 4.5)  # a single number would be the base stage's
    assert cascade.plan(options=defaults) == cascade.plan()


def test_each_stage_compiles_once(cascade):
    draw(cascade, TWO)
    before = decoding.sample_tokens._cache_size(), vqgan.draw_pixels._cache_size()
    for caption in ("a cat", "three apples on a pink background", "a " * 50 + "cat"):
        draw(cascade, [caption, "a dog"])
    assert (decoding.sample_tokens._cache_size(), vqgan.draw_pixels._cache_size()) == before


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(steps=(2, 0)), r"\bsteps\b.*\b0\b"),
        (dict(steps=(2, 2, 2)), r"\bsteps\b.*\(2, 2, 2\)"),
        (dict(guidance=(0.5, -1.0)), r"\bguidance\b.*-1"),
        (dict(token_temperature=(0.5, 0)), r"\btoken_temperature\b.*\b0\b"),
        (dict(superres=False, finetuned=True), "[Ff]ine-?tuned"),
    ],
)
def test_bad_input_to_the_cascade_gets_a_sentence(cascade, options, message):
    with pytest.raises(ValueError, match=message):
        cascade.generate("a cat", **options)


def test_only_the_fine_tokens_have_a_fine_tuned_decoder(cascade):
    with pytest.raises(ValueError, match="(?=.*[Ff]ine-?tuned).*'base'"):
        cascade.detokenize(np.zeros((1, 8, 8), int), finetuned=True)


def test_stages_of_another_cascade_are_refused(cascade):
    def build(**changes):
        return mm.Muse(cascade.text, cascade.configs | changes, cascade.models, cascade.sampling, "t5-scenes")

    superres = cascade.configs["superres"]
    for change, message in (
        (dict(low_codebook_size=65), r"(?=.*\b64\b).*\blow_codebook_size\b.*\b65\b"),
        (dict(low_grid=(16, 16)), r"(?=.*\(8, 8\)).*\blow_grid\b.*\(16, 16\)"),
        (dict(codebook_size=12), r"(?=.*superres_tokenizer)(?=.*\b64\b).*\bcodebook_size\b.*\b12\b"),
    ):
        with pytest.raises(ValueError, match=message):
            build(superres=dataclasses.replace(superres, **change))
    configs = {name: config for name, config in cascade.configs.items() if name != "superres_tokenizer"}
    with pytest.raises(ValueError, match="superres_tokenizer"):
        mm.Muse(cascade.text, configs, cascade.models, cascade.sampling, "t5-scenes")


def test_a_saved_cascade_draws_the_same(cascade, tmp_path):
    cascade.save(tmp_path / "copy")
    copy = mm.Muse.from_pretrained(tmp_path / "copy")
    assert copy.sampling == cascade.sampling and copy.configs == cascade.configs
    assert (draw(copy, TWO).images == draw(cascade, TWO).images).all()
