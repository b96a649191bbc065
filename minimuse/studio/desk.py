"""What the app does, without the page: the drawing and editing behind its buttons, and the history."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from minimuse.canvas import to_pixels, touched
from minimuse.config import SampleOptions
from minimuse.data.captioned import to_square
from minimuse.files import as_given
from minimuse.mask_free import settings_of
from minimuse.stepwise import OnStep
from minimuse.studio import recipes, sheets

if TYPE_CHECKING:
    from minimuse.muse import Muse

NOTHING = SampleOptions()
SHOWN = 512  # height in pixels that pictures are shown at, at least half of it


class Drawn(NamedTuple):
    """One picture of the history."""

    path: Path  # a .png of its own size, with its recipe
    title: str
    pixels: np.ndarray  # uint8 [H, W, 3]


def brushed(value: Any) -> tuple[np.ndarray, np.ndarray]:
    """What gradio's image editor holds -> the picture, uint8 [H, W, 3], and what was painted over, bool [H, W].

    ValueError without a picture, or where nothing was painted.
    """
    background = value.get("background") if isinstance(value, dict) else value
    if background is None:
        raise ValueError("There is no picture yet; draw one and click it, or upload one.")
    picture = to_pixels(background)
    mask = np.zeros(picture.shape[:2], bool)
    for layer in value.get("layers") or [] if isinstance(value, dict) else []:
        alpha = np.asarray(layer)
        if alpha.ndim == 3 and alpha.shape[2] == 4 and alpha.shape[:2] == mask.shape:
            mask |= alpha[..., 3] > 0
    if not mask.any():
        raise ValueError("Nothing is painted yet; paint over what should change.")
    return picture, mask


def whole(what: str, value: Any) -> int:
    """A number of the page, where it may be 4.0 or nothing, as an int, or a ValueError."""
    if not isinstance(value, (int, float)) or value != value // 1:  # false for nan and inf
        raise ValueError(f"{what} must be a whole number; it was {as_given(value)}.")
    return int(value)


def _fingerprint(pixels: np.ndarray) -> dict[str, str]:
    """A given picture or mask in a recipe; it has no name here."""
    return dict(pixels=recipes.pixels_of(pixels[None]))


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] as it is shown: every pixel a whole number of times as large."""
    times = max(1, SHOWN // pixels.shape[0])
    return pixels.repeat(times, 0).repeat(times, 1)


class Desk:
    """A Muse, and the pictures that were drawn with it.

    folder                                where they are written
    checkpoint, dtype, style, strength    as on the command line
    """

    def __init__(
        self,
        muse: "Muse",
        folder: Path | str,
        checkpoint: str = "tiny",
        dtype: str = "float32",
        style: str = "",
        strength: float = 1.0,
    ):
        self.plain, self.checkpoint, self.dtype, self.style, self.strength = muse, checkpoint, dtype, style, strength
        self.muse = muse.with_style(style, strength) if style else muse
        self.folder = Path(folder)
        self.numbers: int = 0
        self.weights: dict[str, str] = {}
        stages = ("base", "superres") if "superres" in muse.configs else ("base",)
        self.side = muse.tokenizer_config(stages[-1]).image_size
        self.cell = self.side // muse.configs["base"].grid[0]

    def small(self, image: Any) -> np.ndarray:
        """A picture as it is given to the Muse, uint8 [H, W, 3]: what `enlarged` made as it was before, another picture
        as its middle square, unless its sides fit."""
        if image is None:
            raise ValueError("There is no picture yet; draw one and click it, or upload one.")
        pixels = to_pixels(image)
        h, w = pixels.shape[:2]
        for times in range(SHOWN // self.side, 1, -1):
            small = pixels[::times, ::times]
            fits = h % (times * self.cell) == w % (times * self.cell) == 0 and min(small.shape[:2]) >= self.side
            if fits and (small.repeat(times, 0).repeat(times, 1) == pixels).all():
                return small
        if min(h, w) >= self.side and h % self.cell == w % self.cell == 0 and max(h, w) <= 4 * self.side:
            return pixels
        return np.asarray(to_square(Image.fromarray(pixels), self.side))

    def keep(
        self, command: str, images: np.ndarray, caption: str, negative: str, seed: int, sampling: SampleOptions,
        more: dict[str, Any],
    ) -> list[Drawn]:  # fmt: skip
        """Write pictures [B, H, W, 3] with their recipes into the folder of this session. more: for the recipe."""
        plan, drawn = self.plain.plan(options=sampling), []
        if not self.weights and self.plain.folder is not None:
            self.weights = recipes.weights_of(self.plain.folder, self.plain.text_name, plan, self.style)
        for i, pixels in enumerate(images):
            self.numbers += 1
            about = dict(caption=caption, negative=negative, seed=seed, index=i)
            style = dict(folder=self.style, strength=self.strength) if self.style else None
            made: Any = dict(checkpoint=self.checkpoint, weights=self.weights, dtype=self.dtype, style=style, more=more)
            recipe = recipes.recipe_of(command, plan, [about], **made)
            recipe |= dict(layout=dict(columns=1, scale=1, labels=False), pixels=recipes.pixels_of(images[i : i + 1]))
            path = self.folder / f"{self.numbers:04}-{sheets.slug(caption)}-{seed}-{i}.png"
            sheets.write(pixels, path, recipe)
            drawn.append(Drawn(path, f"{caption} ({command}, seed {seed}, index {i})", pixels))
        return drawn

    def _run(
        self,
        command: str,
        draw: Callable[..., Any],
        caption: str,
        negative: str,
        seed: Any,
        sampling: SampleOptions = NOTHING,
        more: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[list[Drawn], str]:
        """What a button does. sampling: the options of sampling that `draw` uses; more: for the recipe."""
        if not (caption or "").strip():
            raise ValueError("Write a caption first, such as: a cat left of a dog on a blue background.")
        seed, negative, begun = whole("The seed", seed), (negative or "").strip(), time.perf_counter()
        images = draw(caption, seed=seed, negative=negative or None, **options)
        seconds = time.perf_counter() - begun
        drawn = self.keep(command, images, caption, negative, seed, sampling, more or {})
        size = f"{images.shape[2]} x {images.shape[1]}"
        b = len(images)
        return drawn, f"{b} picture{'s' * (b != 1)} of {size} pixels, seed {seed}, {seconds:.1f} s"

    def generate(
        self, caption: str, negative: str, n: int, seed: int, steps: int, guidance: float, on_step: OnStep | None = None
    ) -> tuple[list[Drawn], str]:
        """New pictures, and a sentence about them. steps and guidance are those of the base stage."""
        sampling, n = SampleOptions(steps=whole("Steps", steps), guidance=guidance), whole("The number of pictures", n)
        draw = lambda caption, **options: self.muse.generate(caption, n=n, **sampling, **options)
        return self._run("generate", draw, caption, negative, seed, sampling, on_step=on_step)

    def inpaint(
        self, value: Any, caption: str, negative: str, seed: int, on_step: OnStep | None = None
    ) -> tuple[list[Drawn], str]:
        """The picture of an image editor, with what was painted over drawn again."""
        picture, mask = brushed(value)
        small = self.small(picture)
        if small.shape[0] == small.shape[1] and picture.shape[0] != picture.shape[1]:  # its middle square
            side = min(mask.shape)
            y, x = (mask.shape[0] - side) // 2, (mask.shape[1] - side) // 2
            mask = mask[y : y + side, x : x + side]
        mask = touched(mask, small.shape[:2])  # a pixel is redrawn if any part of it is painted over
        canvas = small.shape[0] != self.side  # a large square, as outpainting makes them
        draw = lambda caption, **options: self.muse.inpaint(small, mask, caption, canvas=canvas, **options)
        more = dict(image=_fingerprint(small), mask=_fingerprint(mask))
        return self._run("inpaint", draw, caption, negative, seed, more=more, on_step=on_step)

    def outpaint(
        self, image: Any, caption: str, negative: str, seed: int, left: int, right: int, top: int, bottom: int,
        on_step: OnStep | None = None,
    ) -> tuple[list[Drawn], str]:  # fmt: skip
        """The picture with this many base tokens added on each side."""
        sides = dict(left=left, right=right, top=top, bottom=bottom)
        sides = {name: whole(name.capitalize(), side) * self.cell for name, side in sides.items()}
        if not any(sides.values()):
            raise ValueError("Choose how much to add on at least one side.")
        small = self.small(image)
        draw = lambda caption, **options: self.muse.outpaint(small, caption, canvas=True, **sides, **options)
        more = dict(image=_fingerprint(small)) | sides
        return self._run("outpaint", draw, caption, negative, seed, more=more, on_step=on_step)

    def edit(
        self, image: Any, caption: str, negative: str, seed: int, before: str, on_step: OnStep | None = None
    ) -> tuple[list[Drawn], str]:
        """The picture changed to match the caption, without a mask. before: a caption of it as it is, or nothing."""
        small, before = self.small(image), (before or "").strip()
        draw = lambda caption, **options: self.muse.edit(small, caption, way="read", before=before or None, **options)
        record, sampling = settings_of("read", before or None, {})
        more = dict(image=_fingerprint(small), way="read", before=before) | dataclasses.asdict(record)
        return self._run("edit", draw, caption, negative, seed, sampling, more, on_step=on_step)
