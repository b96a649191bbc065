"""What Python draws for 20 captions, for `npm test` in web/ to compare the page's decoding with: `make web` runs it.

python web/reference.py [--checkpoint tiny] [--out web/.cache/reference.json]
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np

from minimuse import Muse
from minimuse.files import write_text
from minimuse.teach.views import word_attention

ROOT = Path(__file__).resolve().parent.parent
CAPTIONS = (
    "a cat left of a dog on a blue background",
    "three red apples",
    "a pizza above a bicycle",
    "two frogs on a green background",
    "a green car",
    "a banana right of a fish",
    "a rose",
    "four stars on a black background",
    "a blue bird below a tree",
    "an owl",
    "a red car and a yellow car",
    "a picture of a guitar",
    "one strawberry on a yellow background",
    "a rabbit left of a carrot",
    "two cups",
    "a purple heart above a clock",
    "a rocket on a dark background",
    "a turtle",
    "three balloons on a white background",
    "",
)
# Every order, and several laws; each is a program to compile, so captions share them.
SETTINGS = (
    {},
    {"order": "confidence", "law": "cosine", "guidance": 4.0, "token_temperature": 1.0, "superres": False},
    {"order": "random", "law": "square", "revise": 3, "superres": False},
    {"order": "raster", "law": "linear", "top_k": 5, "ramp": False, "guided_to": 0.5, "superres": False},
    {"steps": 6, "order": "confidence", "revise": 2, "guidance": 2.0, "superres": False},
)
WHOLE = 8  # of the captions are drawn with the checkpoint's own settings, and raised to the higher resolution


def pixels(image: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(image, np.uint8).tobytes()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tiny", help="a folder, or a name in data/checkpoints")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "web/.cache/reference.json", help="file (default: %(default)s)"
    )
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    muse, found = Muse.from_pretrained(args.checkpoint), []
    for i, caption in enumerate(CAPTIONS):
        options = dict(SETTINGS[0] if i < WHOLE else SETTINGS[1 + i % (len(SETTINGS) - 1)])
        if "superres" not in muse.configs:
            options["superres"] = False
        drawn = muse.generate(caption, seed=i, trace=True, **options)
        ids, mask = muse.text.tokenize([caption], length=muse.configs["base"].text_length)
        record = {
            "caption": caption,
            "seed": i,
            "superres": options.pop("superres", True),
            "options": options,
            "ids": ids[0][mask[0]].tolist(),
            "tokens": drawn.tokens.ravel().tolist(),
            "steps": np.where(drawn.trace.hidden, -1, drawn.trace.tokens)[:, 0].tolist(),
            "pixels": pixels(np.asarray(muse.detokenize(drawn.tokens))),
        }
        if record["superres"]:
            record |= {"fine": drawn.superres_tokens.ravel().tolist(), "fine_pixels": pixels(drawn.images)}
        if i == 0:
            weights = word_attention(muse, drawn.tokens[0], caption)[1].mean((0, 1))  # [pieces, h, w]
            record["attention"] = weights.reshape(len(weights), -1).round(6).tolist()
        found.append(record)
    write_text(args.out, json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
