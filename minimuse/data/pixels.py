"""Pictures of any mode, size and orientation as square uint8 pixels."""

import contextlib
import functools
import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from minimuse.files import as_given

FORMATS = (  # all of them decoded by Pillow itself, without calling another program
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "DDS", "PCX", "SGI"),
)
LARGEST = 100_000_000  # pixels that are decoded at most
LARGE = 2**25  # pictures with more pixels than this are decoded one at a time, so that memory suffices
SHARPER = 2  # a JPEG is decoded at the smallest scale that has at least this many times the needed pixels per side
CROPS = ("center", "pad")
_one_at_a_time = threading.Lock()
Result = TypeVar("Result")


@functools.cache
def _formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def upright(image: Image.Image) -> Image.Image:
    """The picture as it is meant to be seen: phones store photographs turned, with their orientation as EXIF data.
    EXIF data that cannot be read count as none."""
    image.load()  # errors of the picture itself are raised here
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises errors of many types for damaged EXIF data
        return image


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Numbers of an unknown range [H, W] as uint8: floats from 0 to 1, 0 to 255 and 0 to 65535 are taken as such;
    anything else is stretched so that the smallest is black and the largest is white."""
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values, limit = (values.astype(np.float64) - low), high - low
    else:
        limit = 1 if values.dtype.kind == "f" and high <= 1 else 255 if high <= 255 else 65535
    return np.round(values.astype(np.float64) * (255 / limit)).astype(np.uint8)


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """A picture of any mode as RGB, with `ground` behind what is transparent. ValueError if pixels are not finite."""
    if image.mode.startswith("I;16"):  # 16 bits per pixel; Pillow would clip them at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.mode in ("La", "RGBa"):  # colours that are multiplied by their opacity
        image = image.convert(dict(La="LA", RGBa="RGBA")[image.mode])
    elif image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(lab, rgb, "LAB", "RGB"))  # pyright: ignore
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int, crop: str = "center") -> np.ndarray:
    """Any picture as uint8 [size, size, 3], upright and on white.

    crop    "center": its middle square, resized; "pad": the whole picture, with white beside it
    """
    if crop not in CROPS:
        raise ValueError(f"crop is one of {', '.join(CROPS)}; it was {as_given(crop)}.")
    return _square(to_rgb(upright(image)), size, crop)


def _square(image: Image.Image, size: int, crop: str) -> np.ndarray:
    if crop == "pad":
        width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
        scaled = image.size == (width, height)
        image = image if scaled else image.resize((width, height), Image.Resampling.LANCZOS)
        square = Image.new("RGB", (size, size), "white")
        square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return np.asarray(square)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image if side == size else image.resize((size, size), Image.Resampling.LANCZOS))


def decode(stored: bytes | np.ndarray, sizes: Sequence[int], crop: str = "center") -> list[np.ndarray]:
    """A picture as uint8 [H, H, 3] for every H of sizes. A JPEG is decoded no larger than they need.

    stored    the content of its file, or its pixels as uint8 [H, W] or [H, W, 3 or 4]

    ValueError with half a sentence, such as "it is damaged: ...", for what cannot be read.
    """

    def squares(image: Image.Image) -> list[np.ndarray]:
        rgb = to_rgb(image)
        return [_square(rgb, size, crop) for size in sizes]

    return _use(stored, squares, lambda image: _draft(image, max(sizes), crop))


def open_picture(stored: bytes | np.ndarray) -> Image.Image:
    """The whole picture, upright; `stored` and errors as in `decode`."""
    return _use(stored, lambda image: image)


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, upright. FileNotFoundError, or ValueError if it cannot be read or has too many pixels."""
    try:
        return open_picture(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}.") from None


def _use(
    stored: bytes | np.ndarray,
    use: Callable[[Image.Image], Result],
    before: Callable[[Image.Image], None] | None = None,
) -> Result:
    """What `use` makes of the upright picture; `before` sees it before it is decoded."""
    if isinstance(stored, np.ndarray):
        return use(Image.fromarray(stored))
    if not stored:
        raise ValueError("the file is empty")
    if stored.startswith(b"version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer, not the picture; `git lfs pull` gets the pictures")
    try:
        with Image.open(io.BytesIO(stored), formats=_formats()) as image:
            if before:
                before(image)
            pixels = image.width * image.height
            if pixels > LARGEST:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than {LARGEST:,}")
            if image.format == "PNG" and not _png_is_whole(stored):
                raise ValueError("it is damaged: it has been cut")
            with _one_at_a_time if pixels > LARGE else contextlib.nullcontext():
                image.load()
                return use(upright(image))
    except Image.UnidentifiedImageError:
        raise ValueError(f"it is not a picture that Pillow reads ({_begins(stored)})") from None
    except Image.DecompressionBombError:
        raise ValueError(f"it has more than {LARGEST:,} pixels") from None
    except ValueError:
        raise
    except Exception as error:  # what decoders raise on damaged files: OSError, SyntaxError, struct.error and others
        raise ValueError(f"it is damaged: {str(error) or type(error).__name__}") from None


def _png_is_whole(stored: bytes) -> bool:
    """Whether a PNG has all of its rows and its end; Pillow fills up what is missing without a word."""
    place, chunks = 8, []
    while place + 12 <= len(stored):
        (length,), kind = struct.unpack_from(">I", stored, place), stored[place + 4 : place + 8]
        chunks.append((kind, stored[place + 8 : place + 8 + length]))
        place += 12 + length
    if (b"IEND", b"") not in chunks:
        return False
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    adam7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    wanted = 0
    for x, y, across, down in adam7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(0, width - x) // across), -(-max(0, height - y) // down)
        wanted += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return sum(map(len, _unpacked(b"".join(data for kind, data in chunks if kind == b"IDAT")))) >= wanted


def _unpacked(packed: bytes) -> Iterator[bytes]:
    """What zlib has packed, in pieces of a megabyte."""
    stream = zlib.decompressobj()
    while packed and not stream.eof:
        yield stream.decompress(packed, 2**20)
        packed = stream.unconsumed_tail


def _draft(image: Image.Image, size: int, crop: str) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size where that is enough."""
    needed, longest = SHARPER * size, max(image.size)
    width, height = (needed, needed) if crop == "center" else (-(-side * needed // longest) for side in image.size)
    image.draft(None, (width, height))


def _begins(stored: bytes) -> str:
    """What the first bytes of a file that is not a picture say about it."""
    kinds = {b"<": "it looks like a web page or SVG", b"%PDF": "it is a PDF", b"%!PS": "it is PostScript"}
    if stored[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "it is HEIC; convert it to JPEG"
    found = next((kind for begin, kind in kinds.items() if stored.lstrip()[:4].startswith(begin)), None)
    return found or f"it begins with {stored[:8]!r}"
