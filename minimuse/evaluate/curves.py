"""Reference curves: how the shipped weights' training went, so that "is my loss normal?" has an answer.

A curve is a training log made small: for some of its steps the seconds since the start, and for every metric the least,
middle and greatest value of the lines around that step. `data/ship_run.py` makes them from the logs of a run,
`python -m experiments.first_transformer` from a short recipe's with several seeds; `charts.training_curve` draws
another run over them.
"""

import json
from pathlib import Path

import numpy as np

from minimuse.config import data_dir
from minimuse.files import read_log

FIRST = 20  # lines of a log that are all kept: much happens early
POINTS = 40  # lines kept of the rest
AROUND = 3  # lines before and after a step that its band is taken from


def band(values: np.ndarray, at: np.ndarray, around: int = AROUND) -> dict:
    """low, middle, high of values [M], or [runs, M], in the lines around each of the lines `at`, to four digits."""
    windows = [values[..., max(0, i - around) : i + around + 1] for i in at]
    found = dict(low=map(np.nanmin, windows), middle=map(np.nanmedian, windows), high=map(np.nanmax, windows))
    return {name: [float(f"{value:.4g}") for value in column] for name, column in found.items()}


def curve_of(folder: Path | str) -> dict:
    """The curve of one folder of a run, from its log.jsonl, settings.json and machine.json: where, how, step, seconds,
    and a band for every metric."""
    folder = Path(folder)
    log = read_log(folder / "log.jsonl")
    lines = len(log["step"])
    at = np.unique(np.concatenate([np.arange(min(FIRST, lines)), np.linspace(FIRST, lines - 1, POINTS).round()]))
    at = at[at < lines].astype(int)
    metrics = {name: band(values, at) for name, values in log.items() if name not in ("step", "seconds")}
    read = lambda name: json.loads((folder / name).read_text())
    return dict(
        machine=read("machine.json"),
        settings=read("settings.json"),
        step=[int(v) for v in log["step"][at]],
        seconds=[float(v) for v in log["seconds"][at]],
        metrics=metrics,
    )


def curve_of_seeds(logs: list[dict], **about) -> dict:
    """One curve of several runs that differ in their seed alone: logs {column: float [M]} of at most FIRST + POINTS
    lines, all kept. The band spans the runs, and a line before and after; `about` is machine and settings."""
    steps = logs[0]["step"]
    if any(list(log["step"]) != list(steps) for log in logs):
        raise ValueError("These logs have other steps; runs of one recipe have the same.")
    metrics = {
        name: band(np.stack([log[name] for log in logs]), np.arange(len(steps)), around=1)
        for name in logs[0]
        if name not in ("step", "seconds")
    }
    seconds = np.median([log["seconds"] for log in logs], axis=0)
    return about | dict(step=[int(v) for v in steps], seconds=[round(float(v), 1) for v in seconds], metrics=metrics)


def reference(name: str) -> dict:
    """A shipped curve: `tokenizer`, `tokenizer_adversarial`, `superres_tokenizer` and so on, as `curve_of` made it."""
    return _read("curves", name, "reference curve")


def experiment(name: str) -> dict:
    """The results of `python -m experiments.NAME`: command, machine, settings, and rows, one an arm and seed."""
    return _read("experiments", name, "experiment")


def result(name: str) -> dict:
    """What `python tools/results.py --measure NAME` kept: command, date, machine, versions, result."""
    return _read("results", name, "result")


def _read(folder: str, name: str, what: str) -> dict:
    path = data_dir() / folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise FileNotFoundError(f"There is no {what} {name!r}; there are: {names}.")
    return json.loads(path.read_text())
