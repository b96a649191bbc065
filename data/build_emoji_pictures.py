"""Build a set of captioned pictures to train the preset `own` on: `python data/build_emoji_pictures.py --packages DIR`.

The drawings are Fluent Emoji in its flat style by Microsoft Corporation (MIT). DIR holds one archive of the npm
registry, rendered by resvg_py (see iconify.py):

    npm pack @iconify-json/fluent-emoji-flat@1.2.6

Two files are written, in a form that `--data` reads: emoji.parquet to learn from, and emoji-unseen.parquet. One row is
one picture:

    name      as the package spells it: "woman-juggling-medium-light"
    category  Unicode's: "People & Body"
    captions  several: "a woman juggling, medium light skin tone", "woman juggling, medium light skin tone", ...
    image     RGB, 128 x 128 pixels, the drawing in the middle of a white square

Signs and clock faces are left out: they are mostly letters and numbers, which no mirror image may show. Of the five
skin tones of a drawing two are in the set, those whose names have the smallest CRC-32. The other three are unseen:
their words are all in the set, and their pairs are not.
"""

import argparse
import re
import zlib
from pathlib import Path

from build_unseen_artwork import FLUENT
from iconify import SIDE, Drawing, draw, drawings, write
from PIL import Image

MARGIN = 8  # pixels of white on each side
SKIPPED = ("Symbols", "Flags")
CLOCKS = re.compile(r"-(oclock|thirty)$")
TONE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)$")
TONES = 2  # of the five, to learn from
SPELLED = dict(piata="piñata", womans="woman's", mans="man's")
# For the article: people, after whom a plural is what they hold; plurals without an s; and what has no plural.
PERSON = ("man", "woman", "person", "boy", "girl", "baby")
PLURAL = ("people", "women", "men")
UNCOUNTED = (
    *("bacon", "bread", "broccoli", "butter", "cooking", "fire", "fog", "food", "garlic", "ice", "meat", "oden"),
    *("popcorn", "rice", "sake", "salt", "spaghetti", "sushi", "yarn", "zzz"),
)


def stem(name: str, names: set[str]) -> str:
    """The name without a skin tone; "police-car-light" has none, since there is no "police-car" in `names`."""
    return plain if (plain := TONE.sub("", name)) in names else name


def with_article(words: str) -> str:
    """ "a woman juggling", "an owl", and "folded hands", "bacon" as they are."""
    head = re.split(r" (?:with|without|in|of|on|and|behind|over|facing|holding|showing) ", words)[0].split()
    several = head[-1] in PLURAL or re.search(r"[^sui]s$", head[-1].removesuffix("ceros"))
    if head[0] not in PERSON and (several or head[-1] in UNCOUNTED):
        return words
    return f"{'an' if words[0] in 'aeiou' and not words.startswith(('uni', 'one', 'ewe')) else 'a'} {words}"


def captions(drawing: Drawing, plain: str) -> list[str]:
    """What a person may write for a drawing, of which `plain` is the name without its skin tone."""
    words = " ".join(SPELLED.get(word, word) for word in plain.split("-"))
    words = re.sub(r"^(man|woman|person) (beard|.+ hair)$", r"\1 with \2", words)
    tone = drawing.name.removeprefix(plain).replace("-", " ").strip()
    ending = f", {tone} skin tone" if tone else ""
    group = drawing.category.lower().replace("&", "and")
    found = (with_article(words) + ending, words + ending, f"{words}{ending}, {group}")
    return list(dict.fromkeys(found))


def split(found: list[Drawing]) -> tuple[list[tuple[Drawing, str]], list[tuple[Drawing, str]]]:
    """What to learn from and what is unseen: drawings, each with its name without a skin tone."""
    kept = [drawing for drawing in found if drawing.category not in SKIPPED and not CLOCKS.search(drawing.name)]
    names = {drawing.name for drawing in kept}
    toned: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: zlib.crc32(name.encode())):
        if (plain := stem(name, names)) != name:
            toned.setdefault(plain, []).append(name)
    unseen = {name for tones in toned.values() for name in tones[TONES:]}
    pairs = [(drawing, stem(drawing.name, names)) for drawing in kept]
    return [p for p in pairs if p[0].name not in unseen], [p for p in pairs if p[0].name in unseen]


def rows(pairs: list[tuple[Drawing, str]]) -> list[dict]:
    """A table of these drawings."""
    table = []
    for drawing, plain in pairs:
        if (glyph := draw(drawing.svg, SIDE - 2 * MARGIN)) is not None:
            image = Image.new("RGB", (SIDE, SIDE), "white")
            image.paste(glyph, (MARGIN, MARGIN), glyph)
            about = dict(name=drawing.name, category=drawing.category, captions=captions(drawing, plain))
            table.append(about | dict(image=image))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, default=Path("."), help="folder with the archive")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the two files")
    args = parser.parse_args()
    learned, unseen = split(list(drawings(FLUENT, args.packages)))
    write(rows(learned), args.out / "emoji.parquet")
    write(rows(unseen), args.out / "emoji-unseen.parquet")


if __name__ == "__main__":
    main()
