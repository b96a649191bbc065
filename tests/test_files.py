"""Files are written whole or not at all."""

import errno

import numpy as np
import pytest

from minimuse.files import atomic_path, open_arrays, read_json, read_log, reading, write_arrays, write_text


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


def test_a_log_is_read_by_columns_and_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0, "psnr": 20.0}\n{"step": 3, "lo')
    log = read_log(path)
    assert log["step"].tolist() == [1, 2] and log["loss"].tolist() == [3.0, 2.0]
    assert np.isnan(log["psnr"][0]) and log["psnr"][1] == 20.0  # a metric may be absent from some lines
