"""Captioned images in and out of Hugging Face `datasets`, and the caches that training reads.

Two ways in, one form: a split of the emoji scenes, or any captioned image set (a Hub name, an `imagefolder` with
metadata.jsonl, Parquet). Either is a `datasets.Dataset` with the columns image and caption. Before the transformer
trains, every image becomes tokens and every caption becomes embeddings, once.
"""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from minimuse import scenes
from minimuse.files import write_arrays

FILES = (".parquet", ".jsonl", ".json", ".csv", ".zip", ".tar", ".txt")  # no Hub name ends so


def scene_dataset(split: str, n: int, *, size: int = 64, seed: int = 0, lattice: bool = True):
    """n scenes of a split as a `datasets.Dataset` with the columns image (PIL, size pixels a side), caption, task."""
    import datasets

    features = datasets.Features(
        image=datasets.Image(), caption=datasets.Value("string"), task=datasets.Value("string")
    )

    def rows():
        for i in range(n):
            scene, caption = scenes.example(split, i, seed, lattice=lattice)
            yield dict(image=Image.fromarray(scenes.render(scene, size)), caption=caption, task=scene.task)

    return datasets.Dataset.from_list(list(rows()), features=features)


def load_captioned(
    source: str | os.PathLike, *, split: str = "train", image: str = "image", caption: str | None = None
):
    """Any captioned image set as a `datasets.Dataset` with the columns image and caption.

    source   a folder of pictures with metadata.jsonl (file_name, text), a Parquet file or a folder of them, or the
             name of a data set on the Hugging Face Hub
    caption  the caption's column; None takes the first there is of caption, text, prompt
    """
    import datasets

    path = Path(source)
    if path.is_file() and path.suffix == ".parquet":
        dataset = datasets.load_dataset("parquet", data_files=str(path), split="train")
    elif path.is_dir():
        dataset = datasets.load_dataset(str(path), split=split)
    elif path.suffix.lower() in FILES or str(source).count("/") > 1 or str(source).startswith((".", "~")):
        raise FileNotFoundError(f"No file or folder {source}.")
    else:
        dataset = datasets.load_dataset(str(source), split=split)
    columns = dataset.column_names
    found = caption if caption in columns else next((c for c in ("caption", "text", "prompt") if c in columns), None)
    if image not in columns or found is None or (caption and caption != found):
        raise ValueError(
            f"{source} has the columns {', '.join(columns)}; an image column ({image!r}) and a caption column "
            f"({caption or 'caption, text or prompt'!r}) are needed. Name them with image= and caption=."
        )
    dataset = dataset.select_columns([image, found])
    renames = {old: new for old, new in ((image, "image"), (found, "caption")) if old != new}
    return dataset.rename_columns(renames) if renames else dataset


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """A picture of any mode as RGB, what is transparent on `ground`. ValueError for pictures of plain numbers."""
    if image.mode.startswith("I;16"):  # 16 bits a pixel; Pillow alone would clip them at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F", "La", "RGBa"):
        raise ValueError(f"A picture of mode {image.mode} has no known range; save it with 8 bits a colour (RGB or L).")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert("RGB")


def to_square(image: Image.Image, size: int) -> np.ndarray:
    """Any picture as uint8 [size, size, 3]: transparency on white, the middle square cut out, then resized."""
    image, side = to_rgb(image), min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    return np.asarray(image if side == size else image.resize((size, size), Image.Resampling.LANCZOS))


def batch_indices(step: int, batch: int, size: int, seed: int) -> np.ndarray:
    """Which examples step number `step` sees: a new permutation each epoch, the last ragged batch dropped."""
    if batch > size:
        raise ValueError(f"A batch of {batch} needs at least {batch} examples; there are {size}.")
    epoch, place = divmod(step, size // batch)
    return _permutation(size, seed, epoch)[place * batch : (place + 1) * batch]


@functools.lru_cache(maxsize=2)  # a step would take longer to draw its epoch's order than a GPU takes to compute it
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def batches(dataset, batch: int, *, size: int = 64, seed: int = 0, epochs: int = 1) -> Iterator[dict]:
    """Batches of a Dataset with image and caption: images uint8 [B, size, size, 3], captions a list of B strings.

    Every epoch is a new permutation, a pure function of (seed, epoch); the last ragged batch is dropped.
    """
    for step in range(epochs * max(1, len(dataset) // batch)):  # batch_indices refuses a set smaller than a batch
        rows = dataset[batch_indices(step, batch, len(dataset), seed)]
        images = np.stack([to_square(image, size) for image in rows["image"]])
        yield dict(images=images, captions=rows["caption"])


class TokenCache:
    """What the transformer trains on: the tokens of every image, and every caption's embeddings at true length.

    tokens      uint16 [M, h, w]
    embeddings  float16 [total text tokens, width], all captions one after another
    ends        int64 [M], where each caption ends in `embeddings`
    low         uint16 [M, h', w'], the low-resolution tokens of the same images, for super-resolution
    """

    def __init__(self, tokens: np.ndarray, embeddings: np.ndarray, ends: np.ndarray, low: np.ndarray | None = None):
        self.tokens, self.embeddings, self.ends, self.low = tokens, embeddings, ends, low
        self.text_length = int(np.max(np.diff(ends, prepend=0)))

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(cls, examples: Callable, size: int, tokenize: Callable, encode: Callable, chunk: int = 256):
        """examples(i) -> (image uint8 [H, W, 3], caption) for i < size; tokenize: images [B, H, W, 3] -> [B, h, w];
        encode: captions -> (embeddings [B, S, width], mask [B, S]). Work is done in chunks of one shape.

        For super-resolution an image is a pair, large and small, and so is what `tokenize` is given and returns."""
        tokens, embeddings, lengths = [], [], []
        for start in range(0, size, chunk):
            count = min(chunk, size - start)
            # The last chunk is filled up with its first example, so that nothing is compiled for its odd size.
            picked = [examples(start + (i if i < count else 0)) for i in range(chunk)]
            images = jax.tree.map(lambda *each: np.stack(each), *(image for image, _ in picked))
            tokens.append(jax.tree.map(lambda x, count=count: np.asarray(x, np.uint16)[:count], tokenize(images)))
            vectors, mask = (np.asarray(x)[:count] for x in encode([caption for _, caption in picked]))
            embeddings.append(vectors[mask].astype(np.float16))
            lengths.append(mask.sum(-1))
        tokens = jax.tree.map(lambda *parts: np.concatenate(parts), *tokens)
        tokens, low = tokens if isinstance(tokens, tuple) else (tokens, None)
        return cls(tokens, np.concatenate(embeddings), np.cumsum(np.concatenate(lengths)), low)

    @classmethod
    def join(cls, parts: list["TokenCache"]) -> "TokenCache":
        """Several caches as one, in their order."""
        starts = np.cumsum([0] + [len(part.embeddings) for part in parts])
        ends = [part.ends + start for part, start in zip(parts, starts)]
        tokens, embeddings = ([getattr(part, name) for part in parts] for name in ("tokens", "embeddings"))
        low = None if parts[0].low is None else np.concatenate([part.low for part in parts])
        return cls(np.concatenate(tokens), np.concatenate(embeddings), np.concatenate(ends), low)

    def save(self, path: Path | str) -> None:
        """One safetensors file, written whole or not at all."""
        write_arrays(path, {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)})

    @classmethod
    def load(cls, path: Path | str) -> "TokenCache":
        from safetensors.numpy import load_file

        return cls(**load_file(path))

    def batch(self, indices: np.ndarray) -> dict:
        """tokens int32 [B, N], text float16 [B, S, width] zero-padded, text_mask bool [B, S], and low int32 [B, n] if
        there are such; S is the longest caption of the whole cache, so every batch has one shape."""
        text = np.zeros((len(indices), self.text_length, self.embeddings.shape[1]), np.float16)
        mask = np.zeros(text.shape[:2], bool)
        for row, i in enumerate(indices):
            vectors = self.embeddings[self.ends[i - 1] if i else 0 : self.ends[i]]
            text[row, : len(vectors)], mask[row, : len(vectors)] = vectors, True
        pictures = dict(tokens=self.tokens) | ({} if self.low is None else dict(low=self.low))
        flat = {name: ids[indices].reshape(len(indices), -1).astype(np.int32) for name, ids in pictures.items()}
        return flat | dict(text=text, text_mask=mask)
