"""Parallel decoding and its twins with 64 and with 256 tokens (chapter 12): `python -m experiments.grids`.

A small transformer, trained on the same 64 px pictures as the masked, the autoregressive and the diffusion model, for
8 x 8 tokens of the tokenizer and for 16 x 16 of the finer one of super-resolution. All have the same sizes and the same
steps of training. Each then draws the same captions in several ways, from fast to good: how many pictures are as asked,
and exact, and how long does one take, at batch 1 and at batch 16? Nothing else should run while that is measured;
`--train` only trains. Names of arms after the command run only these arms.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from experiments.defaults import outcomes
from experiments.race import BATCHES, seconds_per_picture
from experiments.small import RUNS, SMALL, experiment
from minimuse.config import Preset, Sampling, TrainConfig
from minimuse.evaluate.baselines import BASELINES, Twin, twin_config
from minimuse.evaluate.stored import weights_of
from minimuse.layers import abstract
from minimuse.muse import Muse, build
from minimuse.presets import get_preset
from minimuse.train import stages
from minimuse.weights import find_checkpoint, load_weights, read_config

TOKENIZERS = {8: "tokenizer", 16: "superres_tokenizer"}  # by the side of the grid at 64 px
TRAIN = TrainConfig(steps=3000, batch=16, learning_rate=3e-3, muon=0.01, scenes=16_000, label_smoothing=0.0)
MODELS = ("masked", "autoregressive", "diffusion")
ARMS = {f"{side} x {side}, {model}": (side, model) for side in TOKENIZERS for model in MODELS}
OWN = Sampling(order="halton", law="exp", guidance=0.5, token_temperature=0.25)
WAYS: dict[str, list[dict[str, Any]]] = {
    "masked": [dict(steps=steps) for steps in (4, 8, 12, 24, 48)],
    "autoregressive": [dict(guidance=t, token_temperature=heat) for t, heat in ((0.0, 0.25), (0.5, 0.25), (0.5, 1.0))],
    "diffusion": [dict(steps=steps, guidance=1.0) for steps in (10, 25, 50)],
}
FIRST, CAPTIONS = 10_000, 240


def preset_of(side: int, run: Path, train: TrainConfig) -> Preset:
    """The preset tiny with the small transformer and twins for a grid of that side; their tokenizer is copied into the
    folder `run`."""
    tiny, name, shipped = get_preset("tiny"), TOKENIZERS[side], find_checkpoint("tiny")
    tokenizer = dataclasses.replace(getattr(tiny, name), image_size=64)
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shipped / f"{name}.safetensors", run / "tokenizer.safetensors")
    if not (run / "config.json").is_file():
        values = dict(format=read_config(shipped)["format"], preset=tiny.name, tokenizer=dataclasses.asdict(tokenizer))
        (run / "config.json").write_text(json.dumps(values))
    config = dataclasses.replace(SMALL, grid=(side, side))
    return dataclasses.replace(
        tiny, tokenizer=tokenizer, base=config, train=tiny.train | dict.fromkeys(("base", *BASELINES), train)
    )


def trained(arm: str, seed: int) -> tuple[Preset, Path, str]:
    """Preset, folder and stage of an arm, trained if it is not there yet."""
    side, model = ARMS[arm]
    stage = "base" if model == "masked" else model
    run = RUNS / "grids" / f"{side}-{seed}"
    preset = preset_of(side, run, dataclasses.replace(TRAIN, seed=seed))
    if not (run / f"{stage}.safetensors").is_file():
        stages.train_transformer(preset, run, stage)
    return preset, run, stage


def drawer(arm: str, seed: int) -> Muse | Twin:
    """The shipped Muse's tokenizer and text with the small transformer, or that transformer's twin."""
    (preset, run, stage), shipped = trained(arm, seed), Muse.from_pretrained("tiny")
    tokenizer = shipped.models[TOKENIZERS[ARMS[arm][0]]]
    configs, models = dict(tokenizer=preset.tokenizer), dict(tokenizer=tokenizer)
    module, config = build("base", preset.base), preset.base
    if stage != "base":
        config = twin_config(stage, preset)
        module = abstract(BASELINES[stage].module, config)
    model = load_weights(run / f"{stage}.safetensors", module)
    configs["base"], models["base"] = preset.base, model
    muse = Muse(shipped.text, configs, models, dict(base=OWN), shipped.text_name)
    return muse if stage == "base" else Twin(stage, muse, config, model)


def run(arm: str, seed: int) -> dict:
    draw, found = drawer(arm, seed), []
    for way in WAYS[ARMS[arm][1]]:
        seconds = {str(batch): seconds_per_picture(draw, batch, way) for batch in BATCHES}
        found.append(dict(options=way, seconds=seconds) | outcomes(draw, "val", seed, way, FIRST, CAPTIONS))
    return dict(ways=found)


if __name__ == "__main__":
    only = [arm for arm in sys.argv[1:] if not arm.startswith("--")]
    if "--train" in sys.argv:
        sys.exit([trained(arm, 0) for arm in only or ARMS] and None)
    settings = dict(train=dataclasses.asdict(TRAIN), model=dataclasses.asdict(SMALL), ways=WAYS, captions=CAPTIONS)
    settings |= dict(own=dataclasses.asdict(OWN), first=FIRST)
    weights = weights_of("tokenizer", "superres_tokenizer")
    experiment("grids", list(ARMS), run, settings, (0,), only, weights=weights, complete=True)
