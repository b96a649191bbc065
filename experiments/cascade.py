"""A cascade against one large model (chapter 09): `python -m experiments.cascade`.

cascade            a small base transformer for 8 x 8 tokens, and a small super-resolution transformer.
cascade, no noise  the second stage trained only on true low-resolution tokens.
direct             one transformer for 32 x 32 tokens, of the second stage's width and depth.
direct, deep       the same with as many weights as both stages of the cascade.

All have the same training time, computed as steps times MILLISECONDS, so that several can be trained at the same time.
`--time` measures MILLISECONDS on this machine. Names of arms after the command run only these arms, so that processes
can share the work. It takes a GPU some minutes, two cores many hours.
"""

import dataclasses
import functools
import json
import shutil
import sys
import time
from pathlib import Path

import jax
import numpy as np

from experiments.small import RUNS, SAMPLING, SMALL, TRAIN, experiment, measured, own_sampling
from minimuse.config import Preset, SuperresConfig, TransformerConfig
from minimuse.data.cache import TokenCache
from minimuse.evaluate.stored import weights_of
from minimuse.muse import Muse, build, init_stage
from minimuse.presets import get_preset
from minimuse.train import losses, stages
from minimuse.train.step import init_state, make_step
from minimuse.weights import find_checkpoint, load_weights, read_config

SUPERRES = SuperresConfig()
SIZE = dict(grid=SUPERRES.grid, window=SUPERRES.window, width=SUPERRES.width, heads=SUPERRES.heads)
DIRECT = TransformerConfig(**SIZE, depth=SUPERRES.depth, mlp_width=SUPERRES.mlp_width)
FIRST_STAGE = dataclasses.replace(TRAIN, steps=2000, batch=32, scenes=24_000)
SECOND = dataclasses.replace(FIRST_STAGE, steps=1000, low_noise=0.2)
DEEP = dataclasses.replace(DIRECT, depth=11)
ARMS = ("cascade", "direct", "direct, deep", "cascade, no noise")
# A training step of 32 pictures on an otherwise idle H200, as `--time` printed it there.
MILLISECONDS = {"base": 2.03, "superres": 10.3, "direct": 7.68, "direct, deep": 18.4}
SPENT = FIRST_STAGE.steps * MILLISECONDS["base"] + SECOND.steps * MILLISECONDS["superres"]
STEPS = {arm: round(SPENT / MILLISECONDS[arm]) for arm in ("direct", "direct, deep")}
FIRST, CAPTIONS, SEEDS = 10_000, 128, (0, 1)


def train_cascade(run: Path, noise: float, seed: int) -> Preset:
    """Both small stages; the first is the same for every second stage."""
    tiny = get_preset("tiny")
    base = dataclasses.replace(FIRST_STAGE, seed=seed)
    second = dataclasses.replace(SECOND, seed=seed, low_noise=noise)
    preset = dataclasses.replace(
        tiny, base=SMALL, superres=SUPERRES, train=tiny.train | dict(base=base, superres=second)
    )
    for stage, folder in (("base", RUNS / "cascade" / f"base-{seed}"), ("superres", run)):
        if not (folder / f"{stage}.safetensors").is_file():
            stages.train_transformer(preset, folder, stage, RUNS)
        if folder != run:
            run.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / f"{stage}.safetensors", run / f"{stage}.safetensors")
    return preset


def direct_preset(run: Path, config: TransformerConfig, steps: int, seed: int) -> Preset:
    """One transformer for the fine grid; its tokenizer, the super-resolution one, is copied to `run`."""
    tiny, name = get_preset("tiny"), "superres_tokenizer"
    train = dataclasses.replace(SECOND, seed=seed, steps=steps, low_noise=0.0)
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find_checkpoint("tiny") / f"{name}.safetensors", run / "tokenizer.safetensors")
    if not (run / "config.json").is_file():
        shipped = read_config(find_checkpoint("tiny"))
        values = dict(format=shipped["format"], preset=tiny.name, tokenizer=shipped[name])
        (run / "config.json").write_text(json.dumps(values))
    return dataclasses.replace(
        tiny, tokenizer=tiny.superres_tokenizer, base=config, train=tiny.train | dict(base=train)
    )


def train_direct(run: Path, config: TransformerConfig, steps: int, seed: int) -> Preset:
    """The one transformer, trained."""
    preset = direct_preset(run, config, steps, seed)
    if not (run / "base.safetensors").is_file():
        stages.train_transformer(preset, run, caches=RUNS)
    return preset


def muse_of(run: Path, preset: Preset, names: tuple[str, ...]) -> Muse:
    """The shipped Muse's tokenizers and text with these transformers of a run, without the fine-tuned decoder."""
    shipped = Muse.from_pretrained("tiny", superres=False)
    configs, models = dict(shipped.configs), dict(shipped.models)
    if names == ("base",):  # direct: the base's tokens are those of the fine tokenizer
        configs, models = (dict(tokenizer=values["superres_tokenizer"]) for values in (configs, models))
    for name in names:
        configs[name] = getattr(preset, name)
        models[name] = load_weights(run / f"{name}.safetensors", build(name, configs[name]))
    return Muse(shipped.text, configs, models, SAMPLING, shipped.text_name)


def milliseconds(config: TransformerConfig, rounds: int = 100) -> float:
    """Milliseconds of a training step of such a transformer, on random tokens and texts."""
    name, rng = "superres" if isinstance(config, SuperresConfig) else "base", np.random.default_rng(0)
    n, words = 2 * SECOND.batch, 12
    tokens, low = (rng.integers(0, config.codebook_size, (n, *grid)) for grid in (config.grid, SUPERRES.low_grid))
    text = rng.normal(size=(n * words, config.text_width)).astype(np.float16)
    ends = np.arange(1, n + 1) * words
    cache = TokenCache(tokens.astype(np.uint16), text, ends, low.astype(np.uint16) if name == "superres" else None)
    step = make_step(functools.partial(losses.transformer_loss, config, SECOND), SECOND)
    state, begun = init_state(init_stage(name, config), SECOND), 0.0
    for i in range(-3, rounds):
        if not i:
            jax.block_until_ready(state)
            begun = time.perf_counter()
        state, _ = step(state, cache.batch(np.arange(SECOND.batch) + (i % 2) * SECOND.batch))
    jax.block_until_ready(state)
    return float(f"{1000 * (time.perf_counter() - begun) / rounds:.3g}")


def run(arm: str, seed: int) -> dict:
    folder = RUNS / "cascade" / f"{arm}-{seed}".replace(", ", "-").replace(" ", "-")
    if arm in STEPS:
        preset = train_direct(folder, DEEP if "deep" in arm else DIRECT, STEPS[arm], seed)
        names, spent = ("base",), STEPS[arm] * MILLISECONDS[arm]
    else:
        preset = train_cascade(folder, 0.0 if "no noise" in arm else SECOND.low_noise, seed)
        names, spent = ("base", "superres"), SPENT
    muse = muse_of(folder, preset, names)
    weights = sum(x.size for name in names for x in jax.tree.leaves(muse.models[name]))
    # 24 and 8 steps, as in the paper. The best noise for 64 tokens may differ from that for 1,024: direct gets the
    # better of two.
    ways = [dict(temperature=value, steps=24) for value in (0.0, 4.5)] if arm in STEPS else [dict(steps=(24, 8))]
    found = [dict(options=way) | measured(muse, CAPTIONS, first=FIRST, **way) for way in ways]
    return dict(seconds=round(spent / 1000, 1), weights=weights) | max(found, key=lambda row: row["overall"])


if __name__ == "__main__":
    if "--time" in sys.argv:
        models = {"base": SMALL, "superres": SUPERRES, "direct": DIRECT, "direct, deep": DEEP}
        sys.exit(print(json.dumps({name: milliseconds(config) for name, config in models.items()})))
    about = dict(base=FIRST_STAGE, second=SECOND, small=SMALL, superres=SUPERRES, direct=DIRECT, deep=DEEP)
    settings = {name: dataclasses.asdict(values) for name, values in about.items()}
    settings |= dict(steps=STEPS, milliseconds=MILLISECONDS, captions=CAPTIONS, first=FIRST, own=own_sampling())
    weights = weights_of("tokenizer", "superres_tokenizer")
    experiment("cascade", list(ARMS), run, settings, seeds=SEEDS, only=sys.argv[1:], weights=weights)
