"""Captions as people type them: a wider grammar than that of `scenes`, and 60 captions that were written by hand.

The split `everyday` adds scenes (up to six objects of one kind, two kinds with their numbers, three different objects,
one big or small object), and words all of them freely: commands ("draw me 3 apples"), digits, no article, "next to",
"under", "on the left ... on the right". The split `typed` is data/typed.json.
"""

import functools
import json
import random
from collections.abc import Callable

from minimuse.config import data_dir
from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS, CELL, INVERSE, NUMBERS, SIZES, Item, Scene, a, held_out, sprites
from minimuse.files import as_given

TASKS = ("one", "size", "colours", "number", "two", "counts", "three", "position", "binding")
HARD = ("number", "counts", "counts", "three", "three")  # tasks that training meets this much more often
SPLITS = (*scenes.SPLITS, "everyday", "typed")
MOST = 6  # objects in a picture
RING = ((0, 0), (3, 0), (5, 2), (5, 5), (2, 5), (0, 3))  # corners of six objects, in cells
LEADS = ("draw", "draw me", "please draw", "can you draw", "show me", "show", "paint", "make", "create", "generate",
         "give me", "i want", "a picture of", "an image of", "a photo of", "a drawing of", "picture of")  # fmt: skip
TAILS = ("please", "!", ".", ", please")
# Words that change nothing: an object looks the same, whatever a caption calls it.
IDLE = ("cute", "nice", "pretty", "lovely", "happy", "funny", "beautiful", "red", "blue", "green", "yellow", "brown")
BIG, SMALL = ("big", "large", "huge"), ("small", "little", "tiny")
BETWEEN = {  # ways to say that the first is left of (and so on) the second
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "beneath", "underneath"),
}
SIDES = {"left of": "on the left", "right of": "on the right", "above": "at the top", "below": "at the bottom"}


# --- scenes ---------------------------------------------------------------------------------------------------------


def corners(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Corners (x, y) of 1 to 6 objects of the smaller size on the lattice, in the order in which one reads them.

    Up to four leave each other room. The fifth stands in the middle of four and shares a cell with one of them. Six
    stand in a ring, where two pairs of neighbours share a cell.
    """
    near = lambda: [CELL * rng.randrange(2), CELL * rng.randrange(4, 6)]
    middle = lambda: CELL * rng.randrange(2, 4)
    far = 5 * CELL
    if count <= 4:
        columns, rows = near(), near()
        found = rng.sample([(x, y) for y in rows for x in columns], count)
    elif count == 5:
        found = [(x, y) for y in (0, far) for x in (0, far)] + [(middle(), middle())]
    else:
        found = [(CELL * x, CELL * y) for x, y in RING]
        found = [(far - x, y) for x, y in found] if rng.random() < 0.5 else found
        found = [(y, x) for x, y in found] if rng.random() < 0.5 else found
    return sorted(found, key=lambda corner: corner[::-1])


def _kinds(rng: random.Random, count: int) -> list[str]:
    """Different sprites, no two of them a pair of the split unseen_pairs; three have three different words, too."""
    names = [sprite.name for sprite in sprites().values()]
    while True:
        found = rng.sample(names, count)
        pairs = [(one, other) for i, one in enumerate(found) for other in found[:i]]
        if not any(held_out(*pair) for pair in pairs) and (count < 3 or len({sprites()[n].word for n in found}) == 3):
            return found


def scene_of(rng: random.Random, task: str, names: list[str], background: str, relation: str = "") -> Scene:
    """A scene of these objects, one name per object; the corners are random."""
    if relation:
        places = scenes.two_corners(rng, relation)
    elif len(names) == 1:
        size = rng.choice(SIZES)
        place = lambda: CELL * rng.randrange(1, (scenes.CANVAS - size) // CELL)
        return Scene(task, background, (Item(names[0], place(), place(), size),))
    else:
        places = corners(rng, len(names))
    return Scene(task, background, tuple(Item(n, x, y, SIZES[0]) for n, (x, y) in zip(names, places)), relation)


def random_scene(rng: random.Random, task: str) -> Scene:
    """A random scene of one of TASKS."""
    background = rng.choice(tuple(BACKGROUNDS))
    if task not in ("number", "counts", "three", "size"):
        return scenes.random_scene(rng, task)
    if task in ("number", "size"):
        names = _kinds(rng, 1) * (rng.randrange(1, MOST + 1) if task == "number" else 1)
    elif task == "counts":
        one, other = _kinds(rng, 2)
        first, second = rng.choice([(i, j) for i in range(1, 5) for j in range(1, 5) if 3 <= i + j <= MOST])
        names = [one] * first + [other] * second
    else:
        names = _kinds(rng, 3)
    return scene_of(rng, task, names, background)


# --- captions -------------------------------------------------------------------------------------------------------


def _name(name: str, plural: bool) -> str:
    return sprites()[name].plural if plural else name


class _Style:
    """How one caption is worded, drawn once for the whole caption."""

    def __init__(self, rng: random.Random, noun: Callable[[str, bool], str], names: set[str]):
        self.rng, self.noun = rng, noun
        # "a big circle": a shape's colour may be left out, unless two shapes of the picture differ only in it.
        self.bare = rng.random() < 0.15 and len({sprites()[name].word for name in names}) == len(names)
        self.article = rng.choices(("a", "", "the", "one"), (70, 18, 6, 6))[0]
        self.digits = rng.random() < 0.4

    def phrase(self, name: str, count: int = 1, adjective: str = "", noun: str = "") -> str:
        noun = noun or self.noun(name, count > 1)
        if self.bare:
            noun = noun.removeprefix(sprites()[name].colour + " ")
        if not adjective and not sprites()[name].colour and self.rng.random() < 0.06:
            adjective = self.rng.choice(IDLE)
        words = f"{adjective} {noun}".strip()
        if count > 1:
            return f"{count if self.digits else NUMBERS[count]} {words}"
        if self.article == "a":
            return a(words)
        return f"{'1' if self.article == 'one' and self.digits else self.article} {words}".strip()


def _related(style: _Style, scene: Scene) -> str:
    rng, relation = style.rng, scene.relation
    one, other = (style.phrase(item.name) for item in scene.items)
    if rng.random() < 0.5:
        one, other, relation = other, one, INVERSE[relation]
    beside = ["next to", "beside"] if relation in ("left of", "right of") else []
    if beside and rng.random() < 0.25:
        return f"{one} {rng.choice(beside)} {other}"
    where, there = SIDES[relation], SIDES[INVERSE[relation]]
    if rng.random() < 0.35:
        sides = (
            f"{one} {where} and {other} {there}",
            f"{one} {where}, {other} {there}",
            f"{where} {one}, {there} {other}",
        )
        return rng.choice(sides)
    return f"{one} {rng.choice(BETWEEN[relation])} {other}"


def _objects(style: _Style, scene: Scene) -> str:
    """The objects of a scene, without its background."""
    rng, names = style.rng, [item.name for item in scene.items]
    if scene.task == "size":
        return style.phrase(names[0], adjective=rng.choice(BIG if scene.items[0].size > SIZES[0] else SMALL))
    if scene.task == "colours" and rng.random() < 0.3:
        sprite = sprites()[names[0]]
        noun = style.noun(names[0], False).removeprefix(sprite.colour + " ")
        return f"{style.phrase(names[0], noun=noun)} {rng.choice(('that is', 'in'))} {sprite.colour}"
    if scene.relation and (scene.task == "position" or scene.task == "binding" and rng.random() < 0.6):
        return _related(style, scene)
    kinds = list(dict.fromkeys(names))
    rng.shuffle(kinds)
    phrases = [style.phrase(name, names.count(name)) for name in kinds]
    if len(phrases) == 1:
        return phrases[0]
    last = rng.choice((" and ", " and ", " and ", ", ", " with ") if len(phrases) == 2 else (" and ", ", and ", ", "))
    return (" and " if last == " and " and rng.random() < 0.2 else ", ").join(phrases[:-1]) + last + phrases[-1]


def caption(scene: Scene, rng: random.Random, noun: Callable[[str, bool], str] = _name) -> str:
    """A caption of a scene of TASKS; half of them name the background.

    noun    (name of a sprite, plural) -> word
    """
    text = _objects(style := _Style(rng, noun, {item.name for item in scene.items}), scene)
    lead = rng.choice(LEADS) + " " if rng.random() < 0.5 else ""
    if rng.random() < 0.5:
        colour = scene.background
        ground = f"{'' if not style.article else 'a '}{colour} background"
        if rng.random() < 0.1 and not lead:
            text = f"{ground}, {text}"
        else:
            text += rng.choice((" on ", " on ", " against ", " with ", " in front of ", ", ")) + ground
    text = lead + text
    if rng.random() < 0.15:
        tail = rng.choice(TAILS)
        text += tail if tail[0] in ",.!" else " " + tail
    return scenes.with_articles(text)


# --- splits ---------------------------------------------------------------------------------------------------------


@functools.cache
def typed() -> tuple[tuple[Scene, str], ...]:
    """The captions of data/typed.json, each with a scene that it describes."""
    rows = json.loads((data_dir() / "typed.json").read_text(encoding="utf-8"))
    found = []
    for i, row in enumerate(rows):
        rng = random.Random(f"typed/{i}")
        names = [name for name, count in row["objects"].items() for _ in range(count)]
        background = row.get("background") or rng.choice(tuple(BACKGROUNDS))
        scene = scene_of(rng, "typed", names, background, row.get("relation", ""))
        while "size" in row and (scene.items[0].size > SIZES[0]) != (row["size"] == "big"):
            scene = scene_of(rng, "typed", names, background)
        found.append((scene, row["caption"]))
    return tuple(found)


def tasks_of(split: str) -> tuple[str, ...]:
    """The tasks that a split cycles through. ValueError if the split does not exist."""
    if split not in SPLITS:
        raise ValueError(f"There is no split {as_given(split)}; the splits are {', '.join(SPLITS)}.")
    return {"everyday": TASKS, "typed": ("typed",)}.get(split) or scenes.tasks_of(split)


def example(split: str, index: int, seed: int = 0) -> tuple[Scene, str]:
    """Scene and caption number `index` of any of SPLITS; `typed` begins again after its last.

    Training scenes of `everyday` have seeds below 0, and more of the hard tasks.
    """
    tasks = tasks_of(split) + (HARD if split == "everyday" and seed < 0 else ())
    if split == "typed":
        return typed()[index % len(typed())]
    if split != "everyday":
        return scenes.example(split, index, seed)
    rng = random.Random(f"everyday/{seed}/{index}")
    scene = random_scene(rng, tasks[index % len(tasks)])
    return scene, caption(scene, rng)
