"""Captions as people type them: their scenes, their words, and what they request."""

import random

import numpy as np
import pytest

from minimuse.data import everyday, scenes
from minimuse.data.scenes import SIZES, Item, Scene, asked
from minimuse.evaluate.fidelity import facts_true
from minimuse.evaluate.scorer import shipped_scorer


def drawn(n):
    return [everyday.example("everyday", i) for i in range(n)]


def test_examples_repeat_and_cycle_through_the_tasks():
    assert drawn(18) == drawn(18)
    assert [scene.task for scene, _ in drawn(18)] == 2 * list(everyday.TASKS)
    assert everyday.example("everyday", 0, 1) != everyday.example("everyday", 0)
    assert everyday.example("val", 3) == scenes.example("val", 3)
    assert everyday.example("typed", 61) == everyday.typed()[1]
    with pytest.raises(ValueError, match="'other'"):
        everyday.example("other", 0)


def test_objects_lie_on_the_lattice_inside_the_canvas_and_never_hide_one_another():
    for scene, _ in drawn(900):
        corners = [(item.x, item.y) for item in scene.items]
        assert len(set(corners)) == len(corners) <= everyday.MOST
        for item in scene.items:
            assert item.x % scenes.CELL == item.y % scenes.CELL == 0
            assert 0 <= min(item.x, item.y) and max(item.x, item.y) + item.size <= scenes.CANVAS
        for i, one in enumerate(scene.items):
            for other in scene.items[:i]:
                across, down = abs(one.x - other.x), abs(one.y - other.y)
                assert max(across, down) >= 2 * scenes.CELL  # at most one column of cells is shared
                if len(corners) <= 4:
                    assert max(across, down) >= SIZES[0]


def test_no_pair_that_is_held_out_is_ever_drawn():
    for scene, _ in drawn(900):
        names = {item.name for item in scene.items}
        assert not any(scenes.held_out(a, b) for a in names for b in names)


def test_every_number_and_every_size_occurs():
    found = {len(scene.items) for scene, _ in drawn(900) if scene.task == "number"}
    assert found == {1, 2, 3, 4, 5, 6}
    sizes = {scene.items[0].size for scene, _ in drawn(900) if scene.task == "size"}
    assert sizes == set(SIZES)


def test_captions_have_no_synonym_so_that_unseen_words_stay_unseen():
    unseen = {word for sprite in scenes.sprites().values() for word in sprite.synonyms}
    for _, caption in drawn(900):
        words = "".join(letter if letter.isalpha() else " " for letter in caption).split()
        assert not unseen & {*words, *(" ".join(pair) for pair in zip(words, words[1:]))}, caption


def test_what_a_caption_requests_by_hand():
    cat, dog = Item("cat", 0, 8, 24), Item("dog", 40, 8, 24)
    pair = Scene("position", "pink", (cat, dog), "left of")
    assert asked(pair, "a dog on the right and a cat on the left")["place"] == [("cat", "left of", "dog")]
    assert asked(pair, "Cat next to dog")["place"] == [("cat", "next to", "dog")]
    assert "place" not in asked(pair, "a dog, a cat")
    three = Scene("counts", "pink", (cat, Item("cat", 0, 40, 24), dog))
    assert asked(three, "draw 2 cats and a dog")["count"] == [("cat", 2), ("dog", 1)]
    circle = Scene("size", "blue", (Item("blue circle", 8, 8, 32),))
    assert asked(circle, "a big circle") == dict(object=["circle"], size=[("circle", "big")])
    plain = asked(circle, "a circle on a blue background")
    assert plain == dict(object=["circle"], background=["blue"])  # the background's colour is not the circle's
    assert asked(circle, "a blue circle")["colour"] == [("circle", "blue")]


@pytest.mark.parametrize("split, n, most", [("everyday", 180, 5), ("typed", 60, 0)])
def test_true_pictures_hold_what_their_captions_request(split, n, most):
    prompts = [everyday.example(split, i) for i in range(n)]
    for size in (64, 128):
        readings = shipped_scorer().read(scenes.render_batch([scene for scene, _ in prompts], size))
        wrong = [
            (caption, answers)
            for (scene, caption), reading in zip(prompts, readings)
            if not all(np.concatenate(list((answers := facts_true(scene, caption, reading)).values())))
        ]
        assert len(wrong) <= most, wrong


def test_the_60_typed_captions_are_60_different_ones():
    captions = [caption for _, caption in everyday.typed()]
    assert len(set(captions)) == len(captions) == 60


def test_corners_of_every_number_are_random_but_readable():
    rng = random.Random(0)
    for count in range(1, 7):
        layouts = {tuple(everyday.corners(rng, count)) for _ in range(60)}
        assert len(layouts) >= 2 and all(len(set(layout)) == count for layout in layouts)


def test_a_size_is_read_from_the_picture():
    for side in SIZES:
        scene = Scene("size", "pink", (Item("bicycle", 16, 8, side),))
        for size in (64, 128):
            (reading,) = shipped_scorer().read(scenes.render(scene, size)[None])
            assert reading.objects[0].side == side
            words = "big" if side > SIZES[0] else "small"
            assert facts_true(scene, f"a {words} bicycle", reading)["size"] == [True]
            assert facts_true(scene, f"a {'small' if words == 'big' else 'big'} bicycle", reading)["size"] == [False]
