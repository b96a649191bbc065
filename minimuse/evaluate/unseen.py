"""How well a tokenizer reconstructs drawings of an artist whom no training saw (data/unseen_artwork.parquet).

All 74 sprites are in every training, so numbers on the course's scenes do not distinguish what a tokenizer has learnt
of drawings from what it knows by heart. Here each scene of the course is drawn twice: with its sprites, and with
drawings never seen, of the same sizes, in the same places, on the same backgrounds.

Nothing that trains may import this file; a test checks that.
"""

import functools
import random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from minimuse.config import data_dir
from minimuse.data import scenes
from minimuse.data.artwork import opened, read_artwork
from minimuse.evaluate.fidelity import evaluate_tokenizer, reconstruct
from minimuse.evaluate.metrics import rebuilt
from minimuse.evaluate.scorer import Scorer, shipped_scorer
from minimuse.muse import TOKENIZERS

if TYPE_CHECKING:
    from minimuse.muse import Muse


@functools.cache
def unseen_artwork() -> tuple[Image.Image, ...]:
    """The drawings, RGBA of 128 x 128 pixels, in the order of the file."""
    return tuple(map(opened, read_artwork(data_dir() / "unseen_artwork.parquet")))


def unseen_picture(index: int, size: int, seed: int = 0) -> np.ndarray:
    """Scene number `index` of the split `val`, uint8 [size, size, 3], each of its sprites replaced by a drawing never
    seen; equal sprites by equal ones. Which drawings depends on index and seed only."""
    drawings, scene = unseen_artwork(), scenes.example("val", index)[0]
    names = list(dict.fromkeys(item.name for item in scene.items))
    rows = random.Random(f"unseen artwork/{seed}/{index}").sample(range(len(drawings)), len(names))
    chosen = {name: drawings[row] for name, row in zip(names, rows)}

    def stamp(name: str, side: int) -> Image.Image:
        return chosen[name].resize((side, side), Image.Resampling.LANCZOS)

    return scenes.render(scene, size, stamp)


def unseen_pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    """The first n such pictures, uint8 [n, size, size, 3]."""
    return np.stack([unseen_picture(i, size, seed) for i in range(n)])


def evaluate_unseen(
    muse: "Muse",
    stage: str = "base",
    n: int = 256,
    scorer: Scorer | None = None,
    finetuned: bool = False,
    seed: int = 0,
) -> dict:
    """Reconstruction of the same n scenes (split `val`), drawn with the sprites and with drawings never seen.

    The arguments are those of `fidelity.evaluate_tokenizer`; `seed` chooses the drawings.

    -> seen: what `evaluate_tokenizer` returns · unseen: the same without `readable`, since the scorer knows the sprites
    only, and without what counts codes · artwork: how many drawings there are · n
    """
    scorer = scorer or shipped_scorer()
    images = unseen_pictures(n, muse.configs[TOKENIZERS[stage]].image_size, seed)
    return dict(
        seen=evaluate_tokenizer(muse, stage, n, scorer, finetuned),
        unseen=rebuilt(images, reconstruct(muse, images, stage, finetuned)[1], scorer),
        artwork=len(unseen_artwork()),
        n=n,
    )
