"""Exercises 13: scaling up."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, compare, compiled, exercise, in_any_order, pair
from minimuse.teach.checks.float16 import broken, faint, high, one_steep, scaled, steep, stepped
from minimuse.teach.checks.one_device import after_step, mesh_case, on_mesh
from minimuse.teach.checks.tracing import recorded

# --- 1: bytes and seconds -------------------------------------------------------------------------------------------

RUN = dict(
    optimizer="adamw", ema=True, dtype="float32", batch=8, accumulate=1, kept=1000, tokens=64, steps=100, data=1,
    fsdp=1, speed=1e9,
)  # fmt: skip
CHANGES: list[tuple[int, dict]] = [
    (1000, {}),
    (1000, dict(optimizer="sgd", ema=False)),
    (2000, dict(optimizer="adafactor", kept=500)),
    (2000, dict(ema=False, dtype="bfloat16")),
    (5000, dict(accumulate=4, dtype="bfloat16", kept=3000)),
    (5000, dict(optimizer="sgd", data=4, accumulate=2, steps=7)),
    (9000, dict(fsdp=8, batch=32, tokens=10)),
    (9000, dict(ema=False, data=2, fsdp=4, batch=64, accumulate=2, speed=3e10, optimizer="adafactor")),
    (3_000_000_000, dict(fsdp=16, data=2, batch=512, kept=10**9, accumulate=4, dtype="bfloat16", tokens=256)),
]
SUMS = dict(adamw=2, adafactor=1, sgd=0)  # numbers that an optimizer keeps per weight


def _bytes_and_seconds(
    weights: int,
    run: Mapping[str, Any],
    sums: Mapping[str, int] = SUMS,
    gradients: int = 1,
    state_bytes: int = 4,
    factor: int = 6,
    split: str = "fsdp",
    **instead: Any,
) -> np.ndarray:
    """What a device holds, and how long a run takes; `instead` replaces settings."""
    run = dict(run) | instead
    devices = run["data"] * run["fsdp"]
    numbers_per_weight = 1 + run["ema"] + sums[run["optimizer"]] + gradients
    held = state_bytes * weights * numbers_per_weight / {"fsdp": run["fsdp"], "all": devices, "none": 1}[split]
    rows = run["batch"] / devices / run["accumulate"]
    kept = rows * run["kept"] * {"float32": 4, "bfloat16": 2}[run["dtype"]]
    operations = factor * weights * run["tokens"] * run["batch"] * run["steps"]
    return np.array([held + kept, operations / (run["speed"] * devices)])


def _time_of(seconds: np.ndarray, held: np.ndarray) -> np.ndarray:
    return np.array([held[0], seconds[1]])


@exercise(points=3)
def run_cost(answer: Callable) -> None:
    """weights int, run, a dictionary of settings -> float [2]: bytes on each device, and seconds of training."""
    right = lambda weights, run: _bytes_and_seconds(weights, run)
    of = lambda **options: lambda weights, run: _bytes_and_seconds(weights, run, **options)
    compare(
        answer,
        [(weights, RUN | changes) for weights, changes in CHANGES],
        right,
        {
            "The gradients are missing: while a step runs, there is one more number per weight.": of(gradients=0),
            "The running average is missing: with `ema`, it is one more number per weight.": of(ema=False),
            "The running average is always counted, also where `ema` is False.": of(ema=True),
            "The optimizer's numbers are not counted: AdamW keeps two per weight, Adafactor one.": (
                of(sums=dict.fromkeys(SUMS, 0))
            ),
            "Two numbers per weight are counted for every optimizer. Adafactor keeps one, and SGD none.": (
                of(sums=dict.fromkeys(SUMS, 2))
            ),
            "The state is halved in bfloat16, too. Weights, average, sums and gradients stay in float32; only what the "
            "forward pass keeps is in bfloat16.": lambda weights, run: _bytes_and_seconds(
                weights, run, state_bytes=2 if run["dtype"] == "bfloat16" else 4
            ),
            "What the forward pass keeps takes two bytes per number in bfloat16, not four.": of(dtype="float32"),
            "With `accumulate`, only one piece of the batch is kept at a time.": of(accumulate=1),
            "Pieces change the memory, not the time: all rows of the batch are computed in every step.": (
                lambda weights, run: right(weights, run) / [1, run["accumulate"]]
            ),
            "The state is divided by all devices. Only the axis `fsdp` splits it; along `data` it is copied.": (
                of(split="all")
            ),
            "The state is not divided. Along the axis `fsdp`, each device holds its share of it.": of(split="none"),
            "The batch is split along both axes of the mesh: each device computes batch / (data · fsdp) rows.": (
                lambda weights, run: _time_of(right(weights, run), _bytes_and_seconds(weights, run | dict(data=1)))
            ),
            "The time is that of one device. All of them compute, data · fsdp.": lambda weights, run: _time_of(
                right(weights, run) * run["data"] * run["fsdp"], right(weights, run)
            ),
            "That is the forward pass only: 2 N D. The backward pass takes twice as much again, in all 6 N D.": (
                of(factor=2)
            ),
            "The order is wrong: first bytes, then seconds.": lambda weights, run: right(weights, run)[::-1],
        },
    )


# --- 2: one device of a mesh ----------------------------------------------------------------------------------------


@exercise(points=4)
def one_device_step(answer: Callable) -> None:
    """loss, shard float [n / fsdp], xs and ys of the device's own rows, rate -> its new share, float [n / fsdp]."""
    sizes = ((1, 2, 2, 4, 2), (3, 1, 2, 2, 2), (2, 3, 4, 6, 2), (2, 4, 1, 8, 4))
    times = lambda factor: lambda w, xs, ys, rate, power: after_step(w, xs, ys, factor(xs) * rate, power)
    over = lambda axes: lambda *case: after_step(*case, over=axes)
    compare(
        on_mesh(answer),
        [mesh_case(seed, *size) for seed, size in enumerate(sizes)],
        after_step,
        {
            "Each device moves its weights by the gradient of its own rows only, so after a step the devices disagree. "
            "Average the gradients over all devices.": over("none"),
            "The gradients are averaged along `fsdp` only. Rows are split along both axes, so average along both.": (
                over("fsdp")
            ),
            "The gradients are averaged along `data` only. Rows are split along both axes, so average along both.": (
                over("data")
            ),
            "The gradients are added up, so the step grows with the number of devices. The loss is a mean over all "
            "rows: divide by the number of devices, as `jax.lax.pmean` does.": (
                times(lambda xs: xs.shape[0] * xs.shape[1])
            ),
            "The sum over the axis `fsdp` is not divided by its size.": times(lambda xs: xs.shape[1]),
            "Every device takes the first share of the gradient. `jax.lax.axis_index('fsdp')` says which share is its "
            "own.": lambda *case: after_step(*case, first=True),
            "The weights have moved uphill: subtract the gradient.": times(lambda xs: -1),
            "The weights have not moved.": times(lambda xs: 0),
            "The step is the whole gradient. Multiply it by the rate.": times(lambda xs: 10),
        },
    )


# --- 3: in pieces ---------------------------------------------------------------------------------------------------

HIDDEN = 50


def place_losses(params: dict, batch: dict) -> jax.Array:
    """A loss for every place, float [b, N]: of a sum of tanh, whose numbers [b, N, F, HIDDEN] fill the memory."""
    spread = jnp.tanh(batch["x"][..., None] * params["w"])
    return (spread.sum((-1, -2)) + params["b"] - batch["y"]) ** 2


def _batch(seed: int, counts: list[int], places: int) -> tuple[dict, dict]:
    """Params, and a batch with that many hidden places in its rows."""
    rng = np.random.default_rng(seed)
    params = dict(w=0.3 * rng.normal(size=(2, HIDDEN)), b=rng.normal())
    mask = np.array([rng.permutation(np.arange(places) < count) for count in counts])
    x, y = rng.normal(size=(*mask.shape, 2)), 10 * rng.normal(size=mask.shape)
    arrays = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), (params, dict(x=x, y=y)))
    return arrays[0], arrays[1] | dict(mask=jnp.asarray(mask))


def _parts(params: dict, batch: dict, weights: np.ndarray) -> np.ndarray:
    """Loss, derivative in b, and the gradient in w, by hand: of the sum of losses times these weights [B, N]."""
    w, b, x, y = (np.asarray(v, float) for v in (params["w"], params["b"], batch["x"], batch["y"]))
    spread = np.tanh(x[..., None] * w)
    far = weights * (spread.sum((-1, -2)) + b - y)
    by_w = 2 * np.einsum("bn,bnfh->fh", far, (1 - spread**2) * x[..., None])
    loss = (far * (spread.sum((-1, -2)) + b - y)).sum()
    return np.concatenate([[loss, 2 * far.sum()], by_w.ravel()])


def _pieced(params: dict, batch: dict, pieces: int, weigh: Callable | None = None) -> np.ndarray:
    mask = np.asarray(batch["mask"], float)
    return _parts(params, batch, weigh(mask, pieces) if weigh else mask / mask.sum())


def _of_means(mask: np.ndarray, pieces: int) -> np.ndarray:
    """The weights of a mean over pieces of the means over their hidden places."""
    rows = mask.reshape(pieces, -1, mask.shape[-1])
    return (rows / rows.sum((1, 2), keepdims=True) / pieces).reshape(mask.shape)


def _in_a_vector(value: Any) -> np.ndarray:
    """A returned loss and its gradients: [loss, of b, of w ...]."""
    loss, grads = pair(value, "return loss, gradients")
    if isinstance(loss, dict):
        raise Wrong("The order is wrong: first the loss, then the gradients.")
    if not isinstance(grads, dict) or set(grads) != {"b", "w"}:
        raise Wrong("The gradients must be a dictionary like params, with b and w.")
    for name, value, shape in (("loss", loss, ()), ("b", grads["b"], ()), ("w", grads["w"], (2, HIDDEN))):
        if np.shape(value) != shape:
            raise Wrong(f"{name} has shape {list(np.shape(value))}; return shape {list(shape)}.")
    return np.concatenate([np.ravel(np.asarray(v, float)) for v in (loss, grads["b"], grads["w"])])


@exercise(points=3)
def pieced_gradient(answer: Callable) -> None:
    """losses, params, batch, pieces -> the mean loss over all hidden places, and its gradients."""
    weighed = lambda weigh: lambda params, batch, pieces: _pieced(params, batch, pieces, weigh)
    mistakes = {
        "That is a mean of the pieces' means. A piece with few hidden places then counts as much as one with many. Add "
        "up the sums of losses, and divide by the number of hidden places of the whole batch.": weighed(_of_means),
        "All places count, also those that are not hidden.": weighed(
            lambda mask, pieces: np.ones_like(mask) / mask.size
        ),
        "The sum of losses is divided by the number of all places. Divide by that of the hidden ones.": (
            weighed(lambda mask, pieces: mask / mask.size)
        ),
        "The sum of losses is divided by the number of rows. Divide by that of the hidden places.": (
            weighed(lambda mask, pieces: mask / len(mask))
        ),
        "That is the sum of losses, and its gradients. Divide both by the number of hidden places.": (
            weighed(lambda mask, pieces: mask)
        ),
        "It is divided by the number of pieces, too.": weighed(lambda mask, pieces: mask / mask.sum() / pieces),
        "The gradients are right, but the loss is a sum: divide it, too.": lambda params, batch, pieces: (
            _pieced(params, batch, pieces) * np.r_[np.asarray(batch["mask"]).sum(), np.ones(1 + 2 * HIDDEN)]
        ),
    }
    run = lambda *case: compiled(answer, static=(0, 3))(place_losses, *case)
    cases = [(0, [2], 3, 1), (1, [1, 3], 4, 2), (2, [5, 1, 2, 4, 1, 1], 5, 3)]
    batches = [(*_batch(seed, counts, n), pieces) for seed, counts, n, pieces in cases]
    compare(run, batches, _pieced, mistakes, read=_in_a_vector)
    case = *_batch(5, [0, 0, 2, 1, 0, 0, 3, 0], 3), 4  # nothing is hidden in two of the pieces
    if not np.isfinite(_in_a_vector(call(run, *case))).all():
        raise Wrong(
            "Nothing is hidden in one of the pieces, and the result is nan. Divide only once, by the number of hidden "
            "places of the whole batch."
        )
    compare(run, [case], _pieced, mistakes, read=_in_a_vector)
    params, batch = _batch(6, [1, 2, 3, 1, 2, 3, 1, 2], 3)  # a row in each of eight pieces
    if recorded(answer, place_losses, params, batch, 8, static=(0, 3)).largest > 3 * 2 * HIDDEN:
        raise Wrong(
            "The values are right, but the rows of several pieces are computed together, so no memory is saved. "
            "Take the pieces one after another: in a Python loop, or with `jax.lax.scan`, not with `vmap`."
        )


# --- 4: loss scaling ------------------------------------------------------------------------------------------------


@exercise(points=4)
def scaled_step(answer: Callable) -> None:
    """loss, params float32, scale, rate -> params and scale after a step with gradients in float16."""
    params = lambda w, b: dict(w=jnp.array(w, jnp.float32), b=jnp.float32(b))
    way = lambda name: lambda loss, params, scale, rate: scaled(loss, params, scale, rate, name)
    small, large = params([0.5, -1.0], 1.5), params([8.0, 0.25], 0.5)
    weak = params([2**-10, -(2**-9)], 2**-11)
    compare(
        stepped(answer),
        [
            (high, small, 1.0, 0.1),
            (high, params([4.3, 1.0], -3.0), 1024.0, 0.1),
            (steep, params([0.25, -0.5], 1.0), 64.0, 0.01),
            (faint, weak, 1024.0, 2.0**27),
            (faint, params([-(2**-11), 2**-12], 2**-10), 2.0**15, 2.0**28),
            (steep, large, 1024.0, 0.01),
            (steep, params([8.0, 8.0], 0.5), 2.0**15, 0.01),
            (one_steep, params([1.0, 2.0], 4.0), 4096.0, 1.0),
            (one_steep, params([1.0, 3.0], 2.0), 2.0**14, 1.0),
            (broken, params([1.0, 2.0, 3.0], 1.5), 16.0, 0.1),
        ],
        lambda loss, params, scale, rate: scaled(loss, params, scale, rate),
        {
            "The gradients are still multiplied by the scale. Divide them by it, in float32.": way("not unscaled"),
            "The loss is not scaled: gradients below 6e-8 become 0 in float16. Multiply the loss by the scale before "
            "you take the gradient.": way("plain"),
            "The gradients are divided by the scale while they are float16, so small ones become 0. Cast them "
            "to float32 first.": way("half"),
            "Only those numbers are kept whose own gradient is not finite. If any gradient is not finite, skip the "
            "whole step.": way("by element"),
            "Only those arrays are kept whose own gradient is not finite. If any gradient is not finite, skip the "
            "whole step.": way("by array"),
            "The scale stays the same after a step that was skipped, so the next one overflows, too. Halve it.": (
                way("never")
            ),
            "The scale is halved after every step. Halve it only if a step is skipped.": way("always"),
            "The scale is doubled where it must be halved.": way("doubled"),
        },
    )


# --- 5: a diagnosis -------------------------------------------------------------------------------------------------

WHY = {
    "sound": "Its loss begins near ln K and falls, and the held-out loss with it. A single high row, a learning rate "
    "that begins or ends at 0, and rows without a held-out loss (nan) are normal.",
    "not finite": "Its training loss is nan or infinite from some row on.",
    "diverging": "Its training loss falls at first, and then rises to far above its lowest values, and stays there.",
    "no rate": "Its learning rate is 0 in all rows.",
    "memorizing": "Its training loss falls to the end, while the held-out loss falls at first and then rises.",
    "wrong start": "Its first loss is far from ln K, the loss of a guess among K codes.",
}


def _log(kind: str, seed: int) -> tuple[dict[str, np.ndarray], int]:
    """A made-up log of a run in which this went wrong, and the number of codes."""
    rng = np.random.default_rng(seed)
    rows, codes = int(rng.integers(40, 150)), int(rng.choice([64, 256, 1024, 8192]))
    t, start, end = np.linspace(0, 1, rows), np.log(codes), rng.uniform(0.25, 0.5) * np.log(codes)
    shape = (np.exp(-rng.uniform(3, 6) * t) - 1) / (1 - np.exp(-5))
    if kind == "wrong start":
        start = start * (rng.uniform(1.5, 2.0) if seed % 2 else rng.uniform(0.4, 0.6))
        end = min(end, 0.3 * np.log(codes))
    loss = start + (start - end) * shape
    held = loss + 0.02 * t
    rate = rng.uniform(1e-4, 1e-3) * np.minimum(1, t / 0.05) * (1 + np.cos(np.pi * t)) / 2  # begins and ends at 0
    late = np.maximum(0, t - rng.uniform(0.3, 0.6))
    if kind == "diverging":
        rise = (start - end) * rng.uniform(0.45, 0.8) * (1 + 2 * (seed % 2)) * (1 - np.exp(-late / 0.05))
        loss, held = loss + rise, held + rise
    if kind == "memorizing":
        held = held + rng.uniform(2.0, 5.0) * late
    if kind == "no rate":
        rate, loss, held = 0 * rate, 0 * t + start, 0 * t + start
    loss, held = loss + 0.03 * rng.normal(size=rows), held + 0.03 * rng.normal(size=rows)
    if kind == "sound":
        loss[rows // 2] += 1.2 * (start - end) * (seed % 2)  # a single high row, above the first loss
    if kind == "not finite":
        loss[late > 0] = np.nan if seed % 2 else np.inf
        held[late > 0] = np.nan
    held[(np.arange(rows) + 1) % int(rng.integers(2, 6)) != 0] = np.nan
    return dict(step=np.arange(1, rows + 1) * 10.0, loss=loss, held_out_loss=held, learning_rate=rate), codes


@exercise(points=3)
def diagnose_run(answer: Callable) -> None:
    """log, a dictionary of float arrays [rows], codes int -> what went wrong, one of six names."""
    kinds = [*WHY] * 6
    logs = [_log(kind, number // 6) for number, kind in enumerate(kinds)]

    def name(log: tuple) -> str:
        got = call(answer, *log)
        if type(got) not in (str, np.str_) or got not in WHY:
            names = ", ".join(f'"{name}"' for name in WHY)
            raise Wrong(f"It returned {got!r}; return one of {names}.")
        return str(got)

    returned = [(kind, got, *log) for kind, got, log in zip(kinds, in_any_order(name, logs), logs)]
    if len({got for _, got, _, _ in returned}) == 1:
        raise Wrong(
            f"It returns {returned[0][1]!r} for all logs. Test for one fault after another. In every log some rows are "
            "without a held-out loss (nan), which is not a fault."
        )
    wrong = [each for each in returned if each[0] != each[1]]
    if wrong:
        kind, got, log, codes = wrong[0]
        held = log["held_out_loss"][~np.isnan(log["held_out_loss"])]
        ends = lambda x: f"{x[:3].round(3)} ... {x[-3:].round(3)}"
        raise Wrong(
            f"{36 - len(wrong)} of 36 runs are identified correctly. This one is {kind!r}, and you return {got!r}. "
            f"{WHY[kind]}",
            dict(loss=ends(log["loss"]), held_out_loss=ends(held), learning_rate=ends(log["learning_rate"] * 1000))
            | {"ln K": f"{np.log(codes):.3f}"},
        )
