"""A style from twelve pictures: `python -m experiments.style`. With `--strip FILE` it draws pictures instead.

Adapters of the shipped transformers are trained on twelve scenes in front of a sky at sunset (data/styled.py), once
with captions that do not name the style and once with " at sunset" at the end of each. Measured are held-out captions,
which never name a background. How much of a picture has the sky's colour at its place? How far are its colours from
those of true pictures in the style, and of plain ones? Is what was asked for there, once the scorer sees the picture
without the sky? The arm "true pictures" is what the scorer reads of scenes that were rendered in the style.
"""

import dataclasses
import functools
import sys
import time
from pathlib import Path

import numpy as np

from experiments.small import RUNS, experiment
from minimuse.data import scenes, styled
from minimuse.evaluate.fidelity import facts_true, faults
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.evaluate.stored import weights_of
from minimuse.files import read_log, save_picture
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.train.style import train_style

PICTURES, CAPTIONS, BATCH = 12, 96, 32
TRAIN = {name: get_preset("tiny").train[name] for name in ("style", "style_superres")}
WORDS = " at sunset"
ARMS = {  # words at the end of captions in training and in drawing, and the strength
    "true pictures": None,
    "without a style": ("", "", 0.0),
    "captions do not name it": ("", "", 1.0),
    "captions do not name it, strength 0.5": ("", "", 0.5),
    "captions name it": (WORDS, WORDS, 1.0),
    "captions name it in training only": (WORDS, "", 1.0),
}
SHOWN = ("a cat and a dog", "three apples", "a fox left of a tree", "a red heart above a blue square", "a penguin")


def trained(words: str, seed: int) -> tuple[Path, dict[str, float]]:
    """The folder of a style, trained if it is not there yet; its bytes, and seconds of training."""
    run = RUNS / "style" / f"{'named' if words else 'unnamed'}-{seed}"
    if not (run / "config.json").is_file():
        styled.save_sunset(run / "pictures", PICTURES, words=words, seed=seed)
        train = {name: dataclasses.replace(own, seed=seed) for name, own in TRAIN.items()}
        preset = get_preset("tiny")
        train_style(dataclasses.replace(preset, data=str(run / "pictures"), train=preset.train | train), run)
    size = sum((run / name).stat().st_size for name in ("style_base.safetensors", "style_superres.safetensors"))
    return run, dict(bytes=size) | {
        f"{name}_seconds": float(read_log(run / name / "log.jsonl")["seconds"][-1]) for name in TRAIN
    }


def histogram(images: np.ndarray) -> np.ndarray:
    """Shares of 8 x 8 x 8 colours in pictures uint8 [B, H, W, 3], [512]."""
    bins = (images.reshape(-1, 3) // 32) @ np.array([64, 8, 1])
    return np.bincount(bins, minlength=512) / len(bins)


@functools.cache
def prompts() -> list[tuple[scenes.Scene, str]]:
    """Held-out scenes and their captions."""
    return [styled.styled_example("val", i, seed=77) for i in range(CAPTIONS)]


def measured(images: np.ndarray) -> dict[str, float]:
    """The numbers of pictures [CAPTIONS, H, H, 3] of the prompts."""
    size, pairs = images.shape[1], prompts()
    reference = [
        np.stack([draw(scene, size) for scene, _ in pairs]) for draw in (styled.render_at_sunset, scenes.render)
    ]
    far = [0.5 * np.abs(histogram(images) - histogram(other)).sum() for other in reference]
    # Pictures without the style are read as they are: what has the sky's colour there is not sky.
    sky = styled.in_sunset(images)
    plain = np.where((sky > 0.3)[:, None, None, None], styled.without_sunset(images), images)
    readings = shipped_scorer().read(plain)
    found = [facts_true(scene, caption, reading) for (scene, caption), reading in zip(pairs, readings)]
    asked = [all(all(values) for values in facts.values()) for facts in found]
    exact = [not any(faults(*pair, reading)) for pair, reading in zip(pairs, readings)]
    values = dict(sky=sky.mean(), from_style=far[0], from_plain=far[1], asked=np.mean(asked), exact=np.mean(exact))
    return {name: round(float(value), 4) for name, value in values.items()}


def run(arm: str, seed: int) -> dict:
    """Both resolutions of an arm."""
    if ARMS[arm] is None:
        return {
            f"{size}px": measured(np.stack([styled.render_at_sunset(scene, size) for scene, _ in prompts()]))
            for size in (64, 128)
        }
    (words, said, strength), muse = ARMS[arm], Muse.from_pretrained("tiny")
    folder, cost = trained(words, seed) if strength else (None, {})
    muse = muse.with_style(folder, strength) if folder else muse
    captions, found, begun = [caption + said for _, caption in prompts()], {}, time.monotonic()
    for size, superres in ((64, False), (128, True)):
        images = [
            muse.generate(captions[i : i + BATCH], seed=seed * 10_000 + i, superres=superres)
            for i in range(0, CAPTIONS, BATCH)
        ]
        found[f"{size}px"] = measured(np.concatenate(images))
    return found | cost | dict(drawing_seconds=round(time.monotonic() - begun, 1))


def strip(out: Path, words: str = "", seed: int = 0) -> None:
    """The captions SHOWN, one per row: plain, with half the style, with the style at 64 px enlarged, and at 128 px."""
    muse, folder = Muse.from_pretrained("tiny"), trained(words, seed)[0]
    styles = [muse.with_style(folder, strength) for strength in (0.0, 0.5, 1.0)]
    captions = [caption + words for caption in SHOWN]
    columns = [each.generate(captions, seed=1) for each in styles]
    columns.insert(2, styles[-1].generate(captions, seed=1, superres=False).repeat(2, 1).repeat(2, 2))
    save_picture(np.stack(columns, 1).reshape(-1, *columns[0].shape[1:]), out, len(columns))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--strip"]:
        strip(Path(sys.argv[2]))
    else:
        settings = dict(pictures=PICTURES, captions=CAPTIONS, words=WORDS)
        settings |= {name: dataclasses.asdict(own) for name, own in TRAIN.items()}
        stages = ("tokenizer", "base", "superres_tokenizer", "superres", "superres_decoder")
        experiment("style", list(ARMS), run, settings, seeds=(0,), weights=weights_of(*stages))
