"""Charts from tiny arrays."""

import numpy as np
import pytest
from samples import png

from minimuse import masking
from minimuse.teach import charts


def test_training_curve():
    log = dict(step=np.arange(20), loss=np.linspace(4, 1, 20), accuracy=np.linspace(0, 1, 20))
    figure = charts.training_curve(dict(fixed=log, variable=log), ["loss", "accuracy"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy"]
    one, two = figure.axes[0].lines
    assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()
    assert one.get_markevery()[-1] == 19 and not any(ax.get_legend() for ax in figure.axes)  # it is above the panels
    png(figure)
    (ax,) = charts.training_curve(dict(fixed=log), ["loss"], logarithmic=["loss"]).axes
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match=r"(?=.*\bfixed\b).*\bpsnr\b"):
        charts.training_curve(dict(fixed=log), ["psnr"])


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


def test_sweeps_mark_every_value():
    log = dict(t=[0.0, 0.5, 10.0], distance=[0.4, 0.2, 30.0])
    (ax,) = charts.sweeps(dict(ramp=log, constant=log), ["distance"], "t", log=("t", "distance")).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("symlog", "log")  # only t holds a 0
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "10"]
    one, two = ax.lines
    assert one.get_marker() != two.get_marker() and one.get_linestyle() != two.get_linestyle()


def test_trade_off_labels_do_not_cover_each_other():
    steps = [1, 2, 4, 8]
    curves = {"a": ([0.1, 0.2, 0.21, 0.22], [10, 50, 50, 51], steps), "b": ([0.2, 0.4], [51, 52], ["", 50])}
    figure = charts.trade_off({"seconds": curves}, "fidelity, %", (0.1, 0.4), loose=("b",))
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == ["1", "2", "4", "8", "", "50"]
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert [line.get_linestyle() for line in ax.lines] == ["-", "None"]


def test_bars_say_their_values():
    one, two = charts.bars(dict(psnr=dict(before=27.53, after=27.8), frechet=dict(before=0.0186, after=0.0118))).axes
    assert [text.get_text() for text in one.texts] == ["27.5", "27.8"] and one.get_title() == "psnr"
    assert [text.get_text() for text in two.texts] == ["0.0186", "0.0118"]
    assert [label.get_text() for label in two.get_xticklabels()] == ["before", "after"]


def test_seeds_shows_each_and_their_mean():
    (ax,) = charts.seeds({"val": {"frozen, random": [0.1, 0.3, 0.2], "learned": [0.5]}}).axes
    assert ax.get_title() == "val" and [text.get_text() for text in ax.texts] == ["0.200", "0.500"]
    rings = [line.get_xydata() for line in ax.lines]
    assert [len(points) for points in rings] == [3, 1] and list(rings[0][:, 1]) == [0.1, 0.3, 0.2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["frozen,\nrandom", "learned"]
    assert ax.get_ylim()[0] == 0
    (ax,) = charts.seeds({"val": {"frozen": [20.0, 27.0], "learned": [0.973], "nothing": [0]}}).axes
    assert [text.get_text() for text in ax.texts] == ["23.5", "1.0", "0.0"]  # one number of decimals
    panels = {"val": {"learned": [0.5]}, "unseen_words": {"learned": [0.1]}}
    one, two = charts.seeds(panels).axes
    assert one.get_ylim() != two.get_ylim()
    one, two = charts.seeds(panels, shared=True).axes
    assert one.get_ylim() == two.get_ylim() == (0, 0.625)


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
    (ax,) = charts.heat_map(np.ones((1, 1)), [0], [0], digits=0, xlabel="key", ylabel="query").axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.xaxis.get_label_position()) == ("key", "query", "top")
    with pytest.raises(ValueError, match=r"(?=.*\b1\b).*\(2, 2\)"):
        charts.heat_map(np.ones((2, 2)), ["a"], ["b", "c"])


def test_line_plot_tells_curves_apart_by_more_than_colour():
    (ax,) = charts.line_plot(range(5), dict(one=np.arange(5), two=np.ones(5)), "layer", "share").axes
    one, two = ax.lines
    assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "share") and len(ax.get_legend().get_texts()) == 2
    assert charts.line_plot([0, 1], dict(one=[0, 1]), "x", "y").axes[0].get_legend() is None


def test_ranking_says_its_values_from_top_to_bottom():
    (ax,) = charts.ranking(dict(cat=0.9471, dog=0.5)).axes
    assert [text.get_text() for text in ax.texts] == ["0.947", "0.500"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog"] and ax.yaxis_inverted()


def test_rate_curves_have_a_panel_per_law():
    axes = charts.rate_curves(["uniform", "square root"]).axes
    assert [ax.get_title() for ax in axes] == ["uniform", "square root"]
    assert all(np.allclose(ax.lines[0].get_ydata(), np.linspace(1, 0, 101)) for ax in axes)
    assert np.allclose(axes[1].lines[1].get_ydata()[25], 0.5)


def test_rate_histograms_hold_every_rate():
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


def test_mask_laws_hide_as_many_positions_as_the_schedule():
    figure = charts.mask_laws(["uniform", "arccos"], 1, 1024, masks=True)
    uniform, arccos = (part.axes for part in figure.subfigs[1].subfigs)
    assert [ax.get_title() for ax in uniform] == ["r = 0.88", "r = 0.62", "r = 0.38", "r = 0.12"] * 2
    fine = [np.asarray(ax.images[0].get_array()) < 0.5 for ax in uniform[4:]]
    assert [mask.sum() for mask in fine] == [896, 640, 384, 128]
    assert (fine[0] | ~fine[1]).all()  # what is hidden later was hidden before
    assert len(arccos) == 8 and all(len(ax.patches) == 1 for ax in arccos[:4])
    png(figure)
