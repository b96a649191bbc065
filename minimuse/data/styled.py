"""Emoji scenes in another style, to try `train style` on: every background is a sky at sunset.

A style has to live in the tokens of a frozen tokenizer. The shipped ones know the course's sprites and backgrounds by
heart: scenes in grey, in sepia or at night come back with the old colours, or as blots (15 to 25 dB). Bands of colours
that they know come back as they were (32 dB at 64 px). The style is invertible, so the scorer can read its pictures.
"""

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS, Scene
from minimuse.files import atomic_path, write_text

SUNSET = ("purple", "pink", "orange", "yellow")  # from the top; a band is two rows of the base's tokens high
NEAR = 24  # of 255: how far a pixel may be from its band's colour, in any channel, and still belong to it
FLAT = "white"  # the background that `without_sunset` puts in


def sky(size: int) -> np.ndarray:
    """The background of the style, uint8 [size, size, 3]."""
    colours = np.array([BACKGROUNDS[name] for name in SUNSET], np.uint8)
    return np.broadcast_to(colours.repeat(size // len(SUNSET), 0)[:, None], (size, size, 3)).copy()


def render_at_sunset(scene: Scene, size: int = scenes.CANVAS) -> np.ndarray:
    """The picture of a scene in front of the sky, uint8 [size, size, 3]."""
    return scenes.render(scene, size, ground=Image.fromarray(sky(size)))


def in_sunset(images: np.ndarray) -> np.ndarray:
    """How much of pictures uint8 [B, H, H, 3] has the colour of the sky at its place, [B] from 0 to 1."""
    return _sky_mask(images).mean((1, 2))


def without_sunset(images: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, H, H, 3] with a plain background in the place of the sky, for the scorer."""
    return np.where(_sky_mask(images)[..., None], np.array(BACKGROUNDS[FLAT], np.uint8), images)


def _sky_mask(images: np.ndarray) -> np.ndarray:
    return np.abs(images.astype(int) - sky(images.shape[1])).max(-1) <= NEAR


def styled_example(split: str, index: int, seed: int = 0) -> tuple[Scene, str]:
    """Scene number `index` of a split, and a caption of it that does not name the background."""
    (scene, text), rng = scenes.example(split, index, seed), random.Random(f"styled/{split}/{seed}/{index}")
    while "background" in text:
        text = scenes.caption(scene, rng)
    return scene, text


def save_sunset(folder: Path | str, n: int = 12, size: int = 128, words: str = "", seed: int = 0) -> None:
    """Write n captioned pictures in the style, as `train style --data` reads them: PNG files and a metadata.jsonl.

    words    at the end of every caption, such as " at sunset"; "": captions do not name the style
    """
    folder, rows = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        scene, caption = styled_example("train", i, seed)
        rows.append(dict(file_name=f"{i:02d}.png", text=caption + words))
        with atomic_path(folder / rows[-1]["file_name"]) as partial:
            Image.fromarray(render_at_sunset(scene, size)).save(partial)
    write_text(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
