"""What is to be drawn, a row per caption: from the command line, or from a file of captions."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minimuse.data.metadata import decode_text, listed, separator_of
from minimuse.files import as_given

KINDS = (".txt", ".csv", ".tsv", ".jsonl")
NUMBERS = dict(seed=(0, 2**32 - 1), index=(0, 2**30), n=(1, 2**16))  # as Muse.generate takes them
COLUMNS = ("caption", "text", "prompt")  # the first that a table has holds the captions


class Row(NamedTuple):
    """One caption and its pictures, which are number index to index + n - 1 of its seed."""

    caption: str
    negative: str = ""
    seed: int = 0
    index: int = 0
    n: int = 1


class Asked(NamedTuple):
    """One picture."""

    caption: str
    negative: str
    seed: int
    index: int
    row: int  # number of its row, from 0


def rows_of(captions: Sequence[str], negative: str = "", seed: int = 0, index: int = 0, n: int = 1) -> list[Row]:
    """Rows of captions that share a seed: their pictures are numbered through, as those of `Muse.generate`."""
    return [Row(caption, negative, seed, index + k * n, n) for k, caption in enumerate(captions)]


def pictures_of(rows: Sequence[Row]) -> list[Asked]:
    """The pictures of all rows."""
    return [
        Asked(row.caption, row.negative, row.seed, row.index + i, number)
        for number, row in enumerate(rows)
        for i in range(row.n)
    ]


def read_rows(path: Path, negative: str = "", seed: int = 0, index: int = 0, n: int = 1) -> list[Row]:
    """The rows of a file; what a row leaves out is as in `rows_of`, so a file of captions draws what they would draw on
    the command line.

    path    .txt: a caption on each line. .csv, .tsv, .jsonl: a column caption, and if wanted negative, seed, index and
            n. With a seed of its own, the pictures of a row are numbered from 0, or from its index

    FileNotFoundError if there is no file; ValueError with file and line for another kind, or for a row that cannot be
    used.
    """
    if path.suffix.lower() not in KINDS:
        raise ValueError(f"--captions names a .txt, .csv, .tsv or .jsonl file; it was {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; --captions names one, such as captions.txt.")
    rows, next_index = [], index
    for line, values in _lines(path, decode_text(path.read_bytes(), str(path))):
        try:
            given = {name: number_from(name, values.get(name), *limits) for name, limits in NUMBERS.items()}
            caption, own = _text("caption", values.get("caption")), _text("negative", values.get("negative"), True)
        except ValueError as error:
            raise ValueError(f"Line {line} of {path} cannot be used: {error}") from None
        count = n if given["n"] is None else given["n"]
        numbered = given["seed"] is None and given["index"] is None  # with the other rows
        first = next_index if numbered else given["index"] or 0
        next_index += count if numbered else 0
        rows.append(Row(caption, own or negative, seed if given["seed"] is None else given["seed"], first, count))
    if not rows:
        raise ValueError(f"{path} has no captions; write one on each line.")
    return rows


def _text(name: str, value: Any, may_be_empty: bool = False) -> str:
    if value is None and may_be_empty:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"its {name} is {as_given(value)}, and must be text.")
    if not value.strip() and not may_be_empty:
        raise ValueError(f"its {name} is empty.")
    return value.strip()


def number_from(name: str, value: Any, low: int, high: int) -> int | None:
    """What stands in a cell, or None for an empty one. ValueError if it is not a whole number from low to high."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            pass  # the message says what it was
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}; it was {as_given(value)}.")
    return value


def _lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line (of a table's row: its last) and its columns."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        lines = io.StringIO(text, newline=None)  # of any system; other signs that separate lines are part of a caption
        yield from ((i, dict(caption=line)) for i, line in enumerate(lines, 1) if line.strip())
    elif suffix == ".jsonl":
        for i, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError):
                    values = None
                if not isinstance(values, dict):
                    raise ValueError(f'Line {i} of {path} is not a JSON object such as {{"caption": "a cat"}}.')
                yield i, _renamed(values, f"Line {i} of {path}")
    else:
        yield from _table(path, text)


def _table(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator_of(text), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [column.strip().lower() for column in cells]
                if not set(COLUMNS) & set(header):
                    raise ValueError(
                        f"{path} has the columns {listed(header)}, and none of them is named caption; its first line "
                        "names the columns."
                    )
                if twice := [name for name in header if header.count(name) > 1]:
                    raise ValueError(f"{path} has more than one column {as_given(twice[0])}; leave out all but one.")
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"Line {reader.line_num} of {path} has {len(cells)} fields and its first line has {len(header)}; "
                    "put captions that contain the separator in quotes."
                )
            yield reader.line_num, _renamed(dict(zip(header, cells)), str(path))
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} of {path} is not valid CSV: {error}.") from None


def _renamed(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The columns by our names. ValueError for one that would be ignored, so that a misspelt one is noticed."""
    caption = next((name for name in COLUMNS if name in values), "caption")
    if unknown := [name for name in values if name not in (caption, "negative", *NUMBERS)]:
        raise ValueError(f"{where} has {as_given(unknown[0])}; known are caption, negative, seed, index and n.")
    return values | dict(caption=values.get(caption))
