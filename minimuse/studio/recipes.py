"""The recipe of a picture: everything that it was drawn with, as JSON in the PNG's metadata, and drawing it again.

A PNG file of minimuse has a text entry "minimuse" with this JSON object:

minimuse, jax, device   the versions and the kind of device that drew it
command                 generate, vary, interpolate, inpaint, outpaint or edit
checkpoint, weights     its name as it was given, and the fingerprint of every file that was used
style                   folder and strength, or null
settings                superres, finetuned, dtype, and `sampling` with all settings of each stage
pictures                caption, negative, seed and index of each picture, in order
layout                  how they are arranged: columns, scale, labels
pixels                  a fingerprint of the pictures' pixels before they were arranged
more                    of an edit: its other options, and name and fingerprint of the pictures it was given
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse import __version__
from minimuse.config import SampleOptions, sampling_to_dict
from minimuse.files import reading

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from minimuse.muse import Plan

ENTRY = "minimuse"
AGAIN = ("generate", "interpolate")  # commands whose pictures need nothing but their recipe
Recipe = dict[str, Any]


def pixels_of(images: np.ndarray) -> str:
    """A fingerprint of pictures uint8 [B, H, W, 3]."""
    return hashlib.sha256(repr(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:12]


def weights_of(folder: Path, text_name: str, plan: "Plan", style: str = "") -> dict[str, str]:
    """The fingerprints of the files that pictures are drawn with, by stage; of the text encoder and a style, too."""
    from minimuse.t5 import find_t5
    from minimuse.weights import fingerprint_of

    stages = ["tokenizer", *plan.stages]
    stages += ["superres_tokenizer"] * ("superres" in plan.stages) + ["superres_decoder"] * plan.finetuned
    stages += ["critic"] * any(sampling.critic for sampling in plan.stages.values())
    files = {stage: [folder / f"{stage}.safetensors"] for stage in stages}
    files["text"] = sorted(find_t5(text_name).glob("model*.safetensors"))
    files |= {"style": sorted(Path(style).glob("style_*.safetensors"))} if style else {}
    return {name: " ".join(fingerprint_of(*paths).values()) for name, paths in files.items()}


def recipe_of(
    command: str,
    plan: "Plan",
    pictures: Sequence[dict[str, Any]],
    *,
    checkpoint: str,
    weights: dict[str, str],
    dtype: str = "float32",
    style: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> Recipe:
    """The recipe without layout and pixels. pictures: caption, negative, seed and index of each."""
    import jax

    settings = dict(superres="superres" in plan.stages, finetuned=plan.finetuned, dtype=dtype)
    return dict(
        minimuse=__version__,
        jax=jax.__version__,
        device=jax.devices()[0].device_kind,
        command=command,
        checkpoint=checkpoint,
        weights=weights,
        style=style,
        settings=settings | dict(sampling=sampling_to_dict(plan.stages)),
        pictures=list(pictures),
        **(dict(more=more) if more else {}),
    )


def as_metadata(recipe: Recipe) -> "PngInfo":
    """The recipe as Pillow writes it into a PNG file, with the captions in the entry that picture viewers show."""
    from PIL.PngImagePlugin import PngInfo

    info, captions = PngInfo(), dict.fromkeys(picture["caption"] for picture in recipe["pictures"])
    info.add_itxt("Description", "; ".join(captions)[:1000])
    info.add_text("Software", f"minimuse {recipe['minimuse']}")
    info.add_text(ENTRY, json.dumps(recipe))
    return info


def read_recipe(path: Path | str) -> Recipe:
    """The recipe in a PNG file. ValueError if there is none, or if it is damaged."""
    from PIL import Image

    with reading(path, "an image"), Image.open(path) as image:
        image.load()
        text = getattr(image, "text", {}).get(ENTRY)
    if text is None:
        why = (
            "its recipe was removed, or it was not drawn by minimuse" if image.format == "PNG" else "only .png has one"
        )
        raise ValueError(f"{path} has no recipe of minimuse in its metadata: {why}. Give a caption instead.")
    try:
        recipe = json.loads(text)
        shown = [(str(p["caption"]), str(p["negative"]), int(p["seed"]), int(p["index"])) for p in recipe["pictures"]]
        sampling, layout = recipe["settings"]["sampling"], recipe["layout"]
        complete = shown and {"base"} <= set(sampling) and {"columns", "scale", "labels"} <= set(layout)
        if not complete or not {"command", "checkpoint", "weights", "pixels", "minimuse"} <= set(recipe):
            raise ValueError("incomplete")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"The recipe in the metadata of {path} is damaged or incomplete.") from None
    return recipe


def check_weights(recipe: Recipe, weights: dict[str, str], name: Path | str) -> None:
    """ValueError if a picture was drawn with other weights than these."""
    was = recipe["weights"]
    for stage in dict.fromkeys([*was, *weights]):
        if was.get(stage) != weights.get(stage):
            raise ValueError(
                f"{name} was drawn with other weights: {stage} was {was.get(stage, 'not used')}, and here it is "
                f"{weights.get(stage, 'not used')}. Name the right checkpoint ({recipe['checkpoint']} there) with "
                "--checkpoint."
            )


def options_of(recipe: Recipe) -> SampleOptions:
    """The settings of sampling as options of `Muse.generate`: one value each, or pairs for two stages."""
    stages = [recipe["settings"]["sampling"][s] for s in ("base", "superres") if s in recipe["settings"]["sampling"]]
    names = [name for name in SampleOptions.__annotations__ if name in stages[0]]
    pairs: Any = {name: tuple(stage[name] for stage in stages) for name in names}
    single: Any = {name: values[0] for name, values in pairs.items()}
    return pairs if len(stages) == 2 else single


def differences(recipe: Recipe) -> list[str]:
    """In what this machine differs from the one that drew the picture."""
    import jax

    now = dict(minimuse=__version__, jax=jax.__version__, device=jax.devices()[0].device_kind)
    return [
        f"{name} {recipe.get(name)} there, {value} here" for name, value in now.items() if recipe.get(name) != value
    ]
