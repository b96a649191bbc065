"""Wrong answers to exercises 01."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import Equal

# --- overlap_pairs ----------------------------------------------------------------------------------------------------


def boxed(boxes, ends=jnp.less, both=jnp.logical_and, own=False):
    """Overlaps, including the diagonal. own: use only the first box's side, not both."""
    corner, side = boxes[:, :2], boxes[:, 2:]
    starts, reach = corner[:, None], (corner[None] + (side[:, None] if own else side[None]))
    before = ends(starts, reach)
    along = before & before.swapaxes(0, 1) if not own else before & ends(corner[None], starts + side[:, None])
    return both(along[..., 0], along[..., 1])


def others(boxes):
    return ~jnp.eye(len(boxes), dtype=bool)


def apart(boxes, **kwargs):
    return boxed(boxes, **kwargs) & others(boxes)


def before(boxes):
    """[i, j, axis]: whether i begins before j ends."""
    return boxes[:, None, :2] < boxes[None, :, :2] + boxes[None, :, 2:]


def a_corner_inside(boxes):
    x, y, side = boxes.T
    inside = (x[:, None] >= x) & (x[:, None] < x + side) & (y[:, None] >= y) & (y[:, None] < y + side)
    return inside & others(boxes)


def round_ones(boxes):
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    distance = jnp.linalg.norm(centre[:, None] - centre, axis=-1)
    return (distance < (boxes[:, 2] + boxes[:, 2:]) / 2) & others(boxes)


def by_gaps(boxes, sides=lambda one, two: (one + two) / 2, centre=0.5):
    """Centres closer than half of both sides together."""
    centres = boxes[:, :2] + centre * boxes[:, 2:]
    gap = jnp.abs(centres[:, None] - centres)
    return (gap < sides(boxes[:, None, 2:], boxes[None, :, 2:])).all(-1) & others(boxes)


def in_numpy(boxes):
    return np.logical_and(np.asarray(apart(boxes)), True)


# --- relation_holds ---------------------------------------------------------------------------------------------------


def every_relation(first, second, up=1, half=lambda side: side / 2, across=jnp.abs, least=False):
    """bool [4, M]: left of, right of, above, below."""
    one, two = (boxes[:, :2] + half(boxes[:, 2:]) for boxes in (first, second))
    dx, dy = (two - one).T
    holds = jnp.greater_equal if least else jnp.greater
    pairs = [(dx, dy), (-dx, dy), (up * dy, dx), (-up * dy, dx)]
    return jnp.stack([holds(along, across(other)) for along, other in pairs])


def related(first, relation, second, names=(0, 1, 2, 3), **kwargs):
    return every_relation(first, second, **kwargs)[jnp.array(names)[relation], jnp.arange(len(first))]


def one_relation_for_all(first, relation, second):
    return every_relation(first, second)[relation[:1].sum()]


def by_if(first, relation, second):
    if relation[0] == 0:
        return every_relation(first, second)[0]
    return related(first, relation, second)


def by_loop(first, relation, second):
    return jnp.array([bool(one) for one in related(first, relation, second)], bool)


def by_angle(first, relation, second, edge=0.0):
    one, two = (boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (first, second))
    dx, dy = (two - one).T
    turn = jnp.degrees(jnp.arctan2(dy, dx)) % 360
    middle = jnp.array([0, 180, 90, 270])[relation]
    return (abs((turn - middle + 180) % 360 - 180) < 45 + edge) & ((dx != 0) | (dy != 0))


# --- fidelity_by_task -------------------------------------------------------------------------------------------------


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


def lists_for_facts(tasks, answers):
    """all(answer.values()): a list that is not empty counts as true."""
    right = {}
    for task, answer in zip(tasks, answers):
        right.setdefault(task, []).append(all(answer.values()))
    return {task: sum(values) / len(values) for task, values in right.items()}


def neighbours_only(tasks, answers):
    """itertools.groupby without sorting: a task that comes back replaces what it had."""
    right = {}
    for i, (task, answer) in enumerate(zip(tasks, answers)):
        if i == 0 or tasks[i - 1] != task:
            right[task] = []
        right[task].append(all(fact for facts in answer.values() for fact in facts))
    return {task: sum(values) / len(values) for task, values in right.items()}


def removes_facts(tasks, answers):
    right = {}
    for task, answer in zip(tasks, answers):
        right.setdefault(task, []).append(all(fact for _, facts in list(answer.items()) for fact in facts))
        answer.clear()
    return {task: sum(values) / len(values) for task, values in right.items()}


# --- unseen_pictures --------------------------------------------------------------------------------------------------


def picture(scene):
    return scene["background"], frozenset(scene["items"])


def compared(what):
    def answer(train, test):
        seen = {what(scene) for scene in train}
        return np.array([what(scene) not in seen for scene in test], bool)

    return answer


def items_of_all(train, test):
    seen = {(scene["background"], item) for scene in train for item in scene["items"]}
    return np.array([any((scene["background"], item) not in seen for item in scene["items"]) for scene in test], bool)


def leaked(train, test):
    return ~compared(picture)(train, test)


def also_in_test(train, test):
    seen, new = {picture(scene) for scene in train}, []
    for scene in test:
        new.append(picture(scene) not in seen)
        seen.add(picture(scene))
    return np.array(new, bool)


def sorts_items(train, test):
    for scene in (*train, *test):
        scene["items"].sort()
    return compared(lambda scene: (scene["background"], *scene["items"]))(train, test)


def names_and_places(scene):
    return scene["background"], frozenset(i[0] for i in scene["items"]), frozenset(i[1:] for i in scene["items"])


WRONG = {
    "overlap_pairs": {
        "an object overlaps itself": (boxed, "overlaps itself"),
        "touching counts": (lambda b: apart(b, ends=jnp.less_equal), "touch"),
        "along x or along y": (lambda b: apart(b, both=jnp.logical_or), "along x and along y"),
        "one side for both": (lambda b: apart(b, own=True), "sides may differ"),
        "one transpose missing": (lambda b: before(b).all(-1) & others(b), "one half of the condition"),
        "each pair once": (lambda b: jnp.triu(apart(b)), "both halves"),
        "those that do not": (lambda b: ~boxed(b) & others(b), "swapped"),
        "numpy": (in_numpy, "cannot compile"),
    },
    "relation_holds": {
        "first and second exchanged": (lambda a, r, b: related(b, r, a), "reversed"),
        "y upwards": (lambda a, r, b: related(a, r, b, up=-1), "downwards"),
        "left and right exchanged": (lambda a, r, b: related(a, r, b, (1, 0, 2, 3)), "left and right are swapped"),
        "x and y exchanged": (lambda a, r, b: related(a, r, b, (2, 3, 0, 1)), "x and y are swapped"),
        "corners": (lambda a, r, b: related(a, r, b, half=lambda side: 0), "The sides differ"),
        "lower right corners": (lambda a, r, b: related(a, r, b, half=lambda side: side), "lower right corners"),
        "half a side rounded down": (lambda a, r, b: related(a, r, b, half=lambda side: side // 2), "odd side"),
        "only one direction": (lambda a, r, b: related(a, r, b, across=lambda gap: 0), "Only one relation"),
        "no absolute value": (lambda a, r, b: related(a, r, b, across=lambda gap: gap), "may be negative"),
        "at least": (lambda a, r, b: related(a, r, b, least=True), "exact diagonal"),
        "a Python loop": (by_loop, "cannot compile"),
    },
    "fidelity_by_task": {
        "share of facts": (facts_pooled, "share of facts"),
        "part of a mark": (lambda t, a: shares(t, a, lambda facts: sum(facts) / len(facts)), "part of a mark"),
        "only objects": (lambda t, a: shares(t, a, only="object"), "only the objects"),
        "any fact": (lambda t, a: shares(t, a, any), "any fact"),
        "lists for facts": (lists_for_facts, "not empty"),
        "numbers": (lambda t, a: shares(t, a, share=sum), "counts"),
        "of all pictures": (of_all, "number of all"),
        "percentages": (lambda t, a: {k: 100 * v for k, v in shares(t, a).items()}, "percentages"),
        "shares of wrong ones": (lambda t, a: {k: 1 - v for k, v in shares(t, a).items()}, "share of wrong"),
        "all six tasks": (all_six, "Leave such tasks out"),
        "only where some are right": (where_right, "fidelity of 0"),
        "one number": (lambda t, a: 0.5, "a dict from task"),
    },
    "unseen_pictures": {
        "captions, too": (
            compared(lambda s: (s["caption"], s["background"], *s["items"])),
            "captions, and on the order",
        ),
        "captions, too, in any order": (
            compared(lambda s: (s["caption"], *picture(s))),
            "depends on captions: the same",
        ),
        "only captions": (compared(lambda s: s["caption"]), "captions only"),
        "the order of items": (compared(lambda s: (s["background"], *s["items"])), "order of items"),
        "no background": (compared(lambda s: frozenset(s["items"])), "background"),
        "only names": (compared(lambda s: (s["background"], *sorted(i[0] for i in s["items"]))), "x and y"),
        "no sides": (compared(lambda s: (s["background"], frozenset(i[:3] for i in s["items"]))), "size"),
        "names and places": (compared(names_and_places), "separately"),
        "each item by itself": (items_of_all, "beside another"),
        "twice in the test": (also_in_test, "occurs twice"),
        "those that leaked": (leaked, "swapped"),
    },
    "failed_task": {
        "a": (lambda: "a", "more facts than objects"),
        "b": (lambda: "b", "single object"),
        "c": (lambda: "c", "“and”"),
    },
}


REFUSED = {
    "overlap_pairs": {
        "a corner inside the other": a_corner_inside,
        "round objects": round_ones,
        "larger side": lambda b: by_gaps(b, sides=jnp.maximum),
        "the sum of both sides": lambda b: by_gaps(b, sides=jnp.add),
        "corners for centres": lambda b: by_gaps(b, centre=0),
        "half a side rounded down": lambda b: by_gaps(
            b.at[:, :2].add(b[:, 2:] // 2), centre=0, sides=lambda one, two: one // 2 + two // 2
        ),
        "only along x": lambda b: apart(b, both=lambda x, y: x),
        "only along y": lambda b: apart(b, both=lambda x, y: y),
        "different boxes only": lambda b: boxed(b) & (b[:, None] != b).any(-1),
        "one transpose too few": lambda b: before(b)[..., 0] & before(b)[..., 0].T & before(b)[..., 1] & others(b),
        "numbers": lambda b: apart(b).astype(int),
        "a list of pairs": lambda b: jnp.argwhere(apart(b)),
        "how many": lambda b: apart(b).sum(-1),
        "the lower half": lambda b: jnp.tril(apart(b)),
        "sorted by x": lambda b: apart(b[jnp.argsort(b[:, 0])]),
        "the grid only": lambda b: by_gaps(b // 8),
        "neighbours only": lambda b: apart(b) & (abs(jnp.arange(len(b))[:, None] - jnp.arange(len(b))) == 1),
    },
    "relation_holds": {
        "one relation for all": one_relation_for_all,
        "an if": by_if,
        "by an angle, edges included": lambda a, r, b: by_angle(a, r, b, edge=1e-3),
        "half of the angle": lambda a, r, b: by_angle(a, r, b, edge=-22.5),
        "every relation": lambda a, r, b: every_relation(a, b),
        "which relation": lambda a, r, b: every_relation(a, b).argmax(0),
        "not this one": lambda a, r, b: ~related(a, r, b),
        "sides of the second for both": lambda a, r, b: related(a.at[:, 2].set(b[:, 2]), r, b),
        "no overlap": lambda a, r, b: related(a, r, b) & ((a[:, :2] + a[:, 2:] <= b[:, :2]) | (r[:, None] > 9)).any(-1),
        "gaps of edges": lambda a, r, b: jnp.stack(
            [
                a[:, 0] + a[:, 2] <= b[:, 0],
                b[:, 0] + b[:, 2] <= a[:, 0],
                a[:, 1] + a[:, 2] <= b[:, 1],
                b[:, 1] + b[:, 2] <= a[:, 1],
            ]
        )[r, jnp.arange(len(a))],
        "the first row for all": lambda a, r, b: related(a, r, b)[:1].repeat(len(a)),
        "above and below in another order": lambda a, r, b: related(a, r, b, (2, 3, 1, 0)),
        "numbers": lambda a, r, b: related(a, r, b).astype(float),
        "an axis kept": lambda a, r, b: related(a, r, b)[:, None],
        "far enough": lambda a, r, b: related(a, r, b, across=lambda gap: jnp.abs(gap) + 1),
    },
    "fidelity_by_task": {
        "neighbours only": neighbours_only,
        "changes its argument": removes_facts,
        "as a list": lambda t, a: list(shares(t, a).values()),
        "bools": lambda t, a: {task: share == 1 for task, share in shares(t, a).items()},
        "texts": lambda t, a: {task: f"{share:.2f}" for task, share in shares(t, a).items()},
        "rounded": lambda t, a: {task: round(share, 1) for task, share in shares(t, a).items()},
        "half of the facts are enough": lambda t, a: shares(t, a, lambda facts: sum(facts) / len(facts) >= 0.5),
        "the first fact": lambda t, a: shares(t, a, lambda facts: facts[0]),
        "the last fact": lambda t, a: shares(t, a, lambda facts: facts[-1]),
        "the best of a task": lambda t, a: shares(t, a, share=max),
        "the last of a task": lambda t, a: shares(t, a, share=lambda values: float(values[-1])),
        "without the background": lambda t, a: shares(
            t, [{kind: facts for kind, facts in one.items() if kind != "background"} for one in a]
        ),
        "the first of each kind": lambda t, a: shares(
            t, [{kind: facts[:1] for kind, facts in one.items()} for one in a]
        ),
        "one share for all": lambda t, a: dict.fromkeys(t, next(iter(shares(["all"] * len(t), a).values()), 0)),
        "only three tasks": lambda t, a: {k: v for k, v in shares(t, a).items() if k in ("one", "two", "counting")},
        "pairs": lambda t, a: {k: (v, t.count(k)) for k, v in shares(t, a).items()},
        "smoothed": lambda t, a: shares(t, a, share=lambda values: (sum(values) + 1) / (len(values) + 2)),
    },
    "unseen_pictures": {
        "sorts its arguments": sorts_items,
        "only backgrounds": compared(lambda s: s["background"]),
        "only the number of items": compared(lambda s: (s["background"], len(s["items"]))),
        "only the first item": compared(lambda s: (s["background"], s["items"][0])),
        "no x": compared(lambda s: (s["background"], frozenset((i[0], *i[2:]) for i in s["items"]))),
        "no y": compared(lambda s: (s["background"], frozenset((*i[:2], i[3]) for i in s["items"]))),
        "sorted numbers": compared(lambda s: (s["background"], *sorted(str(v) for i in s["items"] for v in i))),
        "no names": compared(lambda s: (s["background"], frozenset(i[1:] for i in s["items"]))),
        "neighbours": lambda train, test: np.array(
            [i >= len(train) or picture(one) != picture(train[i]) for i, one in enumerate(test)], bool
        ),
        "by identity": lambda train, test: np.array([not any(one is old for old in train) for one in test], bool),
        "numbers": lambda train, test: compared(picture)(train, test).astype(int),
        "the new scenes": lambda train, test: [one for one in test if picture(one) not in map(picture, train)],
        "how many": lambda train, test: int(compared(picture)(train, test).sum()),
        "of train": lambda train, test: compared(picture)(test, train),
        "always new": lambda train, test: np.ones(len(test), bool),
        "half of it seen": lambda train, test: items_of_all(train, test) & compared(picture)(train, test),
    },
    "failed_task": {
        "equal to everything": lambda: Equal("a"),
        "a number": lambda: 4,
        "the word": lambda: "binding",
        "all": lambda: "abcd",
        "a list": lambda: ["d"],
        "bytes": lambda: b"d",
        "empty": lambda: "",
        "with its text": lambda: "d: the task is binding",
        "a dot": lambda: "d.",
        "another letter": lambda: "e",
    },
}


def by_counts(tasks, answers):
    right = Counter(t for t, one in zip(tasks, answers) if not any(False in facts for facts in one.values()))
    return Counter({task: right[task] / count for task, count in Counter(tasks).items()})


def by_select(first, relation, second):
    dx, dy = jnp.moveaxis(2 * second[:, :2] + second[:, 2:] - 2 * first[:, :2] - first[:, 2:], -1, 0)
    along = jnp.select([relation == 0, relation == 1, relation == 2], [dx, -dx, dy], -dy)
    return along > jnp.where(relation < 2, jnp.abs(dy), jnp.abs(dx))


def by_switch(first, relation, second):
    def one(a, r, b):
        dx, dy = b[0] + b[2] / 2 - a[0] - a[2] / 2, b[1] + b[2] / 2 - a[1] - a[2] / 2
        signs = [(dx, dy), (-dx, dy), (dy, dx), (-dy, dx)]
        return jax.lax.switch(r, [lambda pair=pair: pair[0] > abs(pair[1]) for pair in signs])

    return jax.vmap(one)(first, relation, second)


UNUSUAL = {
    "overlap_pairs": {
        "vmap twice": lambda boxes: (
            jax.vmap(lambda a: jax.vmap(lambda b: ((a[:2] < b[:2] + b[2]) & (b[:2] < a[:2] + a[2])).all())(boxes))(
                boxes
            )
            & others(boxes)
        ),
        "by gaps of centres": by_gaps,
        "larger beginning, smaller end": lambda b: (
            (
                jnp.maximum(b[:, None, :2], b[None, :, :2])
                < jnp.minimum(b[:, None, :2] + b[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
            )
            .all(-1)
            .at[jnp.arange(len(b)), jnp.arange(len(b))]
            .set(False)
        ),
    },
    "relation_holds": {"select": by_select, "switch": by_switch},
    "fidelity_by_task": {
        "counters": by_counts,
        "numpy numbers": lambda t, a: {np.str_(k): np.float32(v) for k, v in shares(t, a).items()},
        "minimum": lambda t, a: shares(t, a, picture=min, share=np.mean),
    },
    "unseen_pictures": {
        "sorted items, a list": lambda train, test: [
            (s["background"], sorted(s["items"])) not in [(t["background"], sorted(t["items"])) for t in train]
            for s in test
        ],
        "jnp": lambda train, test: jnp.array(compared(picture)(train, test)),
    },
    "failed_task": {"capital": lambda: " D", "a numpy text": lambda: np.str_("d")},
}
