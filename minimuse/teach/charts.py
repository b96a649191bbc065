"""Charts for the notebooks: curves, bars, tables of numbers. Every function returns a matplotlib Figure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
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


def seeds(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One panel per {arm: one value per seed}: a ring per seed, side by side, and a line at their mean with its
    value."""
    figure = Figure(figsize=(3.6 * len(panels), 2.8), layout="constrained")
    for ax, (name, arms) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for at, values in enumerate(arms.values()):
            mean, spots = np.mean(values), at + np.linspace(-0.2, 0.2, len(values) + 2)[1:-1]
            ax.plot(spots, values, "o", markerfacecolor="none", color=colormaps[MAP](0.25))
            ax.hlines(mean, at - 0.3, at + 0.3, color="black")
            above = dict(xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
            ax.annotate(f"{mean:.3g}", (at, max(values)), **above)
        ax.set_xticks(range(len(arms)), [arm.replace(", ", ",\n") for arm in arms], fontsize=9)
        ax.set_title(name, fontsize=10)
        ax.set(xmargin=0.15, ylim=(0, 1.25 * max(map(max, arms.values())) or 1))
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


def heat_map(values: ArrayLike, rows: Sequence[Any], columns: Sequence[Any], digits: int = 2) -> Figure:
    """Numbers [r, c] in coloured cells, with a name for each row and column."""
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


def word_map(
    points: ArrayLike, words: Sequence[str], kinds: Sequence[str], links: Sequence[tuple[int, int]] = ()
) -> Figure:
    """Words at points [n, 2], one marker per kind. Links (i, j) are thin lines between words that belong together."""
    points = filled("points", points, 2)
    if not len(points) == len(words) == len(kinds):
        raise ValueError(
            f"{len(points)} points, {len(words)} words and {len(kinds)} kinds; give the same number of each."
        )
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    ax = figure.subplots()
    for i, j in links:
        ax.plot(*points[[i, j]].T, color="0.75", linewidth=1, zorder=0)
    names = list(dict.fromkeys(kinds))
    for i, kind in enumerate(names):
        own = points[[k == kind for k in kinds]]
        (marks,) = ax.plot(*own.T, label=kind, **curve_style(i, len(names)))
        marks.set_linestyle("")
    taken = []  # boxes of the labels so far, in points on the page; each new label goes where it hides least
    at = (points - points.min(0)) / np.maximum(np.ptp(points, 0), 1e-9) * (600, 340)
    for point, (x, y), word in zip(points, at, words):
        width = 5 * len(word)
        free = [(5, -3), (-5 - width, -3), (-width / 2, 6), (-width / 2, -13), (5, 6), (5, -12), (-5 - width, 6)]
        boxes = [np.array((x + dx, y + dy, x + dx + width, y + dy + 9)) for dx, dy in free]
        around = np.concatenate([at - 3, at + 3], 1)
        hidden = [sum(_overlap(box, there) for there in (*taken, *around)) for box in boxes]
        best = int(np.argmin(hidden))
        taken.append(boxes[best])
        ax.annotate(word, point, free[best], textcoords="offset points", fontsize=8.5)
    ax.set(xticks=[], yticks=[])
    ax.margins(0.09)
    ax.spines[:].set_color("0.8")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


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


def rate_histograms(rates: Mapping[str, np.ndarray], tokens: int = 64, columns: int = 4) -> Figure:
    """Sampled mask rates {law: float [M]}, one panel per schedule: a histogram, and the density as a line."""
    lines, r = -(-len(rates) // columns), np.linspace(0.005, 0.995, 199)
    figure = Figure(figsize=(2.4 * columns, 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, (law, sampled) in zip(axes, rates.items()):
        ax.hist(
            sampled, np.linspace(0, 1, 21), density=True, color="0.85", edgecolor="0.45", hatch="////", linewidth=0.5
        )
        ax.plot(r, density(r, law, tokens), color="black")
        ax.set_title(f"{law}, mean {mean_rate(law, tokens):.2f}", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 4))
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(rates) :]:
        figure.delaxes(ax)
    figure.supxlabel("mask rate r", fontsize=9)
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
    axes[2].xaxis.get_major_locator().set_params(integer=True)
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
