"""What a stage trains from beside its own weights: earlier stages' weights, the text encoder, the token cache."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from minimuse.config import Preset, from_dict
from minimuse.data.cache import TokenCache
from minimuse.data.sources import open_source
from minimuse.muse import STAGES, TOKENIZERS, build
from minimuse.processes import to_host
from minimuse.t5 import TextEncoder
from minimuse.vqgan import VQGAN, read_tokens
from minimuse.weights import find_checkpoint, load_weights, read_config

CACHE_PART = 4096  # examples


def fingerprint(*trees: Any) -> str:
    """A few letters that distinguish these weights (or settings, as strings) from others."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        found.update(leaf.encode() if isinstance(leaf, str) else to_host(leaf).tobytes())
    return found.hexdigest()[:12]


def load_stage(preset: Preset, out: Path, stage: str) -> Any:
    """A stage's weights: the run's own if it is trained, else the shipped ones."""
    own = (out / f"{stage}.safetensors").is_file()
    try:
        folder = out if own else find_checkpoint(preset.name)
        config = from_dict(STAGES[stage][0], read_config(folder)[stage])
    except (FileNotFoundError, KeyError):
        raise FileNotFoundError(
            f"{out} has no {stage}, and none is shipped for preset {preset.name!r}. Train it first: "
            f"python -m minimuse train {stage} --preset {preset.name} --out {out}"
        ) from None
    if config != getattr(preset, stage):
        raise ValueError(f"{folder} holds another {stage} ({config}) than preset {preset.name!r}. Train it first.")
    return load_weights(folder / f"{stage}.safetensors", build(stage, config))


def load_tokenizer(preset: Preset, out: Path, stage: str = "tokenizer") -> VQGAN:
    """A tokenizer, see `load_stage`."""
    return load_stage(preset, out, stage)


def load_text(preset: Preset, out: Path) -> TextEncoder:
    """The run's own text encoder if it is trained, else the preset's."""
    own = out / "text"
    return TextEncoder.from_pretrained(str(own) if (own / "config.json").is_file() else preset.text)


def sizes_needed(preset: Preset) -> tuple[int, ...]:
    """Sides of the pictures that the preset's tokenizers take."""
    trained = {TOKENIZERS.get(stage, stage) for stage in preset.train}
    names = [name for name in TOKENIZERS.values() if name in trained] or [TOKENIZERS["base"]]
    return tuple(dict.fromkeys(getattr(preset, name).image_size for name in names))


def token_cache(
    preset: Preset, out: Path, folder: Path, stage: str = "base", part: int = CACHE_PART
) -> tuple[TokenCache, str]:
    """Tokens and text embeddings of a stage's training pictures for the run `out`, made once and kept in `folder`; and
    their name. For the stage superres, the low-resolution tokens, too.

    It takes minutes, so it is made in files of `part` examples, which stay on disk until all are there: a kill loses
    one at most.
    """
    from tqdm.auto import tqdm

    train, text = preset.train[stage], load_text(preset, out)
    source = open_source(preset.data, preset.pictures, sizes_needed(preset))
    count = min(source.count(train), train.examples or source.count(train))
    names = list(dict.fromkeys(TOKENIZERS.get(name, "tokenizer") for name in (stage, "base")))  # the stage's own first
    tokenizers = [load_tokenizer(preset, out, name) for name in names]
    # The name depends on all that the cache is made from, so that other tokens or embeddings are never used by mistake.
    # The decoders are not among it.
    read = [weights for tokenizer in tokenizers for weights in (tokenizer.encoder, tokenizer.codebook[...])]
    wide = f"/everyday {train.everyday}" if train.everyday and not preset.data else ""
    made_from = fingerprint(f"{count}/{train.seed}{wide}", *source.about.values(), *read, text.model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tokens-{made_from}.safetensors"
    if path.is_file():
        return TokenCache.load(path), path.stem

    sizes = tuple(getattr(preset, name).image_size for name in names)

    def tokenize(images: tuple[np.ndarray, ...]) -> jax.Array | tuple[jax.Array, ...]:
        tokens = [read_tokens(tokenizer, each) for tokenizer, each in zip(tokenizers, images)]
        return tuple(tokens) if len(tokens) > 1 else tokens[0]

    flip = bool(preset.data) and preset.pictures.flip
    paths = []
    for start in tqdm(range(0, count, part), desc="tokens and text", unit="part"):
        paths.append(path.with_suffix(f".part{start}"))
        if not paths[-1].is_file():
            size = min(part, count - start)
            TokenCache.build(
                lambda i, start=start: source.example(start + i, sizes, train),
                size,
                tokenize,
                lambda captions: text.encode(captions, length=preset.base.text_length),
                chunk=min(256, count),
                may_flip=np.array([source.may_flip(start + i) for i in range(size)]) if flip else None,
            ).save(paths[-1])
    TokenCache.join_files(paths, path)
    for each in paths:
        each.unlink()
    return TokenCache.load(path), path.stem
