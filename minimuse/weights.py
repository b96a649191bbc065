"""Modules to named arrays on disk and back, the only place that knows how: safetensors beside a config.json.

A weight's name is its path in the module: `base.blocks.qkv.kernel` is "blocks.qkv.kernel". Nothing is ever unpickled.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from minimuse import hub
from minimuse.config import data_dir
from minimuse.files import as_given, open_arrays, read_json, reading, to_path, write_arrays
from minimuse.layers import Module
from minimuse.processes import check_jax, is_first, to_host

CHECKSUM = "sha256"  # entry of the metadata of a file of weights
FORMAT = 2
READABLE = (1, 2)
RENAMED = {"hidden": "head_proj"}  # parts of names in files of format 1, and what they are now
Tree = TypeVar("Tree")


def _name(path: tuple) -> str:
    """The dotted name of a key path. The `value` that flax puts behind every weight is left out."""
    keys = [str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path]
    return ".".join(keys[:-1] if len(keys) > 1 and keys[-1] == "value" else keys)


def named_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of a module (or of any pytree) by their dotted names."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def with_arrays(tree: Tree, arrays: Mapping[str, Any]) -> Tree:
    """The same module (or pytree) with other arrays where `arrays` names one; KeyError for a name that it lacks."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    names = [_name(path) for path, _ in leaves]
    if unknown := sorted(arrays.keys() - set(names)):
        raise KeyError(f"There is no array {unknown[0]!r}; there are {', '.join(names)}.")
    return jax.tree.unflatten(structure, [arrays.get(name, leaf) for name, (_, leaf) in zip(names, leaves)])


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays that hold NaN or an infinite number; it takes 2 ms per million numbers."""
    return [name for name, x in arrays.items() if not np.isfinite(x).all()]


def not_floating(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays that hold anything other than real floating-point numbers, with their types."""
    return [f"{name} of type {x.dtype}" for name, x in arrays.items() if not jnp.issubdtype(x.dtype, jnp.floating)]


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays, whatever their order; it takes 1 ms per million numbers of 16 bits."""
    total = hashlib.sha256()
    for name, x in sorted(arrays.items()):
        total.update(f"{name} {x.dtype} {x.shape}".encode())
        total.update(x.tobytes())
    return total.hexdigest()


def save_weights(path: Path | str, model: Any) -> None:
    """A module as float16 safetensors, with a checksum in its metadata; written whole or not at all.

    Of several processes all must call it; the first writes. ValueError for numbers that are not floating-point, or not
    finite in float16.
    """
    arrays = {name: to_host(value) for name, value in named_arrays(model).items()}
    if wrong := not_floating(arrays):
        raise ValueError(f"{path} was not written: weights are floating-point numbers, and it would hold {wrong[0]}.")
    with np.errstate(over="ignore"):
        arrays = {name: value.astype(np.float16) for name, value in arrays.items()}
    if bad := not_finite(arrays):
        raise ValueError(f"{path} was not written: {bad[0]} holds numbers that are NaN, or too large for float16.")
    if is_first():  # with a second entry in the metadata, equal weights would no longer be equal files
        write_arrays(path, arrays, {CHECKSUM: checksum(arrays)})


def load_weights(path: Path | str, like: Module) -> Module:
    """The weights of a safetensors file, in float32, as a module like `like` (`layers.abstract` makes one).

    FileNotFoundError for a missing file, ValueError for one that is damaged, or holds other shapes, numbers that
    are not floating-point, or NaN or infinite ones. Where the file has a checksum, every changed bit is noticed; what
    minimuse 0.1 wrote has none.
    """
    import ml_dtypes  # noqa: F401  teaches NumPy bfloat16
    from safetensors.numpy import load_file

    check_jax()

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; a checkpoint holds config.json and one file per stage.")
    with reading(path, "safetensors", "Copy it, or train it again"):
        stored, written = load_file(path), (open_arrays(path).metadata() or {}).get(CHECKSUM)
        if written not in (None, checksum(stored)):
            raise ValueError("it is not as it was written")
    arrays = {".".join(RENAMED.get(part, part) for part in name.split(".")): value for name, value in stored.items()}
    wanted = {name: value.shape for name, value in named_arrays(like).items()}
    given = {name: value.shape for name, value in arrays.items()}
    if wrong := sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{path} does not fit its config.json: {name} has shape {given.get(name, 'missing')}, expected "
            f"{wanted.get(name, 'no weight')} ({len(wrong)} of {len(wanted)} weights differ). Was a size changed?"
        )
    if wrong := not_floating(arrays):
        raise ValueError(f"{path} cannot be used: weights are floating-point numbers, and it holds {wrong[0]}.")
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    if bad := not_finite(arrays):
        raise ValueError(
            f"{path} cannot be used: {len(bad)} of its {len(arrays)} weights, such as {bad[0]}, hold NaN or infinite "
            "numbers. Its training has diverged; train it again with a lower learning rate."
        )
    # By numpy and device_put: jnp.asarray would compile a program for every shape.
    return with_arrays(like, jax.device_put(arrays))


def find_checkpoint(name: str | os.PathLike, revision: str | None = None) -> Path:
    """A folder as given, else the shipped one of that name in data/checkpoints, else a model of the Hugging Face Hub.

    revision    of the Hub's model: a branch, a tag or a commit

    FileNotFoundError if there is none; see `hub.download` for what else may be wrong with one of the Hub.
    """
    given, shipped = to_path(name, "A checkpoint"), data_dir() / "checkpoints"
    for folder in (given, shipped / name):
        if (folder / "config.json").is_file():
            if revision is not None:
                raise ValueError(f"{folder} is a local folder; leave out revision, which was {as_given(revision)}.")
            return folder
    if given.is_dir():
        raise FileNotFoundError(f"{name} has no config.json; a checkpoint folder holds one beside its weights.")
    if hub.is_name(name):
        return _download(str(name), revision)
    names = sorted(p.parent.name for p in shipped.glob("*/config.json"))
    raise FileNotFoundError(
        f"No checkpoint {str(name)!r}: it is neither a folder, nor a shipped one ({', '.join(names) or 'none'}), nor "
        "the name of a model of the Hugging Face Hub, user/name."
    )


def _download(name: str, revision: str | None) -> Path:
    """The folder of a checkpoint of the Hub. Its config.json says which other files belong to it."""
    folder = hub.download(name, ["config.json"], revision)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"The model {name} of the Hugging Face Hub has no config.json; is it of minimuse?")
    try:
        config = read_config(folder)
    except ValueError as error:
        raise ValueError(f"The model {name} of the Hugging Face Hub is not of minimuse: {error}") from None
    files = [f"{key}.safetensors" for key in config if re.fullmatch(r"\w+", key)]
    text = config.get("text")
    if isinstance(text, str) and re.fullmatch(r"\w[\w.-]*", text):  # a folder of the checkpoint, if it has it
        wanted = ("config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer.json")
        files += [f"{text}/{file}" for file in wanted]
    return hub.download(name, ["config.json", *files], revision)


def read_config(folder: Path) -> dict:
    """The parsed config.json of a checkpoint folder."""
    config = read_json(folder / "config.json")
    if config.get("format") not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise ValueError(f"{folder} has checkpoint format {config.get('format')}; this minimuse reads {known}.")
    return config


def fingerprint_of(*paths: Path | str) -> dict[str, str]:
    """What distinguishes the content of these files from any other: the first 12 digits of their SHA-256, by their path
    in data/; files elsewhere go by their folder and name.

    It is that of files; `train.inputs.fingerprint` is that of arrays in memory.
    """
    data, found = data_dir().absolute(), {}
    for path in (Path(path).absolute() for path in paths):
        name = path.relative_to(data if path.is_relative_to(data) else path.parent.parent).as_posix()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return dict(sorted(found.items()))
