"""Files that are written whole or not at all; training logs and picture files."""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Json = TypeVar("Json", dict, list)
POINTER = b"version https://git-lfs"  # how the text begins that stands for a large file in a Git repository
LONGEST = 255  # bytes in the name of a file
PIXELS = {".png": 2**31 - 1, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}  # what a format holds per side


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Another path in the same folder to write to; it becomes `path` at the end, and nothing is left after an error.

    with atomic_path("picture.png") as partial:
        image.save(partial)
    """
    path = Path(path)
    # A name of its own, so that two writers do not mix, and no file of the user's is lost. Some go by the suffix.
    partial = path.with_name(f"{path.stem[:40]}.{secrets.token_hex(6)}.partial{path.suffix}")
    try:
        yield partial
        _to_disk(partial)  # before it takes the name: a loss of power then leaves the old file or the new one
        os.replace(partial, path)
        with contextlib.suppress(PermissionError):  # a folder that can be written to and not listed
            _to_disk(path.parent)
    except OSError as error:
        if error.errno and not error.filename:  # a full disk does not say which file it had no room for
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file is on disk, or what a folder lists, where the system can do that."""
    file = path.is_file()
    if not file and os.name == "nt":  # Windows opens no folders
        return
    number = os.open(path, os.O_RDWR if file else os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some mounted drives cannot
            raise
    finally:
        os.close(number)


def as_given(value: object) -> str:
    """A value for a message, as its repr: one line, not long, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # of a class of the user's; of a number with thousands of digits
        return f"of the type {type(value).__name__}"
    text = " ".join(text.split()) if "\n" in text else text  # of arrays
    return text if len(text) <= 200 else f"{text[:200]} ..."


def to_path(name: object, what: str) -> Path:
    """A path as a user gives it, ~ included. ValueError if `name`, which names `what`, is not a path or empty."""
    text = None
    if isinstance(name, (str, os.PathLike)):
        with contextlib.suppress(Exception):  # of a class of the user's
            text = os.fspath(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{what} is named by a string or a path; it was {as_given(name)}.")
    return Path(os.path.expanduser(text))


def in_short(error: Exception) -> str:
    """The beginning of an error's message, as one line without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:160]} ...").rstrip(".")


def sentence(error: Exception) -> str | None:
    """What to print about an error that the user can do something about, or None for any other.

    OSError is a missing file, no permission or no space; ImportError no PyTorch, which only judges need.
    """
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # NumPy's and JAX's
        return f"This takes more memory than there is ({in_short(error)})."
    if isinstance(error, OSError) and error.strerror and error.filename:  # without the number that Python puts first
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__ if isinstance(error, (ValueError, OSError, ImportError)) else None


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


def read_json(path: Path | str, advice: str = "Copy or download it again", kind: type[Json] = dict) -> Json:
    """The JSON object in a file, or the list; ValueError with the file's name if it holds none."""
    with reading(path, "JSON", advice):
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(values, kind):
            raise ValueError(f"it holds no JSON {'object' if kind is dict else 'list'}")
    return values


def write_text(path: Path | str, text: str) -> None:
    """A text file, written whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, written whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        try:
            save_file(arrays, partial, metadata)
        except SafetensorError as error:  # for a full disk, too
            raise OSError(f"{path} could not be written: {error}") from None


def log_rows(path: Path | str) -> list[dict[str, float]]:
    """The rows of a JSON-lines training log. A running or killed run may end in half a line, which is left out.
    ValueError for a file that is not a log."""
    with reading(path, "a training log", "Delete it, or copy the run again"):
        *lines, last = Path(path).read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in [*lines, last if last.endswith("}") else ""] if line.strip()]
        for row in rows:
            if not isinstance(row, dict) or "step" not in row or {type(x) for x in row.values()} - {int, float}:
                raise ValueError(f"a row is {as_given(row)}")
    return rows


def read_log(path: Path | str) -> dict[str, np.ndarray]:
    """The columns of a JSON-lines training log. ValueError for a file that is not one."""
    rows = log_rows(path)
    names = dict.fromkeys(name for row in rows for name in row)  # a metric may be absent from some lines
    return {k: np.array([row.get(k, np.nan) for row in rows]) for k in names}


def check_writable(out: Path, option: str = "--out") -> None:
    """An error now if a picture cannot be written there; `option` is what named it."""
    if "\0" in str(out):
        raise ValueError(f"{option} is {as_given(str(out))}, and no name of a file has \\0 in it; leave it out.")
    if len(os.fsencode(out.name)) > LONGEST:
        raise ValueError(
            f"{option} is a name of more than {LONGEST} bytes, {as_given(out.name)}; choose a shorter one."
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder {out.parent} does not exist; make it, or choose another {option}.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"Nothing can be written to {out.parent}; choose another {option}.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; {option} names a file, such as {out / 'picture.png'}.")
    if out.suffix.lower() not in PIXELS:
        raise ValueError(f"{option} {out} must end in .png, .jpg or .webp.")


def check_size(out: Path, width: int, height: int) -> None:
    """ValueError now if the format of the picture `out` does not hold this many pixels."""
    most = PIXELS.get(out.suffix.lower(), PIXELS[".png"])
    if max(width, height) > most:
        better = "" if most == PIXELS[".png"] else "use .png, "
        raise ValueError(
            f"{out} would be {width} x {height} pixels, and a {out.suffix} file has at most {most} per side; "
            f"{better}fewer pictures, or a smaller --scale."
        )


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
