"""Files in a folder, a .zip or a .tar, all in one form."""

import os
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

PICTURES = frozenset(  # endings; those in the second line cannot be read, which is reported for each
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .tga .ico .dds "
    ".heic .heif .svg .psd .cr2 .nef .dng .arw .jxl".split()
)
ARCHIVES = (".tar", ".zip", ".parquet")
MOST_BYTES = 2**29  # of one file
TOOLS = (".git", ".cache", ".ipynb_checkpoints", ".huggingface", "__MACOSX")  # hidden folders without pictures to use


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
