"""What can be measured of pictures of your own, which no scene scorer reads: the loss on pictures that were held out of
training, the judges' numbers (fid_clip.py), and a sheet of what was drawn."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minimuse.config import PicturesConfig, TrainConfig, from_dict
from minimuse.data.cache import TokenCache, held_out_parts, held_out_rows
from minimuse.data.metadata import CAPTIONS, TABLES, captions_of, decode_text, find_column, read_table
from minimuse.data.sources import Pictures
from minimuse.evaluate.fidelity import Judge, draw
from minimuse.evaluate.likelihood import held_out_loss
from minimuse.files import check_writable, save_picture
from minimuse.muse import TOKENIZERS
from minimuse.weights import find_checkpoint, read_config

if TYPE_CHECKING:
    from minimuse.muse import Muse

SHOWN = 64  # pictures on a sheet
ACROSS = 8  # side by side on it
HELD_OUT = (
    "Loss in nats, and accuracy, of hidden tokens of pictures that the transformer did not learn from, as in its "
    "training log; the tokenizer did learn from them. Compare it only for the same tokenizer, pictures and smoothing."
)


# --- which captions -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Asked:
    """Captions to draw.

    what        which captions they are, in words
    captions    one or more
    source      the pictures that they belong to, if any
    rows        the number of each caption's picture in the source
    held        by transformer, how it was trained, and the rows that it did not learn from
    """

    what: str
    captions: list[str]
    source: Pictures | None = None
    rows: Sequence[int] = ()
    held: dict[str, tuple[TrainConfig, np.ndarray]] = dataclasses.field(default_factory=dict)

    def first(self, n: int) -> "Asked":
        """The first n of the captions."""
        return dataclasses.replace(self, captions=self.captions[:n], rows=self.rows[:n])

    def true(self, side: int) -> np.ndarray | None:
        """The pictures of the captions, uint8 [n, side, side, 3]; None if there are none."""
        return None if self.source is None else self.source.prepare(side).pixels(self.rows, side)


def from_file(path: Path) -> Asked:
    """The captions of a .txt file, one in a line, or of the caption column of a .csv, .tsv, .jsonl or .json file.

    FileNotFoundError if the file does not exist; ValueError for another kind, or without captions.
    """
    suffix = path.suffix.lower()
    if suffix not in (".txt", *TABLES):
        raise ValueError(f"--captions names a .txt file (one caption in a line), .csv or .jsonl; it was {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; --captions names one, such as captions.txt.")
    data = path.read_bytes()
    if suffix == ".txt":
        captions = [line.strip() for line in decode_text(data, str(path)).splitlines() if line.strip()]
    else:
        table, captions = read_table(str(path), data), []
        column = find_column(dict.fromkeys(name for row in table for name in row), None, CAPTIONS, "caption", str(path))
        for number, row in enumerate(table, 1):
            try:
                captions.append(captions_of(row.get(column))[0])
            except ValueError as error:
                raise ValueError(f"Row {number} of {path} cannot be used: {error}.") from None
    if not captions:
        raise ValueError(f"{path} has no captions; write one in a line.")
    return Asked(f"the captions of {path}", captions)


def _learned_from(values: dict[str, Any], data: str, source: Pictures) -> bool:
    """Whether a checkpoint was trained on these pictures: not if it is known what it was trained on, and that is
    different. ValueError if the pictures have changed since."""
    if "data" not in values:
        return False
    known = values.get("learned_from", {})
    same = all(source.about.get(name) == known[name] for name in ("captions", "pictures") if name in known)
    if not same and Path(values["data"]).absolute() == Path(data).absolute():
        raise ValueError(
            f"{data} has changed since the checkpoint was trained on it, so it is not known which pictures were held "
            "out. Give the pictures of then, or other ones from another folder."
        )
    return same


def from_data(checkpoint: str, data: str, stages: Sequence[str]) -> Asked:
    """Captioned pictures for a checkpoint: those that its transformers did not learn from.

    data      what `captioned.load_captioned` takes
    stages    the transformers that draw: base, or base and superres

    Of pictures that the checkpoint was trained on these are the ones that every stage held out, or all of them if there
    are none; of other pictures, all. They are read as the checkpoint's own (crop, columns, cache).
    """
    values = read_config(find_checkpoint(checkpoint))
    config = from_dict(PicturesConfig, values.get("pictures", {}))
    sizes = [values[name]["image_size"] for name in TOKENIZERS.values() if name in values]
    source = Pictures(data, config, values.get("picture_sizes", sizes))
    count, held, rows = len(source.prepare()), {}, None
    if _learned_from(values, data, source):
        for stage in stages:
            if trained := values.get("trained", {}).get(stage):
                train = from_dict(TrainConfig, trained)
                own = held_out_rows(train, min(count, train.examples or count))[1]
                held |= {stage: (train, own)} if len(own) else {}
                rows = own if rows is None else rows[np.isin(rows, own)]
        found = rows is not None and len(rows) > 0
        what = (
            "pictures that were held out of training" if found else "pictures that were trained on: none was held out"
        )
    else:
        found, what = False, "pictures that were not trained on"
    chosen = [int(i) for i in rows] if found and rows is not None else list(range(count))
    return Asked(f"{what}, from {data}", [source.captions(i)[0] for i in chosen], source, chosen, held)


def check_scenes(checkpoint: str) -> None:
    """ValueError for a checkpoint that was trained on pictures of one's own, whose captions are not those of scenes."""
    if data := read_config(find_checkpoint(checkpoint)).get("data"):
        raise ValueError(
            f"{checkpoint} was trained on {data}, so captions of emoji scenes do not fit it. Use evaluate generation "
            f"with --data {data}, for the pictures that it did not learn from, or with --captions FILE."
        )


# --- measures -------------------------------------------------------------------------------------------------------


class Sheet:
    """A judge that only saves the first pictures as one file, each to the right of the true one if there are any."""

    def __init__(self, out: Path):
        check_writable(out)
        self.out = out

    def measure(self, images: np.ndarray, captions: list[str], true: np.ndarray | None) -> dict[str, float]:
        """No numbers; uint8 [B, H, W, 3] both."""
        del captions
        shown = images[:SHOWN]
        if true is not None:
            shown = np.stack([true[:SHOWN], shown], 1).reshape(-1, *images.shape[1:])
        with contextlib.redirect_stdout(sys.stderr):  # stdout has the JSON object only
            save_picture(shown, self.out, min(ACROSS, len(shown)))
        return {}


def held_out(muse: "Muse", asked: Asked) -> dict[str, dict[str, float]]:
    """Loss and accuracy of each transformer on the pictures that it did not learn from, as in its training log."""
    found, source = {}, asked.source
    if source is None:
        return found
    for stage, (train, rows) in asked.held.items():
        parts = held_out_parts(train, np.arange(len(rows)))
        names = dict.fromkeys((stage, "base"))  # the stage's own tokens first
        sizes = tuple(muse.tokenizer_config(name).image_size for name in names)

        def tokenize(images: tuple[np.ndarray, ...], names: dict = names) -> tuple[np.ndarray, ...] | np.ndarray:
            tokens = [muse.tokenize(each, name) for name, each in zip(names, images)]
            return tuple(tokens) if len(tokens) > 1 else tokens[0]

        cache = TokenCache.build(
            lambda i, sizes=sizes, rows=rows, train=train: source.example(int(rows[i]), sizes, train),
            len(rows),
            tokenize,
            lambda captions: muse.text.encode(captions, length=muse.configs["base"].text_length),
            chunk=min(64, len(rows)),
        )
        values = held_out_loss(muse.configs[stage], train, muse.models[stage], cache, parts)
        found[stage] = values | dict(pictures=sum(map(len, parts)))
    return found


def evaluate_own(
    muse: "Muse", asked: Asked, seed: int = 0, batch: int = 64, judges: Sequence[Judge] = (), **options: Any
) -> dict[str, Any]:
    """One picture of each caption, and what there is to measure.

    judges     see `fidelity.evaluate_generation`; of captions without pictures there are no true ones to compare with
    options    for `muse.generate`; None means the checkpoint's own

    -> held_out, by transformer, if pictures were held out of training · what the judges measure · meaning, a sentence
    on each of these · seconds of drawing · settings
    """
    losses = held_out(muse, asked)
    batch = min(batch, len(asked.captions))
    images, seconds = draw(muse, asked.captions, seed, batch, "captions", **options)
    result: dict[str, Any] = dict(held_out=losses) if losses else {}
    meaning = dict(held_out=HELD_OUT) if losses else {}
    true = asked.true(images.shape[1])
    for judge in judges:
        result |= judge.measure(images, asked.captions, true)
        meaning |= getattr(judge, "meaning", {})
    used = muse.defaults | {key: value for key, value in options.items() if value is not None}
    settings = dict(captions=asked.what, n=len(images), seed=seed, batch=batch, **used)
    return result | dict(meaning=meaning, seconds=round(seconds, 2), settings=settings)
