"""Files are written whole or not at all."""

import errno

import numpy as np
import pytest

from minimuse.files import whole, write_arrays, write_text


def test_the_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    with whole(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".json" and not path.exists()
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(OSError, match="disk full"), whole(tmp_path / "a.json") as partial:
        partial.write_text("ne")
        raise OSError("disk full")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_full_disk_is_told_with_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device.*a\.json"), whole(tmp_path / "a.json") as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"a\.safetensors"):
        write_arrays(tmp_path / "no folder" / "a.safetensors", dict(a=np.zeros(2)))
