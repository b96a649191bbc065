"""What stored measurements were made with, and which of them are to be made again: `python -m minimuse evaluate all`.

A measurement is one file with its command, settings, result, and the fingerprint of the weights that it used. It is
current while the command, the settings and these weights are what they were.
"""

import dataclasses
import functools
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimuse.config import (
    AdversarialConfig,
    CriticTraining,
    DiffusionConfig,
    Sampling,
    StyleConfig,
    SuperresConfig,
    TrainConfig,
    TransformerConfig,
    VQGANConfig,
    data_dir,
)
from minimuse.files import read_json
from minimuse.t5 import find_t5
from minimuse.weights import find_checkpoint, fingerprint_of, read_config

# --- the fingerprint ------------------------------------------------------------------------------------------------


def weights_of(*stages: str, checkpoint: str = "tiny", text: bool = True, scorer: bool = True) -> dict[str, str]:
    """The fingerprint of the weights that a measurement uses: of these stages of a checkpoint, of its text encoder, and
    of the shipped scorer."""
    folder = find_checkpoint(checkpoint)
    files = [folder / f"{stage}.safetensors" for stage in stages]
    if text:
        name = read_config(folder)["text"]
        beside = folder / name  # a run keeps its own text encoder
        files += (beside if beside.is_dir() else find_t5(name)).glob("model*.safetensors")
    if scorer:
        files.append(find_checkpoint("scorer") / "scorer.safetensors")
    return fingerprint_of(*files)


def shipped_weights() -> dict[str, str]:
    """The fingerprint of all weights in data/."""
    return fingerprint_of(*data_dir().rglob("*.safetensors"))


def defaults_of(weights: dict[str, str]) -> dict[str, dict[str, Any]]:
    """How checkpoints draw where no option is given, by checkpoint and stage, of the stages in a fingerprint: part of
    what a measurement depends on."""
    found: dict[str, dict[str, Any]] = {}
    for number, stage in enumerate(("base", "superres")):
        for file in (data_dir() / name for name in weights if Path(name).stem == stage):
            if (file.parent / "config.json").is_file():
                values = read_config(file.parent).get("sampling", {})
                if stage in values:
                    found.setdefault(file.parent.name, {})[stage] = values[stage]
                    continue
                # Minimuse 0.1 wrote pairs for both stages.
                pick = lambda value, i=number: value[i] if isinstance(value, list) else value
                found.setdefault(file.parent.name, {})[stage] = {name: pick(value) for name, value in values.items()}
    return found


def differing(weights: dict[str, str]) -> list[str]:
    """The files of a fingerprint whose content in data/ is now different, or that are gone."""
    paths = {name: data_dir() / name for name in weights}
    return [name for name, path in paths.items() if not path.is_file() or fingerprint_of(path)[name] != weights[name]]


@functools.cache
def _defaults() -> dict[str, list[Any]]:
    """The defaults of every setting, by name, as JSON has them."""
    records = (SuperresConfig, DiffusionConfig, VQGANConfig, AdversarialConfig, CriticTraining, StyleConfig, Sampling)
    found: dict[str, list[Any]] = {}
    for field in itertools.chain.from_iterable(map(dataclasses.fields, (TransformerConfig, TrainConfig, *records))):
        found.setdefault(field.name, []).append(json.loads(json.dumps(field.default, default=str)))
    return found


def same_settings(stored: Any, now: Any) -> bool:
    """Whether two settings, as JSON has them, are equal. A setting that was added since makes no difference if it has
    its default, or a pair of them for two stages: with it, everything is as it was before."""
    if not isinstance(stored, dict) or not isinstance(now, dict):
        return stored == now

    def is_default(name: str) -> bool:
        value, known = now[name], _defaults().get(name, [])
        if isinstance(value, dict):
            return same_settings({}, value)
        return value in known or (isinstance(value, list) and len(value) == 2 and all(one in known for one in value))

    same = stored.keys() <= now.keys() and all(same_settings(stored[name], now[name]) for name in stored)
    return same and all(is_default(name) for name in now.keys() - stored.keys())


def same_defaults(stored: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a stored file was made with these sampling defaults, `defaults_of` the same checkpoints."""
    before = stored.get("defaults", {})
    return before.keys() == now.keys() and same_settings(before, now)


# --- making them again ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """One stored file and how it is made.

    name        different from that of every other
    path        the JSON file, with `command`, `weights`, `defaults`, `took` (seconds), and for an experiment
                `settings`, `runs` and `rows`
    measure     writes it, whole or not at all; measure(fresh): an experiment first moves stored rows away if `fresh`,
                else it continues from them
    now         what an experiment would store now: `settings`, `weights`, `defaults` and `runs`
    """

    name: str
    command: str
    path: Path
    measure: Callable[[bool], None]
    now: Callable[[], dict[str, Any]] = dict

    def stored(self) -> dict[str, Any] | None:
        """The file's content, None if it does not exist."""
        return read_json(self.path) if self.path.is_file() else None

    def outdated(self) -> str:
        """Why the stored file is not what would be measured now; "" if it is, or if it only lacks some runs."""
        stored = self.stored()
        if stored is None:
            return "not measured yet"
        if stored["command"] != self.command:
            return "the command is now different"
        if "weights" not in stored:
            return "stored without a fingerprint"
        if names := differing(stored["weights"]):
            return f"other weights: {', '.join(names)}"
        try:
            now = self.now()
        except subprocess.CalledProcessError:
            return "its settings cannot be read"
        if not same_defaults(stored, now.get("defaults", defaults_of(stored["weights"]))):
            return "other sampling defaults"
        if stored["weights"] != now.get("weights", stored["weights"]):
            return "other settings"
        if not same_settings(stored.get("settings"), now.get("settings", stored.get("settings"))):
            return "other settings"
        return ""

    def missing(self) -> int:
        """How many runs a stored, current experiment still lacks."""
        runs, stored = self.now().get("runs", 0), self.stored() or {}
        return max(0, runs - len(stored.get("rows", ())))

    def expected(self, runs: int = 0) -> float | None:
        """Seconds that it will take, from the time that it took before: all of it, or `runs` of an experiment.
        None if that is not known."""
        stored = self.stored() or {}
        seconds, rows = stored.get("took"), len(stored.get("rows", ()))
        if seconds is None or not rows:
            return seconds
        return seconds * (runs or stored.get("runs", rows)) / rows


def duration(seconds: float) -> str:
    """ "45 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def together(times: Iterable[float | None]) -> str:
    """The sum of these seconds, and how many are unknown."""
    times = list(times)
    known, unknown = [seconds for seconds in times if seconds is not None], times.count(None)
    parts = [duration(sum(known))] * (len(known) > 0 or not unknown)
    return ", and ".join(parts + ["unknown time" if unknown == 1 else f"unknown time for {unknown}"] * (unknown > 0))


def remake(
    measurements: Sequence[Measurement], *, again: bool = False, plan: bool = False, report: Callable = print
) -> list[str]:
    """Measure in this order what is not current; returns the names of those that failed.

    again    measure those that are current, too
    plan     only report what would be measured, and how long that takes

    What fails is reported, and the rest is measured. An interruption loses what is being measured at that moment, and
    the same call continues.
    """
    todo = []  # with the reason, how many runs of an experiment (0: all of it), and the seconds that it takes
    for each in measurements:
        reason = "again" if again else each.outdated()
        runs = 0 if reason else each.missing()
        if reason or runs:
            todo.append((each, reason or f"{runs} runs are missing", runs, each.expected(runs)))
    report(f"{len(measurements) - len(todo)} of {len(measurements)} are current.")
    for each, reason, _, seconds in todo:
        report(f"  {each.name}: {reason} ({together([seconds])})")
    if todo:
        report(f"All of it takes {together(seconds for *_, seconds in todo)}.")
    failed: list[str] = []
    for number, (each, _, runs, _) in enumerate([] if plan else todo, 1):
        report(f"{each.name}: {each.command}")
        begun = time.monotonic()
        try:
            each.measure(not runs)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            failed.append(each.name)
            report(f"{each.name} failed: {error}")
        left = together(seconds for *_, seconds in todo[number:])
        report(f"{each.name}: {duration(time.monotonic() - begun)}; the rest takes {left}.")
    return failed
