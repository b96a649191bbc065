"""What a run learns from: emoji scenes, drawn as they are asked for, or your own captioned pictures.

Both give the same: to tokenizers pictures by their number, to the transformers examples, pictures with a caption.
"""

import functools
import hashlib
import os
import random

import numpy as np

from minimuse.config import TrainConfig
from minimuse.data import scenes
from minimuse.data.cache import batch_indices
from minimuse.data.captioned import load_captioned, to_square


def large_object(index: int, seed: int) -> scenes.Scene:
    """A training scene of one object of the largest size, a coloured shape in one of four."""
    rng = random.Random(f"large/{seed}/{index}")
    task = rng.choice(("one", "one", "one", "colours"))
    while (scene := scenes.random_scene(rng, task)).items[0].size < max(scenes.SIZES):
        pass
    return scene


def tokenizer_scenes(numbers: range, seed: int) -> list[scenes.Scene]:
    """What tokenizers learn from. Every other scene shows one large object: they are in one training scene of six, but
    have 16 patches each, where small ones have 9."""
    # Both kinds count for themselves: the tasks take turns by number, and every second number meets half of them.
    return [large_object(i // 2, seed) if i % 2 else scenes.example("train", i // 2, seed)[0] for i in numbers]


def piece_around(scene: scenes.Scene, image: np.ndarray, size: int, step: int, rng: random.Random) -> np.ndarray:
    """A square of `size` pixels of image [H, H, 3] with one of the scene's objects in it, at a multiple of `step`."""
    item, scale = rng.choice(scene.items), len(image) / scenes.CANVAS

    def start(centre: float) -> int:
        wanted = centre * scale - size * rng.uniform(0.25, 0.75)  # so the object is not always in the middle
        return int(min(max(round(wanted / step) * step, 0), len(image) - size))

    x, y = (start(centre) for centre in item.centre)
    return image[y : y + size, x : x + size]


class Scenes:
    """Emoji scenes of the split `train`, as many as a stage asks for."""

    about: dict = {}  # what of the source must stay the same when a run is resumed

    def count(self, train: TrainConfig) -> int:
        """How many examples a transformer learns from."""
        return train.scenes

    def example(self, i: int, sizes: tuple[int, ...], seed: int) -> tuple[tuple[np.ndarray, ...], str]:
        """Example i as uint8 [H, H, 3] for every H of sizes, and its caption."""
        scene, caption = scenes.example("train", i, seed)
        return tuple(scenes.render(scene, size) for size in sizes), caption

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]."""
        return scenes.render_batch(tokenizer_scenes(numbers, seed), size)

    def pieces(self, numbers: range, size: int, seed: int, crop: int, factor: int, name: str) -> np.ndarray:
        """Pieces of pictures at multiples of `factor`, uint8 [B, crop, crop, 3]; `name` seeds where they are cut."""
        drawn, rng = tokenizer_scenes(numbers, seed), random.Random(name)
        pairs = zip(drawn, scenes.render_batch(drawn, size))
        return np.stack([piece_around(*pair, crop, factor, rng) for pair in pairs])


class Pictures:
    """Captioned pictures of your own: what `captioned.load_captioned` reads, their middle squares, in a new order every
    epoch. They are cut and resized once, into the cache of `datasets`, which is read from disk as it is needed.

    source   a folder with metadata.jsonl, a Parquet file or a folder of them, or a Hub name
    """

    def __init__(self, source: str | os.PathLike):
        self.source, self.dataset = str(source), load_captioned(source)
        if not len(self.dataset):
            raise ValueError(f"{source} has no pictures.")
        self.captions = self.dataset["caption"][:]
        for i, caption in enumerate(self.captions):
            if not isinstance(caption, str):
                raise ValueError(f"Row {i} of {source} has the caption {caption!r}; every picture needs one string.")
        told = hashlib.sha256("\0".join(self.captions).encode(errors="surrogatepass")).hexdigest()[:12]
        self.about = dict(captions=told)  # not where they lie: another machine may go on
        self._square = functools.lru_cache(self._squares)

    def _squares(self, size: int):
        """The data set with the column pixels, bytes of uint8 [size, size, 3]."""
        import datasets

        raw, decode = datasets.Image(decode=False), datasets.Image().decode_example

        def cut(rows, numbers, size=size, source=self.source):
            found = []
            for number, stored in zip(numbers, rows["image"]):
                if stored is None:
                    raise ValueError(f"Row {number} of {source} has no picture.")
                try:  # one by one, so that the row is known; errors are Pillow's, and our own of `to_rgb`
                    found.append(to_square(decode(stored), size).tobytes())
                except (OSError, ValueError) as error:
                    raise ValueError(f"The picture in row {number} of {source} cannot be read: {error}") from None
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

    def _pixels(self, indices, size: int) -> np.ndarray:
        rows = self._square(size)[indices]["pixels"]
        return np.stack([np.frombuffer(row, np.uint8).reshape(size, size, 3) for row in rows])

    def count(self, train: TrainConfig) -> int:
        """How many examples a transformer learns from: all."""
        return len(self.captions)

    def example(self, i: int, sizes: tuple[int, ...], seed: int) -> tuple[tuple[np.ndarray, ...], str]:
        """Example i as uint8 [H, H, 3] for every H of sizes, and its caption; nothing is drawn with the seed."""
        return tuple(self._pixels([i], size)[0] for size in sizes), self.captions[i]

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]; number n is the n-th picture of a first, second, ... time through all of them."""
        return self._pixels([int(batch_indices(n, 1, len(self.captions), seed)[0]) for n in numbers], size)

    def pieces(self, numbers: range, size: int, seed: int, crop: int, factor: int, name: str) -> np.ndarray:
        """Pieces of pictures at multiples of `factor`, uint8 [B, crop, crop, 3]; `name` seeds where they are cut."""
        rng, found = random.Random(name), []
        for image in self.pictures(numbers, size, seed):
            x, y = (rng.randrange((size - crop) // factor + 1) * factor for _ in range(2))
            found.append(image[y : y + crop, x : x + crop])
        return np.stack(found)


def open_source(name: str) -> Scenes | Pictures:
    """Where a preset's pictures come from: "" for the scenes, else what `Pictures` takes."""
    return Pictures(name) if name else Scenes()
