"""Captioned images as Hugging Face `datasets`.

The emoji scenes of a split and any other captioned images (a Hub name, an `imagefolder` with metadata.jsonl, Parquet)
take the same form: a `datasets.Dataset` with the columns image and caption.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from minimuse.data import scenes
from minimuse.data.cache import batch_indices

if TYPE_CHECKING:
    from datasets import Dataset

FILES = (".parquet", ".jsonl", ".json", ".csv", ".zip", ".tar", ".txt")  # no Hub name ends like this


def scene_dataset(split: str, n: int, *, size: int = 64, seed: int = 0, lattice: bool = True) -> "Dataset":
    """n scenes of a split as a Dataset with the columns image (PIL, size x size pixels), caption and task."""
    import datasets

    features = datasets.Features(
        image=datasets.Image(), caption=datasets.Value("string"), task=datasets.Value("string")
    )

    def row(i: int) -> dict:
        scene, caption = scenes.example(split, i, seed, lattice=lattice)
        return dict(image=Image.fromarray(scenes.render(scene, size)), caption=caption, task=scene.task)

    return datasets.Dataset.from_list([row(i) for i in range(n)], features=features)


def load_captioned(
    source: str | os.PathLike, *, split: str = "train", image: str = "image", caption: str | None = None
) -> "Dataset":
    """Captioned images as a Dataset with the columns image and caption.

    source   a folder of pictures with metadata.jsonl (file_name, text), a Parquet file or a folder of Parquet files, or
             the name of a data set on the Hugging Face Hub
    split    which split of a folder or Hub data set
    image    name of the column of images
    caption  name of the column of captions; None: the first that exists of caption, text, prompt

    FileNotFoundError if `source` looks like a path and does not exist; ValueError if a column is missing.
    """
    import datasets

    path = Path(source)
    if path.is_file() and path.suffix == ".parquet":
        dataset = datasets.load_dataset("parquet", data_files=str(path), split="train")
    elif path.is_dir():
        dataset = datasets.load_dataset(str(path), split=split)
    elif path.suffix.lower() in FILES or str(source).count("/") > 1 or str(source).startswith((".", "~")):
        raise FileNotFoundError(f"There is no file or folder {source}; give a path that exists or a Hub name.")
    else:
        dataset = datasets.load_dataset(str(source), split=split)
    columns = dataset.column_names
    found = caption if caption in columns else next((c for c in ("caption", "text", "prompt") if c in columns), None)
    if image not in columns or found is None or (caption and caption != found):
        raise ValueError(
            f"{source} has the columns {', '.join(columns)}; it needs an image column ({image!r}) and a caption column "
            f"({caption or 'caption, text or prompt'!r}). Name them with image= and caption=."
        )
    dataset = dataset.select_columns([image, found])
    renames = {old: new for old, new in ((image, "image"), (found, "caption")) if old != new}
    return dataset.rename_columns(renames) if renames else dataset


def upright(image: Image.Image) -> Image.Image:
    """The picture as it is meant to be seen: phones store photographs turned, with their orientation as EXIF data.
    EXIF data that cannot be read count as none."""
    image.load()  # errors of the picture itself are raised here
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises errors of many types for damaged EXIF data
        return image


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """A picture of any mode as RGB, upright, with `ground` behind what is transparent.

    ValueError for modes whose range is not known.
    """
    image = upright(image)
    if image.mode.startswith("I;16"):  # 16 bits per pixel; Pillow would clip them at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F", "La", "RGBa"):
        raise ValueError(
            f"A picture of mode {image.mode} has no known range; save it as RGB or L with 8 bits per channel."
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Any picture as uint8 [size, size, 3]: upright, put on white, cropped to its middle square, then resized."""
    image, side = to_rgb(image), min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image if side == size else image.resize((size, size), Image.Resampling.LANCZOS))


def batches(dataset: "Dataset", batch: int, *, size: int = 64, seed: int = 0, epochs: int = 1) -> Iterator[dict]:
    """Batches of a Dataset with image and caption: images uint8 [B, size, size, 3], captions a list of B strings.

    Every epoch is a new permutation, a pure function of (seed, epoch), without the last, smaller batch. ValueError if
    there are fewer examples than a batch.
    """
    for step in range(epochs * max(1, len(dataset) // batch)):  # at least once, so that batch_indices can refuse
        rows = dataset[batch_indices(step, batch, len(dataset), seed)]
        images = np.stack([to_square(image, size) for image in rows["image"]])
        yield dict(images=images, captions=rows["caption"])
