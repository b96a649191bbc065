"""Drawing step by step: the same tokens, what `on_step` is given, and how it stops the drawing."""

import numpy as np
import pytest
from conftest import STEPS, random_weights

import minimuse as mm
from minimuse.config import CriticConfig
from minimuse.decoding import sample_tokens

TWO = ["a cat", "a dog on a blue background"]


@pytest.fixture(scope="module")
def cascade(cascade_folder):
    return mm.Muse.from_pretrained(cascade_folder)


@pytest.mark.parametrize(
    "options",
    [
        dict(order="halton", law="exp", guided_from=0.3, guided_to=(0.7, None), guidance=(2.0, 1.0)),
        pytest.param(dict(), marks=pytest.mark.slow),
        pytest.param(
            dict(steps=(4, 3), revise=(2, 1), order=("confidence", "random"), guidance=0.0), marks=pytest.mark.slow
        ),
    ],
    ids=["interval", "plain", "revised"],
)
def test_the_same_tokens_and_the_same_trace(cascade, options):
    options, seen = dict(steps=STEPS, trace=True, seed=3) | options, []
    whole = cascade.generate(TWO, **options)
    watched = cascade.generate(TWO, on_step=seen.append, **options)
    np.testing.assert_array_equal(watched.tokens, whole.tokens)
    np.testing.assert_array_equal(watched.superres_tokens, whole.superres_tokens)
    np.testing.assert_array_equal(watched.images, whole.images)
    for stage, trace in (("base", whole.trace), ("superres", whole.superres_trace)):
        steps = [step for step in seen if step.stage == stage]
        assert [step.step for step in steps] == list(range(1, len(trace.tokens) + 1)) and steps[0].steps == len(steps)
        np.testing.assert_array_equal([step.tokens.reshape(2, -1) for step in steps], trace.tokens)
        np.testing.assert_array_equal([step.hidden.reshape(2, -1) for step in steps], trace.hidden)
    assert not seen[-1].hidden.any() and (seen[-1].tokens == whole.superres_tokens).all()


@pytest.mark.slow
def test_a_critic_judges_the_same(micro_folder):
    muse = mm.Muse.from_pretrained(micro_folder)
    config = CriticConfig(muse.configs["base"].width, muse.configs["base"].heads, 32)
    muse.configs["critic"], muse.models["critic"] = config, random_weights("critic", config)
    draw = lambda **options: muse.generate(TWO, steps=4, critic=True, revise=1, trace=True, **options).tokens
    np.testing.assert_array_equal(draw(on_step=lambda step: None), draw())


def test_a_large_batch_is_seen_in_groups(micro, monkeypatch):
    monkeypatch.setattr("minimuse.stepwise.CACHED_TOKENS", 128)  # two images of 64 tokens at a time
    seen = []
    images = micro.generate("a cat", n=4, steps=3, guidance=0.0, on_step=seen.append)
    assert [(step.images, step.batch) for step in seen] == [(range(2), 4)] * 3 + [(range(2, 4), 4)] * 3
    np.testing.assert_array_equal(images, micro.generate("a cat", n=4, steps=3, guidance=0.0))


def test_steps_compile_one_program_of_a_kind_and_none_without_on_step(micro):
    from minimuse import stepwise

    options = dict(steps=7, guidance=0.0)
    micro.generate("a cat", **options)
    before, whole = stepwise._one_step._cache_size(), sample_tokens._cache_size()
    micro.generate("a cat", seed=1, **options)
    assert stepwise._one_step._cache_size() == before and sample_tokens._cache_size() == whole
    micro.generate("a cat", on_step=lambda step: None, **options)
    assert stepwise._one_step._cache_size() == before + 1 and sample_tokens._cache_size() == whole


def test_what_on_step_raises_ends_the_drawing(micro):
    class Enough(Exception):
        pass

    seen = []

    def stop(step):
        seen.append(step.step)
        if step.step == 2:
            raise Enough

    with pytest.raises(Enough):
        micro.generate("a cat", steps=3, on_step=stop)
    assert seen == [1, 2]


@pytest.mark.slow
def test_editing_is_watched_too(cascade):
    image = cascade.generate("a cat", steps=STEPS)[0]
    mask = np.zeros(image.shape[:2], bool)
    mask[:40, :40] = True
    draws = dict(
        inpaint=lambda **options: cascade.inpaint(image, mask, "a dog", **options),
        outpaint=lambda **options: cascade.outpaint(image, "a dog", right=32, **options),
        interpolate=lambda **options: cascade.interpolate("a cat", "a dog", 2, **options),
    )
    for name, draw in draws.items():
        seen = []
        watched = draw(steps=STEPS, on_step=seen.append)
        assert {step.stage for step in seen} == {"base", "superres"}, name
        np.testing.assert_array_equal(watched, draw(steps=STEPS), err_msg=name)
