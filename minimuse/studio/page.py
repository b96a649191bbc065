"""The page of the app, in gradio. It loads nothing from elsewhere, and only this machine can reach it."""

from collections.abc import Callable
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
import numpy as np

from minimuse.files import sentence
from minimuse.studio.app import HOST
from minimuse.studio.desk import Desk, Drawn, enlarged

TITLE = "minimuse"
EXAMPLES = ("a cat left of a dog on a blue background", "two red cars on a white background", "three dogs")
CSS = """
.gallery img, .gallery button img {image-rendering: pixelated}
footer {display: none !important}
"""


def build(desk: Desk) -> gr.Blocks:
    """The page of a desk."""
    own = desk.plain.sampling["base"]
    settings = desk.plain.configs["base"]
    words = f"{desk.checkpoint}, {desk.side} x {desk.side} pixels" + (f", style {desk.style}" if desk.style else "")
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# minimuse\nMuse on this machine: {words}. Click a picture to edit it.")
        history, tab, waiting = gr.State([]), gr.State("Generate"), gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=360):
                caption = gr.Textbox(EXAMPLES[0], label="Caption", info="the whole picture as it should be", lines=2)
                gr.Examples([[example] for example in EXAMPLES], [caption], label="Examples")
                with gr.Tabs() as tabs:
                    with gr.Tab("Generate", id="generate"):
                        n = gr.Slider(1, 16, 4, step=1, label="Pictures")
                        draw = gr.Button("Draw", variant="primary")
                    with gr.Tab("Inpaint", id="inpaint"):
                        editor = gr.ImageEditor(
                            label="Paint over what should change",
                            type="numpy",
                            image_mode="RGBA",
                            sources=("upload", "clipboard"),
                            brush=gr.Brush(default_size=48, colors=["#ffffff"], color_mode="fixed"),
                            eraser=gr.Eraser(default_size=48),
                            transforms=(),
                            layers=False,
                            canvas_size=(desk.side * max(1, 512 // desk.side),) * 2,
                            format="png",
                            height=560,
                        )
                        inpaint = gr.Button("Draw what is painted over", variant="primary")
                    with gr.Tab("Outpaint", id="outpaint"):
                        wider = _image("Picture to extend")
                        gr.Markdown(f"How much to add on each side, in units of {desk.cell} pixels:")
                        most, sides = settings.grid[0], []
                        for pair in (("Left", 0), ("Right", most // 2)), (("Top", 0), ("Bottom", 0)):
                            with gr.Row():
                                sides += [gr.Slider(0, most, units, step=1, label=side) for side, units in pair]
                        outpaint = gr.Button("Extend", variant="primary")
                    with gr.Tab("Edit", id="edit"):
                        whole = _image("Picture to change")
                        before = gr.Textbox("", label="Caption of the picture as it is", info="may be left empty")
                        edit = gr.Button("Change it to match the caption", variant="primary")
                with gr.Accordion("Settings", open=False):
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                    negative = gr.Textbox("", label="Negative caption", info="what should not be in the picture")
                    steps = gr.Slider(1, int(np.prod(settings.grid)), own.steps, step=1, label="Steps (generate)")
                    guidance = gr.Slider(0, 10, own.guidance, step=0.1, label="Guidance t (generate)")
            with gr.Column(scale=1, min_width=360):
                about = gr.Markdown("Nothing is drawn yet.")
                result = _gallery("Pictures", 600)
                earlier = _gallery("History of this page, newest first", 260, columns=5)
        shared = dict(concurrency_id="draw", concurrency_limit=1, show_progress_on=[result])
        for button, run, inputs in (
            (draw, _watched(desk.generate), [caption, negative, n, seed, steps, guidance]),
            (inpaint, _watched(desk.inpaint), [editor, caption, negative, seed]),
            (outpaint, _watched(desk.outpaint), [wider, caption, negative, seed, *sides]),
            (edit, _watched(desk.edit), [whole, caption, negative, seed, before]),
        ):
            button.click(run, [history, *inputs], [history, result, earlier, about], api_visibility="private", **shared)
        quiet = dict(api_visibility="private", show_progress="hidden")
        tabs.select(_opened, [waiting], [tab, editor, waiting], **quiet)
        for gallery, newest in ((result, True), (earlier, False)):
            gallery.select(_picked(newest), [history, tab], [editor, waiting, wider, whole, about], **quiet)
    return page


def _image(label: str) -> gr.Image:
    return gr.Image(
        label=label, type="numpy", image_mode="RGB", sources=("upload", "clipboard"), format="png", height=320
    )


def _gallery(label: str, height: int, columns: int = 2) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        columns=columns,
        height=height,
        object_fit="contain",
        format="png",
        interactive=False,
        preview=False,
        allow_preview=False,
        elem_classes="gallery",
    )


def _watched(run: Callable[..., tuple[list[Drawn], str]]) -> Callable[..., Any]:
    """A desk's method as gradio calls it: history first, a progress bar, and errors as messages."""

    def handler(history: list, *inputs: Any, progress: gr.Progress = gr.Progress()) -> tuple:  # noqa: B008
        stages = dict(base="Drawing", superres="Super-resolution")
        on_step = lambda step: progress((step.step, step.steps), desc=stages[step.stage])
        try:
            drawn, words = run(*inputs, on_step=on_step)
        except Exception as error:
            if (words := sentence(error)) is None:
                raise
            raise gr.Error(words, duration=8, print_exception=False) from None
        batches = [drawn, *history]
        shown = lambda batch: gr.Gallery([str(one.path) for one in batch], selected_index=None)
        return batches, shown(drawn), shown([one for batch in batches for one in batch]), words

    return handler


def _picked(newest: bool) -> Callable[..., Any]:
    """A click on a picture, of the newest ones or of the history: it becomes the one to edit."""

    def handler(history: list, tab: str, event: gr.SelectData) -> tuple:
        pictures = history[0] if newest else [one for batch in history for one in batch]
        one = pictures[event.index]
        large = enlarged(one.pixels)
        shown, waits = (large, None) if tab == "Inpaint" else (gr.skip(), large)  # a hidden editor takes no picture
        return shown, waits, large, large, f"Chosen: {one.title}. It is in Inpaint, Outpaint and Edit."

    return handler


def _opened(waiting: Any, event: gr.SelectData) -> tuple:
    """A tab is opened: the editor is given the picture that was chosen while it was hidden."""
    if event.value == "Inpaint" and waiting is not None:
        return event.value, waiting, None
    return event.value, gr.skip(), gr.skip()


def launch(page: gr.Blocks, port: int | None, browser: bool) -> str:
    """Start the page without waiting for its end; returns its address. OSError if the port is taken."""
    _, address, _ = page.queue(max_size=32).launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        footer_links=[],
        css=CSS,
    )
    return address
