"""The training loop: resume, determinism, averaging, settings."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimuse import files
from minimuse.config import RunConfig, TrainConfig
from minimuse.muse import build
from minimuse.presets import PRESETS
from minimuse.train import report
from minimuse.train.loop import Diverged, Job, Stopped, fit, mean_metrics
from minimuse.train.step import gradients, init_state, make_step, optimizer
from minimuse.weights import named_arrays

CONFIG = TrainConfig(steps=12, batch=4, learning_rate=0.1, warmup=2, weight_decay=0.0)
PARAMS = dict(a=dict(kernel=jnp.ones((2, 3))))
QUIET = RunConfig(save_seconds=1e9)  # save at the end only
ALWAYS = RunConfig(save_seconds=-1)  # save at every step
TIMES = ("seconds", "examples_per_second")  # in a row of the log; they differ from run to run


def loss(params, key, batch):
    noise = 0.1 * jax.random.normal(key)  # a run must also resume its randomness
    error = jnp.mean((params["a"]["kernel"] @ batch["x"].T - 1 + noise) ** 2)
    return error, dict(noise=noise, vector=jnp.ones(3))


def batch_at(step):
    return dict(x=np.random.default_rng(step).normal(size=(4, 3)).astype(np.float32))


STEP = make_step(loss, CONFIG)  # compiled once for all tests
JOB = Job(PARAMS, STEP, batch_at)


def same(one, two):
    return all((x == y).all() for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the last state of a run that nothing disturbed, with a row of the log per step."""
    out = tmp_path_factory.mktemp("whole")
    return out, fit(JOB, CONFIG, dataclasses.replace(QUIET, log_every=1), out)


def test_learns_logs_and_compiles_once(tmp_path):
    job = JOB._replace(step=make_step(loss, CONFIG))
    state = fit(job, CONFIG, QUIET, tmp_path)
    assert state["step"] == 12 and job.step._cache_size() == 1
    log = files.read_log(tmp_path / "log.jsonl")
    assert log["step"].tolist() == [12] and set(log) == {"step", "loss", "noise", "grad_norm", "learning_rate", *TIMES}


def test_the_weights_that_a_run_starts_from_are_not_given_away():
    params, extra = dict(a=dict(kernel=jnp.ones((2, 3)))), jnp.zeros(2)
    for _ in range(2):  # a second run from the same weights
        state, _ = STEP(init_state(params, CONFIG, extra=extra), batch_at(0))
    assert (params["a"]["kernel"] == 1).all() and (extra == 0).all() and state["step"] == 1


def test_what_a_job_keeps_beside_its_weights_is_saved_with_them(tmp_path):
    def update(state, key, metrics):
        return state | dict(seen=state["seen"] + metrics["vector"])

    def stop_at_five(step):
        if step == 5:
            raise MemoryError
        return batch_at(step)

    job = Job(PARAMS, make_step(loss, CONFIG, update), stop_at_five, extra=dict(seen=jnp.zeros(3)))
    with pytest.raises(MemoryError):
        fit(job, CONFIG, ALWAYS, tmp_path)
    assert fit(job._replace(batch_at=batch_at), CONFIG, QUIET, tmp_path)["seen"].tolist() == [12, 12, 12]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_equals_never_stopped(tmp_path, whole, how):
    def stop_at_five(i):
        if i == 5:
            os.kill(os.getpid(), how)
        return batch_at(i)

    with pytest.raises(Stopped, match=r"(?=.*\b12\b).*\b6\b"):
        fit(JOB._replace(batch_at=stop_at_five), CONFIG, QUIET, tmp_path)
    seen = []
    state = fit(JOB._replace(batch_at=lambda i: seen.append(i) or batch_at(i)), CONFIG, QUIET, tmp_path)
    assert seen == list(range(6, 12))
    assert same(whole[1], state)  # bit for bit
    # A row at the save, and one at the end; together they say what the rows of the undisturbed run say.
    losses = files.read_log(whole[0] / "log.jsonl")["loss"]
    assert [row["step"] for row in rows(tmp_path)] == [6, 12]
    for row, expected in zip(rows(tmp_path), (losses[:6], losses[6:])):
        assert row["loss"] == pytest.approx(expected.mean(), rel=1e-4)


def test_a_signal_while_the_last_samples_are_drawn_stops_before_the_next_stage(tmp_path, whole):
    stopped = lambda ema, folder, step: os.kill(os.getpid(), signal.SIGTERM)
    run = dataclasses.replace(QUIET, samples_every=CONFIG.steps)
    with pytest.raises(Stopped, match=r"\b12\b"):
        fit(JOB._replace(samples=stopped), CONFIG, run, tmp_path)
    assert same(whole[1], fit(JOB, CONFIG, QUIET, tmp_path))


def test_a_kill_without_warning_resumes_from_the_last_save(tmp_path, whole):
    def die(i):
        if i == 7:
            raise MemoryError
        return batch_at(i)

    with pytest.raises(MemoryError):
        fit(JOB._replace(batch_at=die), CONFIG, ALWAYS, tmp_path)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 40, "seconds": 1.0, "loss": 9}\n{"step": 60, "sec')  # lines ahead of the checkpoint
    assert same(whole[1], fit(JOB, CONFIG, ALWAYS, tmp_path))
    without_time = [[row | dict.fromkeys(TIMES, 0) for row in rows(out)] for out in (whole[0], tmp_path)]
    assert without_time[0] == without_time[1]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = fit(JOB, CONFIG, QUIET, tmp_path)
    assert same(first, fit(JOB._replace(batch_at=None), CONFIG, QUIET, tmp_path))


def test_a_run_has_rows_as_often_as_its_settings_say(tmp_path):
    fit(JOB, CONFIG, dataclasses.replace(QUIET, log_every=5), tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [5, 10, 12]


def breaks_from(number):
    """A loss that is NaN from that step on."""

    def broken(params, key, batch):
        value, metrics = loss(params, key, batch)
        return value * jnp.where(batch["number"][0] >= number, jnp.nan, 1.0), metrics

    return broken


@pytest.mark.parametrize("run, kept", [(ALWAYS, [6, 7]), (dataclasses.replace(QUIET, log_every=5), [])])
def test_the_first_loss_that_is_not_finite_ends_a_run(tmp_path, run, kept):
    """And what was saved before stays, whether the run is looked at after every step or now and then."""
    job = Job(PARAMS, make_step(breaks_from(7), CONFIG), lambda i: batch_at(i) | dict(number=np.full(4, i)))
    with pytest.raises(Diverged, match=r"(?=.*\bnan\b).*\b8\b"):
        fit(job, CONFIG, run, tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == kept
    log = files.read_log(tmp_path / "log.jsonl")
    assert log["step"][-1] == 7 and np.isfinite(log["loss"]).all()
    with pytest.raises(Diverged):  # the same again, from what was kept
        fit(job, CONFIG, run, tmp_path)


def test_weights_that_are_not_finite_are_not_saved_where_the_loss_still_is(tmp_path):
    update = lambda state, key, metrics: state | dict(seen=jnp.where(state["step"] == 5, jnp.inf, state["seen"]))
    job = Job(PARAMS, make_step(loss, CONFIG, update), batch_at, extra=dict(seen=jnp.zeros(2)))
    with pytest.raises(Diverged, match=r"\b5\b.*\b4\b"):
        fit(job, CONFIG, ALWAYS, tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [3, 4]


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_goes_on(tmp_path, whole):
    def second(step):
        if step == 4:
            with pytest.raises(ValueError, match=rf"{tmp_path}.*\b{os.getpid()}\b"):
                fit(JOB, CONFIG, QUIET, tmp_path)
        return batch_at(step)

    assert same(whole[1], fit(JOB._replace(batch_at=second), CONFIG, QUIET, tmp_path))


def test_a_run_that_was_killed_holds_no_lock(tmp_path):
    code = "import os, sys, filelock; filelock.FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.lock")])
    assert (tmp_path / "run.lock").exists() and fit(JOB, CONFIG, QUIET, tmp_path)["step"] == 12


@pytest.mark.parametrize("text", ["", "[1]", '{"train": {"st'])
def test_damaged_settings_are_named(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=r"settings\.json"):
        fit(JOB, CONFIG, QUIET, tmp_path)


def test_a_run_can_be_lengthened(tmp_path, capsys):
    """A finished one, or one that was stopped; and only that."""
    fit(JOB, CONFIG, QUIET, tmp_path)
    longer, seen = dataclasses.replace(CONFIG, steps=15), []
    job = Job(PARAMS, make_step(loss, longer), lambda i: seen.append(i) or batch_at(i))
    capsys.readouterr()
    assert fit(job, longer, QUIET, tmp_path)["step"] == 15 and seen == [12, 13, 14]
    assert re.search(r"\b12\b.*\b15\b", capsys.readouterr().out)
    assert [row["step"] for row in rows(tmp_path)] == [12, 15]
    for changes in (dict(steps=12), dict(steps=20, learning_rate=0.2)):
        with pytest.raises(ValueError, match="--out"):
            fit(job, dataclasses.replace(longer, **changes), QUIET, tmp_path)
    assert fit(job._replace(batch_at=None), longer, QUIET, tmp_path)["step"] == 15


def test_the_log_has_the_learning_rate_of_each_step(whole):
    rates = files.read_log(whole[0] / "log.jsonl")["learning_rate"]
    assert rates[:3] == pytest.approx([0, 0.05, 0.1]) and (np.diff(rates[2:]) < 0).all()
    assert rates[-1] > 0.02 * 0.1 and (files.read_log(whole[0] / "log.jsonl")["examples_per_second"] > 0).all()


def test_examples_that_are_held_out_are_judged_by_the_averaged_weights_now_and_then(tmp_path):
    judge = lambda weights: dict(held_out_loss=weights["a"]["kernel"].sum())
    state = fit(JOB._replace(held_out=judge), CONFIG, dataclasses.replace(QUIET, held_out_every=5), tmp_path)
    log = files.read_log(tmp_path / "log.jsonl")
    assert log["step"].tolist() == [5, 10, 12] and log["held_out_loss"][0] < 6
    assert log["held_out_loss"][-1] == pytest.approx(float(state["ema"]["a"]["kernel"].sum()), rel=1e-4)


@pytest.mark.parametrize("name, package", report.PACKAGES.items())
def test_the_log_also_goes_to_a_package_that_is_installed(tmp_path, monkeypatch, name, package):
    calls = []
    note = lambda what: lambda *args, **options: calls.append((what, args, options))
    writer = types.SimpleNamespace(**{what: note(what) for what in ("add_scalar", "flush", "close")})
    tracker = {what: note(what) for what in ("init", "log", "finish")}
    fake = types.SimpleNamespace(SummaryWriter=lambda folder: writer, **tracker)
    run = dataclasses.replace(QUIET, report=name, log_every=6)
    monkeypatch.setitem(sys.modules, package, None)  # not installed
    with pytest.raises(ImportError, match=f"pip install {package}"):
        fit(JOB, CONFIG, run, tmp_path)
    monkeypatch.setitem(sys.modules, package, fake)
    fit(JOB, CONFIG, run, tmp_path)
    losses = [row["loss"] for row in rows(tmp_path)]
    if name == "tensorboard":
        assert [args[1:] for what, args, _ in calls if args[:1] == ("loss",)] == list(zip(losses, (6, 12)))
    else:
        assert [args[0]["loss"] for what, args, options in calls if what == "log"] == losses
    assert calls[-1][0] in ("close", "finish")
    with pytest.raises(ValueError, match="printer"):
        report.package_of("printer")


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    fit(JOB._replace(about=dict(model=dict(width=2))), CONFIG, QUIET, tmp_path)
    with pytest.raises(ValueError, match=r"(?=.*--out).*\bwidth\b"):
        fit(JOB._replace(about=dict(model=dict(width=3))), CONFIG, QUIET, tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text())["model"] == {"width": 2}


def test_only_kernels_decay():
    config = TrainConfig(steps=10, batch=1, learning_rate=0.1, warmup=1, weight_decay=0.5)
    tx = optimizer(config)
    params = dict(a=dict(kernel=jnp.ones(2), bias=jnp.ones(2)), b=dict(scale=jnp.ones(2)))
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
    assert (updates["a"]["kernel"] < 0).all()
    assert (updates["a"]["bias"] == 0).all() and (updates["b"]["scale"] == 0).all()


def test_muon_moves_every_direction_of_a_matrix_alike_and_leaves_the_rest_to_adamw():
    """A gradient of rank 2 with very unequal terms: Muon's step has two nearly equal singular values."""
    config = TrainConfig(steps=10, batch=1, learning_rate=0.1, muon=0.01, warmup=1, weight_decay=0.0, clip=1e9)
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(6, 6)))[0] for _ in range(2))
    gradient = left[:, :1] @ right[:1] + 0.05 * left[:, 1:2] @ right[1:2]
    grads = {
        "blocks": dict(kernel=np.stack([gradient, -gradient])),  # a stack of two layers
        "logits": dict(kernel=gradient),
        "embed": dict(embedding=gradient),
        "norm": dict(scale=np.ones(3)),
    }
    grads = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grads)
    params = jax.tree.map(jnp.zeros_like, grads)
    tx = optimizer(config)
    state = tx.init(params)
    for _ in range(2):  # the first step is at rate 0
        updates, state = tx.update(grads, state, params)
    for layer, sign in zip(updates["blocks"]["kernel"], (1, -1)):
        sizes = np.linalg.svd(layer, compute_uv=False)
        assert sizes[1] > 0.5 * sizes[0] > 0 and sizes[2] < 0.2 * sizes[1]
        assert sign * np.sum(layer * gradient) < 0  # downhill
    alone = optimizer(dataclasses.replace(config, muon=0.0))
    rest = {key: params[key] for key in ("logits", "embed", "norm")}
    state = alone.init(rest)
    for _ in range(2):
        expected, state = alone.update({key: grads[key] for key in rest}, state, rest)
    for key in rest:
        assert all(np.allclose(a, b) for a, b in zip(jax.tree.leaves(updates[key]), jax.tree.leaves(expected[key])))


@pytest.mark.parametrize("stage, last", [("base", "logits.kernel"), ("superres", "logits.kernel")])
def test_muon_trains_all_matrices_of_a_transformer_but_the_last(stage, last):
    model = build(stage, getattr(PRESETS["micro"], stage))
    state = jax.eval_shape(optimizer(dataclasses.replace(CONFIG, muon=0.01)).init, model)
    trained = [name for name in named_arrays(state) if "muon" in name.split(".") and name.endswith("kernel")]
    expected = {name for name in named_arrays(model) if name.endswith("kernel")} - {last}
    assert {name for name in expected if any(x.endswith(f".{name}") for x in trained)} == expected
    assert len(trained) == len(expected) and "head_proj.kernel" in expected


def test_adafactor_keeps_rows_and_columns_and_decays_by_its_rate():
    """A gradient of rank 1 follows from its row and column sums: every entry moves by the rate."""
    config = TrainConfig(steps=9, batch=1, learning_rate=0.1, optimizer="adafactor", warmup=1, weight_decay=0.0)
    gradient = jnp.outer(jnp.linspace(1, 2, 256), jnp.linspace(-1, -3, 128))
    params = dict(a=dict(kernel=jnp.ones((256, 128))), b=dict(scale=jnp.ones(3)))
    grads = dict(a=dict(kernel=gradient), b=dict(scale=jnp.ones(3)))
    tx = optimizer(config)
    state = tx.init(params)
    sizes = sorted({x.size for x in jax.tree.leaves(state)})
    assert sizes[-1] == 256 * 128 and sum(x.size >= 256 * 128 for x in jax.tree.leaves(state)) == 1  # only momentum
    for _ in range(2):  # the first step is at rate 0; momentum has then (1 - 0.9) (1 + 0.9) of the gradient
        updates, state = tx.update(grads, state, params)
    np.testing.assert_allclose(updates["a"]["kernel"], 0.1 * 0.19, rtol=0.01)
    decayed = optimizer(dataclasses.replace(config, weight_decay=0.5))
    state = decayed.init(params)
    for _ in range(2):
        more, state = decayed.update(grads, state, params)
    np.testing.assert_allclose(updates["a"]["kernel"] - more["a"]["kernel"], 0.1 * 0.5, rtol=1e-3)
    np.testing.assert_allclose(more["b"]["scale"], updates["b"]["scale"])  # no matrix, no decay


@pytest.mark.parametrize("b2", [0.5, 0.96, 0.999])
def test_adafactor_averages_squares_with_b2(b2):
    """Two gradients, 4 and then 2: the mean of their squares is 16, then (b2 16 + 4) / (b2 + 1), as Adam's is."""
    config = TrainConfig(steps=9, batch=1, learning_rate=0.1, optimizer="adafactor", b2=b2, warmup=1, clip=1e9)
    tx, params = optimizer(config), dict(scale=jnp.ones(3))
    state = tx.init(params)
    for gradient in (4.0, 2.0):
        updates, state = tx.update(dict(scale=jnp.full(3, gradient)), state, params)
    first, second = 4 / np.sqrt(16), 2 / np.sqrt((b2 * 16 + 4) / (b2 + 1))
    momentum = 0.9 * (0.1 * first) + 0.1 * second
    np.testing.assert_allclose(updates["scale"], -0.1 * momentum, rtol=1e-4)


def test_b2_changes_what_adafactor_trains():
    trained = []
    for b2 in (0.96, 0.999):
        config = dataclasses.replace(CONFIG, optimizer="adafactor", b2=b2)
        step, state = make_step(loss, config), init_state(PARAMS, config)
        for i in range(4):
            state, _ = step(state, batch_at(i))
        trained.append(state["params"]["a"]["kernel"])
    assert jnp.abs(trained[0] - trained[1]).max() > 1e-4


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match=r"\bsgd\b.*\badamw\b"):
        optimizer(dataclasses.replace(CONFIG, optimizer="sgd"))


def mean_loss(params, key, batch):
    return jnp.mean((params["a"]["kernel"] @ batch["x"].T - 1) ** 2), dict(most=jnp.max(batch["x"]))


def test_a_mean_in_pieces_gives_the_gradient_of_the_whole():
    params, batch, key = PARAMS, batch_at(0), jax.random.key(0)
    whole, pieces = (gradients(mean_loss, n, params, key, batch) for n in (1, 2))
    np.testing.assert_allclose(pieces[0]["a"]["kernel"], whole[0]["a"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(pieces[1]["loss"], whole[1]["loss"], rtol=1e-6)
    halves = [batch["x"][i::2].max() for i in range(2)]
    np.testing.assert_allclose(pieces[1]["most"], np.mean(halves), rtol=1e-6)  # metrics are the mean over the pieces
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\b3\b"):
        gradients(mean_loss, 3, params, key, batch)


@pytest.mark.parametrize("loss, offender", [(loss, "key"), (lambda *args: (0.0, dict(seen=jnp.ones(3))), "seen")])
def test_a_function_that_cannot_be_taken_in_pieces_is_refused(loss, offender):
    with pytest.raises(ValueError, match=rf"(?=.*\baccumulate\b).*\b{offender}\b"):
        gradients(loss, 2, PARAMS, jax.random.key(0), batch_at(0))


def test_a_line_of_the_log_is_the_mean_since_the_last():
    steps = [dict(loss=1.0, rare=np.nan), dict(loss=2.0, rare=4.0), dict(loss=6.0, rare=np.nan)]
    assert mean_metrics(steps) == dict(loss=3.0, rare=4.0)
    assert mean_metrics(steps[:1]) == dict(loss=1.0)  # nothing was measured


def test_the_average_follows_the_weights():
    state = init_state(PARAMS, CONFIG)
    before = np.asarray(state["ema"]["a"]["kernel"]).copy()
    for i in range(2):
        state, _ = STEP(state, batch_at(i))
    weights, average = (np.asarray(state[k]["a"]["kernel"]) for k in ("params", "ema"))
    assert (average != before).any() and (average != weights).any()
    assert (np.abs(average - before) <= np.abs(weights - before) + 1e-6).all()


def test_update_sees_arrays_and_changes_the_state():
    def update(state, key, metrics):
        return state | dict(seen=state["seen"] + metrics["vector"])

    step = make_step(loss, CONFIG, update)
    state, metrics = step(init_state(PARAMS, CONFIG, seen=jnp.zeros(3)), batch_at(0))
    assert state["seen"].tolist() == [1, 1, 1] and "vector" not in metrics


def test_a_log_that_ends_in_half_a_line_is_read(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 20, "loss": 2.5}\n{"step": 40, "lo')
    assert files.read_log(tmp_path / "log.jsonl")["loss"].tolist() == [2.5]


def test_a_metric_that_some_lines_lack_is_nan_there(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 20, "rare": 2.5}\n{"step": 40}\n')
    np.testing.assert_array_equal(files.read_log(tmp_path / "log.jsonl")["rare"], [2.5, np.nan])
