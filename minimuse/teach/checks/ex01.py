"""Exercises 01: scenes and captions."""

from collections.abc import Callable

import numpy as np

from minimuse.data import scenes
from minimuse.teach.asking import Wrong, call, chosen, describe, exercise, numbers, same, unless

BOXES = np.array(  # x, y, side
    [(0, 0, 24), (16, 8, 24), (24, 0, 24), (0, 24, 32), (8, 32, 8), (32, 32, 8), (40, 40, 8), (48, 8, 8)]
)
TOUCHING = [(0, 2), (0, 3), (3, 5), (5, 6), (2, 7)]  # pairs of BOXES that share only an edge or a corner
INSIDE = (3, 4)
OVERLAPS = [(0, 1), (1, 2), (1, 3), INSIDE]


@exercise(points=2)
def overlap_pairs(answer: Callable) -> None:
    """boxes int [n, 3] of rows (x, y, side) -> bool [n, n], True where two different objects overlap."""
    n = len(BOXES)
    got = numbers(call(answer, BOXES), (n, n), "bool")
    expected = np.zeros((n, n), bool)
    for i, j in OVERLAPS:
        expected[i, j] = expected[j, i] = True
    if got.diagonal().all():
        raise Wrong("Every object overlaps itself. Only two different objects count: set the diagonal to False.")
    unless(
        got,
        {
            "True and False are swapped: True means that the two overlap.": ~expected ^ np.eye(n, dtype=bool),
            "Every pair is marked only once. If j overlaps i, then i overlaps j: fill both halves.": np.triu(expected),
        },
        right=expected,
    )
    for i, j in ((0, 7), (0, 4)):  # the same rows, or the same columns, far apart
        if got[i, j] or got[j, i]:
            raise Wrong(
                f"The boxes {BOXES[i].tolist()} and {BOXES[j].tolist()} are far from each other in one direction. To "
                "overlap, they must do so along x and along y at once."
            )
    if (got != got.T).any():
        i, j = np.argwhere(got != got.T)[0]
        raise Wrong(
            f"In your answer box {BOXES[i].tolist()} and box {BOXES[j].tolist()} overlap in one order but not in the "
            "reverse order. Each must begin before the other ends; that needs both sides, and the sides may differ."
        )
    for i, j in TOUCHING:
        if got[i, j] or got[j, i]:
            raise Wrong(
                f"The boxes {BOXES[i].tolist()} and {BOXES[j].tolist()} only touch. The first ends exactly where the "
                "second begins: compare with <, not with <=."
            )
    same(got, expected, "the boxes " + " ".join(str(tuple(box)) for box in BOXES.tolist()))
    for seed, count in ((0, 1), (1, 2), (2, 17), (3, 30)):
        rng = np.random.default_rng(seed)
        boxes = np.concatenate([rng.integers(0, 40, (count, 2)), rng.integers(1, 25, (count, 1))], 1)
        painted = np.zeros((count, 64, 64))
        for canvas, (x, y, side) in zip(painted, boxes):
            canvas[y : y + side, x : x + side] = 1
        shared = np.einsum("iyx,jyx->ij", painted, painted) > 0
        np.fill_diagonal(shared, False)
        got = numbers(call(answer, boxes), (count, count), "bool")
        same(got, shared, f"{count} boxes of different sizes, such as {boxes[0].tolist()}")


RELATIONS = ("left of", "right of", "above", "below")
PLAIN = {  # first, second: the only relation that holds
    (("cat", 8, 16, 24), ("dog", 40, 16, 24)): "left of",
    (("dog", 40, 24, 24), ("cat", 8, 24, 24)): "right of",
    (("cat", 16, 0, 24), ("dog", 16, 32, 24)): "above",
    (("key", 24, 40, 24), ("dog", 24, 8, 24)): "below",
}
STEEP = {  # both directions differ, one of them more
    (("cat", 8, 0, 24), ("dog", 16, 40, 24)): "above",
    (("cat", 8, 8, 24), ("dog", 40, 16, 24)): "left of",
    (("cat", 16, 40, 24), ("dog", 8, 0, 24)): "below",
    (("cat", 40, 24, 24), ("dog", 8, 16, 24)): "right of",
}
SIZES = {  # corners would give a different relation
    (("cat", 0, 32, 32), ("dog", 34, 4, 24)): "below",
    (("cat", 32, 0, 32), ("dog", 4, 34, 24)): "right of",
    (("cat", 4, 36, 24), ("dog", 30, 0, 32)): "below",
}
DIAGONAL = {
    (("cat", 8, 8, 24), ("dog", 40, 40, 24)): "",
    (("cat", 40, 8, 24), ("dog", 8, 40, 24)): "",
    (("cat", 8, 8, 24), ("dog", 8, 8, 24)): "",
}


def _relations(answer: Callable, cases: dict) -> np.ndarray:
    """What an answer returns for every case and relation, bool [cases, 4]."""
    rows = [[numbers(call(answer, a, name, b), (), "bool") for name in RELATIONS] for a, b in cases]
    return np.array(rows)


@exercise(points=3)
def relation_holds(answer: Callable) -> None:
    """first (name, x, y, side), relation str, second (name, x, y, side) -> bool."""
    got, expected = _relations(answer, PLAIN), np.eye(4, dtype=bool)
    unless(
        got,
        {
            "Every relation is reversed. The sentence is: `first` is left of `second`.": expected[[1, 0, 3, 2]],
            "Left and right are correct, but above and below are swapped. y counts downwards: what is above has "
            "the smaller y.": expected[[0, 1, 3, 2]],
            "Above and below are correct, but left and right are swapped. x counts to the right.": expected[
                [1, 0, 2, 3]
            ],
            "x and y are swapped: left and right are about x, above and below about y.": expected[[2, 3, 0, 1]],
        },
        right=expected,
    )
    _compare(got, PLAIN)
    steep = (
        "Only one relation can hold: also require that the centres differ more in this direction than in the other one."
    )
    _compare(_relations(answer, STEEP), STEEP, steep)
    _compare(
        _relations(answer, SIZES),
        SIZES,
        "The sides differ. Compare centres, x + side / 2 and y + side / 2, not corners.",
    )
    _compare(
        _relations(answer, DIAGONAL),
        DIAGONAL,
        "On an exact diagonal none of the four holds: compare with >, not with >=.",
    )
    rng = np.random.default_rng(0)
    for side1, side2 in ((24, 24), (24, 32), (32, 8), (7, 20)):
        for _ in range(25):
            x1, y1, x2, y2 = rng.integers(0, 33, 4).tolist()
            turn = np.degrees(np.arctan2(y2 + side2 / 2 - y1 - side1 / 2, x2 + side2 / 2 - x1 - side1 / 2))
            if abs(abs(turn) % 90 - 45) < 1e-6 or (x1 + side1 / 2, y1 + side1 / 2) == (x2 + side2 / 2, y2 + side2 / 2):
                continue
            quarter = {0: "left of", 1: "above", 2: "right of", -2: "right of", -1: "below"}[round(turn / 90)]
            case = {(("cat", x1, y1, side1), ("dog", x2, y2, side2)): quarter}
            _compare(_relations(answer, case), case)


def _compare(got: np.ndarray, cases: dict, advice: str = "") -> None:
    """Raise Wrong about the first case and relation for which the answer is wrong."""
    for row, ((first, second), right) in zip(got, cases.items()):
        for value, name in zip(row, RELATIONS):
            if value != (name == right):
                fact = f"Item {first} is {'' if name == right else 'not '}{name} {second}; yours is {bool(value)}."
                raise Wrong(f"{fact} {advice}".strip())


PICTURES = [  # task, facts of the image
    ("one", dict(object=[True], background=[True])),
    ("two", dict(object=[True, True])),
    ("two", dict(object=[True, False], background=[True])),
    ("position", dict(object=[True, True], place=[False])),
    ("counting", dict(object=[True], count=[False], background=[False])),
    ("counting", dict(object=[True], count=[True])),
    ("counting", dict(object=[True], count=[True], background=[True])),
    ("counting", dict(object=[True], count=[True], background=[False])),
]
FIDELITY = dict(one=1.0, two=0.5, position=0.0, counting=0.5)
SLIPS = {
    "That is the share of facts. One false fact makes an image wrong: count the images whose facts are all true.": dict(
        one=1.0, two=4 / 5, position=2 / 3, counting=8 / 11
    ),
    "That gives an image part of a mark for some of its facts. An image is right, 1, or wrong, 0.": dict(
        one=1.0, two=5 / 6, position=2 / 3, counting=(1 / 3 + 1 + 1 + 2 / 3) / 4
    ),
    "That uses only the objects. Go through all kinds of facts, `answer.values()`.": dict(
        one=1.0, two=0.5, position=1.0, counting=1.0
    ),
    "That tests whether any fact is true. All of them must be.": dict(one=1.0, two=1.0, position=1.0, counting=1.0),
    "These are counts of right images. Divide each by the number of images of its task.": dict(
        one=1.0, two=1.0, position=0.0, counting=2.0
    ),
    "That is divided by the number of all images. Divide by the number of images of this task.": dict(
        one=1 / 8, two=1 / 8, position=0.0, counting=2 / 8
    ),
    "These are percentages. A share lies between 0 and 1.": dict(one=100.0, two=50.0, position=0.0, counting=50.0),
    "That is the share of wrong images. Fidelity is the share of right ones.": dict(
        one=0.0, two=0.5, position=1.0, counting=0.5
    ),
}


def _shares(value, tasks: list[str]) -> np.ndarray:
    """The values of a dict with exactly these tasks, in their order."""
    if not isinstance(value, dict):
        raise Wrong(f"It returned {describe(value)}; return a dict from task to fidelity.")
    if more := [name for name in value if name not in tasks]:
        raise Wrong(f"There is an entry for {more[0]!r}, but no image has this task. Leave such tasks out.")
    if less := [name for name in tasks if name not in value]:
        raise Wrong(f"There is no entry for {less[0]!r}. A task whose images are all wrong has a fidelity of 0.")
    return np.array([numbers(value[name]) for name in tasks])


@exercise(points=3)
def fidelity_by_task(answer: Callable) -> None:
    """tasks, list of M str; answers, list of M dicts {kind: list of bool} -> {task: share of fully right images}."""
    tasks, facts = map(list, zip(*PICTURES))
    got = _shares(call(answer, tasks, facts), [*FIDELITY])
    unless(got, {text: [*shares.values()] for text, shares in SLIPS.items()}, right=[*FIDELITY.values()])
    same(got, [*FIDELITY.values()], "the tasks " + ", ".join(FIDELITY))
    got = _shares(call(answer, ["colours"], [dict(object=[True], colour=[False])]), ["colours"])
    same(got, [0.0], "one image with the wrong colour")
    for seed, count in ((0, 40), (1, 300)):  # choose which images are right, then invent facts that fit
        rng = np.random.default_rng(seed)
        names = [("binding", "two", "one")[i] for i in rng.integers(0, 3, count)]
        right = rng.random(count) < 0.6
        facts = []
        for good in right.tolist():
            values = rng.random(5) < 0.7
            values = values | True if good else values & (np.arange(5) != rng.integers(0, 5))
            facts.append(dict(object=values[:2].tolist(), colour=values[2:4].tolist(), background=values[4:].tolist()))
        there = sorted(set(names))
        expected = [right[np.array(names) == name].mean() for name in there]
        got = _shares(call(answer, names, facts), there)
        same(got, expected, f"{count} images of the tasks {', '.join(there)}")


def _scene(background: str, *items: tuple, caption: str) -> dict:
    return dict(background=background, items=list(items), caption=caption)


CAT, DOG, FAR = ("cat", 8, 16, 24), ("dog", 40, 16, 24), ("dog", 40, 24, 24)
TRAIN = [
    _scene("blue", CAT, caption="a cat on a blue background"),
    _scene("white", CAT, DOG, caption="a cat and a dog"),
    _scene("pink", ("fox", 8, 8, 32), caption="a picture of a fox"),
]
TESTED = [  # the scene, whether it is new, and what the case tests
    (_scene("blue", CAT, caption="a cat on a blue background"), False, "copy"),
    (_scene("green", ("key", 8, 8, 32), caption="a key"), True, "new"),
    (_scene("blue", CAT, caption="there is a cat"), False, "caption"),
    (_scene("white", DOG, CAT, caption="a cat and a dog"), False, "order"),
    (_scene("pink", CAT, caption="a cat"), True, "background"),
    (_scene("white", CAT, FAR, caption="a cat and a dog"), True, "place"),
    (_scene("pink", ("fox", 8, 8, 24), caption="a picture of a fox"), True, "side"),
    (_scene("white", CAT, caption="a cat"), True, "one of two"),
]
HINTS = {
    "copy": "A test scene that equals a training scene is reported as new.",
    "new": "A test scene with an object that training never shows is reported as seen.",
    "caption": "It depends on captions: the same image with a different caption is not a new image. Compare only "
    "what the image shows.",
    "order": "It depends on the order of items: a cat and a dog make the same image as a dog and a cat at the same "
    "positions. Compare them as sets.",
    "background": (
        "The same object on a different background makes a new image, but it is reported as seen. Compare the "
        "background as well."
    ),
    "place": (
        "The same objects at different positions make a new image, but it is reported as seen. Compare x and y as well."
    ),
    "side": (
        "The same object with a different size makes a new image, but it is reported as seen. Compare the size as well."
    ),
    "one of two": "An image of one object is reported as seen because training shows this object beside another "
    "one. All items together make the image.",
}


@exercise(points=3)
def unseen_pictures(answer: Callable) -> None:
    """train, test, lists of dicts (background, items, caption) -> bool [len(test)], True where the image is new."""
    test, new, kinds = map(list, zip(*TESTED))
    got = numbers(call(answer, TRAIN, test), (len(test),), "bool")
    if (got != np.array(new)).all():
        raise Wrong("True and False are swapped: True means that the image is new.")
    for value, right, kind in zip(got, new, kinds):
        if value != right:
            raise Wrong(HINTS[kind])
    for split, count, size in (("val", 1, 50), ("val", 120, 300), ("unseen_pairs", 40, 60)):
        train, test = (
            [scenes.example("train", i) for i in range(size)],
            [scenes.example(split, i) for i in range(count)],
        )
        again = np.random.default_rng(count).choice(size, 30, replace=False)
        test += [scenes.example("train", int(i)) for i in again]
        seen = {scenes.render(scene).tobytes() for scene, _ in train}
        expected = [scenes.render(scene).tobytes() not in seen for scene, _ in test]
        given = [
            [_scene(s.background, *((i.name, i.x, i.y, i.size) for i in s.items), caption=c) for s, c in pairs]
            for pairs in (train, test)
        ]
        for scene in given[1][count:]:  # different captions, and the items in reverse order
            scene.update(caption="a picture", items=scene["items"][::-1])
        got = numbers(call(answer, *given), (len(test),), "bool")
        same(got, expected, f"{size} training scenes and {len(test)} test scenes")


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
