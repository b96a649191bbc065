"""`generate --like PICTURE.png`: draws the pictures of a recipe again."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse.config import GUIDING
from minimuse.studio import recipes
from minimuse.studio.draw import Drawing, Output, draw_rows, timed
from minimuse.studio.rows import Row

if TYPE_CHECKING:
    from minimuse.muse import Muse

OWN = ("checkpoint", "style", "each", "progress", "json", "recipe", "labels", "scale")  # options that go with --like


def redraw(path: Path, drawing: Drawing, out: Path, index: int | None) -> None:
    """Draw the pictures of a file's recipe again; with an index, only those of this number. ValueError for a file
    without a recipe, for other weights, and for options that the recipe sets."""
    same_options = dataclasses.replace(Drawing(), **{name: getattr(drawing, name) for name in OWN})
    for field in dataclasses.fields(Drawing):
        if (value := getattr(drawing, field.name)) != getattr(same_options, field.name):
            name = ("no-" if value is False else "") + field.name.replace("_", "-")
            raise ValueError(f"--like takes all settings from {path}; leave out --{name}, or --like.")
    recipe = recipes.read_recipe(path)
    if recipe["command"] not in recipes.AGAIN:
        raise ValueError(
            f"{path} was made by {recipe['command']} from another picture, which is not in its recipe; --like draws "
            "again only what generate and interpolate drew."
        )
    mixed = recipe["command"] == "interpolate"
    if mixed and index is not None:
        raise ValueError("--index is for pictures of generate; those of interpolate are drawn together.")
    if drawing.style and not recipe.get("style"):
        raise ValueError(f"{path} was drawn without a style; leave out --style, or --like.")
    rows = _rows(recipe, index, path)
    own, columns = _as_drawn(recipe, drawing), recipe["layout"]["columns"] if index is None else len(rows)
    output = Output(own, rows, out, columns, recipe["command"])
    with timed(output.seconds, "load"):
        own, plain = _load(own, drawing.checkpoint, out)
        output.drawing = own
        output.check_size(plain)
        options: Any = recipes.options_of(recipe)
        for name in GUIDING if mixed else ():
            options.pop(name, None)
        plan = plain.plan(own.superres, own.finetuned and own.superres, options)
        assert plain.folder is not None
        recipes.check_weights(recipe, recipes.weights_of(plain.folder, plain.text_name, plan, own.style), path)
        muse = own.styled(plain)
    output.set_recipe(plain, plan, unused=GUIDING if mixed else (), **recipe.get("more") or {})
    options |= dict(superres=own.superres, finetuned=plan.finetuned)
    with own.watched() as on_step:
        if mixed:
            ends = dict(first=recipe["more"]["first"], second=recipe["more"]["second"])
            with timed(output.seconds, "draw"):
                seed = rows[0].seed
                images: Any = muse.interpolate(**ends, n=len(output.pictures), seed=seed, on_step=on_step, **options)
            output.add(images)
        else:
            for images in draw_rows(muse, rows, options, output.seconds, on_step):
                output.add(images)
    _report(path, recipe, output, index)


def _rows(recipe: recipes.Recipe, index: int | None, path: Path) -> list[Row]:
    """The rows of all pictures, arranged as they were; or those with this index."""
    asked = [p for p in recipe["pictures"] if index is None or p["index"] == index]
    if not asked:
        there = sorted({p["index"] for p in recipe["pictures"]})
        raise ValueError(f"{path} has no picture with the index {index}; it has {there[0]} to {there[-1]}.")
    rows = [Row(p["caption"], p["negative"], p["seed"], p["index"]) for p in asked]
    counts = recipe["layout"].get("rows") if index is None else None
    if not counts:
        return rows
    return [rows[start]._replace(n=n) for start, n in zip(np.cumsum([0, *counts[:-1]]), counts)]


def _as_drawn(recipe: recipes.Recipe, drawing: Drawing) -> Drawing:
    """The options with which a recipe's pictures were drawn, and those that go with --like over them."""
    settings, style, layout = recipe["settings"], recipe.get("style") or {}, recipe["layout"]
    return dataclasses.replace(
        drawing,
        checkpoint=recipe["checkpoint"] if drawing.checkpoint == Drawing.checkpoint else drawing.checkpoint,
        superres=settings["superres"],
        finetuned=settings["finetuned"],
        dtype=settings["dtype"],
        style=drawing.style if drawing.style and style else style.get("folder", ""),
        style_strength=style.get("strength", 1.0),
        scale=layout["scale"] if drawing.scale == Drawing.scale else drawing.scale,
        labels=not drawing.each and (layout["labels"] or drawing.labels),
    )


def _load(own: Drawing, checkpoint: str, out: Path) -> "tuple[Drawing, Muse]":
    """The recipe's checkpoint, or the one that --checkpoint names where there is none of that name any more."""
    try:
        return own, own.load(out)
    except FileNotFoundError:
        if own.checkpoint == checkpoint:
            raise
        own = dataclasses.replace(own, checkpoint=checkpoint)
        return own, own.load(out)


def _report(path: Path, recipe: recipes.Recipe, output: Output, index: int | None) -> None:
    """Write the sheet, and say whether the pictures are those of the file."""
    if index is not None:
        output.finish()
        return
    changed = recipes.is_changed(path, recipe)
    equal = recipes.pixels_of(np.concatenate(output.drawn)) == recipe["pixels"]
    output.finish(same=equal and not changed)
    if not equal:
        why = ", ".join(recipes.differences(recipe)) or "with the same versions and device: please report it"
        print(f"minimuse: not every pixel is that of {path} ({why}).", file=sys.stderr)
    elif changed:
        print(f"minimuse: these are the pictures as they were drawn; {path} was changed afterwards.", file=sys.stderr)
    elif not output.drawing.json:
        print(f"Every pixel is that of {path}.")
