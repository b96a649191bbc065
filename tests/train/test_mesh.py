"""Training on many devices and in several processes gives the numbers of one device; each holds only its share."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minimuse import files, processes
from minimuse.config import TrainConfig
from minimuse.train import devices

ROOT = Path(__file__).resolve().parents[2]
QKV = "params.blocks.qkv.kernel"  # [2, 32, 96]
RUNS = {  # of a process with eight devices
    "one": dict(mesh_shape=(1, 1)),
    "data": dict(mesh_shape=(8, 1)),
    "fsdp": dict(mesh_shape=(1, 8)),
    "both_pieces": dict(mesh_shape=(2, 2), accumulate=2),
    "other": dict(mesh_shape=(1, 1), seed=1),
    "resumed": dict(mesh_shape=(1, 8), stop=1),
}


def launch(runs: list[dict], devices: int, *processes: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tests" / "train" / "train_on_mesh.py"), json.dumps(runs), *processes]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    env = dict(os.environ, JAX_NUM_CPU_DEVICES=str(devices), PYTHONPATH=path)
    env |= dict(JAX_DISABLE_MOST_OPTIMIZATIONS="1")  # compiling is nearly all the time that these runs take
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(*running: subprocess.Popen) -> None:
    try:
        for process in running:
            output = process.communicate(timeout=1200)[0]
            assert process.returncode == 0, output
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
    """The same losses, which the log has to five digits, and the same weights, to 1e-5, as of another run."""
    assert len(losses(expected)) == 4
    np.testing.assert_allclose(losses(out), losses(expected), rtol=1e-4)
    found, wanted = np.load(out / "end.npz"), np.load(expected / "end.npz")
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data", "fsdp", "both_pieces"])
def test_every_mesh_trains_as_one_device_does(eight, name):
    assert_same(eight / name, eight / "one")


def test_runs_that_differ_are_distinguished(eight):
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same(eight / "other", eight / "one")


def test_a_device_holds_only_its_share(eight):
    expected = dict(one=[2, 32, 96], data=[2, 32, 96], fsdp=[2, 32, 12], both_pieces=[2, 32, 48])
    found = {name: json.loads((eight / name / "devices0.json").read_text()) for name in expected}
    for name, shape in expected.items():
        held = found[name]["held"]
        assert held[QKV] == held[QKV.replace("params", "ema")] == shape
        assert held["params.norm.scale"] == [32]  # small
    # Of the whole state, the optimizer's sums included. Much is small in a model of this size.
    assert found["one"]["share"] == found["data"]["share"] == 1
    assert found["fsdp"]["share"] < 0.3 and found["both_pieces"]["share"] < 0.6


@pytest.mark.slow
def test_a_run_is_resumed_on_other_devices(eight):
    """From eight devices to two, and on to one."""
    out = str(eight / "resumed")
    finish(launch([dict(out=out, mesh_shape=(1, 2), stop=3)], 2))
    finish(launch([dict(out=out, mesh_shape=(0, 1))], 1))
    assert_same(eight / "resumed", eight / "one")
    assert json.loads((eight / "resumed" / "devices0.json").read_text())["asked"] == [3]  # one step was left


@pytest.mark.slow
def test_two_processes_train_together(eight, tmp_path):
    """Two devices each, over loopback: the same losses, each process holds half of every batch, one writes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    runs = [dict(out=str(tmp_path), mesh_shape=(2, 2))]
    finish(*(launch(runs, 2, f"{address},2,{index}") for index in range(2)))
    assert_same(tmp_path, eight / "one")
    rows = [json.loads((tmp_path / f"devices{index}.json").read_text())["rows"] for index in range(2)]
    assert rows == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert json.loads((tmp_path / "machine.json").read_text())["devices"].startswith("4 x")


def test_one_device_is_left_alone():
    state, one = dict(a=np.ones(2)), devices.make_mesh((0, 1), TrainConfig(steps=1, batch=3))
    assert devices.shard(state, one) is devices.shard_batch(state, one) is state
    assert devices.on_mesh(finish, state, one) is finish


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
def test_what_does_not_fit_is_reported(shape, batch, accumulate, message):
    with pytest.raises(ValueError, match=message):
        devices.mesh_shape(shape, TrainConfig(steps=1, batch=batch, accumulate=accumulate), 8)


@pytest.mark.parametrize("shape, full", [((0, 1), (8, 1)), ((1, 0), (1, 8)), ((2, 0), (2, 4)), ((2, 2), (2, 2))])
def test_a_zero_stands_for_all_devices_that_are_left(shape, full):
    assert devices.mesh_shape(shape, TrainConfig(steps=1, batch=8), 8) == full


@pytest.mark.parametrize(
    "given, message",
    [
        ("10.0.0.1:1234", "--processes.*'10.0.0.1:1234'"),
        ("10.0.0.1,2,0", "--processes.*'10.0.0.1,2,0'"),
        ("10.0.0.1:1234,2,-1", "--processes.*'10.0.0.1:1234,2,-1'"),
        ("10.0.0.1:1234,2,2", r"process.*\b2\b"),
    ],
)
def test_processes_that_cannot_be_are_reported(given, message):
    with pytest.raises(ValueError, match=message):
        processes.start(given)
