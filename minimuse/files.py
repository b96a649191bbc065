"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Another path in the same folder to write to; it becomes `path` at the end, and nothing is left after an error.

    with whole("weights.safetensors") as partial:
        save_file(arrays, partial)
    """
    path = Path(path)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")  # some writers go by the suffix
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """A text file, written whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text)
