"""Build the artwork that the fine-tuned decoder learns from: `python data/build_training_artwork.py --packages DIR`.

It is not shipped; `python -m minimuse train superres_decoder --artwork runs/artwork.parquet` reads it. DIR holds three
archives of the npm registry, by two artists, all Apache-2.0 (rendered by resvg_py, see iconify.py):

    npm pack @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/fxemoji@1.2.2

One row is one drawing: name, category, code_point ("" where the package does not say), package, and image, RGBA of
128 x 128 pixels, cropped to the drawing. Every drawing is taken that is not a variant of another by its skin tone. None
is by the artist of unseen_artwork.parquet, which measures what the decoder has learnt.
"""

import argparse
from pathlib import Path

from iconify import Package, draw, drawings, write

GOOGLE, MOZILLA, APACHE = "Google Inc. and the Noto Emoji authors", "Mozilla", "Apache-2.0"
PACKAGES = (
    Package(
        "@iconify-json/noto",
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        GOOGLE,
        APACHE,
    ),
    Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        GOOGLE,
        APACHE,
    ),
    Package(
        "@iconify-json/fxemoji",
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        MOZILLA,
        APACHE,
    ),
)


def rows(folder: Path) -> list[dict]:
    """The whole table."""
    found = []
    for package in PACKAGES:
        for drawing in drawings(package, folder):
            if (image := draw(drawing.svg)) is not None:
                about = dict(name=drawing.name, category=drawing.category, code_point=drawing.code_point)
                found.append(about | dict(package=package.name, image=image))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=Path("."), help="folder with the three archives")
    parser.add_argument("--out", type=Path, default=Path("runs/artwork.parquet"))
    args = parser.parse_args()
    write(rows(args.packages), args.out)


if __name__ == "__main__":
    main()
