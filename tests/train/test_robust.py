"""Training survives what a machine does to it: kills at any moment, damaged checkpoints, a full disk."""

import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_training import ALWAYS, PARAMS, batch_at, loss, same

import minimuse
from minimuse import cli, files, weights
from minimuse.config import RunConfig, TrainConfig
from minimuse.train.loop import Job, fit
from minimuse.train.step import make_step

# --- kills ------------------------------------------------------------------------------------------------------------

LIVES, STEPS_A_LIFE = 1 + int(os.environ.get("MINIMUSE_KILLS", "20")), 3  # the last one is not killed
CONFIG = TrainConfig(steps=LIVES * STEPS_A_LIFE, batch=4, learning_rate=0.1, warmup=2, weight_decay=0.0)
BALLAST = 3_000_000  # numbers in the state, so that a save takes long enough to be killed in


def life(out, seen, most=None, save=-1):
    """One process of a training run that saves every `save` seconds, or at every step. It writes each step that it
    begins into the file `seen`, and after `most` of them waits to be killed."""
    minimuse.enable_compilation_cache()
    begun = []

    def watched(number):
        begun.append(number)
        with open(seen, "a") as file:
            file.write(f"{number}\n")
        while most and len(begun) > most:
            time.sleep(1)
        return batch_at(number)

    job = Job(PARAMS, make_step(loss, CONFIG), watched, extra=dict(ballast=jnp.arange(float(BALLAST))))
    state = fit(job, CONFIG, RunConfig(save_seconds=save, log_every=STEPS_A_LIFE), out)
    np.savez(out / "state.npz", *jax.tree.leaves(state))


def wait_for(found, process, seconds=300):
    """What found() gives, once that is something."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.001)  # a save takes many times as long; the time is left to the process
    return result


@pytest.mark.slow
def test_kills_change_neither_weights_nor_what_the_log_says(tmp_path):
    context = multiprocessing.get_context("forkserver")  # forks a process that has imported JAX and not begun to use it
    context.set_forkserver_preload(["minimuse.train.loop", "flax", "optax", "orbax.checkpoint"])
    whole, killed, seen = tmp_path / "whole", tmp_path / "killed", tmp_path / "seen"
    for out in (whole, killed):
        (out / "checkpoints").mkdir(parents=True)
    undisturbed = context.Process(target=life, args=(whole, tmp_path / "all", None, 3600))
    undisturbed.start()

    rng, torn, checkpoints = random.Random(0), 0, killed / "checkpoints"
    half_written = lambda: list(checkpoints.glob("*.orbax-checkpoint-tmp*"))
    saved = lambda: max((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), default=0)
    for number in range(LIVES):
        begun_from, last = saved(), number == LIVES - 1
        seen.write_text("")
        process = context.Process(target=life, args=(killed, seen, None if last else STEPS_A_LIFE))
        process.start()
        wait_for(seen.read_text, process)
        assert int(seen.read_text().split()[0]) == begun_from  # goes on from the last save
        if last:
            process.join()
            assert process.exitcode == 0 and begun_from > LIVES / 2
            break
        more = rng.randrange(STEPS_A_LIFE)
        wait_for(lambda wanted=begun_from + more: saved() >= wanted, process)
        if number % 2:
            time.sleep(rng.uniform(0, 0.3))
        else:
            # During a save, if there is one left.
            wait_for(lambda full=begun_from + STEPS_A_LIFE: half_written() or saved() == full, process)
        process.kill()
        process.join()
        torn += bool(half_written())
    assert torn > (LIVES - 1) // 6 and not half_written()

    undisturbed.join()
    one, other = (np.load(out / "state.npz") for out in (whole, killed))
    assert len(one) == 8 and all((one[name] == other[name]).all() for name in one)
    rows = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (whole, killed)]
    assert [row["step"] for row in rows[0]] == list(range(STEPS_A_LIFE, CONFIG.steps + 1, STEPS_A_LIFE))
    assert [row["step"] for row in rows[1]] == list(range(1, CONFIG.steps + 1))  # one at every save
    for i, row in enumerate(rows[0]):
        since = rows[1][STEPS_A_LIFE * i : STEPS_A_LIFE * (i + 1)]
        assert row["loss"] == pytest.approx(np.mean([each["loss"] for each in since]), rel=1e-4)


# --- damaged checkpoints ----------------------------------------------------------------------------------------------

SHORT = TrainConfig(steps=5, batch=4, learning_rate=0.1, warmup=2, weight_decay=0.0)
JOB = Job(PARAMS, make_step(loss, SHORT), batch_at)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder and the last state of a run of five steps, with the checkpoints of the last two."""
    out = tmp_path_factory.mktemp("finished")
    state = fit(JOB, SHORT, ALWAYS, out)
    assert steps_in(out) == [4, 5]
    return out, state


def steps_in(out):
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    return [int(name) if name.isdigit() else name for name in names]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_run(folder):
    """A checkpoint of the same step, of a model of another size."""
    out = folder.parent.parent.parent / "other"
    fit(JOB._replace(params=dict(a=dict(kernel=jnp.ones((3, 3))))), SHORT, ALWAYS, out)
    shutil.rmtree(folder)
    shutil.copytree(out / "checkpoints" / "5", folder)


def earlier(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("4"), folder)


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    "a list of files cut": lambda folder: cut(folder / "default" / "manifest.ocdbt"),
    "no list of files": lambda folder: (folder / "default" / "manifest.ocdbt").unlink(),
    "arrays cut": lambda folder: [cut(path) for path in (folder / "default" / "d").iterdir()],
    "no arrays": lambda folder: shutil.rmtree(folder / "default" / "d"),
    "names cut": lambda folder: cut(folder / "default" / "_METADATA"),
    "nothing in it": emptied,
    "another step's": earlier,
    "another run's": other_run,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(finished, tmp_path, capsys, damage):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    DAMAGE[damage](out / "checkpoints" / "5")
    capsys.readouterr()
    seen = []
    state = fit(JOB._replace(batch_at=lambda i: seen.append(i) or batch_at(i)), SHORT, RunConfig(), out)
    assert seen == [4] and same(state, finished[1]) and steps_in(out) == [4, 5]
    message = capsys.readouterr().err
    assert str(out / "checkpoints") in message and "step 5" in message
    assert "step 4" in message and "Traceback" not in message
    assert len(list((out / "checkpoints").iterdir())) == 2  # what was damaged is gone
    assert same(fit(JOB._replace(batch_at=None), SHORT, RunConfig(), out), state)  # and the new one is complete


def test_without_any_complete_checkpoint_nothing_is_trained_or_deleted(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    for number in (4, 5):
        cut(out / "checkpoints" / str(number) / "default" / "_METADATA")
    with pytest.raises(ValueError, match=r"(?=.*--out).*\bstep 5\b"):
        fit(JOB._replace(batch_at=None), SHORT, RunConfig(), out)
    assert steps_in(out) == [4, 5]


# --- a full disk ------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of 8 MiB, which only root may mount."""

    def __init__(self, folder):
        self.folder, self.filler = folder, folder / "filler"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("only root can mount a file system")

    def fill(self, room=0):
        """Leave room for this many bytes."""
        with contextlib.suppress(OSError), open(self.filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.truncate(self.filler, self.filler.stat().st_size - room)

    def make_room(self):
        self.filler.unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "--lazy", self.folder], check=True)


class SizeLimit:
    """Writes of this process past this size of a file fail; no privilege is needed."""

    def __init__(self, folder):
        self.folder, self.limits = folder, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, room=0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, self.limits[1]))

    def make_room(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)

    close = make_room


@pytest.fixture(params=[SmallDisk, SizeLimit])
def disk(request, tmp_path):
    (tmp_path / "disk").mkdir()
    disk = request.param(tmp_path / "disk")
    yield disk
    disk.close()


FULL = "No space left|File too large"


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def noise(size):
    return dict(a=np.random.default_rng(0).normal(size=size))


@pytest.mark.parametrize(
    "write",
    [
        lambda path, n: files.write_text(path, str(n) * 10_000),
        lambda path, n: weights.save_weights(path, noise(10_000 + n)),
        lambda path, n: files.save_picture(
            np.random.default_rng(n).integers(0, 255, (1, 64, 64, 3), np.uint8), path, 1
        ),
    ],
    ids=["text", "weights", "picture"],
)
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(disk, write):
    path = disk.folder / "file.png"
    write(path, 1)
    old = content(disk.folder)
    for room in (0, 4096):
        disk.fill(room)
        with pytest.raises(OSError, match=FULL) as error:
            write(path, 2)
        assert str(path) in str(error.value)
        disk.make_room()
        assert content(disk.folder) == old and list(old) == [path]
    write(path, 2)
    assert content(disk.folder) != old


def test_a_full_disk_leaves_the_old_checkpoint_whole(disk, micro):
    """Also where some of the new files still fit."""
    folder = disk.folder / "checkpoint"
    micro.save(folder, note="old")
    old = content(folder)
    sizes = sorted(len(data) for data in old.values())
    models = jax.tree.map(lambda x: x + 1, micro.models)
    new = minimuse.Muse(micro.text, micro.configs, models, micro.sampling, micro.text_name)
    for room in (0, sizes[0] + 4096, sizes[1] + 2 * 4096):  # nothing fits; config.json does; all but the largest do
        disk.fill(room)
        with pytest.raises(OSError, match=FULL):
            new.save(folder, note="new")
        disk.make_room()
        assert content(folder) == old
    new.save(folder, note="new")
    assert content(folder).keys() == old.keys() and not set(content(folder).values()) & set(old.values())


def test_generate_on_a_full_disk_is_one_sentence(disk, micro_folder, capsys):
    out = disk.folder / "cat.png"
    out.write_bytes(b"old")
    arguments = ["generate", "a cat", "--steps", "1", "--checkpoint", str(micro_folder), "--out", str(out)]
    disk.fill()
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    error = capsys.readouterr().err
    assert error.startswith("minimuse: ") and error.count("\n") == 1 and str(out) in error
    assert content(disk.folder) == {out: b"old"}
    disk.make_room()
    cli.main(arguments)
    assert content(disk.folder)[out][1:4] == b"PNG"


WIDE = 5000  # numbers that do not fit into the room that is left


@pytest.mark.parametrize("room", [0, 3 * 4096])  # nothing, or some files of a checkpoint
def test_training_on_a_full_disk_stops_with_one_sentence_and_resumes_later(disk, room, capsys):
    run, filling = disk.folder / "run", [True]

    def wide_batch_at(number):
        if number == 3 and filling:
            while steps_in(run) != [2, 3]:  # in the background
                time.sleep(0.01)
            disk.fill(room)
        return dict(x=np.random.default_rng(number).normal(size=(4, WIDE)).astype(np.float32))

    params = dict(a=dict(kernel=jax.random.normal(jax.random.key(0), (2, WIDE))))
    job = Job(params, JOB.step, wide_batch_at)
    with pytest.raises(OSError, match=FULL) as error:
        fit(job, SHORT, ALWAYS, run)
    disk.make_room()
    assert "\n" not in str(error.value) and (room == 0 or str(run / "checkpoints") in str(error.value))
    assert room == 0 or "step 3 is complete" in str(error.value)
    message = capsys.readouterr().err
    assert "Traceback" not in message and "Exception ignored" not in message
    assert steps_in(run) == [2, 3] and len(list((run / "checkpoints").iterdir())) == 2
    filling.clear()
    assert same(*(fit(job, SHORT, ALWAYS, out) for out in (run, run.with_name("whole"))))
