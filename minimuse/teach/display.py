"""Images with alt text, as a notebook shows them."""

import base64
import html
import io
import re
from collections.abc import Container
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


class Picture:
    """An image with alt text, as a notebook shows it: HTML, because JupyterLab and nbconvert drop the alt text of a
    bare PNG.

    data   the bytes of the file
    kind   its media type, such as image/png
    alt    the alt text; an empty one is a ValueError
    """

    def __init__(self, data: bytes, kind: str, alt: str):
        if not alt.strip():
            raise ValueError("The alt text is empty; describe in one sentence what the figure shows.")
        self.data, self.kind, self.alt = data, kind, alt

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        source = f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"
        tag = f'<img src="{source}" alt="{html.escape(self.alt)}" style="max-width: 100%; height: auto">'
        return {"text/html": tag, "text/plain": f"Figure: {self.alt}"}


def with_alt(figure: Figure, text: str, dpi: int = 100, colours: int | None = None) -> None:
    """Show a figure in a notebook.

    text      alt text: what the figure shows, for readers who cannot see it
    dpi       pixels per inch
    colours   reduce the image to this many colours, which saves two thirds of the bytes where images, hatches and
              markers overlap; None keeps all
    """
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if colours is not None:
        picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        picture.save(buffer, format="png", optimize=True)
    display(Picture(buffer.getvalue(), "image/png", text))


def pipeline(highlight: str | None = None) -> Picture:
    """The diagram of Muse, from caption to pixels.

    highlight   the box, such as base or decoder, that gets a thick frame and "You are here"
    """
    here = Path(__file__).resolve().parents[1]
    paths = here.parent / "notebooks" / "figures" / "pipeline.svg", here / "_data" / "pipeline.svg"
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(f"There is no {paths[0]}; clone the whole repository again.")
    svg = found[0].read_text(encoding="utf-8")
    described = re.search("<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)
    alt = " ".join(described[1].split()) if described else ""
    if highlight is not None:
        boxes = dict(re.findall(r'<g id="(\w+)" class="box[^"]*"><title>(.*?)</title>', svg))
        if highlight not in boxes:
            raise ValueError(f"The pipeline has no box {highlight!r}; its boxes are {', '.join(boxes)}.")
        svg = svg.replace(f'<g id="{highlight}" class="box', f'<g id="{highlight}" class="box lit')
        alt += f" You are here: {boxes[highlight]}."
    return Picture(svg.encode(), "image/svg+xml", html.unescape(alt))
