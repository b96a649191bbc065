"""What is behind the app's buttons, without gradio; and what the command says where gradio is missing."""

import importlib.util
import os
import sys
import types

import numpy as np
import pytest
from PIL import Image
from test_cli import run

import minimuse as mm
from minimuse.studio import app, desk
from minimuse.studio.desk import Desk, brushed, enlarged
from minimuse.studio.recipes import read_recipe

WORDS = ("a cat", "")


@pytest.fixture(scope="module")
def table(micro_folder, tmp_path_factory):
    """A desk with the micro checkpoint, whose pictures are 64 x 64."""
    return Desk(mm.Muse.from_pretrained(micro_folder), tmp_path_factory.mktemp("desk"), str(micro_folder))


@pytest.fixture(scope="module")
def picture(table):
    return table.generate(*WORDS, 1, 3, 3, 0.0)[0][0]


def painted(pixels, box):
    """An image editor's value: a picture, and a layer with a white box."""
    layer = np.zeros((*pixels.shape[:2], 4), np.uint8)
    layer[box] = 255
    return dict(
        background=np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]), layers=[layer], composite=None
    )


def test_pictures_are_those_of_generate_and_keep_their_recipes(table, picture):
    (expected,) = table.muse.generate("a cat", seed=3, steps=3, guidance=0.0)
    np.testing.assert_array_equal(picture.pixels, expected)
    recipe = read_recipe(picture.path)
    assert recipe["pictures"] == [dict(caption="a cat", negative="", seed=3, index=0)]
    assert recipe["settings"]["sampling"]["base"]["steps"] == 3
    np.testing.assert_array_equal(np.asarray(Image.open(picture.path)), expected)


def test_a_shown_picture_comes_back_as_it_was(table, picture):
    large = enlarged(picture.pixels)
    assert large.shape == (512, 512, 3)
    np.testing.assert_array_equal(table.small(large), picture.pixels)
    np.testing.assert_array_equal(table.small(picture.pixels), picture.pixels)
    wide = np.concatenate([picture.pixels, picture.pixels[:, :16]], 1)
    np.testing.assert_array_equal(table.small(enlarged(wide)), wide)
    assert table.small(np.zeros((300, 417, 3), np.uint8)).shape == (64, 64, 3)  # a photograph: its middle square


def test_only_what_is_painted_over_changes(table, picture):
    box = np.s_[128:256, 64:192]
    (drawn,), words = table.inpaint(painted(enlarged(picture.pixels), box), *WORDS, 5)
    small = np.zeros((64, 64), bool)
    small[16:32, 8:24] = True
    changed = (drawn.pixels != picture.pixels).any(-1)
    assert changed.any() and not (changed & ~small).any() and "64 x 64" in words and "seed 5" in words


def test_outpainting_and_editing(table, picture):
    large = enlarged(picture.pixels)
    (wider,), _ = table.outpaint(large, *WORDS, 0, 0, 2, 0, 1)
    assert wider.pixels.shape == (72, 80, 3)
    np.testing.assert_array_equal(wider.pixels[:64, :64], picture.pixels)
    (taller,), _ = table.outpaint(enlarged(wider.pixels), *WORDS, 0, 0, 0, 1, 0)  # extended again
    np.testing.assert_array_equal(taller.pixels[8:], wider.pixels)
    (edited,), _ = table.edit(large, "a dog", "", 0, "a cat")
    recipe = read_recipe(edited.path)
    assert edited.pixels.shape == (64, 64, 3) and recipe["command"] == "edit"
    assert recipe["more"]["before"] == "a cat" and recipe["settings"]["sampling"]["base"]["order"] == "halton"


def test_a_large_square_keeps_its_size_when_it_is_inpainted(table, picture):
    (square,), _ = table.outpaint(enlarged(picture.pixels), *WORDS, 0, 0, 2, 2, 0)
    assert square.pixels.shape == (80, 80, 3)
    large = enlarged(square.pixels)
    (drawn,), _ = table.inpaint(painted(large, np.s_[:60, :60]), *WORDS, 5)
    assert drawn.pixels.shape == (80, 80, 3)
    np.testing.assert_array_equal(drawn.pixels[16:], square.pixels[16:])


@pytest.mark.parametrize(
    "act, value",
    [
        (lambda d, p: d.generate("  ", "", 1, 0, 3, 0), "caption"),
        (lambda d, p: d.generate("a cat", "", 1, 0.5, 3, 0), "0.5"),
        (lambda d, p: d.generate("a cat", "", 1, None, 3, 0), "None"),
        (lambda d, p: d.generate("a cat", "", 1, float("nan"), 3, 0), "nan"),
        (lambda d, p: d.generate("a cat", "", None, 0, 3, 0), "None"),
        (lambda d, p: d.generate("a cat", "", 1, 0, float("inf"), 0), "inf"),
        (lambda d, p: d.outpaint(p, *WORDS, 0, 0, None, 0, 0), "None"),
        (lambda d, p: d.outpaint(p, *WORDS, 0, 0, -1, 0, 0), "-8"),
        (lambda d, p: d.inpaint(None, *WORDS, 0), "no picture"),
        (lambda d, p: d.inpaint(dict(background=None, layers=[]), *WORDS, 0), "no picture"),
        (lambda d, p: d.inpaint(painted(p, np.s_[:0]), *WORDS, 0), "painted"),
        (lambda d, p: d.outpaint(p, *WORDS, 0, 0, 0, 0, 0), "at least one side"),
        (lambda d, p: d.edit(None, *WORDS, 0, ""), "no picture"),
        (lambda d, p: d.edit(np.zeros((64, 96, 3), np.uint8), *WORDS, 0, ""), "96 x 64"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(table, picture, act, value):
    with pytest.raises(ValueError) as error:
        act(table, picture.pixels)
    assert value in str(error.value)


def test_paint_of_any_layer_counts():
    value = painted(np.zeros((8, 8, 3), np.uint8), np.s_[:2, :2])
    value["layers"] += painted(np.zeros((8, 8, 3), np.uint8), np.s_[6:, 6:])["layers"]
    pixels, mask = brushed(value)
    assert pixels.shape == (8, 8, 3) and mask.sum() == 8


def test_without_gradio_one_sentence_says_how_to_install_it(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else find(name, *more)
    )
    assert run("app") == 2
    error = capsys.readouterr().err
    assert "gradio" in error and "pip install" in error and error.count("\n") == 1
    assert run("app", "--port", "0") == 2 and "0" in capsys.readouterr().err


@pytest.mark.parametrize("error, code", [(OSError("Cannot find empty port\n"), 2), (KeyboardInterrupt(), 130)])
def test_nothing_is_left_when_it_ends(error, code, micro_folder, monkeypatch, capsys):
    """Also by Ctrl-C, and where its port is taken. Without gradio."""
    folders, closed = [], []

    def launch(page, port, browser):
        raise error

    def build(desk):
        desk.generate(*WORDS, 1, 3, 3, 0.0)
        folders.append(desk.folder)
        assert len(list(desk.folder.iterdir())) == 1 and os.environ["GRADIO_TEMP_DIR"].startswith(str(desk.folder))
        return types.SimpleNamespace(close=lambda verbose: closed.append(1))

    monkeypatch.setitem(sys.modules, "minimuse.studio.page", types.SimpleNamespace(build=build, launch=launch))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert run("app", "--checkpoint", micro_folder, "--port", "7861") == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and (code == 130 or "7861" in said)
    assert closed and not folders[0].exists()


def test_it_is_private(monkeypatch, tmp_path):
    for name in ("GRADIO_ANALYTICS_ENABLED", "NO_PROXY", "no_proxy", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "a.example" if "roxy" in name.lower() else "True")
    app.be_private(str(tmp_path))
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and app.HOST == "127.0.0.1"
    assert os.environ["NO_PROXY"].split(",") == ["a.example", "127.0.0.1", "localhost"]


def test_the_page_has_every_button(table):
    pytest.importorskip("gradio")
    from minimuse.studio import page

    shown = page.build(table)
    values = {block.value for block in shown.blocks.values() if type(block).__name__ == "Button"}
    assert len(values) >= 4 and not shown.analytics_enabled
    assert desk.SHOWN % table.side == 0
