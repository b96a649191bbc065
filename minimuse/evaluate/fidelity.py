"""Does it work? Facts that a caption asks for, true or not of what the scene scorer sees; and what is measured.

Fidelity is the share of captions with every asked fact true (the idea of GenEval, arXiv 2310.11513, with a detector
that knows its objects almost perfectly).
"""

import time
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from minimuse.data import scenes
from minimuse.data.scenes import TASKS, Scene, sprites
from minimuse.evaluate.metrics import blur, diversity, frechet, perplexity, rebuilt
from minimuse.evaluate.scorer import CHUNK, Reading, Scorer, Seen, shipped_scorer
from minimuse.vqgan import to_float, to_uint8
from minimuse.weights import TOKENIZERS

KINDS = ("object", "colour", "count", "place", "background")


# --- from what is seen to what is true ------------------------------------------------------------------------------


def _in_place(a: Seen, relation: str, b: Seen) -> bool:
    """Whether a is `relation` to b: in that direction more than across it."""
    dx, dy = b.x - a.x, b.y - a.y
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    return (along if relation in ("left of", "above") else -along) > abs(across)


def facts_true(scene: Scene, caption: str, reading: Reading) -> dict[str, list[bool]]:
    """For every fact that the caption asks for (scenes.asked), whether it is true of what was read."""
    names = [thing.name for thing in reading.objects]
    seen = [sprites()[name] for name in names]

    def true(kind, fact):
        if kind == "object":
            return any(sprite.word == fact for sprite in seen)
        if kind == "colour":
            return any((sprite.word, sprite.colour) == fact for sprite in seen)
        if kind == "count":
            return names.count(fact[0]) == fact[1]
        if kind == "place":
            first, second = ([thing for thing in reading.objects if thing.name == fact[i]] for i in (0, 2))
            return any(_in_place(a, fact[1], b) for a in first for b in second)
        return reading.background == fact

    return {kind: [true(kind, fact) for fact in facts] for kind, facts in scenes.asked(scene, caption).items()}


def tally(prompts: list[tuple[Scene, str]], readings: list[Reading]) -> dict:
    """overall, tasks, facts: shares of captions (of facts) that hold; None where nothing was asked."""
    if len(prompts) != len(readings) or not prompts:
        raise ValueError(f"{len(prompts)} prompts and {len(readings)} images; give one image each, at least one.")
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
    """How well images uint8 [B, H, W, 3] show what their prompts (scene, caption) ask for.

    -> overall: share of captions with every asked fact true · tasks: the same by task · facts: share of facts by kind
    """
    return tally(prompts, (scorer or shipped_scorer()).read(images))


# --- measures -------------------------------------------------------------------------------------------------------


def facts_share(prompts: list[tuple[Scene, str]], readings: list[Reading]) -> float:
    """The share of all asked facts that are true, of whatever kind."""
    answers = [facts_true(*prompt, reading) for prompt, reading in zip(prompts, readings)]
    values = [value for answer in answers for kind in answer.values() for value in kind]
    return round(sum(values) / len(values), 4)


def _exact(scene: Scene, reading: Reading) -> bool:
    names = sorted(item.name for item in scene.items)
    return (reading.background, sorted(thing.name for thing in reading.objects)) == (scene.background, names)


def evaluate_scorer(scorer: Scorer, n: int = 1200) -> dict:
    """How well the scorer reads true pictures of n held-out scenes (split `val`): the ceiling of every fidelity.

    By condition (sharp, blurred by a Gaussian of so many pixels, off the lattice): share of facts read right, also by
    kind, of captions with all facts right, and of scenes read exactly (background, objects, and nothing else).
    """
    result = dict(split="val", n=n)
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
        by_kind = counts["facts"]
        result[name] = dict(facts=facts_share(prompts, readings), captions=counts["overall"], scenes=round(exact, 4))
        result[name]["kinds"] = by_kind
    return result


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(to_uint8(blur(to_float(images), jnp.full(len(images), sigma))))


def evaluate_tokenizer(
    muse, stage: str = "base", n: int = 512, scorer: Scorer | None = None, finetuned: bool = False
) -> dict:
    """Reconstruction of n held-out scenes (split `val`) by a Muse, or whatever has its tokenize, detokenize, configs.

    stage: base or superres, whose tokenizer · finetuned: with the stage's fine-tuned decoder
    -> psnr: dB over all pixels · ssim · sharpness: share of the true pictures' · frechet: on the scorer's features, no
    FID · readable: share of facts the scorer reads right from the reconstructions · usage: share of the codebook that
    occurs · perplexity: of the codes
    """
    config, scorer = muse.configs[TOKENIZERS[stage]], scorer or shipped_scorer()
    options = dict(finetuned=True) if finetuned else {}
    prompts = [scenes.example("val", i) for i in range(n)]
    images = scenes.render_batch([scene for scene, _ in prompts], config.image_size)
    counts, decoded = np.zeros(config.codebook_size), []
    for start in range(0, n, CHUNK):
        tokens = np.asarray(muse.tokenize(images[start : start + CHUNK], stage))
        counts += np.bincount(tokens.reshape(-1), minlength=config.codebook_size)
        decoded.append(np.asarray(muse.detokenize(tokens, stage, **options)))
    return dict(
        rebuilt(images, np.concatenate(decoded), scorer),
        readable=facts_share(prompts, scorer.read(np.concatenate(decoded))),
        usage=round(float((counts > 0).mean()), 4),
        perplexity=round(float(perplexity(jnp.asarray(counts))), 1),
    )


def evaluate_generation(
    muse,
    split: str = "val",
    n: int = 256,
    seed: int = 0,
    batch: int = 64,
    first: int = 0,
    scorer: Scorer | None = None,
    judges: Sequence = (),
    **options,
) -> dict:
    """Fidelity of one picture of each of n captions of a split, from number `first` on.

    muse       a Muse, or whatever has its `generate`, such as a twin of baselines.py
    judges     further opinions, such as a `judges.Inception()`: whatever has measure(images, captions, true) -> dict
    options    for `muse.generate`: steps, guidance, temperature and so on; None means the checkpoint's own
    -> overall, tasks, facts as `fidelity` · frechet: to the true pictures of the same captions, on the scorer's
    features, no FID; only for n > 1 · what the judges measure · seconds: of drawing alone, the first batch's
    compilation included · settings: with what it was drawn
    """
    from tqdm.auto import tqdm

    scorer = scorer or shipped_scorer()  # before the work, so that a missing one is known at once
    prompts = [scenes.example(split, first + i) for i in range(n)]
    batch, images, begun = min(batch, n), [], time.monotonic()
    with tqdm(total=n, unit="image", desc=f"drawing {split}") as bar:
        for number, start in enumerate(range(0, n, batch)):
            captions = [caption for _, caption in prompts[start : start + batch]]
            padded = captions + captions[-1:] * (batch - len(captions))  # one batch size, one compilation
            # A batch's images depend on its seed and their place in it, so every batch needs a seed of its own.
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
    muse,
    split: str = "val",
    n: int = 16,
    each: int = 4,
    seed: int = 0,
    first: int = 0,
    scorer: Scorer | None = None,
    **options,
) -> float:
    """`diversity` of `each` pictures of n captions of a split; the rest as in `evaluate_generation`."""
    captions = [scenes.example(split, first + i)[1] for i in range(n)]
    at_once = max(1, 64 // each)  # captions
    parts = [captions[i : i + at_once] for i in range(0, n, at_once)]
    drawn = [np.asarray(muse.generate(part, each, seed=seed * 10_000 + i, **options)) for i, part in enumerate(parts)]
    return round(diversity((scorer or shipped_scorer()).features(np.concatenate(drawn)), each), 4)
