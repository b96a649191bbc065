"""A small base transformer, and the loop over the arms and seeds of an experiment."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from minimuse.config import Preset, TrainConfig, TransformerConfig, data_dir
from minimuse.evaluate.fidelity import evaluate_generation
from minimuse.files import write_text
from minimuse.muse import Muse
from minimuse.presets import get_preset
from minimuse.t5 import TextEncoder
from minimuse.train import stages
from minimuse.train.loop import machine
from minimuse.weights import abstract, load_weights

RUNS = Path("runs/experiments")
SMALL = TransformerConfig(width=128, depth=4, heads=4, mlp_width=512)
TRAIN = TrainConfig(steps=2000, batch=16, learning_rate=3e-3, muon=0.01, scenes=16_000, label_smoothing=0.0)
SEEDS = (0, 1, 2)
KEPT = ("overall", "tasks", "facts", "frechet")  # of what `evaluate_generation` measures


def small_preset(train: TrainConfig) -> Preset:
    """The preset tiny with the small transformer, for the shipped tokenizer's tokens."""
    tiny = get_preset("tiny")
    return dataclasses.replace(tiny, base=SMALL, train=tiny.train | dict(base=train))


def muse_of(base: dict, text: TextEncoder) -> Muse:
    """The shipped Muse with another base transformer and text encoder."""
    shipped = Muse.from_pretrained("tiny", superres=False)
    configs, params = shipped.configs | dict(base=SMALL), shipped.params | dict(base=base)
    return Muse(text, configs, params, shipped.sampling, "t5-scenes")


def trained_muse(run: Path, train: TrainConfig) -> Muse:
    """Train the small transformer in the folder `run`, or take it from there. It reads run/text, or else t5-scenes."""
    preset = small_preset(train)
    if not (run / "base.safetensors").is_file():
        stages.train_base(preset, run, RUNS)
    return muse_of(load_weights(run / "base.safetensors", abstract("base", SMALL)[1]), stages.load_text(preset, run))


def measured(muse: Muse, n: int, split: str = "val", **options) -> dict:
    """What `evaluate_generation` says of n captions, without the seconds."""
    result = evaluate_generation(muse, split=split, n=n, **options)
    return {key: result[key] for key in KEPT if key in result}


def experiment(
    name: str, arms: list[str], run: Callable, settings: dict, seeds: tuple[int, ...] = SEEDS, only: Sequence[str] = ()
) -> None:
    """run(arm, seed) -> a dict of measures, for every arm and seed; a row that is there already is not run again.

    only    these arms alone, so that two processes, each on a core of its own, can share an experiment
    """
    if unknown := [arm for arm in only if arm not in arms]:
        sys.exit(f"{name} has no arm {unknown[0]!r}; its arms are: {'; '.join(arms)}.")
    path = data_dir() / "experiments" / f"{name}.json"
    about = dict(command=f"python -m experiments.{name}", settings=json.loads(json.dumps(settings)))

    def rows() -> dict:
        """What is there now, by seed and arm, from this process and others."""
        before = json.loads(path.read_text()) if path.is_file() else about | dict(rows=[])
        if before["settings"] != about["settings"]:
            sys.exit(f"{path} holds the experiment with other settings. Move it and {RUNS / name} away to run it anew.")
        return {(row["seed"], row["arm"]): row for row in before["rows"]}

    path.parent.mkdir(exist_ok=True)
    place = lambda row: (row["seed"], arms.index(row["arm"]) if row["arm"] in arms else len(arms))
    for seed in seeds:  # all arms with one seed first, so that a stopped experiment still compares
        for arm in only or arms:
            if (seed, arm) in rows():
                continue
            print(f"{name}: {arm}, seed {seed}", flush=True)
            row = dict(arm=arm, seed=seed) | run(arm, seed)
            found = sorted((rows() | {(seed, arm): row}).values(), key=place)
            values = about | dict(machine=machine(), rows=found)
            write_text(path, json.dumps(values, indent=1) + "\n")
