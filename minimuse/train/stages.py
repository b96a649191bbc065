"""The stages of training, in order: what each reads, trains and writes. `python -m minimuse train STAGE` calls these.

A run folder holds one folder a stage (checkpoints, log) and grows into a checkpoint folder: config.json and one
safetensors file a stage, which `Muse.from_pretrained` reads.
"""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from minimuse import layers, vqgan
from minimuse.config import TRANSFORMERS, AdversarialConfig, Preset, VQGANConfig, from_dict
from minimuse.data.cache import TokenCache, batch_indices
from minimuse.data.sources import open_source
from minimuse.files import write_text
from minimuse.processes import first_alone, is_first, to_host
from minimuse.t5 import TextEncoder, find_t5, read_t5_config
from minimuse.train import adversarial, codebook, losses
from minimuse.train.devices import make_mesh, place
from minimuse.train.init import start_from_codes, start_from_text, twin_from_codes
from minimuse.train.loop import fit
from minimuse.train.step import init_state, make_step
from minimuse.weights import (
    FORMAT,
    TOKENIZERS,
    abstract,
    find_checkpoint,
    init,
    load_weights,
    read_config,
    save_weights,
)

CACHE_PART = 4096  # examples
TEXT_SAMPLE = 200_000  # text tokens that say how their vectors vary


def fingerprint(*trees) -> str:
    """A few letters that tell these weights (or settings) from others."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        found.update(leaf.encode() if isinstance(leaf, str) else to_host(leaf).tobytes())
    return found.hexdigest()[:12]


def describe(out: Path, preset: Preset, stage: str, config) -> None:
    """Add a finished stage to the run folder's config.json."""
    if not is_first():
        return
    path = out / "config.json"
    values = json.loads(path.read_text()) if path.is_file() else dict(format=FORMAT, preset=preset.name)
    values["text"] = "text" if (out / "text" / "config.json").is_file() else preset.text
    values["sampling"] = dataclasses.asdict(preset.sampling)
    if preset.data:
        values["data"] = preset.data
    values[stage] = dataclasses.asdict(config)
    phases = [name for name in (stage, f"{stage}_adversarial") if name in preset.train]
    values.setdefault("trained", {}).update({name: dataclasses.asdict(preset.train[name]) for name in phases})
    write_text(path, json.dumps(values, indent=1) + "\n")


def train_tokenizer(preset: Preset, out: Path, stage: str = "tokenizer") -> None:
    """VQGAN on the run's pictures: first to rebuild pixels, then against a discriminator."""
    config, train, second = getattr(preset, stage), preset.train[stage], preset.train.get(f"{stage}_adversarial")
    graphdef, params = init(stage, config, train.seed)
    source = open_source(preset.data)

    def batch_at(step, rows=slice(None)):
        numbers = range(step * train.batch, (step + 1) * train.batch)[rows]
        images = source.pictures(numbers, config.image_size, train.seed)
        return dict(images=images, quantize=np.full(len(images), step >= train.quantize_start))

    update = functools.partial(codebook.update_codes, config)
    step = make_step(functools.partial(losses.tokenizer_loss, graphdef, config), train, update)
    state = init_state(params, train, **codebook.codebook_state(config))
    about = dict(model=dataclasses.asdict(config)) | source.about
    state = fit(out / stage, step, state, batch_at, train, preset.run, **about)
    params = state["ema"]
    if second:
        save_weights(out / f"{stage}_reconstruction.safetensors", params)  # to compare with
        codes = {} if second.freeze_tokens else {name: state[name] for name in codebook.codebook_state(config)}
        begun = train.steps * train.batch  # the pictures before this one were the first phase's
        params = adversarial_phase(preset, config, second, begun, params, codes, out / f"{stage}_adversarial")
    save_weights(out / f"{stage}.safetensors", params)
    describe(out, preset, stage, config)


def adversarial_phase(
    preset: Preset, config: VQGANConfig, second: AdversarialConfig, first: int, params: dict, codes: dict, out: Path
) -> dict:
    """Train a tokenizer's weights on, against a discriminator, with checkpoints in `out`; returns the new weights.

    first  number of the first picture
    codes  the state of the codebook (`codebook.codebook_state`), if it learns too; nothing where tokens are frozen
    """
    from minimuse.evaluate.scorer import shipped_scorer

    source = open_source(preset.data)

    def batch_at(step, rows=slice(None)):
        numbers = range(first + step * second.batch, first + (step + 1) * second.batch)
        if not second.crop:
            return dict(images=source.pictures(numbers[rows], config.image_size, second.seed))
        name = f"crop/{second.seed}/{step}"
        # One generator for the whole batch, so all of it is cut, whoever asks.
        pieces = source.pieces(numbers, config.image_size, second.seed, second.crop, config.factor, name)
        return dict(images=pieces[rows])

    update = functools.partial(codebook.update_codes, config) if codes else None
    graphdef = layers.abstract(vqgan.VQGAN, config)[0]
    step = adversarial.make_step(graphdef, config, second, shipped_scorer().maps, update)
    state = adversarial.init_state(params, second, **codes)
    # A second phase goes with the first phase that it was begun from, and with no other.
    about = dict(model=dataclasses.asdict(config), begun_from=fingerprint(params)) | source.about
    return adversarial.weights(fit(out, step, state, batch_at, second, preset.run, **about))


def train_decoder(preset: Preset, out: Path) -> None:
    """The super-resolution tokenizer's decoder, grown and trained on; its encoder and codebook, and so all tokens, stay
    as they are (section 2.5)."""
    stage = "superres_decoder"
    small, train, first = preset.superres_tokenizer, preset.train[stage], "superres_tokenizer"
    if not train.freeze_tokens:
        raise ValueError("The grown decoder is trained behind frozen tokens; leave freeze_tokens as it is.")
    params = load_tokenizer(preset, out, "superres_tokenizer")[1]
    config, decoder, new = vqgan.grow_decoder(small, params["decoder"], train.seed)
    print(f"The decoder has grown; its layers {', '.join(map(str, new))} are new and add nothing yet.")
    phases = [preset.train[name] for name in (first, f"{first}_adversarial") if name in preset.train]
    begun = sum(phase.steps * phase.batch for phase in phases)  # the pictures before this one were the tokenizer's
    params = adversarial_phase(preset, config, train, begun, params | dict(decoder=decoder), {}, out / stage)
    save_weights(out / f"{stage}.safetensors", params["decoder"])
    describe(out, preset, stage, config)


def load_tokenizer(preset: Preset, out: Path, stage: str = "tokenizer") -> tuple[nnx.GraphDef, dict]:
    """Graph definition and weights of a tokenizer: the run's own if it is trained, else the shipped one."""
    own = (out / f"{stage}.safetensors").is_file()
    try:
        folder = out if own else find_checkpoint(preset.name)
        config = from_dict(VQGANConfig, read_config(folder)[stage])
    except (FileNotFoundError, KeyError):
        raise FileNotFoundError(
            f"{out} has no {stage}, and none is shipped for preset {preset.name!r}. Train it first: "
            f"python -m minimuse train {stage} --preset {preset.name} --out {out}"
        ) from None
    if config != getattr(preset, stage):
        raise ValueError(f"{folder} holds another {stage} ({config}) than preset {preset.name!r}. Train it first.")
    graphdef, like = abstract(stage, config)
    return graphdef, load_weights(folder / f"{stage}.safetensors", like)


def check(preset: Preset, names: tuple[str, ...], out: Path) -> None:
    """ValueError or FileNotFoundError now for what would stop one of these stages when those before it are done."""
    for phase in [phase for name in names for phase in (name, f"{name}_adversarial") if phase in preset.train]:
        make_mesh(preset.run.mesh, preset.train[phase])
    transformers = [preset.train[name] for name in names if name in TRANSFORMERS]
    if transformers and "text" not in names and not (out / "text" / "config.json").is_file():
        find_t5(preset.text)
    for train in transformers if preset.data else ():
        batch_indices(0, train.batch, open_source(preset.data).count(train), train.seed)


def with_text(preset: Preset, name: str) -> Preset:
    """The preset with another frozen text encoder: a folder in Hugging Face format, or a Hub name."""
    width = read_t5_config(find_t5(name)).d_model
    base, superres = (dataclasses.replace(config, text_width=width) for config in (preset.base, preset.superres))
    return dataclasses.replace(preset, text=str(name), base=base, superres=superres)


def load_text(preset: Preset, out: Path) -> TextEncoder:
    """The run's own text encoder if it is trained, else the preset's."""
    own = out / "text"
    return TextEncoder.from_pretrained(str(own) if (own / "config.json").is_file() else preset.text)


def token_cache(preset: Preset, out: Path, folder: Path, stage: str = "base") -> tuple[TokenCache, str]:
    """Tokens and text embeddings of a stage's training pictures for the run `out`, made once and kept in `folder`; and
    their name. For the stage superres, the low-resolution tokens, too."""
    from tqdm.auto import tqdm

    from minimuse.vqgan import read_tokens

    train, text, source = preset.train[stage], load_text(preset, out), open_source(preset.data)
    count = source.count(train)
    names = [TOKENIZERS[name] for name in dict.fromkeys((stage, "base"))]  # the stage's own first
    tokenizers = [load_tokenizer(preset, out, name) for name in names]
    # The name tells what the cache was made from, so that other tokens or embeddings are never met by mistake. The
    # decoders have no part in it.
    read = [params[part] for _, params in tokenizers for part in ("encoder", "codebook")]
    what = [f"{count}/{train.seed}", *source.about.values()]
    made_from = fingerprint(*what, *read, text.params)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tokens-{made_from}.safetensors"
    if path.is_file():
        return TokenCache.load(path), path.stem

    sizes = tuple(getattr(preset, name).image_size for name in names)

    def tokenize(images):
        tokens = tuple(read_tokens(*tokenizer, each) for tokenizer, each in zip(tokenizers, images))
        return tokens if len(tokens) > 1 else tokens[0]

    # In parts that stay on disk until the whole is there: it takes minutes, and a kill may lose one at most.
    parts = []
    for start in tqdm(range(0, count, CACHE_PART), desc="tokens and text", unit="part"):
        size, part = min(CACHE_PART, count - start), path.with_suffix(f".part{start}")
        if not part.is_file():
            TokenCache.build(
                lambda i, start=start: source.example(start + i, sizes, train.seed),
                size,
                tokenize,
                lambda captions: text.encode(captions, length=preset.sampling.text_length),
                chunk=min(256, count),
            ).save(part)
        parts.append(part)
    cache = TokenCache.join([TokenCache.load(part) for part in parts])
    cache.save(path)
    for part in parts:
        part.unlink()
    return cache, path.stem


def train_base(preset: Preset, out: Path, caches: Path | None = None, stage: str = "base") -> None:
    """A masked transformer, that of the stage base or superres, on cached tokens and text embeddings; several runs may
    keep their caches in one folder."""
    train, config = preset.train[stage], getattr(preset, stage)
    graphdef, params = init(stage, config, train.seed)
    codebooks = {}
    if stage == "superres":
        codebooks["low_codebook"] = np.asarray(load_tokenizer(preset, out)[1]["codebook"])
    start = functools.partial(start_from_codes, params, **codebooks)
    loss = functools.partial(losses.transformer_loss, graphdef, config, train)
    _train_transformer(preset, out, caches, stage, config, start, loss)


def train_twin(preset: Preset, out: Path, name: str) -> None:
    """A baseline of baselines.py, trained on what the base transformer is trained on."""
    from minimuse.evaluate import baselines

    kind, train = baselines.TWINS[name], preset.train[name]
    config = baselines.twin_config(name, preset)
    graphdef, params = layers.init(kind.module, config, seed=train.seed)
    start = functools.partial(twin_from_codes, name, params)
    loss = functools.partial(losses.BASELINES[name], graphdef, config, train)
    _train_transformer(preset, out, None, name, config, start, loss)


def _train_transformer(preset, out, caches, stage: str, config, start, loss) -> None:
    """start(codebook [K, code_dim]) -> fresh params; loss(params, key, batch) as for step.make_step."""
    train, drawn = preset.train[stage], stage if stage in TOKENIZERS else "base"
    with first_alone():  # makes them, and the others load them
        cache, made_from = token_cache(preset, out, caches or out, drawn)
    params = start(np.asarray(load_tokenizer(preset, out, TOKENIZERS[drawn])[1]["codebook"]))
    params = start_from_text(params, cache.embeddings[:TEXT_SAMPLE].astype(np.float32))

    def batch_at(step, rows=slice(None)):
        return cache.batch(np.sort(batch_indices(step, train.batch, len(cache), train.seed))[rows])

    state = fit(
        out / stage,
        make_step(loss, train),
        # Placed before averages and sums are made, as these are too much for one device where weights are many.
        init_state(place(params, make_mesh(preset.run.mesh, train)), train),
        batch_at,
        train,
        preset.run,
        model=dataclasses.asdict(config),
        cache=made_from,  # tokens of another tokenizer mean something else: such a run must not be resumed
    )
    save_weights(out / f"{stage}.safetensors", state["ema"])
    describe(out, preset, stage, config)


def train_text(preset: Preset, out: Path) -> None:
    """T5 by span corruption on the project's own corpus."""
    from minimuse.train import t5_pretraining

    t5_pretraining.stage(preset, preset.train["text"], out)


def train_scorer(preset: Preset, out: Path) -> None:
    """The network that reads pictures back into scenes; out/scorer-weights is a folder for `Scorer.from_pretrained`."""
    from minimuse.evaluate import fidelity, scorer
    from minimuse.train.scorer import scorer_loss, training_batch

    config, train = scorer.ScorerConfig(), preset.train["scorer"]
    graphdef, params = layers.init(scorer.ScorerNet, config, seed=train.seed)
    state = fit(
        out / "scorer",
        make_step(functools.partial(scorer_loss, graphdef), train),
        init_state(params, train),
        functools.partial(training_batch, batch=train.batch),
        train,
        preset.run,
        model=dataclasses.asdict(config),
    )
    folder = out / "scorer-weights"
    folder.mkdir(exist_ok=True)
    save_weights(folder / "scorer.safetensors", state["ema"])
    if not is_first():
        return
    values = dict(format=FORMAT, scorer=dataclasses.asdict(config), trained=dataclasses.asdict(train))
    write_text(folder / "config.json", json.dumps(values, indent=1) + "\n")
    values["reads"] = fidelity.evaluate_scorer(scorer.Scorer.from_pretrained(folder), n=min(1200, train.steps))
    write_text(folder / "config.json", json.dumps(values, indent=1) + "\n")


TRAIN = {
    "text": train_text,
    "scorer": train_scorer,
    "tokenizer": train_tokenizer,
    "superres_tokenizer": functools.partial(train_tokenizer, stage="superres_tokenizer"),
    "base": train_base,
    "superres": functools.partial(train_base, stage="superres"),
    "superres_decoder": train_decoder,
    "autoregressive": functools.partial(train_twin, name="autoregressive"),
    "diffusion": functools.partial(train_twin, name="diffusion"),
}
