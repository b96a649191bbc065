"""Parallel decoding and its twins with equal training (chapter 12): `python -m experiments.twins [ARM ...]`.

Small transformers of the same blocks, text, tokens, steps and batches: masked, autoregressive and diffusion. On 8 x 8
tokens each kind has three learning rates with one seed, and the best of them three seeds. On 16 x 16 tokens, of the
same pictures of 64 px by the super-resolution tokenizer, each kind has its best rate of 8 x 8. Every setting keeps for
each caption whether its picture is as asked and exact, so kinds are compared caption by caption. Names of arms after
the command run only these arms. Nothing else should run while seconds are measured (seed 0).
"""

import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from experiments.defaults import outcomes
from experiments.race import seconds_per_picture
from experiments.small import RUNS, SMALL, TRAIN, experiment
from minimuse.config import Preset, Sampling, TrainConfig, data_dir
from minimuse.evaluate.baselines import BASELINES, Twin, twin_config
from minimuse.evaluate.stored import weights_of
from minimuse.layers import abstract
from minimuse.muse import Muse, build
from minimuse.presets import get_preset
from minimuse.t5 import TextEncoder
from minimuse.train import stages
from minimuse.weights import find_checkpoint, load_weights, read_config

KINDS = dict(parallel="base", autoregressive="autoregressive", diffusion="diffusion")  # and the stage that trains it
GRIDS = {"8 x 8": "tokenizer", "16 x 16": "superres_tokenizer"}  # and the tokenizer
RATES = (0.33, 1.0, 3.0)  # times the rates of TRAIN
BATCHES = ("1", "16")
PARALLEL = dict(guidance=0.5, token_temperature=0.25, revise=0)
SETTINGS = {
    "parallel": [
        PARALLEL | dict(order=order, law=law, steps=steps)
        for order, law in (("confidence", "cosine"), ("halton", "exp"))
        for steps in (4, 8, 12, 24, 48)
    ],
    "autoregressive": [dict(guidance=t, token_temperature=heat) for t, heat in ((0.5, 1.0), (0.0, 0.25), (0.5, 0.25))],
    "diffusion": [dict(steps=steps, guidance=t) for steps in (10, 25, 50) for t in (1.0, 2.0)],
}
FIRST, CAPTIONS, SEEDS = 60_000, 240, (0, 1, 2)
ARMS = [f"{kind}, {grid}, rate {rate:g}" for grid in GRIDS for kind in KINDS for rate in RATES]


def preset_of(grid: str, train: TrainConfig) -> Preset:
    """Small transformers for the 64-pixel tokens of a tokenizer."""
    tiny, side = get_preset("tiny"), int(grid.split()[0])
    tokenizer = dataclasses.replace(getattr(tiny, GRIDS[grid]), image_size=64)
    base = dataclasses.replace(SMALL, grid=(side, side))
    return dataclasses.replace(
        tiny, tokenizer=tokenizer, base=base, train=tiny.train | dict.fromkeys(KINDS.values(), train)
    )


def prepare(run: Path, grid: str) -> None:
    """The tokenizer of the grid as the base's tokenizer, in the folder of a run."""
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "config.json").is_file():
        shipped = read_config(find_checkpoint("tiny"))
        values = dict(format=shipped["format"], preset="tiny", tokenizer=shipped[GRIDS[grid]] | dict(image_size=64))
        shutil.copyfile(find_checkpoint("tiny") / f"{GRIDS[grid]}.safetensors", run / "tokenizer.safetensors")
        (run / "config.json").write_text(json.dumps(values))


def trained(kind: str, grid: str, train: TrainConfig, run: Path) -> Any:
    """A Muse or a twin of it, trained in the folder `run` if it is not there yet."""
    preset, stage = preset_of(grid, train), KINDS[kind]
    prepare(run, grid)
    if not (run / f"{stage}.safetensors").is_file():
        # A folder of its own for each grid: the name of a cache does not depend on the size of the pictures.
        stages.train_transformer(preset, run, stage, RUNS / f"tokens-{grid.replace(' ', '')}")
    shipped = Muse.from_pretrained("tiny")
    configs: dict[str, Any] = dict(tokenizer=preset.tokenizer, base=preset.base)
    models: dict[str, Any] = dict(tokenizer=shipped.models[GRIDS[grid]])
    if kind == "parallel":
        models["base"] = load_weights(run / "base.safetensors", build("base", preset.base))
    muse = Muse(TextEncoder.from_pretrained("t5-scenes"), configs, models, dict(base=Sampling()), "t5-scenes")
    if kind == "parallel":
        return muse
    config: Any = twin_config(stage, preset)
    return Twin(
        stage, muse, config, load_weights(run / f"{stage}.safetensors", abstract(BASELINES[stage].module, config))
    )


def run(arm: str, seed: int) -> dict:
    kind, grid, rate = arm.split(", ")
    times = float(rate.split()[1])
    train = dataclasses.replace(TRAIN, seed=seed, learning_rate=times * TRAIN.learning_rate, muon=times * TRAIN.muon)
    draw = trained(kind, grid, train, RUNS / "twins" / f"{arm}-{seed}".replace(", ", "-").replace(" ", ""))
    found = []
    for options in SETTINGS[kind]:
        row = dict(options=options) | outcomes(draw, "val", seed, options, FIRST, CAPTIONS)
        row |= dict(seconds={b: seconds_per_picture(draw, int(b), options) for b in BATCHES}) if seed == 0 else {}
        found.append(row)
    return dict(settings=found)


def best(rows: list[dict], kind: str, grid: str = "8 x 8") -> str:
    """The arm of a kind whose best setting has the most pictures as asked, with seed 0."""
    asked = lambda row: max(setting["asked"].count("1") for setting in row["settings"])
    own = [row for row in rows if row["seed"] == 0 and row["arm"].startswith(f"{kind}, {grid}, ")]
    return max(own, key=asked)["arm"]


if __name__ == "__main__":
    settings = dict(train=dataclasses.asdict(TRAIN), model=dataclasses.asdict(SMALL), captions=CAPTIONS, first=FIRST)
    settings |= dict(rates=RATES, options=SETTINGS)
    repeat = functools.partial(
        experiment, "twins", weights=weights_of("tokenizer", "superres_tokenizer"), complete=True
    )
    path = data_dir() / "experiments" / "twins.json"
    swept, only = [arm for arm in ARMS if "8 x 8" in arm], sys.argv[1:]
    repeat(swept, run, settings, (0,), [arm for arm in only if arm in swept])
    if only != ["--about"] and path.is_file():
        rows = json.loads(path.read_text())["rows"]
        if len({row["arm"] for row in rows} & {*swept}) == len(swept):
            chosen = [best(rows, kind) for kind in KINDS]
            arms = [arm for one in chosen for arm in (one, one.replace("8 x 8", "16 x 16"))]
            repeat(arms, run, settings, SEEDS, [arm for arm in only if arm in arms])
