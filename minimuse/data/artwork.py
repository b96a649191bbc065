"""Drawings in a Parquet file of the form of data/sprites.parquet, and collages of them that a decoder can learn from.

A tokenizer that has seen 74 sprites only can learn them by heart; thousands of drawings, turned, scaled and coloured,
and off the lattice, leave nothing to learn but how drawings look.
"""

import functools
import hashlib
import io
import os
import random
from pathlib import Path

import numpy as np
from PIL import Image

from minimuse.data.scenes import BACKGROUNDS

COUNT = (3, 5)  # drawings in a collage, from and to
SIDES = (0.3, 0.6)  # of a drawing, as shares of the canvas; the scenes' are 0.375 and 0.5
LIGHT = (0.4, 0.9)  # how much white there is in a background, from and to


def read_artwork(path: str | os.PathLike) -> list[bytes]:
    """The pictures of a Parquet file with the column `image`, as the bytes of their files, in the order of the rows.

    FileNotFoundError if it does not exist; ValueError if it is not Parquet, has no pictures, or lacks one.
    """
    import pyarrow
    import pyarrow.parquet

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; data/build_training_artwork.py builds one.")
    try:
        rows = pyarrow.parquet.read_table(path, columns=["image"]).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file with the column image: {error}") from None
    found = [row["image"]["bytes"] for row in rows if isinstance(row["image"], dict) and row["image"]["bytes"]]
    if not found or len(found) < len(rows):
        raise ValueError(
            f"{path} needs a picture in the column image of every row, as PNG bytes; {len(found)} of its {len(rows)} "
            "rows have one."
        )
    return found


def opened(picture: bytes) -> Image.Image:
    """RGBA of the bytes of a picture's file."""
    return Image.open(io.BytesIO(picture)).convert("RGBA")


def recoloured(image: Image.Image, hue: int, brightness: float) -> Image.Image:
    """An RGBA picture with its hue turned by `hue` of 256 steps and its brightness multiplied; alpha stays."""
    pixels = np.array(image.convert("RGB").convert("HSV"), np.uint8)
    pixels[..., 0] += np.uint8(hue % 256)
    pixels[..., 2] = np.clip(np.round(pixels[..., 2] * brightness), 0, 255).astype(np.uint8)
    changed = Image.fromarray(pixels, "HSV").convert("RGB")
    changed.putalpha(image.getchannel("A"))
    return changed


def altered(image: Image.Image, side: int, rng: random.Random) -> Image.Image:
    """A square RGBA picture at `side` pixels, in half of the cases turned or mirrored, and in a third recoloured."""
    if rng.random() < 1 / 3:
        image = recoloured(image, rng.randrange(256), rng.uniform(0.6, 1.2))
    if rng.random() < 0.5:
        image = image.rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC, expand=True)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def ground(rng: random.Random) -> tuple[int, int, int]:
    """A background: a scene's in half of the cases, otherwise any light tone."""
    if rng.random() < 0.5:
        return rng.choice(tuple(BACKGROUNDS.values()))
    white = rng.uniform(*LIGHT)
    red, green, blue = (round(255 * (white + (1 - white) * rng.random())) for _ in range(3))
    return red, green, blue


class Artwork:
    """The drawings of a file, and collages of them. Every collage is a function of its number and a seed.

    path    as `read_artwork` takes it, with its errors
    """

    def __init__(self, path: str | os.PathLike):
        self.pictures = read_artwork(path)
        digest = hashlib.sha256(b"".join(hashlib.sha256(picture).digest() for picture in self.pictures))
        self.about = dict(artwork=digest.hexdigest()[:12])  # not the path: a run may continue on a different machine
        self._image = functools.lru_cache(4096)(lambda i: opened(self.pictures[i]))

    def collage(self, number: int, size: int, seed: int) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Collage as uint8 [size, size, 3], and the centres (x, y) of its drawings in pixels."""
        rng = random.Random(f"collage/{seed}/{number}")
        canvas, centres = Image.new("RGB", (size, size), ground(rng)), []
        for _ in range(rng.randint(*COUNT)):
            side = max(1, round(size * rng.uniform(*SIDES)))
            drawing = altered(self._image(rng.randrange(len(self.pictures))), side, rng)
            x, y = (rng.uniform(0, size) for _ in range(2))  # the border of the canvas may cut it
            canvas.paste(drawing, (round(x - side / 2), round(y - side / 2)), drawing)
            centres.append((x, y))
        return np.asarray(canvas), centres
