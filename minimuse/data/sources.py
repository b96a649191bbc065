"""What a run learns from: emoji scenes, rendered when they are needed, or your own captioned pictures.

Both sources have the same methods: tokenizers take pictures by number, transformers take examples, that is, pictures
with a caption. Tokenizers can also take collages of artwork, which have no captions, between the pictures of a source.
"""

import os
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from minimuse.config import PicturesConfig, TrainConfig
from minimuse.data import everyday, scenes
from minimuse.data.artwork import Artwork
from minimuse.data.cache import batch_indices
from minimuse.data.captioned import load_captioned
from minimuse.data.pixels import CROPS
from minimuse.data.prepare import Prepared, prepare

Captions = tuple[str, ...]
DEFAULT_CACHE = Path("~/.cache/minimuse")
SIDES = re.compile(r"\b(left|right)\w*", re.IGNORECASE)  # also leftmost and right-hand


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

    def prepare(self) -> None:
        """Nothing: scenes are rendered when they are needed."""

    def at_most(self, train: TrainConfig) -> int:
        """As `count`."""
        return train.scenes

    def count(self, train: TrainConfig) -> int:
        """Number of examples that a transformer learns from."""
        return train.scenes

    def may_flip(self, i: int) -> bool:
        """No: captions name sides."""
        return False

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
    """Your own captioned pictures, which `captioned.load_captioned` finds, as squares, in a new order every epoch. They
    are prepared once, in files that are read when needed (data/prepare.py).

    source    what `load_captioned` takes
    config    how they are read, and where the squares are kept
    sizes     sides of the squares that a run needs, which are made together

    ValueError if there are no pictures, or (on first use) if too many of them cannot be read.
    """

    def __init__(self, source: str | os.PathLike, config: PicturesConfig = PicturesConfig(), sizes: Sequence[int] = ()):
        if config.crop not in CROPS:
            raise ValueError(f"--crop is one of {', '.join(CROPS)}; it was {config.crop!r}.")
        if not 0 <= config.bad_share <= 1:
            raise ValueError(f"--bad-share is from 0 to 1; it was {config.bad_share:g}.")
        self.source, self.config, self.sizes = str(source), config, tuple(sizes)
        image, caption = config.image_column or None, config.caption_column or None
        self.found = load_captioned(source, image=image, caption=caption)
        self._sets: dict[int, Prepared] = {}  # by size

    def prepare(self, *sizes: int) -> Prepared:
        """Make the squares of these sizes, of all sizes of the run, if they are not there yet."""
        sizes = sizes or self.sizes or (64,)
        if any(size not in self._sets for size in sizes):
            wanted = self.sizes if set(sizes) <= set(self.sizes) else sizes
            folder = Path(os.path.expanduser(self.config.cache or DEFAULT_CACHE))
            if str(folder).startswith("~"):
                raise ValueError(f"There is no home folder for {folder}; name a folder with --cache.")
            made = prepare(
                self.found.parts, self.source, wanted, folder / "pictures", self.config.crop, self.config.bad_share
            )
            self._sets |= dict.fromkeys(wanted, made)
        return self._sets[sizes[0]]

    @property
    def about(self) -> dict[str, str]:
        """What must be the same when a run is resumed: captions and pictures, and what is made of them. Not the folder:
        a run may continue on a different machine."""
        prepared = next(iter(self._sets.values()), None) or self.prepare()
        other = dict(crop=self.config.crop) if self.config.crop != "center" else {}
        other |= dict(flip="yes") if self.config.flip else {}
        return dict(captions=self.found.digest(prepared.rows), pictures=prepared.digest) | other

    def may_flip(self, i: int) -> bool:
        """Whether the mirror image of example i is right for its captions, too."""
        return self.config.flip and not any(SIDES.search(caption) for caption in self.captions(i))

    def captions(self, i: int) -> tuple[str, ...]:
        """All captions of example i."""
        return self.found.captions[self.prepare().rows[i]]

    def at_most(self, train: TrainConfig) -> int:
        """Number of examples if all pictures can be read."""
        return len(self.found)

    def count(self, train: TrainConfig) -> int:
        """Number of examples that a transformer learns from: all of them."""
        return len(self.prepare())

    def example(self, i: int, sizes: tuple[int, ...], train: TrainConfig) -> tuple[tuple[np.ndarray, ...], Captions]:
        """Example i as uint8 [H, H, 3] for every H of sizes, and its captions; `train` has no effect."""
        return tuple(self.prepare(size).pixels([i], size)[0] for size in sizes), self.captions(i)

    def pictures(self, numbers: range, size: int, seed: int) -> np.ndarray:
        """uint8 [B, size, size, 3]; numbers count through one epoch after another."""
        prepared = self.prepare(size)
        indices = [int(batch_indices(n, 1, len(prepared), seed)[0]) for n in numbers]
        found = prepared.pixels(indices, size)
        for place, (n, i) in enumerate(zip(numbers, indices)):
            if self.may_flip(i) and random.Random(f"flip/{seed}/{n}").random() < 0.5:
                found[place] = found[place, :, ::-1].copy()
        return found

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


def open_source(name: str, config: PicturesConfig = PicturesConfig(), sizes: Sequence[int] = ()) -> Scenes | Pictures:
    """The pictures that a preset's `data` names: "" for the scenes, otherwise what `Pictures` takes.

    Open a source once and pass it on: opening loads every caption.
    """
    return Pictures(name, config, sizes) if name else Scenes()
