"""The explorers without a front end: each control has a label, and what is shown follows it."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from samples import FakeEncoder, FakeMuse, controls, is_said, said, three_scenes

from minimuse import masking
from minimuse.teach import display, explorers, views


@pytest.fixture(autouse=True)
def not_drawn(request, monkeypatch):
    """Figures are checked for their type and alt text, but not drawn, except in the first test: that takes seconds."""

    def shown(figure, text, dpi=100, colours=None):
        assert isinstance(figure, Figure) and text.strip()

    if request.function is not test_first_pictures_follows_its_controls:
        monkeypatch.setattr(display, "with_alt", shown)


def test_first_pictures_follows_its_controls(capsys):
    muse = FakeMuse()
    found = {c.description: c for c in controls(explorers.first_pictures(muse, "a cat"))}
    assert list(found) == ["Caption", "Guidance t", "Steps", "Seed", "Next seed"]  # each has a label
    assert muse.calls == [("a cat", 0, 12, 3.0)]
    found["Steps"].value = 1
    found["Next seed"].click()
    assert muse.calls[1:] == [("a cat", 0, 1, 3.0), ("a cat", 1, 1, 3.0)]
    found["Seed"].value = found["Seed"].max
    found["Next seed"].click()
    assert muse.calls[-1][1] == 0
    capsys.readouterr()
    found["Caption"].value = " "
    assert "caption" in said(capsys) and len(muse.calls) == 5


def test_the_scene_browser_follows_its_controls(capsys):
    found = {c.description: c for c in controls(explorers.scene_browser())}
    assert list(found) == ["Split", "Task", "Scene", "Pixels", "On the lattice"]
    assert views.browse_scene("train", "position", 0)[1] in said(capsys)
    found["Task"].value = "counting"
    found["Scene"].value = 3
    assert views.browse_scene("train", "counting", 3)[1] in said(capsys)
    found["Split"].value = "unseen_pairs"
    words = said(capsys)
    assert "unseen_pairs" in words and "counting" in words and "binding" in words


def test_the_code_explorer_goes_by_frequency(micro, capsys):
    images, tokens = three_scenes(micro)
    (rank,) = controls(explorers.code_explorer(micro, images, tokens))
    assert rank.description == "Rank"
    capsys.readouterr()
    rank.value = 1
    assert said(capsys).count(f" {np.bincount(tokens.ravel()).argmax()}:") == 1


def test_the_token_editor_follows_its_controls(micro, capsys):
    _, tokens = three_scenes(micro)
    before = tokens.copy()
    found = {c.description: c for c in controls(explorers.token_editor(micro, tokens[0]))}
    assert list(found) == ["Row", "Column", "New code"]
    found["Row"].value, found["Column"].value, found["New code"].value = 2, 5, int(tokens[1, 0, 0])
    assert f"{tokens[0, 2, 5]} -> {tokens[1, 0, 0]}" in said(capsys)
    assert (tokens == before).all()


def test_the_word_explorer_follows_its_controls(capsys):
    found = {c.description: c for c in controls(explorers.nearest_words(FakeEncoder()))}
    assert list(found) == ["Word", "Frame"] and "puppy" in found["Word"].options
    assert "a kitty" in said(capsys)
    found["Word"].value = "hound"
    found["Frame"].value = "two {}"
    assert "two hounds" in said(capsys)
    found["Word"].value = ""
    assert "{}" in said(capsys)  # an answer has none


@pytest.mark.slow
def test_the_schedule_explorer_follows_its_controls(capsys):
    found = {c.description: c for c in controls(explorers.schedule_explorer())}
    assert list(found) == ["First schedule", "Second schedule", "Tokens N", "Steps T"]
    assert found["First schedule"].options == tuple(masking.LAWS) and found["Steps T"].max <= min(
        found["Tokens N"].options
    )
    out = capsys.readouterr().out
    assert views.compare_laws()[1] in " ".join(out.split()) and max(map(len, out.splitlines())) <= 96
    found["Second schedule"].value, found["Tokens N"].value, found["Steps T"].value = "square root", 256, 24
    assert views.compare_laws("cosine", "square root", 256, 24)[1] in said(capsys)


def test_the_attention_explorer_follows_its_controls(micro, capsys):
    tokens = np.zeros((2, 8, 8), int)
    widget = explorers.attention_explorer(micro, ["a cat", "a dog above a sun"], tokens)
    found = {c.description: c for c in controls(widget)}
    assert list(found) == ["Caption", "Word", "Layer", "Hidden"]
    assert is_said(capsys, "“cat” in “a cat”", "all layers", "32 of 64")
    found["Layer"].value, found["Hidden"].value = 2, 1.0
    assert is_said(capsys, "“cat” in “a cat”", "layer 2 of 2", "64 of 64")
    found["Word"].value = 2
    assert "“</s>” in “a cat”" in said(capsys)
    found["Caption"].value = 1  # different words; the menu follows
    assert said(capsys).count("“dog” in “a dog above a sun”") == 1
    assert [label for label, _ in found["Word"].options][-2:] == ["5: sun", "6: </s>"]


def test_the_theatre_follows_its_controls(micro, capsys):
    found = {c.description: c for c in controls(explorers.decode_theatre(micro, "a cat"))}
    assert list(found) == ["Caption", "Seed", "Order", "Law", "Temperature", "Steps T", "Step"]
    assert is_said(capsys, "step 1 of 12", "64 hidden")
    found["Step"].value = 12
    assert "step 12 of 12" in said(capsys)
    found["Steps T"].value = 3  # the slider over the steps follows, and so does what it shows
    assert said(capsys).count("step 3 of 3") == 1 and found["Step"].max == 3
    found["Order"].value = "halton"
    assert is_said(capsys, "step 3 of 3", "32 hidden")
    found["Law"].value = "exp"
    assert is_said(capsys, "step 3 of 3", "52 hidden")
    found["Caption"].value = ""  # an empty caption works as well
    assert "step 3 of 3" in said(capsys)


def test_the_theatre_begins_with_what_it_is_given(micro, capsys):
    own = micro.sampling["base"]
    found = {c.description: c for c in controls(explorers.decode_theatre(micro, "a cat", order="random", law="square"))}
    assert (found["Order"].value, found["Law"].value) == ("random", "square") != (own.order, own.law)
    found = {c.description: c for c in controls(explorers.decode_theatre(micro, "a cat"))}
    assert (found["Order"].value, found["Law"].value) == (own.order, own.law)


def test_the_editing_desk_follows_its_controls(micro, capsys):
    image = micro.generate("a cat", steps=1)[0]
    parts = list(controls(explorers.editing_desk(micro, image)))
    found = {c.description: c for c in parts if c.description.strip()}
    assert list(found) == ["Caption", "Seed", "Rows", "Columns", "Choose box", "Choose all", "Clear", "Draw", "Undo"]
    cells = {c.tooltip: c for c in parts if not c.description.strip()}
    assert len(cells) == 64 and all(c.style.button_color.startswith("#") for c in cells.values())
    assert all(c.description for c in cells.values())  # a browser keeps the old text if the new one is empty
    chosen = lambda: {name for name, c in cells.items() if c.description == "x"}
    capsys.readouterr()
    found["Draw"].click()
    words = said(capsys)
    assert words and "seed" not in words  # nothing was drawn
    cells["row 1, column 2"].click()
    assert chosen() == {"row 1, column 2"}
    cells["row 1, column 2"].click()
    assert not chosen()
    found["Rows"].value, found["Columns"].value = (1, 2), (3, 3)
    found["Choose box"].click()
    assert chosen() == {"row 1, column 3", "row 2, column 3"}
    found["Draw"].click()
    assert is_said(capsys, "2 ", "a cat on a blue background", "seed 0") and not chosen()
    found["Choose all"].click()
    assert len(chosen()) == 64
    found["Clear"].click()
    found["Undo"].click()
    assert "0 edits" in said(capsys)
    found["Undo"].click()
    assert "0 edits" in said(capsys)


def test_the_mask_free_editor_follows_its_controls(micro, capsys):
    image = micro.generate("a cat", steps=1)[0]
    found = {c.description: c for c in controls(explorers.mask_free_editor(micro, image, iterations=6))}
    assert list(found) == ["Caption", "Guidance t", "Seed", "Iteration"]
    assert "3 iterations" in said(capsys)
    found["Iteration"].value = 0
    assert is_said(capsys, "0 iterations", " 0%")
    found["Caption"].value = "three dogs"
    assert is_said(capsys, "0 iterations", "of 64 base tokens")
