"""Figures from tiny arrays, and the explorer without a front end."""

import io
import re
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from minimuse import masking
from minimuse.data import scenes
from minimuse.decoding import Trace
from minimuse.muse import Muse
from minimuse.t5 import TextEncoder
from minimuse.teach import charts, display, explorers, figures, views

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


def png(figure) -> bytes:
    """What the figure looks like; drawing it also shows that it can be drawn."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", shown.append)
        display.with_alt(figure, "a figure")
    return shown[0].data


def generation(steps=4, batch=2, h=2, w=3):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 16, (steps, batch, h * w))
    hidden = np.arange(h * w) < np.array([5, 4, 2, 0])[:steps, None, None]
    trace = Trace(tokens, rng.random(tokens.shape), np.broadcast_to(hidden, tokens.shape))
    return SimpleNamespace(images=IMAGES[:batch], tokens=tokens[-1].reshape(batch, h, w), trace=trace)


def detokenize(tokens):
    return np.repeat(np.repeat(tokens, 4, 1), 4, 2)[..., None].repeat(3, -1).astype(np.uint8)


def test_image_grid():
    figure = figures.image_grid(IMAGES, list("abcde"), columns=3)
    assert len(figure.axes) == 5 and [ax.get_title() for ax in figure.axes] == list("abcde")
    assert png(figure).startswith(b"\x89PNG")
    assert len(figures.image_grid(IMAGES).axes) == 5
    with pytest.raises(ValueError, match=r"(?=.*\b5\b).*\b2\b"):
        figures.image_grid(IMAGES, ["a", "b"])
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\(8, 8, 3\)"):
        figures.image_grid(IMAGES[0])


def test_token_grid_writes_every_number():
    figure = figures.token_grid(np.array([[0, 7, 1023], [1024, 5, 6]]), mask_id=1024)
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "7", "1023", "M", "5", "6"]
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == ["////"]
    assert png(figure) != png(figures.token_grid(np.array([[0, 7, 1023], [1024, 5, 6]])))


def test_mask_grid_counts_and_hatches():
    masks = np.array([np.zeros((2, 3)), np.eye(2, 3)], bool)
    figure = figures.mask_grid(masks)
    assert [ax.get_title() for ax in figure.axes] == ["0 of 6 hidden", "2 of 6 hidden"]
    assert [len(ax.patches) for ax in figure.axes] == [0, 1]
    png(figure)


def test_hatches_lie_on_the_hidden_cell():
    figure = figures.mask_grid(np.array([[[False, False], [False, True]]]))
    corners = figure.axes[0].patches[0].get_path().get_extents()
    assert (corners.x0, corners.y0, corners.x1, corners.y1) == (0.5, 0.5, 1.5, 1.5)


def test_a_fine_mask_is_dark_where_hidden():
    mask = np.eye(32, dtype=bool)
    (ax,) = figures.mask_grid(mask[None]).axes
    assert (np.asarray(ax.images[0].get_array() < 0.5) == mask).all() and not ax.patches


def test_decode_steps():
    figure = figures.decode_steps(generation(), 1, detokenize)
    assert len(figure.axes) == 3 * 4 + 1  # and the colour bar
    assert [ax.get_title() for ax in figure.axes[:4]] == [f"step {s}" for s in (1, 2, 3, 4)]
    assert [ax.get_xlabel() for ax in figure.axes[4:8]] == [f"{k} of 6 kept" for k in (1, 2, 4, 6)]
    assert [ax.get_xlabel() for ax in figure.axes[8:12]] == [f"{k} kept just now" for k in (1, 1, 2, 2)]
    png(figure)
    assert len(figures.decode_steps(generation(), 0, detokenize, steps=[1, 4]).axes) == 3 * 2 + 1
    with pytest.raises(ValueError, match=r"image.*\b2\b"):
        figures.decode_steps(generation(), 2, detokenize)
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\[0, 1\]"):
        figures.decode_steps(generation(), 0, detokenize, steps=[0, 1])


def test_one_frame_of_the_decoding():
    figure = figures.decode_frame(generation(), 1, 3, detokenize)
    assert [ax.get_title() for ax in figure.axes] == [
        "1 hidden: 4 of 6",
        "2 probability; 2 kept",
        "3 whole guess",
        "4 kept so far: 4 of 6",
    ]
    written = [text.get_text() for text in figure.axes[3].texts]
    after = generation().trace.hidden[2, 1]
    assert written == [str(token) for token in np.asarray(generation().trace.tokens)[2, 1][~after]]
    png(figure)
    for image, step, message in (
        (2, 1, r"image.*\b2\b"),
        (0, 5, r"(?=.*\b4\b).*\bsteps?\b.*\b5\b"),
        (0, 0, r"(?=.*\b4\b).*\bsteps?\b.*\b0\b"),
    ):
        with pytest.raises(ValueError, match=message):
            figures.decode_frame(generation(), image, step, detokenize)


def test_training_curve():
    log = dict(step=np.arange(20), loss=np.linspace(4, 1, 20), accuracy=np.linspace(0, 1, 20))
    figure = charts.training_curve(dict(fixed=log, variable=log), ["loss", "accuracy"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy"]
    one, two = figure.axes[0].lines
    assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()
    png(figure)
    with pytest.raises(ValueError, match=r"(?=.*\bfixed\b).*\bpsnr\b"):
        charts.training_curve(dict(fixed=log), ["psnr"])


def test_discs_of_attention_have_the_weight_as_area():
    image, maps = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2, 2))
    maps[0], maps[1, 1, 0] = [[0.4, 0.1], [0.0, 0.2]], 0.03
    figure = figures.attention_over(image, maps, ["cat", "</s>"], hidden=[[True, False], [False, False]], at=(1, 0))
    one, two = figure.axes
    assert [ax.get_title() for ax in (one, two)] == ["cat\nup to 40%", "</s>\nup to 3%"]
    widths = [np.ptp(path.vertices[:, 0]) for path in one.collections[0].get_paths()]
    assert np.allclose(np.square(widths) / widths[0] ** 2, [1, 1 / 4, 0, 1 / 2])  # 0.1 and 0.2 of 0.4
    assert 3.5 < widths[0] < 4  # the greatest all but fills its cell of 4 pixels
    centre = two.collections[0].get_paths()[2].vertices.mean(0)
    assert np.allclose(centre, (1.5, 5.5), atol=0.3)  # row 1, column 0
    assert one.patches[0].get_hatch() and one.patches[-1].get_xy() == (-0.5, 3.5)
    png(figure)
    with pytest.raises(ValueError, match=r"(?=.*\b2\b).*\b1\b"):
        figures.attention_over(image, maps, ["cat"])


def test_training_curve_over_a_reference():
    log = dict(step=np.arange(1, 4), seconds=np.array([1.0, 2, 3]), loss=np.array([3.0, 2, 1]))
    bands = dict(loss=dict(low=[0.5, 0.4], middle=[2.0, 1.0], high=[4.0, 3.0]))
    reference = dict(step=[1, 3], seconds=[2.0, 6.0], metrics=bands)
    (ax,) = charts.training_curve(dict(yours=log), ["loss"], reference, against="seconds").axes
    corners = ax.collections[0].get_paths()[0].vertices.tolist()
    assert [2.0, 0.5] in corners and [6.0, 3.0] in corners  # the band runs over the reference's own seconds
    assert ax.collections[0].get_hatch() and ax.get_xlabel() == "seconds"
    assert [line.get_label() for line in ax.lines] == ["reference", "yours"]
    with pytest.raises(ValueError, match=r"\bpsnr\b.*\bloss\b"):
        charts.training_curve(dict(yours=log | dict(psnr=log["loss"])), ["psnr"], reference)


def test_bars_say_their_values():
    one, two = charts.bars(dict(psnr=dict(before=27.53, after=27.8), frechet=dict(before=0.0186, after=0.0118))).axes
    assert [text.get_text() for text in one.texts] == ["27.5", "27.8"] and one.get_title() == "psnr"
    assert [text.get_text() for text in two.texts] == ["0.0186", "0.0118"]
    assert [label.get_text() for label in two.get_xticklabels()] == ["before", "after"]


def test_seeds_shows_each_and_their_mean():
    (ax,) = charts.seeds({"val": {"frozen, random": [0.1, 0.3, 0.2], "learned": [0.5]}}).axes
    assert ax.get_title() == "val" and [text.get_text() for text in ax.texts] == ["0.2", "0.5"]
    rings = [line.get_xydata() for line in ax.lines]
    assert [len(points) for points in rings] == [3, 1] and list(rings[0][:, 1]) == [0.1, 0.3, 0.2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["frozen,\nrandom", "learned"]
    assert ax.get_ylim()[0] == 0


def test_mask_schedule():
    left, revealed = charts.mask_schedule(12, 64).axes
    assert [text.get_text() for text in revealed.texts] == "1 2 2 4 5 5 7 6 8 8 8 8".split()
    assert left.texts[-1].get_text() == "0"


def test_heat_map_writes_every_number():
    figure = charts.heat_map([[1, -0.001], [0.5, 0.25]], ["a", "b"], ["long name", "c"])
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.00", "0.50", "0.25"]
    assert [text.get_color() for text in ax.texts] == ["black", "white", "black", "white"]  # ink against its cell
    assert [label.get_text() for label in (*ax.get_yticklabels(), *ax.get_xticklabels())] == [
        "a",
        "b",
        "long name",
        "c",
    ]
    assert ax.get_xticklabels()[0].get_rotation() == 45
    png(figure)
    png(charts.heat_map(np.ones((1, 1)), [0], [0], digits=0))
    with pytest.raises(ValueError, match=r"(?=.*\b1\b).*\(2, 2\)"):
        charts.heat_map(np.ones((2, 2)), ["a"], ["b", "c"])


def test_line_plot_tells_curves_apart_by_more_than_colour():
    (ax,) = charts.line_plot(range(5), dict(one=np.arange(5), two=np.ones(5)), "layer", "share").axes
    one, two = ax.lines
    assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "share") and len(ax.get_legend().get_texts()) == 2
    assert charts.line_plot([0, 1], dict(one=[0, 1]), "x", "y").axes[0].get_legend() is None


def test_word_map_labels_every_word_and_hides_none():
    points = np.array([[0, 0], [0.001, 0], [1, 1], [0, 0.001]])
    words = ["cat", "kitty", "sun", "feline"]
    (ax,) = charts.word_map(points, words, ["animal", "animal", "nature", "animal"], [(0, 1), (0, 3)]).axes
    assert [text.get_text() for text in ax.texts] == words
    assert len({text.get_position() for text in (ax.texts[0], ax.texts[1], ax.texts[3])}) == 3  # not on each other
    *links, animals, nature = ax.lines
    assert [line.get_xdata().tolist() for line in links] == [[0, 0.001], [0, 0]]
    assert len(animals.get_xdata()) == 3 and animals.get_marker() != nature.get_marker()
    with pytest.raises(ValueError, match=r"(?=.*\b4\b).*\b3\b"):
        charts.word_map(points, words[:3], ["a"] * 4)


def test_ranking_says_its_values_from_top_to_bottom():
    (ax,) = charts.ranking(dict(cat=0.9471, dog=0.5)).axes
    assert [text.get_text() for text in ax.texts] == ["0.947", "0.500"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"] and ax.yaxis_inverted()


def test_rate_histograms_hold_every_draw():
    rates = {"uniform": np.array([0.01, 0.02, 0.51, 0.99]), "cubic": np.full(10, 0.72)}
    figure = charts.rate_histograms(rates, columns=3)
    one, two = figure.axes  # the third is gone
    assert [ax.get_title() for ax in (one, two)] == ["uniform, mean 0.50", "cubic, mean 0.75"]
    assert np.allclose([bar.get_height() for bar in one.patches], np.eye(20)[[0, 0, 10, 19]].sum(0) * 20 / 4)
    assert np.allclose(one.lines[0].get_ydata(), 1)
    png(figure)


def test_mask_laws_show_density_rate_and_steps():
    figure = charts.mask_laws(["cosine", "square root"], 8, 64)
    density, rate, revealed = figure.axes
    for one, two in (ax.lines for ax in figure.axes):
        assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()
    assert [text.get_text() for text in density.get_legend().get_texts()] == ["cosine", "square root"]
    assert revealed.lines[0].get_ydata().tolist() == [2, 3, 6, 8, 10, 11, 12, 12]
    assert np.allclose(rate.lines[1].get_ydata()[25], 0.5) and np.allclose(density.lines[1].get_ydata()[99], 1)
    looks = {(line.get_linestyle(), line.get_marker()) for line in charts.mask_laws(list(masking.LAWS)).axes[0].lines}
    assert len(looks) == len(masking.LAWS)


def test_mask_laws_hide_as_many_places_as_the_law_says():
    figure = charts.mask_laws(["uniform", "arccos"], 1, 1024, masks=True)
    uniform, arccos = (part.axes for part in figure.subfigs[1].subfigs)
    assert [ax.get_title() for ax in uniform] == ["r = 0.88", "r = 0.62", "r = 0.38", "r = 0.12"] * 2
    fine = [np.asarray(ax.images[0].get_array()) < 0.5 for ax in uniform[4:]]
    assert [mask.sum() for mask in fine] == [896, 640, 384, 128]
    assert (fine[0] | ~fine[1]).all()  # what is hidden later was hidden before
    assert len(arccos) == 8 and all(len(ax.patches) == 1 for ax in arccos[:4])
    png(figure)


def test_alt_text_is_on_the_image():
    bundle = display.Picture(b"bytes", "image/png", 'a "cat" & a dog')._repr_mimebundle_()
    assert 'alt="a &quot;cat&quot; &amp; a dog"' in bundle["text/html"]
    assert bundle["text/html"].startswith('<img src="data:image/png;base64,Ynl0ZXM="')
    assert "image/png" not in bundle  # front ends would show it without its alt text
    assert bundle["text/plain"] == 'Figure: a "cat" & a dog'
    with pytest.raises(ValueError, match=r"\balt\b"):
        display.Picture(b"bytes", "image/png", " ")


def lit(picture) -> list[str]:
    tree = ElementTree.fromstring(picture.data)  # also: it is well-formed
    return [g.get("id") for g in tree.iter("{http://www.w3.org/2000/svg}g") if "lit" in g.get("class", "").split()]


def test_pipeline_lights_one_box():
    plain = display.pipeline()
    boxes = re.findall(r'<g id="(\w+)" class="box', plain.data.decode())
    assert {"caption", "text", "base", "masking", "decoding", "guidance", "superres", "decoder", "encoder"} < set(boxes)
    assert lit(plain) == []
    for box in boxes:
        assert lit(display.pipeline(box)) == [box]
    here = display.pipeline("base").alt.removeprefix(plain.alt)
    assert "base transformer" in here and len(here) < len(plain.alt) and "guidance" in plain.alt
    with pytest.raises(ValueError, match=r"\bbass\b.*\bbase\b"):
        display.pipeline("bass")


class FakeMuse:
    """Takes what Muse.generate takes; draws its seed."""

    configs = {"base": SimpleNamespace(grid=(8, 8))}
    sampling = SimpleNamespace(guidance=(3.0, 0.0), steps=(12, 8))

    def __init__(self):
        self.calls = []

    def generate(self, caption, n=1, seed=0, *, steps, guidance):
        self.calls.append((caption, seed, steps, guidance))
        if not 1 <= steps <= 64:
            raise ValueError(f"steps must be a whole number from 1 to 64; it was {steps}.")
        return np.full((n, 8, 8, 3), seed, np.uint8)


def test_first_picture_draws_or_says_why_not():
    image, words = views.first_picture(FakeMuse(), "a cat", guidance=2.5, steps=1, seed=9)
    assert image.shape == (8, 8, 3) and image[0, 0, 0] == 9
    assert all(said in words for said in ("a cat", "guidance 2.5", "1 step", "seed 9"))
    assert views.first_picture(FakeMuse(), "a cat", steps=65) == (
        None,
        "steps must be a whole number from 1 to 64; it was 65.",
    )
    for nothing in ("", "  ", None):
        image, words = views.first_picture(FakeMuse(), nothing)
        assert image is None and "caption" in words


def said(capsys) -> str:
    """What was printed, its lines joined."""
    return " ".join(capsys.readouterr().out.split())


def is_said(capsys, *pieces: str) -> bool:
    """Whether all of these were printed."""
    words = said(capsys)
    return all(piece in words for piece in pieces)


def controls(widget):
    for child in getattr(widget, "children", ()):
        yield from controls(child)
    if hasattr(widget, "description"):
        yield widget


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


def test_a_scene_is_browsed_by_split_and_task():
    for split in scenes.SPLITS:
        for task in scenes.tasks_of(split):
            image, words = views.browse_scene(split, task, 2, size=32)
            assert image.shape == (32, 32, 3) and ": object " in words
    placed, moved = (views.browse_scene("val", "position", 5, lattice=lattice)[0] for lattice in (True, False))
    assert (moved != placed).any()
    image, words = views.browse_scene("unseen_pairs", "one")
    assert image is None and all(name in words for name in ("unseen_pairs", "one", "two, position, binding"))


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


@pytest.fixture(scope="module")
def tokenizer():
    """The shipped tokenizer with pictures and their tokens, three scenes of one object."""
    muse = Muse.from_pretrained("tiny")
    images = scenes.render_batch([scenes.example("train", 6 * i)[0] for i in range(3)])
    return muse, images, muse.tokenize(images)


def test_a_code_is_shown_painted_and_where_it_occurs(tokenizer):
    muse, images, tokens = tokenizer
    code = int(tokens[1, 0, 0])
    shown, titles, words = views.code_pictures(muse, code, images, tokens, most=3)
    assert shown.shape[1:] == (24, 24, 3) and len(shown) == len(titles) and "3 x 3" in titles[0]
    assert f"{code}: {(tokens == code).sum()} of 192" in words
    for picture, title in zip(shown[1:], titles[1:]):  # a patch, each pixel three wide
        image = images[int(title.split()[-1])]
        patches = image.reshape(8, 8, 8, 8, 3).swapaxes(1, 2).reshape(64, 8, 8, 3)
        assert (patches == picture[::3, ::3]).all((1, 2, 3)).any()
    unused = int(np.setdiff1d(np.arange(1024), tokens)[0])
    shown, titles, words = views.code_pictures(muse, unused, images, tokens)
    assert len(shown) == 1 and f"{unused}: 0 of 192" in words


def test_the_code_explorer_goes_by_frequency(tokenizer, capsys):
    muse, images, tokens = tokenizer
    (rank,) = controls(explorers.code_explorer(muse, images, tokens))
    assert rank.description == "Rank"
    capsys.readouterr()
    rank.value = 1
    assert said(capsys).count(f" {np.bincount(tokens.ravel()).argmax()}:") == 1


def test_a_token_is_swapped(tokenizer, capsys):
    muse, _, tokens = tokenizer
    pair, words = views.swap_token(muse, tokens[0], 2, 5, int(tokens[0, 2, 5]))
    assert (pair[0] == pair[1]).all() and "0.0%" in words
    before = tokens.copy()
    found = {c.description: c for c in controls(explorers.token_editor(muse, tokens[0]))}
    assert list(found) == ["Row", "Column", "New code"]
    found["Row"].value, found["Column"].value, found["New code"].value = 2, 5, int(tokens[1, 0, 0])
    assert f"{tokens[0, 2, 5]} -> {tokens[1, 0, 0]}" in said(capsys)
    assert (tokens == before).all()


class FakeEncoder:
    """One token a word; its vector is that of its first letter, two to a direction: c and k, d and p."""

    directions = TextEncoder.directions

    def encode(self, captions):
        self.captions = captions
        mask = np.zeros((len(captions), 9), bool)
        vectors = np.zeros((len(captions), 9, 13))
        for row, caption in enumerate(captions):
            for place, word in enumerate(caption.split()):
                mask[row, place] = True
                letter = dict(k="c", p="d").get(word[0], word[0])
                vectors[row, place, ord(letter) % 13] = 1
        return vectors, mask


def test_near_words_are_ranked_or_it_says_why_not():
    near, words = views.near_words(FakeEncoder(), " kitty ", n=3)
    assert all(name[0] == "c" for name in near) and np.allclose(list(near.values()), 1)
    assert "a kitty" in words and words.endswith(", ".join(f"{name} 1.000" for name in near))
    far = views.near_words(FakeEncoder(), "kitty", n=74)[0]
    assert list(far) != list(near) and list(far.values()) == sorted(far.values(), reverse=True) and len(far) == 74
    encoder = FakeEncoder()
    views.near_words(encoder, "kitty", "two {}")
    assert encoder.captions[:2] == ["two kitties", "two cats"]
    for wrong in (("  ", "a {}"), ("kitty", "a cat")):
        near, words = views.near_words(FakeEncoder(), *wrong)
        assert near is None and "{}" in words


def test_the_word_explorer_follows_its_controls(capsys):
    found = {c.description: c for c in controls(explorers.nearest_words(FakeEncoder()))}
    assert list(found) == ["Word", "Frame"] and "puppy" in found["Word"].options
    assert "a kitty" in said(capsys)
    found["Word"].value = "hound"
    found["Frame"].value = "two {}"
    assert "two hounds" in said(capsys)
    found["Word"].value = ""
    assert "{}" in said(capsys)  # an answer has none


def test_two_laws_are_compared_or_it_says_why_not():
    figure, words = views.compare_laws("cosine", "arccos", 64, 12)
    assert len(figure.axes) == 3 + 2 * 8
    one, two = (re.findall(r"[\d.]+%?", law) for law in words.split(";"))
    assert words.startswith("cosine: ") and "; arccos: " in words  # mean; above 0.9; revealed at the first and the last
    assert one == ["0.64", "29%", "0.9", "1", "64", "8"] and two == ["0.64", "16%", "0.9", "4", "64", "16"]
    figure, words = views.compare_laws("log", "log")
    assert len(figure.axes) == 3 + 8 and ";" not in words
    figure, words = views.compare_laws(tokens=64, steps=65)
    assert figure is None and "65" in words and "64" in words


def test_the_schedule_explorer_follows_its_controls(capsys):
    found = {c.description: c for c in controls(explorers.schedule_explorer())}
    assert list(found) == ["First law", "Second law", "Tokens N", "Steps T"]
    assert found["First law"].options == tuple(masking.LAWS) and found["Steps T"].max <= min(found["Tokens N"].options)
    out = capsys.readouterr().out
    assert views.compare_laws()[1] in " ".join(out.split()) and max(map(len, out.splitlines())) <= 96
    found["Second law"].value, found["Tokens N"].value, found["Steps T"].value = "square root", 256, 24
    assert views.compare_laws("cosine", "square root", 256, 24)[1] in said(capsys)


def test_attention_to_words_is_shared_out_among_the_pieces(micro):
    caption, tokens = "a cat left of a dog", np.arange(64).reshape(8, 8) % 64
    pieces, weights = views.word_attention(micro, tokens, caption)
    assert pieces == views.caption_pieces(micro, caption) and pieces[-1] == "</s>" and "cat" in pieces
    assert weights.shape == (2, 2, len(pieces), 8, 8)
    assert np.allclose(weights.sum(2), 1, atol=1e-4)  # nothing goes to the padding
    assert np.ptp(weights, axis=(3, 4)).max() > 0.01
    other = views.word_attention(micro, np.full((8, 8), 64), caption)[1]
    assert np.abs(other - weights).max() > 0.01  # the tokens that look matter


def test_attention_weights_are_those_of_the_layer(micro):
    # What a layer sees through the weights is what the layer itself sees.
    graphdef, params = micro.graphdefs["base"], micro.params["base"]
    tokens = np.arange(64)[None]
    text, mask = micro.text.encode(["two red hearts"])
    model = nnx.merge(graphdef, params)
    keys, values = (x[0] for x in model.text_keys_values(text))
    weights = views.attention_to_text(graphdef, params, tokens, text, mask)[0]  # [B, heads, N, S], first layer
    seen = np.einsum("bhns,bshd->bnhd", weights, values).reshape(1, 64, -1)
    x = model.embed(tokens) + (model.rows[...] + model.columns[...]).reshape(1, 64, -1)
    silent = jax.tree.map(lambda array: array, params)
    silent["blocks"]["down"]["kernel"] = 0 * silent["blocks"]["down"]["kernel"]  # no MLP: the branch alone is left
    block = jax.tree.map(lambda array: array[0], nnx.merge(graphdef, silent).blocks)
    branch = block(x, keys, values, mask) - block(x, keys, values, np.zeros_like(mask))
    np.testing.assert_allclose(branch, seen @ params["blocks"]["cross_out"]["kernel"][0], atol=1e-3)


def test_where_a_picture_looks_is_drawn_and_said(micro):
    tokens, hidden = np.zeros((8, 8), int), np.arange(64).reshape(8, 8) < 16
    figure, words = views.where_it_looks(micro, tokens, "a cat", 1, layer=2, hidden=hidden)
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["mean of heads", "head 1", "head 2"]
    assert all(said in words for said in ("“cat” in “a cat”", "layer 2 of 2", "16 of 64"))
    shown = np.where(hidden, 64, tokens)
    weights = views.word_attention(micro, shown, "a cat")[1][1, :, 1]
    assert figure.axes[1].get_title().endswith(f"{weights[0].max():.0%}")
    words = views.where_it_looks(micro, tokens, "a cat", 0)[1]
    assert "all layers" in words and " 0 of 64" in words


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
    found["Caption"].value = 1  # other words; the menu follows
    assert said(capsys).count("“dog” in “a dog above a sun”") == 1
    assert [label for label, _ in found["Word"].options][-2:] == ["5: sun", "6: </s>"]


def test_a_frame_is_told_in_words(micro):
    generation = micro.generate("a cat", steps=3, trace=True)
    words = views.decode_frame(micro, generation, 1)[1]
    assert re.match(r"step 1 of 3\b.*\b64\b.*\b9\b.* 0\.\d\d\b.*\b55\b.* 0\.\d\d$", words)
    last = views.decode_frame(micro, generation, 3)[1]
    assert last.startswith("step 3 of 3") and len(re.findall(r"\b0\.\d\d\b", last)) == 1  # nothing is hidden again


def test_the_theatre_follows_its_controls(micro, capsys):
    found = {c.description: c for c in controls(explorers.decode_theatre(micro, "a cat"))}
    assert list(found) == ["Caption", "Seed", "Order", "Temperature", "Steps T", "Step"]
    assert is_said(capsys, "step 1 of 12", "64 hidden")
    found["Step"].value = 12
    assert "step 12 of 12" in said(capsys)
    found["Steps T"].value = 3  # the slider of the steps comes along, and what it shows
    assert said(capsys).count("step 3 of 3") == 1 and found["Step"].max == 3
    found["Order"].value = "halton"
    assert "step 3 of 3" in said(capsys)
    found["Caption"].value = ""  # no caption is one, too
    assert "step 3 of 3" in said(capsys)


def test_fewer_colours_make_a_smaller_file(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = figures.image_grid(IMAGES)
    for colours in (None, 16):
        display.with_alt(figure, "noise", colours=colours)
    whole, few = (Image.open(io.BytesIO(picture.data)) for picture in shown)
    assert len(few.getcolors()) <= 16 < len(whole.convert("RGB").getcolors(10**6)) and few.size == whole.size
    assert len(shown[1].data) < len(shown[0].data)


def test_cells_become_a_mask_and_are_drawn_anew(micro):
    assert views.cells_mask([(0, 1)], (2, 2), (4, 4)).astype(int).tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2
    image = micro.generate("a cat", steps=1)[0]
    new, words = views.redraw_cells(micro, image, {(3, 4)}, "a dog", seed=2)
    assert words.startswith("1 ") and "a dog" in words and "seed 2" in words
    inside = np.zeros((64, 64), bool)
    inside[24:32, 32:40] = True
    assert (new[~inside] == image[~inside]).all()
    for cells, caption in (((), "a dog"), ({(0, 0)}, " ")):  # without places; without a caption
        new, words = views.redraw_cells(micro, image, cells, caption)
        assert new is None and words and ("caption" in words) == bool(cells)


def test_the_editing_desk_follows_its_controls(micro, capsys):
    image = micro.generate("a cat", steps=1)[0]
    parts = list(controls(explorers.editing_desk(micro, image)))
    found = {c.description: c for c in parts if c.description.strip()}
    assert list(found) == ["Caption", "Seed", "Rows", "Columns", "Choose box", "Choose all", "Clear", "Draw", "Undo"]
    places = {c.tooltip: c for c in parts if not c.description.strip()}
    assert len(places) == 64 and all(c.style.button_color.startswith("#") for c in places.values())
    assert all(c.description for c in places.values())  # a browser keeps the text of a button that shall have none
    chosen = lambda: {name for name, c in places.items() if c.description == "x"}
    capsys.readouterr()
    found["Draw"].click()
    words = said(capsys)
    assert words and "seed" not in words  # nothing was drawn
    places["row 1, column 2"].click()
    assert chosen() == {"row 1, column 2"}
    places["row 1, column 2"].click()
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
    assert "0 iterations" in said(capsys)
