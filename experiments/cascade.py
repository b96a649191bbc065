"""A cascade against one large model (chapter 09): `python -m experiments.cascade`.

cascade            a small base transformer for 8 x 8 tokens, and a small super-resolution transformer
cascade, no noise  the second stage trained on true low-resolution tokens alone
direct             one transformer for 32 x 32 tokens, of the second stage's width and depth
direct, deep       the same with as many weights as both stages of the cascade

All with about the same training time: STEPS were chosen so, and every row tells the seconds that it took. Names of arms
after the command run these alone: two processes, each pinned to a core, can share the work.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import jax

from experiments.small import RUNS, SMALL, TRAIN, experiment, measured
from minimuse import stages, training
from minimuse.config import Preset, SuperresConfig, TransformerConfig, get_preset
from minimuse.muse import Muse
from minimuse.weights import abstract, find_checkpoint, load_weights, read_config

SUPERRES = SuperresConfig()
SIZE = dict(grid=SUPERRES.grid, window=SUPERRES.window, width=SUPERRES.width, heads=SUPERRES.heads)
DIRECT = TransformerConfig(**SIZE, depth=SUPERRES.depth, mlp_width=SUPERRES.mlp_width)
SECOND = dataclasses.replace(TRAIN, steps=400, batch=8, scenes=4000, low_noise=0.2)
ARMS = ("cascade", "direct", "direct, deep", "cascade, no noise")
STEPS = {"direct": 620, "direct, deep": 240}  # of a batch of 8
DEEP = dataclasses.replace(DIRECT, depth=11)
FIRST, CAPTIONS = 10_000, 128


def train_cascade(run: Path, noise: float, seed: int) -> Preset:
    """Both small stages; the first is the same whatever the second is trained on."""
    tiny = get_preset("tiny")
    base = dataclasses.replace(TRAIN, seed=seed)
    second = dataclasses.replace(SECOND, seed=seed, low_noise=noise)
    preset = dataclasses.replace(
        tiny, base=SMALL, superres=SUPERRES, train=tiny.train | dict(base=base, superres=second)
    )
    for stage, folder in (("base", RUNS / "cascade" / f"base-{seed}"), ("superres", run)):
        if not (folder / f"{stage}.safetensors").is_file():
            stages.train_base(preset, folder, RUNS, stage)
        if folder != run:
            run.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / f"{stage}.safetensors", run / f"{stage}.safetensors")
    return preset


def train_direct(run: Path, config: TransformerConfig, steps: int, seed: int) -> Preset:
    """One transformer for the fine grid. The tokenizer it draws into is the super-resolution stage's."""
    tiny, name = get_preset("tiny"), "superres_tokenizer"
    train = dataclasses.replace(SECOND, seed=seed, steps=steps, low_noise=0.0)
    preset = dataclasses.replace(
        tiny, tokenizer=tiny.superres_tokenizer, base=config, train=tiny.train | dict(base=train)
    )
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find_checkpoint("tiny") / f"{name}.safetensors", run / "tokenizer.safetensors")
    if not (run / "config.json").is_file():
        shipped = read_config(find_checkpoint("tiny"))
        values = dict(format=shipped["format"], preset=tiny.name, tokenizer=shipped[name])
        (run / "config.json").write_text(json.dumps(values))
    if not (run / "base.safetensors").is_file():
        stages.train_base(preset, run, RUNS)
    return preset


def muse_of(run: Path, preset: Preset, names: tuple[str, ...]) -> Muse:
    """The shipped Muse's tokenizers and text with these transformers of a run, and its small decoder alone."""
    shipped = Muse.from_pretrained("tiny", superres=False)
    configs, params = dict(shipped.configs), dict(shipped.params)
    if names == ("base",):  # direct: what the base draws is of the fine tokenizer
        configs, params = (dict(tokenizer=values["superres_tokenizer"]) for values in (configs, params))
    for name in names:
        configs[name] = getattr(preset, name)
        params[name] = load_weights(run / f"{name}.safetensors", abstract(name, configs[name])[1])
    return Muse(shipped.text, configs, params, shipped.sampling, shipped.text_name)


def seconds_of(folder: Path) -> float:
    return float(training.read_log(folder / "log.jsonl")["seconds"][-1])


def run(arm: str, seed: int) -> dict:
    folder = RUNS / "cascade" / f"{arm}-{seed}".replace(", ", "-").replace(" ", "-")
    if arm in STEPS:
        preset = train_direct(folder, DEEP if "deep" in arm else DIRECT, STEPS[arm], seed)
        names, spent = ("base",), seconds_of(folder / "base")
    else:
        preset = train_cascade(folder, 0.0 if "no noise" in arm else SECOND.low_noise, seed)
        names = ("base", "superres")
        spent = seconds_of(RUNS / "cascade" / f"base-{seed}" / "base") + seconds_of(folder / "superres")
    muse = muse_of(folder, preset, names)
    weights = sum(x.size for name in names for x in jax.tree.leaves(muse.params[name]))
    # 24 and 8 steps, as in the paper. Noise that suits 64 tokens need not suit 1,024: direct gets the better of two.
    ways = [dict(temperature=value, steps=24) for value in (0.0, 4.5)] if arm in STEPS else [dict(steps=(24, 8))]
    found = [dict(options=way) | measured(muse, CAPTIONS, first=FIRST, **way) for way in ways]
    return dict(seconds=spent, weights=weights) | max(found, key=lambda row: row["overall"])


if __name__ == "__main__":
    about = dict(base=TRAIN, second=SECOND, small=SMALL, superres=SUPERRES, direct=DIRECT, deep=DEEP)
    settings = {name: dataclasses.asdict(values) for name, values in about.items()}
    settings |= dict(steps=STEPS, captions=CAPTIONS, first=FIRST)
    experiment("cascade", list(ARMS), run, settings, seeds=(0, 1), only=sys.argv[1:])
