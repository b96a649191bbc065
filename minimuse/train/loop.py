"""Training: one step, one loop, checkpoints and resume. The stages' losses live beside their models.

A training state is a nested dict of arrays: params, ema (their running average, the weights that are shipped), opt,
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
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from minimuse.config import RunConfig, TrainConfig
from minimuse.files import write_text
from minimuse.processes import any_process, first_alone, is_first
from minimuse.train.checkpoints import Checkpoints
from minimuse.train.devices import make_mesh, spread

LOG_EVERY = 20  # steps a line of the log


class Stopped(Exception):
    """Training was asked to stop and has saved its state."""


def machine() -> dict:
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
    """Write the run's settings, or check that they are those the run was begun with."""
    path, settings = out / "settings.json", json.loads(json.dumps(settings))
    if path.is_file():
        flat = lambda values: {
            f"{name}.{key}" if isinstance(value, dict) else name: inner
            for name, value in values.items()
            for key, inner in (value.items() if isinstance(value, dict) else [("", value)])
        }
        begun, now = flat(json.loads(path.read_text())), flat(settings)
        # What is in `now` alone is a setting that minimuse did not have when the run was begun.
        changed = [name for name in begun if begun[name] != now.get(name)]
        if changed:
            was = "; ".join(f"{name} was {begun[name]}, is {now.get(name)}" for name in changed)
            raise ValueError(f"{out} holds a run with other settings ({was}). Choose another --out, or delete it.")
    else:
        write_text(path, json.dumps(settings, indent=1))


def mean_metrics(metrics: list[dict]) -> dict[str, float]:
    """Several steps' metrics as one line of the log: their mean, to five digits. NaN is a step that had nothing to
    measure; a metric without any number is left out."""
    columns = {k: [float(row[k]) for row in metrics] for k in metrics[0]}
    columns = {k: [v for v in values if not np.isnan(v)] for k, values in columns.items()}
    return {k: float(f"{np.mean(values):.5g}") for k, values in columns.items() if values}


def fit(
    out: Path | str,
    step: Callable,
    state: dict,
    batch_at: Callable,
    config: TrainConfig,
    run: RunConfig = RunConfig(),
    **settings,
) -> dict:
    """Train from `state`, or from the last checkpoint in `out`, to config.steps; returns the final state.

    out        folder for checkpoints/, since.json, log.jsonl, settings.json and machine.json
    step       from make_step
    batch_at   step number -> dict of arrays [B, ...], a pure function; of several processes each asks for its rows
               alone, batch_at(step, rows=slice)
    run        on which devices, and how often the run is saved
    settings   what else must be the same when the run is resumed (model sizes, say)

    Ctrl-C and SIGTERM save first; then the same call goes on from there (raises Stopped). A checkpoint that is damaged
    is told and passed over (ValueError if there is no other); OSError if one cannot be written. A run may be resumed on
    another mesh. Of several processes the first writes; all must see the same `out`.
    """
    from tqdm.auto import tqdm

    step, state, batch_at = spread(make_mesh(run.mesh, config), step, state, batch_at, config.batch)
    out = Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with first_alone():
        _same_run(out, dict(train=dataclasses.asdict(config)) | settings)
    writes = is_first()
    if writes:
        write_text(out / "machine.json", json.dumps(machine(), indent=1) + "\n")
    asked_to_stop = []
    with contextlib.ExitStack() as stack:
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                handler = signal.signal(name, lambda number, frame: asked_to_stop.append(number))
            except ValueError:  # not in the main thread, a notebook's executor for instance
                break
            stack.callback(signal.signal, name, handler)
        checkpoints = stack.enter_context(Checkpoints(out))
        start, state, since = checkpoints.restore(state)  # since: metrics of the steps since the log's last line

        log_path = out / "log.jsonl"
        written = log_path.read_text().splitlines(True) if start and log_path.is_file() else []
        lines = [line for line in written if line.endswith("}\n")]
        lines = [line for line in lines if json.loads(line)["step"] <= start]  # what a kill left behind is redone
        if writes:
            write_text(log_path, "".join(lines))
        seconds = json.loads(lines[-1])["seconds"] if lines else 0.0
        log = stack.enter_context(open(log_path if writes else os.devnull, "a"))
        bar = tqdm(total=config.steps, initial=start, unit="step", desc=out.name, disable=not writes)
        stack.enter_context(bar)
        saved, begun = time.monotonic(), time.monotonic() - seconds

        for i in range(start, config.steps):
            state, metrics = step(state, batch_at(i))
            since.append(metrics)
            if (i + 1) % LOG_EVERY == 0 or i + 1 == config.steps:
                values, since = mean_metrics(jax.device_get(since)), []
                row = dict(step=i + 1, seconds=round(time.monotonic() - begun, 1)) | values
                log.write(json.dumps(row) + "\n")
                log.flush()
                bar.set_postfix(loss=f"{values.get('loss', np.nan):.4f}")
            bar.update()
            due, stop = time.monotonic() - saved > run.save_seconds, bool(asked_to_stop)
            if jax.process_count() > 1:  # clocks and signals differ; to agree takes a wait, so it is done now and then
                due, stop = any_process(due, stop) if (i + 1) % LOG_EVERY == 0 else (False, False)
            if due or stop or i + 1 == config.steps:
                checkpoints.save(i + 1, state, since)
                saved = time.monotonic()
            if stop:
                raise Stopped(f"Stopped at step {i + 1} of {config.steps}, saved; the same command resumes.")
    return state
