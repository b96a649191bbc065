"""Alt text, the pipeline's diagram, and smaller files."""

import io
import re
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image
from samples import IMAGES

from minimuse.teach import display, figures


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


def test_fewer_colours_make_a_smaller_file(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    figure = figures.image_grid(IMAGES)
    for colours in (None, 16):
        display.with_alt(figure, "noise", colours=colours)
    whole, few = (Image.open(io.BytesIO(picture.data)) for picture in shown)
    assert len(few.getcolors()) <= 16 < len(whole.convert("RGB").getcolors(10**6)) and few.size == whole.size
    assert len(shown[1].data) < len(shown[0].data)
