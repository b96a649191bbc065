"""The command line: how it reads options, what it draws, and how it refuses."""

import dataclasses
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimuse import cli, muse
from minimuse.config import SampleOptions
from minimuse.data import scenes
from minimuse.evaluate import edits, fidelity, scorer
from minimuse.evaluate.commands import COMMANDS
from minimuse.presets import PRESETS
from minimuse.train import stages
from minimuse.train.loop import Stopped

ROOT = Path(__file__).resolve().parent.parent


def stored_commands() -> dict[str, str]:
    """The commands of tools/results.py."""
    spec = importlib.util.spec_from_file_location("results", ROOT / "tools" / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COMMANDS


STORED = {name: line for name, line in stored_commands().items() if " minimuse evaluate " in line}


def run(*arguments):
    """Exit code of one command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


# --- reading options, without drawing or training -------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the commands ask a Muse, as (method, options), instead of drawing."""
    monkeypatch.chdir(tmp_path)
    calls = []

    class Asked:
        def __init__(self, superres):
            self.configs = dict(base=None, tokenizer=None) | (dict(superres=None) if superres else {})

        def __getattr__(self, name):
            return lambda *args, **options: calls.append((name, options)) or np.zeros((1, 8, 8, 3), np.uint8)

    monkeypatch.setattr(muse.Muse, "from_pretrained", lambda name, superres=True: Asked(superres))
    return calls


@pytest.fixture
def measured(monkeypatch):
    """What the evaluate commands ask to measure, as (function, options)."""
    calls = []
    for module, name in (
        *((fidelity, f"evaluate_{what}") for what in ("scorer", "tokenizer", "generation")),
        *((edits, f"evaluate_{what}") for what in ("inpainting", "mask_free", "outpainting")),
    ):
        measure = lambda *args, name=name, **options: calls.append((name, options)) or dict(settings={})
        monkeypatch.setattr(module, name, measure)
    monkeypatch.setattr(scorer, "shipped_scorer", lambda: None)
    return calls


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The stages that are to be trained, as (name, preset), instead of training."""
    monkeypatch.chdir(tmp_path)
    calls = []
    note = lambda name: lambda preset, out: calls.append((name, preset))
    monkeypatch.setattr(stages, "TRAIN", {name: note(name) for name in stages.TRAIN})
    monkeypatch.setattr(stages, "check", lambda preset, names, out: None)
    return calls


@pytest.mark.parametrize(
    "line, options",
    [
        ("", {}),
        ("--steps 12", dict(steps=12)),
        ("--steps 12 8", dict(steps=(12, 8))),
        ("--steps None 8 --guidance 4 0", dict(steps=(None, 8), guidance=(4.0, 0.0))),
        ("--ramp False --top-k 3 --law linear", dict(ramp=False, top_k=3, law="linear")),
        ("--ramp True False --order None halton", dict(ramp=(True, False), order=(None, "halton"))),
        ("--temperature 1 --token-temperature 0.5", dict(temperature=1.0, token_temperature=0.5)),
    ],
)
def test_sampling_options_are_those_of_generate(asked, line, options):
    shared = dict(n=1, seed=0, negative=None)
    assert run("generate", "a cat", *line.split()) == 0
    assert asked.pop() == ("generate", shared | options)
    Image.new("RGB", (8, 8)).save("picture.png")
    assert run("edit", "picture.png", "a cat", "--right", "8", *line.split()) == 0
    assert asked.pop() == ("outpaint", shared | dict(right=8) | options)


@pytest.mark.parametrize("line", ["--steps", "--steps 1 2 3", "--steps x", "--steps None", "--ramp yes", "--steps 1 a"])
def test_sampling_options_of_another_form_are_refused(asked, capsys, line):
    assert run("generate", "a cat", *line.split()) == 2
    assert line.split()[0] in capsys.readouterr().err and not asked


def test_every_sampling_option_is_offered_wherever_pictures_are_drawn(capsys):
    for command in (["generate"], ["edit"], ["evaluate", "generation"]):
        assert run(*command, "--help") == 0
        text = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')} " in text for name in SampleOptions.__annotations__)


@pytest.mark.parametrize(
    "line, option",
    [("generate a --superres-steps 4", "--steps"), ("edit p c --superres-token-temperature=1", "--token-temperature"),
     ("evaluate generation --superres_guidance 1", "--guidance")],
)  # fmt: skip
def test_an_old_spelling_is_answered_with_the_new_one(line, option, asked, capsys):
    assert run(*line.split()) == 2
    error = capsys.readouterr().err
    assert re.search(f" {option} ", error) and error.count("\n") == 1 and not asked


def test_a_second_value_that_no_stage_would_read_is_refused(asked, capsys):
    assert run("generate", "a cat", "--no-superres", "--steps", "12", "8") == 2
    assert "--steps" in (error := capsys.readouterr().err) and "12 8" in error and not asked
    assert run("evaluate", "generation", "--guidance", "1", "2") == 2  # of the base stage
    assert "--guidance" in capsys.readouterr().err and not asked


NESTED = (
    "--train.base.learning-rate 3e-4 --base.depth 8 --run.mesh 1 2 --train.superres-decoder.crop 32 "
    "--train.base.schedule 0.5 --superres.window 4 --sampling.superres.steps 5"
)


def test_every_setting_of_a_preset_can_be_changed(trained):
    assert run("train", "base", "--preset", "micro", *NESTED.split()) == 0
    (name, changed), micro = trained.pop(), PRESETS["micro"]
    assert name == "base"
    replace = dataclasses.replace
    base = replace(micro.train["base"], learning_rate=3e-4, schedule=0.5)
    decoder = replace(micro.train["superres_decoder"], crop=32)
    assert changed == replace(
        micro,
        base=replace(micro.base, depth=8),
        superres=replace(micro.superres, window=4),
        run=replace(micro.run, mesh=(1, 2)),
        sampling=micro.sampling | dict(superres=replace(micro.sampling["superres"], steps=5)),
        train=micro.train | dict(base=base, superres_decoder=decoder),
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_that_is_not_changed_is_trained_as_it_is(trained, preset):
    for spelling in (["--preset", preset], [f"--preset={preset}"]):
        assert run("train", "base", *spelling) == 0
        assert trained.pop() == ("base", PRESETS[preset])


def test_short_spellings_are_those_of_nested_settings(trained):
    short = "--steps 5 --batch 4 --dtype bfloat16 --accumulate 2 --mesh 2 1 --save-seconds 7"
    nested = "--train.base.steps 5 --train.base.batch 4 --train.base.dtype bfloat16 --train.base.accumulate 2"
    run("train", "base", "--preset", "micro", *short.split())
    run("train", "base", "--preset", "micro", *nested.split(), *"--run.mesh 2 1 --run.save-seconds 7".split())
    assert trained[0] == trained[1] and trained[0][1].train["base"].accumulate == 2


def test_all_stages_are_trained_in_order_and_those_of_other_pictures_without_t5(trained, tmp_path):
    run("train", "all", "--preset", "micro", "--dtype", "bfloat16")
    names = [name for name, _ in trained]
    assert names == ["text", "tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder"]
    train = trained[-1][1].train
    assert {name for name in train if train[name].dtype == "bfloat16"} == {"base", "superres"}
    trained.clear()
    run("train", "all", "--preset", "micro", "--data", "pictures")
    assert [name for name, _ in trained] == names[1:] and trained[0][1].data == "pictures"


@pytest.mark.parametrize(
    "line, message",
    [
        ("base --train.base.steps 0", r"--train\.base\.steps.*\b0\b"),
        ("all --train.superres.batch -1", r"--train\.superres\.batch.*-1"),
        ("base --base.heads 5", r"\b5\b"),
        ("base --base.depth 0", "base"),
        ("base --base.codebook-size 32", r"codebook_size.*32.*64"),
        ("superres --superres.low-grid 4 4", r"low_grid.*4"),
        ("tokenizer --tokenizer.factor 16", r"tokenizer.*4 x 4.*8 x 8"),
        ("superres --superres.text-width 64", r"text_width.*64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_training(trained, line, message, capsys, tmp_path):
    assert run("train", *line.split(), "--preset", "micro", "--out", "run") == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not trained and not (tmp_path / "run").exists()


def test_what_fails_with_changed_settings_names_them(trained, monkeypatch, capsys):
    def fails(preset, out):
        raise TypeError("add got incompatible shapes")

    monkeypatch.setitem(stages.TRAIN, "base", fails)
    assert run("train", "base", "--preset", "micro", "--base.text-length", "3") == 2
    error = capsys.readouterr().err
    assert "incompatible shapes" in error and "base" in error and error.count("\n") == 1
    with pytest.raises(TypeError):  # not the user's doing
        run("train", "base", "--preset", "micro")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped("stopped at step 3")], ids=["at once", "saved"])
def test_ctrl_c_ends_with_130(trained, monkeypatch, stop, capsys):
    def stopped(preset, out):
        raise stop

    monkeypatch.setitem(stages.TRAIN, "base", stopped)
    assert run("train", "base", "--preset", "micro") == 130
    assert "stopped" in capsys.readouterr().err


def test_the_help_of_train_is_short_and_all_of_it_is_there(capsys):
    assert run("train", "--help") == 0
    short = capsys.readouterr().out
    assert run("train", "base", "--preset", "micro", "--help-all") == 0
    whole = capsys.readouterr().out
    for option in ("--steps", "--mesh", "--save-seconds", "--processes"):
        assert option in short and option in whole
    for option in ("--superres.low-depth", "--train.tokenizer-adversarial.steps", "--run.log-every"):
        assert f"{option} " not in short and f"{option} " in whole


OWN = dict(
    generation="--preset --stage --split --n --seed --finetuned --judges --clip --json --order",
    autoregressive="--preset --split --n --seed --guidance --token-temperature --top-k --json",
    diffusion="--preset --split --n --seed --guidance --steps --json",
    editing="--preset --stage --n --seed --finetuned --json",
    tokenizer="--preset --stage --n --finetuned --json",
    scorer="--n --json",
    all="",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_evaluation_has_its_own_options_only(name, capsys):
    assert run("evaluate", name, "--help") == 0
    offered = set(re.findall(r"(?<=[ │])--[a-z][a-z-]*", capsys.readouterr().out))
    offered = {option for option in offered if not option.startswith("--no-")} - {"--help"}
    if name == "generation":
        assert offered >= set(OWN[name].split())
    else:
        assert offered == set(OWN[name].split())


@pytest.mark.parametrize("name", STORED)
def test_the_commands_of_stored_results_are_understood(name, asked, measured, capsys):
    assert run(*shlex.split(STORED[name])[3:]) == 0
    assert json.loads(capsys.readouterr().out) is not None and measured


def test_evaluations_ask_for_what_they_say(asked, measured):
    assert run("evaluate", "generation", "--stage", "superres", "--n", 9, "--steps", 3, 2, "--seed", 4) == 0
    options = dict(split="val", n=9, seed=4, judges=[], steps=(3, 2), superres=True, finetuned=False)
    assert measured.pop() == ("evaluate_generation", options)
    assert run("evaluate", "tokenizer", "--stage", "superres", "--n", 9) == 0
    assert measured.pop() == ("evaluate_tokenizer", dict(n=9, finetuned=False))


def test_the_doctor_speaks_where_jax_is_broken(tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('no jaxlib')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['doctor']; "
    code += "from minimuse.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "jax" in done.stdout


# --- drawing, training and measuring --------------------------------------------------------------------------------


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
        (["generate", "a cat", "--steps", "1", "--scale", "99999999"], "memory"),
        (["generate", "a cat \udcff"], r"\\udcff"),
        (["generate", "a cat", "--steps", "99"], r"\bsteps\b.*\b99\b"),
        (["generate", "a cat", "--checkpoint", "huge"], "huge.*tiny"),
        (["generate", "a cat", "--out", "nowhere/cat.png"], "nowhere.*--out"),
        (["generate", "a cat", "--out", "cat.txt"], r"cat\.txt.*\.png"),
        (["train", "tokenizer", "--preset", "huge"], "huge.*tiny"),
        (["train", "tokenizer", "--preset", "muse-3b"], r"muse-3b.*\btokenizer\b.*\bbase\b"),
        (["train", "all", "--steps", "5"], r"--steps.*\ball\b"),
        (["train", "base", "--batch", "0"], r"--batch.*\b0\b"),
        (["train", "scorer", "--data", "x"], r"(?=.*--data).*\bscorer\b"),
        (["train", "tokenizer", "--dtype", "bfloat16"], r"(?=.*--dtype)(?=.*\bbase\b).*\btokenizer\b"),
        (["train", "base", "--accumulate", "0"], r"--accumulate.*\b0\b"),
        (["train", "all", "--preset", "muse-3b"], r"muse-3b.*\btokenizer\b"),
        (["train", "tokenizer", "--data", "./nowhere"], r"\./nowhere"),
        (["train", "all", "--preset", "colab"], "google/flan-t5-small"),  # before it trains tokenizers
        (["train", "base", "--text", "./nowhere"], r"\./nowhere"),
        (["train", "tokenizer", "--out", __file__], r"test_cli\.py.*--out"),
        (["evaluate", "generation", "--n", "0"], r"--n\b.*\b0\b"),
        (["evaluate", "generation", "--clip", "a/b"], "--clip"),
        (["edit", __file__, "a cat"], r"test_cli\.py"),
        (["edit", "nowhere.png", "a cat"], r"nowhere\.png"),
        (["edit", "nowhere.png", "a cat", "--mask", "m.png", "--left", "8"], "--mask.*--left"),
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
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert str(picture) in error and "4096 pixels" in error and error.count("\n") == 1


def test_unknown_commands_and_options_exit_with_2(capsys):
    assert run("paint") == 2
    assert run("generate", "a cat", "--colour", "blue") == 2
    assert run("train", "everything") == 2
    assert run("evaluate") == run("evaluate", "all", "--preset", "micro") == 2
    assert run("evaluate", "tokenizer", "--split", "unseen_pairs") == 2


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("generate", "edit", "train", "evaluate", "doctor"))


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
    assert set(one) == {"psnr", "ssim", "sharpness", "frechet", "usage", "perplexity", "readable"}
    assert one["psnr"] != other["psnr"] and one["perplexity"] == other["perplexity"]  # the same tokens
    assert (out / "text" / "tokenizer.json").is_file()
    assert (out / "base" / "log.jsonl").read_text().count("\n") == 1
    picture, options = tmp_path / "cat.png", ["--checkpoint", out, "--steps", 2, 2]
    for extra, side in (([], 128), (["--no-superres"], 64), (["--no-finetuned", "--guidance", "None", 1.0], 128)):
        kept = options[:-1] if side == 64 else options
        assert run("generate", "a cat", "--out", picture, *kept, *extra) == 0
        assert Image.open(picture).size == (side, side)


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
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["superres"] and settings["finetuned"] and settings["steps"] == [1, 2]
    assert run("evaluate", "generation", *options) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["steps"] == 1 and settings["guidance"] == 0.5 and "superres" not in settings


def test_evaluate_prints_one_json_object(micro_folder, capsys):
    assert run("evaluate", "generation", "--preset", micro_folder, "--n", 12, "--steps", 1, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"overall", "tasks", "facts", "frechet", "seconds", "settings"}
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


def test_evaluate_all_runs_what_measures_everything(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr("minimuse.evaluate.commands.subprocess.call", lambda command: calls.append(command[1:]) or 0)
    assert run("evaluate", "all") == 0
    assert [Path(calls[0][0]).name, *calls[0][1:]] == ["results.py", "--measure", "--experiments"]
    assert Path(calls[0][0]).is_file()
    monkeypatch.setattr("minimuse.evaluate.commands.data_dir", lambda: tmp_path / "data")  # as in a wheel
    assert run("evaluate", "all") == 2
    assert "clone" in capsys.readouterr().err and len(calls) == 1


@pytest.mark.slow
def test_evaluate_editing_has_both_ways(micro_folder, capsys):
    assert run("evaluate", "editing", "--preset", micro_folder, "--n", 3, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    for way in ("inpainting", "mask_free"):
        assert {"success", "preservation", "outside_changed"} <= set(result[way])
    assert result["settings"]["n"] == 3


def test_importing_minimuse_imports_no_heavy_library():
    heavy = {"jax", "flax", "transformers", "datasets", "matplotlib"}
    code = f"import sys, minimuse; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
