"""Reference curves: how the shipped weights were trained, so that "is my loss normal?" has an answer.

A curve is a condensed training log: for some of its steps the seconds since the start, and for every metric the
minimum, median and maximum of the lines around that step. `data/ship_run.py` makes curves from the logs of a run,
`python -m experiments.first_transformer` from short runs with several seeds; `charts.training_curve` draws a different
run over them.
"""

from pathlib import Path

import numpy as np

from minimuse.config import data_dir
from minimuse.files import read_json, read_log

FIRST = 20  # the first lines of a log are all kept: much happens early
POINTS = 40  # lines kept of the rest
AROUND = 3  # lines before and after a step that its band covers


def band(values: np.ndarray, at: np.ndarray, around: int = AROUND) -> dict[str, list[float]]:
    """low, middle and high of values [M] or [runs, M] in the lines around each of the lines `at`, to four digits."""
    windows = [values[..., max(0, i - around) : i + around + 1] for i in at]
    found = dict(low=map(np.nanmin, windows), middle=map(np.nanmedian, windows), high=map(np.nanmax, windows))
    return {name: [float(f"{value:.4g}") for value in column] for name, column in found.items()}


def curve_of(folder: Path | str) -> dict:
    """The curve of one stage's folder, from its log.jsonl, settings.json and machine.json: machine, settings, step,
    seconds, and metrics with a band for each."""
    folder = Path(folder)
    log = read_log(folder / "log.jsonl")
    lines = len(log["step"])
    at = np.unique(np.concatenate([np.arange(min(FIRST, lines)), np.linspace(FIRST, lines - 1, POINTS).round()]))
    at = at[at < lines].astype(int)
    machine = read_json(folder / "machine.json")
    metrics = {name: band(values, at) for name, values in log.items() if name not in ("step", "seconds")}
    return dict(
        machine={key: value for key, value in machine.items() if key not in ("process", "host")},  # of that run only
        settings=read_json(folder / "settings.json"),
        step=[int(v) for v in log["step"][at]],
        seconds=[float(v) for v in log["seconds"][at]],
        metrics=metrics,
    )


def curve_of_seeds(logs: list[dict], **about) -> dict:
    """One curve of several runs that differ only in their seeds.

    logs    {column: float [M]} of every run, of at most FIRST + POINTS lines, all kept
    about   machine and settings, as `curve_of` has them

    A band covers all runs, and a line before and after. ValueError if the logs have different steps.
    """
    steps = logs[0]["step"]
    if any(list(log["step"]) != list(steps) for log in logs):
        raise ValueError("The logs have different steps; give logs of runs that differ only in their seeds.")
    metrics = {
        name: band(np.stack([log[name] for log in logs]), np.arange(len(steps)), around=1)
        for name in logs[0]
        if name not in ("step", "seconds")
    }
    seconds = np.median([log["seconds"] for log in logs], axis=0)
    return about | dict(step=[int(v) for v in steps], seconds=[round(float(v), 1) for v in seconds], metrics=metrics)


def reference(name: str) -> dict:
    """A shipped curve: `tokenizer`, `tokenizer_adversarial`, `superres_tokenizer` and so on, as `curve_of` made it.

    FileNotFoundError if it does not exist; the same holds for `experiment` and `result`.
    """
    return _load("curves", name, "reference curve")


def experiment(name: str) -> dict:
    """The results of `python -m experiments.NAME`: command, machine, settings, and one row per arm and seed."""
    return _load("experiments", name, "experiment")


def result(name: str) -> dict:
    """What `python tools/results.py --measure NAME` stored: command, date, machine, versions, result."""
    return _load("results", name, "result")


def _load(folder: str, name: str, what: str) -> dict:
    path = data_dir() / folder / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise FileNotFoundError(f"There is no {what} {name!r}; choose one of: {names}.")
    return read_json(path)
