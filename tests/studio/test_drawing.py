"""The commands that draw: files of captions, one file each, recipes, and drawing again."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_cli import run

import minimuse
from minimuse.studio.recipes import ENTRY, as_metadata, read_recipe

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


def changed(path, new, change=lambda recipe: recipe, image=None):
    """A copy of a picture with another recipe, or other pixels."""
    with Image.open(path) as old:
        text, info = json.dumps(change(json.loads(old.text[ENTRY]))), PngInfo()
        info.add_text(ENTRY, text)
        (old if image is None else Image.fromarray(image)).save(new, pnginfo=info)
    return new


def refused(capsys, draw, path, *more):
    """What `generate --like PATH` says, in one sentence that names the file."""
    capsys.readouterr()
    assert draw("generate", "--like", path, "--out", "again.png", *more) == 2
    error = capsys.readouterr().err
    assert path in error and error.count("\n") == 1 and len(error) < 600
    return error


def test_what_cannot_be_drawn_again_is_a_sentence(draw, tmp_path, capsys):
    assert draw("generate", "a cat", "--n", 2, *STEPS) == 0
    with Image.open("minimuse.png") as image:
        image.save("without.png")
        image.save("lossy.jpg")
    (tmp_path / "cut.png").write_bytes((tmp_path / "minimuse.png").read_bytes()[:4000])
    (tmp_path / "text.png").write_text("a cat")
    for name, value in {"without.png": "no recipe", "lossy.jpg": ".png", "cut.png": "cut", "text.png": "text"}.items():
        assert value in refused(capsys, draw, name)
    weights = changed("minimuse.png", "w.png", lambda recipe: recipe["weights"].update(base="0123456789ab") or recipe)
    assert "0123456789ab" in refused(capsys, draw, weights)
    assert "7" in refused(capsys, draw, "minimuse.png", "--index", 7)
    assert "--style" in refused(capsys, draw, "minimuse.png", "--style", "nowhere")
    assert "--no-superres" in refused(capsys, draw, "minimuse.png", "--no-superres")
    assert not (tmp_path / "again.png").exists()


WRONG = [
    (("layout", "rows"), [3, -1]),
    (("layout", "rows"), "ab"),
    (("layout", "columns"), 0),
    (("layout", "columns"), 10**6),
    (("layout", "scale"), "x"),
    (("layout", "scale"), 0),
    (("settings", "superres"), None),
    (("settings", "superres"), True),  # whose settings are missing
    (("settings", "dtype"), "int8"),
    (("settings", "sampling", "base"), 5),
    (("settings", "sampling", "base", "steps"), "x"),
    (("settings", "sampling", "base", "steps"), 10**6),
    (("settings", "sampling", "base", "of_a_newer_version"), 1),
    (("pictures",), []),
    (("pictures", 0), {}),
    (("pictures", 0, "caption"), 5),
    (("pictures", 0, "seed"), -1),
    (("pictures", 0, "index"), 2**40),
    (("style",), "x"),
    (("style",), dict(folder="nowhere", strength=1)),
    (("checkpoint",), 5),
    (("weights",), 5),
    (("command",), ["generate"]),
    (("command",), "interpolate"),  # without its captions
]


def test_recipes_of_any_content_are_a_sentence(draw, tmp_path, capsys):
    assert draw("generate", "a cat", "--n", 2, *STEPS) == 0
    for path, value in WRONG:

        def change(recipe, path=path, value=value):
            *parents, last = path
            place = recipe
            for name in parents:
                place = place[name]
            place[last] = value
            return recipe | dict(minimuse="9.9.9")

        changed("minimuse.png", "wrong.png", change)
        capsys.readouterr()
        assert draw("generate", "--like", "wrong.png", "--out", "again.png") == 2, (path, value)
        error = capsys.readouterr().err
        assert error.startswith("minimuse: ") and error.count("\n") == 1 and len(error) < 600, error
    for text in ([], 5, None, "a"):
        changed("minimuse.png", "wrong.png", lambda recipe, text=text: text)
        refused(capsys, draw, "wrong.png")
    assert not (tmp_path / "again.png").exists()


def test_a_picture_that_was_changed_is_not_called_the_same(draw, capsys):
    assert draw("generate", "a cat", *STEPS) == 0
    painted = pixels("minimuse.png").copy()
    painted[:9] = 0
    changed("minimuse.png", "painted.png", image=painted)
    with Image.open("minimuse.png") as image:  # saved again by a program that keeps pixels and metadata
        image.save("kept.png", pnginfo=as_metadata(read_recipe("minimuse.png")), optimize=True)
    for name, same in {"painted.png": False, "kept.png": True}.items():
        capsys.readouterr()
        assert draw("generate", "--like", name, "--out", "again.png", "--json") == 0
        assert json.loads(capsys.readouterr().out)["same"] is same
        np.testing.assert_array_equal(pixels("again.png"), pixels("minimuse.png"))


def test_a_checkpoint_that_was_moved_is_named_anew(draw, capsys):
    assert draw("generate", "a cat", *STEPS) == 0
    changed("minimuse.png", "moved.png", lambda recipe: recipe | dict(checkpoint="runs/gone"))
    assert run("generate", "--like", "moved.png") == 2  # --checkpoint is tiny, which has other weights
    assert "runs/gone" in capsys.readouterr().err
    assert draw("generate", "--like", "moved.png", "--out", "again.png") == 0
    assert read_recipe("again.png")["checkpoint"] != "runs/gone"


def test_recipes_of_edits_say_what_was_done(draw, capsys):
    assert draw("generate", "a cat", *STEPS) == 0
    assert draw("edit", "minimuse.png", "a dog", "--before", "a cat", *STEPS) == 0
    recipe = read_recipe("edited.png")
    assert recipe["more"]["way"] == "read" and recipe["more"]["before"] == "a cat" and recipe["more"]["masks"] > 1
    sampling = recipe["settings"]["sampling"]["base"]
    assert (sampling["order"], sampling["law"], sampling["steps"]) == ("halton", "exp", 3)  # as mask_free.REDRAW says
    assert draw("edit", "minimuse.png", "a dog", "--iterations", 2, "--guidance", 2) == 0
    recipe = read_recipe("edited.png")
    assert recipe["settings"]["sampling"] == {} and (recipe["more"]["iterations"], recipe["more"]["guidance"]) == (
        2,
        2.0,
    )
    assert draw("interpolate", "a cat", "a dog", "--n", 2, *STEPS) == 0
    assert not {"guidance", "ramp", "critic"} & read_recipe("interpolated.png")["settings"]["sampling"]["base"].keys()
    capsys.readouterr()
    assert draw("edit", "minimuse.png", "a dog", "--found-mask", "e.png", "--out", "e.png") == 2
    assert "e.png" in capsys.readouterr().err


def test_long_work_is_estimated_and_files_are_kept_that_are_finished(draw, tmp_path, capsys, monkeypatch):
    """Ctrl-C, or an error, costs only the pictures that were not yet drawn."""
    monkeypatch.setattr("minimuse.studio.draw.BATCH", 2)
    each = ["--n", 5, *STEPS, "--each", "{number}.png"]
    assert draw("generate", "a cat", *each, "--json") == 0
    shown = capsys.readouterr()
    assert "2 of 5" in shown.err and json.loads(shown.out)["pictures"][4]["file"] == "4.png"
    whole = [pixels(f"{i}.png") for i in range(5)]
    for path in tmp_path.glob("*.png"):
        path.unlink()
    generate, calls = minimuse.Muse.generate, []

    def stopped(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, *arguments, **options)

    monkeypatch.setattr(minimuse.Muse, "generate", stopped)
    assert draw("generate", "a cat", *each) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png", "3.png"]
    assert all((pixels(f"{i}.png") == whole[i]).all() for i in range(4))


def test_letters_that_labels_lack_are_named(draw, capsys):
    assert draw("generate", "一只猫", *STEPS, "--labels") == 0
    assert "猫" in capsys.readouterr().err


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
