"""Charts for the notebooks: curves, bars, tables of numbers. Every function returns a matplotlib Figure."""

import math
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from minimuse.masking import decode_schedule, density, mask_rate, mean_rate
from minimuse.teach.figures import MAP, draw_mask, filled


def curve_style(i: int, count: int) -> dict[str, Any]:
    """How curve i of `count` is drawn: its dash, marker and colour."""
    dash, mark = ("-", "--", "-.", ":")[i % 4], "os^Dv*"[i % 6]
    return dict(linestyle=dash, marker=mark, markersize=5, color=colormaps[MAP](0.8 * i / count))


def _marked(count: int, most: int = 6) -> list[int]:
    """Which of `count` points of a curve get a marker: up to `most`, with the first and the last."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most))})


UNITS = {"psnr": "PSNR, dB", "l1": "mean absolute difference", "usage": "share of codes in use"}


def training_curve(
    logs: Mapping[str, Mapping[str, Any]],
    keys: Sequence[str] = ("loss",),
    reference: Mapping[str, Any] | None = None,
    against: str = "step",
    logarithmic: Collection[str] = (),
) -> Figure:
    """Columns `keys` of logs {name of the run: files.read_log(...)}: one panel per key, one dash per run.

    reference     what `curves.reference` returns: its band is hatched behind the runs, and its middle is a thin line
    against       the x axis: step or seconds
    logarithmic   keys whose y axis is logarithmic
    """
    if missing := [f"{key!r} in {name!r}" for name, log in logs.items() for key in (against, *keys) if key not in log]:
        raise ValueError(f"There is no column {', '.join(missing)}.")
    metrics = None if reference is None else reference["metrics"]
    if metrics is not None and (unknown := [key for key in keys if key not in metrics]):
        raise ValueError(f"The reference has no {', '.join(unknown)}; it has {', '.join(metrics)}.")
    figure = Figure(figsize=(4.2 * len(keys), 3.2), layout="constrained")
    axes = figure.subplots(1, len(keys), squeeze=False)[0]
    for ax, key in zip(axes, keys):
        if reference is not None:
            x, curve = reference[against], reference["metrics"][key]
            band = dict(facecolor="0.9", edgecolor="0.6", hatch="...", linewidth=0)
            ax.fill_between(x, curve["low"], curve["high"], **band)
            ax.plot(x, curve["middle"], color="0.3", linewidth=0.8, label="reference")
        for i, (name, log) in enumerate(logs.items()):
            ax.plot(log[against], log[key], label=name, markevery=_marked(len(log[key])), **curve_style(i, len(logs)))
        ax.set(xlabel=against, ylabel=UNITS.get(key, key))
        if key in logarithmic:
            ax.set_yscale("log", nonpositive="mask")  # zeros leave a gap
        ax.spines[["top", "right"]].set_visible(False)
    # Above the panels: inside one it would lie on the curves.
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return figure


def sweeps(logs: Mapping[str, Mapping[str, Any]], keys: Sequence[str], against: str, log: Sequence[str] = ()) -> Figure:
    """Columns `keys` of logs {name: {column: float [M]}}, one panel per key: every value is marked, and the values of
    column `against` are the ticks of the x axis.

    log    columns with a logarithmic axis; if one of them holds a 0, the axis is linear up to its least other value
    """
    figure = Figure(figsize=(3.9 * len(keys), 3), layout="constrained")
    axes = figure.subplots(1, len(keys), squeeze=False)[0]
    for ax, key in zip(axes, keys):
        for i, (name, columns) in enumerate(logs.items()):
            ax.plot(columns[against], columns[key], label=name, **curve_style(i, len(logs)))
        ax.set(xlabel=against, ylabel=key)
        ax.spines[["top", "right"]].set_visible(False)
        for axis, column in ((ax.xaxis, against), (ax.yaxis, key)):
            if column in log:
                values = np.concatenate([np.asarray(columns[column], float) for columns in logs.values()])
                least = min(values[values > 0], default=1.0)
                scale: dict[str, Any] = (
                    dict(value="symlog", linthresh=least) if (values == 0).any() else dict(value="log")
                )
                getattr(ax, f"set_{axis.axis_name}scale")(**scale)
        ticks = sorted({float(x) for columns in logs.values() for x in columns[against]})
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        ax.set_xticks([], minor=True)
    if len(logs) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def trade_off(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike, Sequence[Any]]]],
    ylabel: str,
    ticks: ArrayLike = (),
    loose: Container[str] = (),
) -> Figure:
    """One panel per {name: (x [M], y [M], labels [M])}, named after its x axis, which is logarithmic; all panels have
    one y axis. Each point has its label beside it, where it hides least; an empty one is left out.

    ticks   of the x axes; none: Matplotlib's own
    loose   names whose points no line joins
    """
    figure = Figure(figsize=(max(5.8, 4.4 * len(panels)), 4.1), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (xlabel, curves) in zip(axes, panels.items()):
        for i, (name, (x, y, _)) in enumerate(curves.items()):
            style = curve_style(i, len(curves)) | (dict(linestyle="") if name in loose else {})
            ax.plot(x, y, label=name, **style)
        ax.set(xlabel=xlabel, xscale="log")
        ax.margins(0.1)
        if np.size(ticks):
            ax.set_xticks(np.asarray(ticks), [f"{tick:g}" for tick in np.asarray(ticks)])
            ax.set_xticks([], minor=True)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(ylabel)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.draw_without_rendering()  # fixes the axes, so that places of labels can be compared
    for ax, curves in zip(axes, panels.values()):
        points = {name: np.stack([np.asarray(x), np.asarray(y)], 1) for name, (x, y, _) in curves.items()}
        page = {name: 72 / figure.dpi * ax.transData.transform(own) for name, own in points.items()}
        along = [
            own[0] + share * (own[1] - own[0])
            for name, line in page.items()
            for own in zip(line, line[1:])
            for share in np.linspace(0, 1, 15)
            if name not in loose
        ]
        words = [str(word) for *_, labels in curves.values() for word in labels]
        at = np.concatenate([*page.values()])
        label_points(ax, np.concatenate([*points.values()]), words, at, 8, np.array(along).reshape(-1, 2))
    return figure


def bars(panels: Mapping[str, Mapping[str, float]]) -> Figure:
    """One panel per {label: value}, one bar per label with its value above it. Every panel has its own scale, which
    begins at 0."""
    figure = Figure(figsize=(2.6 * len(panels), 2.6), layout="constrained")
    for ax, (name, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        drawn = ax.bar(list(values), list(values.values()), color=colormaps[MAP](0.25), width=0.6)
        ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(ymargin=0.15)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def seeds(panels: Mapping[str, Mapping[str, Sequence[float]]], shared: bool = False) -> Figure:
    """One panel per {arm: one value per seed}: a ring per seed, side by side, and a line at their mean with its
    value, with as many decimals as the largest mean of the panel needs.

    shared   one scale for all panels, where they show the same measure
    """
    figure = Figure(figsize=(3.6 * len(panels), 2.8), layout="constrained")
    tops = {name: 1.25 * max(map(max, arms.values())) or 1 for name, arms in panels.items()}
    for ax, (name, arms) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        decimals = max(1, 2 - math.floor(math.log10(max(map(np.mean, arms.values())) or 1)))
        for at, values in enumerate(arms.values()):
            mean, spots = np.mean(values), at + np.linspace(-0.2, 0.2, len(values) + 2)[1:-1]
            ax.plot(spots, values, "o", markerfacecolor="none", color=colormaps[MAP](0.25))
            ax.hlines(mean, at - 0.3, at + 0.3, color="black")
            above = dict(xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
            ax.annotate(f"{mean:.{decimals}f}", (at, max(values)), **above)
        ax.set_xticks(range(len(arms)), [arm.replace(", ", ",\n") for arm in arms], fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(xmargin=0.15, ylim=(0, max(tops.values()) if shared else tops[name]))
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def mask_schedule(steps: int, tokens: int, law: str = "cosine") -> Figure:
    """The decode schedule: the tokens still hidden after each step (left) and those revealed at each step (right)."""
    left = decode_schedule(steps, tokens, law)
    figure = Figure(figsize=(8.4, 2.8), layout="constrained")
    panels = {"still hidden after the step": left, "revealed at the step": -np.diff(left, prepend=tokens)}
    for ax, (name, counts) in zip(figure.subplots(1, 2), panels.items()):
        drawn = ax.bar(np.arange(1, steps + 1), counts, color=colormaps[MAP](0.25))
        ax.bar_label(drawn, fontsize=8 if steps <= 16 else 5)
        ax.set_title(name, fontsize=10)
        ax.set(xlabel="step", ylabel="tokens", ymargin=0.12)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def heat_map(
    values: ArrayLike,
    rows: Sequence[Any],
    columns: Sequence[Any],
    digits: int = 2,
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """Numbers [r, c] in coloured cells, with a name for each row and column, and for the two axes."""
    values = np.round(filled("values", values, 2), digits) + 0.0  # -0.0 becomes 0.0
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"{len(rows)} row names and {len(columns)} column names for values of the shape {values.shape}."
        )
    wide = max(len(f"{value:.{digits}f}") for value in values.flat)
    figure = Figure(figsize=(1.2 + (0.16 + 0.08 * wide) * len(columns), 0.7 + 0.28 * len(rows)), layout="constrained")
    ax = figure.subplots()
    low, high = values.min(), values.max()
    ax.imshow(values, cmap=MAP, aspect="auto", vmin=low, vmax=high)
    long = max(len(str(one)) for one in columns) > 3
    ax.tick_params(length=0, labelsize=9, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_xticks(range(len(columns)), columns)
    if long:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="left", rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.xaxis.set_label_position("top")
    ax.spines[:].set_visible(False)
    for (y, x), value in np.ndenumerate(values):
        ink = "black" if value - low > 0.475 * (high - low) else "white"
        ax.text(x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color=ink)
    return figure


def line_plot(x: Sequence[float] | np.ndarray, values: Mapping[str, ArrayLike], xlabel: str, ylabel: str) -> Figure:
    """Curves {name: float [n]} over x [n], each with its own dash and marker."""
    figure = Figure(figsize=(5.4, 2.8), layout="constrained")
    ax = figure.subplots()
    for i, (name, y) in enumerate(values.items()):
        ax.plot(x, y, label=name, markevery=max(1, len(x) // 12), **curve_style(i, len(values)))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    if len(values) > 1:
        ax.legend(frameon=False, fontsize=9)
    return figure


def label_points(
    ax: Axes, points: np.ndarray, words: Sequence[str], at: np.ndarray, size: float, avoid: ArrayLike = ()
) -> None:
    """Write a word beside each point [n, 2], where it hides least of the other words and points.

    at      the points [n, 2] on the page, in points of 1/72 inch
    size    of the letters, in points
    avoid   further places [m, 2] on the page
    """
    taken = []  # boxes of the labels so far; each new label goes where it hides least
    there = np.concatenate([at, np.reshape(avoid, (-1, 2))])
    around = np.concatenate([there - 3, there + 3], 1)
    for point, (x, y), word in zip(points, at, words):
        width = 0.6 * size * len(word)
        free = [(5, -3), (-5 - width, -3), (-width / 2, 6), (-width / 2, -13), (5, 6), (5, -12), (-5 - width, 6)]
        free += [(-5 - width, -12), (-width / 2, 15), (-width / 2, -22), (9, -18), (-9 - width, 13)]
        boxes = [np.array((x + dx - 2, y + dy, x + dx + width + 2, y + dy + size)) for dx, dy in free]
        hidden = [sum(_overlap(box, other) for other in (*taken, *around)) for box in boxes]
        best = int(np.argmin(hidden))
        taken.append(boxes[best])
        ax.annotate(word, point, free[best], textcoords="offset points", fontsize=size)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def ranking(values: Mapping[str, float]) -> Figure:
    """Horizontal bars {label: value} that begin at 0, in the given order from top to bottom, each with its value."""
    figure = Figure(figsize=(5.4, 0.5 + 0.26 * len(values)), layout="constrained")
    ax = figure.subplots()
    drawn = ax.barh(list(values), list(values.values()), color=colormaps[MAP](0.25), height=0.65)
    ax.bar_label(drawn, [f"{value:.3f}" for value in values.values()], fontsize=9, padding=3)
    ax.invert_yaxis()
    ax.set(xmargin=0.12, xticks=[])
    ax.tick_params(length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def rate_curves(laws: Sequence[str], tokens: int = 64) -> Figure:
    """Mask rate r over progress u, one panel per law, each with the uniform law as a thin dashed line."""
    figure, u = Figure(figsize=(1.9 * len(laws), 2.2), layout="constrained"), np.linspace(0, 1, 101)
    for ax, law in zip(figure.subplots(1, len(laws), squeeze=False, sharey=True)[0], laws):
        ax.plot(u, 1 - u, color="0.5", linestyle="--", linewidth=1)
        ax.plot(u, mask_rate(u, law, tokens), color="black")
        ax.set_title(law, fontsize=10)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xticks=(0, 0.5, 1))
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("progress u (dashed: the uniform law)", fontsize=9)
    figure.supylabel("mask rate r", fontsize=9)
    return figure


def rate_histograms(rates: Mapping[str, np.ndarray], tokens: int = 64, columns: int = 5) -> Figure:
    """Sampled mask rates {law: float [M]}, one panel per schedule: a histogram, and the density as a line."""
    lines, r = -(-len(rates) // columns), np.linspace(0.005, 0.995, 199)
    figure = Figure(figsize=(1.9 * columns, 2.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, (law, sampled) in zip(axes, rates.items()):
        ax.hist(
            sampled, np.linspace(0, 1, 21), density=True, color="0.85", edgecolor="0.45", hatch="////", linewidth=0.5
        )
        ax.plot(r, density(r, law, tokens), color="black")
        ax.set_title(f"{law}, mean {mean_rate(law, tokens):.2f}", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 4), xticks=(0, 0.5, 1))
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(rates) :]:
        figure.delaxes(ax)
    figure.supxlabel("mask rate r", fontsize=9)
    figure.supylabel("density p(r)", fontsize=9)
    return figure


def mask_laws(laws: Sequence[str], steps: int = 12, tokens: int = 64, masks: bool = False) -> Figure:
    """Mask schedules, each with its own dash and marker: the density of r in training, r over the progress u of
    decoding, and the tokens revealed at each of `steps` steps.

    laws    names in masking.LAWS
    masks   add, below, what each schedule hides at four values of u, on 8 x 8 and on 32 x 32 tokens; each mask stands
            for a quarter of the training masks
    """
    figure = Figure(figsize=(9, 6 if masks else 3.1), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0] if masks else (figure, figure)
    r, u, s = np.linspace(0.005, 0.995, 199), np.linspace(0, 1, 101), np.arange(1, steps + 1)
    axes = above.subplots(1, 3)
    for i, law in enumerate(laws):
        style = curve_style(i, len(laws))
        axes[0].plot(r, density(r, law, tokens), markevery=(20 + 5 * i, 45), label=law, **style)
        axes[1].plot(u, mask_rate(u, law, tokens), markevery=(10 + 2 * i, 25), label=law, **style)
        revealed = -np.diff(decode_schedule(steps, tokens, law), prepend=tokens)
        axes[2].plot(s, revealed, label=law, markevery=max(1, steps // 12), **style)
    axes[0].set(xlabel="mask rate r", title="density p(r)", xlim=(0, 1), ylim=(0, 4))
    axes[1].set(xlabel="progress u", title="mask rate r", xlim=(0, 1), ylim=(0, 1.03))
    axes[2].set(xlabel="step", title=f"tokens revealed, of {tokens}", xlim=(0, steps + 1), ylim=(0, None))
    for axis in (axes[2].xaxis, axes[2].yaxis):
        axis.get_major_locator().set_params(integer=True)
    for ax in axes:
        ax.title.set_fontsize(10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8, ncols=1 + (len(laws) > 4))
    if not masks:
        return figure
    progress = (np.arange(4) + 0.5) / 4
    for law, group in zip(laws, below.subfigures(1, len(laws), squeeze=False)[0]):
        group.suptitle(f"{law}, hidden at u = " + ", ".join(f"{at:.3g}" for at in progress), fontsize=9)
        rates = np.asarray(mask_rate(progress, law, tokens))
        for row, side in zip(group.subplots(2, 4), (8, 32)):
            rank = np.random.default_rng(1).permutation(side**2).reshape(side, side)  # same order for every schedule
            for ax, rate in zip(row, rates):
                ax.set(xticks=[], yticks=[])
                draw_mask(ax, rank < max(1, round(side**2 * rate)), f"r = {rate:.2f}")
    return figure
