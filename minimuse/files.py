"""Files that are written whole or not at all."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Another path in the same folder to write to; it becomes `path` at the end, and nothing is left after an error.

    with atomic_path("picture.png") as partial:
        image.save(partial)
    """
    path = Path(path)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")  # some writers go by the suffix
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.errno and not error.filename:  # a full disk does not say which file it had no room for
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """A text file, written whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text)


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, written whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        try:
            save_file(arrays, partial, metadata)
        except SafetensorError as error:  # for a full disk, too
            raise OSError(f"{path} could not be written: {error}") from None


def read_log(path: Path | str) -> dict[str, np.ndarray]:
    """The columns of a JSON-lines training log."""
    lines = Path(path).read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # a running or killed run may end in half a line
    names = dict.fromkeys(name for row in rows for name in row)  # a metric may be absent from some lines
    return {k: np.array([row.get(k, np.nan) for row in rows]) for k in names}
