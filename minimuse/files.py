"""Files that are written whole or not at all; training logs and picture files."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

POINTER = b"version https://git-lfs"  # how the text begins that stands for a large file in a Git repository


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


def in_short(error: Exception) -> str:
    """The beginning of an error's message, as one line without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:160]} ...").rstrip(".")


@contextlib.contextmanager
def reading(path: Path | str, kind: str, advice: str = "Copy or download it again") -> Iterator[None]:
    """Within it, whatever a library raises on a damaged file becomes a ValueError of one sentence.

    kind    what the file should hold, such as "safetensors"
    """
    try:
        yield
    except (OSError, MemoryError):  # say what is wrong already, or nothing about the file
        raise
    except Exception as error:  # each library has a class of its own, or none
        with open(path, "rb") as file:
            pointer = file.read(len(POINTER)) == POINTER
        why = "is a Git LFS pointer, not the file itself" if pointer else f"cannot be read as {kind}"
        advice = "Run `git lfs pull`, or download it" if pointer else advice
        raise ValueError(f"{path} {why} ({in_short(error)}). {advice}.") from None


def open_arrays(path: Path | str) -> Any:
    """A safetensors file, opened: it has keys() and get_tensor(key). ValueError for a damaged one."""
    from safetensors import safe_open

    with reading(path, "safetensors"):
        return safe_open(path, framework="np")


def read_json(path: Path | str, advice: str = "Copy or download it again") -> dict:
    """The JSON object in a file; ValueError with the file's name if it holds none."""
    with reading(path, "JSON", advice):
        values = json.loads(Path(path).read_text())
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
    return values


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


def check_writable(out: Path, option: str = "--out") -> None:
    """An error now if a picture cannot be written there; `option` is what named it."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder {out.parent} does not exist; make it, or choose another {option}.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"Nothing can be written to {out.parent}; choose another {option}.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; {option} names a file, such as {out / 'picture.png'}.")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"{option} {out} must end in .png, .jpg or .webp.")


def read_picture(path: Path) -> "PIL.Image.Image":
    """The picture of a file; OSError or ValueError if Pillow cannot read the whole of it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:  # its message is a sentence already: file not found, not an image, truncated
        raise
    except Exception as error:  # an image that is too large, and what Pillow's decoders raise on damaged files
        raise ValueError(f"Cannot read {path} as an image: {error}") from None
    return image


def save_picture(images: np.ndarray, out: Path, columns: int, scale: int = 1) -> None:
    """uint8 [B, H, W, 3] as one picture, `columns` side by side, each pixel `scale` wide; whole or not at all."""
    from PIL import Image

    b, h, w, _ = images.shape
    rows = -(-b // columns)
    sheet = np.full((rows * columns, h, w, 3), 255, np.uint8)
    sheet[:b] = images
    sheet = sheet.reshape(rows, columns, h, w, 3).swapaxes(1, 2).reshape(rows * h, columns * w, 3)
    sheet = sheet.repeat(scale, 0).repeat(scale, 1)
    with atomic_path(out) as partial:
        Image.fromarray(sheet).save(partial)
    print(f"{b} picture{'s' * (b != 1)} of {w} x {h} pixels -> {out}")
