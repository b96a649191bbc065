"""Files are written whole or not at all."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from minimuse.files import (
    as_given,
    atomic_path,
    open_arrays,
    read_json,
    read_log,
    reading,
    to_path,
    write_arrays,
    write_text,
)


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".json" and not path.exists()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(OSError, match="disk full"), atomic_path(tmp_path / "a.json") as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_writers_of_one_file_do_not_mix_and_a_users_file_stays(tmp_path):
    """Two writers at a time; whoever ends last has written the whole file."""
    mine = tmp_path / "a.partial.json"
    mine.write_text("mine")
    with atomic_path(tmp_path / "a.json") as one, atomic_path(tmp_path / "a.json") as other:
        assert one != other and mine not in (one, other)
        one.write_text("one, and longer")
        other.write_text("other")
    assert (tmp_path / "a.json").read_text() == "one, and longer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.partial.json"]


def test_many_threads_that_write_one_file_are_never_seen_at_work(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "0" * 10_000)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write_text, path, str(i) * 10_000) for i in range(1, 9) for _ in range(5)]
        while not all(write.done() for write in writes):
            text = path.read_text()
            assert len(text) == 10_000 and set(text) == {text[0]}
    assert all(write.result() is None for write in writes) and list(tmp_path.iterdir()) == [path]


def test_names_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("a" * 250 + ".json")
    write_text(path, "é")
    assert path.read_text(encoding="utf-8") == "é"


def test_a_full_disk_is_reported_with_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device.*a\.json"), atomic_path(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"a\.safetensors"):
        write_arrays(tmp_path / "no folder" / "a.safetensors", dict(a=np.zeros(2)))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n"


@pytest.mark.parametrize("text, message", [("", "JSON"), ("[1]", "object"), ("{", "JSON"), (POINTER, "Git LFS")])
def test_a_damaged_file_is_named_in_one_sentence(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{path}.*{message}") as error:
        read_json(path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=rf"{path}"):
        open_arrays(path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("error", [MemoryError(), PermissionError("no")])
def test_what_says_nothing_about_the_file_is_passed_on(tmp_path, error):
    with pytest.raises(type(error)), reading(tmp_path / "a.json", "JSON"):
        raise error


class Silent:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [Silent(), 10**5000, np.zeros((9, 9)), "a\nb" * 999, b"x", None], ids=type)
def test_any_value_is_shown_on_one_short_line(value):
    assert 0 < len(as_given(value)) < 220 and "\n" not in as_given(value)


@pytest.mark.parametrize("name", [None, 5, ["a"], b"a", "", Silent()], ids=type)
def test_what_is_not_a_path_is_refused(name):
    with pytest.raises(ValueError, match="A checkpoint"):
        to_path(name, "A checkpoint")
    assert to_path("~/a", "A checkpoint") != Path("~/a")


@pytest.mark.parametrize("text", ["[1]\n", "{\n", '{"step": 1}\n5\n', '{"loss": 1}\n', '{"step": "1"}\n', "[" * 99_999])
def test_a_damaged_log_is_named(tmp_path, text):
    path = tmp_path / "log.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match=r"log\.jsonl") as error:
        read_log(path)
    assert "\n" not in str(error.value)


def test_a_log_is_read_by_columns_and_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0, "psnr": 20.0}\n{"step": 3, "lo')
    log = read_log(path)
    assert log["step"].tolist() == [1, 2] and log["loss"].tolist() == [3.0, 2.0]
    assert np.isnan(log["psnr"][0]) and log["psnr"][1] == 20.0  # a metric may be absent from some lines
