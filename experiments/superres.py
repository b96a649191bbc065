"""The shipped super-resolution stage and fine-tuned decoder (chapters 09 and 10): `python -m experiments.superres`.

One setting at a time is changed, of the checkpoint's own, on the same captions and seeds, so on the same base pictures:
steps, guidance, both temperatures, the decoder; and the base pictures enlarged by bicubic interpolation. The captions
are not those that README.md's fidelity is measured on. Names of arms after the command run these alone.
"""

import sys

import numpy as np
from PIL import Image

from experiments.small import experiment, measured
from minimuse.muse import Muse

ARMS = {
    "bicubic": None,
    "the checkpoint's own": {},
    "24 steps": dict(steps=(None, 24)),
    "small decoder": dict(finetuned=False),
    **{f"{steps} steps": dict(steps=(None, steps)) for steps in (1, 2, 4)},
    **{f"temperature {value:g}": dict(temperature=(None, value)) for value in (0.0, 20.0)},
    **{f"token temperature {value:g}": dict(token_temperature=(None, value)) for value in (0.01, 1.0)},
    **{f"t {t:g}": dict(guidance=(None, t)) for t in (0.5, 2.0)},
}
FIRST, CAPTIONS = 10_000, 128


def enlarge(images: np.ndarray, times: int = 2) -> np.ndarray:
    """uint8 [B, H, W, 3] -> [B, times H, times W, 3] by bicubic interpolation."""
    size = images.shape[2] * times, images.shape[1] * times
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])


class Bicubic:
    """A Muse whose base pictures are enlarged."""

    def __init__(self, muse: Muse):
        self.muse = muse

    def generate(self, *args, **options) -> np.ndarray:
        """As `Muse.generate`."""
        return enlarge(self.muse.generate(*args, superres=False, **options))


def run(arm: str, seed: int) -> dict:
    muse, changes = Muse.from_pretrained("tiny"), ARMS[arm]
    if changes is None:
        return measured(Bicubic(muse), CAPTIONS, first=FIRST, seed=seed)
    return dict(options=changes) | measured(muse, CAPTIONS, first=FIRST, seed=seed, **changes)


if __name__ == "__main__":
    settings = dict(captions=CAPTIONS, first=FIRST, own=Muse.from_pretrained("tiny").defaults)
    experiment("superres", list(ARMS), run, settings, seeds=(0,), only=sys.argv[1:])
