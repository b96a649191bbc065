"""Checkpoints of a training run, by orbax: each is complete or does not count."""

import contextlib
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.files import in_short
from minimuse.processes import is_first
from minimuse.train.step import Tree, all_finite
from minimuse.weights import named_arrays, with_arrays

FULL = ("No space left on device", "File too large")  # of a long message of tensorstore, what a reader needs


class Checkpoints:
    """The last two checkpoints of a run, in `folder`; they are written in the background. Used as a context."""

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs every save, and each error several times
        self.args, self.folder = ocp.args, folder
        self._remove_unfinished()
        self.manager = ocp.CheckpointManager(
            folder,
            # Named here, since orbax cannot guess it from what is left of a damaged checkpoint.
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(max_to_keep=2),
        )

    def __enter__(self) -> "Checkpoints":
        # After an error orbax closes its event loop; each later answer of tensorstore would print a traceback.
        hook = self.hook = sys.unraisablehook
        sys.unraisablehook = lambda error: "Event loop is closed" in str(error.exc_value) or hook(error)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # `wait` has raised what went wrong
                self.manager.close()
            self._remove_unfinished()
            sys.unraisablehook = self.hook

    def _remove_unfinished(self) -> None:
        """Delete what a kill or a full disk left of a checkpoint that was being written."""
        for left in self.folder.glob("*.orbax-checkpoint-tmp*") if is_first() else ():
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Where a checkpoint cannot be written, an OSError says so, and nothing is left of it."""
        try:
            yield
        except Exception as error:  # for a full disk, tensorstore's is a ValueError of many lines
            self._remove_unfinished()
            reason = next((known for known in FULL if known in str(error)), in_short(error))
            steps = [int(path.name) for path in self.folder.glob("*") if path.name.isdecimal()]
            there = f"That of step {max(steps)} is complete" if steps else "There is none before it"
            raise OSError(
                f"A checkpoint could not be written to {self.folder}: {reason}. {there}; once there is room, the same "
                "command resumes."
            ) from None

    def wait(self) -> None:
        """Wait for the last `save`; OSError if its checkpoint cannot be written."""
        with self._writing():
            self.manager.wait_until_finished()

    def save(self, number: int, state: dict[str, Tree]) -> None:
        """Begin to write the state after step `number`, when the save before this one is done."""
        self.wait()
        with self._writing():
            self.manager.save(number, args=self.args.StandardSave(named_arrays(state)))

    def restore(self, state: dict[str, Tree]) -> tuple[int, dict[str, Tree]]:
        """The last complete checkpoint: its step, and its state, sharded as `state` is; before there is one, 0 and
        `state`.

        One that is damaged or does not fit `state` is reported, skipped and deleted. ValueError if that leaves none.
        """
        refused = {}
        for number in sorted(self.manager.all_steps(), reverse=True):
            try:
                found = self._read(number, state)
            except MemoryError:  # says nothing about the checkpoint
                raise
            except Exception as error:  # orbax, tensorstore and JSON each have their own class for every damage
                refused[number] = in_short(error)
                continue
            for bad, reason in refused.items():
                message = f"The checkpoint of step {bad} in {self.folder} is damaged or of another run: {reason}."
                print(f"{message} It is deleted; training resumes from step {number}.", file=sys.stderr)
                self.manager.delete(bad)
            return number, found
        if refused:
            bad, reason = next(iter(refused.items()))
            raise ValueError(
                f"No checkpoint in {self.folder} can be used; that of step {bad} is damaged or of another run: "
                f"{reason}. Delete the folder {self.folder.parent} to start again, or choose another --out."
            )
        return 0, state

    def last(self) -> int:
        """The step of the last checkpoint; 0 if there is none."""
        return self.manager.latest_step() or 0

    def _read(self, number: int, state: dict[str, Tree]) -> dict[str, Tree]:
        wanted = {name: _like(x) for name, x in named_arrays(state).items()}
        found = self.manager.restore(number, args=self.args.StandardRestore(wanted))
        for name, x in wanted.items():  # orbax itself returns whatever shape it finds
            if found[name].shape != x.shape:
                raise ValueError(f"{name} has shape {found[name].shape}, expected {x.shape}")
        if found["step"] != number:
            raise ValueError(f"it was written after step {found['step']}")
        found = jax.tree.map(jnp.asarray, found)
        if not all_finite(found):
            raise ValueError("it holds numbers that are not finite")
        return with_arrays(state, found)


def _like(x: jax.Array) -> np.ndarray | jax.ShapeDtypeStruct:
    """How orbax should read an array: as it is if it lies on one device, else sharded over the same devices."""
    if len(x.sharding.device_set) > 1:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    return np.asarray(x)
