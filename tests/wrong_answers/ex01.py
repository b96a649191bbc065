"""Wrong answers to exercises 01."""

import numpy as np


def boxed(boxes, ends=np.less, both=np.logical_and, own=False):
    """Overlaps, including the diagonal. own: use only the first box's side, not both."""
    corner, side = boxes[:, :2], boxes[:, 2:]
    starts, reach = corner[:, None], (corner[None] + (side[:, None] if own else side[None]))
    before = ends(starts, reach)
    along = before & before.swapaxes(0, 1) if not own else before & ends(corner[None], starts + side[:, None])
    return both(along[..., 0], along[..., 1])


def apart(boxes, **kwargs):
    return boxed(boxes, **kwargs) & ~np.eye(len(boxes), dtype=bool)


def a_corner_inside(boxes):
    x, y, side = boxes.T
    inside = (x[:, None] >= x) & (x[:, None] < x + side) & (y[:, None] >= y) & (y[:, None] < y + side)
    return inside & ~np.eye(len(boxes), dtype=bool)


def round_ones(boxes):
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    distance = np.linalg.norm(centre[:, None] - centre, axis=-1)
    return (distance < (boxes[:, 2] + boxes[:, 2:]) / 2) & ~np.eye(len(boxes), dtype=bool)


def related(first, relation, second, up=1, half=0.5, least=None, across=True, turn=1):
    dx, dy = (turn * (second[i] + half * second[3] - first[i] - half * first[3]) for i in (1, 2))
    along = {"left of": dx, "right of": -dx, "above": up * dy, "below": -up * dy}[relation]
    other = abs(dy if "of" in relation else dx) if across else 0
    return along >= other if least else along > other


def shares(tasks, answers, picture=None, share=lambda values: sum(values) / len(values), only=None):
    picture = picture or (lambda facts: all(facts))
    right = {}
    for task, answer in zip(tasks, answers):
        facts = [fact for kind, facts in answer.items() for fact in facts if only in (None, kind)]
        right.setdefault(task, []).append(picture(facts))
    return {task: share(values) for task, values in right.items()}


def facts_pooled(tasks, answers):
    pooled = {}
    for task, answer in zip(tasks, answers):
        pooled.setdefault(task, []).extend(fact for facts in answer.values() for fact in facts)
    return {task: sum(values) / len(values) for task, values in pooled.items()}


def of_all(tasks, answers):
    return {task: share * tasks.count(task) / len(tasks) for task, share in shares(tasks, answers).items()}


def all_six(tasks, answers):
    return dict.fromkeys(("one", "two", "counting", "colours", "position", "binding"), 0.0) | shares(tasks, answers)


def where_right(tasks, answers):
    return {task: share for task, share in shares(tasks, answers).items() if share}


def compared(what):
    def answer(train, test):
        seen = {what(scene) for scene in train}
        return np.array([what(scene) not in seen for scene in test])

    return answer


def items_of_all(train, test):
    seen = {(scene["background"], item) for scene in train for item in scene["items"]}
    return np.array([any((scene["background"], item) not in seen for item in scene["items"]) for scene in test])


def leaked(train, test):
    return ~compared(lambda s: (s["background"], frozenset(s["items"])))(train, test)


WRONG = {
    "overlap_pairs": {
        "an object overlaps itself": (boxed, "overlaps itself"),
        "touching counts": (lambda b: apart(b, ends=np.less_equal), "touch"),
        "along x or along y": (lambda b: apart(b, both=np.logical_or), "along x and along y"),
        "one side for both": (lambda b: apart(b, own=True), "sides may differ"),
        "a corner inside the other": (a_corner_inside, "sides may differ"),
        "round objects": (round_ones, "values differ"),
        "each pair once": (lambda b: np.triu(apart(b)), "both halves"),
        "those that do not": (lambda b: ~boxed(b) & ~np.eye(len(b), dtype=bool), "swapped"),
    },
    "relation_holds": {
        "first and second exchanged": (lambda a, r, b: related(b, r, a), "reversed"),
        "y upwards": (lambda a, r, b: related(a, r, b, up=-1), "downwards"),
        "corners": (lambda a, r, b: related(a, r, b, half=0), "The sides differ"),
        "only one direction": (lambda a, r, b: related(a, r, b, across=False), "Only one relation"),
        "at least": (lambda a, r, b: related(a, r, b, least=True), "exact diagonal"),
        "lower right corners": (lambda a, r, b: related(a, r, b, half=1), "The sides differ"),
    },
    "fidelity_by_task": {
        "share of facts": (facts_pooled, "share of facts"),
        "part of a mark": (lambda t, a: shares(t, a, lambda facts: sum(facts) / len(facts)), "part of a mark"),
        "only objects": (lambda t, a: shares(t, a, only="object"), "only the objects"),
        "any fact": (lambda t, a: shares(t, a, any), "any fact"),
        "numbers": (lambda t, a: shares(t, a, share=sum), "counts"),
        "of all pictures": (of_all, "number of all"),
        "percentages": (lambda t, a: {k: 100 * v for k, v in shares(t, a).items()}, "percentages"),
        "shares of wrong ones": (lambda t, a: {k: 1 - v for k, v in shares(t, a).items()}, "share of wrong"),
        "all six tasks": (all_six, "Leave such tasks out"),
        "only where some are right": (where_right, "fidelity of 0"),
        "one number": (lambda t, a: 0.5, "a dict from task"),
    },
    "unseen_pictures": {
        "captions, too": (compared(lambda s: (s["caption"], s["background"], *s["items"])), "captions"),
        "only captions": (compared(lambda s: s["caption"]), "captions"),
        "the order of items": (compared(lambda s: (s["background"], *s["items"])), "order of items"),
        "no background": (compared(lambda s: frozenset(s["items"])), "background"),
        "only names": (compared(lambda s: (s["background"], *sorted(i[0] for i in s["items"]))), "x and y"),
        "no sides": (compared(lambda s: (s["background"], frozenset(i[:3] for i in s["items"]))), "size"),
        "each item by itself": (items_of_all, "beside another"),
        "those that leaked": (leaked, "swapped"),
    },
    "failed_task": {
        "a": (lambda: "a", "more facts than objects"),
        "b": (lambda: "b", "single object"),
        "c": (lambda: "c", "“and”"),
    },
}
