"""Remake data/sprites.parquet from the Noto Color Emoji font: `python data/build_sprites.py [--font NotoColorEmoji.ttf]`.

Only this script needs the font (Debian: fonts-noto-color-emoji, version 2.042; artwork Apache-2.0, font OFL-1.1).
The course itself reads the Parquet file. One row is one sprite:

    name       what captions call it: "cat", "red heart"
    plural     "cats", "red hearts"
    word       the kind of thing, without its colour: "cat", "heart"
    colour     "red" for the coloured shapes, "" for everything else
    category   "animal", "food", "transport", "nature", "thing", "shape"
    synonyms   words that no training caption uses, but the text encoder's corpus does (the split unseen_words)
    code_point "U+1F431"
    image      RGBA, 128 x 128 pixels, cropped to the drawing
"""

import argparse
from pathlib import Path

import datasets
from PIL import Image, ImageDraw, ImageFont

SIDE = 128  # pixels a side, twice what the largest object needs at 128 px
STRIKE = 109  # the one bitmap size in the font, in points

OBJECTS = """
animal    | 1F431 cat: kitty, feline | 1F436 dog: puppy, hound | 1F42D mouse/mice: rodent | 1F430 rabbit: bunny, hare
animal    | 1F98A fox/foxes: vixen | 1F43B bear: grizzly | 1F43C panda: bamboo eater | 1F438 frog: toad
animal    | 1F437 pig: hog, swine | 1F981 lion: king of beasts | 1F42E cow: cattle, heifer
animal    | 1F435 monkey: ape, chimp | 1F414 chicken: hen | 1F427 penguin: antarctic bird | 1F989 owl: night bird
animal    | 1F420 fish/fish: guppy | 1F419 octopus/octopuses: kraken | 1F98B butterfly/butterflies: moth | 1F41E ladybug: beetle
animal    | 1F422 turtle: tortoise | 1F433 whale: sea giant
food      | 1F34E apple: pippin | 1F34C banana: plantain | 1F353 strawberry/strawberries: summer berry | 1F355 pizza: margherita
food      | 1F354 burger: hamburger, cheeseburger | 1F366 ice cream: sundae, soft serve | 1F382 cake: gateau | 1F369 donut: doughnut
transport | 1F697 car: automobile | 1F68C bus/buses: coach | 1F6B2 bicycle: bike, two-wheeler
transport | 1F680 rocket: spaceship | 26F5 boat: yacht, ship
nature    | 1F333 tree: oak | 1F33B flower: blossom, bloom | 1F344 mushroom: toadstool
nature    | 2600 sun: daystar | 1F319 moon: crescent | 2B50 star: asterisk | 1F335 cactus/cactuses: succulent
thing     | 1F3E0 house: cottage, home | 2602 umbrella: parasol | 1F3B8 guitar: six-string
thing     | 1F388 balloon: inflatable | 26BD ball: football
"""

SHAPES = {  # kind: {colour: code point}; books come in four colours only
    "heart": "red 2764 orange 1F9E1 yellow 1F49B green 1F49A blue 1F499 purple 1F49C brown 1F90E black 1F5A4",
    "circle": "red 1F534 orange 1F7E0 yellow 1F7E1 green 1F7E2 blue 1F535 purple 1F7E3 brown 1F7E4 black 26AB",
    "square": "red 1F7E5 orange 1F7E7 yellow 1F7E8 green 1F7E9 blue 1F7E6 purple 1F7EA brown 1F7EB black 2B1B",
    "book": "red 1F4D5 green 1F4D7 blue 1F4D8 orange 1F4D9",
}
SHAPE_SYNONYMS = {"heart": ["valentine"], "circle": ["disc"], "square": ["box"], "book": ["novel"]}


def rows() -> list[dict]:
    """The table without its pictures."""
    table = []
    for line in OBJECTS.strip().splitlines():
        category, *entries = (part.strip() for part in line.split("|"))
        for entry in entries:
            head, synonyms = entry.split(":")
            code, names = head.split(" ", 1)
            name, _, plural = names.partition("/")
            table.append(
                dict(name=name, plural=plural or name + "s", word=name, colour="", category=category,
                     synonyms=[s.strip() for s in synonyms.split(",")], code_point=f"U+{code}")
            )  # fmt: skip
    for word, pairs in SHAPES.items():
        tokens = pairs.split()
        for colour, code in zip(tokens[::2], tokens[1::2]):
            table.append(
                dict(name=f"{colour} {word}", plural=f"{colour} {word}s", word=word, colour=colour, category="shape",
                     synonyms=[f"{colour} {s}" for s in SHAPE_SYNONYMS[word]], code_point=f"U+{code}")
            )  # fmt: skip
    return table


def draw(font: ImageFont.FreeTypeFont, code_point: str) -> Image.Image:
    """One glyph, cropped to what is drawn and centred in a square of SIDE pixels."""
    canvas = Image.new("RGBA", (2 * STRIKE, 2 * STRIKE), (0, 0, 0, 0))
    # U+FE0F asks for the coloured form of characters that also have a black-and-white one.
    text = chr(int(code_point[2:], 16)) + "\ufe0f"
    ImageDraw.Draw(canvas).text((20, 20), text, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise SystemExit(f"{code_point} is not in this font; use Noto Color Emoji 2.042 or newer.")
    glyph = canvas.crop(box)
    side = max(glyph.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    parser.add_argument("--out", default=Path(__file__).parent / "sprites.parquet")
    args = parser.parse_args()
    if not Path(args.font).is_file():
        raise SystemExit(f"No font at {args.font}; install fonts-noto-color-emoji or pass --font.")
    font = ImageFont.truetype(args.font, STRIKE)
    table = [row | dict(image=draw(font, row["code_point"])) for row in rows()]
    dataset = datasets.Dataset.from_list(table).cast_column("image", datasets.Image())
    dataset.to_parquet(args.out)
    print(f"{len(dataset)} sprites -> {args.out}")


if __name__ == "__main__":
    main()
