"""The shipped super-resolution stage and fine-tuned decoder (chapters 09 and 10): `python -m experiments.superres`.

Each arm changes the checkpoint's own steps or decoder, or enlarges the base pictures by bicubic interpolation, on the
same captions and seeds and so on the same base pictures. The last two arms start from the base tokens of true pictures,
so that only the detail differs. The captions are not those of README.md's fidelity. Names of arms after the command run
only these arms.
"""

import sys
from typing import Any

import numpy as np
from PIL import Image

from experiments.small import experiment, measured
from minimuse.data import scenes
from minimuse.editing import sample
from minimuse.evaluate.fidelity import fidelity
from minimuse.evaluate.metrics import distances, psnr
from minimuse.evaluate.scorer import shipped_scorer
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse
from minimuse.vqgan import to_float

ARMS = {
    "bicubic": None,
    "the checkpoint's own": {},
    "24 steps": dict(steps=(None, 24)),
    "small decoder": dict(finetuned=False),
    **{f"{steps} steps": dict(steps=(None, steps)) for steps in (1, 2, 4)},
}
TRUE = ("true tokens, bicubic", "true tokens")  # only the second stage, from base tokens of true pictures
FIRST, CAPTIONS = 10_000, 64


def enlarge(images: np.ndarray, times: int = 2) -> np.ndarray:
    """uint8 [B, H, W, 3] -> [B, times H, times W, 3] by bicubic interpolation."""
    size = images.shape[2] * times, images.shape[1] * times
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])


class Bicubic:
    """A Muse whose base pictures are enlarged."""

    def __init__(self, muse: Muse):
        self.muse = muse

    def generate(self, *args: Any, **options: Any) -> np.ndarray:
        """As `Muse.generate`."""
        images = self.muse.generate(*args, superres=False, **options)
        assert isinstance(images, np.ndarray)  # without trace=True
        return enlarge(images)


def raised(muse: Muse, pairs: list[tuple], bicubic: bool, seed: int) -> np.ndarray:
    """Pictures uint8 [B, 128, 128, 3] from the true base tokens of scenes with captions."""
    size = muse.configs["tokenizer"].image_size
    low = muse.tokenize(scenes.render_batch([scene for scene, _ in pairs], size))
    if bicubic:
        return enlarge(np.asarray(muse.detokenize(low)))
    plan, prompts = muse.plan(), muse.prompts([caption for _, caption in pairs], 1, seed)
    start = np.full((len(pairs), *muse.configs["superres"].grid), muse.configs["superres"].codebook_size)
    tokens = sample(muse, plan, "superres", prompts, start, low)
    return np.asarray(muse.detokenize(tokens, "superres", finetuned=plan.finetuned))


def from_true(muse: Muse, bicubic: bool, seed: int) -> dict:
    """Fidelity, distances and PSNR of pictures that start from true base tokens."""
    pairs = [scenes.example("val", FIRST + i) for i in range(CAPTIONS)]
    images, scorer = raised(muse, pairs, bicubic, seed), shipped_scorer()
    true = scenes.render_batch([scene for scene, _ in pairs], images.shape[1])
    far = {name: round(value, 4) for name, value in distances(images, true, scorer).items()}
    decibels = float(psnr(to_float(images), to_float(true)))
    return fidelity(pairs, images, scorer) | far | dict(psnr=round(decibels, 1))


def run(arm: str, seed: int) -> dict:
    muse = Muse.from_pretrained("tiny")
    if arm in TRUE:
        return from_true(muse, "bicubic" in arm, seed)
    changes = ARMS[arm]
    if changes is None:
        return measured(Bicubic(muse), CAPTIONS, first=FIRST, seed=seed)
    return dict(options=changes) | measured(muse, CAPTIONS, first=FIRST, seed=seed, **changes)


if __name__ == "__main__":
    settings = dict(captions=CAPTIONS, first=FIRST, own=Muse.from_pretrained("tiny").defaults)
    weights = weights_of("tokenizer", "base", "superres_tokenizer", "superres", "superres_decoder")
    experiment("superres", [*ARMS, *TRUE], run, settings, seeds=(0,), only=sys.argv[1:], weights=weights)
