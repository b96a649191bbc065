"""Exercises 01: scenes and captions."""

import numpy as np

from minimuse.data import scenes
from minimuse.teach.checking import Wrong, call, chosen, exercise, numbers, same, told, unless

BOXES = np.array(  # x, y, side
    [(0, 0, 24), (16, 8, 24), (24, 0, 24), (0, 24, 32), (8, 32, 8), (32, 32, 8), (40, 40, 8), (48, 8, 8)]
)
TOUCHING = [(0, 2), (0, 3), (3, 5), (5, 6), (2, 7)]  # pairs of BOXES that share an edge or a corner, and no more
INSIDE = (3, 4)
OVERLAPS = [(0, 1), (1, 2), (1, 3), INSIDE]


@exercise(points=2)
def overlap_pairs(answer) -> None:
    """boxes int [n, 3] of rows (x, y, side) -> bool [n, n], True where two different objects overlap."""
    n = len(BOXES)
    got = numbers(call(answer, BOXES), (n, n), "bool")
    expected = np.zeros((n, n), bool)
    for i, j in OVERLAPS:
        expected[i, j] = expected[j, i] = True
    if got.diagonal().all():
        raise Wrong("Every object overlaps itself. Asked for are two different objects: set the diagonal to False.")
    unless(
        got,
        {
            "True and False are the wrong way round: True means that the two overlap.": ~expected
            ^ np.eye(n, dtype=bool),
            "Every pair is told once only. i overlaps j if j overlaps i: fill both halves of the table.": np.triu(
                expected
            ),
        },
        right=expected,
    )
    for i, j in ((0, 7), (0, 4)):  # the same rows, or the same columns, far apart
        if got[i, j] or got[j, i]:
            raise Wrong(
                f"The boxes {BOXES[i].tolist()} and {BOXES[j].tolist()} are far from each other in one direction. To "
                "overlap they must do so along x and along y, both at once."
            )
    if (got != got.T).any():
        i, j = np.argwhere(got != got.T)[0]
        raise Wrong(
            f"It says that box {BOXES[i].tolist()} and box {BOXES[j].tolist()} overlap in one order, and do not in the "
            "other. Each must begin before the other ends; that needs both sides, and the sides may differ."
        )
    for i, j in TOUCHING:
        if got[i, j] or got[j, i]:
            raise Wrong(
                f"The boxes {BOXES[i].tolist()} and {BOXES[j].tolist()} only touch. The units of the first end just "
                "where the second begins: compare by <, not by <=."
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
        same(got, shared, f"{count} boxes of several sides, such as {boxes[0].tolist()}")


RELATIONS = ("left of", "right of", "above", "below")
PLAIN = {  # first, second: the only relation that is true
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
SIZES = {  # corners alone would say another relation
    (("cat", 0, 32, 32), ("dog", 34, 4, 24)): "below",
    (("cat", 32, 0, 32), ("dog", 4, 34, 24)): "right of",
    (("cat", 4, 36, 24), ("dog", 30, 0, 32)): "below",
}
DIAGONAL = {
    (("cat", 8, 8, 24), ("dog", 40, 40, 24)): "",
    (("cat", 40, 8, 24), ("dog", 8, 40, 24)): "",
    (("cat", 8, 8, 24), ("dog", 8, 8, 24)): "",
}


def _said(answer, cases: dict) -> np.ndarray:
    """What an answer says of every case and relation, bool [cases, 4]."""
    rows = [[numbers(call(answer, a, name, b), (), "bool") for name in RELATIONS] for a, b in cases]
    return np.array(rows)


@exercise(points=3)
def relation_holds(answer) -> None:
    """first (name, x, y, side), relation str, second (name, x, y, side) -> bool."""
    got, expected = _said(answer, PLAIN), np.eye(4, dtype=bool)
    unless(
        got,
        {
            "Every relation is the wrong way round. The sentence is: `first` is left of `second`.": expected[
                [1, 0, 3, 2]
            ],
            "Left and right are told right, but above and below are exchanged. y counts downwards: what is above "
            "has the smaller y.": expected[[0, 1, 3, 2]],
            "Above and below are told right, but left and right are exchanged. x counts to the right.": expected[
                [1, 0, 2, 3]
            ],
            "x and y are exchanged: left and right are about x, above and below about y.": expected[[2, 3, 0, 1]],
        },
        right=expected,
    )
    _compare(got, PLAIN)
    steep = "Only one relation can hold: ask also that the centres differ more in this direction than in the other."
    _compare(_said(answer, STEEP), STEEP, steep)
    _compare(
        _said(answer, SIZES), SIZES, "The sides differ. Compare centres, x + side / 2 and y + side / 2, not corners."
    )
    _compare(_said(answer, DIAGONAL), DIAGONAL, "On an exact diagonal none of the four holds: compare by >, not by >=.")
    rng = np.random.default_rng(0)
    for side1, side2 in ((24, 24), (24, 32), (32, 8), (7, 20)):
        for _ in range(25):
            x1, y1, x2, y2 = rng.integers(0, 33, 4).tolist()
            turn = np.degrees(np.arctan2(y2 + side2 / 2 - y1 - side1 / 2, x2 + side2 / 2 - x1 - side1 / 2))
            if abs(abs(turn) % 90 - 45) < 1e-6 or (x1 + side1 / 2, y1 + side1 / 2) == (x2 + side2 / 2, y2 + side2 / 2):
                continue
            quarter = {0: "left of", 1: "above", 2: "right of", -2: "right of", -1: "below"}[round(turn / 90)]
            case = {(("cat", x1, y1, side1), ("dog", x2, y2, side2)): quarter}
            _compare(_said(answer, case), case)


def _compare(got: np.ndarray, cases: dict, advice: str = "") -> None:
    """Wrong, about the first case and relation that is not told as it should be."""
    for row, ((first, second), right) in zip(got, cases.items()):
        for said, name in zip(row, RELATIONS):
            if said != (name == right):
                where = f"Item {first} is {'' if name == right else 'not '}{name} {second}; you say {bool(said)}."
                raise Wrong(f"{where} {advice}".strip())


PICTURES = [  # task, facts of the picture
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
    "That is the share of facts. One false fact makes a picture wrong: count pictures with all facts true.": dict(
        one=1.0, two=4 / 5, position=2 / 3, counting=8 / 11
    ),
    "That gives a picture part of a mark for some of its facts. A picture is right, 1, or wrong, 0.": dict(
        one=1.0, two=5 / 6, position=2 / 3, counting=(1 / 3 + 1 + 1 + 2 / 3) / 4
    ),
    "That asks for the objects alone. Go through all kinds of facts, `answer.values()`.": dict(
        one=1.0, two=0.5, position=1.0, counting=1.0
    ),
    "That asks whether any fact is true. All of them must be.": dict(one=1.0, two=1.0, position=1.0, counting=1.0),
    "These are numbers of right pictures. Divide each by the number of pictures of its task.": dict(
        one=1.0, two=1.0, position=0.0, counting=2.0
    ),
    "That is divided by the number of all pictures. Divide by the number of pictures of this task.": dict(
        one=1 / 8, two=1 / 8, position=0.0, counting=2 / 8
    ),
    "These are percentages. A share goes from 0 to 1.": dict(one=100.0, two=50.0, position=0.0, counting=50.0),
    "That is the share of pictures that are wrong. Fidelity is the share of those that are right.": dict(
        one=0.0, two=0.5, position=1.0, counting=0.5
    ),
}


def _shares(value, tasks: list[str]) -> np.ndarray:
    """The values of a dict with exactly these tasks, in their order."""
    if not isinstance(value, dict):
        raise Wrong(f"It returned {told(value)}; a dict from task to fidelity is asked for.")
    if more := [name for name in value if name not in tasks]:
        raise Wrong(f"There is an entry for {more[0]!r}, of which no picture was asked for. Leave such tasks out.")
    if less := [name for name in tasks if name not in value]:
        raise Wrong(f"There is no entry for {less[0]!r}. A task whose pictures are all wrong has a fidelity of 0.")
    return np.array([numbers(value[name]) for name in tasks])


@exercise(points=3)
def fidelity_by_task(answer) -> None:
    """tasks, list of M str; answers, list of M dicts {kind: list of bool} -> {task: share of pictures all right}."""
    tasks, facts = map(list, zip(*PICTURES))
    got = _shares(call(answer, tasks, facts), [*FIDELITY])
    unless(got, {text: [*shares.values()] for text, shares in SLIPS.items()}, right=[*FIDELITY.values()])
    same(got, [*FIDELITY.values()], "the tasks " + ", ".join(FIDELITY))
    got = _shares(call(answer, ["colours"], [dict(object=[True], colour=[False])]), ["colours"])
    same(got, [0.0], "one picture, of the wrong colour")
    for seed, count in ((0, 40), (1, 300)):  # pictures are made right or wrong, then given facts that fit
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
        same(got, expected, f"{count} pictures of the tasks {', '.join(there)}")


def _scene(background: str, *items: tuple, caption: str) -> dict:
    return dict(background=background, items=list(items), caption=caption)


CAT, DOG, FAR = ("cat", 8, 16, 24), ("dog", 40, 16, 24), ("dog", 40, 24, 24)
TRAIN = [
    _scene("blue", CAT, caption="a cat on a blue background"),
    _scene("white", CAT, DOG, caption="a cat and a dog"),
    _scene("pink", ("fox", 8, 8, 32), caption="a picture of a fox"),
]
TESTED = [  # what it shows, whether it is new
    (_scene("blue", CAT, caption="a cat on a blue background"), False, "copy"),
    (_scene("green", ("key", 8, 8, 32), caption="a key"), True, "new"),
    (_scene("blue", CAT, caption="there is a cat"), False, "caption"),
    (_scene("white", DOG, CAT, caption="a cat and a dog"), False, "order"),
    (_scene("pink", CAT, caption="a cat"), True, "background"),
    (_scene("white", CAT, FAR, caption="a cat and a dog"), True, "place"),
    (_scene("pink", ("fox", 8, 8, 24), caption="a picture of a fox"), True, "side"),
    (_scene("white", CAT, caption="a cat"), True, "one of two"),
]
SAID = {
    "copy": "A test scene that is exactly a training scene is called new.",
    "new": "A test scene with an object that training never shows is called seen.",
    "caption": "It is misled by captions: the same picture with another caption is no new picture. "
    "Compare only what is seen.",
    "order": "It is misled by the order of items: a cat and a dog are the same picture as a dog and a cat at the same "
    "places. Compare them as sets.",
    "background": "The same object on another background is another picture, but it is called seen. Compare the "
    "background, too.",
    "place": "The same objects at other places are another picture, but it is called seen. Compare x and y, too.",
    "side": "The same object at another size is another picture, but it is called seen. Compare the side, too.",
    "one of two": "A picture of one object is called seen because training shows this object beside another one. All "
    "items together make the picture.",
}


@exercise(points=3)
def unseen_pictures(answer) -> None:
    """train, test, lists of dicts (background, items, caption) -> bool [len(test)], True where the picture is new."""
    test, new, kinds = map(list, zip(*TESTED))
    got = numbers(call(answer, TRAIN, test), (len(test),), "bool")
    if (got != np.array(new)).all():
        raise Wrong("True and False are the wrong way round: True means that the picture is new.")
    for said, right, kind in zip(got, new, kinds):
        if said != right:
            raise Wrong(SAID[kind])
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
        for scene in given[1][count:]:  # other captions, and the items from the last to the first
            scene.update(caption="a picture", items=scene["items"][::-1])
        got = numbers(call(answer, *given), (len(test),), "bool")
        same(got, expected, f"{size} training scenes and {len(test)} test scenes")


@exercise(points=2)
def failed_task(answer) -> None:
    """Nothing -> the letter of the right statement."""
    chosen(
        answer,
        "d",
        {
            "a": "Both objects are there, true. But the caption asks for more facts than objects: a colour for each.",
            "b": "Green and red are there, true. But a colour fact is about one object: the heart was to be green. And "
            "the task colours has a single object.",
            "c": "No place was asked for: the caption says “and”. Whichever way they stand, that is no fact to check.",
        },
    )
