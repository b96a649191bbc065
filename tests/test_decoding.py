"""Parallel decoding and guidance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import decoding, masking

K, N = 5, 12


def keys(batch, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(batch))


def flat(tokens, t):
    """A model without opinions."""
    return jnp.zeros((*tokens.shape, K))


@functools.partial(jax.jit, static_argnames=("logits_fn", "steps"))
def decode(tokens, keys, steps=4, logits_fn=flat, guidance=0.0, temperature=4.5):
    return decoding.parallel_decode(
        logits_fn, tokens, keys, mask_id=K, steps=steps, guidance=guidance, temperature=temperature, trace=True
    )


def test_guidance_by_hand():
    # (1 + t) l_c - t l_u with t = 2
    assert decoding.guide(jnp.array([1.0, 0.0]), jnp.array([0.5, 1.0]), 2.0).tolist() == [2.0, -2.0]
    c, u = jnp.array([0.3, 0.7]), jnp.array([0.9, 0.1])
    assert (decoding.guide(c, u, 0.0) == c).all()  # no guidance: the conditional model
    assert np.allclose(decoding.guide(c, c, 5.0), c)  # the negative equal to the caption: no guidance


def test_tokens_are_drawn_with_their_probabilities():
    logits = jnp.log(jnp.array([0.5, 0.0, 0.2, 0.3]))
    drawn, p = decoding.draw_tokens(keys(40), jnp.broadcast_to(logits, (40, 500, 4)))
    assert np.allclose(np.bincount(drawn.reshape(-1), minlength=4) / 20_000, [0.5, 0, 0.2, 0.3], atol=0.015)
    assert np.allclose(p, jnp.array([0.5, 0.0, 0.2, 0.3])[drawn], atol=1e-6)


def test_the_temperature_changes_what_is_drawn_but_not_its_probability():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.5, 0.3])), (40, 500, 3))
    drawn, p = decoding.draw_tokens(keys(40), logits, temperature=0.5)
    expected = np.array([0.04, 0.25, 0.09]) / 0.38  # squares
    assert np.allclose(np.bincount(drawn.reshape(-1), minlength=3) / 20_000, expected, atol=0.015)
    assert np.allclose(p, jnp.array([0.2, 0.5, 0.3])[drawn], atol=1e-6)


def test_a_lower_token_temperature_prefers_likelier_tokens():
    """p = (1/4, 3/4) drawn at temperature 1/2: in proportion to the squares, so (1/10, 9/10)."""

    def model(tokens, t):
        return jnp.broadcast_to(jnp.log(jnp.array([1.0, 3.0])), (*tokens.shape, 2))

    hidden = jnp.full((2000, 8), 2)
    for temperature, expected in ((1.0, 0.75), (0.5, 0.9), (0.01, 1.0)):
        options = dict(mask_id=2, steps=1, token_temperature=temperature)
        tokens, _ = decoding.parallel_decode(model, hidden, keys(2000), **options)
        assert np.mean(tokens) == pytest.approx(expected, abs=0.015)


def test_hiding_the_least_confident_by_hand():
    confidence = jnp.array([[0.9, 0.1, 0.5, jnp.inf], [0.2, 0.3, 0.4, 0.1]])
    hidden = [[False, True, True, False], [True, False, False, True]]
    assert decoding.hide_least_confident(confidence, 2).tolist() == hidden
    assert decoding.hide_least_confident(confidence, jnp.array([[0], [3]])).sum(-1).tolist() == [0, 3]


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_counts_follow_the_schedule(steps):
    tokens, trace = decode(jnp.full((3, N), K), keys(3), steps)
    assert trace.hidden.sum(-1).tolist() == [[n] * 3 for n in masking.decode_schedule(steps, N)]
    assert (tokens < K).all()


def test_known_tokens_are_never_changed_and_hidden_shrinks_only():
    start = jnp.full((2, N), K).at[:, :5].set(jnp.array([4, 3, 2, 1, 0])).at[1, 5:9].set(2)
    for seed in range(5):
        tokens, trace = decode(start, keys(2, seed), 3)
        known = start != K
        assert (jnp.where(known, tokens, start) == start).all() and (tokens < K).all()
        assert (jnp.where(known, trace.confidence, 1.0) == 1.0).all()
        hidden = np.concatenate([~np.asarray(known)[None], trace.hidden])
        assert not (hidden[1:] & ~hidden[:-1]).any()
        kept = ~hidden[1:-1]  # what a step kept, the next ones keep
        assert (np.asarray(trace.tokens)[1:][kept] == np.asarray(trace.tokens)[:-1][kept]).all()


def test_nothing_to_fill_is_left_alone():
    start = jnp.arange(2 * N).reshape(2, N) % K
    assert (decode(start, keys(2))[0] == start).all()


def test_an_image_is_the_same_in_any_batch():
    start = jnp.full((4, N), K)
    together = decode(start, keys(4))[0]
    assert (decode(start[:1], keys(1))[0] == together[:1]).all()
    assert (decode(start[:2], keys(4)[2:])[0] == together[2:]).all()
    assert (decode(start, keys(4, seed=1))[0] != together).any()


def test_guidance_rises_linearly_to_its_end():
    seen = []

    def spy(tokens, t):
        jax.debug.callback(lambda t: seen.append(float(t)), t, ordered=True)
        return flat(tokens, t)

    jax.block_until_ready(decode(jnp.full((1, N), K), keys(1), 4, spy, guidance=8.0))
    jax.effects_barrier()
    assert np.allclose(seen, [2, 4, 6, 8])


def sure_of_later(tokens, t):
    """The further right, the surer."""
    return jnp.zeros((*tokens.shape, K)).at[..., 0].set(jnp.arange(tokens.shape[1]) * 1.0)


def test_without_noise_the_surest_come_first():
    trace = decode(jnp.full((4, N), K), keys(4), 3, sure_of_later, temperature=0.0)[1]
    revealed = ~np.asarray(trace.hidden[0])
    assert revealed[:, :4].sum() <= revealed[:, -4:].sum() - 4


def test_noise_fades_with_the_ratio_and_does_not_compound():
    """At step s of T the noise is temperature (1 - (s + 1) / T), whatever it was before."""
    tokens, steps, temperature = jnp.full((1, N), K), 4, 3.0
    trace = decode(tokens, keys(1), steps, flat, temperature=temperature)[1]
    key, known = keys(1)[0], np.zeros(N, bool)
    for s in range(steps):
        noise = jax.random.gumbel(jax.random.split(jax.random.fold_in(key, s))[1], (N,))
        score = np.log(1 / K) + temperature * (1 - (s + 1) / steps) * noise
        score = np.where(known, np.inf, score)
        count = masking.decode_schedule(steps, N)[s]
        hidden = np.zeros(N, bool)
        hidden[np.argsort(score, kind="stable")[:count]] = True
        assert (hidden == np.asarray(trace.hidden[s, 0])).all()
        known = ~hidden


def test_top_k_by_hand():
    logits = jnp.array([[0.0, 3.0, 1.0, 2.0], [5.0, 5.0, 1.0, 5.0]])
    kept = decoding.keep_likeliest(logits, 2)
    assert (kept[0] == jnp.array([-jnp.inf, 3.0, -jnp.inf, 2.0])).all()
    assert (kept[1] == jnp.array([5.0, 5.0, -jnp.inf, 5.0])).all()  # the third equals the second
    assert (decoding.keep_likeliest(logits, 4) == logits).all()


def test_top_k_never_draws_another_token():
    """Of p = (.4, .3, .2, .1) the first two remain, in proportion: 4/7 and 3/7."""

    def model(tokens, t):
        return jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.4, 0.1, 0.3])), (*tokens.shape, 4))

    options = dict(mask_id=4, steps=2, trace=True)
    tokens, trace = decoding.parallel_decode(model, jnp.full((2000, 8), 4), keys(2000), top_k=2, **options)
    assert np.allclose(np.bincount(tokens.reshape(-1), minlength=4) / 16_000, [0, 4 / 7, 0, 3 / 7], atol=0.015)
    # The confidence is the model's own probability all the same.
    assert sorted({float(p) for p in np.round(trace.confidence[0].ravel(), 4)}) == pytest.approx([0.3, 0.4], abs=1e-3)
    one, _ = decoding.parallel_decode(model, jnp.full((9, 8), 4), keys(9), top_k=1, **options)
    assert (one == 1).all()


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
    start = jnp.full((2, N), K).at[1, :6].set(1)
    options = dict(mask_id=K, steps=4, ranks=jnp.asarray(ranks), trace=True)
    trace = decoding.parallel_decode(flat, start, keys(2), **options)[1]
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
    with pytest.raises(ValueError, match="spiral.*halton"):
        decoding.order_ranks("spiral", (3, 4), keys(3))


def test_constant_guidance_does_not_ramp():
    def model(tokens, t):  # the token drawn tells t
        return 50.0 * jax.nn.one_hot(jnp.broadcast_to(t, tokens.shape).astype(int), K)

    for ramp, expected in ((True, [1, 2, 3, 4]), (False, [4, 4, 4, 4])):
        options = dict(mask_id=K, steps=4, guidance=4.0, ramp=ramp, trace=True)
        trace = decoding.parallel_decode(model, jnp.full((1, N), K), keys(1), **options)[1]
        before = np.concatenate([np.ones((1, N), bool), trace.hidden[:-1, 0]])
        assert [set(drawn[hidden]) for drawn, hidden in zip(np.asarray(trace.tokens)[:, 0], before)] == [
            {t} for t in expected
        ]


def test_a_trace_costs_nothing_when_it_is_off():
    """The compiled program returns the tokens and nothing else."""

    def decode_plain(start):
        return decoding.parallel_decode(flat, start, keys(2), mask_id=K, steps=3)

    tokens, trace = jax.eval_shape(decode_plain, jnp.full((2, N), K))
    assert tokens.shape == (2, N) and trace is None


@pytest.mark.parametrize("guided", [True, False])
def test_pictures_are_the_same_in_groups(micro, guided):
    """A CPU takes as many pictures at once as its cache holds: of 64, each is what it is among three."""
    captions = ["a cat", "two dogs", "a star above a heart"]
    options = dict(steps=3, guidance=1.0 * guided, temperature=1.0, token_temperature=1.0)
    few, many = micro.generate(captions, **options), micro.generate(captions + ["a cat"] * 61, **options)
    assert many.shape == (64, 64, 64, 3) and len(np.unique(many, axis=0)) == 64
    np.testing.assert_allclose(many[:3], few.astype(int), atol=1)  # but for rounding of pixels
