"""Training on many devices and in several processes gives the numbers of one device; each holds its share alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minimuse import files, processes
from minimuse.config import TrainConfig
from minimuse.train import devices

ROOT = Path(__file__).resolve().parent.parent
QKV = "params/blocks/qkv/kernel"  # [2, 32, 96]
PARTS = dict(accumulate=2)
RUNS = {  # of a process with eight devices
    "one": dict(mesh_shape=(1, 1)),
    "data": dict(mesh_shape=(8, 1)),
    "fsdp": dict(mesh_shape=(1, 8)),
    "one_parts": dict(mesh_shape=(1, 1), **PARTS),
    "both_parts": dict(mesh_shape=(2, 2), **PARTS),
    "resumed": dict(mesh_shape=(1, 8), stop=1),
}


def launch(runs: list[dict], devices: int, *processes: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tests" / "train_on_mesh.py"), json.dumps(runs), *processes]
    env = dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices), PYTHONPATH=str(ROOT))
    env |= dict(JAX_DISABLE_MOST_OPTIMIZATIONS="1")  # compiling is nearly all the time that these runs take
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*running: subprocess.Popen) -> None:
    try:
        for process in running:
            told = process.communicate(timeout=1200)[0]
            assert process.returncode == 0, told
    finally:
        for process in running:
            process.kill()


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A folder with all of RUNS."""
    out = tmp_path_factory.mktemp("eight")
    finish(launch([dict(out=str(out / name)) | run for name, run in RUNS.items()], 8))
    return out


def losses(out: Path) -> np.ndarray:
    return files.read_log(out / "log.jsonl")["loss"]


def assert_same(out: Path, expected: Path) -> None:
    """The same losses and weights as of another run, to 1e-5."""
    assert len(losses(expected)) == 4
    np.testing.assert_allclose(losses(out), losses(expected), rtol=0, atol=1e-5)
    found, wanted = np.load(out / "end.npz"), np.load(expected / "end.npz")
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name, one", [("data", "one"), ("fsdp", "one"), ("both_parts", "one_parts")])
def test_every_mesh_trains_as_one_device_does(eight, name, one):
    assert_same(eight / name, eight / one)


def test_runs_that_differ_are_told_apart(eight):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(eight / "one_parts", eight / "one")


def test_a_device_holds_its_share_alone(eight):
    expected = dict(one=[2, 32, 96], data=[2, 32, 96], fsdp=[2, 32, 12], both_parts=[2, 32, 48])
    told = {name: json.loads((eight / name / "shares.json").read_text()) for name in expected}
    for name, shape in expected.items():
        held = told[name]["held"]
        assert held[QKV] == held[QKV.replace("params", "ema")] == shape
        assert held["params/norm/scale"] == [32]  # small
    # Of the whole state, the optimizer's sums included. Much is small in a model of this size.
    assert told["one"]["share"] == told["data"]["share"] == 1
    assert told["fsdp"]["share"] < 0.3 and told["both_parts"]["share"] < 0.6


def test_a_run_goes_on_on_other_devices(eight):
    """From eight devices to two, and on to one."""
    out = str(eight / "resumed")
    finish(launch([dict(out=out, mesh_shape=(1, 2), stop=3)], 2))
    finish(launch([dict(out=out, mesh_shape=(0, 1))], 1))
    assert_same(eight / "resumed", eight / "one")
    assert json.loads((eight / "resumed" / "rows0.json").read_text()) == [[None, None]]  # one step was left


def test_two_processes_train_together(eight, tmp_path):
    """Two devices each, over loopback: the same losses, each process loads half of every batch, one writes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    runs = [dict(out=str(tmp_path), mesh_shape=(2, 2))]
    finish(*(launch(runs, 2, f"{address},2,{index}") for index in range(2)))
    assert_same(tmp_path, eight / "one")
    rows = [json.loads((tmp_path / f"rows{index}.json").read_text()) for index in range(2)]
    assert rows == [[[0, 4]] * 4, [[4, 8]] * 4]
    assert json.loads((tmp_path / "machine.json").read_text())["devices"].startswith("4 x")


def test_one_device_is_left_alone():
    given, one = (object(), dict(a=np.ones(2)), object()), devices.make_mesh((0, 1), TrainConfig(steps=1, batch=3))
    assert all(a is b for a, b in zip(devices.spread(one, *given, 3), given))


@pytest.mark.parametrize(
    "shape, batch, accumulate, message",
    [
        ((3, 0), 24, 1, r"(?=.*--mesh)(?=.*\b8\b).*\b3\b"),
        ((4, 4), 24, 1, r"(?=.*\b8\b).*4 x 4"),
        ((0, 16), 24, 1, r"(?=.*\b8\b).*\b16\b"),
        ((0, 0), 24, 1, "0 0"),
        ((-1, 1), 24, 1, "-1 1"),
        ((0, 1), 6, 1, r"(?=.*\b6\b)(?=.*\b8\b).*--mesh 2 1"),
        ((2, 2), 12, 2, r"(?=.*\b12\b)(?=.*\b4\b)(?=.*\b8\b).*--mesh 2 1"),
    ],
)
def test_what_does_not_fit_is_told(monkeypatch, shape, batch, accumulate, message):
    devices = [SimpleNamespace(process_index=0, id=i) for i in range(8)]
    monkeypatch.setattr("jax.devices", lambda: devices)
    with pytest.raises(ValueError, match=message):
        devices.make_mesh(shape, TrainConfig(steps=1, batch=batch, accumulate=accumulate))


@pytest.mark.parametrize(
    "given, message",
    [
        ("10.0.0.1:1234", "--processes.*'10.0.0.1:1234'"),
        ("10.0.0.1,2,0", "--processes.*'10.0.0.1,2,0'"),
        ("10.0.0.1:1234,2,-1", "--processes.*'10.0.0.1:1234,2,-1'"),
        ("10.0.0.1:1234,2,2", r"process.*\b2\b"),
    ],
)
def test_processes_that_are_none_are_told(given, message):
    with pytest.raises(ValueError, match=message):
        processes.start(given)
