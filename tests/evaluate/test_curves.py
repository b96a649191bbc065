"""Reference curves: made from a log, read by name."""

import json

import numpy as np
import pytest

from minimuse import config
from minimuse.evaluate import curves


def test_a_band_by_hand():
    values = np.array([5.0, 1.0, 9.0, 3.0, 7.0])
    # Around line 2 are all five; around line 0 the first four, whose middle is (3 + 5) / 2.
    assert curves.band(values, np.array([0, 2])) == dict(low=[1.0, 1.0], middle=[4.0, 5.0], high=[9.0, 9.0])


@pytest.mark.parametrize("lines, kept", [(7, 7), (400, curves.FIRST + curves.POINTS)])
def test_a_log_becomes_a_curve_of_a_few_points(tmp_path, lines, kept):
    rows = [dict(step=20 * (i + 1), seconds=3.0 * i, psnr=10 + i) for i in range(lines)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "settings.json").write_text('{"train": {"batch": 4}}')
    (tmp_path / "machine.json").write_text('{"processor": "abacus", "process": 7, "host": "desk"}')
    curve = curves.curve_of(tmp_path)
    assert curve["machine"] == {"processor": "abacus"} and curve["settings"]["train"]["batch"] == 4
    assert set(curve["metrics"]) == {"psnr"}
    assert len(curve["step"]) == len(curve["seconds"]) == len(curve["metrics"]["psnr"]["low"]) == kept
    assert curve["step"][0] == 20 and curve["step"][-1] == 20 * lines and curve["seconds"][-1] == 3.0 * (lines - 1)


def test_every_shipped_curve_is_whole_and_said_by_name_when_missing():
    with pytest.raises(FileNotFoundError, match="nothing.*superres_tokenizer"):
        curves.reference("nothing")
    with pytest.raises(FileNotFoundError, match="nothing.*text_encoders"):
        curves.experiment("nothing")
    with pytest.raises(FileNotFoundError, match="nothing.*decoding"):
        curves.result("nothing")
    for path in (config.data_dir() / "curves").glob("*.json"):
        curve = curves.reference(path.stem)
        assert curve["machine"]["processor"] and curve["step"] == sorted(curve["step"])
        for bands in curve["metrics"].values():
            assert np.all(np.array(bands["low"]) <= bands["middle"]) and np.all(
                np.array(bands["middle"]) <= bands["high"]
            )
            assert len(bands["low"]) == len(curve["step"]) <= curves.FIRST + curves.POINTS
        assert path.stat().st_size < 60_000


def test_a_curve_of_several_seeds_by_hand():
    logs = [
        dict(step=np.array([10, 20, 30]), seconds=np.array([1.0, 2, 3]), loss=np.array(loss))
        for loss in ([5.0, 3, 1], [6.0, 4, 2], [7.0, np.nan, 3])  # a mean of nothing is left out
    ]
    curve = curves.curve_of_seeds(logs, machine=dict(processor="abacus"))
    assert curve["step"] == [10, 20, 30] and curve["seconds"] == [1, 2, 3]
    assert curve["metrics"]["loss"]["low"] == [3, 1, 1] and curve["metrics"]["loss"]["high"] == [7, 7, 4]
    assert curve["metrics"]["loss"]["middle"] == [5, 3.5, 3] and curve["machine"]["processor"] == "abacus"
    with pytest.raises(ValueError, match="steps"):
        curves.curve_of_seeds([logs[0], logs[1] | dict(step=np.array([10, 20, 40]))])
