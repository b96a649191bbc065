"""The command line: how it reads options, without drawing or training."""

import dataclasses
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimuse import cli, muse
from minimuse.config import SampleOptions, VQGANConfig, data_dir
from minimuse.evaluate import edits, fidelity, scorer, unseen
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


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the commands ask a Muse, as (method, options), instead of drawing."""
    monkeypatch.chdir(tmp_path)
    calls = []

    class Asked:
        def __init__(self, superres):
            self.configs = dict(base=None, tokenizer=None) | (dict(superres=None) if superres else {})

        def tokenizer_config(self, stage):
            return VQGANConfig()

        def __getattr__(self, name):
            return lambda *args, **options: calls.append((name, options)) or np.zeros((1, 8, 8, 3), np.uint8)

    monkeypatch.setattr(muse.Muse, "from_pretrained", lambda name, superres=True, dtype="float32": Asked(superres))
    return calls


@pytest.fixture
def measured(monkeypatch):
    """What the evaluate commands ask to measure, as (function, options)."""
    calls = []
    for module, name in (
        *((fidelity, f"evaluate_{what}") for what in ("scorer", "tokenizer", "generation")),
        (unseen, "evaluate_unseen"),
        *((edits, f"evaluate_{what}") for what in ("inpainting", "mask_free", "edit", "outpainting")),
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


def test_a_style_is_put_on_the_checkpoint(monkeypatch, tmp_path):
    calls = []

    class Plain:
        configs = {}

        def tokenizer_config(self, stage):
            return VQGANConfig()

        def plan(self, *args):
            return None

        def with_style(self, *args):
            calls.append(args)
            return self

        def generate(self, captions, **options):
            return np.zeros((1, 8, 8, 3), np.uint8)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(muse.Muse, "from_pretrained", lambda name, **options: Plain())
    assert run("generate", "a cat", "--no-recipe") == 0 and calls == []
    assert run("generate", "a cat", "--no-recipe", "--style", "runs/sea", "--style-strength", 0.7) == 0
    assert run("generate", "a cat", "--no-recipe", "--style", "runs/sea") == 0
    assert calls == [("runs/sea", 0.7), ("runs/sea", 1.0)]


def test_a_strength_needs_a_style(capsys):
    assert run("generate", "a cat", "--style-strength", 0.25) == 2
    assert "0.25" in capsys.readouterr().err


def test_a_style_starts_from_the_checkpoint_that_is_named(trained, capsys):
    assert run("train", "style", "--data", ".", "--from", "tiny", "--steps", 7, "--style.rank", 3) == 0
    ((name, preset),) = trained
    assert name == "style" and preset.train["style"].steps == 7 and preset.style.rank == 3
    assert Path(preset.train["style"].start) == (data_dir() / "checkpoints" / "tiny").resolve()
    assert run("train", "style", "--data", ".", "--text", "t5-scenes") == 2
    assert "--text" in capsys.readouterr().err


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
        ("--guided-from 0.5 --guided-to None 0.5 --revise 3", dict(guided_from=0.5, guided_to=(None, 0.5), revise=3)),
        ("--critic True --revise 2", dict(critic=True, revise=2)),
    ],
)
def test_sampling_options_are_those_of_generate(asked, line, options):
    shared = dict(n=1, seed=0, negative=None)
    assert run("generate", "a cat", "--no-recipe", *line.split()) == 0
    assert asked.pop() == ("generate", shared | dict(index=0) | options)
    Image.new("RGB", (8, 8)).save("picture.png")
    assert run("edit", "picture.png", "a cat", "--right", "8", "--no-recipe", *line.split()) == 0
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


def test_a_perceptual_network_is_that_of_every_second_phase(trained, tmp_path, capsys):
    (tmp_path / "vgg16").mkdir()
    options = ["--preset", "micro", "--data", "user/pictures", "--perceptual", "vgg16"]
    assert run("train", "all", *options, "--lpips", "lpips.safetensors") == 0
    train, printed = trained[0][1].train, capsys.readouterr().out
    for phase in ("tokenizer_adversarial", "superres_decoder"):
        own = dataclasses.replace(PRESETS["micro"].train[phase], lpips="lpips.safetensors")
        assert train[phase] == dataclasses.replace(own, perceptual_network=str(tmp_path / "vgg16"))
    assert "--perceptual" not in printed
    nested = ["--train.tokenizer-adversarial.perceptual-network", "vgg16"]
    short = ["--perceptual", "vgg16"]
    for spelling in (nested, short):
        assert run("train", "tokenizer", "--preset", "micro", *spelling) == 0
    assert trained[-1] == trained[-2]
    assert run("train", "base", *options) == 2 and "--perceptual" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["tokenizer", "all"])
def test_own_pictures_are_not_compared_by_the_network_for_scenes(trained, capsys, stage):
    assert run("train", stage, "--preset", "micro") == 0
    assert trained[0][1].train == PRESETS["micro"].train and "--perceptual" not in capsys.readouterr().out
    assert run("train", stage, "--preset", "micro", "--data", "user/pictures") == 0
    train = trained[-1][1].train
    assert train["tokenizer_adversarial"].perceptual == 0 and "--perceptual" in capsys.readouterr().out
    expected = 0 if stage == "all" else PRESETS["micro"].train["superres_decoder"].perceptual
    assert train["superres_decoder"].perceptual == expected


def test_paths_are_kept_whole_so_that_a_run_works_from_another_directory(trained, tmp_path):
    (tmp_path / "pictures").mkdir()
    shutil.copytree(data_dir() / "t5-scenes", tmp_path / "encoder")
    options = ["--data", "pictures", "--text", "encoder", "--train.superres-decoder.artwork", "pictures"]
    assert run("train", "all", "--preset", "micro", *options) == 0
    preset = trained[0][1]
    assert (preset.data, preset.text) == (str(tmp_path / "pictures"), str(tmp_path / "encoder"))
    assert preset.train["superres_decoder"].artwork == preset.data
    assert run("train", "base", "--preset", "micro", "--data", "user/pictures", "--text", "t5-scenes") == 0
    assert (trained[-1][1].data, trained[-1][1].text) == ("user/pictures", "t5-scenes")  # names of the Hub and of data/


def test_steps_and_batch_of_all_are_those_of_every_stage_and_phase(trained):
    assert run("train", "all", "--preset", "micro", "--steps", 5, "--batch", 3, "--train.base.batch", 7) == 0
    train = trained[0][1].train
    stages = {"tokenizer", "tokenizer_adversarial", "superres_tokenizer", "base", "superres", "superres_decoder"}
    assert all((train[name].steps, train[name].batch) == (5, 3) for name in stages)
    assert train["scorer"] == PRESETS["micro"].train["scorer"]


@pytest.mark.parametrize("stage, phases", [("all", None), ("tokenizer", {"tokenizer", "tokenizer_adversarial"})])
def test_a_smoke_run_has_the_sizes_and_a_few_small_steps(trained, tmp_path, stage, phases):
    assert run("train", stage, "--preset", "colab" if stage == "all" else "micro", "--smoke", "--out", "run") == 0
    name, preset = trained[0]
    whole = PRESETS[preset.name]
    assert all(getattr(preset, name) == getattr(whole, name) for name in ("tokenizer", "base", "superres"))
    few = {name: train for name, train in preset.train.items() if train != whole.train[name]}
    assert few.keys() == (phases or whole.train.keys()) and (tmp_path / "run" / "smoke").is_dir()
    for train in few.values():
        assert (train.steps, train.batch, train.accumulate) == (4, 2, 1) and 0 < train.examples <= 64


def test_stages_start_from_a_checkpoint(trained, tmp_path, cascade_folder, capsys):
    started = lambda preset: {name for name, train in preset.train.items() if train.start == str(cascade_folder)}
    options = ["--preset", "micro", "--out", "run", "--from", cascade_folder]
    assert run("train", "base", *options) == 0
    name, preset = trained.pop()
    assert name == "base" and started(preset) == {"base"} and preset.text == "t5-scenes"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "tokenizer.safetensors"}
    trained.clear()
    assert run("train", "all", *options) == 0
    assert [name for name, _ in trained] == ["tokenizer", "superres_tokenizer", "base", "superres", "superres_decoder"]
    assert started(trained[0][1]) == {"tokenizer", "superres_tokenizer", "base", "superres"}  # the decoder grows again
    trained.clear()
    for stage in ("text", "scorer"):  # one has no weights to start from, the other is not in the checkpoint
        assert run("train", stage, *options) == 2 and stage in capsys.readouterr().err
    assert run("train", "base", "--preset", "micro", "--from", "nowhere") == 2
    assert not trained


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
    tokenizer="--preset --stage --n --finetuned --artwork --json",
    scorer="--n --json",
    all="--measure --experiments --again --plan",
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
    assert run("evaluate", "tokenizer", "--artwork", "unseen", "--n", 9) == 0
    assert measured.pop() == ("evaluate_unseen", dict(n=9, finetuned=False))


def test_only_the_decoder_learns_from_artwork(trained, capsys):
    assert run("train", "superres_decoder", "--preset", "micro", "--artwork", "drawings.parquet") == 0
    name, preset = trained.pop()
    assert name == "superres_decoder" and preset.train[name].artwork == "drawings.parquet"
    assert run("train", "tokenizer", "--preset", "micro", "--artwork", "drawings.parquet") == 2
    assert "tokenizer" in capsys.readouterr().err and not trained


def test_the_doctor_speaks_where_jax_is_broken(tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('no jaxlib')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['doctor']; "
    code += "from minimuse.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "jax" in done.stdout
