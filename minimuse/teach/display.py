"""Pictures with alt text, as a notebook shows them."""

import base64
import html
import io
import re
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image


class Picture:
    """A picture with its alt text, as a notebook shows it: HTML, because JupyterLab and nbconvert drop the alt text of
    a bare PNG. `data` holds its bytes, `alt` its text."""

    def __init__(self, data: bytes, kind: str, alt: str):
        if not alt.strip():
            raise ValueError("The alt text is empty; say in a sentence what the figure shows.")
        self.data, self.kind, self.alt = data, kind, alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        source = f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"
        tag = f'<img src="{source}" alt="{html.escape(self.alt)}" style="max-width: 100%; height: auto">'
        return {"text/html": tag, "text/plain": f"Figure: {self.alt}"}


def with_alt(figure: Figure, text: str, dpi: int = 100, colours: int | None = None) -> None:
    """Show a figure in a notebook; `text` says what is seen, for those who cannot see it. With a number of `colours` it
    is reduced to so many: a third of the bytes where pictures, hatches and marks overlap."""
    from IPython.display import display

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if colours is not None:
        picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        picture.save(buffer, format="png", optimize=True)
    display(Picture(buffer.getvalue(), "image/png", text))


def pipeline(highlight: str | None = None) -> Picture:
    """The drawing of the whole of Muse, with one box lit (a thick frame and "you are here"): base, decoder, ..."""
    here = Path(__file__).resolve().parents[1]
    paths = here.parent / "notebooks" / "figures" / "pipeline.svg", here / "_data" / "pipeline.svg"
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(f"There is no {paths[0]}; clone the whole repository.")
    svg = found[0].read_text(encoding="utf-8")
    alt = " ".join(re.search("<desc[^>]*>(.*?)</desc>", svg, re.DOTALL)[1].split())
    if highlight is not None:
        boxes = dict(re.findall(r'<g id="(\w+)" class="box[^"]*"><title>(.*?)</title>', svg))
        if highlight not in boxes:
            raise ValueError(f"The pipeline has no box {highlight!r}; its boxes are {', '.join(boxes)}.")
        svg = svg.replace(f'<g id="{highlight}" class="box', f'<g id="{highlight}" class="box lit')
        alt += f" You are here: {boxes[highlight]}."
    return Picture(svg.encode(), "image/svg+xml", html.unescape(alt))
