"""Fingerprints, and which stored measurements are made again: on a table of commands that measure nothing."""

import json
import subprocess

import numpy as np
import pytest

from minimuse.evaluate import stored
from minimuse.evaluate.stored import Measurement, defaults_of, differing, duration, remake, together, weights_of
from minimuse.files import write_text
from minimuse.weights import fingerprint_of, save_weights


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder data/ with a checkpoint of two files that hold other bytes than weights."""
    folder = tmp_path / "data" / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    for stage in ("tokenizer", "base"):
        (folder / f"{stage}.safetensors").write_text(stage)
    (folder / "config.json").write_text(json.dumps(dict(format=2, sampling=dict(steps=[12, 8], ramp=True))))
    monkeypatch.setattr("minimuse.evaluate.stored.data_dir", lambda: tmp_path / "data")
    monkeypatch.setattr("minimuse.weights.data_dir", lambda: tmp_path / "data")
    return tmp_path / "data"


def test_a_fingerprint_is_of_the_content_and_names_the_file_within_data(data, tmp_path):
    """The digits are those that sha256sum prints for "base"."""
    names = [f"checkpoints/tiny/{stage}.safetensors" for stage in ("base", "tokenizer")]
    found = fingerprint_of(data / names[1], data / names[0])
    assert list(found) == names and found == weights_of("tokenizer", "base", text=False, scorer=False)
    assert found[names[0]] == "cae662172fd4"
    assert differing(found) == []
    (data / names[0]).write_text("other")
    assert differing(found) == [names[0]]
    (data / names[1]).unlink()
    assert differing(found) == names
    run = tmp_path / "run"
    run.mkdir()
    (run / "base.safetensors").write_text("base")
    assert fingerprint_of(run / "base.safetensors") == {"run/base.safetensors": found[names[0]]}


def test_saving_the_same_weights_gives_the_same_fingerprint(tmp_path):
    found = []
    for value in (1, 1, 2):
        save_weights(tmp_path / "w.safetensors", dict(a=np.full(3, float(value)), b=np.zeros(2)))
        found += fingerprint_of(tmp_path / "w.safetensors").values()
    assert found[0] == found[1] != found[2]


def test_defaults_are_those_of_the_stages_that_draw(data):
    assert defaults_of(weights_of("tokenizer", text=False, scorer=False)) == {}
    expected = dict(tiny=dict(base=dict(steps=12, ramp=True)))
    assert defaults_of(weights_of("base", text=False, scorer=False)) == expected
    stages = dict(base=expected["tiny"]["base"], superres=dict(steps=8))
    (data / "checkpoints" / "tiny" / "config.json").write_text(json.dumps(dict(format=2, sampling=stages)))
    assert defaults_of(weights_of("base", text=False, scorer=False)) == expected


class Table:
    """Commands that store what they are given, and note that they ran."""

    def __init__(self, data):
        self.data, self.ran, self.fail, self.settings, self.took = data, [], {}, dict(n=1), 100.0

    def result(self, name: str) -> Measurement:
        path = self.data / f"{name}.json"

        def measure(fresh: bool) -> None:
            self.ran.append((name, fresh))
            if name in self.fail:
                raise self.fail[name]
            used = weights_of("base", text=False, scorer=False)
            content = dict(command=f"measure {name}", weights=used, defaults=defaults_of(used), took=self.took)
            write_text(path, json.dumps(content))

        return Measurement(name, f"measure {name}", path, measure)

    def experiment(self, name: str, rows: int, runs: int = 4) -> Measurement:
        """An experiment that ends after this many rows."""
        path = self.data / f"{name}.json"
        used = weights_of("tokenizer", text=False, scorer=False)
        about = dict(settings=self.settings, runs=runs, weights=used)

        def measure(fresh: bool) -> None:
            self.ran.append((name, fresh))
            content = dict(command=f"measure {name}", defaults={}, took=10.0 * rows, rows=[{}] * rows)
            write_text(path, json.dumps(content | about))

        return Measurement(name, f"measure {name}", path, measure, lambda: about)


def make(table, *, names="abc", **options):
    """Names that ran, and what failed."""
    table.ran.clear()
    failed = remake([table.result(name) for name in names], report=lambda line: None, **options)
    return "".join(name for name, _ in table.ran), failed


def test_only_what_is_not_current_is_measured_in_order(data):
    table = Table(data)
    assert make(table, plan=True) == ("", []) and not (data / "a.json").exists()
    assert make(table) == ("abc", [])
    assert make(table) == ("", [])
    assert make(table, names="b", again=True) == ("b", [])
    (data / "b.json").unlink()
    assert make(table) == ("b", [])
    old = json.loads((data / "c.json").read_text())
    for change in (dict(command="measure c --n 5"), dict(defaults={}), dict(weights=None)):
        values = {key: value for key, value in (old | change).items() if value is not None}
        (data / "c.json").write_text(json.dumps(values))
        assert make(table) == ("c", []), change
    (data / "checkpoints" / "tiny" / "tokenizer.safetensors").write_text("other")  # not used
    assert make(table) == ("", [])
    (data / "checkpoints" / "tiny" / "base.safetensors").write_text("other")
    assert make(table) == ("abc", [])
    config = dict(format=2, sampling=dict(steps=[24, 8], ramp=True))
    (data / "checkpoints" / "tiny" / "config.json").write_text(json.dumps(config))
    assert make(table) == ("abc", [])


def test_a_failure_leaves_the_rest_and_an_interruption_continues(data):
    table = Table(data)
    make(table)
    before = (data / "b.json").read_text()
    table.fail = dict(b=subprocess.CalledProcessError(1, "measure b"))
    assert make(table, again=True) == ("abc", ["b"])
    assert (data / "b.json").read_text() == before
    for name in "abc":
        (data / f"{name}.json").unlink()
    table.fail = dict(b=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make(table)
    table.fail = {}
    assert make(table) == ("bc", [])


def test_an_experiment_that_gives_every_option_outlives_a_change_of_defaults(data):
    path, used = data / "a.json", weights_of("base", text=False, scorer=False)
    about = dict(settings={}, runs=0, weights=used, defaults={})
    path.write_text(json.dumps(about | dict(command="measure a", rows=[])))
    assert Measurement("a", "measure a", path, lambda fresh: None, lambda: about).outdated() == ""
    other = about | dict(defaults=defaults_of(used))
    assert "defaults" in Measurement("a", "measure a", path, lambda fresh: None, lambda: other).outdated()


def test_an_experiment_continues_if_only_runs_are_missing(data):
    table = Table(data)
    half, whole = table.experiment("e", rows=2), table.experiment("e", rows=4)
    remake([half], report=lambda line: None)
    assert half.outdated() == "" and half.missing() == 2 and half.expected(2) == 20
    remake([whole], report=lambda line: None)
    remake([whole], report=lambda line: None)
    assert table.ran == [("e", True), ("e", False)] and whole.expected() == 40
    table.settings = dict(n=2)
    remake([table.experiment("e", rows=4)], report=lambda line: None)
    assert table.ran[2:] == [("e", True)]


def test_what_will_be_done_and_how_long_it_takes_is_reported(data):
    table, lines = Table(data), []
    make(table, names="ab")
    remake([table.result(name) for name in "abc"], again=True, plan=True, report=lines.append)
    text = "\n".join(lines)
    assert all(f"  {name}: again" in text for name in "abc") and "3 min, and unknown time" in text
    assert together([]) == "0 s" and [duration(s) for s in (45, 600, 9000)] == ["45 s", "10 min", "2.5 h"]


def test_the_shipped_weights_are_all_those_of_data():
    names = set(stored.shipped_weights())
    assert {"t5-scenes/model.safetensors", "checkpoints/scorer/scorer.safetensors"} < names
    assert set(weights_of("tokenizer", "base")) < names and len(weights_of("tokenizer", "base")) == 4


def test_a_setting_added_since_is_no_difference_if_it_has_its_default():
    before = dict(train=dict(steps=10, batch=2), own=dict(guidance=[0.5, 0.0]))
    assert stored.same_settings(before, before | dict(train=before["train"] | dict(dtype="float32", halton=0.0)))
    assert stored.same_settings(before, before | dict(own=before["own"] | dict(revise=[0, 0])))
    assert stored.same_settings(before, before | dict(more=dict(order="confidence", critic=False)))
    for other in (
        before | dict(train=before["train"] | dict(dtype="float16")),  # not its default
        before | dict(train=dict(steps=10, batch=3)),
        before | dict(train=dict(steps=10)),  # a setting is gone
        before | dict(own=before["own"] | dict(revise=[0, 2])),
        before | dict(captions=240),  # no setting of a record, so nothing says what it was
    ):
        assert not stored.same_settings(before, other)
