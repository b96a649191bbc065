"""Captioned pictures as squares of uint8 on disk: decoded once, by all cores, and read from there in pieces.

The squares lie in files of a few hundred pictures. A file's name depends on the pictures' own files and on what was
made of them, so that a second try, after a kill for instance, begins where the first stopped.
"""

import collections
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from minimuse.data.arrays import find_arrays, map_arrays
from minimuse.data.listing import Part, Read, Row, shown
from minimuse.data.pixels import decode
from minimuse.files import write_arrays, write_text

ROWS = 256  # pictures of a file
BYTES = 2**26  # of a file at most
DIGEST = 16  # bytes
VERSION = 1  # changes when the same pictures would become other squares


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable, items: Iterable, pool: ThreadPoolExecutor, ahead: int) -> Iterator[Any]:
    """function(item) for each item, in their order, computed by a pool that never has more than `ahead` of them."""
    waiting: collections.deque[Future] = collections.deque()
    try:
        for item in items:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Prepared:
    """Squares on disk, in files as `prepare` writes them.

    rows      which of the pictures they are, int64 [M], in increasing order
    digest    a few letters that distinguish the content of their files, and so their pixels, from others
    skipped   the number of each picture that could not be read, and why
    """

    def __init__(self, paths: Sequence[Path], starts: Sequence[int]):
        self.paths = list(paths)
        self.skipped: list[tuple[int, str]] = []
        self._offsets: list[dict[str, int]] = []  # of the squares in their files
        rows, counts, found = [], [], hashlib.sha256()
        for path, start in zip(paths, starts):
            (places, metadata), arrays = find_arrays(path), map_arrays(path)
            self._offsets.append({name: place.offset for name, place in places.items()})
            rows.append(arrays["numbers"] + start)
            counts.append(len(rows[-1]))
            found.update(arrays["digests"].tobytes())
            self.skipped += [(start + number, why) for number, why in json.loads(metadata["skipped"])]
        self.rows = np.concatenate([np.zeros(0, np.int64), *rows])
        self.ends, self.digest = np.cumsum(counts, dtype=np.int64), found.hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, indices: Sequence[int], size: int) -> np.ndarray:
        """uint8 [B, size, size, 3] of the squares with these numbers, each at least 0 and less than the length."""
        found, each = np.empty((len(indices), size, size, 3), np.uint8), 3 * size * size
        for place, i in enumerate(indices):
            file = int(np.searchsorted(self.ends, i, "right"))
            begin = self.ends[file - 1] if file else 0
            # Not mapped into memory, where what is read once would stay until it is needed for something else.
            offset = self._offsets[file][f"pixels{size}"] + int(i - begin) * each
            found[place] = np.fromfile(self.paths[file], np.uint8, each, offset=offset).reshape(size, size, 3)
        return found


def prepare(
    parts: Sequence[Part],
    source: str,
    sizes: Sequence[int],
    folder: Path,
    crop: str = "center",
    bad_share: float = 0.01,
) -> Prepared:
    """The pictures as squares of every size of `sizes`, in files in `folder`. What is there already is not made again.

    source       what the pictures are called in messages
    bad_share    share of the pictures that may be unreadable; they are skipped, counted and listed

    ValueError with the first of them if there are more.
    """
    from tqdm.auto import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    sizes = sorted(set(sizes))
    each = max(1, min(ROWS, BYTES // sum(3 * size * size for size in sizes)))
    paths, starts, todo, first = [], [], [], 0
    for part in parts:
        for start in range(0, len(part.rows), each):
            stop = min(start + each, len(part.rows))
            path = folder / f"{_name(part.rows[start:stop], sizes, crop)}.safetensors"
            paths.append(path)
            starts.append(first + start)
            if not _whole(path):
                todo.append((part, start, stop, path))
        first += len(part.rows)
    count = sum(stop - start for _, start, stop, _ in todo)
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=count, desc="pictures", unit="picture", disable=not todo) as bar,
    ):
        for part, start, stop, path in todo:
            _write(part, start, stop, path, sizes, crop, pool, bar)
    prepared = Prepared(paths, starts)
    _report(prepared, [row.name for part in parts for row in part.rows], source, folder, bad_share)
    return prepared


def _name(rows: Sequence[Row], sizes: Sequence[int], crop: str) -> str:
    """What these squares are made from and how, as the name of a file."""
    found = hashlib.sha256(json.dumps([VERSION, list(sizes), crop]).encode())
    for row in rows:
        found.update(f"{row.mark}\0{row.problem}\n".encode(errors="surrogatepass"))
    return found.hexdigest()[:20]


def _whole(path: Path) -> bool:
    try:
        return path.is_file() and isinstance(json.loads(find_arrays(path)[1]["skipped"]), list)
    except (ValueError, KeyError, RecursionError):  # damaged, so it is made again
        return False


def _square(task: tuple[Row, Read], sizes: Sequence[int], crop: str) -> tuple[list[np.ndarray], bytes] | str:
    """A picture's squares and the digest of its file, or why it has none."""
    row, read = task
    if row.problem:
        return row.problem
    try:
        stored = read()
        content = stored.tobytes() if isinstance(stored, np.ndarray) else stored
        return decode(stored, sizes, crop), hashlib.sha256(content).digest()[:DIGEST]
    except MemoryError:
        return "it takes more memory than there is"
    except FileNotFoundError:
        return "the file does not exist"
    except Exception as error:  # half a sentence of `decode` and of readers, or what archives raise on damaged members
        return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _named(part: Part, start: int, stop: int) -> Iterator[Read]:
    """As part.fetch, with the name of what cannot be read."""
    try:
        yield from part.fetch(start, stop)
    except Exception as error:  # what pyarrow and `datasets` raise on damaged tables
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The pictures from {part.rows[start].name} on cannot be read: {why}") from None


def _write(
    part: Part, start: int, stop: int, path: Path, sizes: Sequence[int], crop: str, pool: ThreadPoolExecutor, bar: Any
) -> None:
    """One file of squares: pixelsH uint8 [n, H, H, 3] for every size, numbers int64 [n] of the pictures among these,
    digests uint8 [n, 16], and in its metadata what was skipped."""
    squares, numbers, digests, skipped = [], [], [], []
    tasks = zip(part.rows[start:stop], _named(part, start, stop), strict=True)
    function = functools.partial(_square, sizes=sizes, crop=crop)
    for number, result in enumerate(in_order(function, tasks, pool, 2 * cores())):
        bar.update()
        if isinstance(result, str):
            skipped.append((number, result))
            continue
        squares.append(result[0])
        numbers.append(number)
        digests.append(np.frombuffer(result[1], np.uint8))
    arrays: dict[str, Any] = {f"pixels{size}": np.zeros((len(numbers), size, size, 3), np.uint8) for size in sizes}
    for place, each in enumerate(squares):
        for size, pixels in zip(sizes, each):
            arrays[f"pixels{size}"][place] = pixels
    arrays["numbers"] = np.array(numbers, np.int64)
    arrays["digests"] = np.array(digests, np.uint8).reshape(len(digests), DIGEST)
    write_arrays(path, arrays, dict(skipped=json.dumps(skipped)))


def _report(prepared: Prepared, names: list[str], source: str, folder: Path, bad_share: float) -> None:
    """Print what was skipped, and write a list of it. ValueError if it is more than the share that may be."""
    lines = [f"{names[number]}: {why}" for number, why in prepared.skipped]
    if not lines:
        return
    path = folder / f"skipped-{hashlib.sha256(source.encode(errors='surrogatepass')).hexdigest()[:8]}.txt"
    write_text(path, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace").decode())
    bad, count = len(lines), len(names)
    if bad == count or bad > bad_share * count:
        more = f" and {bad - 1} more, which are listed in {path}" if bad > 1 else ""
        raise ValueError(
            f"{bad} of {count} pictures cannot be used, and --bad-share {bad_share:g} allows {int(bad_share * count)}: "
            f"{lines[0]}{more}."
        )
    print(f"{bad} of {count} pictures cannot be used and are skipped; they are listed in {path}: {shown(lines)}.")
