"""Checkpoints of a training run, as safetensors: each is complete or does not count.

A checkpoint is one file from each process, `STEP-INDEXofCOUNT.safetensors`, with the pieces of arrays that lie on that
process's devices. A piece's name is its array's and where it begins there, such as `params.blocks.qkv.kernel@0,0,96`;
so a run may be resumed on a different mesh.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.files import write_arrays
from minimuse.processes import is_first
from minimuse.train.step import Tree
from minimuse.weights import named_arrays, with_arrays

KEPT = 2  # checkpoints


class Checkpoints:
    """The last two checkpoints of a run, in `folder`; they are written in the background. Used as a context."""

    def __init__(self, folder: Path):
        self.folder, self.writer = folder, ThreadPoolExecutor(1)
        self.saving: Future | None = None
        self.file = f"{jax.process_index()}of{jax.process_count()}.safetensors"
        folder.mkdir(parents=True, exist_ok=True)
        if is_first():
            for left in [*folder.glob("*.partial.*"), *folder.glob(".tmp*")]:  # of a kill, ours and safetensors' own
                left.unlink()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            self.writer.shutdown()

    def wait(self) -> None:
        """Wait for the last `save`; OSError if its checkpoint cannot be written."""
        saving, self.saving = self.saving, None
        try:
            if saving is not None:
                saving.result()
        except OSError as error:
            raise OSError(
                f"A checkpoint could not be written: {error}. The one before it is complete; once there is room, the "
                "same command resumes from it."
            ) from None

    def save(self, number: int, state: dict[str, Tree]) -> None:
        """Begin to write the state after step `number`, when the save before this one is done."""
        self.wait()
        pieces = {}
        for name, x in named_arrays(state).items():
            for piece in x.addressable_shards:
                if piece.replica_id == 0:
                    start = ",".join(str(axis.start or 0) for axis in piece.index)
                    pieces[f"{name}@{start}"] = np.array(piece.data)  # a copy: the next step takes the state's memory
        self.saving = self.writer.submit(self._write, number, pieces)

    def _write(self, number: int, pieces: dict[str, np.ndarray]) -> None:
        write_arrays(self.folder / f"{number}-{self.file}", pieces)
        for old in self.steps()[:-KEPT]:
            (self.folder / f"{old}-{self.file}").unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """The steps of which there are files, all or some, in their order."""
        names = [re.fullmatch(r"(\d+)-\d+of\d+\.safetensors", path.name) for path in self.folder.iterdir()]
        return sorted({int(name[1]) for name in names if name})

    def restore(self, state: dict[str, Tree]) -> tuple[int, dict[str, Tree]]:
        """The last complete checkpoint: its step, and its state, sharded as `state` is; before there is one, 0 and
        `state`.

        One that is damaged or does not fit `state` is reported, skipped and deleted. ValueError if that leaves none.
        """
        refused = {}
        for number in reversed(self.steps()):
            try:
                found = self._read(number, state)
            except Exception as error:  # of safetensors, or ours; damage has many forms
                if isinstance(error, MemoryError):  # says nothing about the checkpoint
                    raise
                refused[number] = _short(error)
                continue
            for bad, reason in refused.items() if is_first() else ():
                message = f"The checkpoint of step {bad} in {self.folder} is damaged or of another run: {reason}."
                print(f"{message} It is deleted; training resumes from step {number}.", file=sys.stderr)
                for path in self.folder.glob(f"{bad}-*.safetensors"):
                    path.unlink()
            return number, found
        if refused:
            bad, reason = next(iter(refused.items()))
            raise ValueError(
                f"No checkpoint in {self.folder} can be used; that of step {bad} is damaged or of another run: "
                f"{reason}. Delete the folder {self.folder.parent} to start again, or choose another --out."
            )
        return 0, state

    def _read(self, number: int, state: dict[str, Tree]) -> dict[str, Tree]:
        wanted = named_arrays(state)
        with self._pieces(number) as pieces:
            if differ := sorted(wanted.keys() ^ pieces.keys()):
                raise ValueError(f"{differ[0]} is {'missing' if differ[0] in wanted else 'not of this run'}")
            found = {name: _join(name, pieces[name], x) for name, x in wanted.items()}
        if found["step"] != number:
            raise ValueError(f"it was written after step {found['step']}")
        return with_arrays(state, found)

    @contextlib.contextmanager
    def _pieces(self, number: int) -> Iterator[dict[str, list]]:
        """What the files of a checkpoint hold: for every array (where a piece begins, a function that reads it)."""
        from safetensors import safe_open

        paths = sorted(self.folder.glob(f"{number}-*of*[0-9].safetensors"))
        count = int(paths[0].stem.split("of")[1])
        if len(paths) != count:
            raise ValueError(f"it has {len(paths)} of {count} files")
        found: dict[str, list] = {}
        with contextlib.ExitStack() as stack:
            for path in paths:
                file = stack.enter_context(safe_open(path, "np"))
                for key in file.keys():
                    name, _, start = key.rpartition("@")
                    starts = tuple(map(int, start.split(","))) if start else ()
                    found.setdefault(name, []).append((starts, lambda file=file, key=key: file.get_tensor(key)))
            yield found


def _join(name: str, pieces: list, like: jax.Array) -> jax.Array:
    """An array from its pieces, sharded as `like` is."""
    values = [(starts, read()) for starts, read in pieces]
    ends = [np.add(starts, value.shape) for starts, value in values]
    shape, size = tuple(np.max(ends, 0).astype(int).tolist()), sum(value.size for _, value in values)
    if shape != like.shape or size != like.size:
        raise ValueError(f"{name} has shape {shape} and {size} numbers, expected {like.shape} and {like.size}")
    if wrong := [value.dtype for _, value in values if value.dtype != like.dtype]:
        raise ValueError(f"{name} has the type {wrong[0]}, expected {like.dtype}")
    whole = np.empty(like.shape, like.dtype)
    for starts, value in values:
        whole[tuple(slice(start, start + length) for start, length in zip(starts, value.shape))] = value
    if len(like.sharding.device_set) == 1:
        return jnp.asarray(whole)
    return jax.make_array_from_callback(whole.shape, like.sharding, lambda index: whole[index])


def _short(error: Exception) -> str:
    """The beginning of an error's message, as one line without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:160]} ...").rstrip(".")
