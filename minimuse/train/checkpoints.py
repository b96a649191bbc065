"""Checkpoints of a training run, by orbax: each is whole or not there."""

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp

from minimuse.files import write_text
from minimuse.processes import is_first
from minimuse.train.devices import like


class Checkpoints:
    """The last two checkpoints of a run, by orbax, in `out`/checkpoints; each is whole or not there. Used as a context.

    Beside them since.json: a line of the log is a mean over steps, of which a checkpoint may lie in the midst.
    """

    def __init__(self, out: Path):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells every save, and an error many times
        self.args, self.folder, self.since_path = ocp.args, out / "checkpoints", out / "since.json"
        if is_first():
            self._clear()
        # With the handler named it need not guess from what it finds, where something is missing.
        self.manager = ocp.CheckpointManager(
            self.folder,
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(max_to_keep=2),
        )

    def __enter__(self) -> "Checkpoints":
        # After an error orbax closes its event loop; each answer of tensorstore that comes later prints a traceback.
        hook = self.hook = sys.unraisablehook
        sys.unraisablehook = lambda told: "Event loop is closed" in str(told.exc_value) or hook(told)
        return self

    def __exit__(self, *error) -> None:
        try:
            with self._writing():
                self.manager.wait_until_finished()
        finally:
            self.manager.close()
            sys.unraisablehook = self.hook

    def _clear(self) -> None:
        """Delete what a kill or a full disk left of a checkpoint that was being written."""
        for left in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Where a checkpoint cannot be written, an OSError says so, and no part of it stays."""
        try:
            yield
        except Exception as error:  # tensorstore's for a full disk is a ValueError of many lines
            self._clear()
            reason = "no space left on device" if "No space left" in str(error) else _short(error)
            raise OSError(
                f"A checkpoint could not be written to {self.folder}: {reason}. The one before it is whole; once there "
                "is room, the same command goes on from there."
            ) from None

    def save(self, number: int, state: dict, since: list[dict]) -> None:
        """Begin to write the state after step `number`; since are the metrics of the steps since the last line."""
        rows = [{name: float(value) for name, value in row.items()} for row in jax.device_get(since)]
        with self._writing():
            self.manager.wait_until_finished()  # for the save before this one
            kept = {n: rows for n, rows in self._since().items() if int(n) in self.manager.all_steps()}
            if is_first():
                write_text(self.since_path, json.dumps(kept | {str(number): rows}))
            self.manager.save(number, args=self.args.StandardSave(state))

    def _since(self) -> dict[str, list[dict]]:
        return json.loads(self.since_path.read_text()) if self.since_path.is_file() else {}

    def restore(self, state: dict) -> tuple[int, dict, list[dict]]:
        """What was given to the last `save` whose checkpoint is whole; 0, `state` and [] before the first.

        One that is damaged or has other sizes than `state` is told, passed over, and deleted: it would be in the way.
        ValueError if that leaves none.
        """
        wanted, refused = jax.tree.map(like, state), {}
        for number in sorted(self.manager.all_steps(), reverse=True):
            try:
                found = self._restore(number, wanted)
            except MemoryError:  # says nothing of the checkpoint
                raise
            except Exception as error:  # orbax, tensorstore and JSON have a class of their own for every damage
                refused[number] = _short(error)
                continue
            for bad, reason in refused.items():
                told = f"The checkpoint of step {bad} in {self.folder} is damaged or of another run: {reason}."
                print(f"{told} It is deleted; training goes on from that of step {number}.", file=sys.stderr)
                self.manager.delete(bad)
            return number, jax.tree.map(jnp.asarray, found), self._since().get(str(number), [])
        if refused:
            bad, reason = next(iter(refused.items()))
            raise ValueError(
                f"No checkpoint in {self.folder} can be used; that of step {bad} is damaged or of another run: "
                f"{reason}. Delete the folder {self.folder.parent} to begin anew, or choose another --out."
            )
        return 0, state, []

    def _restore(self, number: int, wanted: dict) -> dict:
        found = self.manager.restore(number, args=self.args.StandardRestore(wanted))
        # orbax itself gives back whatever shape it finds.
        for (path, leaf), given in zip(jax.tree.leaves_with_path(wanted), jax.tree.leaves(found), strict=True):
            if leaf.shape != given.shape:
                name = jax.tree_util.keystr(path)
                raise ValueError(f"state{name} has shape {given.shape}, expected {leaf.shape}")
        if found["step"] != number:
            raise ValueError(f"it was written after step {found['step']}")
        return found


def _short(error: Exception) -> str:
    """The beginning of an error's message, as one line without a full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 160 else f"{text[:160]} ...").rstrip(".")
