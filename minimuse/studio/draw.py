"""What the drawing commands share: their options, drawing rows in batches, and writing pictures with their recipes."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from minimuse.files import as_given, check_size, check_writable
from minimuse.studio import recipes, sheets
from minimuse.studio.rows import Asked, Row, pictures_of

if TYPE_CHECKING:
    from minimuse.muse import Muse, Plan

BATCH = 64  # pictures that are drawn at once


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The options that all drawing commands share, other than those of sampling."""

    n: int = 1
    """Number of pictures per caption."""
    seed: int = 0
    """The same seed gives the same pictures."""
    checkpoint: str = "tiny"
    """Name of a shipped checkpoint, a checkpoint folder, or user/name on the Hugging Face Hub."""
    negative: Annotated[str, tyro.conf.arg(metavar="CAPTION")] = ""
    """A caption of what should not be in the picture."""
    superres: bool = True
    """Use the super-resolution stage, if the checkpoint has one."""
    finetuned: bool = True
    """Use the fine-tuned decoder, if the checkpoint has one."""
    scale: int = 1
    """Enlarge every pixel this many times."""
    style: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Draw in a style of the checkpoint, which `train style` wrote to this folder."""
    style_strength: float = 1.0
    """Of --style: 0 is the checkpoint without it, 1 the style as trained."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What transformers compute in: bfloat16 is for TPUs and newer GPUs, float16 for older ones such as the T4."""
    labels: bool = False
    """Write the captions on the sheet."""
    each: Annotated[str, tyro.conf.arg(metavar="PATTERN")] = ""
    """Write a file for each picture instead of one sheet, named by a pattern such as {seed}-{index:03}.png, with the
    fields number (of the picture, from 0), row (of its caption, from 0), index, seed and caption."""
    recipe: bool = True
    """Store in a .png what it was drawn with; `generate --like FILE.png` draws it again."""
    progress: bool = False
    """Show a progress bar by steps."""
    json: bool = False
    """Print one JSON object that says what was drawn, where and how, and nothing else."""

    def check(self, out: Path) -> None:
        """An error now for options that cannot be meant."""
        if self.scale < 1:
            raise ValueError(f"--scale must be 1 or more; it was {self.scale}.")
        if self.style_strength != 1 and not self.style:
            raise ValueError(f"--style-strength {self.style_strength:g} is that of a style; name one with --style.")
        if self.each and self.labels:
            raise ValueError("--labels writes captions on a sheet, and --each makes none; leave out one of the two.")
        if not self.each:
            check_writable(out)

    def load(self, out: Path) -> "Muse":
        """The checkpoint, once it is certain that the picture can be written."""
        self.check(out)
        from minimuse.muse import Muse

        return Muse.from_pretrained(self.checkpoint, superres=self.superres, dtype=self.dtype)

    def styled(self, muse: "Muse") -> "Muse":
        """The same with the style, if there is one."""
        return muse.with_style(self.style, self.style_strength) if self.style else muse

    def options(self) -> dict[str, Any]:
        """As `Muse.generate` takes them."""
        finetuned = {} if self.finetuned or not self.superres else dict(finetuned=False)
        return dict(n=self.n, seed=self.seed, negative=self.negative or None) | finetuned

    def watched(self) -> contextlib.AbstractContextManager[Any]:
        """What to give as on_step: a progress bar, or None."""
        if not self.progress:
            return contextlib.nullcontext()
        from minimuse.studio.progress import Bar

        return Bar()


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the seconds within it to seconds[name]."""
    begun = time.perf_counter()
    yield
    seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - begun, 3)


def draw_rows(
    muse: "Muse", rows: Sequence[Row], options: dict[str, Any], seconds: dict[str, float], on_step: Any = None
) -> Iterator[np.ndarray]:
    """The pictures of rows, uint8 [B, H, W, 3] with at most BATCH at once; after the first of several batches, stderr
    says how long the others will take.

    options    of `Muse.generate`, without captions, n, seed, index and negative
    seconds    the time that drawing takes is added to its "draw"
    """
    more = dict(options) | ({} if on_step is None else dict(on_step=on_step))
    first, pictures = rows[0], pictures_of(rows)
    numbered = [
        Row(row.caption, first.negative, first.seed, first.index + k * first.n, first.n) for k, row in enumerate(rows)
    ]
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        if numbered == list(rows) and len(pictures) <= BATCH:  # as one call with n and seed
            captions: list[str] = [row.caption for row in rows]
            given: dict[str, Any] = dict(n=first.n, seed=first.seed, index=first.index, negative=first.negative or None)
        else:
            captions = [p.caption for p in some]
            given = dict(seed=[p.seed for p in some], index=[p.index for p in some])
            given |= dict(negative=[p.negative for p in some] if any(p.negative for p in some) else None)
        with timed(seconds, "draw"):
            images: Any = muse.generate(captions, **given, **more)
        if start == 0 and len(pictures) > BATCH:
            left = seconds["draw"] * (len(pictures) - BATCH) / BATCH
            took = f"{BATCH} of {len(pictures)} pictures took {in_words(seconds['draw'])}"
            print(f"{took}; the others will take about {in_words(left)}.", file=sys.stderr)
        yield images


def in_words(seconds: float) -> str:
    """A time as people say it: 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@dataclasses.dataclass
class Output:
    """Where pictures go, and what is printed.

    rows       what was asked for
    out        the sheet's file, unless drawing.each
    columns    of the sheet
    recipe     of all pictures, without layout and pixels, or None; it is set before the first pictures are added
    """

    drawing: Drawing
    rows: Sequence[Row]
    out: Path
    columns: int
    command: str
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    recipe: recipes.Recipe | None = None

    def __post_init__(self) -> None:
        self.pictures: list[Asked] = pictures_of(self.rows)
        self.files = sheets.names_of(self.drawing.each, self.pictures) if self.drawing.each else []
        self.drawn: list[np.ndarray] = []

    def check_size(
        self, muse: "Muse", size: tuple[int, int] = (1, 1), more: tuple[int, int] = (0, 0), out: Path | None = None
    ) -> None:
        """ValueError now if a file, or `out`, cannot hold the pictures, made of one of this size (width, height) that
        grows by `more`; squares get the size that the Muse draws. Labels are not counted."""
        side = muse.tokenizer_config("superres" if "superres" in muse.configs else "base").image_size
        old = size if size[0] != size[1] else (side, side)
        width, height = ((own + extra) * self.drawing.scale for own, extra in zip(old, more))
        counts = [row.n for row in self.rows]
        lines = sum(-(-n // self.columns) for n in counts) if max(counts) > 1 else -(-len(counts) // self.columns)
        across, down = (self.columns, lines) if out or not self.files else (1, 1)
        check_size(out or (self.files or [self.out])[0], across * width, down * height)

    def set_recipe(self, muse: "Muse", plan: "Plan", unused: Sequence[str] = (), **more: Any) -> None:
        """The recipe, if any file can hold it or --json prints it.

        muse      the checkpoint without a style
        unused    stages and settings of the plan that this command does not use
        """
        own, folder = self.drawing, muse.folder
        png = own.recipe and any(path.suffix.lower() == ".png" for path in self.files or [self.out])
        if not own.json and not png:
            return
        assert folder is not None
        self.recipe = recipes.recipe_of(
            self.command,
            plan,
            [dict(caption=p.caption, negative=p.negative, seed=p.seed, index=p.index) for p in self.pictures],
            checkpoint=own.checkpoint,
            weights=recipes.weights_of(folder, muse.text_name, plan, own.style),
            dtype=own.dtype,
            style=dict(folder=own.style, strength=own.style_strength) if own.style else None,
            unused=unused,
            more=more,
        )

    def add(self, images: np.ndarray) -> None:
        """The next pictures, uint8 [B, H, W, 3]. Files of one picture each are written now."""
        first = sum(map(len, self.drawn))
        self.drawn.append(images)
        with timed(self.seconds, "save"):
            for i, path in enumerate(self.files[first : first + len(images)]):
                layout = dict(columns=1, scale=self.drawing.scale, labels=False)
                stored = self._stored(images[i : i + 1], layout, slice(first + i, first + i + 1))
                sheets.write(images[i].repeat(self.drawing.scale, 0).repeat(self.drawing.scale, 1), path, stored)

    def _stored(self, images: np.ndarray, layout: dict[str, Any], which: slice) -> recipes.Recipe | None:
        """The recipe for the file of some pictures."""
        if self.recipe is None or not self.drawing.recipe:
            return None
        own = dict(pictures=self.recipe["pictures"][which], layout=layout, pixels=recipes.pixels_of(images))
        return self.recipe | own

    def finish(self, same: bool | None = None) -> np.ndarray:
        """All pictures, once they are added: write the sheet and report. same: for the report of --json, whether the
        pixels are those of an earlier picture."""
        own, images = self.drawing, np.concatenate(self.drawn)
        counts, captions = [row.n for row in self.rows], [row.caption for row in self.rows]
        if not self.files:
            with timed(self.seconds, "save"):
                layout = dict(columns=self.columns, scale=own.scale, labels=own.labels, rows=counts)
                sheet = sheets.sheet_of(images, counts, captions, self.columns, own.scale, own.labels)
                sheets.write(sheet, self.out, self._stored(images, layout, slice(None)))
            if own.labels and (boxes := sheets.not_in_font(captions)):
                print(f"The font of the labels has no {as_given(boxes)}; they are shown as boxes.", file=sys.stderr)
        self.report(images, same)
        return images

    def report(self, images: np.ndarray, same: bool | None) -> None:
        """Print what was drawn and where: a sentence, or a JSON object."""
        b, h, w, _ = images.shape
        if not self.drawing.json:
            where = f"{self.files[0]}{' ...' * (b > 1)}" if self.files else self.out
            print(f"{b} picture{'s' * (b != 1)} of {w} x {h} pixels -> {where}")
            return
        assert self.recipe is not None
        files = [str(path) for path in self.files] or [str(self.out)] * b
        pictures = [dict(file=file) | about for file, about in zip(files, self.recipe["pictures"])]
        about: dict[str, Any] = dict(
            pictures=pictures, width=w, height=h, pixels=recipes.pixels_of(images), seconds=self.seconds
        )
        if same is not None:
            about["same"] = same
        print(json.dumps(self.recipe | about))
