"""What is measured: facts by hand, the reading of a picture, and how well the shipped scorer reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse.data import scenes
from minimuse.data.scenes import Item, Scene
from minimuse.evaluate import fidelity, scorer
from minimuse.evaluate.fidelity import facts_true, tally
from minimuse.evaluate.metrics import blur, diversity, frechet, sharpness, ssim
from minimuse.evaluate.scorer import Reading, Seen
from minimuse.vqgan import to_float, to_uint8

CAT, DOG = Item("cat", 0, 8, 24), Item("dog", 40, 8, 24)
PAIR = Scene("position", "pink", (CAT, DOG), "left of")
CATS = Scene("counting", "white", (CAT, Item("cat", 32, 0, 24)))
HEART = Scene("colours", "green", (Item("red heart", 8, 8, 32),))


def reading(background, *objects):
    return Reading(background, [Seen(*thing) for thing in objects])


def test_facts_of_two_objects_by_hand():
    text = "a dog right of a cat on a pink background"
    good = reading("pink", ("cat", 12, 20), ("dog", 52, 20))
    assert facts_true(PAIR, text, good) == dict(object=[True, True], place=[True], background=[True])
    swapped = reading("pink", ("dog", 12, 20), ("cat", 52, 20))
    assert facts_true(PAIR, text, swapped) == dict(object=[True, True], place=[False], background=[True])
    lone = reading("blue", ("cat", 12, 20))
    assert facts_true(PAIR, text, lone) == dict(object=[True, False], place=[False], background=[False])
    assert facts_true(PAIR, "a cat and a dog", swapped) == dict(object=[True, True])  # nothing else was asked


@pytest.mark.parametrize(
    "x, y, relation",
    [(52, 20, "left of"), (-28, 20, "right of"), (12, 60, "above"), (12, -20, "below"), (40, 47, "left of")],
)
def test_a_place_is_a_direction_more_than_across_it(x, y, relation):
    seen = reading("pink", ("cat", 12, 20), ("dog", x, y))
    scene = {other: Scene("position", "pink", (CAT, DOG), other) for other in scenes.RELATIONS}
    holds = [o for o in scene if facts_true(scene[o], f"a cat {o} a dog", seen)["place"] == [True]]
    assert holds == [relation]


def test_counts_are_exact_and_colours_belong_to_their_object():
    two = reading("white", ("cat", 12, 20), ("cat", 44, 12))
    assert facts_true(CATS, "two cats", two)["count"] == [True]
    for wrong in (reading("white", ("cat", 12, 20)), reading("white", *[("cat", 12, 20)] * 3)):
        assert facts_true(CATS, "two cats", wrong)["count"] == [False]
    extra = reading("green", ("red heart", 24, 24), ("blue circle", 50, 50))
    assert facts_true(HEART, "a red heart", extra) == dict(object=[True], colour=[True])
    swapped = reading("green", ("blue heart", 24, 24), ("red circle", 50, 50))
    assert facts_true(HEART, "a red heart", swapped) == dict(object=[True], colour=[False])


def test_a_caption_holds_if_all_its_facts_do():
    prompts = [(PAIR, "a cat left of a dog"), (CATS, "two cats on a white background"), (HEART, "a red heart")]
    readings = [
        reading("pink", ("cat", 12, 20), ("dog", 52, 20)),
        reading("grey", ("cat", 12, 20), ("cat", 44, 12)),
        reading("green"),
    ]
    counts = tally(prompts, readings)
    assert counts["overall"] == round(1 / 3, 4)
    tasks = counts["tasks"]
    assert (tasks["position"], tasks["counting"], tasks["colours"], tasks["one"]) == (1, 0, 0, None)
    assert counts["facts"] == dict(object=0.75, colour=0, count=1, place=1, background=0)
    assert fidelity.facts_share(prompts, readings) == round(5 / 8, 4)
    with pytest.raises(ValueError, match=r"(?=.*\b3\b).*\b2\b"):
        tally(prompts, readings[:2])


def test_the_shipped_scorer_reads_true_pictures_also_blurred():
    result = fidelity.evaluate_scorer(scorer.shipped_scorer(), n=240)
    for condition in ("sharp", "blur 1 px", "blur 1.5 px", "off the lattice"):
        assert result[condition]["facts"] >= 0.98, condition
    assert result["sharp"]["scenes"] >= 0.95


def test_the_shipped_scorer_sees_what_is_wrong():
    """The same pictures under the captions of their neighbours: hardly any holds."""
    prompts = [scenes.example("val", i) for i in range(60)]
    images = scenes.render_batch([scene for scene, _ in prompts])
    shifted = prompts[6:] + prompts[:6]  # the tasks take turns, so these are of the same task
    assert fidelity.fidelity(prompts, images)["overall"] >= 0.95
    assert fidelity.fidelity(shifted, images)["overall"] <= 0.1


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
    """True pictures, and the same blurred more and more: each measure says so, in this order."""
    images = scenes.render_batch([scenes.example("val", i)[0] for i in range(200)])
    features = scorer.shipped_scorer().features
    blurred = [np.asarray(to_uint8(blur(to_float(images), jnp.full(200, sigma)))) for sigma in (0.7, 2.0)]
    near, far = (frechet(features(images), features(picture)) for picture in blurred)
    assert 0 < near < far
    near, far = (float(ssim(to_float(images), to_float(picture))) for picture in blurred)
    assert 1 > near > far


def test_diversity_by_hand():
    """Captions at 0 and 10 on a line; the pictures of the first lie 2 apart, those of the second are one."""
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
    image = scenes.render(PAIR)[None]
    soft = np.asarray(blur(to_float(image), jnp.array([1.0])))
    assert sharpness((127.5 * (soft + 1)).astype(np.uint8)) < 0.9 * sharpness(image)
