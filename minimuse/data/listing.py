"""Which picture files have which captions: by metadata files, by text files beside the pictures, or by the names of
folders."""

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import numpy as np

from minimuse.data.metadata import (
    CAPTIONS,
    FILES,
    NAMES,
    TABLES,
    captions_of,
    decode_text,
    find_column,
    read_table,
)
from minimuse.data.trees import ARCHIVES, Folder, Tree, is_picture

BESIDE = (".txt", ".caption")  # endings of files with a picture's captions, one in a line
MISSING = "the file does not exist"
SHOWN = 3  # names that a sentence shows


class Row(NamedTuple):
    """One picture: what it is called, what distinguishes this version of its file from others, its captions, and, if
    it is known already that it cannot be used, why not."""

    name: str
    mark: str
    captions: tuple[str, ...]
    problem: str = ""


Read = Callable[[], bytes | np.ndarray]


class Part(Protocol):
    """Some of the pictures: a folder, an archive, a Parquet file or a saved data set."""

    rows: list[Row]

    def fetch(self, start: int, stop: int) -> Iterator[Read]:
        """For each row from `start` to `stop`, a function that reads its picture, callable from any thread."""
        ...


@dataclasses.dataclass
class TreePart:
    """The captioned pictures of a tree; `keys` are their files."""

    tree: Tree
    rows: list[Row]
    keys: list[str]

    def fetch(self, start: int, stop: int) -> Iterator[Read]:
        return iter([functools.partial(self.tree.read, key) for key in self.keys[start:stop]])


def shown(names: list[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def tree_part(
    tree: Tree,
    image: str | None,
    caption: str | None,
    notes: list[str],
    only: list[str] | None = None,
    table: str | None = None,
) -> TreePart:
    """The captioned pictures of a tree.

    image, caption    columns of its metadata files; None: those with a known name
    notes             takes a sentence on each kind of file that is not used
    only              the pictures to use; None: all
    table             the metadata file to use; None: those that are found

    ValueError if no picture has a caption.
    """
    pictures = [name for name in sorted(tree.files) if is_picture(name)]
    if only is not None:
        left_out = {name.partition("/")[0] for name in set(pictures) - set(only)}  # folders of other splits
        pictures = only
    else:
        left_out = set()
    tables = [table] if table else find_tables(tree)
    tables = [name for name in tables if name.partition("/")[0] not in left_out]
    if tables:
        found = _from_tables(tree, tables, image, caption, notes)
    elif not pictures:
        raise ValueError(f"{tree.name} holds no pictures.")
    else:
        tables, found = _from_any(tree, pictures, image, caption, notes)
    if unlisted := [name for name in pictures if name not in found]:
        notes.append(f"Not used, since no metadata file lists them: {shown(unlisted)}.")
    others = _others(tree, {*tables, *found}, pictures)
    if others := [name for name in others if name.partition("/")[0] not in left_out]:
        notes.append(f"Not used, because they are not pictures: {shown(others)}.")
    if tree.hidden:
        notes.append(f"Not used, since they are hidden or links: {shown(tree.hidden)}.")
    return TreePart(tree, list(found.values()), list(found))


def _others(tree: Tree, used: set[str], pictures: list[str]) -> list[str]:
    """Files of other kinds, without those that belong to a picture, as captions do, and without archives."""
    stem = lambda name: str(PurePosixPath(name).with_suffix(""))
    known = {stem(name) for name in pictures} | set(pictures)
    found = [name for name in sorted(tree.files) if not is_picture(name) and name not in used]
    return [name for name in found if stem(name) not in known and not name.lower().endswith(ARCHIVES)]


def _from_any(
    tree: Tree, pictures: list[str], image: str | None, caption: str | None, notes: list[str]
) -> tuple[list[str], dict[str, Row]]:
    """The tables used, none or one, and the pictures: captions are from a table of any name beside the pictures, if it
    has such columns, else from files and folders. ValueError for the table if these have none either."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in pictures}
    tables = [name for name in sorted(tree.files) if "/" not in name and name.lower().endswith(TABLES)]
    tables = [name for name in tables if str(PurePosixPath(name).with_suffix("")) not in stems]
    trouble = None
    try:
        if tables:
            _only_one(tree, tables)
            return tables, _from_tables(tree, tables, image, caption, notes)
    except ValueError as error:
        trouble = error
    try:
        return [], _from_files(tree, pictures, caption)
    except ValueError:
        if trouble:
            raise trouble from None
        raise


def find_tables(tree: Tree) -> list[str]:
    """The files called metadata.jsonl, .csv and so on. ValueError if a folder has several."""
    tables = [name for name in sorted(tree.files) if PurePosixPath(name).name.lower() in NAMES]
    _only_one(tree, tables)
    return tables


def _only_one(tree: Tree, tables: list[str]) -> None:
    """ValueError if a folder has several of these."""
    folders = Counter(str(PurePosixPath(name).parent) for name in tables)
    if several := [folder for folder, count in folders.items() if count > 1]:
        inside = [name for name in tables if str(PurePosixPath(name).parent) == several[0]]
        raise ValueError(
            f"{tree.name} has several files that may hold captions ({shown(inside)}); give the right one as --data, or "
            "delete the others."
        )


def _content(tree: Tree, name: str) -> bytes:
    """A text file of the tree. ValueError with its name for what an archive raises on damaged or encrypted members."""
    try:
        return tree.read(name)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{tree.name}/{name} cannot be read: {error}") from None


def _from_tables(
    tree: Tree, tables: list[str], image: str | None, caption: str | None, notes: list[str]
) -> dict[str, Row]:
    found: dict[str, Row] = {}
    by_name: dict[str, list[str]] = {}
    for name in tree.files:
        by_name.setdefault(PurePosixPath(name).name, []).append(name)
    for table in tables:
        where, base = f"{tree.name}/{table}", PurePosixPath(table).parent
        rows = read_table(where, _content(tree, table))
        columns = list(dict.fromkeys(column for row in rows for column in row))
        file_column = find_column(columns, image, FILES, "image-column", where)
        known = tuple(name for name in CAPTIONS if name != file_column.lower())
        caption_column = find_column(columns, caption, known, "caption-column", where)
        others = [c for c in columns if c.lower() in known and c != caption_column]
        if others and not caption:
            notes.append(f"Captions are from the column {caption_column!r} of {where}, not from {shown(others)}.")
        for number, row in enumerate(rows):
            name, problem = _inside(tree, base, row.get(file_column))
            if problem == MISSING and len(others_like := by_name.get(str(row[file_column]), ())) == 1:
                name, problem = others_like[0], ""  # images/1.png may be listed as 1.png, if there is no other
            captions: tuple[str, ...] = ()
            if not problem:
                try:
                    captions = captions_of(row.get(caption_column))
                except ValueError as error:
                    problem = str(error)
            title = f"row {number} of {where} ({name})"
            if problem:
                key = name if name not in found else f"{name}\0{number}"
                found[key] = Row(title, tree.files.get(name, ""), (), problem)
            elif name in found and not found[name].problem:  # listed again, with another caption
                before = found[name]
                found[name] = before._replace(captions=tuple(dict.fromkeys(before.captions + captions)))
            else:
                if name in found:
                    found[f"{name}\0{number}"] = found[name]
                found[name] = Row(title, tree.files[name], captions)
    return found


def _inside(tree: Tree, base: PurePosixPath, value: object) -> tuple[str, str]:
    """The name in the tree of a file that is listed in the folder `base`, and what is wrong with it."""
    if not isinstance(value, str) or not value.strip():
        return str(value), "it has no file name"
    if "://" in value:
        return value, "it is a web address; download the pictures first"
    name = value if str(base / value) in tree.files else value.replace("\\", "/")
    if isinstance(tree, Folder) and os.path.isabs(value):
        try:
            return _inside(tree, PurePosixPath(), Path(value).relative_to(tree.path.absolute()).as_posix())
        except ValueError:
            return value, f"it is outside of {tree.name}"
    path = os.path.normpath(str(base / name)).replace(os.sep, "/")
    if path.startswith(("../", "/")) or path == "..":
        return value, f"it is outside of {tree.name}"
    if path not in tree.files:
        return path, MISSING
    return path, ""


def _from_files(tree: Tree, pictures: list[str], caption: str | None) -> dict[str, Row]:
    """Captions from files beside the pictures, else from the names of their folders."""
    found, beside = {}, False
    for name in pictures:
        stem = str(PurePosixPath(name).with_suffix(""))
        texts = [stem + ending for ending in BESIDE] + [name + ending for ending in BESIDE]
        text, record = next((t for t in texts if t in tree.files), None), f"{stem}.json"
        captions: tuple[str, ...] = ()
        problem, where = "it has no caption", f"{name} in {tree.name}"
        try:
            if text:
                lines = decode_text(_content(tree, text), f"{tree.name}/{text}").splitlines()
                captions = captions_of([line.strip() for line in lines if line.strip()])
            elif record in tree.files:
                row = read_table(f"{tree.name}/{record}", _content(tree, record))[0]
                captions = captions_of(row[find_column(row, caption, CAPTIONS, "caption-column", record)])
        except ValueError as error:
            problem = str(error).rstrip(".")
        beside = beside or bool(text) or record in tree.files
        mark = tree.files[name]
        found[name] = Row(where, mark, captions, "" if captions else problem)
    if beside:
        return found
    folders = {name: PurePosixPath(name).parent.name.replace("_", " ").strip() for name in pictures}
    if len(set(folders.values())) > 1:  # one folder, such as images, says nothing about what is in it
        for name, words in folders.items():
            if words:
                found[name] = found[name]._replace(captions=(words,), problem="")
    if all(row.problem for row in found.values()):
        raise ValueError(
            f"{tree.name} holds {len(pictures)} pictures without captions. Add metadata.jsonl with a line such as "
            f'{{"file_name": "{os.path.basename(pictures[0])}", "text": "a cat"}} for each, or a .txt file beside '
            "each, or put them into folders that are named for what they show."
        )
    return found
