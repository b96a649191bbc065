"""Training: a `Job` is what a stage trains, `fit` is how: mesh, state, checkpoints, log, loop.

A training state is a dict: params (a model), ema (the running average of its weights, which is what is shipped), opt,
step, and what a stage adds. Batches and random keys are pure functions of the step, so a run that was killed and
resumed does exactly what one that was not would have done.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from minimuse.config import RunConfig, TrainConfig
from minimuse.files import log_rows, read_json, write_text
from minimuse.processes import any_process, check_jax, first_alone, is_first
from minimuse.train.checkpoints import Checkpoints
from minimuse.train.devices import make_mesh, on_mesh, shard, shard_batch
from minimuse.train.report import open_reporter
from minimuse.train.step import Tree, all_finite, init_state, schedule


class Job(NamedTuple):
    """What a stage trains.

    params      the model, with its first weights
    step        (state, batch) -> (state, metrics), compiled: `make_step(loss, train)`, or the adversarial phase's own
    batch_at    step number -> the whole batch, a dict of arrays [B, ...]; a pure function
    extra       arrays that the step keeps in the state beside the weights
    about       what must be the same when the run is resumed (the model's sizes, say), beside the training settings
    held_out    averaged weights -> metrics of examples that are not trained on; None: there are none
    samples     (averaged weights, folder, step): draws pictures into the folder; None: the stage draws none
    """

    params: Tree
    step: Callable[[dict, dict], tuple[dict, dict]]
    batch_at: Callable[[int], dict]
    extra: dict[str, Tree] = {}
    about: dict[str, Any] = {}
    held_out: Callable[[Tree], dict] | None = None
    samples: Callable[[Tree, Path, int], None] | None = None


class Stopped(Exception):
    """Training was asked to stop and has saved its state."""


class Diverged(ValueError):
    """A loss or a weight was NaN or infinite; nothing of that is saved."""

    def __init__(self, what: str, step: int, kept: int):
        there = f"The last good checkpoint, of step {kept}, is kept" if kept else "There is no checkpoint yet"
        super().__init__(
            f"Training has diverged: {what} at step {step}. {there}; use a lower learning rate, and another --out."
        )


def machine() -> dict[str, Any]:
    """What this is running on: processor, cores, JAX's devices, versions."""
    devices = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    names = ("jax", "flax", "optax", "numpy")
    return dict(
        processor=f"{platform.machine()}, {os.cpu_count()} cores",
        devices=f"{jax.device_count()} x {devices}",
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in names},
    )


def _same_run(out: Path, settings: dict) -> None:
    """Write the run's settings, or check that they are those the run was started with; it may become longer."""
    path, settings = out / "settings.json", json.loads(json.dumps(settings))
    if not path.is_file():
        write_text(path, json.dumps(settings, indent=1))
        return

    def flat(values: dict) -> dict:
        return {
            f"{name}.{key}" if isinstance(value, dict) else name: inner
            for name, value in values.items()
            for key, inner in (value.items() if isinstance(value, dict) else [("", value)])
        }

    begun, now = flat(read_json(path, "Delete it, or choose another --out")), flat(settings)
    # What only `now` has is a setting that minimuse did not have when the run was started.
    changed = [name for name in begun if begun[name] != now.get(name)]
    longer = changed == ["train.steps"] and isinstance(begun["train.steps"], int)
    if longer and now["train.steps"] > begun["train.steps"]:
        print(
            f"{out.name}: the run is lengthened from {begun['train.steps']} to {now['train.steps']} steps. Its "
            "learning rate now follows the longer schedule, so it first rises from where it was."
        )
        write_text(path, json.dumps(settings, indent=1))
    elif changed:
        was = "; ".join(f"{name} was {begun[name]}, is {now.get(name)}" for name in changed)
        raise ValueError(f"{out} holds a run with other settings ({was}). Choose another --out, or delete it.")


def mean_metrics(metrics: list[dict]) -> dict[str, float]:
    """Several steps' metrics as one row of the log: their mean, to five digits. NaN is a step that had nothing to
    measure; a metric without any number is left out."""
    columns = {k: [float(row[k]) for row in metrics] for k in metrics[0]}
    columns = {k: [v for v in values if not np.isnan(v)] for k, values in columns.items()}
    return {k: float(f"{np.mean(values):.5g}") for k, values in columns.items() if values}


class Log:
    """A run's log.jsonl and its progress bar. Used as a context.

    Each row has the mean of every metric over the steps since the row before, the learning rate of its step, and the
    examples per second. There is one every few steps and one at every save, so a resumed run needs no metrics from
    before; what a kill left after the last save is removed.
    """

    def __init__(self, out: Path, train: TrainConfig, begun: int, report: str = ""):
        from tqdm.auto import tqdm

        self.batch, self.rate = train.batch, schedule(train, train.learning_rate)
        writes, path = is_first(), out / "log.jsonl"
        rows = [row for row in log_rows(path) if row["step"] <= begun] if begun and path.is_file() else []
        if writes:
            write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self.begun = time.monotonic() - (rows[-1].get("seconds", 0.0) if rows else 0.0)
        self.since: list[dict] = []  # metrics of the steps since the last row
        self.file = open(path if writes else os.devnull, "a", encoding="utf-8")
        self.bar = tqdm(total=train.steps, initial=begun, unit="step", desc=out.name, disable=not writes)
        self.reporter = open_reporter(report if writes else "", out)
        self.last = time.monotonic()  # when the last row was written

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.file.close()
        self.reporter.close()

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """One step's metrics; they stay on their device until the next row."""
        self.since.append(metrics)
        self.bar.update()

    def write(self, step: int, more: dict[str, Any] | None = None) -> tuple[int, float] | None:
        """The row of step number `step`, the last that was added; `more` are values beside the means.

        Where a loss since the last row is not finite, the row ends before it; returned are its step and the loss.
        """
        rows, self.since = jax.device_get(self.since), []
        losses = [float(row.get("loss", 0.0)) for row in rows]
        good = next((i for i, loss in enumerate(losses) if not np.isfinite(loss)), len(rows))
        if good:
            values = mean_metrics(rows[:good]) | mean_metrics([jax.device_get(more or {})])
            self._write(step - len(rows) + good, good, values)
        return None if good == len(rows) else (step - len(rows) + good + 1, losses[good])

    def _write(self, step: int, steps: int, values: dict[str, float]) -> None:
        since, self.last = time.monotonic() - self.last, time.monotonic()
        values["learning_rate"] = float(f"{np.asarray(self.rate(step - 1)):.5g}")
        values["examples_per_second"] = float(f"{steps * self.batch / max(since, 1e-9):.4g}")
        row = dict(step=step, seconds=round(time.monotonic() - self.begun, 1)) | values
        self.reporter.write(step, values)
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        shown = {name: values[name] for name in ("loss", "held_out_loss") if name in values}
        self.bar.set_postfix(
            {name: f"{value:.4f}" for name, value in shown.items()}, lr=f"{values['learning_rate']:.1e}"
        )


def _machine_of(out: Path) -> dict:
    try:
        return read_json(out / "machine.json")
    except (OSError, ValueError):  # not yet written
        return {}


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Within it no other run can write to `out`; ValueError if one does. A process that has died holds nothing."""
    import filelock

    lock = filelock.FileLock(out / "run.lock")
    if is_first():
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            about = _machine_of(out)
            who = " on ".join(str(about[name]) for name in ("process", "host") if name in about)
            raise ValueError(
                f"Another run is writing to {out}{f' (process {who})' if who else ''}; wait until it ends, or choose "
                "another --out."
            ) from None
        except NotImplementedError:  # a file system without locks, some mounted drives for instance
            pass
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Within it, Ctrl-C and SIGTERM do nothing but append their numbers to this list."""
    caught: list[int] = []
    with contextlib.ExitStack() as stack:
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                handler = signal.signal(name, lambda number, frame: caught.append(number))
            except ValueError:  # not in the main thread, a notebook's executor for instance
                break
            stack.callback(signal.signal, name, handler)
        yield caught


def fit(job: Job, train: TrainConfig, run: RunConfig, out: Path | str) -> dict[str, Tree]:
    """Train from the job's weights, or from the last checkpoint in `out`, to train.steps; returns the final state.

    run    on which devices, and how often the run is saved and logged, and draws samples
    out    folder for checkpoints/, samples/, log.jsonl, settings.json and machine.json

    Ctrl-C and SIGTERM save first; then the same call resumes (raises Stopped). The first loss that is not finite, or a
    weight when it is to be saved, ends the run (Diverged), and the last checkpoint stays as it is. A checkpoint that is
    damaged is reported and skipped (ValueError if there is no other); OSError if one cannot be written. ValueError if
    another run is writing to `out`. A run may be resumed on another mesh. Of several processes the first writes the
    log; all must see the same `out`.
    """
    check_jax()
    if getattr(jax.config, "jax_enable_x64", False):
        raise ValueError("JAX_ENABLE_X64 is set, and training computes in float32; unset it.")
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        with first_alone():
            _same_run(out, dict(train=dataclasses.asdict(train)) | job.about)
        if is_first():
            about = machine() | dict(process=os.getpid(), host=platform.node())
            write_text(out / "machine.json", json.dumps(about, indent=1) + "\n")
        return _fit(job, train, run, out)


def _fit(job: Job, train: TrainConfig, run: RunConfig, out: Path) -> dict[str, Tree]:
    mesh = make_mesh(run.mesh, train)
    # Sharded before averages and sums are made, as these are too much for one device where weights are many.
    state = init_state(shard(job.params, mesh), train, **job.extra)
    state = shard(state, mesh)
    step = on_mesh(job.step, state, mesh)

    with _stop_signals() as signals, Checkpoints(out / "checkpoints") as checkpoints:
        begun, state = checkpoints.restore(state)
        with Log(out, train, begun, run.report) as log:
            saved = time.monotonic()
            for i in range(begun, train.steps):
                state, metrics = step(state, shard_batch(job.batch_at(i), mesh))
                log.add(metrics)
                done = i + 1
                row, last = done % run.log_every == 0, done == train.steps
                save, stop = time.monotonic() - saved > run.save_seconds, bool(signals)
                if jax.process_count() > 1:  # clocks and signals differ; to agree takes a wait, so only now and then
                    save, stop = any_process(save, stop) if row else (False, False)
                save = save or stop or last
                held = job.held_out is not None and (done % run.held_out_every == 0 or last)
                draw = run.samples_every > 0 and (done % run.samples_every == 0 or last)
                more = job.held_out(state["ema"]) if job.held_out and held else {}
                if (row or save or held or draw) and (bad := log.write(done, more)):
                    raise Diverged(f"the loss was {bad[1]}", bad[0], checkpoints.last())
                if job.samples and draw:  # before the save, so that a run that is killed here draws them when resumed
                    job.samples(state["ema"], out / "samples", done)
                if save:
                    if not all_finite(state):  # the loss is that of the weights before the step
                        raise Diverged("a weight or a sum of the optimizer was not finite", done, checkpoints.last())
                    checkpoints.save(done, state)
                    saved = time.monotonic()
                if stop:
                    raise Stopped(f"Stopped at step {done} of {train.steps}, saved; the same command resumes.")
            # Also while the last step was saved, or drew its samples: otherwise the next stage would begin.
            if any_process(bool(signals))[0]:
                raise Stopped(f"Stopped at step {train.steps} of {train.steps}, saved; the same command resumes.")
    return state
