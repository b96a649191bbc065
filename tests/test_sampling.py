"""Settings of sampling: what is refused, pairs for two stages, and how they reach a model."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from minimuse import decoding, layers, masking
from minimuse.config import BASE_ONLY, SampleOptions, Sampling
from minimuse.decoding import Prompts, check_sampling, sample_tokens
from minimuse.prompting import with_options
from minimuse.stepwise import in_groups

K, N = 5, 6

# Another value than the record's own for every option.
OTHER = dict(
    steps=3,
    guidance=2.5,
    ramp=False,
    temperature=1.5,
    token_temperature=0.75,
    top_k=2,
    law="linear",
    order="halton",
    guided_from=0.5,
    guided_to=0.75,
    revise=2,
    critic=True,
)


# --- what is taken and what is refused ------------------------------------------------------------------------------


def test_numbers_become_floats_and_guided_is_set_from_guidance():
    checked = check_sampling(Sampling(steps=np.int64(3), guidance=2, temperature=np.float32(1)), N, K)
    assert checked == Sampling(steps=3, guidance=2.0, temperature=1.0)
    assert [type(checked.steps), type(checked.guidance), type(checked.temperature)] == [int, float, float]
    assert not check_sampling(Sampling(steps=3, guidance=0.0, guided=True), N, K).guided
    checked = check_sampling(Sampling(steps=3, guided_from=np.float32(0.5), guided_to=1, revise=np.int64(2)), N, K)
    assert [checked.guided_from, checked.guided_to, checked.revise] == [0.5, 1.0, 2] and checked.guided
    assert [type(checked.guided_from), type(checked.guided_to), type(checked.revise)] == [float, float, int]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(steps=7), r"\bsteps\b.*\b6\b.*\b7\b"),
        (dict(steps=True), r"\bsteps\b.*True"),
        (dict(top_k=6), r"\btop_k\b.*\b5\b.*\b6\b"),
        (dict(guidance=2e6), r"\bguidance\b.*2000000"),
        (dict(temperature=None), r"\btemperature\b.*None"),
        (dict(law=None), r"\blaw\b.*None.*cosine"),
        (dict(guided_from=-0.5), r"\bguided_from\b.*-0\.5"),
        (dict(guided_to=1.5), r"\bguided_to\b.*\b1\.5"),
        (dict(guided_from=0.75, guided_to=0.5), r"\bguided_from\b.*\b0\.75 .*\b0\.5"),
        (dict(guided_from=float("nan")), r"\bguided_from\b.*\bnan\b"),
        (dict(guided_to="half"), r"\bguided_to\b.*'half'"),
        (dict(revise=3), r"\brevise\b.*\b2\b.*\b3\b"),  # of 3 steps, one must fill
        (dict(revise=-1), r"\brevise\b.*-1\b"),
    ],
)
def test_a_record_outside_its_limits_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_sampling(dataclasses.replace(Sampling(steps=3), **changes), N, K)


def test_every_option_has_another_value_here():
    assert OTHER.keys() == SampleOptions.__annotations__.keys()
    assert all(getattr(Sampling(), name) != value for name, value in OTHER.items())


@pytest.mark.parametrize("name", OTHER)
def test_one_value_is_the_bases_or_both_stages(name):
    own, value = Sampling(), OTHER[name]
    changed = dataclasses.replace(own, **{name: value})
    assert with_options(own, {name: value}, 0) == changed
    assert with_options(own, {name: value}, 1) == (own if name in BASE_ONLY else changed)


@pytest.mark.parametrize("name", OTHER)
def test_a_pair_is_one_value_for_each_stage_and_none_the_checkpoints_own(name):
    own, value = Sampling(), OTHER[name]
    changed = dataclasses.replace(own, **{name: value})
    for pair, expected in (
        ((value, None), (changed, own)),
        ((None, value), (own, changed)),
        ([value, value], (changed, changed)),
        ((None, None), (own, own)),
        (None, (own, own)),
    ):
        assert tuple(with_options(own, {name: pair}, stage) for stage in (0, 1)) == expected
    for wrong in ((), (value,), (value,) * 3):
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            with_options(own, {name: wrong}, 0)


def test_fewer_steps_revise_less_unless_revise_is_given():
    own = Sampling(steps=16, revise=4)
    found = {steps: with_options(own, dict(steps=steps), 0).revise for steps in (1, 3, 8, 12, 16, np.int64(24))}
    assert found == {1: 0, 3: 0, 8: 2, 12: 3, 16: 4, 24: 4}
    assert with_options(own, dict(steps=8, revise=5), 0).revise == 5
    assert with_options(own, dict(steps=(8, 6)), 1).revise == 1
    assert with_options(own, dict(guidance=1.0), 0).revise == 4


def test_an_unknown_option_is_named():
    for stage in (0, 1):
        with pytest.raises(TypeError, match=r"'guidence'.*\bguidance\b"):
            with_options(Sampling(), dict(guidence=1.0), stage)
        with pytest.raises(TypeError, match="'guided'"):  # a field, but not an option
            with_options(Sampling(), dict(guided=False), stage)


# --- with a model ---------------------------------------------------------------------------------------------------


class Toy(nnx.Module):
    """A model by hand: a table of logits, plus `strength` times the code, for which the text's numbers are added up."""

    def __init__(self, h: int, w: int, *, rngs: nnx.Rngs):
        self.grid, self.mask_id = (h, w), K
        self.table = nnx.Param(jax.random.normal(rngs.params(), (h * w, K)))

    def condition(self, text, low=None):
        embeddings, mask = text
        strength = (embeddings[..., 0] * mask).sum(-1)
        return (strength if low is None else strength + jnp.tile(low.sum(-1), len(strength) // len(low)),)

    def first_half(self, condition):
        return tuple(x[: len(x) // 2] for x in condition)

    def __call__(self, tokens, strength):
        return self.table[...] + strength[:, None, None] * jnp.arange(K)


class ToyCritic(nnx.Module):
    """Doubts great tokens, the more the stronger the caption."""

    def sureness(self, model, tokens, condition):
        return -tokens * (10.0 + condition[0][:, None])


def prompts(strength, negative=0.0, batch=2):
    """Captions of these strengths, in two words and one of padding."""
    embeddings = lambda s: jnp.full((batch, 3, 1), s / 2).at[:, 2].set(9.0)
    mask = jnp.broadcast_to(jnp.arange(3) < 2, (batch, 3))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(batch))
    return Prompts((embeddings(strength), mask), (embeddings(negative), mask), keys)


@pytest.fixture(scope="module")
def toy():
    return layers.init(Toy, 2, 3)


def run(toy, prompts, low=None, start=None, **options):
    sampling = check_sampling(dataclasses.replace(Sampling(steps=4, token_temperature=1.0), **options), N, K)
    critic = ToyCritic() if sampling.critic else None
    return sample_tokens(toy, sampling, prompts, low, start, critic=critic, trace=True)


def test_guidance_mixes_the_two_halves(toy):
    """(1 + t) s_c - t s_u: with t = 2, strengths of 1 and 0.5 are one of 2."""
    guided, _ = run(toy, prompts(1.0, 0.5), guidance=2.0, ramp=False)
    alone, _ = run(toy, prompts(2.0, 7.0), guidance=0.0)
    assert guided.shape == (2, N) and (guided == alone).all()
    assert (run(toy, prompts(1.0, -0.5), guidance=2.0, ramp=False)[0] != guided).any()


def test_the_unguided_half_is_left_out_outside_the_interval(monkeypatch):
    """Rows of the batches that the model is called with, while the program is traced."""
    seen, call = set(), Toy.__call__
    monkeypatch.setattr(Toy, "__call__", lambda self, tokens, *rest: seen.add(len(tokens)) or call(self, tokens, *rest))
    other = layers.init(Toy, 3, 2)  # traced here only
    for options, rows in (
        (dict(), {4}),
        (dict(guided_from=0.5), {4, 2}),
        (dict(guided_from=0.5, guidance=0.0), {2}),
    ):
        seen.clear()
        sampling = check_sampling(Sampling(**dict(steps=4, guidance=2.0) | options), N, K)
        jax.eval_shape(sample_tokens, other, sampling, prompts(1.0, 0.5))
        assert seen == rows, options


def test_steps_outside_the_interval_are_those_without_guidance(toy):
    """In the order of Halton the same positions are hidden, whatever is sampled."""
    given, options = prompts(0.5, -0.5), dict(order="halton", ramp=False)
    free, guided, mixed = (
        run(toy, given, **options, **changes)[1]
        for changes in (dict(guidance=0.0), dict(guidance=3.0), dict(guidance=3.0, guided_from=0.25, guided_to=0.75))
    )
    before = np.concatenate([np.ones((1, 2, N), bool), mixed.hidden[:-1]])
    for s, expected in enumerate((free, guided, guided, free)):
        assert (np.asarray(mixed.tokens[s] == expected.tokens[s])[before[s]]).all()
        np.testing.assert_allclose(mixed.confidence[s], expected.confidence[s], rtol=1e-5)
    assert (free.confidence[0] != guided.confidence[0]).any()


def test_low_and_start_reach_the_model_and_the_decoder(toy):
    low = jnp.array([[3, 4], [-3, -4]])
    high, lowest = run(toy, prompts(0.0), low, guidance=0.0)[0]
    assert (high == K - 1).all() and (lowest == 0).all()
    start = jnp.array([[0, 1, K, K, 4, 4], [K, K, K, K, K, 2]])
    tokens, trace = run(toy, prompts(0.0), low, start, guidance=0.0)
    assert tokens.tolist() == [[0, 1, 4, 4, 4, 4], [0, 0, 0, 0, 0, 2]]
    assert not np.asarray(trace.hidden)[:, start != K].any()


@pytest.mark.parametrize("name", OTHER)
def test_every_option_reaches_the_decoder(toy, name):
    """With another value, other tokens, confidences or positions."""
    given = prompts(0.5, -0.5)
    plain = run(toy, given, guidance=1.0)
    changed = run(toy, given, **dict(guidance=1.0) | {name: OTHER[name]})
    if name == "steps":
        assert changed[1].hidden.shape == (3, 2, N)
        return
    differs = [np.asarray(a != b).any() for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(changed))]
    assert any(differs)
    if name == "law":
        schedule = masking.decode_schedule(4, N, "linear").tolist()
        assert changed[1].hidden.sum(-1)[:, 0].tolist() == schedule == [4, 3, 1, 0]
    if name == "order":
        left = masking.decode_schedule(4, N)[0]
        assert (np.asarray(changed[1].hidden[0]) == (decoding.halton_ranks(2, 3) >= N - left)).all()


def test_modules_and_numbers_of_one_kind_share_a_program(toy):
    given = prompts(0.5, -0.5)
    run(toy, given, guidance=1.0)
    before = sample_tokens._cache_size()
    for seed in (1, 2):
        numbers = dict(guidance=seed / 2, ramp=seed == 1, temperature=0.0, token_temperature=0.1 * seed)
        run(layers.init(Toy, 2, 3, seed=seed), prompts(seed, 1.0), **numbers)
    assert sample_tokens._cache_size() == before


# --- groups ---------------------------------------------------------------------------------------------------------


def groups(tokens, batch, trace=False, **changes):
    """How many pictures are in each group; together the groups are the batch."""
    inputs = prompts(1.0, batch=batch), jnp.arange(batch)[:, None], None
    found = list(in_groups(tokens, dataclasses.replace(Sampling(), **changes), inputs, trace=trace))
    assert np.concatenate([low for _, low, _ in found]).ravel().tolist() == list(range(batch))
    assert all(start is None and len(own.text[0]) == len(low) for own, low, start in found)
    keys = np.concatenate([jax.random.key_data(own.keys) for own, _, _ in found])
    assert (keys == jax.random.key_data(inputs[0].keys)).all()
    return [len(low) for _, low, _ in found]


def test_groups_fit_a_cache_of_a_cpu():
    assert groups(1024, 4, guided=False) == [2, 2]  # 2048 image tokens at once
    assert groups(1024, 4, guided=True) == [1, 1, 1, 1]  # guidance counts each token twice
    assert groups(64, 4) == [4] and groups(64, 32) == [16, 16]
    assert groups(4096, 2) == [1, 1]  # one picture at least


def test_batches_that_cannot_be_split_are_one_group():
    assert groups(1024, 3, guided=False) == [3]
    assert groups(1024, 4, trace=True) == [4]
    assert groups(1024, 4, guidance=np.zeros((4, 1, 1))) == [4]


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_tokens_are_the_same_in_groups(guidance):
    large = layers.init(Toy, 32, 32)
    sampling = check_sampling(Sampling(steps=2, guidance=guidance, token_temperature=1.0), math.prod(large.grid), K)
    inputs = prompts(0.1, -0.1, batch=4), jnp.array([[0], [1], [0], [1]]), None
    parts = [sample_tokens(large, sampling, *group)[0] for group in in_groups(1024, sampling, inputs)]
    assert len(parts) == (4 if guidance else 2)
    whole, _ = sample_tokens(large, sampling, *inputs)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole, axis=0)) == 4
