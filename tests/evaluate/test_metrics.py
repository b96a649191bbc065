"""Metrics of pictures, by hand and in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse.data import scenes
from minimuse.evaluate import scorer
from minimuse.evaluate.metrics import (
    blur,
    distances,
    diversity,
    frechet,
    paired_interval,
    random_features,
    sharpness,
    ssim,
)
from minimuse.vqgan import to_float, to_uint8


def test_ssim_by_hand():
    """Plain pictures have no variance: what is left is the term of the means."""
    x, y = jnp.full((2, 16, 16, 3), 0.5), jnp.full((2, 16, 16, 3), -0.2)
    expected = (2 * 0.75 * 0.4 + 0.01**2) / (0.75**2 + 0.4**2 + 0.01**2)  # from [-1, 1] to [0, 1]
    assert ssim(x, y) == pytest.approx(expected, abs=1e-4)
    noise = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=-1)
    assert ssim(noise, noise) == pytest.approx(1, abs=1e-5)
    assert ssim(noise, -noise) < -0.5  # the structure is the opposite


def test_frechet_by_hand():
    """Along one axis it is (difference of means)^2 + (difference of deviations)^2; axes add up."""
    x = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [1.0, 2.0]])
    spread = np.std(x[:, 0], ddof=1)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + [3, 4]) == pytest.approx(25)
    assert frechet(x, x * [2, 1]) == pytest.approx(spread**2)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 5)), rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 1
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert frechet(a, b) == pytest.approx(frechet(b, a))
    assert frechet(a, b) == pytest.approx(frechet(a @ turned, b @ turned))


def test_blur_costs_similarity_and_distance():
    """True pictures, and the same blurred more and more: each metric ranks them."""
    images = scenes.render_batch([scenes.example("val", i)[0] for i in range(128)])
    features = scorer.shipped_scorer().features
    blurred = [np.asarray(to_uint8(blur(to_float(images), jnp.full(128, sigma)))) for sigma in (0.7, 2.0)]
    near, far = (frechet(features(images), features(picture)) for picture in blurred)
    assert 0 < near < far
    near, far = (float(ssim(to_float(images), to_float(picture))) for picture in blurred)
    assert 1 > near > far


def test_the_judge_that_was_in_no_loss_ranks_what_is_obvious():
    """Other true pictures are nearest; then the same pictures with more and more blur or noise."""
    first, others = (scenes.render_batch([scenes.example("val", i + k)[0] for i in range(126)]) for k in (0, 126))

    def far(images):
        return distances(images, others)["frechet_random"]

    soft = [far(np.asarray(to_uint8(blur(to_float(first), jnp.full(126, sigma))))) for sigma in (0.5, 1.0, 2.0)]
    noise = np.random.default_rng(0).normal(size=first.shape)
    rough = [far(np.clip(first + sigma * noise, 0, 255).astype(np.uint8)) for sigma in (4, 16)]
    floor = far(first)
    assert 0 < 1.5 * floor < soft[0] < soft[1] < soft[2] and 1.5 * floor < rough[0] < rough[1]
    assert far(others) == pytest.approx(0, abs=1e-6)
    assert far(first[:42]) > floor  # few pictures


def test_random_features_by_hand():
    """Plain pictures have their colour, no deviation, and no answer of any kernel; the batch does not matter."""
    plain = np.full((2, 24, 24, 3), (0, 255, 0), np.uint8)
    features = random_features(plain)
    assert features.shape == (2, 54)
    np.testing.assert_allclose(features[0], [-1, 1, -1, 0, 0, 0, *[np.log(0.01)] * 48], atol=1e-3)
    noise = np.random.default_rng(0).integers(0, 255, (70, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(random_features(noise)[66], random_features(noise[66:67])[0], rtol=1e-5)


def test_diversity_by_hand():
    """Captions at 0 and 10 on a line; the pictures of the first are 2 apart, those of the second are equal."""
    features = np.array([[-1.0], [1.0], [10.0], [10.0]])
    assert diversity(features, 2) == pytest.approx(((2 + 0) / 2) / ((11 + 11 + 9 + 9) / 4))
    assert diversity(features[[0, 0, 2, 2]], 2) == 0
    noise = np.random.default_rng(0).normal(size=(200, 8))
    assert diversity(noise, 4) == pytest.approx(1, abs=0.05)  # captions that mean nothing
    for wrong in (1, 3, 4):
        with pytest.raises(ValueError, match=rf"\b{wrong}\b"):
            diversity(features, wrong)


def test_sharpness_by_hand_and_lower_when_blurred():
    edge = np.zeros((1, 2, 4, 3), np.uint8)
    edge[:, :, 2:] = 90
    assert sharpness(edge) == 30  # one of three steps to the right is 90, none downwards differs
    image = scenes.render(scenes.example("val", 4)[0])[None]
    soft = np.asarray(blur(to_float(image), jnp.array([1.0])))
    assert sharpness((127.5 * (soft + 1)).astype(np.uint8)) < 0.9 * sharpness(image)


def test_a_paired_interval_by_hand():
    assert paired_interval(np.ones(5), np.zeros(5)) == (1.0, 1.0)
    rng = np.random.default_rng(0)
    one = rng.random(4000) < 0.9
    better = one | (rng.random(4000) < 0.5)  # half of the failures are repaired: 5 points
    low, high = paired_interval(better, one)
    assert 0.03 < low < 0.05 < high < 0.07 and high - low < 0.02
    low, high = paired_interval(rng.permutation(one), one)
    assert low < 0 < high
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        paired_interval(np.ones(3), np.ones(4))
