"""Pictures to files: one sheet of all, with captions if wanted, or one file each, named by a pattern."""

import os
import string
from bisect import bisect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse.files import atomic_path, check_writable, in_short
from minimuse.studio.recipes import Recipe, as_metadata, pixels_of
from minimuse.studio.rows import Asked

if TYPE_CHECKING:
    from PIL import ImageFont

FIELDS = ("number", "row", "index", "seed", "caption")  # of a pattern
LONGEST = 60  # characters of a caption in a file's name
TEXT = 13  # height of a label's letters in pixels
EDGE = 4  # white around a label


# --- names ----------------------------------------------------------------------------------------------------------


def slug(caption: str) -> str:
    """A caption as part of a file's name: letters and digits, joined by hyphens."""
    words = "".join(c if c.isalnum() else " " for c in caption.lower()).split()
    return "-".join(words)[:LONGEST].strip("-") or "picture"


def names_of(pattern: str, pictures: Sequence[Asked]) -> list[Path]:
    """The file of each picture: the pattern with {number} (from 0, in order), {row} (of its caption, from 0), {index},
    {seed} and {caption} (as `slug`) filled in; {index:03} pads with zeros.

    ValueError for a pattern that is not one, and if two pictures would have the same name.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
        if unknown := [field for field in fields if field not in FIELDS]:
            raise ValueError(f"there is no field {{{unknown[0]}}}")
        found = [
            Path(pattern.format(number=i, row=p.row, index=p.index, seed=p.seed, caption=slug(p.caption)))
            for i, p in enumerate(pictures)
        ]
    except (ValueError, LookupError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"--each {pattern} cannot be used: {in_short(error)}. Its fields are "
            f"{', '.join(f'{{{field}}}' for field in FIELDS)}, as in {{seed}}-{{index:03}}.png."
        ) from None
    seen: set[str] = set()
    for path in found:
        if (name := os.path.normcase(path)) in seen:
            raise ValueError(f"--each {pattern} names two pictures {path}; add {{number}}, or {{seed}} and {{index}}.")
        seen.add(name)
        check_writable(path, "--each")
    return found


# --- sheets ---------------------------------------------------------------------------------------------------------


def _font_file() -> Path:
    """Matplotlib's own font: it has Latin, Greek, Cyrillic and more, and is on every machine."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _font() -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.truetype(_font_file(), TEXT)


def not_in_font(texts: Sequence[str]) -> str:
    """The letters that labels show as boxes, as the font lacks them: Chinese ones, for instance."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(_font_file()))
    letters = dict.fromkeys("".join("".join(text.split()) for text in texts))
    return "".join(letter for letter in letters if not font.get_char_index(ord(letter)))


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` pixels; a word that is longer is cut where it must be."""
    length = lambda text: _font().getlength(text[: width + 1])  # a letter has at least one pixel
    lines, line = [], ""
    for word in " ".join(text.split()).split(" "):
        while word:
            more = f"{line} {word}" if line else word
            if length(more) <= width:
                line, word = more, ""
            elif line:
                lines.append(line)
                line = ""
            else:  # at least one letter in a line
                cut = max(1, bisect(range(len(word)), width, key=lambda k: length(word[:k])) - 1)
                lines.append(word[:cut])
                word = word[cut:]
    return [*lines, line] if line else lines


def label(text: str, width: int, lines: int) -> np.ndarray:
    """A text on white, uint8 [H, width, 3], with room for this many lines."""
    from PIL import Image, ImageDraw

    height = lines * (TEXT + EDGE) + EDGE
    image = Image.new("RGB", (width, height), "white")
    text = "\n".join(wrapped(text, width - 2 * EDGE))
    ImageDraw.Draw(image).multiline_text((EDGE, EDGE - 2), text, "black", _font(), spacing=EDGE - 1)
    return np.asarray(image)


def sheet_of(
    images: np.ndarray, rows: Sequence[int], captions: Sequence[str], columns: int, scale: int, labels: bool
) -> np.ndarray:
    """Pictures uint8 [B, H, W, 3] as one, uint8 [H', W', 3].

    rows       how many pictures each caption has, one after another
    columns    pictures side by side; a caption of several pictures begins a new line of them
    labels     write each caption above its first picture
    """
    big = images.repeat(scale, 1).repeat(scale, 2)
    _, h, w, _ = big.shape
    lines: list[list[tuple[int, int]]] = [[]]  # of the sheet: (caption, number of its picture)
    first = 0
    for caption, n in enumerate(rows):
        for i in range(n):
            if len(lines[-1]) == columns or (i == 0 and n > 1 and lines[-1]):
                lines.append([])
            lines[-1].append((caption, first + i))
        first += n
    parts, labelled = [], set()
    for line in lines:
        starts = [at for at, (caption, _) in enumerate(line) if caption not in labelled | {c for c, _ in line[:at]}]
        ends = [*starts[1:], columns if any(n > 1 for n in rows) else (starts[-1] + 1 if starts else 0)]
        if labels and starts:
            texts = [captions[line[at][0]] for at in starts]
            most = max(len(wrapped(text, (end - at) * w - 2 * EDGE)) for text, at, end in zip(texts, starts, ends))
            strip = np.full((most * (TEXT + EDGE) + EDGE, columns * w, 3), 255, np.uint8)
            for text, at, end in zip(texts, starts, ends):
                strip[:, at * w : end * w] = label(text, (end - at) * w, most)
            parts.append(strip)
            labelled |= {caption for caption, _ in line}
        band = np.full((h, columns * w, 3), 255, np.uint8)
        for at, (_, number) in enumerate(line):
            band[:, at * w : (at + 1) * w] = big[number]
        parts.append(band)
    return np.concatenate(parts)


def columns_of(rows: Sequence[int], from_file: bool) -> int:
    """How many pictures are side by side: those of a caption; captions of one picture each that come from a file fill a
    square."""
    return max(rows) if max(rows) > 1 or not from_file else min(len(rows), max(2, round(len(rows) ** 0.5)))


def write(pixels: np.ndarray, out: Path, recipe: Recipe | None = None) -> None:
    """A picture file, written whole or not at all; with its recipe if it is a .png."""
    from PIL import Image

    more: dict[str, Any] = {}
    if recipe is not None and out.suffix.lower() == ".png":
        more["pnginfo"] = as_metadata(recipe | dict(file=pixels_of(pixels)))
    with atomic_path(out) as partial:
        Image.fromarray(pixels).save(partial, **more)
