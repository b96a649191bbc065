"""Explorers for the notebooks: sliders, menus and text boxes. For each there is a plain function in views.py that does
the same without widgets.

They work with ipywidgets 7.7 and 8. Every control has a label and can be reached with Tab; sliders accept numbers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from minimuse import canvas, decoding, mask_free, masking
from minimuse.data import scenes
from minimuse.muse import TOKENIZERS
from minimuse.teach import charts, display, figures, views

if TYPE_CHECKING:
    import ipywidgets
    from PIL import Image

    from minimuse.muse import Muse
    from minimuse.t5 import TextEncoder

EXAMPLE = "a cat left of a dog on a blue background"
_WIDE = {"description_width": "7em"}
# This script adds to the page what ipywidgets leaves out. Slider handles have no name for screen readers: each gets its
# label as soon as it exists. JupyterLab also takes plain keys on menus, sliders and buttons as its shortcuts: an arrow
# would move to the next cell, an x would cut this one. The attribute turns that off.
_ACCESSIBLE = """
{
  const nameSliders = (times) => {
    for (const slider of document.querySelectorAll(".widget-slider"))
      slider.querySelectorAll("[role=slider]").forEach((handle, i, all) => handle.setAttribute(
        "aria-label", slider.querySelector("label").textContent + (all.length > 1 ? [" from", " to"][i] : "")));
    if (times > 0) setTimeout(nameSliders, 500, times - 1);
  };
  nameSliders(10);
  if (!window.minimuseKeys) window.addEventListener("keydown", window.minimuseKeys = (event) => {
    const control = event.target.closest?.(".jupyter-widgets :is(select, [role=slider]), button.jupyter-widgets");
    const shortcut = event.ctrlKey || event.metaKey || event.altKey || event.shiftKey;
    if (control) control.toggleAttribute("data-lm-suppress-shortcuts", !shortcut);
  }, true);
}
"""


def _control(kind: type, description: str, value: Any, **options: Any) -> Any:
    """A control in the common style. A slider acts when it is released, not at every value it passes."""
    import ipywidgets

    if kind not in (ipywidgets.Dropdown, ipywidgets.Checkbox):
        options["continuous_update"] = False
    layout = ipywidgets.Layout(width="32em", max_width="95%")
    return kind(value=value, description=description, style=_WIDE, layout=layout, **options)


def _show(
    output: ipywidgets.Output,
    images: Figure | np.ndarray | Sequence[np.ndarray] | None,
    words: str,
    titles: Sequence[str] | None = None,
) -> None:
    """Replace what an Output shows by images [B, H, W, 3] (or a Figure, or None) and a sentence."""
    from IPython.core.display import Javascript
    from IPython.display import clear_output
    from IPython.display import display as show

    with output:
        clear_output(wait=True)
        if images is not None:
            figure = images if isinstance(images, Figure) else figures.image_grid(images, titles)
            display.with_alt(figure, f"What is shown: {words}", dpi=120)
        print(textwrap.fill(words, 96))  # JupyterLab would break lines inside words
        show(Javascript(_ACCESSIBLE))


def _base_tokens(muse: Muse) -> int:
    """The number of the base's image tokens."""
    h, w = muse.configs["base"].grid
    return h * w


def _explorer(controls: list, draw: Callable[..., None], picture: ipywidgets.Widget) -> ipywidgets.VBox:
    """Controls above an Output that `draw` fills, now and after every change."""
    import ipywidgets

    for one in controls:
        one.observe(draw, names="value")
    draw()
    return ipywidgets.VBox([*controls, picture])


def first_pictures(muse: Muse, prompt: str = EXAMPLE) -> ipywidgets.VBox:
    """A caption box, sliders for guidance, steps and seed, and the image that they give. Returns the widget to show.

    The defaults are the checkpoint's own. The image changes when a slider is released or Enter is pressed.
    """
    import ipywidgets

    tokens, sampling = _base_tokens(muse), muse.sampling["base"]
    caption = _control(ipywidgets.Text, "Caption", prompt, placeholder="a caption")
    guidance = _control(ipywidgets.FloatSlider, "Guidance t", sampling.guidance, min=0.0, max=10.0, step=0.5)
    steps = _control(ipywidgets.IntSlider, "Steps", sampling.steps, min=1, max=min(32, tokens))
    seed = _control(ipywidgets.IntSlider, "Seed", 0, min=0, max=99)
    again = ipywidgets.Button(description="Next seed", tooltip="Generate the same caption with the next seed")
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        image, words = views.first_picture(muse, caption.value, guidance.value, steps.value, seed.value)
        _show(picture, None if image is None else [image], words)

    def next_seed(_button: Any) -> None:
        seed.value = (seed.value + 1) % (seed.max + 1)

    for one in (caption, guidance, steps, seed):
        one.observe(draw, names="value")
    again.on_click(next_seed)
    draw()
    return ipywidgets.VBox([caption, guidance, steps, ipywidgets.HBox([seed, again]), picture])


def scene_browser() -> ipywidgets.VBox:
    """Menus for split and task and a slider for the scene's number: its image, its caption and what this asks for."""
    import ipywidgets

    split = _control(ipywidgets.Dropdown, "Split", "train", options=scenes.SPLITS)
    task = _control(ipywidgets.Dropdown, "Task", "position", options=scenes.TASKS)
    number = _control(ipywidgets.IntSlider, "Scene", 0, min=0, max=99)
    size = _control(ipywidgets.Dropdown, "Pixels", 128, options=(32, 64, 128, 256))
    lattice = _control(ipywidgets.Checkbox, "On the lattice", True)
    picture = ipywidgets.Output()
    controls = [split, task, number, size, lattice]

    def draw(_change: Any = None) -> None:
        image, words = views.browse_scene(*(one.value for one in controls))
        _show(picture, None if image is None else [image], words)

    return _explorer(controls, draw, picture)


def code_explorer(muse: Muse, images: np.ndarray, tokens: np.ndarray, stage: str = "base") -> ipywidgets.VBox:
    """A slider over the codes, most frequent first: what the decoder makes of a code, and which patches have it.

    images, tokens, stage   as in `views.code_pictures`
    """
    import ipywidgets

    counts = np.bincount(tokens.ravel(), minlength=muse.configs[TOKENIZERS[stage]].codebook_size)
    order = np.argsort(-counts, kind="stable")
    rank = _control(ipywidgets.IntSlider, "Rank", 20, min=1, max=len(order))
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        shown, titles, words = views.code_pictures(muse, int(order[rank.value - 1]), images, tokens, stage=stage)
        _show(picture, shown, words, titles)

    return _explorer([rank], draw, picture)


def token_editor(muse: Muse, tokens: np.ndarray) -> ipywidgets.VBox:
    """Sliders for the position and the new code of one token of int [h, w]: the image before and after."""
    import ipywidgets

    h, w = tokens.shape
    row = _control(ipywidgets.IntSlider, "Row", h // 2, min=0, max=h - 1)
    column = _control(ipywidgets.IntSlider, "Column", w // 2, min=0, max=w - 1)
    code = _control(ipywidgets.IntSlider, "New code", 0, min=0, max=muse.configs["tokenizer"].codebook_size - 1)
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        pair, words = views.swap_token(muse, tokens, row.value, column.value, code.value)
        _show(picture, pair, words, ["before", "after"])

    return _explorer([row, column, code], draw, picture)


def nearest_words(encoder: TextEncoder, word: str = "kitty") -> ipywidgets.VBox:
    """A box for a word and one for its frame: the nearest sprite names, with their cosines as numbers and bars."""
    import ipywidgets

    known = [synonym for sprite in scenes.sprites().values() for synonym in sprite.synonyms]
    typed = _control(ipywidgets.Combobox, "Word", word, options=known, placeholder="any word")
    frames = ("a {}", "two {}", "a {} on a blue background", "a {} left of a tree")
    frame = _control(ipywidgets.Combobox, "Frame", frames[0], options=frames)
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        near, words = views.near_words(encoder, typed.value, frame.value)
        _show(picture, None if near is None else charts.ranking(near), words)

    return _explorer([typed, frame], draw, picture)


def attention_explorer(muse: Muse, captions: list[str], tokens: np.ndarray) -> ipywidgets.VBox:
    """Menus for a caption, one of its pieces, a layer and the share of hidden tokens: which positions attend to it.

    captions, tokens   M captions, and the tokens of their images, int [M, h, w]
    """
    import ipywidgets

    depth, rank = muse.configs["base"].depth, np.random.default_rng(0).permutation(tokens[0].size)

    def pieces(number: int) -> list[tuple[str, int]]:
        return [(f"{i + 1}: {piece}", i) for i, piece in enumerate(views.caption_pieces(muse, captions[number]))]

    numbered = list(zip(captions, range(len(captions))))
    caption = _control(ipywidgets.Dropdown, "Caption", 0, options=numbered)
    word = _control(ipywidgets.Dropdown, "Word", min(1, len(pieces(0)) - 1), options=pieces(0))
    layers = [("mean of all", 0), *((str(i), i) for i in range(1, depth + 1))]
    layer = _control(ipywidgets.Dropdown, "Layer", 0, options=layers)
    share = _control(ipywidgets.Dropdown, "Hidden", 0.5, options=[("none", 0.0), ("half", 0.5), ("all", 1.0)])
    picture = ipywidgets.Output()

    def draw(_change: Any = None) -> None:
        number = caption.value
        hidden = (rank < share.value * rank.size).reshape(tokens[number].shape)
        figure, words = views.where_it_looks(
            muse, tokens[number], captions[number], word.value, layer.value or None, hidden
        )
        _show(picture, figure, words)

    def new_caption(_change: Any) -> None:
        word.unobserve(draw, names="value")
        word.options = pieces(caption.value)  # sets the value to the first
        word.value = min(1, len(word.options) - 1)
        word.observe(draw, names="value")

    caption.observe(new_caption, names="value")  # registered before `draw`, which needs the new pieces
    return _explorer([caption, word, layer, share], draw, picture)


def schedule_explorer() -> ipywidgets.VBox:
    """Menus for two mask schedules and N, a slider for T: densities, mask rates, tokens per step, and example masks."""
    import ipywidgets

    first = _control(ipywidgets.Dropdown, "First schedule", "cosine", options=list(masking.LAWS))
    second = _control(ipywidgets.Dropdown, "Second schedule", "arccos", options=list(masking.LAWS))
    tokens = _control(ipywidgets.Dropdown, "Tokens N", 64, options=(64, 256, 1024))
    steps = _control(ipywidgets.IntSlider, "Steps T", 12, min=1, max=64)
    picture = ipywidgets.Output()
    controls = [first, second, tokens, steps]

    def draw(_change: Any = None) -> None:
        figure, words = views.compare_laws(*(one.value for one in controls))
        _show(picture, figure, words)

    return _explorer(controls, draw, picture)


def decode_theatre(
    muse: Muse, prompt: str = EXAMPLE, *, order: str | None = None, law: str | None = None
) -> ipywidgets.VBox:
    """A caption, a seed, an order, a law and a number of steps, and a slider over the decoding steps of that image.

    order, law    those it begins with; None: the checkpoint's own
    """
    import ipywidgets

    sampling = muse.sampling["base"]
    caption = _control(ipywidgets.Text, "Caption", prompt, placeholder="a caption")
    seed = _control(ipywidgets.IntSlider, "Seed", 0, min=0, max=99)
    orders = _control(ipywidgets.Dropdown, "Order", order or sampling.order, options=decoding.ORDERS)
    laws = _control(ipywidgets.Dropdown, "Law", law or sampling.law, options=list(masking.LAWS))
    temperature = _control(ipywidgets.FloatSlider, "Temperature", sampling.temperature, min=0.0, max=16.0)
    total = _control(ipywidgets.IntSlider, "Steps T", sampling.steps - sampling.revise, min=1, max=_base_tokens(muse))
    step = _control(ipywidgets.IntSlider, "Step", 1, min=1, max=total.value)
    picture, drawn = ipywidgets.Output(), {}

    def draw_again(_change: Any = None) -> None:
        options: dict[str, Any] = dict(order=orders.value, law=laws.value, temperature=temperature.value)
        options |= dict(steps=total.value, revise=0, superres=False, trace=True)
        drawn["last"] = muse.generate(caption.value, seed=seed.value, **options)
        before = step.value
        step.max = total.value  # if the slider was further right, it moves, and moving it calls `show`
        if step.value == before:
            show()

    def show(_change: Any = None) -> None:
        _show(picture, *views.decode_frame(muse, drawn["last"], step.value))

    step.observe(show, names="value")
    return _explorer([caption, seed, orders, laws, temperature, total], draw_again, ipywidgets.VBox([step, picture]))


def editing_desk(
    muse: Muse, image: Image.Image | np.ndarray, caption: str = "a cat on a blue background"
) -> ipywidgets.VBox:
    """The grid of an image, from which positions are chosen one by one or a box at a time; a caption; draw and undo.

    image    a PIL image or uint8 [H, W, 3], square
    Every position is a button, reached with Tab and pressed with Space. Chosen ones show an x; their colours are those
    of the image.
    """
    import ipywidgets

    (h, w), pixels = muse.configs["base"].grid, canvas.square(image, "The desk takes")
    drawn = [canvas.to_canvas(muse, muse.plan().stages, pixels).pixels]  # this image and the earlier ones
    chosen: set[tuple[int, int]] = set()
    text = _control(ipywidgets.Text, "Caption", caption, placeholder="the whole image as it should be")
    seed = _control(ipywidgets.IntSlider, "Seed", 0, min=0, max=99)
    rows = _control(ipywidgets.IntRangeSlider, "Rows", (2, h - 2), min=1, max=h)
    columns = _control(ipywidgets.IntRangeSlider, "Columns", (2, w - 2), min=1, max=w)
    names = ("Choose box", "Choose all", "Clear", "Draw", "Undo")
    buttons = {name: ipywidgets.Button(description=name) for name in names}
    size = ipywidgets.Layout(width="2.4em", height="2.4em", padding="0", margin="0")
    cells = {
        (row, column): ipywidgets.Button(tooltip=f"row {row + 1}, column {column + 1}", layout=size)
        for row in range(h)
        for column in range(w)
    }
    grid = ipywidgets.GridBox(
        list(cells.values()), layout=ipywidgets.Layout(grid_template_columns=f"repeat({w}, 2.5em)")
    )
    picture = ipywidgets.Output(layout=ipywidgets.Layout(flex="1 1 16em"))  # beside the grid, or below it if narrow

    def choose(positions: Iterable[tuple[int, int]]) -> None:
        now = set(positions)
        chosen.clear()
        chosen.update(now)
        for cell, button in cells.items():
            # A button with an empty text keeps its old text, and has no name for screen readers.
            button.description = "x" if cell in chosen else "\N{NO-BREAK SPACE}"

    def show(words: str) -> None:
        now = drawn[-1]
        f = now.shape[0] // h
        for (row, column), button in cells.items():
            colour = now[row * f : (row + 1) * f, column * f : (column + 1) * f].reshape(-1, 3).mean(0).astype(int)
            button.style.button_color = "#{:02x}{:02x}{:02x}".format(*colour)
            button.style.text_color = "black" if colour @ (0.3, 0.6, 0.1) > 128 else "white"  # in dark themes as well
        _show(picture, [now], words)

    def draw(_button: Any) -> None:
        new, words = views.redraw_cells(muse, drawn[-1], chosen, text.value, seed.value)
        if new is not None:
            drawn.append(new)
            choose(())
        show(words)

    def undo(_button: Any) -> None:
        if len(drawn) > 1:
            drawn.pop()
        show(f"{len(drawn) - 1} edit{'s' * (len(drawn) != 2)} left to undo")

    def box(_button: Any) -> None:
        choose({(row - 1, column - 1) for row in _span(rows) for column in _span(columns)})

    for cell, button in cells.items():
        button.on_click(lambda _button, cell=cell: choose(chosen ^ {cell}))
    actions = dict(zip(names, (box, lambda _button: choose(cells), lambda _button: choose(()), draw, undo)))
    for name, action in actions.items():
        buttons[name].on_click(action)
    choose(())
    show("Choose positions, describe the whole image as it should be, and draw.")
    beside = ipywidgets.HBox([grid, picture], layout=ipywidgets.Layout(flex_flow="row wrap"))
    return ipywidgets.VBox([text, seed, rows, columns, ipywidgets.HBox(list(buttons.values())), beside])


def _span(slider: ipywidgets.IntRangeSlider) -> range:
    low, high = slider.value
    return range(low, high + 1)


def mask_free_editor(
    muse: Muse, image: Image.Image | np.ndarray, caption: str = "a dog on a blue background", iterations: int = 100
) -> ipywidgets.VBox:
    """A caption, guidance and a seed, and a slider over the iterations of the edit by resampling. Beside it: the mask
    that is read from the caption, and what is redrawn under it.

    image    a PIL image or uint8 [H, W, 3], square
    """
    import ipywidgets

    pixels = canvas.square(image, "The editor takes")
    before = canvas.to_canvas(muse, ("base",), pixels).tokens["base"]
    text = _control(ipywidgets.Text, "Caption", caption, placeholder="the image as it should be")
    own = mask_free.Resampling.guidance
    guidance = _control(ipywidgets.FloatSlider, "Guidance t", own, min=0.0, max=10.0, step=0.5)
    seed = _control(ipywidgets.IntSlider, "Seed", 0, min=0, max=99)
    iteration = _control(ipywidgets.IntSlider, "Iteration", iterations // 2, min=0, max=iterations)
    picture, made = ipywidgets.Output(), {}

    def edit_again(_change: Any = None) -> None:
        options: dict[str, Any] = dict(guidance=guidance.value, iterations=iterations, superres=False, trace=True)
        made["edited"] = muse.edit(pixels, text.value, seed=seed.value, way="resample", **options)
        made["read"] = views.read_frame(muse, pixels, text.value, seed.value)
        show()

    def show(_change: Any = None) -> None:
        images, words = views.iteration_frame(muse, made["edited"], iteration.value, before)
        masked, about = made["read"]
        titles = ["before", f"iteration {iteration.value}", "mask read", "redrawn"]
        _show(picture, np.concatenate([images, masked]), f"{words}; {about}", titles)

    iteration.observe(show, names="value")
    return _explorer([text, guidance, seed], edit_again, ipywidgets.VBox([iteration, picture]))
