"""Whatever the command line is given, it works or is refused with a sentence: lines are drawn by hypothesis."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minimuse import cli, mask_free, stepwise
from minimuse.evaluate import baselines, commands, edits, fidelity, scorer
from minimuse.train import stages

DRAWING = ("generate", "edit", "vary", "interpolate")
WORDS = [
    *("--captions", "--like", "--index", "--each", "--labels", "--no-recipe", "--progress", "--style", "--strength"),
    *("generate", "edit", "train", "evaluate", "grade", "paint", "--help", "--n", "--seed", "--steps", "--guidance"),
    *("--guided-from", "--guided-to", "--revise", "--critic"),
    *("--temperature", "--top-k", "--law", "--order", "--ramp", "--no-ramp", "--scale", "--mask", "--left", "--right"),
    *(
        "--iterations",
        "--way",
        "--before",
        "--found-mask",
        "--preset",
        "--stage",
        "--split",
        "--json",
        "--csv",
        "--hidden",
        "--superres",
        "--no-superres",
    ),
    *("--negative", "--superres-steps", "--batch", "--finetuned", "--no-finetuned", "--checkpoint", "--", "-n"),
    *("--base.depth", "--base.heads", "--tokenizer.factor", "--train.base.steps", "--run.mesh", "--help-all"),
]
VALUES = [
    *("1", "2", "0", "-1", "8", "65537", "1.5", "nan", "inf", "x", "", " ", "None", "True", "a cat", "é", "\udcff"),
    *("\0", "cosine", "halton", "micro", "huge", "base", "tokenizer", "scorer", "generation", "all", "picture.png"),
    *("mask.png", "no.png", "broken.png", "out.png", ".", "/", "9" * 30, "a" * 300),
    *("drawn.png", "rows.csv", "bad.jsonl", "{index}.png", "{seed:c}.png", "{caption}/{number}.jpg"),
]


@pytest.fixture
def quick(monkeypatch, tmp_path, micro_folder):
    """A folder with pictures to work in, and nothing that takes long: no drawing, training or measuring."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("picture.png")
    Image.new("L", (64, 64)).save("mask.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "picture.png").read_bytes()[:60])
    (tmp_path / "rows.csv").write_text("caption,seed,n\na cat,3,2\na dog,,\n")
    (tmp_path / "bad.jsonl").write_text('{"caption": "a cat"}\n[]')
    drawn = lambda model, sampling, prompts, *args, **_: (np.zeros((len(prompts.keys), 64), int), None)
    monkeypatch.setattr(stepwise, "sample_tokens", drawn)
    monkeypatch.setattr(stepwise, "_in_steps", drawn)
    monkeypatch.setattr(mask_free, "edit_tokens", lambda muse, tokens, prompts, *args, **_: (tokens, None))
    monkeypatch.setattr(
        mask_free, "read_evidence", lambda model, settings, prompts, tokens, *args, **_: np.zeros((len(tokens), 2, 64))
    )
    monkeypatch.setattr(stages, "TRAIN", {name: lambda preset, out: None for name in stages.TRAIN})
    for module, name in (
        *((fidelity, f"evaluate_{what}") for what in ("scorer", "tokenizer", "generation")),
        *((edits, f"evaluate_{what}") for what in ("inpainting", "mask_free", "edit", "outpainting")),
    ):
        monkeypatch.setattr(module, name, lambda *args, **options: dict(settings={}))
    monkeypatch.setattr(commands.subprocess, "call", lambda command: 0)
    monkeypatch.setattr(scorer, "shipped_scorer", lambda: None)
    monkeypatch.setattr(baselines.Twin, "from_pretrained", lambda name, preset: None)
    cli.main(["generate", "a cat", "--n", "2", "--out", "drawn.png", "--checkpoint", str(micro_folder)])
    return tmp_path


lines = st.builds(
    lambda command, given_, options, rest: [command, *given_, *(word for pair in options for word in pair), *rest],
    st.sampled_from([*DRAWING, "train", "evaluate", "grade"]),
    st.lists(st.sampled_from(VALUES), max_size=2),
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(VALUES)), max_size=3),
    st.lists(st.sampled_from(WORDS + VALUES) | st.text(string.printable, max_size=4), max_size=2),
)


@given(lines)
@settings(max_examples=150)
def test_a_command_line_works_or_is_refused_with_a_sentence(quick, micro_folder, capsys, line):
    check_line(quick, micro_folder, capsys, line)


def check_line(quick, micro_folder, capsys, line):
    """Run it with a small checkpoint; an error if it ends in any other way."""
    where = (dict.fromkeys(DRAWING, "--checkpoint") | dict(evaluate="--preset")).get(line[0])
    line = line + ([where, str(micro_folder)] if where else [])
    capsys.readouterr()
    code = 0
    try:
        cli.main(line)
    except SystemExit as stop:
        code = stop.code or 0
    error = capsys.readouterr().err
    assert code in (0, 2) and (code == 0 or error.strip()) and "Traceback" not in error
    assert not list(quick.glob("*.partial.*"))


@given(st.binary(max_size=4), st.integers(0, 10_000), st.booleans())
def test_a_picture_of_any_bytes_is_read_or_refused(quick, micro_folder, capsys, piece, place, cut):
    """A PNG with some bytes overwritten, or cut there."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8))
    picture.save("bytes.png")
    whole = (quick / "bytes.png").read_bytes()
    place %= len(whole)
    (quick / "bytes.png").write_bytes(whole[:place] + piece + (b"" if cut else whole[place + len(piece) :]))
    try:
        cli.main(["edit", "bytes.png", "a cat", "--checkpoint", str(micro_folder), "--out", "out.png"])
    except SystemExit as stop:
        error = capsys.readouterr().err
        assert stop.code == 2 and error.startswith("minimuse: ") and error.count("\n") == 1
