"""Captioned pictures in the columns of Parquet files and of Hugging Face data sets."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse.data.listing import Read, Row
from minimuse.data.metadata import CAPTIONS, PICTURES, captions_of, find_column
from minimuse.files import in_short

if TYPE_CHECKING:
    from datasets import Dataset

ROWS = 8  # that are read from a table at once


def to_stored(value: Any, folders: tuple[Path, ...]) -> bytes | np.ndarray:
    """What stands in an image column as the content of a picture's file, or as pixels. Files are read from `folders`
    only. ValueError with half a sentence."""
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if value is None:
        raise ValueError("it has no picture")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return _read_file(value, folders)
    if isinstance(value, (list, np.ndarray)):
        try:
            pixels = np.asarray(value)
        except ValueError:
            pixels = np.zeros(0, object)
        channels = pixels.shape[2:] in ((), (3,), (4,))
        if pixels.ndim not in (2, 3) or not pixels.size or not channels or pixels.dtype.kind not in "iu":
            raise ValueError(f"its pixels are {pixels.dtype} {list(pixels.shape)}, not integers [H, W, 3]")
        if pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(f"its pixels go from {pixels.min()} to {pixels.max()}, not from 0 to 255")
        return pixels.astype(np.uint8)
    raise ValueError(f"its image column holds {str(value)[:40]!r}, not a picture")


def _read_file(name: str, folders: tuple[Path, ...]) -> bytes:
    if "://" in name:
        raise ValueError("its picture is a web address; download the pictures first")
    for folder in folders:
        try:
            path = Path(os.path.realpath(folder / name))
            inside, there = path.is_relative_to(os.path.realpath(folder)), path.is_file()
        except (OSError, ValueError):  # too long for a name, as pictures in base64 are
            break
        if inside and there:
            return path.read_bytes()
        if there:
            raise ValueError(f"its picture {name[:80]!r} is outside of {folder}")
    raise ValueError(f"its image column holds {name[:80]!r}, which is not a file in {folders[0]}")


def _rows(title: str, mark: str, captions: list[Any]) -> list[Row]:
    rows = []
    for number, value in enumerate(captions):
        try:
            found, problem = captions_of(value), ""
        except ValueError as error:
            found, problem = (), str(error)
        rows.append(Row(f"row {number} of {title}", f"{mark}/{number}", found, problem))
    return rows


def _columns(columns: list[str], image: str | None, caption: str | None, where: str, notes: list[str]) -> tuple:
    image = find_column(columns, image, PICTURES, "image-column", where)
    known = tuple(name for name in CAPTIONS if name != image.lower())
    found = find_column(columns, caption, known, "caption-column", where)
    others = [column for column in columns if column.lower() in known and column != found]
    if others and not caption:
        notes.append(f"Captions are from the column {found!r} of {where}, not from {', '.join(others)}.")
    return image, found


class ParquetPart:
    """The captioned pictures of a Parquet file, which is read in pieces."""

    def __init__(self, path: Path, image: str | None, caption: str | None, notes: list[str]):
        self.path = path
        try:
            with self._open() as file:
                columns = list(file.schema_arrow.names)
                self.image, column = _columns(columns, image, caption, str(path), notes)
                kind = file.schema_arrow.field(self.image).type
                self.groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
                captions = file.read(columns=[column]).column(column).to_pylist()
        except (OSError, ValueError, NotImplementedError) as error:  # also what pyarrow raises
            if type(error) is ValueError:  # of `_columns`; those of pyarrow are of other types
                raise
            raise ValueError(f"{path} is not a complete Parquet file ({in_short(error)}).") from None
        import pyarrow.types as types

        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            raise ValueError(f"The column {self.image!r} of {path} holds {kind}, not pictures. Change --image-column.")
        found = path.stat()
        self.rows = _rows(str(path), f"{path.name}/{found.st_size}/{found.st_mtime_ns}", captions)

    def _open(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20)  # not whole row groups

    def fetch(self, start: int, stop: int) -> Iterator[Read]:
        folders, first, skipped = (self.path.parent.absolute(),), 0, 0
        while first < len(self.groups) and skipped + self.groups[first] <= start:
            skipped += self.groups[first]
            first += 1
        with self._open() as file:
            groups = list(range(first, len(self.groups)))
            for batch in file.iter_batches(ROWS, row_groups=groups, columns=[self.image]):
                if skipped + len(batch) > start:
                    column = batch.column(0)
                    for number in range(max(start - skipped, 0), min(stop - skipped, len(batch))):
                        value = column[number].as_py()
                        yield lambda value=value: to_stored(value, folders)
                skipped += len(batch)
                if skipped >= stop:
                    return


class DatasetPart:
    """The captioned pictures of a Hugging Face data set, which `datasets` maps into memory.

    folders    where files that it names may be
    """

    def __init__(
        self,
        dataset: "Dataset",
        name: str,
        image: str | None,
        caption: str | None,
        notes: list[str],
        folders: tuple[Path, ...],
    ):
        import datasets

        self.image, column = _columns(dataset.column_names, image, caption, name, notes)
        kind = dataset.features[self.image]
        if isinstance(kind, datasets.Value) and kind.dtype not in ("binary", "large_binary", "string", "large_string"):
            raise ValueError(
                f"The column {self.image!r} of {name} holds {kind.dtype}, not pictures. Change --image-column."
            )
        captions = dataset[column][:]
        if isinstance(dataset.features[column], datasets.ClassLabel):
            captions = [dataset.features[column].int2str(value).replace("_", " ") for value in captions]
        dataset = dataset.select_columns([self.image])
        if isinstance(kind, datasets.Image):
            dataset = dataset.cast_column(self.image, datasets.Image(decode=False))
        self.dataset, self.folders = dataset, folders
        self.rows = _rows(name, dataset._fingerprint, captions)

    def fetch(self, start: int, stop: int) -> Iterator[Read]:
        for begin in range(start, stop, ROWS):
            for value in self.dataset[begin : min(begin + ROWS, stop)][self.image]:
                yield lambda value=value: to_stored(value, self.folders)
