"""Safetensors files that are read in pieces: mapped into memory, and joined without being loaded."""

import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minimuse.files import atomic_path

TYPES = {"U8": "u1", "U16": "<u2", "I64": "<i8", "F16": "<f2", "F32": "<f4", "BOOL": "?", "I32": "<i4", "U32": "<u4"}
PIECE = 2**24  # bytes that are copied at once


class Place(NamedTuple):
    """Where an array lies in a file."""

    offset: int  # of its first byte
    dtype: str
    shape: tuple[int, ...]


def find_arrays(path: Path | str) -> tuple[dict[str, Place], dict[str, str]]:
    """Where the arrays of a safetensors file lie, and its metadata. ValueError, with the file's name, if it is
    damaged."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("it has been cut")
            header = json.loads(file.read(length))
        metadata, places = header.pop("__metadata__", {}), {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            places[name] = Place(8 + length + begin, TYPES[entry["dtype"]], tuple(entry["shape"]))
            if end - begin != math.prod(entry["shape"]) * np.dtype(TYPES[entry["dtype"]]).itemsize or begin < 0:
                raise ValueError(f"the sizes of {name} differ")
            if 8 + length + end > size:
                raise ValueError("it has been cut")
    except OSError:
        raise
    except Exception as error:  # also what JSON and struct raise on other bytes
        raise ValueError(f"{path} is damaged ({error}). Delete it; the same command makes it again.") from None
    return places, metadata


def map_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read from disk where they are used. ValueError if it is damaged."""
    places, _ = find_arrays(path)
    content = np.asarray(np.memmap(path, np.uint8, "r"))
    return {
        name: content[place.offset :][: math.prod(place.shape) * np.dtype(place.dtype).itemsize]
        .view(place.dtype)
        .reshape(place.shape)
        for name, place in places.items()
    }


def join_arrays(paths: Sequence[Path], out: Path | str, others: Sequence[dict[str, np.ndarray]] = ()) -> None:
    """Arrays of the same name, one after another along the first axis, as one file, written whole or not at all. Only
    a few megabytes are in memory at any time. ValueError if the files have different arrays.

    others    for each file, arrays that are used in place of its own
    """

    def arrays_of(number: int) -> dict[str, np.ndarray]:
        return map_arrays(paths[number]) | (others[number] if others else {})

    shapes: dict[str, list[int]] = {}
    types: dict[str, np.dtype] = {}
    for number, path in enumerate(paths):
        arrays = arrays_of(number)
        if number and arrays.keys() != shapes.keys():
            raise ValueError(f"{path} holds {', '.join(arrays)}, and {paths[0]} holds {', '.join(shapes)}.")
        for name, array in arrays.items():
            if number and list(array.shape[1:]) != shapes[name][1:]:
                raise ValueError(f"{name} of {path} is {list(array.shape)}, which does not fit {paths[0]}.")
            types[name] = array.dtype
            shapes.setdefault(name, [0, *array.shape[1:]])[0] += len(array)
    names = sorted(shapes, key=lambda name: -types[name].itemsize)  # so that every array begins at a multiple
    header, end = {}, 0
    for name in names:
        begin, end = end, end + math.prod(shapes[name]) * types[name].itemsize
        kind = next(key for key, value in TYPES.items() if np.dtype(value) == types[name])
        header[name] = dict(dtype=kind, shape=shapes[name], data_offsets=[begin, end])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(out) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            for number in range(len(paths)):
                for piece in _pieces(arrays_of(number)[name]):
                    file.write(piece)


def _pieces(array: np.ndarray) -> Iterator[bytes]:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), PIECE):
        yield flat[start : start + PIECE].tobytes()
