"""The stages of training, in order: what each reads, trains and writes. `python -m minimuse train STAGE` calls these.

Every stage is a `Job` for `fit`, and what it writes when that is done. A run folder holds one folder per stage
(checkpoints, log) and grows into a checkpoint folder: config.json and one safetensors file per stage, which
`Muse.from_pretrained` reads.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minimuse import layers, vqgan
from minimuse.config import (
    TRANSFORMERS,
    AdversarialConfig,
    Preset,
    T5Config,
    VQGANConfig,
    from_dict,
    sampling_to_dict,
)
from minimuse.data.artwork import Artwork
from minimuse.data.cache import TokenCache, batch_indices, held_out_parts, held_out_rows
from minimuse.data.sources import Pictures, Scenes, WithArtwork, open_source
from minimuse.evaluate import baselines, fidelity, scorer
from minimuse.files import write_text
from minimuse.muse import STAGES, TOKENIZERS, build, init_stage
from minimuse.processes import first_alone, is_first
from minimuse.t5 import find_t5, read_t5_config, read_tokenizer, save_t5
from minimuse.train import adversarial, codebook, losses, style, t5_pretraining
from minimuse.train.critic import critic_job, label_of
from minimuse.train.devices import mesh_shape
from minimuse.train.init import sample_rows, start_from_codes, start_from_text, twin_from_codes
from minimuse.train.inputs import fingerprint, load_tokenizer, sizes_needed, token_cache
from minimuse.train.loop import Job, fit
from minimuse.train.memory import check_memory
from minimuse.train.perceptual import network_of
from minimuse.train.report import package_of
from minimuse.train.samples import sampler
from minimuse.train.scorer import scorer_loss, training_batch
from minimuse.train.starting import adopt, check_fit, starting_weights
from minimuse.train.step import make_step
from minimuse.vqgan import VQGAN, Decoder
from minimuse.weights import FORMAT, find_checkpoint, load_weights, read_config, save_weights

TEXT_SAMPLE = 200_000  # text tokens, at random from the whole cache, that show how their vectors vary


# --- before a run ---------------------------------------------------------------------------------------------------


def check(preset: Preset, names: tuple[str, ...], out: Path) -> None:
    """ValueError or FileNotFoundError now for what would stop one of these stages when those before it are done."""
    if names == ("style",):
        style.check(preset, out)
        names = ()
    phases = preset.phases(names)
    for phase in phases:
        train = preset.train[phase]
        mesh_shape(preset.run.mesh, train)
        if isinstance(train, AdversarialConfig):
            adversarial.check_whole(train)
            network_of(train, own=bool(preset.data))
        if phase == "critic":
            label_of(train)
        if train.start:
            _check_start(preset, phase, train.start)
    transformers = [preset.train[name] for name in names if name in TRANSFORMERS]
    if transformers and "text" not in names and not (out / "text" / "config.json").is_file():
        find_t5(preset.text)
    if transformers and preset.data:
        source = open_source(preset.data, preset.pictures)
        for train in transformers:
            batch_indices(0, train.batch, len(held_out_rows(train, source.at_most(train))[0]), train.seed)
    if preset.run.report:
        package_of(preset.run.report)
    check_memory(preset, tuple(phase for phase in phases if phase not in ("text", "scorer", "critic")))


def _check_start(preset: Preset, phase: str, start: str) -> None:
    """ValueError if a stage cannot start from the weights of this checkpoint."""
    folder = find_checkpoint(start)
    values = read_config(folder)
    if phase == "text":
        raise ValueError("The stage text has no weights to start from; leave out its start.")
    if phase.endswith("_adversarial"):
        raise ValueError(f"{phase} starts from its first phase; set the start of {phase.removesuffix('_adversarial')}.")
    if phase not in values:
        raise ValueError(f"The checkpoint {folder} has no {phase} to start from; leave out --from, or name another.")
    if phase in baselines.BASELINES:
        check_fit(folder, phase, values[phase], layers.abstract(*_twin(preset, phase)))
    elif phase in STAGES and phase != "superres_decoder":  # which `trained_decoder` checks
        check_fit(folder, phase, values[phase], build(phase, getattr(preset, phase)))


def _twin(preset: Preset, stage: str) -> tuple[Any, Any]:
    return baselines.BASELINES[stage].module, baselines.twin_config(stage, preset)


def begin(preset: Preset, names: tuple[str, ...], out: Path, checkpoint: str) -> None:
    """Copy into the run folder what stages that start from a checkpoint need of it, see `starting.adopt`."""
    with first_alone():
        for stage, config in (adopt(preset, names, out, checkpoint) if is_first() else {}).items():
            describe(out, preset, stage, config, trained=False)


def with_text(preset: Preset, name: str) -> Preset:
    """The preset with another frozen text encoder: a folder in Hugging Face format, or a Hub name.

    A folder is kept by its whole path, so that the run also works from another directory."""
    folder = find_t5(name)
    width, name = read_t5_config(folder).d_model, str(folder.resolve()) if folder == Path(name) else name
    base, superres = (dataclasses.replace(config, text_width=width) for config in (preset.base, preset.superres))
    return dataclasses.replace(preset, text=str(name), base=base, superres=superres)


def open_prepared(preset: Preset) -> Scenes | Pictures:
    """What the run learns from. One's own pictures are prepared by the first process, before the others read them."""
    source = open_source(preset.data, preset.pictures, sizes_needed(preset))
    with first_alone():
        source.prepare()
    return source


def describe(
    out: Path, preset: Preset, stage: str, config: Any, trained: bool = True, source: Scenes | Pictures | None = None
) -> None:
    """Add a finished stage to the run folder's config.json; one that was copied is not `trained`.

    source    if given, what distinguishes its pictures from others is added, too
    """
    if not is_first():
        return
    path = out / "config.json"
    values: dict[str, Any] = dict(format=FORMAT, preset=preset.name)
    if path.is_file():
        values = read_config(out) | dict(format=FORMAT)
    values["text"] = "text" if (out / "text" / "config.json").is_file() else preset.text
    values["sampling"] = sampling_to_dict(preset.sampling)
    if preset.data:
        if values.get("data") != preset.data:
            values.pop("learned_from", None)
        values["data"], values["pictures"] = preset.data, dataclasses.asdict(preset.pictures)
        values["picture_sizes"] = sizes_needed(preset)
        values |= dict(learned_from=source.about) if source else {}
    values[stage] = dataclasses.asdict(config)
    phases = [name for name in (stage, f"{stage}_adversarial") if trained and name in preset.train]
    values.setdefault("trained", {}).update({name: dataclasses.asdict(preset.train[name]) for name in phases})
    write_text(path, json.dumps(values, indent=1) + "\n")


# --- text and scorer ------------------------------------------------------------------------------------------------


def train_text(preset: Preset, out: Path, sizes: T5Config = t5_pretraining.SCENES) -> dict[str, float]:
    """T5 by span corruption on the project's own corpus, into the folder out/text, which `TextEncoder.from_pretrained`
    reads; returns the held-out loss. The T5 is the same for every preset."""
    train, folder = preset.train["text"], out / "text"
    with first_alone():
        if not (folder / "tokenizer.json").is_file():
            t5_pretraining.save_tokenizer(folder, t5_pretraining.make_tokenizer())
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    config = dataclasses.replace(sizes, vocab_size=tokenizer.get_vocab_size())
    model = fit(t5_pretraining.text_job(config, train, tokenizer), train, preset.run, folder)["ema"]
    save_t5(folder, config, model)
    held_out = t5_pretraining.held_out_loss(model, tokenizer, train)
    if is_first():
        write_text(folder / "held_out.json", json.dumps(held_out) + "\n")
    return held_out


def train_scorer(preset: Preset, out: Path) -> None:
    """The network that reads pictures back into scenes; out/scorer-weights is a folder for `Scorer.from_pretrained`."""
    config, train, folder = scorer.ScorerConfig(), preset.train["scorer"], out / "scorer-weights"
    net: Any = layers.init(scorer.ScorerNet, config, seed=train.seed)
    job = Job(
        starting_weights(train.start, "scorer", net) if train.start else net,
        make_step(scorer_loss, train),
        functools.partial(training_batch, batch=train.batch),
        about=dict(model=dataclasses.asdict(config)),
    )
    state = fit(job, train, preset.run, out / "scorer")
    folder.mkdir(exist_ok=True)
    save_weights(folder / "scorer.safetensors", state["ema"])
    if not is_first():
        return
    values = dict(format=FORMAT, scorer=dataclasses.asdict(config), trained=dataclasses.asdict(train))
    write_text(folder / "config.json", json.dumps(values, indent=1) + "\n")
    values["reads"] = fidelity.evaluate_scorer(scorer.Scorer.from_pretrained(folder), n=min(1200, train.steps))
    write_text(folder / "config.json", json.dumps(values, indent=1) + "\n")


# --- tokenizers -----------------------------------------------------------------------------------------------------


def tokenizer_job(preset: Preset, source: Scenes | Pictures, stage: str = "tokenizer") -> Job:
    """The first phase: a VQGAN that rebuilds pixels."""
    config, train = getattr(preset, stage), preset.train[stage]
    model: Any = init_stage(stage, config, train.seed)
    if train.start:
        model = starting_weights(train.start, stage, model)
    quantize_start = 0 if train.start else train.quantize_start  # a codebook that is in use need not wait

    def batch_at(step: int) -> dict:
        numbers = range(step * train.batch, (step + 1) * train.batch)
        images = source.pictures(numbers, config.image_size, train.seed)
        return dict(images=images, quantize=np.full(len(images), step >= quantize_start))

    loss = functools.partial(losses.tokenizer_loss, config)
    return Job(
        model,
        make_step(loss, train, functools.partial(codebook.update_codes, config)),
        batch_at,
        extra=codebook.codebook_state(config, model if train.start else None),
        about=dict(model=dataclasses.asdict(config)) | source.about,
    )


def adversarial_job(
    config: VQGANConfig,
    train: AdversarialConfig,
    tokenizer: VQGAN,
    source: Scenes | Pictures,
    first: int,
    codes: dict | None = None,
) -> Job:
    """The second phase: a tokenizer that rebuilds pixels is trained on, against a discriminator. The tokenizer of the
    trained state is `adversarial.tokenizer_of`.

    first    number of the first picture
    codes    the state of the codebook (`codebook.codebook_state`), if it learns too; nothing where tokens are frozen
    """
    pictures = WithArtwork(source, Artwork(train.artwork)) if train.artwork else source

    def batch_at(step: int) -> dict:
        numbers = range(first + step * train.batch, first + (step + 1) * train.batch)
        if not train.crop:
            return dict(images=pictures.pictures(numbers, config.image_size, train.seed))
        name = f"crop/{train.seed}/{step}"
        return dict(images=pictures.pieces(numbers, config.image_size, train.seed, train.crop, config.factor, name))

    update = functools.partial(codebook.update_codes, config) if codes else None
    maps, channels = network_of(train, own=not isinstance(source, Scenes))
    params, extra = adversarial.starting_state(tokenizer, train)
    return Job(
        params,
        adversarial.make_step(config, train, maps, update, channels),
        batch_at,
        extra=extra | (codes or {}),
        # A second phase can only continue the first phase that it started from.
        about=dict(model=dataclasses.asdict(config), begun_from=fingerprint(tokenizer)) | pictures.about,
    )


def second_phase_job(preset: Preset, source: Scenes | Pictures, stage: str, state: dict[str, Any]) -> Job:
    """A tokenizer's second phase, from the last state of its first."""
    config, train, second = getattr(preset, stage), preset.train[stage], preset.train[f"{stage}_adversarial"]
    assert isinstance(second, AdversarialConfig)
    codes = {} if second.freeze_tokens else {name: state[name] for name in codebook.codebook_state(config)}
    first = train.steps * train.batch  # the pictures before this one were the first phase's
    return adversarial_job(config, second, state["ema"], source, first, codes)


def train_tokenizer(preset: Preset, out: Path, stage: str = "tokenizer") -> None:
    """VQGAN on the run's pictures: first to rebuild pixels, then, if the preset says so, against a discriminator."""
    config, second, source = getattr(preset, stage), f"{stage}_adversarial", open_prepared(preset)
    state = fit(tokenizer_job(preset, source, stage), preset.train[stage], preset.run, out / stage)
    model = state["ema"]
    if second in preset.train:
        save_weights(out / f"{stage}_reconstruction.safetensors", model)  # to compare with
        job = second_phase_job(preset, source, stage, state)
        model = adversarial.tokenizer_of(config, fit(job, preset.train[second], preset.run, out / second))
    save_weights(out / f"{stage}.safetensors", model)
    describe(out, preset, stage, config, source=source)


def trained_decoder(name: str, tokenizer: VQGAN) -> tuple[VQGANConfig, Decoder, int]:
    """The fine-tuned decoder of a checkpoint: config, decoder, and how many pictures it was trained on since it had
    grown. FileNotFoundError if the checkpoint does not exist; ValueError if it lacks this decoder, or if the decoder
    was trained for another tokenizer's tokens."""
    folder, stage = find_checkpoint(name), "superres_decoder"
    values = read_config(folder)
    if stage not in values:
        raise ValueError(f"The checkpoint {folder} has no {stage} to start from; leave start empty.")
    of = from_dict(VQGANConfig, values["superres_tokenizer"])
    theirs = load_weights(folder / "superres_tokenizer.safetensors", build("superres_tokenizer", of))
    assert isinstance(theirs, VQGAN)
    if fingerprint(adversarial.frozen_arrays(theirs)) != fingerprint(adversarial.frozen_arrays(tokenizer)):
        raise ValueError(f"The decoder in {folder} draws the tokens of another tokenizer; leave start empty.")
    config = from_dict(VQGANConfig, values[stage])
    decoder, before = load_weights(folder / f"{stage}.safetensors", build(stage, config)), values["trained"].get(stage)
    assert isinstance(decoder, Decoder)
    return config, decoder, before["steps"] * before["batch"] if before else 0


def decoder_job(preset: Preset, out: Path, source: Scenes | Pictures) -> tuple[VQGANConfig, Job]:
    """The super-resolution tokenizer with its decoder grown (section 2.5): config, and the job that trains it on. Its
    encoder and codebook, and so all tokens, stay as they are."""
    train, stage = preset.train["superres_decoder"], "superres_tokenizer"
    if not isinstance(train, AdversarialConfig) or not train.freeze_tokens:
        raise ValueError("The grown decoder is trained with frozen tokens; leave freeze_tokens as it is.")
    tokenizer = load_tokenizer(preset, out, stage)
    phases = [preset.train[name] for name in (stage, f"{stage}_adversarial") if name in preset.train]
    first = sum(phase.steps * phase.batch for phase in phases)  # the pictures before this one were the tokenizer's
    if train.start:
        config, decoder, seen = trained_decoder(train.start, tokenizer)
        first += seen
    else:
        config, decoder, new = vqgan.grow_decoder(preset.superres_tokenizer, tokenizer.decoder, train.seed)
        print(f"The decoder has grown; its layers {', '.join(map(str, new))} are new and add nothing yet.")
    grown = adversarial.with_decoder(config, adversarial.frozen_arrays(tokenizer), decoder)
    return config, adversarial_job(config, train, grown, source, first)


def train_decoder(preset: Preset, out: Path) -> None:
    """The super-resolution tokenizer's decoder, grown and trained on."""
    stage = "superres_decoder"
    config, job = decoder_job(preset, out, open_prepared(preset))
    state = fit(job, preset.train[stage], preset.run, out / stage)
    save_weights(out / f"{stage}.safetensors", state["ema"])
    describe(out, preset, stage, config)


# --- transformers ---------------------------------------------------------------------------------------------------


def transformer_job(preset: Preset, out: Path, stage: str, cache: TokenCache, made_from: str) -> tuple[Any, Job]:
    """A transformer on cached tokens and text embeddings: its config, and the job. The stage is base or superres, or a
    baseline (`baselines.BASELINES`), which is trained on what the base is trained on.

    made_from    the cache's name
    """
    train = preset.train[stage]
    codes = np.asarray(load_tokenizer(preset, out, TOKENIZERS.get(stage, TOKENIZERS["base"])).codebook[...])
    if stage in baselines.BASELINES:
        (module, config), loss = _twin(preset, stage), losses.BASELINE_LOSSES[stage]
        model = layers.init(module, config, seed=train.seed)
        model = twin_from_codes(stage, model, codes)
    else:
        config, loss = getattr(preset, stage), losses.transformer_loss
        low_codes = np.asarray(load_tokenizer(preset, out).codebook[...]) if stage == "superres" else None
        model: Any = init_stage(stage, config, train.seed)
        model = start_from_codes(model, codes, low_codebook=low_codes)
    if train.start:
        model = starting_weights(train.start, stage, model)
    else:
        model = start_from_text(model, sample_rows(cache.embeddings, TEXT_SAMPLE, train.seed).astype(np.float32))

    rows, held = held_out_rows(train, len(cache))

    def batch_at(step: int) -> dict:
        indices = rows[np.sort(batch_indices(step, train.batch, len(rows), train.seed))]
        return cache.batch(indices, np.random.default_rng((train.seed, step)))

    step = make_step(functools.partial(loss, config, train), train)
    held_out = losses.held_out(functools.partial(loss, config, dataclasses.replace(train, caption_dropout=0.0)))
    parts = held_out_parts(train, held)
    # Tokens of another tokenizer mean something else: such a run must not be resumed.
    about = dict(model=dataclasses.asdict(config), cache=made_from)
    judge = (lambda weights: held_out(weights, map(cache.batch, parts))) if parts else None
    drawn = stage in TOKENIZERS and preset.run.samples_every > 0
    samples = sampler(preset, out, stage, cache, held) if drawn else None
    return config, Job(model, step, batch_at, about=about, held_out=judge, samples=samples)


def train_transformer(preset: Preset, out: Path, stage: str = "base", caches: Path | None = None) -> None:
    """A transformer, or the critic of one; several runs may keep their caches of tokens in one folder, `caches`."""
    with first_alone():  # makes it, and the others load it
        kept = Path(preset.pictures.cache).expanduser() if preset.data and preset.pictures.cache else out
        cache, made_from = token_cache(preset, out, caches or kept, "base" if stage in baselines.BASELINES else stage)
    config, job = (critic_job if stage == "critic" else transformer_job)(preset, out, stage, cache, made_from)
    state = fit(job, preset.train[stage], preset.run, out / stage)
    save_weights(out / f"{stage}.safetensors", state["ema"])
    describe(out, preset, stage, config)


# --- all ------------------------------------------------------------------------------------------------------------

TRAIN: dict[str, Callable[[Preset, Path], Any]] = {
    "text": train_text,
    "scorer": train_scorer,
    "tokenizer": train_tokenizer,
    "superres_tokenizer": functools.partial(train_tokenizer, stage="superres_tokenizer"),
    "base": train_transformer,
    "superres": functools.partial(train_transformer, stage="superres"),
    "superres_decoder": train_decoder,
    "critic": functools.partial(train_transformer, stage="critic"),
    "autoregressive": functools.partial(train_transformer, stage="autoregressive"),
    "diffusion": functools.partial(train_transformer, stage="diffusion"),
    "style": style.train_style,
}
