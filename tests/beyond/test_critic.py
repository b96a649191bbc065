"""The token critic: which places are hidden again by a judge, and the critic of a checkpoint."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_checkpoint, random_weights, transformer_inputs

import minimuse as mm
from minimuse import decoding, masking, sharing
from minimuse.beyond import critic
from minimuse.config import CriticConfig, SampleOptions, Sampling
from minimuse.decoding import Prompts, check_sampling, sample_tokens
from minimuse.muse import build
from minimuse.presets import get_preset
from minimuse.weights import named_arrays, read_config

K, N = 5, 12
START = jnp.full((2, N), K)
PLAIN = Sampling(steps=4, guidance=0.0, token_temperature=1.0)
REVISE = dataclasses.replace(PLAIN, steps=3, revise=2, token_temperature=0.01)


def keys(batch, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(batch))


def sure_of_later(tokens, t):
    """A model that is the more confident the further right."""
    return jnp.zeros((*tokens.shape, K)).at[..., 0].set(jnp.arange(tokens.shape[1]) * 1.0)


def sure_of_earlier(tokens):
    """A judge that is the less sure the further right."""
    return jnp.broadcast_to(-jnp.arange(N) * 1.0, tokens.shape)


@functools.partial(jax.jit, static_argnames=("judge", "model"))
def decode(tokens, keys, sampling, judge=None, ranks=None, model=sure_of_later):
    return decoding.parallel_decode(model, tokens, keys, sampling, mask_id=K, ranks=ranks, judge=judge, trace=True)


def places(trace, image=0):
    """Which positions are hidden after each step."""
    return [np.flatnonzero(hidden).tolist() for hidden in np.asarray(trace.hidden[:, image])]


# --- parallel decoding with a judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [None, jnp.arange(N)])
def test_revising_hides_what_the_judge_doubts_by_hand(ranks):
    """One step fills all 12. 25% are 3 positions, 10% are 1; the judge doubts the right, probability the left. In the
    second row the 6 positions on the right are given: half as many, and none of them."""
    start = START.at[1, 6:].set(3)
    tokens, trace = decode(start, keys(2), REVISE, sure_of_earlier, ranks)
    assert places(trace, 0) == [[9, 10, 11], [11], []]
    assert places(trace, 1) == [[4, 5], [5], []]
    assert (tokens[1, 6:] == 3).all() and (tokens < K).all()
    assert places(decode(start, keys(2), REVISE, None, ranks)[1], 0) == [[0, 1, 2], [0], []]


def test_the_judge_is_asked_about_whole_pictures():
    """It is less sure of a position the greater its token: without hidden ones among them, 4s are hidden again."""

    def doubts_fours(tokens):
        return jnp.where((tokens == K).any(), jnp.nan, -1.0 * tokens)

    start = START.at[:, 6:].set(jnp.array([4, 4, 0, 0, 0, 0]))
    free = dataclasses.replace(REVISE, token_temperature=1e6)  # any token
    for seed in range(3):
        trace = decode(start, keys(2, seed), free, doubts_fours)[1]
        sampled, hidden = np.asarray(trace.tokens[0, 0]), np.asarray(trace.hidden[0, 0])
        assert hidden.sum() == 2 and not hidden[6:].any()
        assert sampled[:6][hidden[:6]].min() >= sampled[:6][~hidden[:6]].max()


def test_in_the_order_confidence_every_step_follows_the_judge():
    """Without noise, those that it doubts stay hidden: the same on the right, where the model is sure. A known token
    can be hidden again, if the judge changes its mind."""
    plain = dataclasses.replace(PLAIN, temperature=0.0, token_temperature=0.01)
    left = masking.decode_schedule(4, N)
    trace = decode(START, keys(2), plain, sure_of_earlier)[1]
    assert places(trace) == [list(range(N - n, N)) for n in left]
    assert places(decode(START, keys(2), plain)[1]) == [list(range(n)) for n in left]

    def ones_then_twos(tokens, t):
        first = jnp.isin((tokens == K).sum(-1, keepdims=True), jnp.array([N, N - 2]))  # all that is not given
        return 50.0 * jax.nn.one_hot(jnp.where(first, 1, 2) + 0 * tokens, K)

    def changing(tokens):  # beside a 2 it doubts every 1; else it is sure of the left
        return jnp.where((tokens == 1) & (tokens == 2).any(-1, keepdims=True), -99.0, -jnp.arange(N))

    start = START.at[1, 3:5].set(1)
    trace = decode(start, keys(2), plain, changing, model=ones_then_twos)[1]
    assert places(trace) == [[*range(1, N)], [0, *range(5, N)], [*range(8, N)], []]
    assert not np.asarray(trace.hidden)[:, 1, 3:5].any()  # given


def test_the_judges_score_has_the_same_noise():
    steps, temperature = 4, 3.0
    trace = decode(START, keys(2), dataclasses.replace(PLAIN, temperature=temperature), sure_of_earlier)[1]
    for image, key in enumerate(keys(2)):
        for s, count in enumerate(masking.decode_schedule(steps, N)):
            noise = jax.random.gumbel(jax.random.split(jax.random.fold_in(key, s))[1], (N,))
            score = -np.arange(N) + temperature * (1 - (s + 1) / steps) * noise
            assert set(np.argsort(score)[:count]) == set(np.flatnonzero(trace.hidden[s, image]))


@pytest.mark.parametrize(
    "changes, ranks, calls",
    [(dict(), None, 3), (dict(), 0, 0), (dict(revise=2), 0, 2), (dict(revise=2), None, 3), (dict(steps=1), None, 0)],
)
def test_how_often_the_judge_is_asked(changes, ranks, calls):
    asked = []

    def judge(tokens):
        jax.debug.callback(lambda: asked.append(1))
        return jnp.zeros(tokens.shape)

    ranks = None if ranks is None else jnp.arange(N)
    decode(START, keys(2), dataclasses.replace(PLAIN, **changes), judge, ranks)
    jax.effects_barrier()
    assert len(asked) == calls


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [dict(order="halton"), dict(order="random", steps=3), dict(steps=1)])
def test_a_critic_that_would_do_nothing_is_refused(changes):
    with pytest.raises(ValueError, match=r"\bcritic\b.*\brevise\b"):
        check_sampling(Sampling(critic=True, **dict(steps=4) | changes), N, K)
    assert not check_sampling(Sampling(**dict(steps=4) | changes), N, K).critic


@pytest.mark.parametrize("changes", [dict(), dict(order="halton", revise=1)])
def test_a_critic_that_does_something_is_taken(changes):
    assert check_sampling(Sampling(steps=4, critic=True, **changes), N, K).critic is True


# --- the critic of a checkpoint ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    preset = get_preset("micro")
    stages = dict(tokenizer=preset.tokenizer, base=preset.base, critic=preset.critic)
    return random_checkpoint(tmp_path_factory.mktemp("critic"), preset, stages)


@pytest.fixture(scope="module")
def muse(folder):
    return mm.Muse.from_pretrained(folder)


OPTIONS = dict(steps=3, revise=2, order="halton")


def draw(muse, **options):
    return muse.generate(["a cat", "a dog"], trace=True, **OPTIONS | options)


def test_the_critic_is_small():
    arrays = named_arrays(build("critic", CriticConfig())).values()
    assert sum(int(np.prod(x.shape)) for x in arrays) < 1_000_000


def test_sureness_is_the_log_of_the_probability_that_a_token_is_real(muse):
    base, head = muse.models["base"], muse.models["critic"]
    tokens, text, mask = transformer_inputs(muse.configs["base"], 2)
    tokens, condition = tokens % 64, base.condition((text, mask))
    logits = head(critic.features(base, tokens, condition))
    assert logits.shape == (2, 64) and logits.std() > 0.01
    np.testing.assert_allclose(np.exp(head.sureness(base, tokens, condition)), 1 / (1 + np.exp(logits)), rtol=1e-4)
    other = tokens.copy()
    other[0, 9] = (other[0, 9] + 1) % 64
    changed = head(critic.features(base, other, condition)) != logits
    assert changed[0].all() and not changed[1].any()  # a token is judged among all others of its picture


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_generate_revises_what_the_critic_doubts(muse, guidance):
    """The doubted places are those of the critic under the captions, without the unguided half."""
    plain, judged = draw(muse, guidance=guidance), draw(muse, guidance=guidance, critic=True)
    assert (judged.trace.tokens[0] == plain.trace.tokens[0]).all()
    condition = muse.models["base"].condition(muse.prompts(["a cat", "a dog"]).text)
    sure = muse.models["critic"].sureness(muse.models["base"], jnp.asarray(judged.trace.tokens[0]), condition)
    count = masking.revise_schedule(2, 64)[0]
    for row in range(2):
        assert set(np.argsort(sure[row])[:count]) == set(np.flatnonzero(judged.trace.hidden[0, row]))
    assert (judged.trace.hidden[0] != plain.trace.hidden[0]).any()


def test_a_critic_that_is_not_asked_changes_no_bit(muse):
    configs = {stage: config for stage, config in muse.configs.items() if stage != "critic"}
    without = mm.Muse(muse.text, configs, muse.models, muse.sampling, "t5-scenes")
    for options in (dict(), dict(order="confidence", revise=0)):
        one, other = draw(muse, **options), draw(without, **options)
        assert (one.tokens == other.tokens).all() and (one.trace.confidence == other.trace.confidence).all()
        assert (one.images == other.images).all()


def test_given_tokens_are_never_revised(muse, small):
    mask = np.zeros((64, 64), bool)
    mask[:32] = True
    for options in (OPTIONS, dict(steps=3, order="confidence")):
        found = muse.inpaint(small, mask, "a cat", trace=True, critic=True, **options)
        assert (found.tokens[0, 4:] == muse.tokenize(small[None])[0, 4:]).all()
    plain = muse.inpaint(small, mask, "a cat", trace=True, **OPTIONS)
    assert (muse.inpaint(small, mask, "a cat", trace=True, critic=True, **OPTIONS).tokens != plain.tokens).any()


def test_what_needs_a_critic_says_so(micro, muse, cascade):
    with pytest.raises(ValueError, match=r"\bcritic\b"):
        micro.generate("a cat", critic=True, **OPTIONS)
    with pytest.raises(ValueError, match=r"\bcritic\b.*\bhalton\b.*\brevise 0\b"):
        muse.generate("a cat", critic=True, order="halton")
    with pytest.raises(ValueError, match=r"\bcritic=True\b.*\bsuperres\b"):
        cascade.plan(options=SampleOptions(critic=(None, True)))
    with pytest.raises(TypeError, match=r"\bcritic\b"):
        muse.interpolate("a cat", "a dog", critic=True)
    prompts = muse.prompts("a cat")
    sampling = check_sampling(Sampling(steps=3, revise=1, critic=True), 64, 64)
    with pytest.raises(ValueError, match=r"\bcritic=True\b"):
        sample_tokens(muse.models["base"], sampling, Prompts(*prompts))


def test_a_saved_muse_keeps_its_critic(muse, tmp_path):
    own = dataclasses.replace(muse.sampling["base"], critic=True)
    mm.Muse(muse.text, muse.configs, muse.models, muse.sampling | dict(base=own), muse.text_name).save(tmp_path)
    copy = mm.Muse.from_pretrained(tmp_path)
    assert copy.configs == muse.configs and copy.configs["critic"] == CriticConfig(32, 2, 64)
    for name, value in named_arrays(copy.models["critic"]).items():
        assert (np.asarray(value) == np.asarray(named_arrays(muse.models["critic"])[name])).all()
    assert copy.sampling["base"].critic and copy.plan().stages["base"].critic and not muse.plan().stages["base"].critic
    assert "critic" not in copy.about and read_config(tmp_path)["critic"] == dataclasses.asdict(CriticConfig(32, 2, 64))
    card = sharing.model_card(muse, "a/b")
    assert "| critic |" in card


def test_a_critic_of_another_width_is_refused(muse):
    configs = muse.configs | dict(critic=CriticConfig(48, 2, 64))
    with pytest.raises(ValueError, match=r"(?=.*\b48\b).*\b32\b"):
        mm.Muse(muse.text, configs, muse.models | dict(critic=random_weights("critic", configs["critic"])), {}, "t")
