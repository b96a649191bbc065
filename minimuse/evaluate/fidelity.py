"""Does it work? Which requested facts hold in a picture, as the scene scorer sees it, and what is measured with that.

Fidelity is the share of captions whose every requested fact holds (the idea of GenEval, arXiv 2310.11513, with a
detector that recognises its objects almost perfectly).
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax.numpy as jnp
import numpy as np

from minimuse.data import scenes
from minimuse.data.scenes import TASKS, Scene, sprites
from minimuse.evaluate.metrics import blur, diversity, frechet, perplexity, rebuilt
from minimuse.evaluate.scorer import CHUNK, Reading, Scorer, Seen, shipped_scorer
from minimuse.muse import TOKENIZERS
from minimuse.vqgan import to_float, to_uint8

if TYPE_CHECKING:
    from minimuse.evaluate.baselines import Twin
    from minimuse.muse import Muse

KINDS = ("object", "colour", "count", "place", "background")


class Judge(Protocol):
    """A further opinion on pictures, such as `fid_clip.Inception` or `fid_clip.Clip`."""

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray) -> dict[str, float]:
        """Numbers by name, of drawn images uint8 [B, H, W, 3], their B captions and the true pictures."""
        ...


# --- from what is seen to what holds --------------------------------------------------------------------------------


def _related(a: Seen, relation: str, b: Seen) -> bool:
    """Whether a is `relation` b: further in that direction than across it."""
    dx, dy = b.x - a.x, b.y - a.y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return (along if relation in ("left of", "above") else -along) > abs(across)


def facts_true(scene: Scene, caption: str, reading: Reading) -> dict[str, list[bool]]:
    """For every fact that the caption requests (scenes.asked), whether it holds in the scene that was read."""
    names = [thing.name for thing in reading.objects]
    seen = [sprites()[name] for name in names]

    def holds(kind: str, fact: Any) -> bool:
        if kind == "object":
            return any(sprite.word == fact for sprite in seen)
        if kind == "colour":
            return any((sprite.word, sprite.colour) == fact for sprite in seen)
        if kind == "count":
            return names.count(fact[0]) == fact[1]
        if kind == "place":
            first, second = ([thing for thing in reading.objects if thing.name == fact[i]] for i in (0, 2))
            return any(_related(a, fact[1], b) for a in first for b in second)
        return reading.background == fact

    return {kind: [holds(kind, fact) for fact in facts] for kind, facts in scenes.asked(scene, caption).items()}


def tally(prompts: list[tuple[Scene, str]], readings: list[Reading]) -> dict:
    """overall and tasks: shares of captions whose every fact holds; facts: shares of facts that hold, by kind. None
    where nothing was requested. ValueError unless there is one reading per prompt, and at least one."""
    if len(prompts) != len(readings) or not prompts:
        counts = f"There are {len(prompts)} prompts and {len(readings)} images"
        raise ValueError(f"{counts}; give at least one prompt, and one image per prompt.")
    facts = {kind: [] for kind in KINDS}
    tasks = {task: [] for task in TASKS}
    for (scene, caption), reading in zip(prompts, readings):
        answers = facts_true(scene, caption, reading)
        for kind, values in answers.items():
            facts[kind] += values
        tasks[scene.task].append(all(value for values in answers.values() for value in values))
    share = lambda values: round(sum(values) / len(values), 4) if values else None
    return dict(
        overall=share([value for values in tasks.values() for value in values]),
        tasks={task: share(values) for task, values in tasks.items()},
        facts={kind: share(values) for kind, values in facts.items()},
    )


def fidelity(prompts: list[tuple[Scene, str]], images: np.ndarray, scorer: Scorer | None = None) -> dict:
    """How well images uint8 [B, H, H, 3] show what their prompts (scene, caption) request.

    -> overall: share of captions whose every requested fact holds · tasks: the same by task · facts: share of facts
    that hold, by kind
    """
    return tally(prompts, (scorer or shipped_scorer()).read(images))


# --- measures -------------------------------------------------------------------------------------------------------


def facts_share(prompts: list[tuple[Scene, str]], readings: list[Reading]) -> float:
    """The share of all requested facts that hold, of every kind."""
    answers = [facts_true(*prompt, reading) for prompt, reading in zip(prompts, readings)]
    values = [value for answer in answers for kind in answer.values() for value in kind]
    return round(sum(values) / len(values), 4)


def _exact(scene: Scene, reading: Reading) -> bool:
    names = sorted(item.name for item in scene.items)
    return (reading.background, sorted(thing.name for thing in reading.objects)) == (scene.background, names)


def evaluate_scorer(scorer: Scorer, n: int = 1200) -> dict:
    """How well the scorer reads true pictures of n held-out scenes (split `val`): the upper limit of every fidelity.

    By condition (sharp, blurred by a Gaussian of some pixels, off the lattice), the shares that are read correctly:
    facts, captions (all their facts), scenes (background, objects, and nothing else), and kinds, facts by kind.
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
        counts = tally(prompts, readings)
        exact = sum(_exact(scene, reading) for (scene, _), reading in zip(prompts, readings)) / n
        shares = dict(facts=facts_share(prompts, readings), captions=counts["overall"], scenes=round(exact, 4))
        result[name] = shares | dict(kinds=counts["facts"])
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

    -> psnr, in dB over all pixels · ssim · sharpness, as a share of the true pictures' · frechet, on the scorer's
    features, so not FID · readable, the share of facts that the scorer reads correctly in the reconstructions · usage,
    the share of the codebook that occurs · perplexity of the codes
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

    -> overall, tasks, facts, as `fidelity` returns them · frechet, to the true pictures of the same captions, on the
    scorer's features, so not FID, only if n > 1 · what the judges measure · seconds of drawing, including the first
    batch's compilation · settings that the pictures were drawn with
    """
    from tqdm.auto import tqdm

    scorer = scorer or shipped_scorer()  # before the work, so that a missing one is reported at once
    prompts = [scenes.example(split, first + i) for i in range(n)]
    batch, images, begun = min(batch, n), [], time.monotonic()
    with tqdm(total=n, unit="image", desc=f"drawing {split}") as bar:
        for number, start in enumerate(range(0, n, batch)):
            captions = [caption for _, caption in prompts[start : start + batch]]
            padded = captions + captions[-1:] * (batch - len(captions))  # one batch size, one compilation
            # Images depend on their batch's seed and their position in it, so every batch needs its own seed.
            drawn = muse.generate(padded, seed=seed * 10_000 + number, **options)
            images.append(np.asarray(drawn)[: len(captions)])
            bar.update(len(captions))
    seconds = time.monotonic() - begun
    used = getattr(muse, "defaults", {}) | {key: value for key, value in options.items() if value is not None}
    images = np.concatenate(images)
    result = fidelity(prompts, images, scorer)
    true = scenes.render_batch([scene for scene, _ in prompts], images.shape[1])
    if n > 1:
        result["frechet"] = round(frechet(scorer.features(images), scorer.features(true)), 4)
    for judge in judges:
        result |= judge.measure(images, [caption for _, caption in prompts], true)
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
    captions = [scenes.example(split, first + i)[1] for i in range(n)]
    at_once = max(1, 64 // each)  # captions
    groups = [captions[i : i + at_once] for i in range(0, n, at_once)]
    drawn = [
        np.asarray(muse.generate(group, each, seed=seed * 10_000 + i, **options)) for i, group in enumerate(groups)
    ]
    return round(diversity((scorer or shipped_scorer()).features(np.concatenate(drawn)), each), 4)
