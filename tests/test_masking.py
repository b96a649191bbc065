"""Laws of the mask rate, training masks and the decode schedule."""

import jax
import numpy as np
import pytest

from minimuse import masking


@pytest.mark.parametrize("law", masking.LAWS)
def test_a_law_falls_from_one_to_zero(law):
    r = np.asarray(masking.mask_rate(np.linspace(0, 1, 101), law, 64))
    first = 1 - 1 / 64 if law == "exponential" else 1
    assert abs(r[0] - first) < 1e-6 and abs(r[-1]) < 1e-6 and (np.diff(r) < 1e-6).all()


def test_laws_by_hand():
    by_hand = {
        "cosine": np.sqrt(0.5),
        "linear": 0.5,
        "uniform": 0.5,
        "square": 0.75,
        "cubic": 0.875,
        "square root": 1 - np.sqrt(0.5),
        "log": 1 / 4,  # log2(2) / log2(16)
        "exponential": 1 - 1 / 4,  # 1 - 16^(-1/2)
        "exp": (1 - np.exp(-2.5)) / (1 - np.exp(-5)),
        "arccos": 2 / 3,  # cos(pi / 3) = 1 / 2
    }
    assert set(by_hand) == set(masking.LAWS)
    for law, r in by_hand.items():
        assert abs(float(masking.mask_rate(0.5, law, 16)) - r) < 1e-6, law


@pytest.mark.parametrize("tokens", [16, 1024])
@pytest.mark.parametrize("law", masking.LAWS)
def test_density_and_mean_are_those_of_the_draws(law, tokens):
    r = np.asarray(masking.draw_rates(jax.random.key(0), (100_000,), law, tokens))
    assert abs(r.mean() - masking.mean_rate(law, tokens)) < 0.004
    # Share of the draws in ten bins against the density, by the middle of a hundred slices per bin.
    edges = np.linspace(0, 0.9, 10)
    middles = edges[:-1, None] + 0.1 * (np.arange(100) + 0.5) / 100
    expected = np.asarray(masking.density(middles, law, tokens)).mean(-1) * 0.1
    found = np.histogram(r, edges)[0] / len(r)
    assert np.abs(found - expected).max() < 0.006


def test_the_law_exp_by_hand():
    half = 1 - np.log(2) / 5  # where exp(-5 (1 - u)) is 1/2
    r = masking.mask_rate([0.0, half, 1.0], "exp")
    np.testing.assert_allclose(r, [1, 0.5 / (1 - np.exp(-5)), 0], atol=1e-6)
    # du / dr is 1 / (5 exp(-5 (1 - u))), times 1 - exp(-5)
    found = masking.density([0.0, 0.5 / (1 - np.exp(-5)), 1.0], "exp")
    np.testing.assert_allclose(found, (1 - np.exp(-5)) / np.array([5, 2.5, 5 * np.exp(-5)]), rtol=1e-4)
    # 16 times 0.983, 0.924, 0.718, 0
    assert masking.decode_schedule(4, 16, "exp").tolist() == [15, 14, 11, 0]
    # Where ln N is 5, MaskGIT's exponential law has this steepness, but does not start at 1.
    u = np.linspace(0, 1, 11)
    scaled = np.asarray(masking.LAWS["exponential"].rate(u, np.exp(5))) / (1 - np.exp(-5))
    np.testing.assert_allclose(masking.mask_rate(u, "exp"), scaled, atol=1e-6)


def test_the_law_exp_has_the_density_and_the_mean_of_its_integrals():
    r = np.linspace(0, 1, 20_001)
    p = np.asarray(masking.density(r, "exp"))
    assert abs(np.trapezoid(p, r) - 1) < 1e-4
    assert abs(np.trapezoid(r * p, r) - masking.mean_rate("exp")) < 1e-4
    assert abs(np.trapezoid(masking.mask_rate(r, "exp"), r) - masking.mean_rate("exp")) < 1e-4


def test_log_hides_all_in_one_draw_of_n():
    r = np.asarray(masking.draw_rates(jax.random.key(0), (100_000,), "log", 16))
    assert abs((r == 1).mean() - 1 / 16) < 0.003


def test_a_number_is_a_fixed_rate():
    mask = np.asarray(masking.random_mask(jax.random.key(0), 50, 64, 0.15))
    assert (mask.sum(-1) == 10).all()  # round(9.6)
    with pytest.raises(ValueError, match=r"1\.5"):
        masking.random_mask(jax.random.key(0), 2, 64, 1.5)


def test_the_cosine_law_is_the_papers_density():
    r = np.asarray(masking.mask_rate(jax.random.uniform(jax.random.key(0), (200_000,))))
    assert abs(r.mean() - 2 / np.pi) < 0.003
    # The distribution function of (2 / pi) / sqrt(1 - r^2) is (2 / pi) arcsin(r); the arccos map's is not.
    for x in (0.1, 0.5, 0.9, 0.95):
        assert abs((r < x).mean() - 2 / np.pi * np.arcsin(x)) < 0.004


@pytest.mark.parametrize("law", masking.LAWS)
@pytest.mark.parametrize("batch, tokens", [(1, 64), (7, 64), (3, 5), (2, 1)])
def test_masks_hide_at_least_one_position_and_as_many_as_the_rate_says(batch, tokens, law):
    for seed in range(5):
        key = jax.random.key(seed)
        mask = np.asarray(masking.random_mask(key, batch, tokens, law))
        u = jax.random.uniform(jax.random.split(key)[0], (batch, 1))
        count = np.maximum(1, np.round(tokens * np.asarray(masking.mask_rate(u, law, tokens)))[:, 0])
        assert mask.shape == (batch, tokens) and (mask.sum(-1) == count).all()


def test_all_positions_are_hidden_alike():
    mask = np.asarray(masking.random_mask(jax.random.key(1), 20_000, 8))
    assert np.ptp(mask.mean(0)) < 0.02


def test_an_ordered_mask_hides_what_comes_last():
    ranks = np.array([2, 0, 3, 1])
    mask = np.asarray(masking.ordered_mask(jax.random.key(2), 400, ranks, "linear"))
    count = mask.sum(-1)
    assert set(count) == {1, 2, 3, 4} and (mask == (ranks >= 4 - count[:, None])).all()
    assert mask[count == 2].any(0).tolist() == [True, False, True, False]
    assert masking.ordered_mask(jax.random.key(2), 9, ranks, 1.0).all()


def test_schedule_by_hand():
    # floor(64 cos(pi/2 s/8)), s = 1 .. 8
    assert masking.decode_schedule(8, 64).tolist() == [62, 59, 53, 45, 35, 24, 12, 0]
    assert masking.decode_schedule(1, 64).tolist() == [0]
    assert masking.decode_schedule(4, 4).tolist() == [3, 2, 1, 0]
    assert masking.decode_schedule(4, 16, "linear").tolist() == [12, 8, 4, 0]


def test_revising_hides_a_falling_share_by_hand():
    assert masking.revise_schedule(3, 64).tolist() == [16, 10, 6]  # 25, 15.8 and 10%
    assert masking.revise_schedule(2, 64).tolist() == [16, 6]
    assert masking.revise_schedule(1, 64).tolist() == [16]
    assert masking.revise_schedule(0, 64).tolist() == []
    assert masking.revise_schedule(3, 4).tolist() == [1, 1, 1]  # never none


@pytest.mark.parametrize("law", masking.LAWS)
@pytest.mark.parametrize("steps, tokens", [(1, 1), (12, 64), (64, 64), (24, 256), (8, 1024)])
def test_every_step_reveals_something_and_the_last_everything(law, steps, tokens):
    left = np.concatenate([[tokens], masking.decode_schedule(steps, tokens, law)])
    assert (np.diff(left) < 0).all() and left[-1] == 0


def test_errors_say_what_to_choose():
    with pytest.raises(ValueError, match=r"\bsine\b.*\bcosine\b"):
        masking.mask_rate(0.5, "sine")
    with pytest.raises(ValueError, match=r"(?=.*\b64\b).*\b65\b"):
        masking.decode_schedule(65, 64)
