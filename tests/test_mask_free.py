"""Mask-free editing: resampling, masks read from a caption, and what both leave as it was."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import STEPS, tokens_of

from minimuse import mask_free
from minimuse.mask_free import MaskReading, Resampling, check_reading, check_resampling
from minimuse.transformer import forward

EDIT = dict(n=2, iterations=4, fraction=0.3, trace=True)  # tests of resampling share this program
READ = dict(way="read", masks=5, threshold=-0.01, threshold_all=-9.0, steps=STEPS, trace=True)  # and those of reading
NONE, ALL = dict(threshold=-1e6, threshold_all=-1e6), dict(threshold=1e6, threshold_all=1e6)


# --- the paper's way --------------------------------------------------------------------------------------------------


def test_every_iteration_redraws_its_share_and_no_more(micro, small):
    result = micro.edit(small, "a cat", seed=1, **EDIT)
    assert result.states.shape == (4, 2, 8, 8) and (result.states[-1] == result.tokens).all()
    before = np.repeat(micro.tokenize(small[None]), 2, 0)
    for state in result.states:
        changed = (state != before).reshape(2, -1).sum(-1)
        assert (changed <= 19).all() and changed.any()  # 0.3 of 64 are sampled; some come out as they were
        before = state
    assert (result.tokens[0] != result.tokens[1]).any()
    assert (result.redrawn == (result.tokens != micro.tokenize(small[None]))).all()


def test_the_caption_the_negative_and_the_guidance_matter_and_compile_nothing(micro, small):
    tokens = micro.tokenize(small[None])
    run = lambda caption, **options: micro.edit(small, caption, **EDIT, **options).tokens
    plain = run("a cat")
    before = mask_free.resample._cache_size()
    assert (plain == run("a cat")).all() and (plain != tokens).any()
    assert (plain != run("three dogs on a pink background")).any()
    for options in (dict(negative="three dogs"), dict(guidance=8.0), dict(token_temperature=9.0), dict(seed=1)):
        assert (plain != run("a cat", **options)).any(), options
    assert mask_free.resample._cache_size() == before


def test_no_iteration_gives_back_the_picture(micro, small):
    result = micro.edit(small, "a cat", iterations=0, trace=True)
    tokens = micro.tokenize(small[None])
    assert (result.tokens == tokens).all() and not result.redrawn.any() and len(result.states) == 0
    assert (result.images == micro.detokenize(tokens)).all()


def test_resampling_draws_the_most_likely_code_of_what_it_hides(micro, small):
    """One hidden position at a time, top 1, no guidance: what is sampled is the argmax given all others."""
    tokens = micro.tokenize(small[None])
    options = dict(iterations=1, fraction=0.01, top_k=1, guidance=0.0)
    found = micro.edit(small, "a cat", n=8, trace=True, **options).tokens
    changed = [np.flatnonzero((state != tokens[0]).ravel()) for state in found]
    assert max(map(len, changed)) == 1
    image = [len(positions) for positions in changed].index(1)
    position = changed[image][0]
    text, mask = micro.text.encode(["a cat"])
    hidden = tokens.reshape(1, 64).copy()
    hidden[0, position] = 64
    logits = forward(micro.models["base"], jnp.asarray(hidden), text, mask)
    assert int(logits[0, position].argmax()) == int(found[image].ravel()[position])


def test_the_cascade_raises_only_what_has_changed(cascade, picture):
    result = cascade.edit(picture, "a cat", **EDIT)
    coarse, fine = tokens_of(cascade, picture)
    changed = (result.tokens != coarse).repeat(4, 1).repeat(4, 2)
    assert changed.any() and not changed.all()
    fine = np.broadcast_to(fine, changed.shape)
    assert (result.superres_tokens[~changed] == fine[~changed]).all()
    assert (result.superres_tokens[changed] != fine[changed]).any()


def test_settings_of_mask_free_editing_are_checked_and_complete():
    checked = check_resampling(Resampling(iterations=np.int64(3), fraction=1, guidance=2), 64)
    assert checked == Resampling(iterations=3, fraction=1, guidance=2.0) and type(checked.guidance) is float
    assert Resampling() == Resampling(100, 0.08, 3, 1.0, 1.0)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(iterations=-1), r"\biterations\b.*-1"),
        (dict(fraction=0), r"\bfraction\b.*\b0\b"),
        (dict(fraction=1.5), r"\bfraction\b.*1\.5"),
        (dict(fraction="a"), r"\bfraction\b.*'a'"),
        (dict(guidance=-1.0), r"\bguidance\b.*-1"),
        (dict(token_temperature=0), r"\btoken_temperature\b.*\b0\b"),
        (dict(top_k=100), r"\btop_k\b.*\b100\b"),
    ],
)
def test_bad_edits_get_a_sentence(micro, options, message):
    with pytest.raises(ValueError, match=message):
        micro.edit(np.zeros((64, 64, 3), np.uint8), "a cat", **options)


# --- a mask from the caption ------------------------------------------------------------------------------------------


def test_the_evidence_by_hand():
    """Three tokens, two codes. With the caption code 0 has probability 1/4 and code 1 has 3/4; without it, the reverse;
    the fourth pass hides nothing that another does not."""
    new, old = np.log([0.25, 0.75]), np.log([0.75, 0.25])

    def predict(tokens):
        rows = jnp.stack([jnp.broadcast_to(x, (tokens.shape[1], 2)) for x in (new, old)])
        return rows + 5.0  # logits need no normalisation

    tokens = jnp.asarray([[0, 1, 0]])
    hidden = jnp.asarray([[True, True, False], [True, False, False]])
    for group in (1, 2, 7):
        found = mask_free.contrast(predict, tokens, hidden, mask_id=2, group=group)
        assert np.allclose(found, [[-np.log(3), np.log(3), 0.0]], atol=1e-5)  # the last token is never hidden


def test_the_evidence_is_the_mean_over_passes_that_hide_the_token():
    """The caption's probability of code 0 is 1/2 where all is hidden and 1/8 where one token is; without it, 1/2."""

    def predict(tokens):
        hidden = (tokens[:1] == 2).sum()
        p = jnp.where(hidden == 2, 0.5, 0.125)
        code = jnp.log(jnp.stack([p, 1 - p]))
        return jnp.stack([jnp.broadcast_to(x, (2, 2)) for x in (code, jnp.log(jnp.asarray([0.5, 0.5])))])

    hidden = jnp.asarray([[True, True], [True, False], [False, True], [False, True]])
    found = mask_free.contrast(predict, jnp.zeros((1, 2), int), hidden, mask_id=2)
    assert np.allclose(found, [[-np.log(4) / 2, -2 * np.log(4) / 3]], atol=1e-5)


def test_two_improbable_tokens_are_no_evidence():
    codes = jnp.log(jnp.asarray([[1e-6, 1 - 1e-6], [1e-3, 1 - 1e-3]]))  # with the new caption, and the old one
    predict = lambda tokens: jnp.broadcast_to(codes[:, None], (2, 1, 2))
    found = lambda floor: float(
        mask_free.contrast(predict, jnp.zeros((1, 1), int), jnp.ones((1, 1), bool), mask_id=2, floor=floor)[0, 0]
    )
    assert found(-np.inf) == pytest.approx(-np.log(1000), abs=1e-3)
    assert found(np.log(1e-4)) == pytest.approx(-np.log(10), abs=1e-3)
    assert found(np.log(0.5)) == 0


def test_the_mask_is_the_union_of_both_thresholds():
    evidence = np.array([[[-0.6, -0.4, -0.4]], [[0.0, -1.2, -0.9]]])  # [2, h, w]
    assert mask_free.mask_of(evidence, MaskReading()).tolist() == [[True, True, False]]
    assert mask_free.mask_of(evidence[None], MaskReading(threshold=-0.3)).tolist() == [[[True, True, True]]]


def test_a_mask_grows_by_one_token():
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 0, 1] = True
    assert mask_free.grown(mask).astype(int).tolist() == [[[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], [[0] * 4] * 3]


def test_without_evidence_the_picture_stays(cascade, picture):
    coarse, fine = tokens_of(cascade, picture)
    result = cascade.edit(picture, "a cat", **READ | NONE)
    assert not result.redrawn.any() and (result.tokens[0] == coarse).all() and (result.superres_tokens[0] == fine).all()
    assert (result.images[0] == picture).all()
    decoded = cascade.edit(picture, "a cat", edge=None, **READ | NONE)
    assert (decoded.images == cascade.detokenize(fine[None], "superres", finetuned=True)).all()


def test_a_mask_of_everything_is_generating(cascade, picture):
    result = cascade.edit(picture, "a cat", edge=None, **READ | ALL)
    options = dict(mask_free.REDRAW) | dict(steps=STEPS, trace=True)
    drawn = cascade.generate("a cat", **options)
    assert result.redrawn.all() and (result.tokens == drawn.tokens).all() and (result.images == drawn.images).all()


def test_only_what_is_under_the_found_mask_changes(cascade, picture):
    coarse, fine = tokens_of(cascade, picture)
    captions = ["a cat", "three dogs on a pink background"]
    result = cascade.edit(picture, captions, seed=1, **READ)
    assert result.redrawn.shape == (2, 8, 8) and result.evidence.shape == (2, 2, 8, 8)
    assert (result.redrawn[0] != result.redrawn[1]).any() and 0 < result.redrawn.mean() < 1
    for i, hidden in enumerate(result.redrawn):
        assert (result.tokens[i][~hidden] == coarse[~hidden]).all() and (
            result.tokens[i][hidden] != coarse[hidden]
        ).any()
        around = mask_free.grown(hidden[None])[0]
        positions, pixels = around.repeat(4, 0).repeat(4, 1), around.repeat(16, 0).repeat(16, 1)
        assert (result.superres_tokens[i][~positions] == fine[~positions]).all()
        assert (result.images[i][~pixels] == picture[~pixels]).all()
    settings = dict(masks=READ["masks"], threshold=READ["threshold"], threshold_all=READ["threshold_all"])
    assert (cascade.find_mask(picture, captions, 1, **settings) == result.redrawn).all()
    alone = cascade.find_mask(picture, captions[1], 1, **settings)
    assert alone.shape == (8, 8) and (alone == result.redrawn[1]).all()


def test_seed_and_caption_of_the_picture_decide_the_evidence(micro, small):
    run = lambda **options: micro.edit(small, "a cat", **READ | options).evidence[0]
    plain = run()
    compiled = mask_free.read_evidence._cache_size()
    assert (plain == run()).all() and (plain == run(negative="a dog")).all()
    assert (plain[0] != run(seed=1)[0]).any() and (plain[1] == run(seed=1)[1]).all()  # only random masks have a seed
    assert (plain != run(rate=0.3)).any() and (plain[1] == run(rate=0.3)[1]).all()
    assert (plain != run(before="a dog")).any() and not run(before="a cat").any()  # the same caption twice
    assert mask_free.read_evidence._cache_size() == compiled
    both = micro.edit(small, "a cat", n=2, **READ)
    assert (both.evidence[0] == both.evidence[1]).all() and (both.redrawn[0] == both.redrawn[1]).all()
    assert (both.tokens[0] != both.tokens[1]).any()


def test_the_evidence_is_that_of_the_transformer(micro, small):
    """With everything hidden: log p(token | caption) - log p(token), from two passes by hand."""
    tokens = micro.tokenize(small[None]).reshape(1, 64)
    text, mask = micro.text.encode(["a cat"])
    hidden, log_p = jnp.full((1, 64), 64), []
    for given in (mask, np.zeros_like(mask)):
        logits = np.asarray(forward(micro.models["base"], hidden, text, given), np.float64)[0]
        log_p.append((logits - np.log(np.exp(logits).sum(-1, keepdims=True)))[np.arange(64), tokens[0]])
    found = micro.edit(small, "a cat", **READ).evidence[0, 1]
    assert np.allclose(found.ravel(), log_p[0] - log_p[1], atol=1e-4)


def test_options_choose_the_way(micro, small):
    assert micro.edit(small, "a cat", iterations=0, trace=True).states is not None
    assert (
        micro.edit(small, "a cat", **{key: value for key, value in READ.items() if key != "way"}).evidence is not None
    )
    assert micro.edit(small, "a cat", trace=True, **dict(way="resample", iterations=0)).evidence is None
    assert mask_free._way(None, "a dog", {}) == "read" and mask_free._way(None, None, {}) == mask_free.WAY
    with pytest.raises(TypeError, match="colour"):
        micro.edit(small, "a cat", colour="red")


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(way="paint"), "paint"),
        (dict(way="read", iterations=3), "iterations.*resample"),
        (dict(way="resample", steps=3), "steps.*read"),
        (dict(way="resample", before="a dog"), "before.*read"),
        (dict(masks=0), r"\bmasks\b.*\b0\b"),
        (dict(rate=1.5), r"\brate\b.*1\.5"),
        (dict(threshold="low"), r"\bthreshold\b.*'low'"),
        (dict(threshold_all=float("nan")), r"\bthreshold_all\b.*nan"),
        (dict(way="read", edge=-1), r"\bedge\b.*-1"),
        (dict(way="read", steps=0), r"\bsteps\b.*\b0\b"),
    ],
)
def test_bad_readings_get_a_sentence(micro, options, message):
    with pytest.raises(ValueError, match=message):
        micro.edit(np.zeros((64, 64, 3), np.uint8), "a cat", **options)


def test_settings_of_reading_are_checked_and_complete(micro):
    checked = check_reading(MaskReading(masks=np.int64(3), rate=1, threshold=-1))
    assert dataclasses.astuple(checked) == (3, 1.0, -1.0, -1.0) and type(checked.threshold) is float
    with pytest.raises(ValueError, match="128 x 64"):
        micro.find_mask(np.zeros((64, 128, 3), np.uint8), "a cat")
