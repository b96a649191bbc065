"""What a user gives as pictures of their own, a folder, an archive, Parquet, a saved data set or a Hub name, as a list
of pictures with captions."""

import os
import re
from pathlib import Path, PurePosixPath

from minimuse.data.listing import Part, find_tables, shown, tree_part
from minimuse.data.metadata import TABLES
from minimuse.data.tables import DatasetPart, ParquetPart
from minimuse.data.trees import ARCHIVES, PICTURES, Folder, Tar, Tree, Zip
from minimuse.files import in_short, to_path

SPLIT = re.compile(r"(train|training|validation|valid|val|dev|eval|test|testing)(?=$|[-_./]|\d)", re.IGNORECASE)
SHORT = dict(training="train", validation="val", valid="val", dev="val", eval="val", testing="test")
HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
FORMS = "a folder of pictures, a .zip, .tar or .parquet file, a saved data set, or a Hub name"


def read(source: str | os.PathLike, split: str, image: str | None, caption: str | None, notes: list[str]) -> list[Part]:
    """The captioned pictures of `source`, in parts.

    split             which split, where there are several
    image, caption    names of columns; None: the first that is known
    notes             takes a sentence on what is not used

    FileNotFoundError if `source` looks like a path and does not exist; ValueError, one sentence, for what cannot be
    read.
    """
    path = to_path(source, "A data set")
    try:
        folder, file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        folder = file = False
    if folder:
        return _folder(path, split, image, caption, notes)
    if file:
        return _file(path, image, caption, notes)
    return [_hub(str(source), split, image, caption, notes)]


def _file(path: Path, image: str | None, caption: str | None, notes: list[str]) -> list[Part]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return [ParquetPart(path, image, caption, notes)]
    if suffix in (".zip", ".tar"):
        return [tree_part(_archive(path), image, caption, notes)]
    if suffix in TABLES:
        return [tree_part(Folder(path.parent), image, caption, notes, table=path.name)]
    if suffix in PICTURES:
        raise ValueError(f"{path} is one picture; --data takes {FORMS}.")
    if suffix in (".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"):
        raise ValueError(f"{path} is compressed as a whole; unpack it, and give the folder.")
    raise ValueError(f"{path} is not a file of captioned pictures; --data takes {FORMS}.")


def _archive(path: Path) -> Tree:
    return Zip(path) if path.suffix.lower() == ".zip" else Tar(path)


def _folder(path: Path, split: str, image: str | None, caption: str | None, notes: list[str]) -> list[Part]:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return [_saved(path, split, image, caption, notes)]
    tree = Folder(path)
    by_kind: dict[str, list[str]] = {}
    for name in sorted(tree.files):
        suffix = PurePosixPath(name).suffix.lower()
        kind = "pictures" if suffix in PICTURES else suffix[1:] if suffix in ARCHIVES else "others"
        by_kind.setdefault(kind, []).append(name)
    used = next((kind for kind in ("pictures", "tar", "zip", "parquet") if kind in by_kind), None)
    if used is None and find_tables(tree):  # which may list pictures without a known ending
        used = "pictures"
    if used is None:
        held = f"only {shown(by_kind['others'])}" if by_kind else "nothing"
        raise ValueError(f"{path} holds {held}, and no pictures; --data takes {FORMS}.")
    if used != "pictures" and any(
        PurePosixPath(name).name.startswith("metadata.") for name in by_kind.get("others", ())
    ):
        raise ValueError(
            f"{path} holds metadata beside {shown(by_kind[used])}; put the metadata into the archive, or unpack it."
        )
    for kind in ("tar", "zip", "parquet"):
        if kind in by_kind and kind != used:
            notes.append(f"Not used, since {path} also holds {used}: {shown(by_kind[kind])}.")
    if used != "pictures":
        chosen = _of_split(by_kind[used], split, path, notes)
        if used == "parquet":
            return [ParquetPart(path / name, image, caption, notes) for name in chosen]
        return [tree_part(_archive(path / name), image, caption, notes) for name in chosen]
    pictures = by_kind.get("pictures", [])
    chosen = pictures
    if not any("/" not in name for name in find_tables(tree)):
        chosen = _of_split(chosen, split, path, notes)
    return [tree_part(tree, image, caption, notes, only=None if chosen == pictures else chosen)]


def _of_split(names: list[str], split: str, path: Path, notes: list[str]) -> list[str]:
    """Those files that are of the split, if all of them are named for one, such as data/test-00000.parquet, or, of
    pictures, are in a folder that is: train/1.png. Otherwise all of them."""

    def split_of(name: str) -> str | None:
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).suffix.lower() in PICTURES:  # a picture may be called train-1.png for what it shows
            found = SPLIT.fullmatch(parts[0]) if len(parts) > 1 else None
        else:
            found = next((match for part in parts if (match := SPLIT.match(part))), None)
        return found and SHORT.get(word := found[1].lower(), word)

    splits = {name: split_of(name) for name in names}
    found = set(splits.values())
    wanted = SHORT.get(split, split)
    if None in found or len(found) < 2:
        return names
    if wanted not in found:
        raise ValueError(f"{path} has the splits {', '.join(sorted(map(str, found)))}, and not {split}.")
    others = [name for name in names if splits[name] != wanted]
    notes.append(f"Only the split {wanted!r} of {path} is used; not used: {shown(others)}.")
    return [name for name in names if splits[name] == wanted]


def _saved(path: Path, split: str, image: str | None, caption: str | None, notes: list[str]) -> DatasetPart:
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets, pyarrow and JSON raise many kinds for damaged files
        raise ValueError(f"{path} is not a complete saved data set ({in_short(error)}).") from None
    if isinstance(found, datasets.DatasetDict):
        names = list(map(str, found))
        if split not in found and len(names) != 1:
            raise ValueError(f"{path} has the splits {', '.join(names)}, and not {split}.")
        chosen = split if split in found else names[0]
        if others := [f"{name} ({len(found[name])})" for name in names if name != chosen]:
            notes.append(f"Only the split {chosen!r} of {path} is used, not {', '.join(others)}.")
        found = found[chosen]
    return DatasetPart(found, str(path), image, caption, notes, (path.absolute(),))


def _hub(name: str, split: str, image: str | None, caption: str | None, notes: list[str]) -> DatasetPart:
    import datasets
    from huggingface_hub import HfApi, constants

    ending = PurePosixPath(name).suffix.lower()
    if not HUB.fullmatch(name) or ending in (*TABLES, *PICTURES, ".parquet", ".zip", ".tar", ".txt"):
        raise FileNotFoundError(f"There is no file or folder {name}; --data takes {FORMS}.")
    nowhere = f"There is no file or folder {name}"
    if not constants.HF_HUB_OFFLINE:  # asking first takes seconds; `datasets` tries to connect for half a minute
        try:
            HfApi().dataset_info(name, timeout=10)
        except Exception as error:
            message = f"{nowhere}, and the Hub does not provide a data set of that name ({_why(error)})."
            raise FileNotFoundError(message) from None
    try:
        found = datasets.load_dataset(name, split=split)
    except Exception as error:  # data sets of strangers fail in many ways
        raise ValueError(f"{nowhere}, and the Hub's data set cannot be loaded ({in_short(error)}).") from None
    downloads = (Path(datasets.config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE))  # pyright: ignore
    return DatasetPart(found, name, image, caption, notes, downloads)


def _why(error: Exception) -> str:
    kind = type(error).__name__
    if "Connect" in kind or "Timeout" in kind:
        return "it cannot be reached; what was downloaded before is used with HF_HUB_OFFLINE=1"
    return in_short(error)
