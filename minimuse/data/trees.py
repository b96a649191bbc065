"""Picture files in a folder, a .zip or a .tar, and where their captions are: metadata files, text files beside the
pictures, or the names of folders."""

import dataclasses
import functools
import os
import stat
import tarfile
import zipfile
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

PICTURES = frozenset(  # endings; those in the second line cannot be read, which is reported for each
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .tga .ico .dds "
    ".heic .heif .svg .psd .cr2 .nef .dng .arw .jxl".split()
)
BESIDE = (".txt", ".caption")  # endings of files with a picture's captions, one in a line
ARCHIVES = (".tar", ".zip", ".parquet")
MOST_BYTES = 2**29  # of one file
TOOLS = (".git", ".cache", ".ipynb_checkpoints", ".huggingface", "__MACOSX")  # hidden folders without pictures to use
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


def junk(name: str) -> bool:
    """Whether a file is hidden, or one that an operating system put beside the pictures."""
    parts = PurePosixPath(name).parts
    return parts[-1] in ("Thumbs.db", "desktop.ini") or any(part.startswith((".", "__MACOSX")) for part in parts)


def is_picture(name: str) -> bool:
    """Whether a file is named as a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURES


class Tree:
    """Files below `path`: `files` has their names, separated by slashes, each with a mark that changes with its
    content; `hidden` has the names of pictures that are not used, as they are hidden or links, and of hidden folders.
    """

    def __init__(self, path: Path):
        self.path, self.name = path, str(path)
        self.files: dict[str, str] = {}
        self.hidden: list[str] = []

    def add(self, name: str, mark: str) -> None:
        """One more file."""
        if not junk(name):
            self.files[name] = f"{name}/{mark}"
        elif is_picture(name) and not PurePosixPath(name).name.startswith("._"):  # of macOS
            self.hidden.append(name)

    def read(self, name: str) -> bytes:
        """The content of a file. OSError, ValueError or what an archive raises if it cannot be read."""
        raise NotImplementedError


class Folder(Tree):
    """The files of a folder and its subfolders."""

    def __init__(self, path: Path):
        super().__init__(path)
        seen: set[str] = set()
        todo = [(path, "")]
        while todo:
            folder, prefix = todo.pop()
            if (real := os.path.realpath(folder)) in seen:  # links may run in a circle
                continue
            seen.add(real)
            for entry in os.scandir(folder):
                name = prefix + entry.name
                try:
                    found = entry.stat()
                except OSError:  # a link to nothing
                    self.add(name, "missing")
                    continue
                if stat.S_ISREG(found.st_mode):
                    self.add(name, f"{found.st_size}/{found.st_mtime_ns}")
                elif stat.S_ISDIR(found.st_mode):
                    if not junk(name):
                        todo.append((Path(entry.path), f"{name}/"))
                    elif entry.name not in TOOLS:
                        self.hidden.append(f"{name}/")

    def read(self, name: str) -> bytes:
        path = self.path / name
        _check_bytes(path.stat().st_size)
        return path.read_bytes()


class Zip(Tree):
    """The members of a .zip file."""

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self.archive = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # BadZipFile, and what a damaged table of contents leads to
            raise ValueError(f"{path} is not a complete .zip file ({error}).") from None
        self.members = {_safe(m.filename, path): m for m in self.archive.infolist() if not m.is_dir()}
        for name, member in self.members.items():
            self.add(name, f"{member.file_size}/{member.CRC}")

    def read(self, name: str) -> bytes:
        member = self.members[name]
        _check_bytes(member.file_size)
        with self.archive.open(member) as file:
            return file.read(MOST_BYTES)


class Tar(Tree):
    """The members of an uncompressed .tar file, such as a shard of WebDataset."""

    def __init__(self, path: Path):
        super().__init__(path)
        found = path.stat()
        self.places: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                members = list(archive)
        except OSError:
            raise
        except Exception as error:  # TarError, and what damaged headers lead to
            raise ValueError(
                f"{path} is not a complete, uncompressed .tar file ({error}); unpack it, and give the folder."
            ) from None
        for member in members:
            name = _safe(member.name, path)
            if member.isreg() and not member.issparse():
                self.places[name] = member.offset_data, member.size
                self.add(name, f"{path.name}/{found.st_size}/{found.st_mtime_ns}/{member.offset_data}")
            elif is_picture(name):
                self.hidden.append(name)

    def read(self, name: str) -> bytes:
        offset, size = self.places[name]
        _check_bytes(size)
        with open(self.path, "rb") as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{self.path} ends in the middle of it")
        return data


def _safe(name: str, archive: Path) -> str:
    """The name of a member. ValueError if it leads out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
        raise ValueError(f"{archive} has a member {name!r}, which leads out of it; such an archive is not read.")
    return str(path)


def _check_bytes(size: int) -> None:
    if size > MOST_BYTES:
        raise ValueError(f"its file is larger than {MOST_BYTES >> 20} MB")


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
    pictures = [name for name in sorted(tree.files) if is_picture(name)] if only is None else only
    tables = [table] if table else find_tables(tree)
    if tables:
        found = _from_tables(tree, tables, image, caption, notes)
        if unlisted := [name for name in pictures if name not in found]:
            notes.append(f"Not used, since no metadata file lists them: {shown(unlisted)}.")
        keep = None if only is None else set(only)
        found = {name: row for name, row in found.items() if keep is None or name in keep}
    else:
        if not pictures:
            raise ValueError(f"{tree.name} holds no pictures.")
        found = _from_files(tree, pictures, caption)
    stems = {str(PurePosixPath(name).with_suffix("")) for name in pictures}
    used = {*tables, *found}
    others = [name for name in sorted(tree.files) if not is_picture(name) and name not in used]
    others = [name for name in others if not {str(PurePosixPath(name).with_suffix("")), name} & stems]
    others = [name for name in others if not name.endswith(ARCHIVES) and name.rpartition(".")[0] not in tree.files]
    if others and only is None:
        notes.append(f"Not used, since they are no pictures: {shown(others)}.")
    if tree.hidden:
        notes.append(f"Not used, since they are hidden or links: {shown(tree.hidden)}.")
    return TreePart(tree, list(found.values()), list(found))


def find_tables(tree: Tree) -> list[str]:
    """The metadata files of a tree: metadata.jsonl and so on in any folder, else the only table beside the pictures.
    ValueError if a folder has several."""
    tables = [name for name in sorted(tree.files) if PurePosixPath(name).name.lower() in NAMES]
    if not tables:
        tables = [name for name in sorted(tree.files) if "/" not in name and name.lower().endswith(TABLES)]
        stems = {str(PurePosixPath(name).with_suffix("")) for name in tree.files if not name.lower().endswith(TABLES)}
        tables = [name for name in tables if str(PurePosixPath(name).with_suffix("")) not in stems]  # beside a picture
    folders = Counter(str(PurePosixPath(name).parent) for name in tables)
    if several := [folder for folder, count in folders.items() if count > 1]:
        inside = [name for name in tables if str(PurePosixPath(name).parent) == several[0]]
        raise ValueError(
            f"{tree.name} has several files that may hold captions ({shown(inside)}); give the right one as --data, or "
            "delete the others."
        )
    return tables


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
        return path, "there is no such file"
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
    for name in pictures:
        if (folder := PurePosixPath(name).parent.name) and folder != ".":
            words = folder.replace("_", " ").strip()
            found[name] = found[name]._replace(captions=(words,), problem="")
    if all(row.problem for row in found.values()):
        raise ValueError(
            f"{tree.name} holds {len(pictures)} pictures without captions. Add metadata.jsonl with a line such as "
            f'{{"file_name": "{os.path.basename(pictures[0])}", "text": "a cat"}} for each, or a .txt file beside '
            "each, or put them into folders that are named for what they show."
        )
    return found
