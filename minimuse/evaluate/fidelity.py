"""Does it work? Which requested facts hold in a picture, as the scene scorer sees it, and what is measured with that.

Fidelity, `overall`, is the share of captions whose every requested fact holds (the idea of GenEval, arXiv 2310.11513,
with a detector that recognises its objects almost perfectly). `exact` also refuses an object too many, and anything
else on the canvas.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax.numpy as jnp
import numpy as np

from minimuse.data import everyday, scenes
from minimuse.data.scenes import SIZES, TASKS, Scene, sprites
from minimuse.evaluate.metrics import blur, distances, diversity, perplexity, rebuilt
from minimuse.evaluate.scorer import CHUNK, Reading, Scorer, Seen, shipped_scorer
from minimuse.evaluate.strays import nothing_else
from minimuse.muse import TOKENIZERS
from minimuse.vqgan import to_float, to_uint8

if TYPE_CHECKING:
    from minimuse.evaluate.baselines import Twin
    from minimuse.muse import Muse

KINDS = ("object", "colour", "count", "place", "background")  # everyday captions request sizes, too


class Judge(Protocol):
    """A further opinion on pictures, such as `fid_clip.Inception` or `fid_clip.Clip`. It may have `meaning`, a sentence
    on each of its numbers."""

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray | None) -> dict[str, float]:
        """Numbers by name, of drawn images uint8 [B, H, W, 3], their B captions and the true pictures, if any."""
        ...


# --- from what is seen to what holds --------------------------------------------------------------------------------


def _related(a: Seen, relation: str, b: Seen) -> bool:
    """Whether a is `relation` b: further in that direction than across it."""
    dx, dy = b.x - a.x, b.y - a.y
    if relation == "next to":
        return abs(dx) > abs(dy)
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return (along if relation in ("left of", "above") else -along) > abs(across)


def facts_true(scene: Scene, caption: str, reading: Reading) -> dict[str, list[bool]]:
    """For every fact that the caption requests (scenes.asked), whether it holds in the scene that was read."""
    seen = [sprites()[thing.name] for thing in reading.objects]

    def of(name: str) -> list[Seen]:
        """The objects that have this name, or this word: "heart" is any heart."""
        return [thing for thing in reading.objects if name in (thing.name, sprites()[thing.name].word)]

    def holds(kind: str, fact: Any) -> bool:
        if kind == "object":
            return any(sprite.word == fact for sprite in seen)
        if kind == "colour":
            return any((sprite.word, sprite.colour) == fact for sprite in seen)
        if kind == "count":
            return len(of(fact[0])) == fact[1]
        if kind == "place":
            return any(_related(a, fact[1], b) for a in of(fact[0]) for b in of(fact[2]))
        if kind == "size":
            return any((thing.side > SIZES[0]) == (fact[1] == "big") for thing in of(fact[0]))
        return reading.background == fact

    return {kind: [holds(kind, fact) for fact in facts] for kind, facts in scenes.asked(scene, caption).items()}


def exactly(scene: Scene, caption: str, reading: Reading) -> bool:
    """Whether every requested fact holds and the objects that were read are those of the scene, none more or fewer.

    A shape counts with its colour if the caption requests a colour for it.
    """
    coloured = {word for word, _ in scenes.asked(scene, caption).get("colour", ())}

    def kinds(names: list[str]) -> list[str]:
        words = {name: sprites()[name].word for name in names}
        return sorted(name if words[name] in coloured else words[name] for name in names)

    facts = [holds for kind in facts_true(scene, caption, reading).values() for holds in kind]
    return all(facts) and kinds([thing.name for thing in reading.objects]) == kinds([item.name for item in scene.items])


def faults(
    scene: Scene, caption: str, reading: Reading, image: np.ndarray | None = None
) -> tuple[list[str], list[str]]:
    """What is wrong with a picture: (kinds of requested facts that do not hold, what else there is), in words.

    The picture is as asked if the first list is empty, and exact if both are. Only with the picture, uint8 [H, H, 3],
    does the second list say whether something else is on the canvas.
    """
    false = [kind for kind, values in facts_true(scene, caption, reading).items() if not all(values)]
    more = ["an object too many"] * (not false and not exactly(scene, caption, reading))
    more += ["something else"] * (image is not None and not nothing_else(image, reading))
    return false, more


def tally(
    prompts: list[tuple[Scene, str]], readings: list[Reading], images: np.ndarray | Sequence[np.ndarray] | None = None
) -> dict:
    """Shares of the captions, None where nothing was requested.

    -> overall, tasks: every requested fact holds, in all and by task · exact, exact_tasks: also the objects are the
    scene's, no more, no fewer (`exactly`), and, if the pictures uint8 [B, H, H, 3] are given, nothing else is on the
    canvas (`strays.nothing_else`) · facts: shares of facts that hold, by kind

    ValueError unless there is one reading per prompt, one picture if any, and at least one prompt.
    """
    if len({len(prompts), len(readings), len(prompts if images is None else images)}) > 1 or not prompts:
        counts = f"There are {len(prompts)} prompts and {len(readings if images is None else images)} images"
        raise ValueError(f"{counts}; give at least one prompt, and one image per prompt.")
    facts = {kind: [] for kind in KINDS}
    tasks, exact = ({task: [] for task in TASKS} for _ in range(2))
    for i, ((scene, caption), reading) in enumerate(zip(prompts, readings)):
        for kind, values in facts_true(scene, caption, reading).items():
            facts.setdefault(kind, []).extend(values)
        false, more = faults(scene, caption, reading, None if images is None else images[i])
        tasks.setdefault(scene.task, []).append(not false)
        exact.setdefault(scene.task, []).append(not false and not more)
    share = lambda values: round(sum(values) / len(values), 4) if values else None
    return dict(
        overall=share([value for values in tasks.values() for value in values]),
        exact=share([value for values in exact.values() for value in values]),
        tasks={task: share(values) for task, values in tasks.items()},
        exact_tasks={task: share(values) for task, values in exact.items()},
        facts={kind: share(values) for kind, values in facts.items()},
    )


def fidelity(prompts: list[tuple[Scene, str]], images: np.ndarray, scorer: Scorer | None = None) -> dict:
    """How well images uint8 [B, H, H, 3] show what their prompts (scene, caption) request: what `tally` returns."""
    return tally(prompts, (scorer or shipped_scorer()).read(images), images)


# --- measures -------------------------------------------------------------------------------------------------------


def facts_share(prompts: list[tuple[Scene, str]], readings: list[Reading]) -> float:
    """The share of all requested facts that hold, of every kind."""
    answers = [facts_true(*prompt, reading) for prompt, reading in zip(prompts, readings)]
    values = [value for answer in answers for kind in answer.values() for value in kind]
    return round(sum(values) / len(values), 4)


def _whole(scene: Scene, reading: Reading) -> bool:
    names = sorted(item.name for item in scene.items)
    return (reading.background, sorted(thing.name for thing in reading.objects)) == (scene.background, names)


def evaluate_scorer(scorer: Scorer, n: int = 1200) -> dict:
    """How well the scorer reads true pictures of n held-out scenes (split `val`): the upper limit of every fidelity.

    By condition (sharp, blurred by a Gaussian of some pixels, off the lattice), the shares that are read correctly:
    facts, captions (all their facts), exact (as `tally` counts it), scenes (background and objects, requested or not,
    and no others), and kinds, facts by kind.
    """
    result: dict[str, Any] = dict(split="val", n=n)
    for name, sigma, lattice in (
        ("sharp", 0.0, True),
        ("blur 1 px", 1.0, True),
        ("blur 1.5 px", 1.5, True),
        ("blur 2 px", 2.0, True),
        ("off the lattice", 0.0, False),
        ("off the lattice, blur 1 px", 1.0, False),
    ):
        prompts = [scenes.example("val", i, lattice=lattice) for i in range(n)]
        images = scenes.render_batch([scene for scene, _ in prompts])
        if sigma:
            images = np.concatenate([_blurred(images[i : i + CHUNK], sigma) for i in range(0, n, CHUNK)])
        readings = scorer.read(images)
        counts = tally(prompts, readings, images)
        whole = sum(_whole(scene, reading) for (scene, _), reading in zip(prompts, readings)) / n
        shares = dict(facts=facts_share(prompts, readings), captions=counts["overall"], exact=counts["exact"])
        result[name] = shares | dict(scenes=round(whole, 4), kinds=counts["facts"])
    return result


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(to_uint8(blur(to_float(images), jnp.full(len(images), sigma))))


def reconstruct(
    muse: "Muse", images: np.ndarray, stage: str = "base", finetuned: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [B, H, W, 3], encoded and decoded: tokens int [B, h, w], and the decoded images. The other arguments
    are those of `evaluate_tokenizer`."""
    options, tokens, decoded = dict(finetuned=True) if finetuned else {}, [], []
    for start in range(0, len(images), CHUNK):
        tokens.append(np.asarray(muse.tokenize(images[start : start + CHUNK], stage)))
        decoded.append(np.asarray(muse.detokenize(tokens[-1], stage, **options)))
    return np.concatenate(tokens), np.concatenate(decoded)


def evaluate_tokenizer(
    muse: "Muse", stage: str = "base", n: int = 512, scorer: Scorer | None = None, finetuned: bool = False
) -> dict:
    """Reconstruction of n held-out scenes (split `val`).

    muse        a Muse, or any object with its tokenize, detokenize and configs
    stage       base or superres: whose tokenizer
    finetuned   with the stage's fine-tuned decoder

    -> what `metrics.rebuilt` returns · readable, the share of facts that the scorer reads correctly in the
    reconstructions · usage, the share of the codebook that occurs · perplexity of the codes
    """
    config, scorer = muse.configs[TOKENIZERS[stage]], scorer or shipped_scorer()
    prompts = [scenes.example("val", i) for i in range(n)]
    images = scenes.render_batch([scene for scene, _ in prompts], config.image_size)
    tokens, decoded = reconstruct(muse, images, stage, finetuned)
    counts = np.bincount(tokens.reshape(-1), minlength=config.codebook_size)
    return dict(
        rebuilt(images, decoded, scorer),
        readable=facts_share(prompts, scorer.read(decoded)),
        usage=round(float((counts > 0).mean()), 4),
        perplexity=round(float(perplexity(jnp.asarray(counts))), 1),
    )


def draw(
    muse: "Muse | Twin", captions: list[str], seed: int, batch: int, name: str, **options: Any
) -> tuple[np.ndarray, float]:
    """One picture of each caption, uint8 [B, H, W, 3], drawn in batches of one size; and seconds. `name` is that of the
    progress bar, the other arguments are those of `evaluate_generation`."""
    from tqdm.auto import tqdm

    images, begun = [], time.monotonic()
    with tqdm(total=len(captions), unit="image", desc=f"drawing {name}") as bar:
        for number, start in enumerate(range(0, len(captions), batch)):
            some = captions[start : start + batch]
            padded = some + some[-1:] * (batch - len(some))  # one batch size, one compilation
            # Images depend on their batch's seed and their position in it, so every batch needs its own seed.
            drawn = muse.generate(padded, seed=seed * 10_000 + number, **options)
            images.append(np.asarray(drawn)[: len(some)])
            bar.update(len(some))
    return np.concatenate(images), time.monotonic() - begun


def evaluate_generation(
    muse: "Muse | Twin",
    split: str = "val",
    n: int = 256,
    seed: int = 0,
    batch: int = 64,
    first: int = 0,
    scorer: Scorer | None = None,
    judges: Sequence[Judge] = (),
    **options: Any,
) -> dict:
    """Fidelity of one picture of each of n captions of a split, starting with caption number `first`.

    muse       a Muse, or any object with its `generate`, such as a `baselines.Twin`
    judges     further opinions, such as `fid_clip.Inception()`
    options    for `muse.generate`: steps, guidance, temperature and so on; None means the checkpoint's own

    -> what `fidelity` returns · frechet and frechet_random, `metrics.distances` to the true pictures of the same
    captions, only if n > 1 · floor, the same distances of the true pictures of n other captions: so much comes from the
    small number of pictures, so compare only results of the same n · what the judges measure, and its meaning · seconds
    of drawing, including the first batch's compilation · settings that the pictures were drawn with
    """
    scorer = scorer or shipped_scorer()  # before the work, so that a missing one is reported at once
    prompts, batch = [everyday.example(split, first + i) for i in range(n)], min(batch, n)
    images, seconds = draw(muse, [caption for _, caption in prompts], seed, batch, split, **options)
    used = getattr(muse, "defaults", {}) | {key: value for key, value in options.items() if value is not None}
    result = fidelity(prompts, images, scorer)
    true = scenes.render_batch([scene for scene, _ in prompts], images.shape[1])
    if n > 1:
        rounded = lambda far: {name: round(value, 4) for name, value in far.items()}
        result |= rounded(distances(images, true, scorer))
        if split != "typed":  # which has no other captions
            others = scenes.render_batch([everyday.example(split, first + n + i)[0] for i in range(n)], images.shape[1])
            result["floor"] = rounded(distances(others, true, scorer))
    meaning: dict[str, str] = {}
    for judge in judges:
        result |= judge.measure(images, [caption for _, caption in prompts], true)
        meaning |= getattr(judge, "meaning", {})
    result |= dict(meaning=meaning) if meaning else {}
    return result | dict(
        seconds=round(seconds, 2), settings=dict(split=split, n=n, first=first, seed=seed, batch=batch, **used)
    )


def evaluate_diversity(
    muse: "Muse | Twin",
    split: str = "val",
    n: int = 16,
    each: int = 4,
    seed: int = 0,
    first: int = 0,
    scorer: Scorer | None = None,
    **options: Any,
) -> float:
    """`diversity` of `each` pictures of n captions of a split; the other arguments are those of
    `evaluate_generation`."""
    captions = [everyday.example(split, first + i)[1] for i in range(n)]
    at_once = max(1, 64 // each)  # captions
    groups = [captions[i : i + at_once] for i in range(0, n, at_once)]
    drawn = [
        np.asarray(muse.generate(group, each, seed=seed * 10_000 + i, **options)) for i, group in enumerate(groups)
    ]
    return round(diversity((scorer or shipped_scorer()).features(np.concatenate(drawn)), each), 4)
