"""Figures for the notebooks. Every function takes plain arrays and returns a matplotlib Figure; `with_alt` shows it.

Nothing is told by colour alone: tokens carry their numbers, hidden places are hatched, curves differ in dash and mark.
"""

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from PIL import Image

from minimuse.masking import decode_schedule, density, mask_rate, mean_rate

MAP = "cividis"  # even in lightness, and the same to colour-blind eyes


def _axes(count: int, columns: int | None, side: float, rows: int = 1, top: float = 0.3):
    """A Figure of square axes without ticks, `rows` groups of `count` panels: (figure, axes [count])."""
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


def _hide(ax, hidden: np.ndarray, scale: float = 1.0, fill: str = "0.85") -> None:
    """Hatch the True cells of hidden bool [h, w]; scale is the pixels of the axes' picture in a cell, fill the colour
    between the lines."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])
    if squares := [Outline((corners + (x, y)) * scale - 0.5) for y, x in np.argwhere(hidden)]:
        outline = Outline.make_compound_path(*squares)
        ax.add_patch(PathPatch(outline, facecolor=fill, edgecolor="0.45", hatch="////", linewidth=0.0))


def _draw_mask(ax, mask: np.ndarray, title: str) -> None:
    """Mask bool [h, w] on square axes; in a fine one hidden places are dark, since a hatch would not show."""
    (h, w), fine = mask.shape, max(mask.shape) > 16
    ax.imshow(np.where(mask & fine, 0.35, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=9)
    if not fine:
        ax.set(xticks=np.arange(1, w) - 0.5, yticks=np.arange(1, h) - 0.5, xticklabels=[], yticklabels=[])
        ax.grid(color="0.8", linewidth=0.5)
        ax.tick_params(length=0)
        _hide(ax, mask)


def _look(i: int, count: int) -> dict:
    """How curve i of `count` is drawn: a dash, a mark and a colour."""
    dash, mark = ("-", "--", "-.", ":")[i % 4], "os^Dv*"[i % 6]
    return dict(linestyle=dash, marker=mark, markersize=5, color=colormaps[MAP](0.8 * i / count))


def _check(name: str, array, ndim: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or 0 in array.shape:
        raise ValueError(f"{name} must be a filled array of {ndim} dimensions; its shape was {array.shape}.")
    return array


def image_grid(images, titles: Sequence[str] | None = None, columns: int | None = None) -> Figure:
    """Pictures uint8 [B, H, W, 3] side by side, every pixel a sharp square, each with its title above it."""
    images = _check("images", images, 4)
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} images; give one each.")
    figure, axes = _axes(len(images), columns, 1.7, top=0.3 if titles else 0.0)
    for ax, image, title in zip(axes, images, titles or [""] * len(images)):
        ax.imshow(image, interpolation="nearest")
        ax.set_title(title, fontsize=9)
    return figure


def token_grid(tokens, mask_id: int | None = None) -> Figure:
    """Token ids int [h, w] as a grid of numbers on colours; places that hold mask_id are hatched and say M."""
    tokens = _check("tokens", tokens, 2)
    figure, (ax,) = _axes(1, 1, 0.5 * max(tokens.shape), top=0.0)
    hidden = tokens == (-1 if mask_id is None else mask_id)
    top = np.max(tokens, where=~hidden, initial=1)
    ax.imshow(tokens, cmap=MAP, vmin=0, vmax=top)
    _hide(ax, hidden)
    for (y, x), token in np.ndenumerate(tokens):
        ink = "black" if hidden[y, x] or token > 0.475 * top else "white"
        ax.text(x, y, "M" if hidden[y, x] else token, ha="center", va="center", fontsize=9, color=ink)
    return figure


def mask_grid(masks, titles: Sequence[str] | None = None, columns: int | None = None) -> Figure:
    """Masks bool [B, h, w]: hidden places hatched grey, known places white; without titles, the share hidden."""
    masks = _check("masks", masks, 3).astype(bool)
    titles = [f"{mask.sum()} of {mask.size} hidden" for mask in masks] if titles is None else titles
    figure, axes = _axes(len(masks), columns, 1.5)
    for ax, mask, title in zip(axes, masks, titles):
        _draw_mask(ax, mask, title)
    return figure


def _decoding(generation, image_index: int, steps: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Of one picture of a Generation: tokens int, probability float, hidden before and hidden after a step bool, each
    [steps, h, w]. `steps`, counted from 1, are only checked."""
    trace, (h, w) = generation.trace, generation.tokens.shape[1:]
    total, batch = trace.tokens.shape[:2]
    if not 0 <= image_index < batch:
        raise ValueError(f"There is no image {image_index}; this generation has {batch}, counted from 0.")
    if not len(steps) or min(steps) < 1 or max(steps) > total:
        raise ValueError(f"steps must be numbers from 1 to {total}; they were {list(steps)}.")
    tokens, confidence, hidden = (np.asarray(x)[:, image_index].reshape(total, h, w) for x in trace)
    return tokens, confidence, np.concatenate([np.ones((1, h, w), bool), hidden[:-1]]), hidden


def decode_frame(generation, image_index: int, step: int, detokenize: Callable) -> Figure:
    """One step of parallel decoding, counted from 1, in four panels: what is hidden when it begins; the probability of
    every token that it draws, a dot on those it keeps; the whole guess; the tokens kept so far, framed if just now."""
    tokens, confidence, before, after = (x[step - 1] for x in _decoding(generation, image_index, [step]))
    image, now = np.asarray(detokenize(tokens[None]))[0], before & ~after
    figure, axes = _axes(4, 4, 2.5)
    _draw_mask(axes[0], before, f"1 hidden: {before.sum()} of {before.size}")
    axes[1].imshow(confidence, cmap=MAP, vmin=0, vmax=1)
    y, x = np.nonzero(now)
    axes[1].plot(x, y, "o", color="white", markeredgecolor="black", markersize=7)
    axes[1].set_title(f"2 probability; {now.sum()} kept", fontsize=9)
    axes[2].imshow(image, interpolation="nearest")
    axes[2].set_title("3 whole guess", fontsize=9)
    axes[3].imshow(image, interpolation="nearest", alpha=0.6)
    cell = len(image) / len(tokens)
    _hide(axes[3], after, cell)
    for row, column in np.argwhere(~after):
        at = cell * (column + 0.5) - 0.5, cell * (row + 0.5) - 0.5
        axes[3].text(*at, tokens[row, column], ha="center", va="center", fontsize=6)
        if now[row, column]:
            corner = cell * column - 0.5, cell * row - 0.5
            axes[3].add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor="black", linewidth=2))
    axes[3].set_title(f"4 kept so far: {(~after).sum()} of {after.size}", fontsize=9)
    return figure


def decode_steps(generation, image_index: int, detokenize: Callable, steps: Sequence[int] | None = None) -> Figure:
    """Parallel decoding of one picture, a column a step. Above: the whole guess. Middle: the tokens kept so far as
    pixels, places hidden again hatched. Below: the model's probability of each token, a dot on those kept just now.

    generation  what `Muse.generate(..., trace=True)` returned
    detokenize  tokens int [B, h, w] -> uint8 [B, H, W, 3], `muse.detokenize`
    steps       which steps to show, from 1; None takes six, from the first to the last
    """
    total, (h, w) = len(generation.trace.tokens), generation.tokens.shape[1:]
    steps = np.unique(np.round(np.linspace(1, total, min(6, total))).astype(int)) if steps is None else steps
    tokens, confidence, before, hidden = _decoding(generation, image_index, steps)
    rows = np.asarray(steps) - 1
    guesses = np.asarray(detokenize(tokens[rows]))
    figure, axes = _axes(len(rows), len(rows), 1.45, rows=3, top=0.1)
    axes = axes.reshape(3, -1)
    for column, s in enumerate(rows):
        for ax in axes[:2, column]:
            ax.imshow(guesses[column], interpolation="nearest")
        _hide(axes[1, column], hidden[s], guesses.shape[1] / h)
        heat = axes[2, column].imshow(confidence[s], cmap=MAP, vmin=0, vmax=1)
        y, x = np.nonzero(before[s] & ~hidden[s])
        axes[2, column].plot(x, y, "o", color="white", markeredgecolor="black", markersize=5)
        axes[0, column].set_title(f"step {s + 1}", fontsize=9)
        axes[1, column].set_xlabel(f"{h * w - hidden[s].sum()} of {h * w} kept", fontsize=8)
        axes[2, column].set_xlabel(f"{len(y)} kept just now", fontsize=8)
    for ax, name in zip(axes[:, 0], ("whole guess", "kept so far", "probability")):
        ax.set_ylabel(name, fontsize=9)
    figure.colorbar(heat, ax=list(axes[2]), shrink=0.9)
    return figure


def attention_over(
    image, maps, titles: Sequence[str], columns: int | None = None, hidden=None, at: tuple[int, int] | None = None
) -> Figure:
    """Weights of attention float [n, h, w] over a picture uint8 [H, W, 3], a panel each: a disc a place, its area the
    weight, the greatest of its panel as wide as a cell. The titles say how much that is, in percent.

    hidden   bool [h, w], places that are hatched; the picture shows through
    at       row and column of a place that gets a thick frame
    """
    maps, image = _check("maps", maps, 3), _check("image", image, 3)
    if len(titles) != len(maps):
        raise ValueError(f"{len(titles)} titles for {len(maps)} maps; give one each.")
    cell = image.shape[0] / maps.shape[1]
    figure, axes = _axes(len(maps), columns, 1.7, top=0.35)
    for ax, weights, title in zip(axes, maps, titles):
        ax.imshow(image, interpolation="nearest", alpha=0.55)
        if hidden is not None:
            _hide(ax, np.asarray(hidden, bool), cell, fill="none")
        top = max(weights.max(), 1e-9)
        discs = [
            Circle((cell * (x + 0.5) - 0.5, cell * (y + 0.5) - 0.5), 0.46 * cell * np.sqrt(weight / top))
            for (y, x), weight in np.ndenumerate(weights)
        ]
        ax.add_collection(PatchCollection(discs, facecolor=(1, 1, 1, 0.6), edgecolor="black", linewidth=0.8))
        if at is not None:
            corner = cell * at[1] - 0.5, cell * at[0] - 0.5
            ax.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor="black", linewidth=2.5))
        ax.set_title(f"{title}\nup to {top:.0%}", fontsize=9)
    return figure


def training_curve(
    logs: dict[str, dict], keys: Sequence[str] = ("loss",), reference: dict | None = None, against: str = "step"
) -> Figure:
    """Columns `keys` of logs {name of the run: training.read_log(...)}, a panel a key, a dash a run.

    reference   a curve of `curves.reference`: its band is hatched behind the runs, its middle a thin line
    against     step or seconds
    """
    if missing := [f"{key!r} in {name!r}" for name, log in logs.items() for key in (against, *keys) if key not in log]:
        raise ValueError(f"There is no column {', '.join(missing)}.")
    if unknown := [key for key in keys if reference is not None and key not in reference["metrics"]]:
        raise ValueError(f"The reference has no {', '.join(unknown)}; it has {', '.join(reference['metrics'])}.")
    figure = Figure(figsize=(4.2 * len(keys), 3), layout="constrained")
    for ax, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys):
        if reference is not None:
            x, curve = reference[against], reference["metrics"][key]
            ax.fill_between(x, curve["low"], curve["high"], facecolor="0.9", edgecolor="0.6", hatch="...", linewidth=0)
            ax.plot(x, curve["middle"], color="0.3", linewidth=0.8, label="reference")
        for i, (name, log) in enumerate(logs.items()):
            ax.plot(log[against], log[key], label=name, markevery=0.25, **_look(i, len(logs)))
        ax.set(xlabel=against, ylabel=key)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return figure


def bars(panels: dict[str, dict[str, float]]) -> Figure:
    """A panel {label: value} each, a bar a label with its value above it; every panel has its own scale from 0."""
    figure = Figure(figsize=(2.6 * len(panels), 2.6), layout="constrained")
    for ax, (name, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        drawn = ax.bar(list(values), list(values.values()), color=colormaps[MAP](0.25), width=0.6)
        ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(ymargin=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def seeds(panels: dict[str, dict[str, Sequence[float]]]) -> Figure:
    """A panel {arm: a value a seed} each: a ring a seed side by side, and a stroke at their mean, which is written."""
    figure = Figure(figsize=(3.6 * len(panels), 2.8), layout="constrained")
    for ax, (name, arms) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for at, values in enumerate(arms.values()):
            mean, places = np.mean(values), at + np.linspace(-0.2, 0.2, len(values) + 2)[1:-1]
            ax.plot(places, values, "o", markerfacecolor="none", color=colormaps[MAP](0.25))
            ax.hlines(mean, at - 0.3, at + 0.3, color="black")
            where = dict(xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
            ax.annotate(f"{mean:.3g}", (at, max(values)), **where)
        ax.set_xticks(range(len(arms)), [arm.replace(", ", ",\n") for arm in arms], fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(xmargin=0.15, ylim=(0, 1.25 * max(map(max, arms.values())) or 1))
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def mask_schedule(steps: int, tokens: int, law: str = "cosine") -> Figure:
    """The decode schedule: tokens still hidden after each step (left), and revealed at each step (right)."""
    left = decode_schedule(steps, tokens, law)
    figure = Figure(figsize=(8.4, 2.8), layout="constrained")
    panels = {"still hidden after the step": left, "revealed at the step": -np.diff(left, prepend=tokens)}
    for ax, (name, counts) in zip(figure.subplots(1, 2), panels.items()):
        bars = ax.bar(np.arange(1, steps + 1), counts, color=colormaps[MAP](0.25))
        ax.bar_label(bars, fontsize=8 if steps <= 16 else 5)
        ax.set_title(name, fontsize=10)
        ax.set(xlabel="step", ylabel="tokens", ymargin=0.12)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def heat_map(values, rows: Sequence, columns: Sequence, digits: int = 2) -> Figure:
    """Numbers [r, c] written into coloured cells, each row and column with its name."""
    values = np.round(_check("values", values, 2), digits) + 0.0  # no -0.0
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} names of rows and {len(columns)} of columns for values of {values.shape}.")
    wide = max(len(f"{value:.{digits}f}") for value in values.flat)
    figure = Figure(figsize=(1.2 + (0.16 + 0.08 * wide) * len(columns), 0.7 + 0.28 * len(rows)), layout="constrained")
    ax = figure.subplots()
    low, high = values.min(), values.max()
    ax.imshow(values, cmap=MAP, aspect="auto", vmin=low, vmax=high)
    turned = dict(rotation=45, ha="left", rotation_mode="anchor") if max(len(str(one)) for one in columns) > 3 else {}
    ax.tick_params(length=0, labelsize=9, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(range(len(columns)), columns, **turned)
    ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(values):
        ink = "black" if value - low > 0.475 * (high - low) else "white"
        ax.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color=ink)
    return figure


def line_plot(x, values: dict[str, np.ndarray], xlabel: str, ylabel: str) -> Figure:
    """Curves {name: float [n]} over x [n], a dash and a mark each."""
    figure = Figure(figsize=(5.4, 2.8), layout="constrained")
    ax = figure.subplots()
    for i, (name, y) in enumerate(values.items()):
        ax.plot(x, y, label=name, markevery=max(1, len(x) // 12), **_look(i, len(values)))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    if len(values) > 1:
        ax.legend(frameon=False, fontsize=9)
    return figure


def word_map(points, words: Sequence[str], kinds: Sequence[str], links: Sequence[tuple[int, int]] = ()) -> Figure:
    """Words at points [n, 2], a mark a kind; links (i, j) are thin lines between words that belong together."""
    points = _check("points", points, 2)
    if not len(points) == len(words) == len(kinds):
        raise ValueError(f"{len(points)} points, {len(words)} words, {len(kinds)} kinds; give as many of each.")
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    ax = figure.subplots()
    for i, j in links:
        ax.plot(*points[[i, j]].T, color="0.75", linewidth=1, zorder=0)
    names = list(dict.fromkeys(kinds))
    for i, kind in enumerate(names):
        own = points[[k == kind for k in kinds]]
        ax.plot(*own.T, label=kind, **_look(i, len(names)) | dict(linestyle=""))
    taken = []  # boxes of the labels so far, in points on the page; each goes where it hides least
    at = (points - points.min(0)) / np.maximum(np.ptp(points, 0), 1e-9) * (600, 340)
    for place, (x, y), word in zip(points, at, words):
        width = 5 * len(word)
        free = [(5, -3), (-5 - width, -3), (-width / 2, 6), (-width / 2, -13), (5, 6), (5, -12), (-5 - width, 6)]
        boxes = [np.array((x + dx, y + dy, x + dx + width, y + dy + 9)) for dx, dy in free]
        marks = np.concatenate([at - 3, at + 3], 1)
        hidden = [sum(_overlap(box, other) for other in (*taken, *marks)) for box in boxes]
        best = int(np.argmin(hidden))
        taken.append(boxes[best])
        ax.annotate(word, place, free[best], textcoords="offset points", fontsize=8.5)
    ax.set(xticks=[], yticks=[])
    ax.margins(0.09)
    ax.spines[:].set_color("0.8")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _overlap(a, b) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def ranking(values: dict[str, float]) -> Figure:
    """Lying bars {label: value} from 0, in their order from top to bottom, each with its value."""
    figure = Figure(figsize=(5.4, 0.5 + 0.26 * len(values)), layout="constrained")
    ax = figure.subplots()
    drawn = ax.barh(list(values), list(values.values()), color=colormaps[MAP](0.25), height=0.65)
    ax.bar_label(drawn, [f"{value:.3f}" for value in values.values()], fontsize=9, padding=3)
    ax.invert_yaxis()
    ax.set(xmargin=0.12, xticks=[])
    ax.tick_params(length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def rate_histograms(rates: dict[str, np.ndarray], tokens: int = 64, columns: int = 4) -> Figure:
    """Mask rates as they were drawn, {law: float [M]}, a panel each: bars of their share, and the law's density."""
    lines, r = -(-len(rates) // columns), np.linspace(0.005, 0.995, 199)
    figure = Figure(figsize=(2.4 * columns, 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, (law, drawn) in zip(axes, rates.items()):
        ax.hist(drawn, np.linspace(0, 1, 21), density=True, color="0.85", edgecolor="0.45", hatch="////", linewidth=0.5)
        ax.plot(r, density(r, law, tokens), color="black")
        ax.set_title(f"{law}, mean {mean_rate(law, tokens):.2f}", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 4))
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(rates) :]:
        figure.delaxes(ax)
    figure.supxlabel("mask rate r", fontsize=9)
    return figure


def mask_laws(laws: Sequence[str], steps: int = 12, tokens: int = 64, masks: bool = False) -> Figure:
    """Laws of the mask rate, a dash and a mark each: the density of r in training, r over the progress u of decoding,
    and the tokens revealed at each of `steps` steps.

    masks   below, what each law hides at four values of u, on 8 x 8 and on 32 x 32 tokens: each of them stands for
            a quarter of the training masks
    """
    figure = Figure(figsize=(9, 6 if masks else 3.1), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1)) if masks else (figure, None)
    r, u, s = np.linspace(0.005, 0.995, 199), np.linspace(0, 1, 101), np.arange(1, steps + 1)
    axes = above.subplots(1, 3)
    for i, law in enumerate(laws):
        look = _look(i, len(laws))
        axes[0].plot(r, density(r, law, tokens), markevery=(20 + 5 * i, 45), label=law, **look)
        axes[1].plot(u, mask_rate(u, law, tokens), markevery=(10 + 2 * i, 25), label=law, **look)
        revealed = -np.diff(decode_schedule(steps, tokens, law), prepend=tokens)
        axes[2].plot(s, revealed, label=law, markevery=max(1, steps // 12), **look)
    axes[0].set(xlabel="mask rate r", title="density p(r)", xlim=(0, 1), ylim=(0, 4))
    axes[1].set(xlabel="progress u", title="mask rate r", xlim=(0, 1), ylim=(0, 1.03))
    axes[2].set(xlabel="step", title=f"tokens revealed, of {tokens}", xlim=(0, steps + 1), ylim=(0, None))
    axes[2].xaxis.get_major_locator().set_params(integer=True)
    for ax in axes:
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8, ncols=1 + (len(laws) > 4))
    if not masks:
        return figure
    progress = (np.arange(4) + 0.5) / 4
    for law, part in zip(laws, below.subfigures(1, len(laws), squeeze=False)[0]):
        part.suptitle(f"{law}, hidden at u = " + ", ".join(f"{at:.3g}" for at in progress), fontsize=9)
        rates = np.asarray(mask_rate(progress, law, tokens))
        for row, side in zip(part.subplots(2, 4), (8, 32)):
            rank = np.random.default_rng(1).permutation(side**2).reshape(side, side)  # the same places for every law
            for ax, rate in zip(row, rates):
                ax.set(xticks=[], yticks=[])
                _draw_mask(ax, rank < max(1, round(side**2 * rate)), f"r = {rate:.2f}")
    return figure


class Picture:
    """A picture with its alt text, as a notebook shows it: HTML, because JupyterLab and nbconvert drop the alt text of
    a bare PNG. `data` holds its bytes, `alt` its text."""

    def __init__(self, data: bytes, kind: str, alt: str):
        if not alt.strip():
            raise ValueError("The alt text is empty; say in a sentence what the figure shows.")
        self.data, self.kind, self.alt = data, kind, alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        source = f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"
        tag = f'<img src="{source}" alt="{html.escape(self.alt)}" style="max-width: 100%; height: auto">'
        return {"text/html": tag, "text/plain": f"Figure: {self.alt}"}


def with_alt(figure: Figure, text: str, dpi: int = 100, colours: int | None = None) -> None:
    """Show a figure in a notebook; `text` says what is seen, for those who cannot see it. With a number of `colours` it
    is reduced to so many: a third of the bytes where pictures, hatches and marks overlap."""
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if colours is not None:
        picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        picture.save(buffer, format="png", optimize=True)
    display(Picture(buffer.getvalue(), "image/png", text))


def pipeline(highlight: str | None = None) -> Picture:
    """The drawing of the whole of Muse, with one box lit (a thick frame and "you are here"): base, decoder, ..."""
    here = Path(__file__).resolve().parent
    paths = here.parent / "notebooks" / "figures" / "pipeline.svg", here / "_data" / "pipeline.svg"
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(f"There is no {paths[0]}; clone the whole repository.")
    svg = found[0].read_text(encoding="utf-8")
    alt = " ".join(re.search("<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)[1].split())
    if highlight is not None:
        boxes = dict(re.findall(r'<g id="(\w+)" class="box[^"]*"><title>(.*?)</title>', svg))
        if highlight not in boxes:
            raise ValueError(f"The pipeline has no box {highlight!r}; its boxes are {', '.join(boxes)}.")
        svg = svg.replace(f'<g id="{highlight}" class="box', f'<g id="{highlight}" class="box lit')
        alt += f" You are here: {boxes[highlight]}."
    return Picture(svg.encode(), "image/svg+xml", html.unescape(alt))
