"""A small base transformer, and the loop over the arms and seeds of an experiment."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from minimuse.config import Preset, Sampling, TrainConfig, TransformerConfig, data_dir, sampling_to_dict
from minimuse.evaluate.fidelity import evaluate_generation
from minimuse.evaluate.stored import defaults_of, same_defaults, same_settings
from minimuse.files import write_text
from minimuse.muse import Muse, build
from minimuse.presets import get_preset
from minimuse.t5 import TextEncoder
from minimuse.train import stages
from minimuse.train.inputs import load_text
from minimuse.train.loop import machine
from minimuse.transformer import BaseTransformer
from minimuse.weights import load_weights

RUNS = Path("runs/experiments")
SMALL = TransformerConfig(width=128, depth=4, heads=4, mlp_width=512)
TRAIN = TrainConfig(steps=2000, batch=16, learning_rate=3e-3, muon=0.01, scenes=16_000, label_smoothing=0.0)
SAMPLING = dict(base=Sampling(), superres=Sampling(steps=8, guidance=0.0))  # the paper's order and law, for all of them
SEEDS = (0, 1, 2)
# Of the numbers of `evaluate_generation`:
KEPT = ("overall", "exact", "tasks", "exact_tasks", "facts", "frechet", "frechet_random", "floor")


def small_preset(train: TrainConfig) -> Preset:
    """The preset tiny with the small transformer, for the shipped tokenizer's tokens."""
    tiny = get_preset("tiny")
    return dataclasses.replace(tiny, base=SMALL, train=tiny.train | dict(base=train))


def muse_of(base: BaseTransformer, text: TextEncoder) -> Muse:
    """The shipped Muse with a different base transformer and text encoder."""
    shipped = Muse.from_pretrained("tiny", superres=False)
    configs, models = shipped.configs | dict(base=SMALL), shipped.models | dict(base=base)
    return Muse(text, configs, models, SAMPLING, "t5-scenes")


def load_small(run: Path) -> BaseTransformer:
    """The small transformer that was trained in the folder `run`."""
    model = load_weights(run / "base.safetensors", build("base", SMALL))
    assert isinstance(model, BaseTransformer)
    return model


def trained_muse(run: Path, train: TrainConfig) -> Muse:
    """Train the small transformer in the folder `run`, or load it from there. Its text encoder is that of run/text, or
    t5-scenes if there is none."""
    preset = small_preset(train)
    if not (run / "base.safetensors").is_file():
        stages.train_transformer(preset, run, caches=RUNS)
    return muse_of(load_small(run), load_text(preset, run))


def own_sampling() -> dict[str, Any]:
    """How the small transformers draw where no option is given."""
    return sampling_to_dict(SAMPLING)["base"]


def measured(muse: Any, n: int, split: str = "val", **options: Any) -> dict:
    """The numbers of `evaluate_generation` for n captions, without the seconds. `muse` is a Muse or has its
    `generate`."""
    result = evaluate_generation(muse, split=split, n=n, **options)
    return {key: result[key] for key in KEPT if key in result}


def experiment(
    name: str,
    arms: list[str],
    run: Callable,
    settings: dict,
    seeds: tuple[int, ...] = SEEDS,
    only: Sequence[str] = (),
    *,
    weights: dict[str, str],
    complete: bool = False,
    once: Collection[str] = (),
) -> None:
    """run(arm, seed) -> a dict of numbers, for every arm and seed; a row that is already stored is not run again.

    only       run only these arms, so that two processes, each on a core of its own, can share an experiment
    weights    the fingerprint of the shipped weights that it uses (`stored.weights_of`)
    complete   `run` gives every sampling option itself, so the checkpoint's defaults do not count
    once       arms that run with the first seed only

    With `--about` after the command it only prints what it would store about itself (tools/results.py asks that).
    """
    path = data_dir() / "experiments" / f"{name}.json"
    about = dict(command=f"python -m experiments.{name}", settings=json.loads(json.dumps(settings)), weights=weights)
    pairs = [(seed, arm) for seed in seeds for arm in arms if seed == seeds[0] or arm not in once]
    about |= dict(defaults={} if complete else defaults_of(weights), runs=len(pairs))
    if sys.argv[1:] == ["--about"]:
        return print(json.dumps(about))
    if unknown := [arm for arm in only if arm not in arms]:
        sys.exit(f"{name} has no arm {unknown[0]!r}; its arms are: {'; '.join(arms)}.")

    def stored() -> dict:
        """What is stored now, of all processes."""
        before = json.loads(path.read_text()) if path.is_file() else about | dict(rows=[])
        same = dict(settings=same_settings(before["settings"], about["settings"]))
        same |= dict(weights=before["weights"] == about["weights"], defaults=same_defaults(before, about["defaults"]))
        for key in (key for key in same if not same[key]):
            sys.exit(f"{path} has different {key}. Move it and {RUNS / name} away to run the experiment again.")
        return before

    rows = lambda: {(row["seed"], row["arm"]): row for row in stored()["rows"]}
    path.parent.mkdir(exist_ok=True)
    order = lambda row: (row["seed"], arms.index(row["arm"]) if row["arm"] in arms else len(arms))
    for seed, arm in pairs:  # all arms with one seed first, so that a stopped experiment still compares
        if (only and arm not in only) or (seed, arm) in rows():
            continue
        print(f"{name}: {arm}, seed {seed}", flush=True)
        begun = time.monotonic()
        row = dict(arm=arm, seed=seed) | run(arm, seed)
        took = round(stored().get("took", 0) + time.monotonic() - begun, 1)  # seconds of all rows
        found = sorted((rows() | {(seed, arm): row}).values(), key=order)
        values = about | dict(machine=machine(), took=took, rows=found)
        write_text(path, json.dumps(values, indent=1) + "\n")
