"""Captioned pictures: the emoji scenes of a split as a Hugging Face `Dataset`, and any pictures of your own.

Both are used in the same way: by row, by column (image and caption), and in batches.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from minimuse.data import scenes
from minimuse.data.cache import batch_indices
from minimuse.data.pixels import open_picture, to_rgb, to_square, upright
from minimuse.data.reading import read
from minimuse.files import as_given

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["CaptionedPictures", "batches", "load_captioned", "scene_dataset", "to_rgb", "to_square", "upright"]
COLUMNS = ["image", "caption"]


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


class Column(Sequence):
    """One column, read where it is used."""

    def __init__(self, length: int, at: Callable[[int], Any]):
        self.length, self.at = length, at

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = range(self.length)[index]
        return [self.at(i) for i in found] if isinstance(found, range) else self.at(found)


class CaptionedPictures:
    """Pictures of your own with their captions. `pictures[3]` is a row, a dictionary with image (PIL, upright) and
    caption, `pictures[[3, 5]]` has lists of them, `pictures["caption"]` is a column: as a `Dataset` has them.

    source      what they were read from
    parts       folders, archives and tables
    captions    of each picture one or several; none if the picture cannot be used
    notes       sentences on what in the source is not used
    """

    column_names = COLUMNS

    def __init__(self, source: str, parts: list, notes: list[str]):
        self.source, self.parts, self.notes = source, parts, notes
        self.captions: list[tuple[str, ...]] = [row.captions for part in parts for row in part.rows]
        self._starts = np.cumsum([0] + [len(part.rows) for part in parts])

    def __len__(self) -> int:
        return len(self.captions)

    def __repr__(self) -> str:
        return f"CaptionedPictures({{\n    features: {COLUMNS},\n    num_rows: {len(self)}\n}})"  # as a Dataset's

    def row(self, i: int) -> dict[str, Any]:
        """Picture i and its first caption. ValueError if it cannot be read."""
        number = int(np.searchsorted(self._starts, i, "right")) - 1
        part, inside = self.parts[number], i - int(self._starts[number])
        row = part.rows[inside]
        try:
            if row.problem:
                raise ValueError(row.problem)
            image = open_picture(next(part.fetch(inside, inside + 1))())
        except (OSError, ValueError) as error:
            raise ValueError(f"Cannot read {row.name}: {error}.") from None
        return dict(image=image, caption=row.captions[0])

    def _caption(self, i: int) -> str:
        return self.captions[i][0] if self.captions[i] else self.row(i)["caption"]  # which says what is wrong with it

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            if index not in COLUMNS:
                raise KeyError(f"There is no column {as_given(index)}; there are {', '.join(COLUMNS)}.")
            return Column(len(self), self._caption if index == "caption" else lambda i: self.row(i)["image"])
        if isinstance(index, (int, np.integer)):
            return self.row(range(len(self))[index])
        numbers = range(len(self))[index] if isinstance(index, slice) else [range(len(self))[i] for i in index]
        rows = [self.row(i) for i in numbers]
        return {name: [row[name] for row in rows] for name in COLUMNS}

    def digest(self, numbers: Iterable[int] | None = None) -> str:
        """A few letters that distinguish the captions of these pictures, in their order, from others."""
        captions = self.captions if numbers is None else [self.captions[i] for i in numbers]
        text = "\0".join("\1".join(each) for each in captions)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def load_captioned(
    source: str | os.PathLike, *, split: str = "train", image: str | None = None, caption: str | None = None
) -> CaptionedPictures:
    """Captioned pictures of your own.

    source   one of these:
             - a folder of pictures, also in subfolders, with a metadata.jsonl or .csv (file_name, text), with a .txt
               file beside each (one caption in a line), or in folders that are named for what they show
             - a .zip or .tar with the same in it, or a folder of them (WebDataset)
             - a Parquet file, or a folder of them
             - a saved data set (`Dataset.save_to_disk`), or the name of one on the Hugging Face Hub
    split    which split, where there are several
    image    name of the column of pictures or of their files; None: the first that is known
    caption  name of the column of captions, strings or lists of strings; None: the first of caption, text, prompt, ...

    What is in the source and is not used is printed. FileNotFoundError if the source does not exist; ValueError if it
    cannot be read, or lacks these columns.
    """
    notes: list[str] = []
    parts = read(source, split, image, caption, notes)
    pictures = CaptionedPictures(str(source), parts, notes)
    if not len(pictures):
        raise ValueError(f"{source} has no pictures.")
    for note in notes:
        print(note)
    return pictures


def batches(
    dataset: "Dataset | CaptionedPictures", batch: int, *, size: int = 64, seed: int = 0, epochs: int = 1
) -> Iterator[dict]:
    """Batches of pictures with image and caption: images uint8 [B, size, size, 3], captions a list of B strings.

    Every epoch is a new permutation, a pure function of (seed, epoch), without the last, smaller batch. ValueError if
    there are fewer examples than a batch.
    """
    for step in range(epochs * max(1, len(dataset) // batch)):  # at least once, so that batch_indices can refuse
        rows: Any = dataset[batch_indices(step, batch, len(dataset), seed)]
        images = np.stack([to_square(image, size) for image in rows["image"]])
        yield dict(images=images, captions=rows["caption"])
