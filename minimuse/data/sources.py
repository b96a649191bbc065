"""What a run learns from: emoji scenes, rendered when they are needed, or your own captioned pictures.

Both sources have the same methods: tokenizers take pictures by number, transformers take examples, that is, pictures
with a caption. Tokenizers can also take collages of artwork, which have no captions, between the pictures of a source.
"""

import functools
import hashlib
import os
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from minimuse.config import TrainConfig
from minimuse.data import everyday, scenes
from minimuse.data.artwork import Artwork
from minimuse.data.cache import batch_indices
from minimuse.data.captioned import load_captioned, to_square

if TYPE_CHECKING:
    from datasets import Dataset


def large_object(index: int, seed: int) -> scenes.Scene:
    """Training scene number `index` of one object of the largest size; one in four is a coloured shape."""
    rng = random.Random(f"large/{seed}/{index}")
    task = rng.choice(("one", "one", "one", "colours"))
    while (scene := scenes.random_scene(rng, task)).items[0].size < max(scenes.SIZES):
        pass
    return scene


def tokenizer_scenes(numbers: range, seed: int) -> list[scenes.Scene]:
    """What tokenizers learn from. Every second scene shows one large object: only one training scene in six does, but
    a large object has 16 patches and a small one has 9."""
    # The two kinds are numbered separately: tasks alternate by number, so every second number would meet half of them.
    return [large_object(i // 2, seed) if i % 2 else scenes.example("train", i // 2, seed)[0] for i in numbers]


def piece_at(centre: tuple[float, float], image: np.ndarray, size: int, step: int, rng: random.Random) -> np.ndarray:
    """A crop [size, size, 3] of image [H, H, 3] with the point `centre` (x, y), in pixels, in it, its corner at a
    multiple of `step`."""

    def start(middle: float) -> int:
        wanted = middle - size * rng.uniform(0.25, 0.75)  # the object should not always be in the middle
        return int(min(max(round(wanted / step) * step, 0), len(image) - size))

    x, y = (start(middle) for middle in centre)
    return image[y : y + size, x : x + size]


def piece_around(scene: scenes.Scene, image: np.ndarray, size: int, step: int, rng: random.Random) -> np.ndarray:
    """A crop as `piece_at` takes it, around one of the scene's objects."""
    item, scale = rng.choice(scene.items), len(image) / scenes.CANVAS
    return piece_at((item.centre[0] * scale, item.centre[1] * scale), image, size, step, rng)


class Scenes:
    """Emoji scenes of the split `train`, as many as a stage needs."""

    about: dict[str, str] = {}  # what must be the same when a run is resumed

    def count(self, train: TrainConfig) -> int:
        """Number of examples that a transformer learns from."""
        return train.scenes

    def example(self, i: int, sizes: tuple[int, ...], train: TrainConfig) -> tuple[tuple[np.ndarray, ...], str]:
        """Example i as uint8 [H, H, 3] for every H of sizes, and its caption."""
        split, seed = "train", train.seed
        if random.Random(f"everyday or not/{seed}/{i}").random() < train.everyday:
            split, seed = "everyday", -1 - seed  # seeds of held-out scenes are not negative
        scene, caption = everyday.example(split, i, seed)
        return tuple(scenes.render(scene, size) for size in sizes), caption

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]."""
        return scenes.render_batch(tokenizer_scenes(numbers, seed), size)

    def pieces(self, numbers: range, size: int, seed: int, crop: int, factor: int, name: str) -> np.ndarray:
        """Crops of pictures, uint8 [B, crop, crop, 3], each around an object and with its corner at a multiple of
        `factor`; `name` seeds where they are."""
        drawn, rng = tokenizer_scenes(numbers, seed), random.Random(name)
        pairs = zip(drawn, scenes.render_batch(drawn, size))
        return np.stack([piece_around(*pair, crop, factor, rng) for pair in pairs])


class Pictures:
    """Your own captioned pictures, as `captioned.load_captioned` loads them: their middle squares, in a new order every
    epoch. They are cropped and resized once, into the cache of `datasets`, which is read from disk when needed.

    source   a folder with metadata.jsonl, a Parquet file or a folder of Parquet files, or a Hub name

    ValueError if there are no pictures, a caption is missing, or (on first use) a picture cannot be read.
    """

    def __init__(self, source: str | os.PathLike):
        self.source, self.dataset = str(source), load_captioned(source)
        if not len(self.dataset):
            raise ValueError(f"{source} has no pictures.")
        self.captions: list[str] = self.dataset["caption"][:]
        for i, caption in enumerate(self.captions):
            if not isinstance(caption, str):
                raise ValueError(f"Row {i} of {source} has the caption {caption!r}; every picture needs a string.")
        digest = hashlib.sha256("\0".join(self.captions).encode(errors="surrogatepass")).hexdigest()[:12]
        self.about = dict(captions=digest)  # not the folder: a run may continue on a different machine
        self._square = functools.lru_cache(self._squares)

    def _squares(self, size: int) -> "Dataset":
        """The data set with one column, pixels: bytes of uint8 [size, size, 3]."""
        import datasets

        raw, decode = datasets.Image(decode=False), datasets.Image().decode_example

        def cut(rows: dict, numbers: list[int], size: int = size, source: str = self.source) -> dict[str, list[bytes]]:
            found = []
            for number, stored in zip(numbers, rows["image"]):
                if stored is None:
                    raise ValueError(f"Row {number} of {source} has no picture.")
                try:  # one by one, so that the row is known; the errors are those of Pillow and of `to_rgb`
                    found.append(to_square(decode(stored), size).tobytes())
                except (OSError, ValueError) as error:
                    raise ValueError(f"Cannot read the picture in row {number} of {source}: {error}") from None
            return dict(pixels=found)

        return (
            self.dataset.select_columns(["image"])
            .cast_column("image", raw)
            .map(
                cut,
                with_indices=True,
                batched=True,
                batch_size=64,
                writer_batch_size=256,
                remove_columns=["image"],
                features=datasets.Features(pixels=datasets.Value("binary")),
                desc=f"pictures of {size} px",
            )
        )

    def _pixels(self, indices: Sequence[int], size: int) -> np.ndarray:
        rows = self._square(size)[indices]["pixels"]
        return np.stack([np.frombuffer(row, np.uint8).reshape(size, size, 3) for row in rows])

    def count(self, train: TrainConfig) -> int:
        """Number of examples that a transformer learns from: all of them."""
        return len(self.captions)

    def example(self, i: int, sizes: tuple[int, ...], train: TrainConfig) -> tuple[tuple[np.ndarray, ...], str]:
        """Example i as uint8 [H, H, 3] for every H of sizes, and its caption; `train` has no effect."""
        return tuple(self._pixels([i], size)[0] for size in sizes), self.captions[i]

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]; numbers count through one epoch after another."""
        return self._pixels([int(batch_indices(n, 1, len(self.captions), seed)[0]) for n in numbers], size)

    def pieces(self, numbers: range, size: int, seed: int, crop: int, factor: int, name: str) -> np.ndarray:
        """Crops of pictures, uint8 [B, crop, crop, 3], with their corners at multiples of `factor`; `name` seeds where
        they are."""
        rng, found = random.Random(name), []
        for image in self.pictures(numbers, size, seed):
            x, y = (rng.randrange((size - crop) // factor + 1) * factor for _ in range(2))
            found.append(image[y : y + crop, x : x + crop])
        return np.stack(found)


class WithArtwork:
    """The pictures of a source, for tokenizers, with a collage of artwork before each: half of the pictures are
    collages.

    source     where the other half comes from
    artwork    the drawings
    """

    def __init__(self, source: Scenes | Pictures, artwork: Artwork):
        self.source, self.artwork = source, artwork
        self.about = source.about | artwork.about

    def _mixed(self, numbers: range, others: Callable[[range], np.ndarray], collage: Callable) -> np.ndarray:
        """Collages for even numbers, the source's for odd ones; its own numbers have no gaps."""
        own = range(numbers.start // 2, numbers.stop // 2)
        rest = iter(others(own)) if len(own) else iter(())
        return np.stack([next(rest) if n % 2 else collage(n // 2) for n in numbers])

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]; numbers without gaps."""
        return self._mixed(
            numbers,
            lambda own: self.source.pictures(own, size, seed),
            lambda number: self.artwork.collage(number, size, seed)[0],
        )

    def pieces(self, numbers: range, size: int, seed: int, crop: int, factor: int, name: str) -> np.ndarray:
        """Crops of pictures, uint8 [B, crop, crop, 3], as `Scenes.pieces` cuts them, each around an object or a
        drawing."""
        rng = random.Random(f"{name}/artwork")

        def piece(number: int) -> np.ndarray:
            image, centres = self.artwork.collage(number, size, seed)
            return piece_at(rng.choice(centres), image, crop, factor, rng)

        return self._mixed(numbers, lambda own: self.source.pieces(own, size, seed, crop, factor, name), piece)


def open_source(name: str) -> Scenes | Pictures:
    """The pictures that a preset's `data` names: "" for the scenes, otherwise what `Pictures` takes.

    Open a source once and pass it on: opening loads every caption.
    """
    return Pictures(name) if name else Scenes()
