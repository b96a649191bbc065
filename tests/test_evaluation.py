"""What is measured: facts by hand, the reading of a picture, and how well the shipped scorer reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import evaluation, scenes
from minimuse.evaluation import Reading, Seen, facts_true, tally
from minimuse.scenes import Item, Scene

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
    a, b = Seen("cat", 12, 20), Seen("dog", x, y)
    holds = [other for other in scenes.RELATIONS if evaluation._in_place(a, other, b)]
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
    assert evaluation.facts_share(prompts, readings) == round(5 / 8, 4)
    with pytest.raises(ValueError, match="3 prompts and 2 images"):
        tally(prompts, readings[:2])


def test_training_targets_lie_where_the_objects_are():
    batch = evaluation.training_batch(0, 64)
    names = tuple(scenes.sprites())
    for index in range(64):
        _, background, items = evaluation.training_picture(index)
        found = np.argwhere(batch["classes"][index] < len(names))
        assert len(found) == len(items)
        for item in items:
            x, y = item.centre
            cell = int(y) // scenes.CELL, int(x) // scenes.CELL
            assert names[batch["classes"][index][cell]] == item.name
            assert tuple((np.array(cell[::-1]) + batch["centres"][index][cell]) * scenes.CELL) == (x, y)
        assert (batch["background"][index] == -1) == (background is None)


def test_blur_keeps_the_mean_of_a_plain_picture_and_spreads_a_dot():
    plain = jnp.full((2, 16, 16, 3), 0.25)
    assert np.allclose(evaluation.blur(plain, jnp.array([0.0, 2.0])), 0.25, atol=1e-5)
    dot = jnp.zeros((1, 17, 17, 1)).at[0, 8, 8, 0].set(1.0)
    blurred = np.asarray(evaluation.blur(dot, jnp.array([1.0])))[0, :, :, 0]
    assert blurred[8, 9] / blurred[8, 8] == pytest.approx(np.exp(-0.5), abs=1e-4)
    assert np.allclose(evaluation.blur(dot, jnp.array([0.0])), dot, atol=1e-5)


def test_the_shipped_scorer_reads_true_pictures_also_blurred():
    result = evaluation.evaluate_scorer(evaluation.shipped_scorer(), n=240)
    for condition in ("sharp", "blur 1 px", "blur 1.5 px", "off the lattice"):
        assert result[condition]["facts"] >= 0.98, condition
    assert result["sharp"]["scenes"] >= 0.95


def test_the_shipped_scorer_sees_what_is_wrong():
    """The same pictures under the captions of their neighbours: hardly any holds."""
    prompts = [scenes.example("val", i) for i in range(60)]
    images = scenes.render_batch([scene for scene, _ in prompts])
    shifted = prompts[6:] + prompts[:6]  # the tasks take turns, so these are of the same task
    assert evaluation.fidelity(prompts, images)["overall"] >= 0.95
    assert evaluation.fidelity(shifted, images)["overall"] <= 0.1


def test_any_square_size_is_read_and_no_batch_compiles_anew():
    scorer = evaluation.shipped_scorer()
    scene = Scene("one", "blue", (Item("cat", 16, 16, 32),))
    for size in (64, 128):
        (seen,) = scorer.read(scenes.render(scene, size)[None])
        assert seen.background == "blue" and [thing.name for thing in seen.objects] == ["cat"]
        assert abs(seen.objects[0].x - 32) < 3 and abs(seen.objects[0].y - 32) < 3
    before = evaluation._read._cache_size()
    for count in (1, 5, evaluation.CHUNK + 1):
        assert len(scorer.read(np.zeros((count, 64, 64, 3), np.uint8))) == count
    assert evaluation._read._cache_size() == before


@pytest.mark.parametrize("images", [np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 32, 3), np.uint8)])
def test_what_the_scorer_cannot_read_is_refused(images):
    with pytest.raises(ValueError, match=r"Images must be uint8 \[B, H, H, 3\]; these are"):
        evaluation.shipped_scorer().read(images)


def test_features_are_one_vector_a_picture():
    features = evaluation.shipped_scorer().features(np.zeros((3, 64, 64, 3), np.uint8))
    assert features.shape == (3, evaluation.ScorerConfig().channels[-1]) and np.isfinite(features).all()


def test_the_loss_is_least_where_the_answers_are_right(monkeypatch):
    """A network of fixed answers: the truth costs less than another sprite, another place or another background."""
    batch = evaluation.training_batch(0, 8)
    classes = len(scenes.sprites()) + 1

    def loss(shift=0, move=0.0, ground=0):
        answers = (
            9.0 * jax.nn.one_hot((batch["classes"] + shift) % classes, classes),
            batch["centres"] + move,
            9.0 * jax.nn.one_hot((batch["background"] + ground) % 8, 8),
        )
        monkeypatch.setattr(evaluation.nnx, "merge", lambda graphdef, params: lambda pixels: answers)
        return float(evaluation.scorer_loss(None, {}, jax.random.key(0), batch)[0])

    right = loss()
    assert min(loss(shift=1), loss(move=0.5), loss(ground=1)) > right + 0.01
