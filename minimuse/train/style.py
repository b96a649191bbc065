"""The stage `style`: adapters of a checkpoint's transformers, trained on a few captioned pictures (beyond/style.py).

Tokenizers, text encoder and transformers are the checkpoint's and stay as they are; only A and B are trained, by the
loss that trained the transformers. Both transformers get an adapter: the super-resolution transformer has learned how
plain pictures look, and draws a plain one from the base's tokens of another.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from minimuse import layers
from minimuse.beyond.style import Adapter, Style, fingerprint, merged
from minimuse.config import Preset, StyleConfig, TrainConfig, TransformerConfig
from minimuse.data.cache import TokenCache, batch_indices
from minimuse.data.sources import Pictures
from minimuse.evaluate.metrics import decibels
from minimuse.files import read_json
from minimuse.muse import Muse
from minimuse.processes import first_alone, is_first
from minimuse.train.devices import mesh_shape
from minimuse.train.loop import Job, fit
from minimuse.train.losses import transformer_loss
from minimuse.train.step import Loss, make_step
from minimuse.transformer import BaseTransformer
from minimuse.weights import find_checkpoint

PHASES = {"base": "style", "superres": "style_superres"}  # names of the training settings, by transformer


def _draw(
    sizes: TransformerConfig, train: TrainConfig, scale: float, model: BaseTransformer, key: jax.Array, batch: dict
) -> dict:
    del scale, model
    return transformer_loss.draw(sizes, train, key, batch)


def _share(
    sizes: TransformerConfig,
    train: TrainConfig,
    scale: float,
    model: BaseTransformer,
    adapter: Adapter,
    rows: dict,
    batch: dict,
) -> tuple[jax.Array, dict, dict]:
    return transformer_loss.share(sizes, train, merged(model, adapter, scale), rows, batch)


style_loss = Loss(_draw, _share)
"""(sizes, train, scale, model, adapter, key, batch) -> (loss, metrics): `losses.transformer_loss` of the transformer
`model` with the adapter merged into it."""


def style_step(config: StyleConfig, sizes: TransformerConfig, train: TrainConfig, model: BaseTransformer) -> Callable:
    """A training step of an adapter, (state, batch) -> (state, metrics); the transformer's own weights stay."""

    # The weights are an argument: as constants they would be compiled into the program.
    @functools.partial(jax.jit, donate_argnums=1)
    def step(model: BaseTransformer, state: dict, batch: dict) -> tuple[dict, dict]:
        loss = functools.partial(style_loss, sizes, train, config.alpha / config.rank, model)
        return make_step(loss, train)(state, batch)

    return functools.partial(step, model)


def check(preset: Preset, out: Path) -> None:
    """ValueError or FileNotFoundError now for what would stop the training of a style."""
    if not preset.data:
        raise ValueError("A style is learned from your own captioned pictures; give them as --data FOLDER.")
    if (out / "config.json").is_file() and "style" not in read_json(out / "config.json"):
        raise ValueError(f"{out} holds a checkpoint or another run; choose a new folder, such as --out runs/my-style.")
    find_checkpoint(_checkpoint(preset))
    for phase in preset.phases(["style"]):
        mesh_shape(preset.run.mesh, preset.train[phase])
    layers.abstract(Adapter, preset.style, preset.base)


def _checkpoint(preset: Preset) -> str:
    return preset.train["style"].start or preset.name


def style_cache(muse: Muse, stage: str, source: Pictures, train: TrainConfig, flip: bool = False) -> TokenCache:
    """The pictures as a transformer of the Muse is trained on them. They are few: every start tokenizes them again."""
    stages = (stage,) if stage == "base" else (stage, "base")  # the low-resolution tokens last
    sizes = tuple(muse.tokenizer_config(each).image_size for each in stages)
    count, length = source.count(train), muse.configs["base"].text_length

    def tokenize(images: tuple[np.ndarray, ...]) -> Any:
        found = [muse.tokenize(each, of) for each, of in zip(images, stages)]
        return tuple(found) if len(found) > 1 else found[0]

    return TokenCache.build(
        lambda i: source.example(i, sizes, train),
        count,
        tokenize,
        lambda captions: muse.text.encode(captions, length=length),
        chunk=min(256, count),
        may_flip=np.array([source.may_flip(i) for i in range(count)]) if flip else None,
    )


def rebuilt_decibels(muse: Muse, stage: str, source: Pictures, most: int = 64) -> float:
    """PSNR of the pictures rebuilt from their tokens, in dB: what tokens do not hold, no adapter can draw."""
    size = muse.tokenizer_config(stage).image_size
    pictures = source.prepare(size).pixels([*range(len(source.prepare(size)))][:most], size)
    back = np.asarray(muse.detokenize(muse.tokenize(pictures, stage), stage))
    return float(decibels(jax.numpy.mean((back / 255 - pictures / 255) ** 2)))


def style_job(preset: Preset, muse: Muse, stage: str, source: Pictures) -> Job:
    """The adapter of a stage, base or superres."""
    train, sizes, model = preset.train[PHASES[stage]], muse.configs[stage], muse.models[stage]
    cache = style_cache(muse, stage, source, train, preset.pictures.flip)
    times = -(
        -train.batch // len(cache)
    )  # a dozen pictures may be fewer than a batch: each is then in it several times

    def batch_at(step: int) -> dict:
        rows = batch_indices(step, train.batch, times * len(cache), train.seed) % len(cache)
        return cache.batch(np.sort(rows), np.random.default_rng((train.seed, step)))

    about = dict(model=dataclasses.asdict(sizes), style=dataclasses.asdict(preset.style), of=fingerprint(model))
    return Job(
        layers.init(Adapter, preset.style, sizes, seed=train.seed),
        style_step(preset.style, sizes, train, model),
        batch_at,
        about=about | source.about,
    )


def train_style(preset: Preset, out: Path) -> None:
    """A style of the checkpoint that the settings start from, for each of its transformers that there are settings for;
    out is then a folder for `Muse.with_style`."""
    muse = Muse.from_pretrained(_checkpoint(preset))
    stages = [stage for stage, phase in PHASES.items() if stage in muse.configs and phase in preset.train]
    source = Pictures(preset.data, preset.pictures, [muse.tokenizer_config(stage).image_size for stage in stages])
    with first_alone():
        source.prepare()
    adapters = {}
    for stage in stages:
        if is_first():
            rebuilt = rebuilt_decibels(muse, stage, source)
            print(f"{stage}: its tokenizer rebuilds these pictures at {rebuilt:.1f} dB; what is lost there stays lost.")
        job = style_job(preset, muse, stage, source)
        adapters[stage] = fit(job, preset.train[PHASES[stage]], preset.run, out / PHASES[stage])["ema"]
    trained = {phase: dataclasses.asdict(preset.train[phase]) for phase in (PHASES[stage] for stage in stages)}
    Style(
        preset.style,
        {stage: muse.configs[stage] for stage in stages},
        adapters,
        {stage: fingerprint(muse.models[stage]) for stage in stages},
        dict(trained=trained, pictures=len(source.prepare())),
    ).save(out)
