"""Pictures and masks as they come, and canvases larger than the trained grid."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from minimuse.data.captioned import to_rgb, upright
from minimuse.files import as_given, in_short

if TYPE_CHECKING:
    from minimuse.muse import Muse

LARGEST = 2**14  # pixels that outpainting adds to a side at most


def whole(values: ArrayLike, what: str) -> np.ndarray:
    """An array, or a ValueError for what is not one, or a masked one with values that are left out."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{what} has all of its values; this masked array leaves some out, so fill it first.")
    try:
        return np.asarray(values)
    except Exception as error:  # lists of unequal lengths, and objects that raise whatever they like
        raise ValueError(f"{what} is an array; this is {as_given(values)} ({in_short(error)}).") from None


def to_pixels(image: Image.Image | np.ndarray) -> np.ndarray:
    """A PIL image of any mode, turned upright as its EXIF data say, or an array uint8 [H, W], [H, W, 3] or [H, W, 4]
    -> uint8 [H, W, 3], with white behind transparency. ValueError for anything else."""
    if not isinstance(image, Image.Image):
        array = whole(image, "An image")
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
            raise ValueError(
                f"An image is a PIL image or uint8 [H, W, 3]; this is {array.dtype} {list(array.shape)}. "
                "Pictures in [0, 1] become uint8 by (255 * image).round().astype('uint8')."
            )
        if not array.size:
            raise ValueError(f"An image has at least one pixel; this one is {list(array.shape)}.")
        image = Image.fromarray(array)
    if 0 in image.size:
        raise ValueError(f"An image has at least one pixel; this one is {image.width} x {image.height}.")
    return np.asarray(to_rgb(upright(image)))


def to_size(pixels: np.ndarray, size: int, cell: int, canvas: bool = False) -> np.ndarray:
    """uint8 [H, W, 3] as a Muse takes it: a square is resized to size x size. Any other picture must be at least that
    large, with sides that are multiples of `cell` pixels; otherwise it is rejected, since resizing would distort it.

    canvas    keep the size of a square, too
    """
    h, w = pixels.shape[:2]
    if h == w and not canvas:
        resized = lambda: Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
        return pixels if h == size else np.asarray(resized())
    if min(h, w) < size or h % cell or w % cell:
        raise ValueError(
            f"An image of {w} x {h} pixels. Give a square one (minimuse.data.captioned.to_square cuts out the middle "
            f"of a PIL image), or one whose sides are multiples of {cell} and at least {size}."
        )
    return pixels


def to_mask(mask: Image.Image | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask as bool [H, W], True where the picture may change; `shape` is the picture's (H, W).

    mask    an array: bool, 0 and 1, 0 to 255 (128 and more is True), or floats from 0 to 1 (0.5 and more); or a PIL
            image, from black to white (128 and more is True)

    A mask of zeros selects nothing. ValueError for a mask that selects nothing though it is not zero everywhere, such
    as the dark colours of a segmentation: what it should select is not known.
    """
    drawn = isinstance(mask, Image.Image)
    array = np.asarray(to_rgb(upright(mask), "black").convert("L")) if drawn else whole(mask, "A mask")
    if array.shape != tuple(shape):
        raise ValueError(f"The mask is {list(array.shape)} and the image {list(shape)}; both are [H, W], in pixels.")
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"A mask holds bools, 0 to 255, or floats from 0 to 1; this one is of type {array.dtype}.")
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    floats = np.issubdtype(array.dtype, np.floating)
    if not (np.isfinite(array).all() and low >= 0 and high <= (1 if floats else 255)):
        raise ValueError(
            f"A mask holds bools, 0 to 255, or floats from 0 to 1; this one has values from {low} to {high}."
        )
    least = 0.5 if floats or (high <= 1 and not drawn) else 128
    if 0 < high < least:
        raise ValueError(
            f"The mask selects nothing: its values go up to {high}, and the picture may change where they are {least} "
            "or more. Paint that region white, or give an array of bools."
        )
    return array >= least


def touched(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """bool [H, W] in pixels -> bool [h, w] in tokens: True for every token that has a pixel in the mask.

    H need not be a multiple of h: a pixel on the border of two tokens touches both.
    """

    def over(pixels: int, tokens: int) -> np.ndarray:  # bool [tokens, pixels], the tokens that a pixel lies over
        token, pixel = np.arange(tokens)[:, None], np.arange(pixels)
        return (pixel * tokens < (token + 1) * pixels) & ((pixel + 1) * tokens > token * pixels)

    rows, columns = (over(*sides).astype(int) for sides in zip(mask.shape, grid))
    return rows @ mask @ columns.T > 0


def soft_edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The new picture's share of each pixel, float [H, W]: 0 outside the mask, 1 well inside it, and between them a
    slope of `width` pixels, all of it inside the mask; it is shorter where the whole mask is not that deep."""
    inside = mask.astype(np.float32)
    depth = inside
    for _ in range(width):  # how deep in the mask each pixel lies, up to width + 1
        padded = np.pad(depth, 1, mode="edge")
        h, w = mask.shape
        depth = inside * (1 + np.minimum.reduce([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)]))
    return depth / max(1, depth.max(initial=0))


def blend(new: np.ndarray, old: np.ndarray, mask: np.ndarray, width: int) -> np.ndarray:
    """uint8 pictures [B, H, W, 3] laid over an old one [H, W, 3]; outside the mask every pixel is the old one's."""
    share = soft_edge(mask, width)[..., None]
    return np.where(share > 0, np.round(share * new + (1 - share) * old), old).astype(np.uint8)


def windows(hidden: np.ndarray, grid: tuple[int, int], step: int) -> Iterator[tuple[int, int]]:
    """Top left corners of windows of the trained grid that, one after another, fill all hidden positions, bool [h, w].

    Corners are `step` positions apart, and at the end of each side. The next window is always the one with the fewest
    hidden positions left, so that it sees as much as possible of what is already there.
    """
    hidden = hidden.copy()
    rows, columns = (
        sorted({*range(0, side - length + 1, step), side - length}) for side, length in zip(hidden.shape, grid)
    )
    window = lambda corner: hidden[corner[0] : corner[0] + grid[0], corner[1] : corner[1] + grid[1]]
    while hidden.any():
        left = {(y, x): count for y in rows for x in columns if (count := window((y, x)).sum())}
        corner = min(left, key=lambda at: left[at])
        yield corner
        window(corner)[:] = False


class Canvas(NamedTuple):
    """A picture as the stages see it."""

    pixels: np.ndarray  # uint8 [H, W, 3], at the size of the last stage
    tokens: dict[str, np.ndarray]  # int [h, w], by stage


def to_canvas(muse: "Muse", stages: Iterable[str], image: Image.Image | np.ndarray, canvas: bool = False) -> Canvas:
    """The tokens of a picture for these stages. The base sees it decimated (section 3.3.1)."""
    given = to_pixels(image)
    sizes = {stage: muse.tokenizer_config(stage).image_size for stage in stages}
    largest = max(sizes.values())
    pixels = to_size(given, largest, largest // muse.configs["base"].grid[0], canvas)
    tokens = {}
    for stage, size in sizes.items():
        if given.shape[0] == given.shape[1] and not canvas:
            small = to_size(given, size, 1)  # from the given picture, so that nothing is resized twice
        else:
            small = np.asarray(Image.fromarray(pixels).reduce(largest // size))
        tokens[stage] = muse.tokenize(small[None], stage)[0]
    return Canvas(pixels, tokens)


def square(image: Image.Image | np.ndarray, what: str) -> np.ndarray:
    """The pixels of a square picture, or a ValueError."""
    pixels = to_pixels(image)
    if pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"{what} a square picture; this one is {pixels.shape[1]} x {pixels.shape[0]} pixels.")
    return pixels
