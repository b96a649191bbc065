"""Weights on disk: safetensors with dotted keys, float16, beside a config.json. Nothing is ever unpickled."""

import json
import os
from pathlib import Path

import jax
import numpy as np
from flax import nnx, traverse_util

from minimuse import layers
from minimuse.config import SuperresConfig, TransformerConfig, VQGANConfig, data_dir
from minimuse.files import write_arrays
from minimuse.processes import is_first, to_host
from minimuse.transformer import BaseTransformer, SuperresTransformer
from minimuse.vqgan import VQGAN, Decoder

FORMAT = 1
STAGES = {
    "tokenizer": (VQGANConfig, VQGAN),
    "superres_tokenizer": (VQGANConfig, VQGAN),
    "base": (TransformerConfig, BaseTransformer),
    "superres": (SuperresConfig, SuperresTransformer),
    "superres_decoder": (VQGANConfig, Decoder),
}
CASCADE = ("superres", "superres_decoder")  # what makes a picture of 128 px out of one of 64
OPTIONAL = ("superres_tokenizer", *CASCADE)  # a checkpoint draws without these
TOKENIZERS = {"base": "tokenizer", "superres": "superres_tokenizer"}  # whose tokens each transformer draws


def abstract(stage: str, config) -> tuple[nnx.GraphDef, dict]:
    """Graph definition and the nested dict of shapes of a stage's model, without making any weights."""
    try:
        return layers.abstract(STAGES[stage][1], config)
    except Exception as error:  # no heads, a width below 0, and what else a config.json may say
        raise ValueError(f"No {stage} can be built of {config}: {error}") from error


def init(stage: str, config, seed: int = 0) -> tuple[nnx.GraphDef, dict]:
    """Graph definition and fresh weights of a stage's model."""
    return layers.init(STAGES[stage][1], config, seed=seed)


def _flat(params: dict) -> dict:
    flat = traverse_util.flatten_dict(params)
    return {".".join(map(str, path)): value for path, value in flat.items()}


def save_weights(path: Path | str, params: dict, metadata: dict | None = None) -> None:
    """A nested dict of arrays as float16 safetensors, with dotted keys; written whole or not at all.

    Of several processes all must call it; the first writes.
    """
    arrays = {key: to_host(value).astype(np.float16) for key, value in _flat(params).items()}
    if is_first():
        write_arrays(path, arrays, {k: str(v) for k, v in (metadata or {}).items()})


def load_weights(path: Path | str, like: dict) -> dict:
    """The float32 nested dict of a safetensors file, with the structure and shapes of `like`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a checkpoint holds config.json and one file a stage.")
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}); copy or train it again.") from None
    wanted = {key: value.shape for key, value in _flat(like).items()}
    given = {key: value.shape for key, value in arrays.items()}
    if wrong := sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key)):
        key = wrong[0]
        raise ValueError(
            f"{path} does not fit its config.json: {key} has shape {given.get(key, 'missing')}, expected "
            f"{wanted.get(key, 'no such weight')} ({len(wrong)} of {len(wanted)} weights differ). Was a size changed?"
        )
    paths = {".".join(map(str, path)): path for path in traverse_util.flatten_dict(like)}
    # By numpy and device_put: jnp.asarray would compile a program for every shape.
    return jax.device_put(traverse_util.unflatten_dict({paths[k]: v.astype(np.float32) for k, v in arrays.items()}))


def find_checkpoint(name: str | os.PathLike) -> Path:
    """A folder as it is given, or one in data/checkpoints by its preset's name."""
    shipped = data_dir() / "checkpoints"
    for folder in (Path(name), shipped / name):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).is_dir():
        raise FileNotFoundError(f"{name} has no config.json; a checkpoint folder holds one beside its weights.")
    names = sorted(p.parent.name for p in shipped.glob("*/config.json"))
    raise FileNotFoundError(
        f"No checkpoint {str(name)!r}: it is neither a folder nor one of those shipped ({', '.join(names) or 'none'})."
    )


def read_config(folder: Path) -> dict:
    """The parsed config.json of a checkpoint folder."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:  # JSON's, or of bytes that are no text
        raise ValueError(f"{folder / 'config.json'} is no JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'config.json'} holds no JSON object.")
    if config.get("format") != FORMAT:
        raise ValueError(f"{folder} has checkpoint format {config.get('format')}; this minimuse reads {FORMAT}.")
    return config
