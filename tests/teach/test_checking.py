"""`check` and `grade`: what they print and return, whatever an answer does."""

import contextlib
import re
import sys
import time
import warnings

import numpy as np
import pytest

from minimuse.teach import asking, check, checking, grade


def fail(*args, **kwargs):
    raise RuntimeError("no")


def test_check_prints_a_tick_or_a_paragraph_and_returns_nothing(capfd):
    assert check("ex06.cosine_rate", lambda u: np.cos(np.pi / 2 * u)) is None
    assert capfd.readouterr().out.startswith("✓ ex06.cosine_rate")
    assert check("ex06.cosine_rate", lambda u: 1 - u) is None
    out, err = capfd.readouterr()
    assert out.startswith("✗ ex06.cosine_rate") and "straight line" in " ".join(out.split()) and not err
    check("ex06.cosine_rate", fail)
    assert "RuntimeError: no" in " ".join(capfd.readouterr().out.split())
    check("ex06.nothing", fail)
    assert re.search("ex06.nothing.*cosine_rate", capfd.readouterr().out)
    check("ex99.nothing", fail)
    assert re.search("ex99.*ex01", capfd.readouterr().out)


def test_right_answers_that_make_noise_keep_their_marks(capfd):
    def right(u):
        warnings.warn("numbers", stacklevel=1)
        print("to stderr", file=sys.stderr)
        return np.cos(np.pi / 2 * u)

    assert grade("ex06.cosine_rate", right) == 2.0 and grade("ex06.cosine_rate", right, points=5) == 5.0
    assert capfd.readouterr() == ("", "")
    check("ex06.cosine_rate", right)
    out, err = capfd.readouterr()
    assert "✓" in out and "to stderr" in out and not err  # nbgrader takes all marks where stderr is written to


def test_the_library_is_no_answer():
    from minimuse.masking import mask_rate

    assert "library" in checking.judge(checking.find("ex06.cosine_rate").ask, mask_rate)


def test_an_answer_cannot_change_what_it_is_asked(capfd):
    def spoils(u):
        u[:] = 0.0
        return np.ones_like(u)

    assert grade("ex06.cosine_rate", spoils) == 0.0


def test_messages_name_the_line_and_tell_shapes():
    def answer(u):
        return np.cos(u) + np.zeros(3)

    said = checking.judge(checking.find("ex06.cosine_rate").ask, answer)
    assert "ValueError" in said and "return np.cos(u) + np.zeros(3)" in said
    said = checking.judge(checking.find("ex06.cosine_rate").ask, lambda u: np.ones((7, 1)))
    assert "[7, 1]" in said and "[1]" in said


def test_a_stub_is_told_from_an_operation_that_is_not_implemented():
    def stub(u):
        raise NotImplementedError("cosine_rate")

    def not_in_jax(u):
        raise NotImplementedError("all_gather takes one axis at a time")

    said = [checking.judge(checking.find("ex06.cosine_rate").ask, answer) for answer in (stub, not_in_jax)]
    assert "not written yet" in said[0] and "not written" not in said[1] and "all_gather" in said[1]


def told(answer, cases, right, mistakes=None, **options):
    """What `compare` says of an answer, or None."""
    try:
        return asking.compare(answer, cases, right, mistakes, **options)
    except asking.Wrong as wrong:
        return str(wrong)


PARTS = [(np.array([1.0]),), (np.array([1.0, 2.0]),), (np.array([2.0, 3.0, 5.0]),)]


def test_a_mistake_is_named_only_if_two_inputs_tell_it_from_the_right_result():
    double, square = (lambda x: 2 * x), (lambda x: x**2)
    assert told(double, PARTS, double, {"squared": square}) is None
    assert told(square, PARTS, double, {"squared": square}).startswith("squared")
    once = lambda x: x**2 if len(x) == 2 else 2 * x
    assert not told(once, PARTS, double, {"squared": square}).startswith("squared")  # a coincidence
    assert "squared" in told(once, PARTS, double, {"squared": square})
    assert told(square, PARTS[:1], double, {"squared": square}).count("squared") == 1
    assert not told(square, PARTS[:1], double, {"squared": square}).startswith("squared")


def test_the_smallest_input_that_fails_is_shown_with_both_results():
    said = told(lambda x: x + (len(x) == 2), PARTS, lambda x: x)
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.splitlines()[1:]}
    assert lines == {"x": "[1. 2.]", "yours": "[2. 3.]", "right": "[1. 2.]"}
    long = told(lambda x: x + (np.arange(100) > 40), [(np.zeros(100),)], lambda x: x)
    assert "[41]" in long and "59" in long


def test_a_mistake_of_another_shape_is_named_before_the_shape_is():
    said = told(lambda x: x[0], PARTS[1:], lambda x: x, {"only the first": lambda x: x[0]})
    assert said.startswith("only the first")
    assert "[2]" in told(lambda x: x[0], PARTS[1:], lambda x: x)


@pytest.mark.parametrize("value", [np.arange(3.0), [1.0, [2.0]], {"a": np.arange(3)}])
def test_an_answer_that_changes_its_argument_is_refused(value):
    def spoils(thing):
        inner = thing["a"] if isinstance(thing, dict) else thing
        inner[1:2] = inner[:1]

    with pytest.raises(asking.Wrong, match="thing"):
        asking.call(spoils, value)
    rng = np.random.default_rng(0)
    assert asking.call(lambda rng: rng.random() < 2, rng) and rng.random() == np.random.default_rng(0).random()


def test_a_check_ends_in_time():
    def never(answer):
        while True:
            with contextlib.suppress(Exception):
                answer()

    start = time.monotonic()
    assert "0.5" in checking.judge(never, lambda: None, seconds=0.5)
    assert time.monotonic() - start < 5
    assert checking.judge(lambda answer: None, lambda: None, seconds=0.5) is None


def test_hidden_checks_are_asked_too(tmp_path, monkeypatch):
    (tmp_path / "ex06.py").write_text(
        "from minimuse.teach.asking import Wrong\n"
        "def cosine_rate(answer):\n"
        "    if float(answer(0.3)) == 0.5:\n"
        "        raise Wrong('seen')\n"
    )

    def knows_the_table(u):
        return 0.5 if np.ndim(u) == 0 else np.cos(np.pi / 2 * u)

    assert grade("ex06.cosine_rate", knows_the_table) == 2.0
    monkeypatch.setenv(checking.HIDDEN, str(tmp_path))
    assert grade("ex06.cosine_rate", knows_the_table) == 0.0
    assert grade("ex06.cosine_rate", lambda u: np.cos(np.pi / 2 * u)) == 2.0
