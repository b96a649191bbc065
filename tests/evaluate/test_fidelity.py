"""Fidelity: facts by hand, and how well the shipped scorer reads."""

import pytest

from minimuse.data import scenes
from minimuse.data.scenes import Item, Scene
from minimuse.evaluate import fidelity, scorer
from minimuse.evaluate.fidelity import exactly, facts_true, faults, tally
from minimuse.evaluate.scorer import Reading, Seen

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
    assert facts_true(PAIR, "a cat and a dog", swapped) == dict(object=[True, True])  # nothing else was requested


@pytest.mark.parametrize(
    "x, y, relation",
    [(52, 20, "left of"), (-28, 20, "right of"), (12, 60, "above"), (12, -20, "below"), (40, 47, "left of")],
)
def test_a_relation_is_a_direction_more_than_across_it(x, y, relation):
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


def test_exactly_the_objects_of_the_scene():
    """A caption of one cat holds where there are two; it is not drawn exactly."""
    one = Scene("one", "white", (CAT,))
    cat, other, dog = ("cat", 12, 20), ("cat", 44, 12), ("dog", 52, 20)
    for caption, seen, exact in (
        ("a cat", reading("white", cat), True),
        ("a cat", reading("blue", cat), True),  # no background was requested
        ("a cat on a white background", reading("blue", cat), False),
        ("a cat", reading("white", cat, other), False),
        ("a cat", reading("white", cat, dog), False),
        ("a cat", reading("white", dog), False),
    ):
        assert exactly(one, caption, seen) == exact, (caption, seen)
    assert exactly(PAIR, "a cat and a dog", reading("pink", dog, cat))
    assert not exactly(PAIR, "a cat left of a dog", reading("pink", ("dog", 12, 20), ("cat", 52, 20)))
    assert not exactly(PAIR, "a cat and a dog", reading("pink", dog, cat, other))


def test_a_shape_counts_with_its_colour_if_that_is_requested(monkeypatch):
    blue, red = reading("green", ("blue heart", 24, 24)), reading("green", ("red heart", 24, 24))
    assert exactly(HEART, "a red heart", red) and not exactly(HEART, "a red heart", blue)
    both = reading("green", ("red heart", 24, 24), ("blue heart", 50, 50))
    assert not exactly(HEART, "a red heart", both)
    monkeypatch.setattr(scenes, "asked", lambda scene, caption: dict(object=["heart"]))
    assert exactly(HEART, "a heart", blue) and not exactly(HEART, "a heart", both)


def test_exact_needs_an_empty_canvas_where_pictures_are_given():
    scene = Scene("one", "blue", (Item("cat", 8, 16, 24),))
    clean = scenes.render(scene)
    blot = clean.copy()
    blot[48:, 48:] = 0
    prompts, readings = [(scene, "a cat")] * 2, [reading("blue", ("cat", 20, 28))] * 2
    counts = tally(prompts, readings, [clean, blot])
    assert (counts["overall"], counts["exact"], counts["exact_tasks"]["one"]) == (1, 0.5, 0.5)
    assert tally(prompts, readings)["exact"] == 1 and counts["exact_tasks"]["two"] is None
    with pytest.raises(ValueError, match=r"(?=.*\b2\b).*\b1\b"):
        tally(prompts, readings, [clean])


def test_faults_name_what_keeps_a_picture_from_being_exact():
    scene, cat, dog = Scene("one", "blue", (Item("cat", 8, 16, 24),)), ("cat", 20, 28), ("dog", 52, 20)
    clean = scenes.render(scene)
    blot = clean.copy()
    blot[48:, 48:] = 0
    many, else_there = ["an object too many"], ["something else"]
    for caption, seen, image, false, more in (
        ("a cat", reading("blue", cat), clean, [], []),
        ("a cat", reading("blue", cat), blot, [], else_there),
        ("a cat", reading("blue", cat), None, [], []),
        ("a cat", reading("blue", cat, dog), None, [], many),
        ("a cat", reading("blue", dog), clean, ["object"], else_there),  # the cat itself
        ("a cat on a blue background", reading("pink"), None, ["object", "background"], []),
    ):
        found = faults(scene, caption, seen, image)
        assert found == (false, more), (caption, seen)
        counts = tally([(scene, caption)], [seen], None if image is None else [image])
        assert (counts["overall"], counts["exact"]) == (not false, not false and not more)


def test_the_shipped_scorer_reads_true_pictures_also_blurred():
    result = fidelity.evaluate_scorer(scorer.shipped_scorer(), n=240)
    for condition in ("sharp", "blur 1 px", "blur 1.5 px", "off the lattice"):
        assert result[condition]["facts"] >= 0.98, condition
        assert result[condition]["exact"] >= 0.95, condition
    assert result["sharp"]["scenes"] >= 0.95


def test_the_shipped_scorer_sees_what_is_wrong():
    """The same pictures under the captions of their neighbours: hardly any holds."""
    prompts = [scenes.example("val", i) for i in range(60)]
    images = scenes.render_batch([scene for scene, _ in prompts])
    shifted = prompts[6:] + prompts[:6]  # the tasks take turns, so these are of the same task
    assert fidelity.fidelity(prompts, images)["overall"] >= 0.95
    assert fidelity.fidelity(shifted, images)["overall"] <= 0.1
