"""Captioned images in and out of Hugging Face `datasets`, and the caches that training reads.

Two ways in, one form: a split of the emoji scenes, or any captioned image set (a Hub name, an `imagefolder` with
metadata.jsonl, Parquet). Either is a `datasets.Dataset` with the columns image and caption. Before the transformer
trains, every image becomes tokens and every caption becomes embeddings, once.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from minimuse.data import scenes
from minimuse.data.cache import batch_indices

FILES = (".parquet", ".jsonl", ".json", ".csv", ".zip", ".tar", ".txt")  # no Hub name ends so


def scene_dataset(split: str, n: int, *, size: int = 64, seed: int = 0, lattice: bool = True):
    """n scenes of a split as a `datasets.Dataset` with the columns image (PIL, size pixels a side), caption, task."""
    import datasets

    features = datasets.Features(
        image=datasets.Image(), caption=datasets.Value("string"), task=datasets.Value("string")
    )

    def rows():
        for i in range(n):
            scene, caption = scenes.example(split, i, seed, lattice=lattice)
            yield dict(image=Image.fromarray(scenes.render(scene, size)), caption=caption, task=scene.task)

    return datasets.Dataset.from_list(list(rows()), features=features)


def load_captioned(
    source: str | os.PathLike, *, split: str = "train", image: str = "image", caption: str | None = None
):
    """Any captioned image set as a `datasets.Dataset` with the columns image and caption.

    source   a folder of pictures with metadata.jsonl (file_name, text), a Parquet file or a folder of them, or the
             name of a data set on the Hugging Face Hub
    caption  the caption's column; None takes the first there is of caption, text, prompt
    """
    import datasets

    path = Path(source)
    if path.is_file() and path.suffix == ".parquet":
        dataset = datasets.load_dataset("parquet", data_files=str(path), split="train")
    elif path.is_dir():
        dataset = datasets.load_dataset(str(path), split=split)
    elif path.suffix.lower() in FILES or str(source).count("/") > 1 or str(source).startswith((".", "~")):
        raise FileNotFoundError(f"No file or folder {source}.")
    else:
        dataset = datasets.load_dataset(str(source), split=split)
    columns = dataset.column_names
    found = caption if caption in columns else next((c for c in ("caption", "text", "prompt") if c in columns), None)
    if image not in columns or found is None or (caption and caption != found):
        raise ValueError(
            f"{source} has the columns {', '.join(columns)}; an image column ({image!r}) and a caption column "
            f"({caption or 'caption, text or prompt'!r}) are needed. Name them with image= and caption=."
        )
    dataset = dataset.select_columns([image, found])
    renames = {old: new for old, new in ((image, "image"), (found, "caption")) if old != new}
    return dataset.rename_columns(renames) if renames else dataset


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """A picture of any mode as RGB, what is transparent on `ground`. ValueError for pictures of plain numbers."""
    if image.mode.startswith("I;16"):  # 16 bits a pixel; Pillow alone would clip them at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F", "La", "RGBa"):
        raise ValueError(f"A picture of mode {image.mode} has no known range; save it with 8 bits a colour (RGB or L).")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Any picture as uint8 [size, size, 3]: transparency on white, the middle square cut out, then resized."""
    image, side = to_rgb(image), min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image if side == size else image.resize((size, size), Image.Resampling.LANCZOS))


def batches(dataset, batch: int, *, size: int = 64, seed: int = 0, epochs: int = 1) -> Iterator[dict]:
    """Batches of a Dataset with image and caption: images uint8 [B, size, size, 3], captions a list of B strings.

    Every epoch is a new permutation, a pure function of (seed, epoch); the last ragged batch is dropped.
    """
    for step in range(epochs * max(1, len(dataset) // batch)):  # batch_indices refuses a set smaller than a batch
        rows = dataset[batch_indices(step, batch, len(dataset), seed)]
        images = np.stack([to_square(image, size) for image in rows["image"]])
        yield dict(images=images, captions=rows["caption"])
