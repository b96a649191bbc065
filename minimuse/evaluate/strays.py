"""What a picture shows beside its objects: pixels outside the boxes of all objects that were read.

The scene scorer sees whole sprites on a background, and nothing of half a sprite or a blot. This looks at the pixels:
it has no weights and shares with the scorer only where the objects are.
"""

import numpy as np

from minimuse.data.scenes import BACKGROUNDS
from minimuse.evaluate.scorer import Reading, box

# True pictures and those that the shipped tokenizers rebuild have no strays, at any tolerance from 12 on (256 scenes).
MARGIN = 3  # canvas units by which boxes are grown, for blurred edges and the scorer's error of position
TOLERANCE = 32  # of 255, in any channel: plain to see
MOST = 0.002  # share of stray pixels up to which nothing else is on the canvas; an eighth of a token of the base


def strays(image: np.ndarray, reading: Reading) -> float:
    """Share of all pixels of a square picture uint8 [H, H, 3] that lie outside the boxes of the objects that were read
    and differ from the background that was read by more than TOLERANCE in a channel."""
    far = np.abs(image.astype(int) - BACKGROUNDS[reading.background]).max(-1) > TOLERANCE
    for seen in reading.objects:
        far[box(seen.x, seen.y, seen.side + 2 * MARGIN, len(image))] = False
    return float(far.mean())


def nothing_else(image: np.ndarray, reading: Reading) -> bool:
    """Whether a picture shows what was read and nothing else: at most MOST of its pixels are strays."""
    return strays(image, reading) <= MOST
