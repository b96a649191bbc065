"""Emoji scenes: a grammar of small pictures with exact captions, and their renderer.

A scene is a background colour and a few objects on a 64 x 64 canvas; it renders to any resolution and has several
captions. The grammar has the six tasks of GenEval (arXiv 2310.11513), so rules can check what a caption requests:

    one       "a cat on a blue background"       counting  "three cats"
    two       "a cat and a dog"                  position  "a cat left of a dog"
    colours   "a heart that is red"              binding   "a green heart above a red square"

Objects lie on a lattice of CELL canvas units, one token of the base tokenizer, so that patches repeat.
"""

import functools
import io
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from minimuse.config import data_dir
from minimuse.files import as_given

CANVAS = 64  # units per side; one unit is one pixel at 64 px
CELL = 8  # units per side of a lattice cell
SIZES = (24, 32)  # units per side of an object, multiples of CELL
TASKS = ("one", "two", "counting", "colours", "position", "binding")
SPLITS = ("train", "val", "unseen_pairs", "unseen_words")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
BACKGROUNDS = {  # light tones, so that every sprite stands out
    "white": (255, 255, 255),
    "grey": (196, 196, 196),
    "pink": (255, 190, 210),
    "orange": (255, 205, 140),
    "yellow": (255, 245, 160),
    "green": (180, 230, 170),
    "blue": (160, 205, 250),
    "purple": (210, 185, 245),
}
BESIDE = {"next", "beside"}  # words by which a caption requests where its objects are, or how big
PLACED = {"left", "right", "above", "over", "top", "below", "under", "beneath", "underneath", "bottom"}
LARGE, LITTLE = {"big", "large", "huge"}, {"small", "little", "tiny"}
HELD_OUT = 8  # one pair of sprites in this many is held out for the split unseen_pairs


@dataclass(frozen=True)
class Sprite:
    """One row of data/sprites.parquet; its image is RGBA, 128 x 128."""

    name: str
    plural: str
    word: str  # the name without its colour
    colour: str  # "" unless it is a coloured shape
    category: str
    synonyms: tuple[str, ...]
    code_point: str
    image: Image.Image


@dataclass(frozen=True)
class Item:
    """An object: the name of its sprite, its upper left corner and its side in canvas units."""

    name: str
    x: int
    y: int
    size: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in canvas units."""
        return self.x + self.size / 2, self.y + self.size / 2


@dataclass(frozen=True)
class Scene:
    """What a picture shows. If there is a relation, items[0] is left of (right of, above, below) items[1]."""

    task: str
    background: str
    items: tuple[Item, ...]
    relation: str = ""


@functools.cache
def sprites() -> dict[str, Sprite]:
    """All sprites by name, in the order of the file."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(data_dir() / "sprites.parquet").to_pylist()
    for row in rows:
        row["image"] = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGBA")
        row["synonyms"] = tuple(row["synonyms"])
    return {row["name"]: Sprite(**row) for row in rows}


@functools.cache
def _names(shapes: bool) -> tuple[str, ...]:
    return tuple(s.name for s in sprites().values() if (s.category == "shape") == shapes)


# --- pictures -------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def _stamp(name: str, side: int) -> Image.Image:
    image = sprites()[name].image
    return image if side == image.width else image.resize((side, side), Image.Resampling.LANCZOS)


def render(
    scene: Scene,
    size: int = CANVAS,
    stamp: Callable[[str, int], Image.Image] = _stamp,
    ground: Image.Image | None = None,
) -> np.ndarray:
    """The picture of a scene, uint8 [size, size, 3], of `size` pixels per side.

    stamp    what to draw for a sprite: its name and a side in pixels -> RGBA of that side
    ground   what to draw the objects on, RGB of `size` x `size` pixels; None: the scene's background
    """
    scale = size / CANVAS
    canvas = ground.copy() if ground else Image.new("RGB", (size, size), BACKGROUNDS[scene.background])
    for item in scene.items:
        drawing = stamp(item.name, max(1, round(item.size * scale)))
        canvas.paste(drawing, (round(item.x * scale), round(item.y * scale)), drawing)
    return np.asarray(canvas)


def render_batch(scenes: Iterable[Scene], size: int = CANVAS) -> np.ndarray:
    """The pictures of several scenes, uint8 [B, size, size, 3]."""
    return np.stack([render(scene, size) for scene in scenes])


# --- drawing a scene at random --------------------------------------------------------------------------------------


def held_out(a: str, b: str) -> bool:
    """Whether these two sprites never occur together in a training picture (the split unseen_pairs)."""
    return a != b and zlib.crc32("|".join(sorted((a, b))).encode()) % HELD_OUT == 0


def _pair(rng: random.Random, names: tuple[str, ...], split: str) -> tuple[str, str]:
    while True:
        a, b = rng.sample(names, 2)
        if held_out(a, b) == (split == "unseen_pairs"):
            return a, b


def two_corners(rng: random.Random, relation: str) -> list[tuple[int, int]]:
    """Corners (x, y) of two objects of the smaller size, on the lattice, the first `relation` the second."""
    near, far = CELL * rng.randrange(2), CELL * (4 + rng.randrange(2))  # 0 or 8, and 32 or 40
    across = CELL * rng.randrange(1, 5)
    other = min(max(across + CELL * rng.randrange(-1, 2), 0), CANVAS - SIZES[0])
    first, second = (near, across), (far, other)
    if relation in ("right of", "below"):
        first, second = second, first
    if relation in ("above", "below"):
        first, second = (first[1], first[0]), (second[1], second[0])
    return [first, second]


def random_scene(rng: random.Random, task: str, split: str = "train", *, lattice: bool = True) -> Scene:
    """A random scene of one task. With lattice=False every object moves by up to half a cell in each direction.

    ValueError if the task does not exist.
    """
    background = rng.choice(tuple(BACKGROUNDS))
    relation = ""
    if task in ("one", "colours"):
        size = rng.choice(SIZES)
        corner = lambda: CELL * rng.randrange(1, (CANVAS - size) // CELL)  # one cell of margin
        items = [Item(rng.choice(_names(shapes=task == "colours")), corner(), corner(), size)]
    elif task == "counting":
        name, count = rng.choice(_names(shapes=False)), rng.randrange(1, 5)
        columns = [CELL * rng.randrange(2), CELL * (4 + rng.randrange(2))]
        rows = [CELL * rng.randrange(2), CELL * (4 + rng.randrange(2))]
        corners = sorted(rng.sample([(x, y) for y in rows for x in columns], count))
        items = [Item(name, x, y, SIZES[0]) for x, y in corners]
    elif task in ("two", "position", "binding"):
        names = _pair(rng, _names(shapes=task == "binding"), split)
        relation = rng.choice(RELATIONS)
        corners = two_corners(rng, relation)
        items = [Item(name, x, y, SIZES[0]) for name, (x, y) in zip(names, corners)]
    else:
        raise ValueError(f"There is no task {as_given(task)}; the tasks are {', '.join(TASKS)}.")
    if not lattice:
        move = lambda v, size: min(max(v + rng.randint(-CELL // 2, CELL // 2), 0), CANVAS - size)
        items = [replace(item, x=move(item.x, item.size), y=move(item.y, item.size)) for item in items]
    return Scene(task, background, tuple(items), relation)


# --- captions -------------------------------------------------------------------------------------------------------


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def with_articles(text: str) -> str:
    """The text with "an" for "a" before a vowel."""
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def pluralise(noun: str) -> str:
    """Regular plural, for synonyms; the sprites' own plurals are in their table."""
    if re.search("[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search("(s|x|ch|sh)$", noun) else "s")


def fill_frame(frame: str, word: str) -> str:
    """The frame with the word for {}: with "an" before a vowel, and in the plural after a number."""
    sprite = sprites().get(word)
    if frame.split(" {}")[0].split()[-1:] in ([number] for number in NUMBERS[2:]):
        word = sprite.plural if sprite else pluralise(word)
    return with_articles(frame.replace("{}", word))


def _phrasings(scene: Scene, rng: random.Random, synonyms: bool) -> list[str]:
    """Phrases for the objects of a scene, each equally likely."""
    # `asked` finds facts by the words used here and in `caption`: change both together.
    table = sprites()

    def word(name: str) -> str:
        return rng.choice(table[name].synonyms) if synonyms else name

    names = [word(item.name) for item in scene.items]
    one = a(names[0])
    if scene.task == "counting":
        count, name = len(scene.items), scene.items[0].name
        many = pluralise(names[0]) if synonyms else table[name].plural
        many = f"{NUMBERS[count]} {names[0] if count == 1 else many}"
        return [many, f"a picture of {many}", f"there {'is' if count == 1 else 'are'} {many}"]
    if scene.task == "colours":
        sprite = table[scene.items[0].name]
        noun = names[0].removeprefix(sprite.colour + " ")
        return [one, f"a picture of {one}", f"{a(noun)} that is {sprite.colour}", f"{a(noun)} in {sprite.colour}"]
    if scene.task == "one":
        return [one, f"a picture of {one}", f"there is {one}"]
    other = a(names[1])
    both = [f"{one} and {other}", f"{other} and {one}"]
    relations = []
    for subject, thing, relation in ((one, other, scene.relation), (other, one, INVERSE[scene.relation])):
        long = f"to the {relation}" if relation in ("left of", "right of") else f"placed {relation}"
        relations += [f"{subject} {relation} {thing}", f"{subject} {long} {thing}"]
    if scene.task == "two":
        return both + [f"a picture of {phrase}" for phrase in both]
    return relations if scene.task == "position" else both + relations


def caption(scene: Scene, rng: random.Random, *, synonyms: bool = False) -> str:
    """One of the scene's captions; three in four name the background. With synonyms=True a synonym replaces every
    name."""
    text = rng.choice(_phrasings(scene, rng, synonyms))
    colour = scene.background
    ways = [f" on {a(colour)} background", f" against {a(colour)} background", f", {colour} background"]
    return text + (rng.choice(ways) if rng.random() < 0.75 else "")


def asked(scene: Scene, text: str) -> dict[str, list]:
    """The facts that a caption of this scene requests, by kind; kinds that it does not request are absent.

    object: words that must be seen · colour: (word, colour) · count: (name, number) · place: (name, relation, name),
    where "next to" is a relation, too · size: (name, "big" or "small") · background: name of the colour.
    """
    # Facts are found by the words that captions use, here and in everyday.py: change both together.
    table, words = sprites(), set(re.findall("[a-z]+", text.lower()))
    things, named = (
        [table[item.name] for item in scene.items],
        re.sub("[a-z]+ background", "", text.lower()),
    )  # its colour is not a shape's
    # "two hearts" requests no colour. What is requested is then the word, otherwise the name: "red heart".
    wanted = [s.name if re.search(rf"\b{s.colour}\b", named) else s.word for s in things]
    facts: dict[str, list] = {"object": sorted({s.word for s in things})}
    if colours := sorted({(s.word, s.colour) for s, name in zip(things, wanted) if s.colour and name == s.name}):
        facts["colour"] = colours
    counts = Counter(wanted)
    if scene.task == "counting" or max(counts.values()) > 1:
        facts["count"] = list(counts.items())
    if scene.relation and words & (BESIDE | PLACED):
        facts["place"] = [(wanted[0], "next to" if words & BESIDE else scene.relation, wanted[1])]
    if len(things) == 1 and words & (LARGE | LITTLE):
        facts["size"] = [(wanted[0], "big" if words & LARGE else "small")]
    if "background" in words:
        facts["background"] = [scene.background]
    return facts


def tasks_of(split: str) -> tuple[str, ...]:
    """The tasks that a split cycles through: all, or in `unseen_pairs` those with two different objects.

    ValueError if the split does not exist.
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise ValueError(f"There is no split {as_given(split)}; the splits are {', '.join(SPLITS)}.")
    return ("two", "position", "binding") if split == "unseen_pairs" else TASKS


def example(split: str, index: int, seed: int = 0, *, lattice: bool = True) -> tuple[Scene, str]:
    """Scene and caption number `index` of a split; the same arguments always give the same pair.

    The split cycles through its tasks. `val` comes from the same grammar with different seeds: a picture of one object
    may also be in `train` (there are only 14,800), a picture of two objects almost never is (there are millions).
    """
    tasks = tasks_of(split)
    rng = random.Random(f"{split}/{seed}/{index}")
    scene = random_scene(rng, tasks[index % len(tasks)], split, lattice=lattice)
    return scene, caption(scene, rng, synonyms=split == "unseen_words")


def pictured(split: str, index: int, seed: int = 0, size: int = 64) -> tuple[np.ndarray, str]:
    """Picture uint8 [size, size, 3] and caption number `index` of a split."""
    scene, text = example(split, index, seed)
    return render(scene, size), text
