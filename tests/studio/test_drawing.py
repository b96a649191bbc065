"""The commands that draw: files of captions, one file each, recipes, and drawing again."""

import json

import numpy as np
import pytest
from PIL import Image
from test_cli import run

from minimuse.studio.recipes import ENTRY, read_recipe

STEPS = ["--steps", 3]


@pytest.fixture
def draw(micro_folder, tmp_path, monkeypatch):
    """Runs one command with the micro checkpoint in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(*arguments, "--checkpoint", micro_folder)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_pictures_of_a_file_are_those_of_the_command_line_one_file_each(draw, tmp_path):
    (tmp_path / "c.txt").write_text("a cat\ntwo dogs\n")
    assert draw("generate", "a cat", "two dogs", "--seed", 4, "--n", 2, *STEPS) == 0
    each = ["--each", "{row}{index}.png"]
    assert draw("generate", "--captions", "c.txt", "--seed", 4, "--n", 2, *STEPS, *each) == 0
    rows = [np.concatenate([pixels(f"{r}{2 * r + i}.png") for i in range(2)], 1) for r in range(2)]
    np.testing.assert_array_equal(np.concatenate(rows), pixels("minimuse.png"))
    assert not list(tmp_path.glob("*partial*"))


def test_picture_i_of_a_seed_is_that_of_the_batch(draw):
    assert draw("generate", "a cat", "--n", 4, "--seed", 6, *STEPS) == 0
    assert draw("generate", "a cat", "--index", 2, "--seed", 6, *STEPS, "--out", "one.png") == 0
    np.testing.assert_array_equal(pixels("one.png"), pixels("minimuse.png")[:, 128:192])


def test_a_sheet_is_drawn_again_bit_for_bit(draw, tmp_path, capsys):
    rows = [dict(caption="a cat", seed=3, n=2), dict(caption="ein Übungsbild", negative="a dog"), dict(caption="two")]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ["--guidance", 2, "--order", "random", *STEPS, "--scale", 2, "--labels", "--no-finetuned"]
    assert draw("generate", "--captions", "c.jsonl", *options) == 0
    recipe = read_recipe("minimuse.png")
    assert [(p["caption"], p["seed"], p["index"]) for p in recipe["pictures"]] == [
        ("a cat", 3, 0), ("a cat", 3, 1), ("ein Übungsbild", 0, 0), ("two", 0, 1)
    ]  # fmt: skip
    assert recipe["settings"]["sampling"]["base"]["guidance"] == 2.0 and set(recipe["weights"]) == {
        "base",
        "tokenizer",
        "text",
    }
    assert draw("generate", "--like", "minimuse.png", "--out", "again.png", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["same"] is True
    np.testing.assert_array_equal(pixels("again.png"), pixels("minimuse.png"))
    assert read_recipe("again.png")["pictures"] == recipe["pictures"]
    assert draw("generate", "--like", "minimuse.png", "--each", "{number}.png") == 0  # each has a recipe of its own
    assert draw("generate", "--like", "2.png", "--out", "third.png") == 0
    np.testing.assert_array_equal(pixels("third.png"), pixels("2.png"))


def test_interpolation_and_variations(draw, capsys):
    assert draw("interpolate", "a cat", "a dog", "--n", 3, *STEPS) == 0
    assert draw("generate", "--like", "interpolated.png", "--out", "again.png") == 0
    np.testing.assert_array_equal(pixels("again.png"), pixels("interpolated.png"))
    assert draw("vary", "interpolated.png", "a cat", *STEPS) == 2  # not a square
    assert draw("generate", "a cat", *STEPS) == 0
    assert draw("vary", "minimuse.png", "a cat", "--strength", 0.25, "--n", 2, *STEPS) == 0
    recipe = read_recipe("varied.png")
    assert recipe["command"] == "vary" and recipe["more"]["strength"] == 0.25 and pixels("varied.png").shape[1] == 128
    assert recipe["more"]["image"]["pixels"] == read_recipe("minimuse.png")["pixels"]
    capsys.readouterr()
    assert draw("generate", "--like", "varied.png") == 2
    error = capsys.readouterr().err
    assert "varied.png" in error and "vary" in error and error.count("\n") == 1
    assert draw("interpolate", "a", "b", "--guidance", 2) == 2 and "--guidance" in capsys.readouterr().err


def test_json_is_all_that_is_printed(draw, capsys):
    assert draw("generate", "a cat", "--n", 2, *STEPS, "--json", "--no-recipe", "--seed", 9, "--progress") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [p["file"] for p in printed["pictures"]] == ["minimuse.png"] * 2 and printed["pictures"][1]["index"] == 1
    assert printed["settings"]["sampling"]["base"]["steps"] == 3 and printed["width"] == 64
    assert set(printed["seconds"]) == {"load", "draw", "save"} and ENTRY not in Image.open("minimuse.png").info


def test_other_weights_are_named(draw, micro_folder, tmp_path, capsys):
    assert draw("generate", "a cat", *STEPS) == 0
    with Image.open("minimuse.png") as image:
        recipe = json.loads(image.info[ENTRY])
        recipe["weights"]["base"] = "0123456789ab"
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(ENTRY, json.dumps(recipe))
        image.save("other.png", pnginfo=info)
        info = PngInfo()
        info.add_text(ENTRY, json.dumps(recipe | dict(pictures=[{}])))
        image.save("damaged.png", pnginfo=info)
        image.save("without.png")
        image.save("lossy.jpg")
    capsys.readouterr()
    for name, value in {
        "other": "0123456789ab",
        "damaged": "damaged",
        "without": "no recipe",
        "lossy": r".png",
    }.items():
        path = f"{name}.jpg" if name == "lossy" else f"{name}.png"
        assert draw("generate", "--like", path, "--out", "again.png") == 2
        error = capsys.readouterr().err
        assert value in error and path in error and error.count("\n") == 1, error
    assert not (tmp_path / "again.png").exists()


@pytest.mark.parametrize(
    "arguments, value",
    [
        (["a cat", "--captions", "c.txt"], "a cat"),
        (["--like", "x.png", "--captions", "c.txt"], "--captions"),
        (["--like", "x.png", "--steps", "3"], "--steps"),
        (["--like", "x.png", "--seed", "3"], "--seed"),
        (["--like", "nowhere.png"], "nowhere.png"),
        (["a cat", "--each", "{sed}.png"], "sed"),
        (["a cat", "--each", "{seed}.png", "--labels"], "--labels"),
        (["a cat", "--n", "99999999"], "99999999"),
        (["a cat", "--index", "-1"], "-1"),
    ],
)
def test_what_does_not_go_together_is_refused(draw, arguments, value, capsys, tmp_path):
    assert draw("generate", *arguments) == 2
    error = capsys.readouterr().err
    assert value in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_without_arguments_it_says_what_to_do_first(capsys):
    assert run() == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("generate", "app", "doctor", "00_first_pictures.ipynb", "--help"))
