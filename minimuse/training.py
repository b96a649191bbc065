"""Training: one step, one loop, checkpoints and resume. The stages' losses live beside their models.

A training state is a nested dict of arrays: params, ema (their running average, the weights that are shipped), opt,
step, and what a stage adds. Batches and random keys are pure functions of the step, so a run that was killed and
resumed does exactly what one that was not would have done.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from minimuse.config import RunConfig, TrainConfig
from minimuse.files import write_text
from minimuse.mesh import like, make_mesh, spread
from minimuse.processes import any_process, first_alone, is_first

LOG_EVERY = 20  # steps a line of the log


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW or Adafactor with linear warm-up, cosine decay to 2 % and clipping; only matrices (`kernel`) decay.

    With config.muon the matrices inside the model are trained by Muon (momentum, made orthogonal before each step)
    at that rate, and AdamW keeps the rest: vectors, embeddings, and the last layer, `logits` or `head`.
    """
    warmup = min(config.warmup, max(1, config.steps // 2))

    def rate(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(config.steps, warmup + 1), 0.02 * peak)

    def by_path(choose):
        return lambda params: jax.tree_util.tree_map_with_path(lambda path, x: choose([k.key for k in path], x), params)

    decayed = dict(weight_decay=config.weight_decay, mask=by_path(lambda path, _: path[-1] == "kernel"))
    if config.optimizer == "adamw":
        most = optax.adamw(rate(config.learning_rate), b1=0.9, b2=config.b2, **decayed)
    elif config.optimizer == "adafactor":
        most = optax.chain(
            optax.scale_by_factored_rms(decay_rate=0.8),
            optax.clip_by_block_rms(1.0),
            optax.ema(0.9, debias=False),
            optax.add_decayed_weights(**decayed),
            optax.scale_by_learning_rate(rate(config.learning_rate)),
        )
    else:
        raise ValueError(f"There is no optimizer {config.optimizer!r}; there are adamw and adafactor.")
    if not config.muon:
        return optax.chain(optax.clip_by_global_norm(config.clip), most)

    # The last two axes are the matrix; a stack of layers has one more before them.
    axes = functools.partial(jax.tree.map, lambda x: optax.contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1))
    muon = optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=axes),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(rate(config.muon)),
    )
    inner = by_path(lambda path, _: "muon" if path[-1] == "kernel" and not {"logits", "head"} & {*path} else "most")
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.multi_transform(dict(muon=muon, most=most), inner))


def init_state(params: dict, config: TrainConfig, **extra) -> dict:
    """The state before the first step; `extra` are further arrays that a stage's `update` looks after."""
    # Copies: the step gives its input's memory away, so no two entries may share a buffer, nor may the caller's.
    copy = functools.partial(jax.tree.map, jnp.copy)
    opt = optimizer(config).init(params)
    return dict(params=copy(params), ema=copy(params), opt=opt, step=jnp.zeros((), int), **copy(extra))


def running_average(state: dict, params: dict, config: TrainConfig) -> dict:
    """state["ema"] moved a little towards the new params."""
    # A young average follows closely; otherwise a short run would still ship its first weights.
    decay = jnp.minimum(config.ema, (1 + state["step"]) / (10 + state["step"]))
    return optax.incremental_update(params, state["ema"], 1 - decay)


def gradients(loss_fn: Callable, parts: int, params: dict, key: jax.Array, batch: dict) -> tuple[dict, dict]:
    """Gradients of the loss and its metrics (the loss is one of them), the batch [B, ...] taken in `parts` parts.

    Each part has a key of its own. Gradients and metrics are the mean over the parts, so memory is that of one part.
    """

    def of(batch, key):
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, key, batch)
        return grads, metrics | dict(loss=loss)

    if parts == 1:
        return of(batch, key)
    if wrong := sorted({len(x) for x in jax.tree.leaves(batch) if len(x) % parts}):
        raise ValueError(f"A batch of {wrong[0]} does not part into {parts} of one size.")
    # A part is every `parts`-th row: on a mesh each device then computes rows of its own in every part.
    batch = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    keys = jax.random.split(key, parts)
    like = jax.eval_shape(of, jax.tree.map(lambda x: x[0], batch), keys[0])
    if any(value.ndim for value in like[1].values()):
        raise ValueError("A loss whose metrics are arrays cannot be taken in parts; set accumulate to 1.")
    add = lambda total, part: jax.tree.map(lambda a, b: a + b / parts, total, of(*part))  # noqa: E731
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return jax.lax.scan(lambda total, part: (add(total, part), None), zeros, (batch, keys))[0]


def make_step(loss_fn: Callable, config: TrainConfig, update: Callable | None = None) -> Callable:
    """Compile one training step: (state, batch) -> (state, metrics of scalars).

    loss_fn(params, key, batch) -> (loss, metrics). Metrics that are arrays are for `update(state, key, metrics) ->
    state`, which runs after the gradient step (codebook restarts, for instance), and are not returned.
    """
    tx = optimizer(config)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state["step"]))
        grads, metrics = gradients(loss_fn, config.accumulate, state["params"], key, batch)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        ema = running_average(state, params, config)
        state = state | dict(params=params, ema=ema, opt=opt, step=state["step"] + 1)
        if update is not None:
            state = update(state, update_key, metrics)
        scalars = {k: v for k, v in metrics.items() if jnp.ndim(v) == 0}
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        return state, scalars | dict(grad_norm=norm)

    return step


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
        flat = lambda values: {  # noqa: E731
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


def read_log(path: Path | str) -> dict[str, np.ndarray]:
    """The columns of a JSON-lines training log."""
    lines = Path(path).read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # a running or killed run may end in half a line
    names = dict.fromkeys(name for row in rows for name in row)  # a metric may be absent from some lines
    return {k: np.array([row.get(k, np.nan) for row in rows]) for k in names}


def mean_metrics(metrics: list[dict]) -> dict[str, float]:
    """Several steps' metrics as one line of the log: their mean, to five digits. NaN is a step that had nothing to
    measure; a metric without any number is left out."""
    columns = {k: [float(row[k]) for row in metrics] for k in metrics[0]}
    columns = {k: [v for v in values if not np.isnan(v)] for k, values in columns.items()}
    return {k: float(f"{np.mean(values):.5g}") for k, values in columns.items() if values}


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
