"""Picture files of the command line: read, checked and written whole."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image


def check_writable(out: Path) -> None:
    """An error now if a picture cannot be written there."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent}; make it, or choose another --out.")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"Nothing can be written to {out.parent}; choose another --out.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; --out names a file, such as {out / 'picture.png'}.")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--out {out} must end in .png, .jpg or .webp.")


def read_picture(path: Path) -> "PIL.Image.Image":
    """The picture of a file; OSError or ValueError if Pillow cannot read the whole of it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except OSError:  # its message is a sentence already: file not found, not an image, truncated
        raise
    except Exception as error:  # an image that is too large, and what Pillow's decoders raise on damaged files
        raise ValueError(f"Cannot read {path} as an image: {error}") from None
    return image


def save_picture(images: "np.ndarray", out: Path, columns: int, scale: int = 1) -> None:
    """uint8 [B, H, W, 3] as one picture, `columns` side by side, each pixel `scale` wide; whole or not at all."""
    import numpy as np
    from PIL import Image

    from minimuse.files import whole

    b, h, w, _ = images.shape
    rows = -(-b // columns)
    sheet = np.full((rows * columns, h, w, 3), 255, np.uint8)
    sheet[:b] = images
    sheet = sheet.reshape(rows, columns, h, w, 3).swapaxes(1, 2).reshape(rows * h, columns * w, 3)
    sheet = sheet.repeat(scale, 0).repeat(scale, 1)
    with whole(out) as partial:
        Image.fromarray(sheet).save(partial)
    print(f"{b} picture{'s' * (b != 1)} of {w} x {h} pixels -> {out}")
