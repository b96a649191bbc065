"""Does editing work? Edits of rendered scenes, made by rule, and which facts hold in the edited pictures.

There are three kinds: an object becomes a different one, or a coloured shape or the background changes its colour. A
picture is edited under the caption of the scene as it should become. Then the scorer reads it:

success          share of edits whose requested fact holds: the new object, colour or background is there
preservation     share of the caption's other facts that still hold, of those that held before the edit
outside_changed  share of the pixels outside the edited region that the edit changed
"""

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS, Scene, sprites
from minimuse.evaluate.fidelity import facts_true
from minimuse.evaluate.scorer import Reading, Scorer, shipped_scorer
from minimuse.mask_free import Resampling, check_resampling, edit_tokens

if TYPE_CHECKING:
    from minimuse.muse import Muse

KINDS = ("object", "colour", "background")
TASKS = {"object": ("one", "two", "position", "counting"), "colour": ("colours", "binding"), "background": scenes.TASKS}


class Change(NamedTuple):
    """One edit: the scene before and after, the caption of the scene after, and the requested fact."""

    kind: str
    before: Scene
    after: Scene
    caption: str
    fact: Any  # as in scenes.asked(after, caption)[kind]


def change(index: int, seed: int = 0) -> Change:
    """Edit number `index`. The edits cycle through the kinds, and each kind through its tasks; the scenes are those of
    the split `val`."""
    rng, kind = random.Random(f"edit/{seed}/{index}"), KINDS[index % len(KINDS)]
    task = TASKS[kind][index // len(KINDS) % len(TASKS[kind])]
    before, _ = scenes.example("val", index * len(scenes.TASKS) + scenes.TASKS.index(task), seed)
    table, old = sprites(), before.items[0].name
    if kind == "background":
        after = replace(before, background=rng.choice([name for name in BACKGROUNDS if name != before.background]))
        fact = after.background
    else:
        there, word = {item.name for item in before.items}, table[old].word
        others = [
            sprite
            for sprite in table.values()
            if sprite.name not in there
            and (
                sprite.word == word and sprite.colour if kind == "colour" else not sprite.colour and sprite.word != word
            )
        ]
        new = rng.choice(others)
        items = tuple(replace(item, name=new.name) if item.name == old else item for item in before.items)
        after, fact = replace(before, items=items), (new.word, new.colour) if kind == "colour" else new.word
    # The caption names everything that should stay, including the background.
    while "background" not in scenes.asked(after, text := scenes.caption(after, rng)):
        pass
    return Change(kind, before, after, text, fact)


def region(edit: Change, size: int) -> np.ndarray:
    """Where the picture may change, bool [size, size]: the boxes of the objects that change, or the pixels of the
    background."""
    if edit.kind == "background":
        drawn = np.stack([scenes.render(replace(edit.before, background=name), size) for name in BACKGROUNDS])
        return (drawn != drawn[0]).any((0, -1))
    mask, scale = np.zeros((size, size), bool), size / scenes.CANVAS
    for old, new in zip(edit.before.items, edit.after.items):
        if old != new:
            x, y, side = (round(scale * value) for value in (old.x, old.y, old.size))
            mask[max(y, 0) : y + side, max(x, 0) : x + side] = True
    return mask


def judged(edit: Change, reading: Reading) -> tuple[bool, list[bool]]:
    """Whether the requested fact holds, and, for each of the other facts that held before, whether it still does."""
    facts, earlier = (scenes.asked(scene, edit.caption) for scene in (edit.after, edit.before))
    success, kept = False, []
    for kind, answers in facts_true(edit.after, edit.caption, reading).items():
        for fact, holds in zip(facts[kind], answers):
            if (kind, fact) == (edit.kind, edit.fact):
                success = holds
            # That a shape is there in its colour includes that it is there.
            elif fact in earlier.get(kind, []) and not (edit.kind == "colour" and fact == edit.fact[0]):
                kept.append(holds)
    return success, kept


def tally(edits: list[Change], readings: list[Reading], outside: list[float]) -> dict:
    """success, preservation and outside_changed over all edits, and kinds: the first two by kind."""
    answers = [judged(*pair) for pair in zip(edits, readings)]
    share = lambda values: round(float(np.mean(values)), 4) if len(values) else None

    def of(kinds: tuple[str, ...]) -> dict:
        chosen = [answer for edit, answer in zip(edits, answers) if edit.kind in kinds]
        return dict(
            success=share([success for success, _ in chosen]),
            preservation=share([holds for _, kept in chosen for holds in kept]),
        )

    return of(KINDS) | dict(outside_changed=share(outside), kinds={kind: of((kind,)) for kind in KINDS})


def changed_outside(before: np.ndarray, after: np.ndarray, mask: np.ndarray, tolerance: int = 0) -> float:
    """Share of the pixels outside the mask that differ by more than `tolerance` in any channel: uint8 [H, W, 3] twice,
    bool [H, W]."""
    far = np.abs(before.astype(int) - after.astype(int)).max(-1) > tolerance
    return float(far[~mask].mean()) if (~mask).any() else 0.0


def evaluate_inpainting(
    muse: "Muse", n: int = 200, seed: int = 0, scorer: Scorer | None = None, edge: int | None = 2, **settings: Any
) -> dict:
    """n edits by `Muse.inpaint`, with the region of the change as the mask: the numbers of `tally`."""
    from tqdm.auto import tqdm

    size = _size(muse, settings)
    edits, images, outside = [change(i, seed) for i in range(n)], [], []
    for i, edit in enumerate(tqdm(edits, desc="inpainting", unit="image")):
        before, mask = scenes.render(edit.before, size), region(edit, size)
        images.append(muse.inpaint(before, mask, edit.caption, seed=seed * 10_000 + i, edge=edge, **settings)[0])
        outside.append(changed_outside(before, images[-1], mask))
    return tally(edits, (scorer or shipped_scorer()).read(np.stack(images)), outside)


def evaluate_mask_free(
    muse: "Muse",
    n: int = 200,
    seed: int = 0,
    scorer: Scorer | None = None,
    *,
    every: int = 5,
    batch: int = 50,
    tolerance: int = 16,
    **settings: Any,
) -> dict:
    """n edits by `Muse.edit`, without a mask: the numbers of `tally` after every `every` iterations.

    The pictures are those of the base stage, since the base decides what is there. outside_changed counts pixels that
    differ by more than `tolerance` of 255, more than a tokenizer's rounding.

    settings    iterations, fraction, guidance and so on, as for `Muse.edit`

    -> the numbers at the best `iteration`, that of the greatest success + preservation · `curve`, over all iterations ·
    `settings`
    """
    from tqdm.auto import tqdm

    scorer = scorer or shipped_scorer()
    resampling = check_resampling(replace(Resampling(), **settings), muse.configs["base"].codebook_size)
    edits, size, batch = [change(i, seed) for i in range(n)], muse.tokenizer_config("base").image_size, min(batch, n)
    at = sorted({*range(0, resampling.iterations + 1, every), resampling.iterations})
    states = []
    for start in tqdm(range(0, n, batch), desc="mask-free editing", unit="batch"):
        some = [edits[min(i, n - 1)] for i in range(start, start + batch)]  # one batch size, one compilation
        before = scenes.render_batch([edit.before for edit in some], size)
        prompts = muse.prompts([edit.caption for edit in some], 1, seed * 10_000 + start, None)
        tokens = muse.tokenize(before)
        _, steps = edit_tokens(muse, tokens, prompts, resampling, trace=True)
        assert steps is not None  # with trace=True
        shown = np.concatenate([tokens[None], steps])[at]
        states.append(np.stack([np.asarray(muse.detokenize(each)) for each in shown]))
    states = np.concatenate(states, 1)[:, :n]  # [len(at), n, H, W, 3]
    masks = [region(edit, size) for edit in edits]
    curve = {}
    for iteration, images in zip(at, states):
        outside = [changed_outside(*each, tolerance) for each in zip(states[0], images, masks)]
        curve[iteration] = tally(edits, scorer.read(images), outside)
    best = max(at, key=lambda iteration: curve[iteration]["success"] + curve[iteration]["preservation"])
    columns = {key: [curve[i][key] for i in at] for key in ("success", "preservation", "outside_changed")}
    return curve[best] | dict(iteration=best, curve=dict(iteration=at) | columns, settings=asdict(resampling))


def evaluate_edit(
    muse: "Muse",
    n: int = 200,
    seed: int = 0,
    scorer: Scorer | None = None,
    *,
    way: str = "read",
    tolerance: int = 16,
    phrase: Callable[[Change], dict[str, str]] = lambda edit: dict(caption=edit.caption),
    **settings: Any,
) -> dict:
    """n edits by `Muse.edit`, without a mask, at the resolution that the Muse draws.

    way          of `Muse.edit`: resample or read
    tolerance    as for `evaluate_mask_free`
    phrase       what is said of an edit: `caption`, and `before` where it is given
    settings     options of that way, superres and finetuned

    -> the numbers of `tally` · redrawn, the share of the base tokens that were sampled again, by kind · `settings`
    """
    from tqdm.auto import tqdm

    size, edits, images, outside, shares = _size(muse, settings), [change(i, seed) for i in range(n)], [], [], []
    for i, edit in enumerate(tqdm(edits, desc=f"editing: {way}", unit="image")):
        before = scenes.render(edit.before, size)
        options: dict[str, Any] = phrase(edit) | settings
        found: Any = muse.edit(before, seed=seed * 10_000 + i, way=way, trace=True, **options)
        images.append(found.images[0])
        outside.append(changed_outside(before, images[-1], region(edit, size), tolerance))
        shares.append(found.redrawn.mean())
    mean = lambda kind: [share for edit, share in zip(edits, shares) if edit.kind == kind]
    redrawn = {kind: round(float(np.mean(mean(kind))), 4) for kind in KINDS if mean(kind)}
    tallied = tally(edits, (scorer or shipped_scorer()).read(np.stack(images)), outside)
    return tallied | dict(redrawn=redrawn, settings=dict(way=way) | settings)


def only_the_change(edit: Change) -> dict[str, str]:
    """Captions that name nothing except what changes: `caption`, and `before`, the same of the picture as it is."""

    def of(scene: Scene) -> str:
        if edit.kind == "background":
            return f"{scenes.a(scene.background)} background"
        name, count = scene.items[0].name, len(scene.items)
        if scene.task == "counting" and count > 1:
            return f"{scenes.NUMBERS[count]} {sprites()[name].plural}"
        return scenes.a(name)

    return dict(caption=of(edit.after), before=of(edit.before))


def border_jump(images: np.ndarray, column: int) -> float:
    """How much uint8 pictures [B, H, W, 3] change across the left border of a pixel column: the mean difference, of
    255."""
    pair = images[:, :, column - 1 : column + 1].astype(np.float32)
    return float(np.abs(pair[:, :, 1] - pair[:, :, 0]).mean())


def evaluate_outpainting(muse: "Muse", n: int = 50, seed: int = 0, **settings: Any) -> dict:
    """n scenes of `val`, extended to the right to twice their width, under their own captions.

    -> seam, `border_jump` where old and new meet · inner, its mean over all borders of base tokens within the old half
    and within the new half
    """
    from tqdm.auto import tqdm

    size, images = _size(muse, settings), []
    for i in tqdm(range(n), desc="outpainting", unit="image"):
        scene, caption = scenes.example("val", i, seed)
        picture = scenes.render(scene, size)
        images.append(muse.outpaint(picture, caption, seed=seed * 10_000 + i, right=size, **settings)[0])
    cell, images = size // muse.configs["base"].grid[1], np.stack(images)
    inner = [border_jump(images, column) for column in range(cell, 2 * size, cell) if column != size]
    return dict(seam=round(border_jump(images, size), 3), inner=round(float(np.mean(inner)), 3))


def _size(muse: "Muse", settings: dict) -> int:
    stages = muse.plan(settings.get("superres")).stages
    return max(muse.tokenizer_config(stage).image_size for stage in stages)
