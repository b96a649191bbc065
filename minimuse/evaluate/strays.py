"""What a picture shows beside its objects: pixels outside the boxes of all objects that were read.

The scene scorer sees whole sprites on a background, and nothing of half a sprite or a blot. This looks at the pixels:
it has no weights and shares with the scorer only where the objects are.
"""

import numpy as np

from minimuse.data.scenes import BACKGROUNDS, CANVAS, SIZES, Item, Scene, render
from minimuse.evaluate.scorer import Reading, Seen

# True pictures and those that the shipped tokenizers rebuild have no strays, at any tolerance from 12 on (256 scenes).
MARGIN = 3  # canvas units by which boxes are grown, for blurred edges and the scorer's error of position
TOLERANCE = 32  # of 255, in any channel: plain to see
MOST = 0.002  # share of stray pixels up to which nothing else is on the canvas; an eighth of a token of the base


def _box(seen: Seen, side: float, size: int) -> tuple[slice, slice]:
    """Rows and columns, in a picture of `size` pixels per side, of a square around an object, `side` units wide."""
    edge = lambda value: int(np.clip(round(value * size / CANVAS), 0, size))
    rows, columns = (slice(edge(middle - side / 2), edge(middle + side / 2)) for middle in (seen.y, seen.x))
    return rows, columns


def _side(image: np.ndarray, seen: Seen, background: str) -> int:
    """Which of the sizes an object has: the one at which its sprite looks more like the picture."""
    rows, columns = _box(seen, max(SIZES), len(image))

    def error(side: int) -> float:
        corner = (round(seen.x - side / 2), round(seen.y - side / 2))
        drawn = render(Scene("one", background, (Item(seen.name, *corner, side),)), len(image))
        return float(np.abs(drawn[rows, columns].astype(int) - image[rows, columns]).mean())

    return min(SIZES, key=error)


def strays(image: np.ndarray, reading: Reading) -> float:
    """Share of all pixels of a square picture uint8 [H, H, 3] that lie outside the boxes of the objects that were read
    and differ from the background that was read by more than TOLERANCE in a channel."""
    far = np.abs(image.astype(int) - BACKGROUNDS[reading.background]).max(-1) > TOLERANCE
    for seen in reading.objects:
        far[_box(seen, _side(image, seen, reading.background) + 2 * MARGIN, len(image))] = False
    return float(far.mean())


def nothing_else(image: np.ndarray, reading: Reading) -> bool:
    """Whether a picture shows what was read and nothing else: at most MOST of its pixels are strays."""
    return strays(image, reading) <= MOST
