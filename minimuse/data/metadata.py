"""Files that say which picture has which caption (metadata.jsonl, .csv), and which column holds what."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from minimuse.files import as_given

TABLES = (".jsonl", ".csv", ".tsv", ".json")
NAMES = tuple(f"metadata{suffix}" for suffix in TABLES)
# Names of columns, the first that exists is used; upper and lower case are the same.
FILES = (
    *("file_name", "filename", "file", "file_path", "filepath", "path", "image_path", "image_file", "image_name"),
    *("image_filename", "image", "img", "picture", "photo"),
)
PICTURES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", *FILES)
CAPTIONS = (
    *("caption", "text", "prompt", "captions", "texts", "prompts", "description", "title", "sentence", "sentences"),
    *("alt_text", "alt"),
)


def find_column(columns: Iterable[str], wanted: str | None, known: tuple[str, ...], option: str, source: str) -> str:
    """The column that was asked for, or the first known one. ValueError with the name of the option if it is not
    there."""
    columns, what = list(columns), option.partition("-")[0]
    named = f"Name it with --{option} (in Python {what}=)."
    if wanted:
        if wanted in columns:
            return wanted
        raise ValueError(f"{source} has no column {wanted!r}; it has the columns {listed(columns)}. {named}")
    lower = {column.lower(): column for column in reversed(columns)}
    if found := next((lower[name] for name in known if name in lower), None):
        return found
    article = "an" if what == "image" else "a"
    raise ValueError(
        f"{source} has the columns {listed(columns)}, and none of them is known as {article} {what} column. {named}"
    )


def listed(columns: list[str]) -> str:
    """Names of columns for a message, on one line that is not long."""
    names = [" ".join(name.split()) for name in columns[:20]]
    names = [name if len(name) <= 40 else f"{name[:40]} ..." for name in names]
    return ", ".join(names + ["..."] * (len(columns) > 20)) or "none"


def captions_of(value: Any) -> tuple[str, ...]:
    """What stands in a caption column, a string or a list of strings, as captions. ValueError with half a sentence for
    anything else."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ValueError("it has no caption")
    for each in values:
        if not isinstance(each, str):
            raise ValueError(f"its caption is {as_given(each)}, not a string")
        if not each.strip():
            raise ValueError("its caption is empty")
    return tuple(values)


def decode_text(data: bytes, name: str) -> str:
    """A text file. ValueError with its line if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{name} is not UTF-8 in line {line}; save it as UTF-8.") from None


def separator_of(text: str) -> str:
    """What separates the columns of a table: the sign that divides its first line into most fields, or a comma."""
    first = text.strip()[:10_000].splitlines()[:1]
    fields = {mark: next(csv.reader(first, delimiter=mark), []) for mark in ",;\t|"}
    return max(fields, key=lambda mark: len(fields[mark]))


def read_table(name: str, data: bytes) -> list[dict[str, Any]]:
    """The rows of a .jsonl, .json, .csv or .tsv file. ValueError with the file's name and line if it is not one."""
    text, suffix = decode_text(data, name), PurePosixPath(name).suffix.lower()
    rows = _json_rows(name, text) if suffix.startswith(".json") else _csv_rows(name, text)
    if not rows:
        raise ValueError(f"{name} has no rows; it needs one for each picture, with its file name and caption.")
    return rows


def _json_rows(name: str, text: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):  # one array
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} is not valid JSON: {error}.") from None
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    why = getattr(error, "msg", None) or "too many nested brackets"
                    raise ValueError(
                        f"Line {number} of {name} is not valid JSON ({why}); every line is one object, such as "
                        '{"file_name": "1.png", "text": "a cat"}.'
                    ) from None
    if wrong := [row for row in rows if not isinstance(row, dict)]:
        raise ValueError(
            f"{name} holds {json.dumps(wrong[0])[:60]}; every row is one object, such as {{'file_name': '1.png'}}."
        )
    return rows


def _csv_rows(name: str, text: str) -> list[dict[str, Any]]:
    rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator_of(text))
        header = [column.strip() for column in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"Line {reader.line_num} of {name} has {len(row)} fields and its first line has {len(header)}; put "
                    'captions that contain the separator in "quotes".'
                )
            rows.append(dict(zip(header, row)))
    except csv.Error as error:
        raise ValueError(f"{name} is not a valid CSV file: {error}.") from None
    return rows
