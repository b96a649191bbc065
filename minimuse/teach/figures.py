"""Figures of pictures, tokens and masks for the notebooks; curves and bars are in charts.py.

Every function takes plain arrays and returns a matplotlib Figure; `with_alt` shows it. Colour never carries information
without a second sign: tokens show their numbers, and hidden positions are hatched.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline
from numpy.typing import ArrayLike

from minimuse.data.pixels import read_picture, to_rgb
from minimuse.files import read_json

if TYPE_CHECKING:
    from minimuse.muse import Generation

MAP = "cividis"  # evenly spaced in lightness, and the same to colour-blind eyes


def square_axes(
    count: int, columns: int | None, side: float, rows: int = 1, top: float = 0.3
) -> tuple[Figure, np.ndarray]:
    """A Figure of square axes without ticks, `rows` groups of `count` panels: (figure, Axes [rows * count]).

    columns   panels per line; None puts up to six on a line
    side      side of a panel in inches
    top       room above each panel in inches, for its title
    """
    columns = min(count, 6) if columns is None else columns
    lines = rows * -(-count // columns)
    figure = Figure(figsize=(side * columns, (side + top) * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.6")
    for ax in axes[rows * count :]:
        figure.delaxes(ax)
    return figure, axes[: rows * count]


def hatch(ax: Axes, hidden: np.ndarray, scale: float = 1.0, fill: str = "0.85") -> None:
    """Hatch the True cells of hidden bool [h, w].

    scale   pixels of the image on these axes per cell
    fill    the colour between the lines
    """
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    if squares := [Outline((corners + (x, y)) * scale - 0.5) for y, x in np.argwhere(hidden)]:
        outline = Outline.make_compound_path(*squares)
        ax.add_patch(PathPatch(outline, facecolor=fill, edgecolor="0.45", hatch="////", linewidth=0.0))


def frame(ax: Axes, row: int, column: int, cell: float, linewidth: float, color: str = "black") -> None:
    """A frame around one cell, `cell` pixels wide."""
    corner = cell * column - 0.5, cell * row - 0.5
    ax.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor=color, linewidth=linewidth))


def draw_mask(ax: Axes, mask: np.ndarray, title: str) -> None:
    """Mask bool [h, w] on square axes. Hidden positions are hatched; in a fine mask, where a hatch would not show,
    they are dark."""
    (h, w), fine = mask.shape, max(mask.shape) > 16
    ax.imshow(np.where(mask & fine, 0.35, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=9, parse_math=False)
    if not fine:
        ax.set(xticks=np.arange(1, w) - 0.5, yticks=np.arange(1, h) - 0.5, xticklabels=[], yticklabels=[])
        ax.grid(color="0.8", linewidth=0.5)
        ax.tick_params(length=0)
        hatch(ax, mask)


def filled(name: str, array: ArrayLike, ndim: int) -> np.ndarray:
    """The array, or a ValueError if it has another number of dimensions or is empty."""
    array = np.asarray(array)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty array with {ndim} dimensions; its shape was {array.shape}.")
    return array


def image_grid(
    images: ArrayLike,
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    rows: Sequence[str] | None = None,
) -> Figure:
    """Images uint8 [B, H, W, 3] side by side, every pixel a sharp square.

    titles   one above each image, or, with `rows`, one above each column
    rows     a name at the left of each line of images
    """
    images = filled("images", images, 4)
    columns = min(len(images), 6) if columns is None else columns
    lines = -(-len(images) // columns)
    wanted = len(images) if rows is None else columns
    if titles is not None and len(titles) != wanted:
        raise ValueError(f"{len(titles)} titles for {wanted} {'images' if rows is None else 'columns'}.")
    if rows is not None and len(rows) != lines:
        raise ValueError(f"{len(rows)} row names for {lines} rows of images.")
    figure, axes = square_axes(len(images), columns, 1.7, top=0.3 if titles and rows is None else 0.02)
    for ax, image in zip(axes, images):
        ax.imshow(image, interpolation="nearest")
    for ax, title in zip(axes, titles or []):
        ax.set_title(title, fontsize=9, parse_math=False)
    if rows is not None:
        for ax, name in zip(axes[::columns], rows):
            ax.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center", parse_math=False)
        width, height = figure.get_size_inches()
        longest = max(len(line) for name in rows for line in name.splitlines() or [""])
        figure.set_size_inches(width + 0.15 + 0.075 * longest, height + (0.3 if titles else 0.0))
    return figure


def token_grid(tokens: ArrayLike, mask_id: int | None = None) -> Figure:
    """Token ids int [h, w] as a grid of numbers on colours. Positions that hold mask_id are hatched and show M."""
    tokens = filled("tokens", tokens, 2)
    figure, (ax,) = square_axes(1, 1, 0.5 * max(tokens.shape), top=0.0)
    hidden = tokens == (-1 if mask_id is None else mask_id)
    top = np.max(tokens, where=~hidden, initial=1)
    ax.imshow(tokens, cmap=MAP, vmin=0, vmax=top)
    hatch(ax, hidden)
    for (y, x), token in np.ndenumerate(tokens):
        ink = "black" if hidden[y, x] or token > 0.475 * top else "white"
        ax.text(x, y, "M" if hidden[y, x] else token, ha="center", va="center", fontsize=9, color=ink)
    return figure


def mask_grid(masks: ArrayLike, titles: Sequence[str] | None = None, columns: int | None = None) -> Figure:
    """Masks bool [B, h, w]: hidden positions hatched grey, known positions white. The default title is the count of
    hidden positions."""
    masks = filled("masks", masks, 3).astype(bool)
    titles = [f"{mask.sum()} of {mask.size} hidden" for mask in masks] if titles is None else titles
    figure, axes = square_axes(len(masks), columns, 1.5)
    for ax, mask, title in zip(axes, masks, titles):
        draw_mask(ax, mask, title)
    return figure


def _decoding(generation: Generation, image_index: int, steps: ArrayLike) -> tuple[np.ndarray, ...]:
    """One image of a Generation: tokens int, probability float, hidden before and hidden after each step bool, each
    [steps, h, w]. `steps`, counted from 1, are only checked."""
    trace, (h, w) = generation.trace, generation.tokens.shape[1:]
    total, batch = trace.tokens.shape[:2]
    numbers = np.asarray(steps)
    if not 0 <= image_index < batch:
        raise ValueError(f"There is no image {image_index}; this generation has {batch}, counted from 0.")
    if not numbers.size or numbers.min() < 1 or numbers.max() > total:
        raise ValueError(f"steps must be numbers from 1 to {total}; they were {numbers.tolist()}.")
    tokens, confidence, hidden = (np.asarray(x)[:, image_index].reshape(total, h, w) for x in trace)
    return tokens, confidence, np.concatenate([np.ones((1, h, w), bool), hidden[:-1]]), hidden


def decode_frame(generation: Generation, image_index: int, step: int, detokenize: Callable[[Any], ArrayLike]) -> Figure:
    """One step of parallel decoding, counted from 1, in four panels: what is hidden before the step; the probability
    of every sampled token, with a dot on those that are kept; all sampled tokens as pixels; the tokens kept so far,
    framed if they were kept at this step.

    generation, detokenize   as in `decode_steps`
    """
    tokens, confidence, before, after = (x[step - 1] for x in _decoding(generation, image_index, [step]))
    image, now = np.asarray(detokenize(tokens[None]))[0], before & ~after
    figure, axes = square_axes(4, 4, 2.5)
    draw_mask(axes[0], before, f"1 hidden: {before.sum()} of {before.size}")
    axes[1].imshow(confidence, cmap=MAP, vmin=0, vmax=1)
    y, x = np.nonzero(now)
    axes[1].plot(x, y, "o", color="white", markeredgecolor="black", markersize=7)
    axes[1].set_title(f"2 probability (bright: 1); {now.sum()} kept", fontsize=9)
    axes[2].imshow(image, interpolation="nearest")
    axes[2].set_title("3 whole guess", fontsize=9)
    axes[3].imshow(image, interpolation="nearest", alpha=0.6)
    cell = len(image) / len(tokens)
    hatch(axes[3], after, cell)
    for row, column in np.argwhere(~after):
        at = cell * (column + 0.5) - 0.5, cell * (row + 0.5) - 0.5
        axes[3].text(*at, tokens[row, column], ha="center", va="center", fontsize=6)
        if now[row, column]:
            frame(axes[3], row, column, cell, linewidth=2)
    axes[3].set_title(f"4 kept so far: {(~after).sum()} of {after.size}", fontsize=9)
    return figure


def decode_steps(
    generation: Generation,
    image_index: int,
    detokenize: Callable[[Any], ArrayLike],
    steps: Sequence[int] | None = None,
) -> Figure:
    """Parallel decoding of one image, one column per step. Top: all sampled tokens as pixels. Middle: the tokens kept
    so far as pixels, with the positions that are still hidden hatched. Bottom: the model's probability of each sampled
    token, with a dot on those kept at this step.

    generation  what `Muse.generate(..., trace=True)` returned
    detokenize  tokens int [B, h, w] -> uint8 [B, H, W, 3]: `muse.detokenize`
    steps       which steps to show, counted from 1; None shows up to six, from the first to the last
    """
    total, (h, w) = len(generation.trace.tokens), generation.tokens.shape[1:]
    shown = np.round(np.linspace(1, total, min(6, total))) if steps is None else steps
    shown = np.unique(np.asarray(shown, int)) if steps is None else np.asarray(shown, int)
    tokens, confidence, before, hidden = _decoding(generation, image_index, shown)
    rows = shown - 1
    samples = np.asarray(detokenize(tokens[rows]))
    figure, axes = square_axes(len(rows), len(rows), 1.45, rows=3, top=0.1)
    axes = axes.reshape(3, -1)
    for column, s in enumerate(rows):
        for ax in axes[:2, column]:
            ax.imshow(samples[column], interpolation="nearest")
        hatch(axes[1, column], hidden[s], samples.shape[1] / h)
        axes[2, column].imshow(confidence[s], cmap=MAP, vmin=0, vmax=1)
        y, x = np.nonzero(before[s] & ~hidden[s])
        axes[2, column].plot(x, y, "o", color="white", markeredgecolor="black", markersize=5)
        axes[0, column].set_title(f"step {s + 1}", fontsize=9)
        axes[1, column].set_xlabel(f"{h * w - hidden[s].sum()} of {h * w} kept", fontsize=8)
        axes[2, column].set_xlabel(f"{len(y)} kept just now", fontsize=8)
    for ax, name in zip(axes[:, 0], ("whole guess", "kept so far", "probability")):
        ax.set_ylabel(name, fontsize=9, parse_math=False)
    figure.colorbar(axes[2, -1].images[0], ax=list(axes[2]), shrink=0.9)
    return figure


def attention_over(
    image: ArrayLike,
    maps: ArrayLike,
    titles: Sequence[str],
    columns: int | None = None,
    hidden: ArrayLike | None = None,
    at: tuple[int, int] | None = None,
    label: str = "attention weight",
) -> Figure:
    """Attention weights float [n, h, w] as heat maps on one scale, which begins at 0, after a panel with the image
    uint8 [H, W, 3] itself. A NaN stays white; the title of a panel gives its largest weight.

    columns  panels per line, the image's included
    hidden   bool [h, w], positions that are hatched on the image, which shows through
    at       row and column of a position that gets a thick frame
    label    what the scale measures
    """
    maps, image = filled("maps", maps, 3), filled("image", image, 3)
    if len(titles) != len(maps):
        raise ValueError(f"{len(titles)} titles for {len(maps)} maps; give one per map.")
    cell, top = image.shape[0] / maps.shape[1], max(np.nanmax(maps), 1e-9)
    figure, axes = square_axes(1 + len(maps), columns, 1.5, top=0.35)
    axes[0].imshow(image, interpolation="nearest")
    axes[0].set_title("the picture\n" if hidden is None else "the picture,\nhidden: hatched", fontsize=9)
    if hidden is not None:
        hatch(axes[0], np.asarray(hidden, bool), cell, fill="none")
    for ax, weights, title in zip(axes[1:], maps, titles):
        ax.imshow(weights, cmap=MAP, vmin=0, vmax=top)
        ax.set_title(f"{title}\nup to {np.nanmax(weights):.0%}", fontsize=9, parse_math=False)
    if at is not None:
        for ax, side in ((axes[0], cell), *((ax, 1.0) for ax in axes[1:])):
            frame(ax, *at, side, linewidth=4.5, color="white")  # behind the black one, which dark cells would swallow
            frame(ax, *at, side, linewidth=2)
    bar = figure.colorbar(axes[1].images[0], ax=list(axes), shrink=0.8, aspect=25, pad=0.01)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def _samples(folder: Path | str, columns: int) -> tuple[list[str], dict[int, np.ndarray]]:
    """Captions, and by step the pictures uint8 [captions, H, H, 3] that a stage drew while it was trained: up to
    `columns` steps, from the first to the last."""
    folder = Path(folder)
    folder = folder / "samples" if (folder / "samples").is_dir() else folder
    steps = sorted(int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal())
    if not steps or not (folder / "captions.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no samples; train with --run.samples-every 500, and name a stage's folder, such as "
            "runs/own/base."
        )
    if columns < 1:
        raise ValueError(f"columns must be 1 or more; it was {columns}.")
    picked = np.unique(np.round(np.linspace(len(steps) - 1, 0, min(columns, len(steps)))).astype(int))
    captions, found = read_json(folder / "captions.json", kind=list), {}
    for i in picked:
        sheet = np.asarray(to_rgb(read_picture(folder / f"{steps[i]}.png")))
        if not captions or sheet.shape[1] % len(captions) or not all(isinstance(each, str) for each in captions):
            raise ValueError(f"{folder / 'captions.json'} is not of {steps[i]}.png beside it; delete both.")
        found[steps[i]] = np.stack(np.split(sheet, len(captions), axis=1))
    return captions, found


def sample_strip(folder: Path | str, columns: int = 8) -> Figure:
    """What a stage drew while it was trained (`--run.samples-every`): a row for each caption, a column for each step.

    folder    the stage's folder, such as runs/own/base
    columns   how many of the steps to show at most, from the first to the last

    FileNotFoundError if there are no samples. `strip_words` has the alt text.
    """
    captions, found = _samples(folder, columns)
    figure, axes = square_axes(len(found), len(found), 1.3, rows=len(captions), top=0.05)
    figure.set_figwidth(figure.get_figwidth() + 1.6)  # the captions, at the left
    axes = axes.reshape(len(captions), -1)
    for column, (step, images) in enumerate(found.items()):
        axes[0, column].set_title(f"step {step}", fontsize=9)
        for ax, image in zip(axes[:, column], images):
            ax.imshow(image, interpolation="nearest")
    for ax, caption in zip(axes[:, 0], captions):
        words = textwrap.shorten(caption, 75, placeholder=" ...")
        label = "\n".join(textwrap.wrap(words, 20))
        ax.set_ylabel(label, fontsize=8, rotation=0, ha="right", va="center", parse_math=False)
    return figure


def strip_words(folder: Path | str, columns: int = 8) -> str:
    """The alt text of `sample_strip`."""
    captions, found = _samples(folder, columns)
    steps = ", ".join(map(str, found))
    return (
        f"Pictures drawn in training, from left to right at steps {steps}; from top to bottom: {'; '.join(captions)}."
    )
