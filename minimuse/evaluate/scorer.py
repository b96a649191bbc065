"""The scene scorer: a small network, trained on rendered scenes, that reads a picture back into a scene.

It finds which sprites a picture shows, where, and on which background. `fidelity.py` compares that with a caption.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from minimuse.config import from_dict
from minimuse.data.scenes import BACKGROUNDS, CANVAS, CELL, SIZES, Item, Scene, render, sprites
from minimuse.layers import abstract
from minimuse.vqgan import Halve, ResBlock, Swish, space_to_depth, to_float
from minimuse.weights import find_checkpoint, load_weights, read_config

THRESHOLD = 0.5  # an object is seen where p(nothing) is below one minus this
CHUNK = 64  # images the scorer reads at a time; fixed, so that it compiles once
GRID = CANVAS // CELL  # cells per side


class Seen(NamedTuple):
    """An object that the scorer sees: its sprite's name, its centre in canvas units, the confidence in [0, 1], and its
    side in canvas units, one of scenes.SIZES."""

    name: str
    x: float
    y: float
    confidence: float = 1.0
    side: int = SIZES[0]


class Reading(NamedTuple):
    """A picture read back: the name of the background, and the objects, the most confident first."""

    background: str
    objects: list[Seen]


# --- the network ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScorerConfig:
    """Sizes of the scorer. Its classes are the sprites and the backgrounds, in the order of their tables."""

    sprites: int = 74
    channels: tuple[int, int] = (48, 128)  # at strides of 4 and 8 pixels
    blocks: tuple[int, int] = (1, 2)


class ScorerNet(nnx.Module):
    """Pixels [B, 64, 64, 3] -> for each of 8 x 8 cells, which sprite has its centre there, if any, and where exactly;
    and the background."""

    def __init__(self, config: ScorerConfig, *, rngs: nnx.Rngs):
        fine, coarse = config.channels
        self.classes = config.sprites + 1  # the last is "nothing"
        outputs = self.classes + 2 + len(BACKGROUNDS)
        stages = [nnx.Conv(3 * 4**2, fine, (3, 3), rngs=rngs)]
        stages += [ResBlock(fine, rngs=rngs) for _ in range(config.blocks[0])]
        stages += [Halve(), nnx.Conv(4 * fine, coarse, (1, 1), rngs=rngs)]
        stages += [ResBlock(coarse, rngs=rngs) for _ in range(config.blocks[1])]
        self.trunk = nnx.Sequential(*stages, nnx.RMSNorm(coarse, rngs=rngs), Swish())
        self.head = nnx.Conv(coarse, outputs, (1, 1), rngs=rngs)

    def features(self, pixels: jax.Array) -> jax.Array:
        """[B, 64, 64, 3] in [-1, 1] -> [B, 8, 8, F]."""
        return self.trunk(space_to_depth(pixels, 4))

    def maps(self, pixels: jax.Array) -> list[jax.Array]:
        """Features after every residual block, for the perceptual loss: pixels [B, H, W, 3] -> [B, h, w, C] each."""
        x, found = space_to_depth(pixels, 4), []
        for stage in self.trunk.layers:
            x = stage(x)
            if isinstance(stage, ResBlock):
                found.append(x)
        return found

    def __call__(self, pixels: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """pixels [B, 64, 64, 3] in [-1, 1] -> logits [B, 8, 8, sprites + 1], centres [B, 8, 8, 2] (x, y in the cell,
        in cells), logits of the background [B, 8]."""
        out = self.head(self.features(pixels))
        # Every cell votes for the background; a cell under an object learns to abstain.
        return out[..., : self.classes], out[..., self.classes :][..., :2], out[..., self.classes + 2 :].mean((1, 2))


def _pixels(images: jax.Array) -> jax.Array:
    """uint8 [B, H, H, 3] -> [B, 64, 64, 3] in [-1, 1], resized if H is not 64."""
    pixels = to_float(images)
    if images.shape[1] == CANVAS:
        return pixels
    return jax.image.resize(pixels, (len(images), CANVAS, CANVAS, 3), "linear", antialias=True)


def box(x: float, y: float, side: float, size: int) -> tuple[slice, slice]:
    """Rows and columns, in a picture of `size` pixels per side, of the square of this side around (x, y), in canvas
    units."""
    edge = lambda value: int(np.clip(round(value * size / CANVAS), 0, size))
    rows, columns = (slice(edge(middle - side / 2), edge(middle + side / 2)) for middle in (y, x))
    return rows, columns


def side_of(image: np.ndarray, name: str, x: float, y: float, background: str) -> int:
    """Which of scenes.SIZES an object around (x, y) has in a picture uint8 [H, H, 3]: the one at which its sprite looks
    more like the picture."""
    here = box(x, y, max(SIZES), len(image))

    def error(side: int) -> float:
        corner = (round(x - side / 2), round(y - side / 2))
        drawn = render(Scene("one", background, (Item(name, *corner, side),)), len(image))
        return float(np.abs(drawn[here].astype(int) - image[here]).mean())

    return min(SIZES, key=error)


def _with_sides(reading: Reading, image: np.ndarray) -> Reading:
    sides = [side_of(image, seen.name, seen.x, seen.y, reading.background) for seen in reading.objects]
    return reading._replace(objects=[seen._replace(side=side) for seen, side in zip(reading.objects, sides)])


@jax.jit
def _answers(model: ScorerNet, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """uint8 [B, H, H, 3] -> class probabilities, centres, index of the background."""
    logits, centres, background = model(_pixels(images))
    return jax.nn.softmax(logits), centres, background.argmax(-1)


@jax.jit
def _features(model: ScorerNet, images: jax.Array) -> jax.Array:
    return model.features(to_float(images)).mean((1, 2))


class Scorer:
    """The trained network, ready to read square pictures of any size. ValueError if it was trained on a different
    number of sprites."""

    def __init__(self, config: ScorerConfig, model: ScorerNet):
        if config.sprites != len(sprites()):
            raise ValueError(f"This scorer knows {config.sprites} sprites; there are {len(sprites())}. Train it again.")
        self.config, self.model = config, model

    @classmethod
    def from_pretrained(cls, name: str | Path = "scorer") -> "Scorer":
        """The shipped scorer (data/checkpoints/scorer), or the scorer of any folder of the same form.

        FileNotFoundError if the folder does not exist; ValueError if it has no scorer.
        """
        folder = find_checkpoint(name)
        values = read_config(folder)
        if "scorer" not in values:
            raise ValueError(f"{folder} has no scorer. Train one: python -m minimuse train scorer")
        config = from_dict(ScorerConfig, values["scorer"])
        return cls(config, load_weights(folder / "scorer.safetensors", abstract(ScorerNet, config)))

    def _apply(self, function: Callable, images: np.ndarray) -> list:
        """The results of function(model, images) on chunks of one size, for one compilation; the last is padded."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
            raise ValueError(f"Images must be uint8 [B, H, H, 3]; these are {images.dtype} {list(images.shape)}.")
        chunks = []
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            padded = np.pad(chunk, [(0, CHUNK - len(chunk)), (0, 0), (0, 0), (0, 0)])
            leaves, treedef = jax.tree.flatten(function(self.model, padded))
            chunks.append(jax.tree.unflatten(treedef, [np.asarray(leaf)[: len(chunk)] for leaf in leaves]))
        return chunks

    def read(self, images: np.ndarray) -> list[Reading]:
        """What each picture of uint8 [B, H, H, 3] shows. ValueError for images of a different type or shape."""
        readings = []
        for probabilities, centres, background in self._apply(_answers, images):
            there = 1 - probabilities[..., -1]
            # Non-maximum suppression: an object is a cell that is more likely than its eight neighbours.
            around = np.pad(there, [(0, 0), (1, 1), (1, 1)])
            windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (1, 2))
            peaks = (there == windows.max((-1, -2))) & (there > THRESHOLD)
            for i in range(len(there)):
                seen = self._reading(probabilities[i], centres[i], there[i], peaks[i], int(background[i]))
                readings.append(_with_sides(seen, images[len(readings)]))
        return readings

    def _reading(
        self, probabilities: np.ndarray, centres: np.ndarray, there: np.ndarray, peaks: np.ndarray, background: int
    ) -> Reading:
        names, objects = tuple(sprites()), []
        for row, column in sorted(np.argwhere(peaks).tolist(), key=lambda cell: -there[tuple(cell)]):
            x, y = (np.array([column, row]) + centres[row, column]) * CELL
            name = names[int(probabilities[row, column, :-1].argmax())]
            objects.append(Seen(name, float(x), float(y), float(there[row, column])))
        return Reading(tuple(BACKGROUNDS)[background], objects)

    def maps(self, pixels: jax.Array) -> list[jax.Array]:
        """The network's features of float pixels [B, H, W, 3] in [-1, 1], H and W multiples of 8."""
        return self.model.maps(pixels)

    def features(self, images: np.ndarray) -> np.ndarray:
        """Mean of the last features over each picture of uint8 [B, H, H, 3], float32 [B, F]. Pictures are not resized:
        fine detail counts."""
        return np.concatenate(self._apply(_features, images))


@functools.cache
def shipped_scorer() -> Scorer:
    """The shipped scorer; loaded once."""
    return Scorer.from_pretrained()
