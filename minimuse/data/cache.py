"""The token cache that the transformers train on, and which of its examples each step sees."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from minimuse.config import TrainConfig
from minimuse.data.arrays import join_arrays, map_arrays
from minimuse.files import write_arrays

HELD_OUT = 7  # so that the choice of held-out examples is not an epoch's order


def batch_indices(step: int, batch: int, size: int, seed: int) -> np.ndarray:
    """Which examples step number `step` sees, int [batch]: a new permutation every epoch, without the last, smaller
    batch. ValueError if there are fewer examples than a batch."""
    if batch > size:
        raise ValueError(f"A batch of {batch} needs at least {batch} examples; there are {size}.")
    epoch, number = divmod(step, size // batch)
    return _permutation(size, seed, epoch)[number * batch : (number + 1) * batch]


@functools.lru_cache(maxsize=2)  # drawing the epoch's order at every step would take longer than the step on a GPU
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def held_out_rows(train: TrainConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` examples a transformer learns from, and which are held out: a random tenth of them at most."""
    held = min(train.held_out, count // 10)
    order = np.random.default_rng((train.seed, HELD_OUT)).permutation(count)
    return np.sort(order[held:]), order[:held]


def held_out_parts(train: TrainConfig, held: np.ndarray) -> list[np.ndarray]:
    """The held-out examples in parts of what fits in memory, all of one size, so a few may be left out."""
    size = min(len(held), train.batch // train.accumulate)
    return [held[i : i + size] for i in range(0, len(held) - size + 1, size)] if size else []


class TokenCache:
    """What a transformer trains on: the tokens of every image and the embeddings of every caption, without padding. A
    cache that was loaded is read from disk in pieces.

    tokens      uint16 [M, h, w]
    embeddings  float16 [text tokens in total, width], all captions one after another
    ends        int64 [number of captions], where each caption ends in `embeddings`
    low         uint16 [M, h', w'], the low-resolution tokens of the same images, for super-resolution
    counts      int64 [M], how many captions each image has; None: one
    flipped, flipped_low    the tokens of the mirror images
    may_flip    bool [M], which of these may be used
    """

    def __init__(
        self,
        tokens: np.ndarray,
        embeddings: np.ndarray,
        ends: np.ndarray,
        low: np.ndarray | None = None,
        counts: np.ndarray | None = None,
        flipped: np.ndarray | None = None,
        flipped_low: np.ndarray | None = None,
        may_flip: np.ndarray | None = None,
    ):
        self.tokens, self.embeddings, self.ends, self.low = tokens, embeddings, ends, low
        self.counts, self.flipped, self.flipped_low, self.may_flip = counts, flipped, flipped_low, may_flip
        self.text_length = int(np.max(np.diff(ends, prepend=0)))
        self._first = None if counts is None else np.cumsum(counts) - counts  # of each image's captions

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(
        cls,
        examples: Callable,
        size: int,
        tokenize: Callable,
        encode: Callable,
        chunk: int = 256,
        may_flip: np.ndarray | None = None,
    ) -> "TokenCache":
        """Tokenize and encode `size` examples, in chunks of one shape.

        examples   i -> (image uint8 [H, W, 3], caption or captions), for i < size
        tokenize   images [B, H, W, 3] -> tokens [B, h, w]
        encode     captions -> (embeddings [B, S, width], mask [B, S])
        may_flip   bool [size], which mirror images may be used; None: none of them, and none is tokenized

        For super-resolution an image is a pair, large and small, and `tokenize` takes and returns pairs.
        """
        tokens, flipped, embeddings, lengths, counts = [], [], [], [], []
        for start in range(0, size, chunk):
            count = min(chunk, size - start)
            # The last chunk is padded with its first example, so that its smaller size needs no compilation.
            picked = [examples(start + (i if i < count else 0)) for i in range(chunk)]
            images = jax.tree.map(lambda *each: np.stack(each), *(image for image, _ in picked))
            keep = lambda x, count=count: np.asarray(x, np.uint16)[:count]
            tokens.append(jax.tree.map(keep, tokenize(images)))
            if may_flip is not None:
                flipped.append(jax.tree.map(keep, tokenize(jax.tree.map(lambda x: x[:, :, ::-1], images))))
            several = [(words,) if isinstance(words, str) else tuple(words) for _, words in picked[:count]]
            counts += [len(words) for words in several]
            captions = [caption for words in several for caption in words]
            for begin in range(0, len(captions), chunk):
                some = captions[begin : begin + chunk]
                padded = some + captions[:1] * (chunk - len(some))
                vectors, mask = (np.asarray(x)[: len(some)] for x in encode(padded))
                embeddings.append(vectors[mask].astype(np.float16))
                lengths.append(mask.sum(-1))

        def joined(parts: list) -> tuple[np.ndarray | None, np.ndarray | None]:
            whole = jax.tree.map(lambda *each: np.concatenate(each), *parts) if parts else (None, None)
            return whole if isinstance(whole, tuple) else (whole, None)

        (ids, low), (other, other_low) = joined(tokens), joined(flipped)
        assert ids is not None
        many = np.array(counts, np.int64) if max(counts) > 1 else None
        vectors, ends = np.concatenate(embeddings), np.cumsum(np.concatenate(lengths))
        return cls(ids, vectors, ends, low, many, other, other_low, may_flip)

    def _arrays(self) -> dict[str, np.ndarray]:
        named = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    @classmethod
    def join(cls, parts: list["TokenCache"]) -> "TokenCache":
        """Several caches as one, in this order. ValueError if only some have low-resolution tokens."""
        starts = np.cumsum([0] + [len(part.embeddings) for part in parts])
        arrays = [part._arrays() for part in parts]
        for each, part, start in zip(arrays, parts, starts):
            each["ends"] = part.ends + start
            if any(other.counts is not None for other in parts):
                each.setdefault("counts", np.ones(len(part), np.int64))
        having = sum(part.low is not None for part in parts)
        if 0 < having < len(parts):
            raise ValueError(f"Only {having} of {len(parts)} caches have low-resolution tokens; join all or none.")
        return cls(**{name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]})

    @classmethod
    def join_files(cls, paths: list[Path], out: Path | str) -> None:
        """Files that `save` wrote as one file, without loading them."""
        caches, many = [cls.load(path) for path in paths], False
        many = any(cache.counts is not None for cache in caches)
        starts = np.cumsum([0] + [len(cache.embeddings) for cache in caches])
        others = []
        for cache, start in zip(caches, starts):
            counts = cache.counts if cache.counts is not None else np.ones(len(cache), np.int64)
            others.append(dict(ends=cache.ends + start) | (dict(counts=counts) if many else {}))
        del caches  # closes the files
        join_arrays(paths, out, others)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically."""
        write_arrays(path, self._arrays())

    @classmethod
    def load(cls, path: Path | str) -> "TokenCache":
        """The cache that `save` wrote, read from disk where it is used. ValueError if the file is damaged."""
        arrays = map_arrays(path)
        try:
            return cls(**arrays)
        except TypeError:
            raise ValueError(f"{path} is not a token cache; it holds {', '.join(arrays)}.") from None

    def batch(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """The examples of these numbers: tokens int32 [B, N], text float16 [B, S, width] padded with zeros, text_mask
        bool [B, S], and for super-resolution low int32 [B, n]. S is the length of the longest caption of the whole
        cache, so every batch has the same shape.

        rng    draws one of an image's captions, and whether it is mirrored; None: the first, and it is not
        """
        text = np.zeros((len(indices), self.text_length, self.embeddings.shape[1]), np.float16)
        mask = np.zeros(text.shape[:2], bool)
        for row, i in enumerate(self._captions(indices, rng)):
            vectors = self.embeddings[self.ends[i - 1] if i else 0 : self.ends[i]]
            text[row, : len(vectors)], mask[row, : len(vectors)] = vectors, True
        pictures = dict(tokens=self.tokens[indices]) | ({} if self.low is None else dict(low=self.low[indices]))
        if rng is not None and self.may_flip is not None and self.flipped is not None:
            turned = self.may_flip[indices] & (rng.random(len(indices)) < 0.5)
            for name, other in (("tokens", self.flipped), ("low", self.flipped_low)):
                if other is not None:
                    pictures[name] = np.where(turned[:, None, None], other[indices], pictures[name])
        flat = {name: ids.reshape(len(indices), -1).astype(np.int32) for name, ids in pictures.items()}
        return flat | dict(text=text, text_mask=mask)

    def _captions(self, indices: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Which caption of each of these images."""
        if self.counts is None or self._first is None:
            return indices
        drawn = 0 if rng is None else rng.integers(self.counts[indices])
        return self._first[indices] + drawn
