"""Edits made by rule: what is requested, where it may happen, and how the result is judged."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from minimuse import mask_free
from minimuse.data import scenes
from minimuse.data.scenes import Item, Scene
from minimuse.evaluate import edits
from minimuse.evaluate.scorer import Reading, Seen

CAT = Item("cat", 8, 16, 24)
DOG = Item("dog", 40, 16, 24)
PAIR = Scene("position", "blue", (CAT, DOG), "left of")


def reading(scene: Scene) -> Reading:
    """What a perfect scorer reads."""
    return Reading(scene.background, [Seen(item.name, *item.centre) for item in scene.items])


def test_edits_change_what_they_say_and_nothing_else():
    made = [edits.change(i) for i in range(90)]
    assert [edit.kind for edit in made[:3]] == ["object", "colour", "background"]
    assert made[7] == edits.change(7) and made[7] != edits.change(7, seed=1)
    for edit in made:
        before, after = edit.before, edit.after
        boxes = [(item.x, item.y, item.size) for item in before.items]
        assert [(item.x, item.y, item.size) for item in after.items] == boxes and before.relation == after.relation
        assert (before.background != after.background) == (edit.kind == "background")
        assert (before.items != after.items) == (edit.kind != "background")
        facts = scenes.asked(after, edit.caption)
        assert edit.fact in facts[edit.kind] and "background" in facts
        assert edit.fact not in scenes.asked(before, edit.caption).get(edit.kind, [])
        if edit.kind == "colour":
            names = [scenes.sprites()[item.name] for item in (before.items[0], after.items[0])]
            assert names[0].word == names[1].word and names[0].colour != names[1].colour != ""
    assert len({edit.fact for edit in made}) > 30
    for kind, tasks in edits.TASKS.items():
        assert {edit.before.task for edit in made if edit.kind == kind} == set(tasks)


def test_the_region_is_the_box_of_the_object_or_all_background():
    swap = edits.Change("object", PAIR, replace(PAIR, items=(replace(CAT, name="owl"), DOG)), "", "owl")
    mask = edits.region(swap, 64)
    assert mask.sum() == 24 * 24 and mask[16:40, 8:32].all()
    assert edits.region(swap, 128).sum() == 48 * 48
    ground = edits.Change("background", PAIR, replace(PAIR, background="pink"), "", "pink")
    mask = edits.region(ground, 64)
    assert mask[0].all() and not mask[28, 20] and not mask[28, 52]  # the middles of both animals stay
    changed = (scenes.render(PAIR) != scenes.render(ground.after)).any(-1)
    assert (mask >= changed).all()


def test_edits_are_judged_by_hand():
    after = replace(PAIR, items=(replace(CAT, name="owl"), DOG))
    swap = edits.Change("object", PAIR, after, "an owl left of a dog on a blue background", "owl")
    # The dog and the background were true before; that the owl is left of the dog was not.
    assert edits.judged(swap, reading(after)) == (True, [True, True])
    assert edits.judged(swap, reading(PAIR)) == (False, [True, True])
    assert edits.judged(swap, reading(replace(after, background="pink"))) == (True, [True, False])
    only = replace(after, items=after.items[:1])
    assert edits.judged(swap, reading(only)) == (True, [False, True])
    square = Scene("colours", "white", (Item("red square", 8, 8, 24),))
    green = replace(square, items=(Item("green square", 8, 8, 24),))
    paint = edits.Change("colour", square, green, "a green square on a white background", ("square", "green"))
    assert edits.judged(paint, reading(green)) == (True, [True])  # the background; the square itself is the edit
    assert edits.judged(paint, reading(square)) == (False, [True])
    tally = edits.tally([swap, paint], [reading(after), reading(square)], [0.0, 0.5])
    assert tally["success"] == 0.5 and tally["preservation"] == 1.0 and tally["outside_changed"] == 0.25
    assert tally["kinds"]["object"]["success"] == 1.0 and tally["kinds"]["background"]["success"] is None


def test_pixels_outside_are_counted_by_hand():
    before = np.zeros((2, 2, 3), np.uint8)
    after = before.copy()
    after[0, 0], after[1, 1, 2] = 9, 3
    mask = np.array([[True, False], [False, False]])
    assert edits.changed_outside(before, after, mask) == pytest.approx(1 / 3)
    assert edits.changed_outside(before, after, mask, tolerance=3) == 0
    assert edits.changed_outside(before, after, np.ones((2, 2), bool)) == 0


def test_both_ways_of_editing_are_measured(micro, cascade):
    found = edits.evaluate_inpainting(micro, 3, steps=2)
    assert found["outside_changed"] == 0 and set(found["kinds"]) == set(edits.KINDS)
    assert edits.evaluate_inpainting(micro, 3, steps=2, edge=None)["outside_changed"] > 0
    found = edits.evaluate_mask_free(cascade, 3, iterations=5, every=2, batch=2)
    assert found["iteration"] in (0, 2, 4, 5) and found["curve"]["iteration"] == [0, 2, 4, 5]
    assert found["settings"] == asdict(mask_free.Resampling(iterations=5))
    assert found["curve"]["outside_changed"][0] == 0
    assert found["success"] == found["curve"]["success"][found["curve"]["iteration"].index(found["iteration"])]


def test_jumps_by_hand(micro):
    images = np.zeros((1, 2, 4, 3), np.uint8)
    images[:, :, 2:] = 10
    assert [edits.border_jump(images, column) for column in (1, 2, 3)] == [0, 10, 0]
    found = edits.evaluate_outpainting(micro, 2, steps=2)
    assert found["seam"] > 0 and found["inner"] > 0


def test_what_is_measured_is_what_edit_draws(micro):
    """Two pictures and five iterations, for which the test of both ways has compiled the program."""
    change = edits.change(0)
    picture, prompts = scenes.render(change.before), micro.prompts(change.caption, 2, 0, None)
    settings = mask_free.Resampling(iterations=5)
    tokens = micro.tokenize(np.stack([picture] * 2))
    _, states = mask_free.edit_tokens(micro, tokens, prompts, settings, trace=True)
    assert (states == micro.edit(picture, change.caption, 2, iterations=5, trace=True).states).all()


def test_both_ways_without_a_mask_are_measured_at_any_stage(micro):
    found = edits.evaluate_edit(micro, 3, way="read", masks=2, threshold=1e6, steps=2)
    assert set(found["redrawn"].values()) == {1.0} and found["settings"]["way"] == "read"
    none = edits.evaluate_edit(micro, 3, way="read", masks=2, threshold=-1e6, threshold_all=-1e6, steps=2)
    assert none["outside_changed"] == 0 and set(none["redrawn"].values()) == {0.0}
    asked = []
    phrase = lambda edit: asked.append(edit.kind) or edits.only_the_change(edit)
    edits.evaluate_edit(micro, 2, phrase=phrase, masks=2, steps=2)
    assert asked == ["object", "colour"]
    found = edits.evaluate_edit(micro, 2, way="resample", iterations=5)
    assert found["settings"] == dict(way="resample", iterations=5) and found["redrawn"]["object"] > 0


def test_captions_of_the_change_only():
    after = replace(PAIR, items=(replace(CAT, name="owl"), DOG))
    assert edits.only_the_change(edits.Change("object", PAIR, after, "", "owl")) == dict(
        caption="an owl", before="a cat"
    )
    pink = edits.Change("background", PAIR, replace(PAIR, background="pink"), "", "pink")
    assert edits.only_the_change(pink) == dict(caption="a pink background", before="a blue background")
    cats = replace(PAIR, task="counting", items=(CAT, replace(CAT, x=40)))
    dogs = replace(cats, items=tuple(replace(item, name="dog") for item in cats.items))
    assert edits.only_the_change(edits.Change("object", cats, dogs, "", "dog"))["caption"] == "two dogs"
