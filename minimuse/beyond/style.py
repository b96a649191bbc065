"""A style in a small file: low-rank adapters of the transformers' attention, trained on a dozen captioned pictures.

The idea is StyleDrop's (arXiv 2306.00983), which adapts Muse; the adapters are LoRA's (arXiv 2106.09685). A matrix W
becomes W + strength alpha / rank A B. The sum is computed once, so drawing in a style costs nothing. Training is in
train/style.py. A style's folder holds config.json and one float16 safetensors file per transformer.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from minimuse import layers
from minimuse.config import StyleConfig, SuperresConfig, TransformerConfig, from_dict
from minimuse.files import as_given, atomic_path, to_path
from minimuse.processes import is_first, to_host
from minimuse.transformer import BaseTransformer, SuperresTransformer
from minimuse.weights import FORMAT, load_weights, named_arrays, read_config, save_weights, with_arrays

if TYPE_CHECKING:
    from minimuse.muse import Muse

SIZES = {"base": TransformerConfig, "superres": SuperresConfig}  # stages that can have an adapter
Model = TypeVar("Model", bound=BaseTransformer)


class LowRank(nnx.Module):
    """A and B of every layer. Their product A B changes matrices of the shape [depth, in, out]."""

    def __init__(self, shape: tuple[int, int, int], rank: int, *, rngs: nnx.Rngs):
        depth, width_in, width_out = shape
        self.A = nnx.Param(jax.random.normal(rngs.params(), (depth, width_in, rank)) * width_in**-0.5)
        self.B = nnx.Param(jnp.zeros((depth, rank, width_out)))  # so that a new adapter changes nothing


class Adapter(nnx.Module):
    """A LowRank for each of config.matrices of a transformer of these sizes. ValueError for a rank below 1, and for
    matrices that the transformer's blocks do not have."""

    def __init__(self, config: StyleConfig, sizes: TransformerConfig, *, rngs: nnx.Rngs):
        model = layers.abstract(SuperresTransformer if isinstance(sizes, SuperresConfig) else BaseTransformer, sizes)
        shapes = {name: weight.shape for name, weight in named_arrays(model.blocks).items() if name.endswith(".kernel")}
        there = [name.removesuffix(".kernel") for name in shapes]
        if config.rank < 1:
            raise ValueError(f"The rank of a style is 1 or more; it was {config.rank}.")
        if not config.matrices or (unknown := [name for name in config.matrices if name not in there]):
            which = repr(unknown[0]) if config.matrices else "nothing"
            raise ValueError(f"A style changes some of the matrices {', '.join(there)}; it was given {which}.")
        for name in config.matrices:
            setattr(self, name, LowRank(shapes[f"{name}.kernel"], config.rank, rngs=rngs))


def merged(model: Model, adapter: Adapter, scale: float | jax.Array) -> Model:
    """The transformer with W + scale A B in the place of W, for every matrix that the adapter changes. The sum is
    computed in float32."""
    weights, pairs, found = named_arrays(model), named_arrays(adapter), {}
    for name in {name.rpartition(".")[0]: None for name in pairs}:
        w = weights[f"blocks.{name}.kernel"]
        found[f"blocks.{name}.kernel"] = (w + scale * (pairs[f"{name}.A"] @ pairs[f"{name}.B"])).astype(w.dtype)
    return with_arrays(model, found)


def fingerprint(model: nnx.Module) -> str:
    """A few letters that distinguish a transformer's weights from others, the same in every type it is read in."""
    found = hashlib.sha256()
    for name, x in named_arrays(model).items():
        found.update(name.encode() + to_host(x).astype("float32").astype(jnp.bfloat16).tobytes())
    return found.hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Style:
    """A trained style.

    config      its rank and which matrices it changes
    sizes       of the transformers that it changes, by stage: base, and superres where there is one
    adapters    their adapters
    of          their fingerprints
    about       what else config.json says, such as how it was trained
    name        for messages
    """

    config: StyleConfig
    sizes: dict[str, TransformerConfig]
    adapters: dict[str, Adapter]
    of: dict[str, str]
    about: dict = dataclasses.field(default_factory=dict)
    name: str = "this style"

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike) -> "Style":
        """Read what `save` wrote. FileNotFoundError for a missing folder or file, ValueError for one that is damaged or
        does not hold a style."""
        folder = to_path(folder, "A style's folder")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{as_given(str(folder))} holds no style: it has no config.json. `train style` makes one."
            )
        values = read_config(folder)
        parts = values.get("transformers")
        if "style" not in values or not isinstance(parts, dict) or not {"base"} <= parts.keys() <= SIZES.keys():
            raise ValueError(
                f"{as_given(str(folder))} holds no style; is it a checkpoint? `train style` makes a style."
            )
        config = from_dict(StyleConfig, values["style"])
        sizes = {stage: from_dict(SIZES[stage], part.get("sizes")) for stage, part in parts.items()}
        adapters = {
            stage: load_weights(folder / f"style_{stage}.safetensors", layers.abstract(Adapter, config, own))
            for stage, own in sizes.items()
        }
        about = {name: value for name, value in values.items() if name not in ("format", "style", "transformers")}
        of = {stage: str(part.get("fingerprint")) for stage, part in parts.items()}
        return cls(config, sizes, adapters, of, about, str(folder))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the folder that `from_pretrained` reads: all of it or nothing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        parts = {
            stage: dict(fingerprint=self.of[stage], sizes=dataclasses.asdict(sizes))
            for stage, sizes in self.sizes.items()
        }
        values = dict(format=FORMAT, style=dataclasses.asdict(self.config), transformers=parts, **self.about)
        with contextlib.ExitStack() as stack:  # files take their names at its end, config.json the last of them
            partial = lambda path: stack.enter_context(atomic_path(path)) if is_first() else path
            config = partial(folder / "config.json")
            for stage, adapter in self.adapters.items():
                save_weights(partial(folder / f"style_{stage}.safetensors"), adapter)
            if is_first():
                config.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def with_style(model: Model, style: Style, strength: float = 1.0) -> Model:
    """A copy of a transformer, base or super-resolution, that draws in a style.

    strength    0 is the transformer as it was, 1 the style as trained; a number in between weakens it

    ValueError if the style was trained on other weights, or has no adapter for this transformer; or for a strength that
    is negative or not finite.
    """
    if not isinstance(strength, (int, float)) or not 0 <= strength < math.inf:
        raise ValueError(f"The strength of a style is 0 or more, and usually 1 at most; it was {as_given(strength)}.")
    stage = "superres" if isinstance(model, SuperresTransformer) else "base"
    if stage not in style.adapters:
        raise ValueError(f"{style.name} has no adapter for {stage}; it has {', '.join(style.adapters)}.")
    if (own := fingerprint(model)) != style.of[stage]:
        raise ValueError(
            f"{style.name} belongs to another {stage}: it was trained on {style.of[stage]}, and this one is {own}. "
            "Load the checkpoint that it was trained from, without another style, or train it on this one."
        )
    return merged(model, style.adapters[stage], strength * style.config.alpha / style.config.rank)


def muse_with_style(muse: "Muse", style: "Style | str | os.PathLike", strength: float = 1.0) -> "Muse":
    """A Muse that draws in a style, and shares all other parts with this one, which is not changed.

    style       a Style, or the folder that `train style` wrote
    strength    0 is the Muse as it was, 1 the style as trained

    FileNotFoundError or ValueError for a folder that does not hold a style, ValueError for the style of another base.
    """
    style = style if isinstance(style, Style) else Style.from_pretrained(style)
    new = copy.copy(muse)
    new.models = muse.models | {
        stage: with_style(muse.models[stage], style, strength) for stage in style.adapters if stage in muse.models
    }
    new.about = muse.about | dict(style=dict(name=Path(style.name).name, strength=strength))
    new.folder = None  # whose weights are those without the style
    return new
