"""Safetensors files that are read in pieces: mapped into memory, and joined without being loaded."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minimuse.files import atomic_path

TYPES = {"U8": "u1", "U16": "<u2", "I64": "<i8", "F16": "<f2", "F32": "<f4", "BOOL": "?", "I32": "<i4", "U32": "<u4"}
PIECE = 2**24  # bytes that are copied at once


def map_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, read from disk where they are used, and its metadata.

    ValueError if the file is damaged, with its name.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("it has been cut")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        size = path.stat().st_size - 8 - length
        if size != max((entry["data_offsets"][1] for entry in header.values()), default=0):
            raise ValueError("it has been cut")
        content = np.asarray(np.memmap(path, np.uint8, "r", 8 + length)) if size else np.zeros(0, np.uint8)
        arrays = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            arrays[name] = content[begin:end].view(TYPES[entry["dtype"]]).reshape(entry["shape"])
    except OSError:
        raise
    except Exception as error:  # also what JSON, struct and NumPy raise on bytes that are no such file
        raise ValueError(f"{path} is damaged ({error}). Delete it; the same command makes it again.") from None
    return arrays, metadata


def join_arrays(paths: Sequence[Path], out: Path | str, others: Sequence[dict[str, np.ndarray]] = ()) -> None:
    """Arrays of the same name, one after another along the first axis, as one file, written whole or not at all. Only
    a few megabytes are in memory at any time. ValueError if the files have different arrays.

    others    for each file, arrays that are used in place of its own
    """

    def arrays_of(number: int) -> dict[str, np.ndarray]:
        return map_arrays(paths[number])[0] | (others[number] if others else {})

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
        begin, end = end, end + int(np.prod(shapes[name], dtype=np.int64)) * types[name].itemsize
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
