"""The recipe of a picture: everything that it was drawn with, as JSON in the PNG's metadata, and drawing it again.

A PNG file of minimuse has a text entry "minimuse" with this JSON object:

minimuse, jax, device   the versions and the kind of device that drew it
command                 generate, vary, interpolate, inpaint, outpaint or edit
checkpoint, weights     its name as it was given, and the fingerprint of every file that was used
style                   folder and strength, or null
settings                superres, finetuned, dtype, and `sampling` with all settings of each stage
pictures                caption, negative, seed and index of each picture, in order
layout                  how they are arranged: columns, scale, labels, and rows, how many pictures each caption has
pixels                  a fingerprint of the pictures' pixels before they were arranged
file                    a fingerprint of the file's pixels, by which a later change is noticed
more                    of an edit: its other options, and name and fingerprint of the pictures it was given
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse import __version__
from minimuse.config import SampleOptions, Sampling, from_dict, sampling_to_dict
from minimuse.files import as_given, in_short, reading
from minimuse.studio.rows import NUMBERS, number_from

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
    unused: Sequence[str] = (),
    more: dict[str, Any] | None = None,
) -> Recipe:
    """The recipe without layout and pixels.

    pictures    caption, negative, seed and index of each
    unused      stages and settings of the plan that the command does not use
    """
    import jax

    sampling = {
        stage: {name: value for name, value in values.items() if name not in unused}
        for stage, values in sampling_to_dict(plan.stages).items()
        if stage not in unused
    }
    settings = dict(superres="superres" in plan.stages, finetuned=plan.finetuned, dtype=dtype, sampling=sampling)
    return dict(
        minimuse=__version__,
        jax=jax.__version__,
        device=jax.devices()[0].device_kind,
        command=command,
        checkpoint=checkpoint,
        weights=weights,
        style=style,
        settings=settings,
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


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """A picture's file with its metadata, decoded. ValueError for what is none; OSError for a missing file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with reading(path, "an image"), Image.open(path) as image:
            image.load()
            yield image
    except OSError as error:
        if error.errno and not isinstance(error, UnidentifiedImageError):
            raise
        raise ValueError(f"{path} cannot be read as an image ({in_short(error)}).") from None


def read_recipe(path: Path | str) -> Recipe:
    """The recipe in a PNG file. ValueError if there is none, or if it is damaged."""
    with _opened(path) as image:
        text = getattr(image, "text", {}).get(ENTRY)
    if text is None:
        why = (
            "its recipe was removed, or it was not drawn by minimuse" if image.format == "PNG" else "only .png has one"
        )
        raise ValueError(f"{path} has no recipe of minimuse in its metadata: {why}. Give a caption instead.")
    recipe, version = None, ""
    try:
        recipe = json.loads(text)
        _check(recipe)
    except (ValueError, RecursionError) as error:
        if isinstance(recipe, dict) and recipe.get("minimuse") != __version__:
            version = f" It is of minimuse {as_given(recipe.get('minimuse'))}; this is {__version__}."
        raise ValueError(f"The recipe in the metadata of {path} cannot be used: {in_short(error)}.{version}") from None
    return recipe


def _check(recipe: Any) -> None:
    """ValueError with half a sentence for what is not a recipe."""
    texts = dict.fromkeys(("minimuse", "command", "checkpoint", "pixels"), str)
    _fields("the recipe", recipe, **texts, weights=dict, settings=dict, pictures=list, layout=dict)
    settings, layout, pictures = recipe["settings"], recipe["layout"], recipe["pictures"]
    _fields("settings", settings, superres=bool, finetuned=bool, dtype=str, sampling=dict)
    _fields("layout", layout, columns=int, scale=int, labels=bool)
    for picture in pictures:
        _fields("a picture", picture, caption=str, negative=str, seed=int, index=int)
        for name in ("seed", "index"):
            number_from(name, picture[name], *NUMBERS[name])
    if recipe.get("style") is not None:
        _fields("style", recipe["style"], folder=str, strength=float)
    if recipe["command"] == "interpolate":
        _fields("more", recipe.get("more"), first=str, second=str)
    if recipe["command"] in AGAIN:
        stages = ("base", "superres") if settings["superres"] else ("base",)
        _fields("sampling", settings["sampling"], **dict.fromkeys(stages, dict))
        for stage in stages:
            from_dict(Sampling, settings["sampling"][stage])
    rows = layout.get("rows", [])
    whole = isinstance(rows, list) and all(type(n) is int and n > 0 for n in rows)
    if not whole or sum(rows) != len(pictures) * bool(rows) or not 1 <= layout["columns"] <= len(pictures):
        raise ValueError(f"layout does not fit {len(pictures)} pictures; it is {as_given(layout)}")
    if layout["scale"] < 1:
        raise ValueError(f"scale is {layout['scale']}")


def _fields(what: str, values: Any, **kinds: type) -> None:
    """ValueError with half a sentence for what is not an object with these fields; an int counts as a float."""
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {as_given(values)}")
    for name, kind in kinds.items():
        if name not in values:
            raise ValueError(f"{what} has no {name}")
        if type(values[name]) is not kind and not (kind is float and type(values[name]) is int):
            raise ValueError(f"{name} of {what} is {as_given(values[name])}")


def is_changed(path: Path | str, recipe: Recipe) -> bool:
    """Whether the pixels of a PNG file are no longer those that were written; files of older versions do not say."""
    with _opened(path) as image:
        return "file" in recipe and pixels_of(np.asarray(image.convert("RGB"))) != recipe["file"]


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
    settings = recipe["settings"]
    stages = [settings["sampling"][stage] for stage in ("base", "superres")[: 1 + settings["superres"]]]
    names = [name for name in SampleOptions.__annotations__ if all(name in stage for stage in stages)]
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
