"""`check` and `grade`: what they print and return, whatever an answer does."""

import re
import sys
import warnings

import numpy as np

from minimuse.teach import check, checking, grade


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
    assert "[7, 1]" in said and "[7]" in said


def test_hidden_checks_are_asked_too(tmp_path, monkeypatch):
    (tmp_path / "ex06.py").write_text(
        "from minimuse.teach.checking import Wrong\n"
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
