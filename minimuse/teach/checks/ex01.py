"""Exercises 01: scenes and captions."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.data import scenes
from minimuse.teach.asking import Wrong, call, chosen, compare, compiled, describe, exercise

BOXES = (  # x, y, side of two objects each: crossing, edges and corners in common, one inside the other, in one place
    ((0, 0, 24), (16, 8, 24)), ((0, 0, 24), (24, 0, 24)), ((8, 40, 8), (8, 48, 16)), ((32, 32, 8), (40, 40, 8)),
    ((48, 40, 8), (40, 48, 8)), ((0, 0, 24), (4, 32, 8)), ((0, 24, 32), (8, 32, 8)), ((24, 8, 8), (16, 0, 24)),
    ((8, 8, 16), (8, 8, 16)),
)  # fmt: skip


def _overlaps(boxes: Any) -> np.ndarray:
    """Unit by unit: whether two different objects fill a row and a column in common."""
    columns, rows = ([set(range(box[axis], box[axis] + box[2])) for box in np.array(boxes).tolist()] for axis in (0, 1))
    n = range(len(columns))
    pairs = [[i != j and bool(columns[i] & columns[j]) and bool(rows[i] & rows[j]) for j in n] for i in n]
    return np.array(pairs, bool).reshape(len(columns), len(columns))


def _boxed(boxes: Any, before: Callable = np.less, meet: Callable = np.logical_and, both: Callable = np.all) -> Any:
    """Overlaps by comparing corners and ends, the diagonal False; the last three make mistakes."""
    boxes = np.asarray(boxes)
    begins = before(boxes[:, None, :2], boxes[None, :, :2] + boxes[None, :, 2:])
    return both(meet(begins, begins.swapaxes(0, 1)), -1) & ~np.eye(len(boxes), dtype=bool)


def _one_side(boxes: Any) -> np.ndarray:
    corner, side = np.asarray(boxes)[:, None, :2], np.asarray(boxes)[:, None, 2:]
    gap = corner - corner.swapaxes(0, 1)
    return (abs(gap) < side).all(-1) & ~np.eye(len(boxes), dtype=bool)


@exercise(points=2)
def overlap_pairs(answer: Callable) -> None:
    """boxes int [n, 3] of rows (x, y, side) -> bool [n, n], True where two different objects overlap."""
    rng = np.random.default_rng(0)
    sizes = [np.concatenate([rng.integers(0, 40, (n, 2)), rng.integers(1, 25, (n, 1))], 1) for n in (1, 17, 0)]
    cases = [(jnp.array(boxes, int),) for boxes in (*BOXES, *sizes)]
    compare(
        answer,
        cases,
        _overlaps,
        {
            "Every object overlaps itself. Only two different objects count: set the diagonal to False.": (
                lambda boxes: _overlaps(boxes) | np.eye(len(boxes), dtype=bool)
            ),
            "True and False are swapped: True means that the two overlap.": (
                lambda boxes: ~_overlaps(boxes) ^ np.eye(len(boxes), dtype=bool)
            ),
            "Every pair is marked only once. If j overlaps i, then i overlaps j: fill both halves.": (
                lambda boxes: np.triu(_overlaps(boxes))
            ),
            "Objects that only touch are reported. One ends exactly where the other begins: compare with <, not with "
            "<=.": lambda boxes: _boxed(boxes, before=np.less_equal),
            "To overlap, two objects must do so along x and along y at once; for you, one of the two is enough.": (
                lambda boxes: _boxed(boxes, both=np.any)
            ),
            "Only one half of the condition is there: i begins before j ends. Also, j must begin before i ends.": (
                lambda boxes: _boxed(boxes, meet=lambda one, two: one)
            ),
            "The side of one object is used for both, so the order counts. Their sides may differ.": _one_side,
        },
        kind="bool",
    )
    compare(compiled(answer), cases[:1], _overlaps, kind="bool")


RELATIONS = ("left of", "right of", "above", "below")
PLACES = (  # first, relation, second: straight, steep, on a diagonal, of different sides, with a centre at a half
    ((8, 16, 24), 0, (40, 16, 24)), ((40, 24, 24), 1, (8, 24, 24)), ((16, 0, 24), 2, (16, 32, 24)),
    ((24, 40, 24), 3, (24, 8, 24)), ((8, 0, 24), 0, (16, 40, 24)), ((40, 24, 24), 1, (32, 0, 24)),
    ((8, 16, 24), 2, (40, 24, 24)), ((8, 8, 24), 0, (40, 40, 24)), ((8, 40, 24), 3, (40, 8, 24)),
    ((8, 8, 24), 2, (8, 8, 24)), ((0, 32, 32), 3, (34, 4, 24)), ((4, 36, 24), 1, (30, 0, 32)),
    ((30, 5, 8), 2, (29, 8, 7)), ((9, 20, 7), 0, (12, 16, 8)), ((12, 16, 8), 1, (9, 20, 7)),
)  # fmt: skip


def _related(first: Any, relation: Any, second: Any) -> np.ndarray:
    """Row by row: the relation of the direction in which twice the centres differ more, if it is this one."""
    holds = []
    for (x1, y1, side1), name, (x2, y2, side2) in zip(
        *(np.asarray(given).tolist() for given in (first, relation, second))
    ):
        right, down = 2 * x2 + side2 - 2 * x1 - side1, 2 * y2 + side2 - 2 * y1 - side1
        only = None
        if abs(right) > abs(down):
            only = "left of" if right > 0 else "right of"
        elif abs(down) > abs(right):
            only = "above" if down > 0 else "below"
        holds.append(only == RELATIONS[name])
    return np.array(holds, bool)


def _by_centres(
    half: Callable = lambda side: side / 2,
    across: Callable = np.abs,
    holds: Callable = np.greater,
    names: tuple[int, ...] = (0, 1, 2, 3),
) -> Callable:
    """The relation by differences of centres; each argument makes a mistake."""

    def related(first: Any, relation: Any, second: Any) -> np.ndarray:
        one, two = (np.asarray(given)[:, :2] + half(np.asarray(given)[:, 2:]) for given in (first, second))
        dx, dy = (two - one).T
        pairs = [(dx, dy), (-dx, dy), (dy, dx), (-dy, dx)]
        every = np.array([holds(pairs[name][0], across(pairs[name][1])) for name in names])
        return every[np.asarray(relation), np.arange(len(dx))]

    return related


@exercise(points=3)
def relation_holds(answer: Callable) -> None:
    """first int [M, 3], relation int [M], second int [M, 3] -> bool [M]: whether the relation holds."""
    rng = np.random.default_rng(0)
    cases = [(jnp.array([one]), jnp.array([name]), jnp.array([two])) for one, name, two in PLACES]
    for n in (60, 0):
        one, two = (np.concatenate([rng.integers(0, 33, (n, 2)), rng.integers(7, 33, (n, 1))], 1) for _ in range(2))
        cases.append((jnp.array(one), jnp.array(rng.integers(0, 4, n)), jnp.array(two)))
    compare(
        answer,
        cases,
        _related,
        {
            "Every relation is reversed. The sentence is: `first` is left of `second`.": _by_centres(
                names=(1, 0, 3, 2)
            ),
            "Left and right are correct, but above and below are swapped. y counts downwards: what is above has the "
            "smaller y.": _by_centres(names=(0, 1, 3, 2)),
            "Above and below are correct, but left and right are swapped. x counts to the right.": (
                _by_centres(names=(1, 0, 2, 3))
            ),
            "x and y are swapped: left and right are about x, above and below about y.": _by_centres(
                names=(2, 3, 0, 1)
            ),
            "Only one relation can hold: also require that the centres differ more in this direction than in the "
            "other one.": _by_centres(across=lambda gap: 0),
            "The difference in the other direction may be negative: compare with its absolute value.": (
                _by_centres(across=lambda gap: gap)
            ),
            "On an exact diagonal none of the four holds: compare with >, not with >=.": (
                _by_centres(holds=np.greater_equal)
            ),
            "The sides differ. Compare centres, x + side / 2 and y + side / 2, not corners.": (
                _by_centres(half=lambda side: 0 * side)
            ),
            "Those are the lower right corners. Compare centres, x + side / 2 and y + side / 2.": (
                _by_centres(half=lambda side: side)
            ),
            "Half of an odd side is not a whole number: divide with /, not with //.": (
                _by_centres(half=lambda side: side // 2)
            ),
        },
        kind="bool",
    )
    compare(compiled(answer), cases[-2:-1], _related, kind="bool")


PICTURES = [  # task, facts of the image
    ("two", dict(object=[True, False], background=[True])),
    ("one", dict(object=[True], background=[True])),
    ("two", dict(object=[True, True])),
    ("position", dict(object=[True, True], place=[False])),
    ("counting", dict(object=[True], count=[False], background=[False])),
    ("counting", dict(object=[True], count=[True])),
    ("counting", dict(object=[True], count=[True], background=[True])),
    ("counting", dict(object=[True], count=[True], background=[False])),
    ("colours", dict(object=[False], colour=[False])),
    ("two", dict(object=[False, False])),
]


def _drawn(seed: int, count: int) -> tuple[list[str], list[dict]]:
    """Tasks and facts of `count` images, of which about 60% are right: that is decided first, then facts that fit."""
    rng = np.random.default_rng(seed)
    tasks = [("binding", "two", "one")[i] for i in rng.integers(0, 3, count)]
    answers = []
    for right in (rng.random(count) < 0.6).tolist():
        values = rng.random(5) < 0.7
        values = (values | True if right else values & (np.arange(5) != rng.integers(0, 5))).tolist()
        answers.append(dict(object=values[:2], colour=values[2:4], background=values[4:]))
    return tasks, answers


def _shares(tasks: list, answers: list, worth: Callable = all, share: Callable = np.mean, kinds: Any = None) -> list:
    """Fidelity of each task, in alphabetical order; the last three arguments make mistakes."""
    found = []
    for task in sorted(set(tasks)):
        facts = [answer for name, answer in zip(tasks, answers) if name == task]
        facts = [[fact for kind in kinds or one for fact in one.get(kind, [])] for one in facts]
        found.append(share([float(worth(one)) for one in facts]))
    return found


def _of_tasks(value: Any, tasks: list[str]) -> None:
    """Wrong unless an answer is a dict with a number for exactly these tasks."""
    if not isinstance(value, dict):
        raise Wrong(f"It returned {describe(value)}; return a dict from task to fidelity.")
    if more := [name for name in value if name not in tasks]:
        raise Wrong(f"There is an entry for {more[0]!r}, but no image has this task. Leave such tasks out.")
    if less := [name for name in tasks if name not in value]:
        raise Wrong(f"There is no entry for {less[0]!r}. A task whose images are all wrong has a fidelity of 0.")


@exercise(points=3)
def fidelity_by_task(answer: Callable) -> None:
    """tasks, list of M str; answers, list of M dicts {kind: list of bool} -> {task: share of fully right images}."""
    single = [([task], [facts]) for task, facts in PICTURES]
    tasks, facts = map(list, zip(*PICTURES))
    cases = [*single[:6], (tasks[4:7], facts[4:7]), (tasks, facts), _drawn(0, 40), _drawn(1, 300), ([], [])]
    for case in cases:
        _of_tasks(call(answer, *case), sorted(set(case[0])))
    compare(
        answer,
        cases,
        _shares,
        {
            "That is the share of facts. One false fact makes an image wrong: count the images whose facts are all "
            "true.": lambda *case: np.array(_shares(*case, worth=sum)) / _shares(*case, worth=len),
            "That gives an image part of a mark for some of its facts. An image is right, 1, or wrong, 0.": (
                lambda *case: _shares(*case, worth=np.mean)
            ),
            "That uses only the objects. Go through all kinds of facts, `answer.values()`.": (
                lambda *case: _shares(*case, kinds=["object"])
            ),
            "That tests whether any fact is true. All of them must be.": lambda *case: _shares(*case, worth=any),
            "Every image counts as right. A list that is not empty counts as true, whatever is in it: go through the "
            "facts in the lists.": lambda *case: _shares(*case, worth=lambda facts: True),
            "These are counts of right images. Divide each by the number of images of its task.": (
                lambda *case: _shares(*case, share=sum)
            ),
            "That is divided by the number of all images. Divide by the number of images of this task.": (
                lambda tasks, answers: np.array(_shares(tasks, answers, share=sum)) / len(tasks)
            ),
            "These are percentages. A share lies between 0 and 1.": lambda *case: 100 * np.array(_shares(*case)),
            "That is the share of wrong images. Fidelity is the share of right ones.": (
                lambda *case: 1 - np.array(_shares(*case))
            ),
        },
        read=lambda value: [value[task] for task in sorted(value)],
    )


class Plain(dict):
    """A scene as the exercise gives it, shown in one short line."""

    def __repr__(self) -> str:
        items = " and ".join(" ".join(map(str, item)) for item in self["items"])
        return f"{self['background']}: {items}, “{self['caption']}”"


def _scene(background: str, *items: tuple, caption: str = "a cat") -> Plain:
    return Plain(background=background, items=list(items), caption=caption)


CAT, DOG, FOX = ("cat", 8, 16, 24), ("dog", 40, 16, 24), ("fox", 8, 8, 32)
SCENES = [  # train, test
    ([_scene("blue", CAT)], [_scene("blue", CAT)]),  # a copy
    ([_scene("blue", CAT)], [_scene("green", FOX)]),
    ([_scene("blue", CAT)], [_scene("blue", CAT, caption="one")]),  # only the caption differs
    ([_scene("pink", FOX)], [_scene("pink", FOX, caption="one")]),
    ([_scene("blue", CAT)], [_scene("blue", DOG)]),  # and only the caption does not
    ([_scene("blue", CAT)], [_scene("pink", CAT)]),  # the background
    ([_scene("pink", FOX)], [_scene("blue", FOX)]),
    ([_scene("blue", CAT)], [_scene("blue", ("cat", 16, 16, 24))]),  # x, y, side
    ([_scene("pink", FOX)], [_scene("pink", ("fox", 8, 24, 32))]),
    ([_scene("pink", FOX)], [_scene("pink", ("fox", 8, 8, 24))]),
    ([_scene("blue", CAT)], [_scene("blue", ("cat", 8, 16, 32))]),
    ([_scene("blue", CAT, DOG)], [_scene("blue", DOG, CAT)]),  # the order
    ([_scene("pink", DOG, CAT)], [_scene("pink", CAT, DOG)]),
    ([_scene("blue", CAT, DOG)], [_scene("blue", CAT)]),  # one of two
    ([_scene("pink", CAT), _scene("pink", DOG)], [_scene("pink", CAT, DOG)]),
    ([_scene("blue", CAT, DOG)], [_scene("blue", ("dog", *CAT[1:]), ("cat", *DOG[1:]))]),  # exchanged
    ([_scene("pink", CAT, FOX)], [_scene("pink", ("fox", *CAT[1:]), ("cat", *FOX[1:]))]),
    ([_scene("blue", FOX)], [_scene("blue", CAT), _scene("blue", CAT)]),  # twice in the test
    ([_scene("blue", CAT)], [_scene("pink", DOG), _scene("pink", DOG), _scene("blue", CAT)]),
]


def _rendered(train: list, test: list) -> np.ndarray:
    """Pixel by pixel: which scenes of the test are not drawn as one of the training scenes is."""

    def pixels(scene: dict) -> bytes:
        items = tuple(scenes.Item(*item) for item in scene["items"])
        return scenes.render(scenes.Scene("two", scene["background"], items)).tobytes()

    seen = {pixels(scene) for scene in train}
    return np.array([pixels(scene) not in seen for scene in test], bool)


def _compared(what: Callable[[dict], Any]) -> Callable:
    """The mistake of comparing only what a function returns of a scene."""

    def unseen(train: list, test: list) -> np.ndarray:
        seen = {what(scene) for scene in train}
        return np.array([what(scene) not in seen for scene in test], bool)

    return unseen


def _once(train: list, test: list) -> np.ndarray:
    known, new = [], _rendered(train, test)
    for i, scene in enumerate(test):
        picture = (scene["background"], frozenset(scene["items"]))
        new[i] &= picture not in known
        known.append(picture)
    return new


def _by_item(train: list, test: list) -> np.ndarray:
    seen = {(scene["background"], item) for scene in train for item in scene["items"]}
    return np.array([any((scene["background"], item) not in seen for item in scene["items"]) for scene in test], bool)


def _from_library() -> list[tuple]:
    """Training and test scenes; 30 of the latter are training scenes with a different caption and order."""
    cases = []
    for split, count, size in (("val", 1, 50), ("val", 60, 200), ("unseen_pairs", 40, 60)):
        pairs = [[scenes.example(name, i) for i in range(n)] for name, n in (("train", size), (split, count))]
        train, test = (
            [_scene(s.background, *((i.name, i.x, i.y, i.size) for i in s.items), caption=c) for s, c in some]
            for some in pairs
        )
        again = [train[i] for i in np.random.default_rng(count).choice(size, 30, replace=False)]
        cases.append((train, test + [Plain(scene, caption="one", items=scene["items"][::-1]) for scene in again]))
    return cases


@exercise(points=3)
def unseen_pictures(answer: Callable) -> None:
    """train, test, lists of dicts (background, items, caption) -> bool [len(test)], True where the image is new."""
    compare(
        answer,
        [*SCENES, *_from_library(), ([], [_scene("blue", CAT)])],
        _rendered,
        {
            "True and False are swapped: True means that the image is new.": lambda *case: ~_rendered(*case),
            "It depends on captions: the same image with a different caption is not a new image. Compare only what "
            "the image shows.": _compared(lambda s: (s["caption"], s["background"], frozenset(s["items"]))),
            "It depends on captions, and on the order of items: compare only what the image shows.": (
                _compared(lambda s: (s["caption"], s["background"], *s["items"]))
            ),
            "It depends on captions only. Compare what the image shows.": _compared(lambda s: s["caption"]),
            "It depends on the order of items: a cat and a dog make the same image as a dog and a cat at the same "
            "positions. Compare them as sets.": _compared(lambda s: (s["background"], *s["items"])),
            "The same objects on a different background make a new image. Compare the background as well.": (
                _compared(lambda s: frozenset(s["items"]))
            ),
            "The same objects at different positions make a new image. Compare x and y as well.": (
                _compared(lambda s: (s["background"], *sorted(item[0] for item in s["items"])))
            ),
            "The same object with a different size makes a new image. Compare the size as well.": (
                _compared(lambda s: (s["background"], frozenset(item[:3] for item in s["items"])))
            ),
            "You compare names and places separately. If a cat and a dog have changed places, the image is new.": (
                _compared(
                    lambda s: (
                        s["background"],
                        frozenset(item[0] for item in s["items"]),
                        frozenset(item[1:] for item in s["items"]),
                    )
                )
            ),
            "An image of one object counts as seen because training shows this object beside another one. All items "
            "together make the image.": _by_item,
            "A scene that occurs twice in `test` counts as seen the second time. Compare with `train` only.": _once,
        },
        kind="bool",
    )


@exercise(points=2)
def failed_task(answer: Callable) -> None:
    """No arguments -> the letter of the right statement."""
    chosen(
        answer,
        "d",
        {
            "a": "Both objects are there. But the caption asks for more facts than objects: a colour for each.",
            "b": "Green and red are there. But a colour fact is about one object: the heart should be green. And "
            "the task colours has a single object.",
            "c": "No position was requested: the caption says “and”. How the objects stand is not a fact to check.",
        },
    )
