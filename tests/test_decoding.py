"""Guidance and parallel decoding, by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import decoding, masking
from minimuse.config import Sampling

K, N = 5, 12
START = jnp.full((2, N), K)
PLAIN = Sampling(steps=4, guidance=0.0, token_temperature=1.0)


def keys(batch, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(batch))


def flat(tokens, t):
    """A model without opinions."""
    return jnp.zeros((*tokens.shape, K))


@functools.partial(jax.jit, static_argnames="logits_fn")
def decode(tokens, keys, sampling=PLAIN, logits_fn=flat, ranks=None):
    """Tokens and trace; the mask's id is one past the codebook."""
    mask_id = jax.eval_shape(logits_fn, tokens, 0.0).shape[-1]
    return decoding.parallel_decode(logits_fn, tokens, keys, sampling, mask_id=mask_id, ranks=ranks, trace=True)


def with_(**changes):
    return dataclasses.replace(PLAIN, **changes)


# --- guidance -------------------------------------------------------------------------------------------------------


def test_guidance_by_hand():
    # (1 + t) l_c - t l_u with t = 2
    assert decoding.guide(jnp.array([1.0, 0.0]), jnp.array([0.5, 1.0]), 2.0).tolist() == [2.0, -2.0]
    c, u = jnp.array([0.3, 0.7]), jnp.array([0.9, 0.1])
    assert (decoding.guide(c, u, 0.0) == c).all()  # no guidance: the conditional model
    assert np.allclose(decoding.guide(c, c, 5.0), c)  # the negative equal to the caption: no guidance


def test_both_halves_by_hand():
    one, two = (np.array([[1, 2]]), np.array([True])), (np.array([[3, 4]]), np.array([False]))
    tokens, mask = decoding.both_halves(one, two)
    assert tokens.tolist() == [[1, 2], [3, 4]] and mask.tolist() == [True, False]


def test_guided_predict_by_hand():
    x, seen = jnp.array([[1.0, 2.0]]), []

    def predict(x):  # twice what it is given for the conditional half, three times for the other
        seen.append(x.tolist())
        return x * jnp.array([[2.0], [3.0]])[: len(x)]

    assert decoding.guided_predict(predict, False)(x, 9.0).tolist() == [[2.0, 4.0]]  # t is not used
    assert decoding.guided_predict(predict, True)(x, 1.0).tolist() == [[1.0, 2.0]]  # 2 (2, 4) - (3, 6)
    assert decoding.guided_predict(predict, True)(x, 0.0).tolist() == [[2.0, 4.0]]
    assert seen == [[[1, 2]], [[1, 2], [1, 2]], [[1, 2], [1, 2]]]


def test_guided_predict_passes_on_what_else_is_predicted():
    def predict(x):  # x is a tree, too
        a, b = x
        return a + b, dict(count=b)

    x = jnp.array([1.0]), jnp.array([2.0])
    for guided, count in ((False, [2.0]), (True, [2.0, 2.0])):
        answers, aux = decoding.guided_predict(predict, guided, has_aux=True)(x, 5.0)
        assert answers.tolist() == [3.0] and aux["count"].tolist() == count


def test_guidance_rises_linearly_to_its_end_or_is_constant():
    def model(tokens, t):  # the sampled token shows t
        return 50.0 * jax.nn.one_hot(jnp.broadcast_to(t, tokens.shape).astype(int), K)

    for ramp, expected in ((True, [1, 2, 3, 4]), (False, [4, 4, 4, 4])):
        trace = decode(START, keys(2), with_(guidance=4.0, ramp=ramp), model)[1]
        before = np.concatenate([np.ones((1, 2, N), bool), trace.hidden[:-1]])
        assert [set(sampled[hidden]) for sampled, hidden in zip(np.asarray(trace.tokens), before)] == [
            {t} for t in expected
        ]


def showing_t(tokens, t):
    """The sampled token shows t; 0 for a step outside the guidance interval."""
    return 50.0 * jax.nn.one_hot(jnp.broadcast_to(0 if t is None else t, tokens.shape).astype(int), K)


@pytest.mark.parametrize(
    "changes, expected",
    [
        (dict(), [1, 2, 3, 4]),
        (dict(guided_from=0.5), [0, 0, 3, 4]),
        (dict(guided_to=0.25), [1, 0, 0, 0]),
        (dict(guided_from=0.25, guided_to=0.75), [0, 2, 3, 0]),
        (dict(guided_from=0.5, ramp=False), [0, 0, 4, 4]),
        (dict(revise=2), [2, 4, 4, 4]),  # the ramp ends with the schedule
        (dict(revise=2, guided_from=0.25, guided_to=0.75), [0, 4, 4, 0]),
    ],
)
def test_only_steps_in_the_interval_are_guided(changes, expected):
    trace = decode(START, keys(2), with_(guidance=4.0, **changes), showing_t)[1]
    before = np.concatenate([np.ones((1, 2, N), bool), trace.hidden[:-1]])
    found = [set(sampled[hidden]) for sampled, hidden in zip(np.asarray(trace.tokens), before)]
    assert found == [{t} for t in expected]


@pytest.mark.parametrize(
    "steps, begin, end, expected",
    [
        (12, 0.0, 1.0, range(12)),
        (12, 0.5, 1.0, range(6, 12)),
        (10, 0.0, 0.7, range(7)),  # 10 times 0.7 is a little above 7 as a float
        (4, 0.3, 0.35, range(1, 2)),  # a short interval guides the step that it lies in
        (3, 0.5, 1.0, range(1, 3)),
        (1, 0.5, 0.6, range(1)),
        (4, 0.5, 0.5 + 1e-9, range(2, 3)),
        (4, 1 - 1e-9, 1.0, range(3, 4)),
    ],
)
def test_guided_steps_by_hand(steps, begin, end, expected):
    assert decoding.guided_steps(with_(steps=steps, guided_from=begin, guided_to=end)) == expected


# --- sampling tokens ------------------------------------------------------------------------------------------------


def test_tokens_are_sampled_with_their_probabilities():
    logits = jnp.log(jnp.array([0.5, 0.0, 0.2, 0.3]))
    sampled, p = decoding.draw_tokens(keys(40), jnp.broadcast_to(logits, (40, 500, 4)))
    assert np.allclose(np.bincount(sampled.reshape(-1), minlength=4) / 20_000, [0.5, 0, 0.2, 0.3], atol=0.015)
    assert np.allclose(p, jnp.array([0.5, 0.0, 0.2, 0.3])[sampled], atol=1e-6)


def test_the_temperature_changes_what_is_sampled_but_not_its_probability():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.5, 0.0, 0.3])), (40, 500, 4))
    sampled, p = decoding.draw_tokens(keys(40), logits, temperature=0.5)
    expected = np.array([0.04, 0.25, 0, 0.09]) / 0.38  # squares
    assert np.allclose(np.bincount(sampled.reshape(-1), minlength=4) / 20_000, expected, atol=0.015)
    assert np.allclose(p, jnp.array([0.2, 0.5, 0.0, 0.3])[sampled], atol=1e-6)


def test_a_lower_token_temperature_prefers_more_likely_tokens():
    """p = (1/4, 3/4) sampled at temperature 1/2: in proportion to the squares, so (1/10, 9/10)."""

    def model(tokens, t):
        return jnp.broadcast_to(jnp.log(jnp.array([1.0, 3.0])), (*tokens.shape, 2))

    for temperature, expected in ((1.0, 0.75), (0.5, 0.9), (0.01, 1.0)):
        sampling = with_(steps=1, token_temperature=temperature)
        tokens, _ = decode(jnp.full((2000, 8), 2), keys(2000), sampling, model)
        assert np.mean(tokens) == pytest.approx(expected, abs=0.015)


def test_top_k_by_hand():
    logits = jnp.array([[0.0, 3.0, 1.0, 2.0], [5.0, 5.0, 1.0, 5.0]])
    kept = decoding.keep_most_likely(logits, 2)
    assert (kept[0] == jnp.array([-jnp.inf, 3.0, -jnp.inf, 2.0])).all()
    assert (kept[1] == jnp.array([5.0, 5.0, -jnp.inf, 5.0])).all()  # the third equals the second
    assert (decoding.keep_most_likely(logits, 4) == logits).all()


def test_top_k_never_samples_another_token():
    """Of p = (.4, .3, .2, .1) the first two remain, in proportion: 4/7 and 3/7."""

    def model(tokens, t):
        return jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.4, 0.1, 0.3])), (*tokens.shape, 4))

    tokens, trace = decode(jnp.full((2000, 8), 4), keys(2000), with_(steps=2, top_k=2), model)
    assert np.allclose(np.bincount(tokens.reshape(-1), minlength=4) / 16_000, [0, 4 / 7, 0, 3 / 7], atol=0.015)
    # The confidence is the model's own probability all the same.
    assert sorted({float(p) for p in np.round(trace.confidence[0].ravel(), 4)}) == pytest.approx([0.3, 0.4], abs=1e-3)
    one, _ = decode(jnp.full((9, 8), 4), keys(9), with_(steps=2, top_k=1), model)
    assert (one == 1).all()


# --- which positions are revealed -----------------------------------------------------------------------------------


def test_hiding_the_least_confident_by_hand():
    confidence = jnp.array([[0.9, 0.1, 0.5, jnp.inf], [0.2, 0.3, 0.4, 0.1]])
    hidden = [[False, True, True, False], [True, False, False, True]]
    assert decoding.hide_least_confident(confidence, 2).tolist() == hidden
    assert decoding.hide_least_confident(confidence, jnp.array([[0], [3]])).sum(-1).tolist() == [0, 3]


@pytest.mark.parametrize("changes", [dict(steps=1), dict(), dict(steps=12), dict(law="square root")])
def test_counts_follow_the_schedule(changes):
    sampling = with_(**changes)
    tokens, trace = decode(START, keys(2), sampling)
    schedule = masking.decode_schedule(sampling.steps, N, sampling.law)
    assert trace.hidden.sum(-1).tolist() == [[n] * 2 for n in schedule]
    assert (tokens < K).all()


def test_every_step_reveals_a_position_of_every_row_until_none_is_hidden():
    """Of 12 positions are hidden after 6 steps 11, 10, 8, 6, 3, 0. Scaled to 6, that is 5, 5, 4, 3, 1, 0; to 3, it is
    2, 2, 2, 1, 0, 0; to 1, none at once; and each step reveals at least one."""
    hidden = jnp.arange(N) < jnp.array([12, 6, 3, 1, 0])[:, None]
    tokens, trace = decode(jnp.where(hidden, K, 2), keys(5), with_(steps=6))
    assert trace.hidden.sum(-1).T.tolist() == [
        [11, 10, 8, 6, 3, 0],
        [5, 4, 3, 2, 1, 0],
        [2, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert (tokens < K).all() and (np.where(hidden, 2, tokens) == 2).all()


def test_known_tokens_never_change_and_hidden_positions_only_become_fewer():
    start = START.at[:, :5].set(jnp.array([4, 3, 2, 1, 0])).at[1, 5:9].set(2)
    for seed in range(5):
        tokens, trace = decode(start, keys(2, seed))
        known = start != K
        assert (jnp.where(known, tokens, start) == start).all() and (tokens < K).all()
        assert (jnp.where(known, trace.confidence, 1.0) == 1.0).all()
        hidden = np.concatenate([~np.asarray(known)[None], trace.hidden])
        assert not (hidden[1:] & ~hidden[:-1]).any()
        kept = ~hidden[1:-1]  # what a step kept, the next ones keep
        assert (np.asarray(trace.tokens)[1:][kept] == np.asarray(trace.tokens)[:-1][kept]).all()


def test_where_nothing_is_hidden_nothing_changes():
    start = jnp.arange(2 * N).reshape(2, N) % K
    assert (decode(start, keys(2))[0] == start).all()


def test_an_image_is_the_same_in_any_batch():
    start = jnp.full((4, N), K)
    together = decode(start, keys(4))[0]
    assert (decode(start[:1], keys(1))[0] == together[:1]).all()
    assert (decode(start[:2], keys(4)[2:])[0] == together[2:]).all()
    assert (decode(start, keys(4, seed=1))[0] != together).any()


def sure_of_later(tokens, t):
    """The further right, the more confident."""
    return jnp.zeros((*tokens.shape, K)).at[..., 0].set(jnp.arange(tokens.shape[1]) * 1.0)


def test_without_noise_the_most_confident_come_first():
    trace = decode(jnp.full((4, N), K), keys(4), with_(temperature=0.0), sure_of_later)[1]
    revealed = ~np.asarray(trace.hidden[1])  # after the second of four steps
    assert revealed[:, :4].sum() <= revealed[:, -4:].sum() - 4


def test_noise_fades_with_the_ratio_and_does_not_compound():
    """At step s of T the noise is temperature (1 - (s + 1) / T), whatever it was before."""
    steps, temperature = 4, 3.0
    trace = decode(START, keys(2), with_(temperature=temperature))[1]
    for image, key in enumerate(keys(2)):
        known = np.zeros(N, bool)
        for s in range(steps):
            noise = jax.random.gumbel(jax.random.split(jax.random.fold_in(key, s))[1], (N,))
            score = np.log(1 / K) + temperature * (1 - (s + 1) / steps) * noise
            score = np.where(known, np.inf, score)
            count = masking.decode_schedule(steps, N)[s]
            hidden = np.zeros(N, bool)
            hidden[np.argsort(score, kind="stable")[:count]] = True
            assert (hidden == np.asarray(trace.hidden[s, image])).all()
            known = ~hidden


# --- revising -------------------------------------------------------------------------------------------------------


def places(trace, image=0):
    """Which positions are hidden after each step."""
    return [np.flatnonzero(hidden).tolist() for hidden in np.asarray(trace.hidden[:, image])]


def test_revising_hides_the_least_sure_again_by_hand():
    """One step fills all 12. The least sure are on the left: 25% are 3 positions, 10% are 1. In a row with 6 known
    tokens half as many, rounded up."""
    start = START.at[1, :6].set(3)
    tokens, trace = decode(start, keys(2), with_(steps=3, revise=2, token_temperature=0.01), sure_of_later)
    assert places(trace, 0) == [[0, 1, 2], [0], []]
    assert places(trace, 1) == [[6, 7], [6], []]
    assert (tokens[1, :6] == 3).all() and (tokens < K).all()
    assert (np.asarray(trace.confidence)[1, 0, 3:] == 1).all() and (np.asarray(trace.confidence)[1, 0, :3] < 1).all()


def test_revised_tokens_have_their_new_probability():
    """Seen again, a position is sure; so the next pass revises another."""

    def model(tokens, t):
        again = (jnp.sum(tokens == K, -1) < N)[:, None]
        return sure_of_later(tokens, t).at[..., 0].add(jnp.where(again, 99.0, 0.0))

    trace = decode(START, keys(2), with_(steps=3, revise=2, token_temperature=0.01), model)[1]
    assert places(trace) == [[0, 1, 2], [3], []]


@pytest.mark.parametrize("order", ["confidence", "halton"])
def test_revising_follows_the_decoding_of_fewer_steps(order):
    start, ranks = START.at[1, :5].set(1), decoding.order_ranks(order, (3, 4), keys(2))
    short, plain = decode(start, keys(2), with_(steps=3, guidance=2.0), ranks=ranks)
    tokens, trace = decode(start, keys(2), with_(steps=5, revise=2, guidance=2.0), ranks=ranks)
    assert (trace.tokens[:3] == plain.tokens).all() and (trace.hidden[:2] == plain.hidden[:2]).all()
    assert trace.hidden.sum(-1)[2:].tolist() == [[3, 2], [1, 1], [0, 0]]
    again = np.asarray(trace.hidden[2] | trace.hidden[3])
    assert (np.where(again, short, tokens) == short).all() and not again[1, :5].any()
    assert (trace.tokens[-1] == tokens).all()


def test_a_row_with_nothing_to_fill_has_nothing_to_revise():
    start = START.at[0].set(2).at[1, 1:].set(2)
    tokens, trace = decode(start, keys(2), with_(revise=2))
    assert trace.hidden.sum(-1).T.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    assert (tokens[0] == 2).all() and (tokens[1, 1:] == 2).all()


# --- orders -----------------------------------------------------------------------------------------------------------


def test_halton_order_by_hand():
    """4 columns by 3 rows; the points have x = 1/2, 1/4, 3/4, 1/8 (base 2) and y = 1/3, 2/3, 1/9, 4/9 (base 3)."""
    ranks = decoding.halton_ranks(3, 4).reshape(3, 4)
    assert ranks[1, 2] == 0 and ranks[2, 1] == 1 and ranks[0, 3] == 2 and ranks[1, 0] == 3
    for h, w in ((1, 1), (2, 3), (8, 8), (5, 7), (32, 32)):
        assert sorted(decoding.halton_ranks(h, w)) == list(range(h * w))


def test_the_halton_order_spreads():
    """Each quarter of a 16 x 16 grid gets its share of any beginning of the order."""
    ranks = decoding.halton_ranks(16, 16).reshape(16, 16)
    for count in (16, 36, 100):
        shares = [(ranks[y : y + 8, x : x + 8] < count).sum() for y in (0, 8) for x in (0, 8)]
        assert max(shares) - min(shares) <= 3, shares


def test_ranks_decide_the_order_and_counts_stay():
    ranks = decoding.halton_ranks(3, 4)
    trace = decode(START.at[1, :6].set(1), keys(2), ranks=jnp.asarray(ranks))[1]
    left = masking.decode_schedule(4, N)
    assert trace.hidden.sum(-1).tolist() == [[n, n * 6 // N] for n in left]
    for s, n in enumerate(left):
        assert (np.asarray(trace.hidden[s, 0]) == (ranks >= N - n)).all()
        assert not np.asarray(trace.hidden[s, 1, :6]).any()  # known ones first, whatever their rank


def test_random_orders_differ_from_image_to_image_but_not_from_batch_to_batch():
    ranks = decoding.order_ranks("random", (3, 4), keys(3))
    assert ranks.shape == (3, N) and (jnp.sort(ranks) == jnp.arange(N)).all()
    assert (ranks[0] != ranks[1]).any()
    assert (decoding.order_ranks("random", (3, 4), keys(3)[1:]) == ranks[1:]).all()
    assert decoding.order_ranks("confidence", (3, 4), keys(3)) is None
    assert (decoding.order_ranks("halton", (3, 4), keys(3)) == decoding.halton_ranks(3, 4)).all()
    with pytest.raises(ValueError, match="spiral.*halton"):
        decoding.order_ranks("spiral", (3, 4), keys(3))


def test_a_trace_costs_nothing_when_it_is_off():
    """The compiled program returns the tokens and nothing else."""
    plain = functools.partial(decoding.parallel_decode, flat, sampling=PLAIN, mask_id=K)
    tokens, trace = jax.eval_shape(plain, START, keys(2))
    assert tokens.shape == (2, N) and trace is None
