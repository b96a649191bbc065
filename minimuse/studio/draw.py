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

from minimuse.files import check_size, check_writable
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


def draw_rows(muse: "Muse", rows: Sequence[Row], options: dict[str, Any], on_step: Any = None) -> np.ndarray:
    """The pictures of rows, uint8 [B, H, W, 3], at most BATCH at once. options: of `Muse.generate`, without captions,
    n, seed, negative."""
    more = dict(options) | ({} if on_step is None else dict(on_step=on_step))
    first = rows[0]
    numbered = [
        Row(row.caption, first.negative, first.seed, first.index + k * first.n, first.n) for k, row in enumerate(rows)
    ]
    if numbered == list(rows) and sum(row.n for row in rows) <= BATCH:  # as one call with n and seed
        more |= dict(n=first.n, seed=first.seed, negative=first.negative or None)
        more |= dict(index=first.index) if first.index else {}
        images: Any = muse.generate([row.caption for row in rows], **more)
        return images
    parts, pictures = [], pictures_of(rows)
    for start in range(0, len(pictures), BATCH):
        some = pictures[start : start + BATCH]
        negative = [p.negative for p in some] if any(p.negative for p in some) else None
        given: dict[str, Any] = dict(seed=[p.seed for p in some], index=[p.index for p in some], negative=negative)
        parts.append(muse.generate([p.caption for p in some], **given, **more))
    return np.concatenate(parts)


@dataclasses.dataclass
class Output:
    """Where pictures go, and what is printed.

    rows       what was asked for
    out        the sheet's file, unless drawing.each
    columns    of the sheet
    """

    drawing: Drawing
    rows: Sequence[Row]
    out: Path
    columns: int
    command: str
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pictures: list[Asked] = pictures_of(self.rows)
        self.files = sheets.names_of(self.drawing.each, self.pictures) if self.drawing.each else []

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

    def recipe(self, muse: "Muse", plan: "Plan", **more: Any) -> recipes.Recipe | None:
        """The recipe, if any file can hold it or --json prints it. muse: the checkpoint without a style."""
        png = any(path.suffix.lower() == ".png" for path in self.files or [self.out])
        if not self.drawing.json and not (self.drawing.recipe and png):
            return None
        own, folder = self.drawing, muse.folder
        assert folder is not None
        return recipes.recipe_of(
            self.command,
            plan,
            [dict(caption=p.caption, negative=p.negative, seed=p.seed, index=p.index) for p in self.pictures],
            checkpoint=own.checkpoint,
            weights=recipes.weights_of(folder, muse.text_name, plan, own.style),
            dtype=own.dtype,
            style=dict(folder=own.style, strength=own.style_strength) if own.style else None,
            more=more,
        )

    def save(self, images: np.ndarray, recipe: recipes.Recipe | None, same: bool | None = None) -> None:
        """Write the files and report them. same: for the report, whether the pixels are those of an earlier picture."""
        own, stored = self.drawing, None
        with timed(self.seconds, "save"):
            if self.files:
                layout = dict(columns=1, scale=own.scale, labels=False)
                for i, path in enumerate(self.files):
                    if recipe is not None and own.recipe:
                        one = dict(pictures=[recipe["pictures"][i]], layout=layout)
                        stored = recipe | one | dict(pixels=recipes.pixels_of(images[i : i + 1]))
                    sheets.write(images[i].repeat(own.scale, 0).repeat(own.scale, 1), path, stored)
            else:
                if recipe is not None and own.recipe:
                    layout = dict(columns=self.columns, scale=own.scale, labels=own.labels)
                    layout |= dict(rows=[row.n for row in self.rows])
                    stored = recipe | dict(layout=layout, pixels=recipes.pixels_of(images))
                captions = [row.caption for row in self.rows]
                counts = [row.n for row in self.rows]
                sheets.write(
                    sheets.sheet_of(images, counts, captions, self.columns, own.scale, own.labels), self.out, stored
                )
        self.report(images, recipe, same)

    def report(self, images: np.ndarray, recipe: recipes.Recipe | None, same: bool | None) -> None:
        """Print what was drawn and where: a sentence, or a JSON object."""
        b, h, w, _ = images.shape
        if not self.drawing.json:
            where = f"{self.files[0]}{' ...' * (b > 1)}" if self.files else self.out
            print(f"{b} picture{'s' * (b != 1)} of {w} x {h} pixels -> {where}")
            return
        assert recipe is not None
        files = [str(path) for path in self.files] or [str(self.out)] * b
        pictures = [dict(file=file) | about for file, about in zip(files, recipe["pictures"])]
        about: dict[str, Any] = dict(
            pictures=pictures, width=w, height=h, pixels=recipes.pixels_of(images), seconds=self.seconds
        )
        if same is not None:
            about["same"] = same
        print(json.dumps(recipe | about))


def redraw(path: Path, drawing: Drawing, out: Path, index: int | None) -> None:
    """`generate --like PATH`: draw the pictures of a recipe again; with an index, only those of this number."""
    default = Drawing(checkpoint=drawing.checkpoint, each=drawing.each, progress=drawing.progress, json=drawing.json)
    default = dataclasses.replace(default, recipe=drawing.recipe, labels=drawing.labels, scale=drawing.scale)
    if changed := [f.name for f in dataclasses.fields(Drawing) if getattr(drawing, f.name) != getattr(default, f.name)]:
        name = changed[0].replace("_", "-")
        raise ValueError(f"--like takes all settings from {path}; leave out --{name}, or --like.")
    recipe = recipes.read_recipe(path)
    if recipe["command"] not in recipes.AGAIN:
        raise ValueError(
            f"{path} was made by {recipe['command']} from another picture, which is not in its recipe; --like draws "
            "again only what generate and interpolate drew."
        )
    settings, style, layout = recipe["settings"], recipe.get("style") or {}, recipe["layout"]
    asked = [p for p in recipe["pictures"] if index is None or p["index"] == index]
    if not asked:
        raise ValueError(
            f"{path} has no picture with the index {index}; it has {recipe['pictures'][0]['index']} and on."
        )
    mixed = recipe["command"] == "interpolate"
    if mixed and index is not None:
        raise ValueError("--index is for pictures of generate; those of interpolate are drawn together.")
    own = dataclasses.replace(
        drawing,
        checkpoint=recipe["checkpoint"] if drawing.checkpoint == "tiny" else drawing.checkpoint,
        superres=settings["superres"],
        finetuned=settings["finetuned"],
        dtype=settings["dtype"],
        style=style.get("folder", ""),
        style_strength=style.get("strength", 1.0),
        scale=layout["scale"] if drawing.scale == 1 else drawing.scale,
        labels=not drawing.each and (layout["labels"] or drawing.labels),
    )
    rows = [Row(p["caption"], p["negative"], p["seed"], p["index"]) for p in asked]
    counts = layout.get("rows", [])
    if index is None and sum(counts) == len(rows):  # arranged as they were
        starts = np.cumsum([0, *counts[:-1]])
        rows = [rows[start]._replace(n=n) for start, n in zip(starts, counts)]
    seconds: dict[str, float] = {}
    output = Output(own, rows, out, layout["columns"] if index is None else len(rows), recipe["command"], seconds)
    with timed(seconds, "load"):
        plain = own.load(out)
    options: Any = recipes.options_of(recipe)
    plan = plain.plan(settings["superres"], settings["finetuned"], options)
    assert plain.folder is not None
    recipes.check_weights(recipe, recipes.weights_of(plain.folder, plain.text_name, plan, own.style), path)
    muse = own.styled(plain)
    with timed(seconds, "draw"), own.watched() as on_step:
        own_stages = dict(superres=settings["superres"], finetuned=settings["finetuned"])
        if mixed:
            for name in ("guidance", "ramp", "guided_from", "guided_to", "critic"):
                options.pop(name, None)
            ends = dict(first=recipe["more"]["first"], second=recipe["more"]["second"])
            images: Any = muse.interpolate(
                **ends, n=len(output.pictures), seed=rows[0].seed, on_step=on_step, **own_stages, **options
            )
        else:
            images = draw_rows(muse, rows, own_stages | options, on_step)
    same = recipes.pixels_of(images) == recipe["pixels"] if index is None else None
    more = recipe.get("more") or {}
    output.save(images, output.recipe(plain, plan, **more), same)
    if same is False:
        why = ", ".join(recipes.differences(recipe)) or "with the same versions and device: please report it"
        print(f"minimuse: not every pixel is that of {path} ({why}).", file=sys.stderr)
    elif same and not own.json:
        print(f"Every pixel is that of {path}.")
