"""Build data/unseen_artwork.parquet, which no training reads: `python data/build_unseen_artwork.py --packages DIR`.

The drawings are Fluent Emoji in its flat style by Microsoft Corporation (MIT). DIR holds one archive of the npm
registry, rendered by resvg_py (see iconify.py):

    npm pack @iconify-json/fluent-emoji-flat@1.2.6

One row is one drawing:

    name        as the package spells it: "avocado"; for people only, nothing reads it
    category    Unicode's: "Food & Drink"
    code_point  "U+1F951"
    image       RGBA, 128 x 128 pixels, cropped to the drawing

They are chosen by a rule: the drawings with one code point, PER_CATEGORY of each category but the eight flags, those
whose names have the smallest CRC-32.
"""

import argparse
import zlib
from pathlib import Path

from iconify import Drawing, Package, draw, drawings, write

FLUENT = Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    "Microsoft Corporation",
    "MIT",
)
PER_CATEGORY = 28
SKIPPED = ("Flags",)


def chosen(found: list[Drawing]) -> list[Drawing]:
    """The drawings that the rule takes, in order of category and CRC-32."""
    single = [drawing for drawing in found if drawing.code_point and " " not in drawing.code_point]
    kept = []
    for category in sorted({drawing.category for drawing in single} - set(SKIPPED)):
        own = [drawing for drawing in single if drawing.category == category]
        kept += sorted(own, key=lambda drawing: zlib.crc32(drawing.name.encode()))[:PER_CATEGORY]
    return kept


def rows(folder: Path) -> list[dict]:
    """The whole table."""
    table = []
    for drawing in chosen(list(drawings(FLUENT, folder))):
        about = dict(name=drawing.name, category=drawing.category, code_point=drawing.code_point)
        table.append(about | dict(image=draw(drawing.svg)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=Path("."), help="folder with the archive")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "unseen_artwork.parquet")
    args = parser.parse_args()
    write(rows(args.packages), args.out)


if __name__ == "__main__":
    main()
