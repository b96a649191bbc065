"""The scene grammar, its captions and its renderer."""

import itertools

import numpy as np
import pytest

from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS, CELL, Item, Scene


def draw(split, n=300, **options):
    return [scenes.example(split, i, **options) for i in range(n)]


def test_an_object_is_drawn_where_the_scene_says():
    scene = Scene("one", "blue", (Item("red square", 16, 32, 24),))
    image = scenes.render(scene)
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8
    changed = np.argwhere((image != BACKGROUNDS["blue"]).any(-1))
    assert changed.min(0).tolist() == [32, 16] and changed.max(0).tolist() == [55, 39]  # rows, then columns
    red, green, blue = image[44, 28]
    assert red > 200 and green < 100 and blue < 100


@pytest.mark.parametrize("size", [16, 64, 128, 200])
def test_any_size_shows_the_same_scene(size):
    scene, _ = scenes.example("val", 4)
    small = np.asarray(scenes.Image.fromarray(scenes.render(scene, size)).resize((16, 16), scenes.Image.Resampling.BOX))
    large = np.asarray(scenes.Image.fromarray(scenes.render(scene, 256)).resize((16, 16), scenes.Image.Resampling.BOX))
    assert scenes.render(scene, size).shape == (size, size, 3)
    assert np.abs(small.astype(int) - large).mean() < 8


def test_the_same_number_is_the_same_scene_and_splits_differ():
    assert draw("train", 20) == draw("train", 20)
    assert draw("train", 20) != draw("train", 20, seed=1)
    assert draw("train", 20) != draw("val", 20)


def test_tasks_take_turns():
    assert [scene.task for scene, _ in draw("val", 6)] == list(scenes.TASKS)
    assert {scene.task for scene, _ in draw("unseen_pairs", 6)} == {"two", "position", "binding"}


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_objects_lie_inside_on_the_lattice_without_overlap(split):
    for scene, _ in draw(split):
        for item in scene.items:
            assert item.size in scenes.SIZES and item.size % CELL == item.x % CELL == item.y % CELL == 0
            assert 0 <= item.x <= 64 - item.size and 0 <= item.y <= 64 - item.size
        for one, two in itertools.combinations(scene.items, 2):
            assert max(abs(one.x - two.x), abs(one.y - two.y)) >= one.size


def test_off_the_lattice_is_a_switch():
    moved = [item for scene, _ in draw("train", lattice=False) for item in scene.items]
    assert sum(item.x % CELL != 0 for item in moved) > len(moved) / 2
    assert all(0 <= v <= 64 - item.size for item in moved for v in (item.x, item.y))


def test_a_relation_holds_in_the_picture():
    further = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}
    for scene, _ in draw("val"):
        if scene.relation:
            axis, sign = further[scene.relation]
            first, second = (item.centre for item in scene.items)
            assert sign * (second[axis] - first[axis]) > abs(second[1 - axis] - first[1 - axis])


def test_held_out_pairs_never_meet_in_training():
    names = lambda split: [{i.name for i in scene.items} for scene, _ in draw(split, 3000)]
    pairs = {frozenset(n) for n in names("unseen_pairs")}
    assert len(pairs) > 100 and all(scenes.held_out(*pair) for pair in pairs)
    assert not pairs & {frozenset(n) for split in ("train", "val", "unseen_words") for n in names(split)}
    together = [scenes.held_out(a, b) for a, b in itertools.combinations(scenes.sprites(), 2)]
    assert 0.08 < np.mean(together) < 0.17


def test_synonyms_appear_only_in_their_split():
    words = {s.removeprefix(f"{x.colour} ") for x in scenes.sprites().values() for s in x.synonyms}
    assert all(any(w in text or scenes.pluralise(w) in text for w in words) for _, text in draw("unseen_words"))
    for _, text in draw("train", 3000):
        padded = f" {text.replace(',', '')} "
        assert not any(f" {w} " in padded or f" {scenes.pluralise(w)} " in padded for w in words), text


def test_facts_worked_out_by_hand():
    pair = Scene("binding", "pink", (Item("green heart", 0, 8, 24), Item("red square", 40, 8, 24)), "left of")
    text = "a red square right of a green heart on a pink background"
    assert scenes.asked(pair, text) == {
        "object": ["heart", "square"],
        "colour": [("heart", "green"), ("square", "red")],
        "place": [("green heart", "left of", "red square")],
        "background": ["pink"],
    }
    assert set(scenes.asked(pair, "a green heart and a red square")) == {"object", "colour"}
    cats = Scene("counting", "white", (Item("cat", 0, 0, 24), Item("cat", 32, 0, 24)))
    assert scenes.asked(cats, "two cats") == {"object": ["cat"], "count": [("cat", 2)]}


def test_every_caption_names_what_is_there():
    for scene, text in draw("val", 600):
        for item in scene.items:
            sprite = scenes.sprites()[item.name]
            assert sprite.word in text or sprite.plural in text
            assert sprite.colour in text
        if scene.task == "counting":
            assert scenes.NUMBERS[len(scene.items)] in text


def test_several_phrasings_of_one_scene():
    scene, _ = scenes.example("val", 4)
    rng = scenes.random.Random(0)
    assert len({scenes.caption(scene, rng) for _ in range(200)}) >= 12


def test_grammar_of_words():
    assert [scenes.a("owl"), scenes.a("cat")] == ["an owl", "a cat"]
    assert [scenes.pluralise(w) for w in ("kitty", "novel", "box", "coach", "ship")] == [
        "kitties", "novels", "boxes", "coaches", "ships",
    ]  # fmt: skip


def test_what_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"\btest\b.*\btrain\b"):
        scenes.example("test", 0)
    with pytest.raises(ValueError, match=r"\bthree\b.*\bposition\b"):
        scenes.random_scene(scenes.random.Random(0), "three")


def test_a_frame_is_filled_in_good_english():
    cases = {
        ("a {}", "apple"): "an apple",
        ("a {} left of a {}", "owl"): "an owl left of an owl",
        ("two {}", "mouse"): "two mice",
        ("two {} on a blue background", "kitty"): "two kitties on a blue background",
        ("{}", "cat"): "cat",
    }
    for (frame, word), caption in cases.items():
        assert scenes.fill_frame(frame, word) == caption
