"""The commands: what they draw, train and measure, and how they refuse what the user can fix."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from minimuse.cli import COMMANDS
from minimuse.data import pixels, scenes


def test_generate_writes_a_row_for_every_caption(micro_folder, tmp_path, capsys):
    out = tmp_path / "cats.png"
    assert run("generate", "a cat", "a dog", "--n", 3, "--checkpoint", micro_folder, "--out", out, "--steps", 2) == 0
    assert Image.open(out).size == (192, 128)
    shown = capsys.readouterr().out
    assert all(said in shown for said in ("6 ", "64 x 64", str(out)))
    assert [p.name for p in tmp_path.iterdir()] == ["cats.png"]


def test_generate_scales_pixels(micro_folder, tmp_path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    options = ["--checkpoint", micro_folder, "--steps", 2, "--seed", 5]
    run("generate", "a cat", *options, "--out", small)
    run("generate", "a cat", *options, "--out", large, "--scale", 3)
    assert (np.asarray(Image.open(large))[::3, 1::3] == np.asarray(Image.open(small))).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["generate"], "caption"),
        (["generate", "a cat", "--n", "0"], r"\bn\b.*\b0\b"),
        (["generate", "a cat", "--scale", "0"], r"--scale.*\b0\b"),
        (["generate", "a cat", "--steps", "1", "--scale", "33000000"], "memory"),
        (["generate", "a cat", "--scale", "9" * 20], r"per side"),
        (["generate", "a cat", "--scale", "300", "--out", "cat.webp"], r"cat\.webp.*\b19200 x 19200\b.*\b16383\b"),
        (["generate", "a cat", "--n", "1100", "--out", "cat.jpg"], r"cat\.jpg.*\b70400 x 64\b.*\b65500\b"),
        (["evaluate", "generation", "--seed", "-1"], r"--seed.*-1\b"),
        (["evaluate", "editing", "--seed", "429496"], r"--seed.*\b429496\b"),
        (["generate", "a cat \udcff"], r"\\udcff"),
        (["generate", "a cat", "--steps", "99"], r"\bsteps\b.*\b99\b"),
        (["generate", "a cat", "--checkpoint", "huge"], "huge.*tiny"),
        (["generate", "a cat", "--out", "nowhere/cat.png"], "nowhere.*--out"),
        (["generate", "a cat", "--out", "cat.txt"], r"cat\.txt.*\.png"),
        (["train", "tokenizer", "--preset", "huge"], "huge.*tiny"),
        (["train", "tokenizer", "--preset", "muse-3b"], r"muse-3b.*\btokenizer\b.*\bbase\b"),
        (["train", "all", "--steps", "0"], r"--steps.*\b0\b"),
        (["train", "base", "--batch", "0"], r"--batch.*\b0\b"),
        (["train", "scorer", "--data", "x"], r"(?=.*--data).*\bscorer\b"),
        (["train", "tokenizer", "--dtype", "bfloat16"], r"(?=.*--dtype)(?=.*\bbase\b).*\btokenizer\b"),
        (["train", "base", "--accumulate", "0"], r"--accumulate.*\b0\b"),
        (["train", "superres_decoder", "--preset", "micro", "--accumulate", "2"], r"\baccumulate\b.*\b2\b"),
        (["train", "all", "--preset", "muse-3b"], r"muse-3b.*\btokenizer\b"),
        (["train", "tokenizer", "--data", "./nowhere"], r"\./nowhere"),
        (["train", "all", "--preset", "colab"], "google/flan-t5-small"),  # before it trains tokenizers
        (["train", "base", "--text", "./nowhere"], r"\./nowhere"),
        (["train", "tokenizer", "--out", __file__], r"test_commands\.py.*--out"),
        (["evaluate", "generation", "--n", "0"], r"--n\b.*\b0\b"),
        (["evaluate", "generation", "--clip", "a/b"], "--clip"),
        (["edit", __file__, "a cat"], r"test_commands\.py"),
        (["edit", "nowhere.png", "a cat"], r"nowhere\.png"),
        (["edit", "nowhere.png", "a cat", "--mask", "m.png", "--left", "8"], "--mask.*--left"),
        (["edit", "nowhere.png", "a cat", "--mask", "m.png", "--way", "read"], "--way"),
        (["edit", "nowhere.png", "a cat", "--left", "8", "--found-mask", "m.png"], "--found-mask"),
        (["edit", "nowhere.png", "a cat", "--way", "resample", "--found-mask", "m.png"], "--way resample"),
        (["edit", "nowhere.png", "a cat", "--found-mask", "m.txt"], r"--found-mask.*m\.txt"),
        (["train", "base", "--preset", "micro", "--mesh", "3", "1"], r"\b3 x 1\b"),
        (["train", "base", "--preset", "micro", "--processes", "a:1,2,2"], r"process.*\b2\b"),
        (["train", "base", "--preset", "micro"], "train tokenizer --preset micro"),
        (["evaluate", "generation", "--preset", "huge"], "huge.*tiny"),
    ],
)
def test_what_the_user_can_fix_is_one_sentence_and_exit_code_2(
    arguments, message, micro_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "generate" and "--checkpoint" not in arguments:
        arguments = [*arguments, "--checkpoint", str(micro_folder)]
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.glob("*.p*"))  # nothing half-written


@pytest.mark.parametrize("error", [MemoryError(), ValueError(), OSError(), RuntimeError("RESOURCE_EXHAUSTED: 9\n9")])
def test_errors_without_words_are_one_sentence(error, capsys, monkeypatch):
    def fails() -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "doctor", fails)
    assert run("doctor") == 2
    said = capsys.readouterr().err
    assert said.startswith("minimuse: ") and said.count("\n") == 1 and len(said) > 15


def test_damaged_and_huge_pictures_are_refused(micro_folder, tmp_path, capsys, monkeypatch):
    picture = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(picture)
    whole = picture.read_bytes()
    arguments = ["edit", picture, "a cat", "--checkpoint", micro_folder, "--out", tmp_path / "out.png"]
    for place in (len(whole) // 2, 40):  # cut in the pixels; a chunk of no known length
        picture.write_bytes(whole[:place] + (b"" if place > 40 else bytes(range(200, 255))))
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("minimuse: ") and error.count("\n") == 1
    picture.write_bytes(whole)
    monkeypatch.setattr(pixels, "LARGEST", 100)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert str(picture) in error and "64 x 64 pixels" in error and error.count("\n") == 1


def test_unknown_commands_and_options_exit_with_2(capsys):
    assert run("paint") == 2
    assert run("generate", "a cat", "--colour", "blue") == 2
    assert run("train", "everything") == 2
    assert run("evaluate") == run("evaluate", "all", "--preset", "micro") == 2
    assert run("evaluate", "tokenizer", "--split", "unseen_pairs") == 2


def test_sizes_that_no_model_has_exit_with_2(capsys, tmp_path):
    for option, value in (("--tokenizer.blocks", "3000"), ("--base.window", "-2")):
        assert run("train", "base", "--preset", "micro", "--out", tmp_path / "run", option, value) == 2
        assert option.partition(".")[2] in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("generate", "edit", "train", "evaluate", "push", "doctor"))


@pytest.mark.slow
def test_the_micro_preset_trains_all_stages_and_draws(tmp_path, capsys):
    out = tmp_path / "run"
    for _ in range(2):  # the second time there is nothing left to do
        assert run("train", "all", "--preset", "micro", "--out", out) == 0
    config = json.loads((out / "config.json").read_text())
    stages = {"tokenizer", "tokenizer_adversarial", "superres_tokenizer", "base", "superres", "superres_decoder"}
    assert config["preset"] == "micro" and set(config["trained"]) >= stages
    capsys.readouterr()
    measured = {}
    for decoder in ("--finetuned", "--no-finetuned"):
        assert run("evaluate", "tokenizer", "--preset", out, "--stage", "superres", decoder, "--n", 4, "--json") == 0
        measured[decoder] = json.loads(capsys.readouterr().out)
    one, other = measured.values()
    distances = {"frechet", "frechet_random"}
    assert set(one) == distances | {"psnr", "ssim", "sharpness", "usage", "perplexity", "readable", "weights"}
    assert [Path(name).stem for name in one["weights"]] == ["scorer", "superres_decoder", "superres_tokenizer"]
    assert [Path(name).stem for name in other["weights"]] == ["scorer", "superres_tokenizer"]
    assert one["psnr"] != other["psnr"] and one["perplexity"] == other["perplexity"]  # the same tokens
    assert (out / "text" / "tokenizer.json").is_file()
    assert (out / "base" / "log.jsonl").read_text().count("\n") == 1
    picture, options = tmp_path / "cat.png", ["--checkpoint", out, "--steps", 2, 2]
    for extra, side in (([], 128), (["--no-superres"], 64), (["--no-finetuned", "--guidance", "None", 1.0], 128)):
        kept = options[:-1] if side == 64 else options
        assert run("generate", "a cat", "--out", picture, *kept, *extra) == 0
        assert Image.open(picture).size == (side, side)


@pytest.mark.slow
def test_a_smoke_run_goes_through_all_stages_and_draws(tmp_path, capsys):
    out = tmp_path / "run" / "smoke"
    for _ in range(2):  # the first is deleted
        assert run("train", "all", "--preset", "micro", "--smoke", "--batch", 3, "--out", tmp_path / "run") == 0
    trained = json.loads((out / "config.json").read_text())["trained"]
    assert {(train["steps"], train["batch"]) for train in trained.values()} == {(4, 2)}
    assert [path.name for path in out.parent.iterdir()] == ["smoke"]
    printed = capsys.readouterr().out
    assert all(re.search(rf" {stage}: .* h for 8 steps of 3\b", printed) for stage in ("text", "tokenizer", "base"))
    assert run("generate", "a cat", "--checkpoint", out, "--steps", 2, 2, "--out", tmp_path / "cat.png") == 0


@pytest.mark.slow
def test_steps_and_batch_take_the_place_of_the_presets(tmp_path):
    options = ["--preset", "micro", "--out", tmp_path, "--steps", 2, "--batch", 4]
    assert run("train", "tokenizer", *options) == 0
    trained = json.loads((tmp_path / "config.json").read_text())["trained"]["tokenizer"]
    assert (trained["steps"], trained["batch"]) == (2, 4)
    assert (tmp_path / "tokenizer" / "log.jsonl").read_text().startswith('{"step": 2')


@pytest.mark.slow
def test_evaluate_measures_the_cascade(cascade_folder, capsys):
    options = ["--preset", cascade_folder, "--n", 4, "--json", "--steps", 1]
    assert run("evaluate", "generation", *options, 2, "--stage", "superres") == 0
    printed = json.loads(capsys.readouterr().out)
    settings, stages = printed["settings"], {Path(name).stem for name in printed["weights"]}
    assert {"base", "superres", "superres_decoder"} < stages
    assert settings["superres"] and settings["finetuned"] and settings["steps"] == [1, 2]
    assert run("evaluate", "generation", *options) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["steps"] == 1 and settings["guidance"] == 0.5 and "superres" not in settings


def test_evaluate_prints_one_json_object(micro_folder, capsys):
    assert run("evaluate", "generation", "--preset", micro_folder, "--n", 12, "--steps", 1, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    shares = {"overall", "exact", "tasks", "exact_tasks", "facts"}
    assert set(result) == shares | {"frechet", "frechet_random", "floor", "seconds", "settings", "weights"}
    assert {Path(name).stem for name in result["weights"]} == {"base", "tokenizer", "model", "scorer"}
    assert set(result["facts"]) <= {"object", "colour", "count", "place", "background"} and len(result["tasks"]) == 6
    assert result["overall"] < 0.5  # random weights draw nothing that was asked


def test_edit_inpaints_outpaints_and_edits(micro_folder, tmp_path):
    picture, mask, out = tmp_path / "scene.png", tmp_path / "mask.png", tmp_path / "out.png"
    before = scenes.render(scenes.example("val", 3)[0])
    Image.fromarray(before).save(picture)
    hidden = np.zeros((64, 64), np.uint8)
    hidden[8:24, 8:24] = 255
    Image.fromarray(hidden).save(mask)
    options = ["--checkpoint", micro_folder, "--out", out]
    assert run("edit", picture, "a cat", *options, "--mask", mask, "--steps", 2) == 0
    assert (np.asarray(Image.open(out))[hidden == 0] == before[hidden == 0]).all()
    assert run("edit", picture, "a cat", *options, "--right", 16, "--steps", 2) == 0
    assert Image.open(out).size == (80, 64)
    assert run("edit", picture, "a cat", *options, "--iterations", 2, "--n", 3, "--guidance", 1.0) == 0
    assert Image.open(out).size == (3 * 64, 64)
    found = tmp_path / "found.png"
    assert run("edit", picture, "a cat", *options, "--found-mask", found, "--before", "a dog", "--steps", 2) == 0
    white, after = np.asarray(Image.open(found)), np.asarray(Image.open(out))
    assert white.shape == after.shape == (64, 64, 3) and set(np.unique(white)) <= {0, 255}
    assert (white.reshape(8, 8, 8, 8, 3) == white[::8, None, ::8, None]).all()  # whole tokens


def test_evaluate_all_runs_what_measures_everything(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr("minimuse.evaluate.commands.subprocess.call", lambda command: calls.append(command[1:]) or 0)
    assert run("evaluate", "all") == 0
    assert [Path(calls[0][0]).name, *calls[0][1:]] == ["results.py", "--measure", "--experiments"]
    assert Path(calls[0][0]).is_file()
    for line, options in {
        "--plan": "--measure --experiments --plan",
        "--measure val cascade --again": "--measure val cascade --again",
        "--experiments race": "--experiments race",
        "--experiments race --measure val": "--measure val --experiments race",
    }.items():
        assert run("evaluate", "all", *line.split()) == 0
        assert calls.pop()[1:] == options.split()
    monkeypatch.setattr("minimuse.evaluate.commands.data_dir", lambda: tmp_path / "data")  # as in a wheel
    assert run("evaluate", "all") == 2
    assert "clone" in capsys.readouterr().err and len(calls) == 1


@pytest.mark.slow
def test_evaluate_editing_has_all_ways(micro_folder, capsys):
    assert run("evaluate", "editing", "--preset", micro_folder, "--n", 3, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    for way in ("inpainting", "mask_free", "mask_read"):
        assert {"success", "preservation", "outside_changed"} <= set(result[way])
    assert result["settings"]["n"] == 3


def test_importing_minimuse_imports_no_heavy_library():
    heavy = {"jax", "flax", "transformers", "datasets", "matplotlib"}
    code = f"import sys, minimuse; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
