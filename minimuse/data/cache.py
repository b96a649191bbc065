"""The token cache that the transformers train on, and which of its examples each step sees."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from minimuse.files import reading, write_arrays


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


class TokenCache:
    """What a transformer trains on: the tokens of every image and the embeddings of every caption, without padding.

    tokens      uint16 [M, h, w]
    embeddings  float16 [text tokens in total, width], all captions one after another
    ends        int64 [M], where each caption ends in `embeddings`
    low         uint16 [M, h', w'], the low-resolution tokens of the same images, for super-resolution
    """

    def __init__(self, tokens: np.ndarray, embeddings: np.ndarray, ends: np.ndarray, low: np.ndarray | None = None):
        self.tokens, self.embeddings, self.ends, self.low = tokens, embeddings, ends, low
        self.text_length = int(np.max(np.diff(ends, prepend=0)))

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def build(
        cls, examples: Callable, size: int, tokenize: Callable, encode: Callable, chunk: int = 256
    ) -> "TokenCache":
        """Tokenize and encode `size` examples, in chunks of one shape.

        examples   i -> (image uint8 [H, W, 3], caption), for i < size
        tokenize   images [B, H, W, 3] -> tokens [B, h, w]
        encode     captions -> (embeddings [B, S, width], mask [B, S])

        For super-resolution an image is a pair, large and small, and `tokenize` takes and returns pairs.
        """
        tokens, embeddings, lengths = [], [], []
        for start in range(0, size, chunk):
            count = min(chunk, size - start)
            # The last chunk is padded with its first example, so that its smaller size needs no compilation.
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
        """Several caches as one, in this order."""
        starts = np.cumsum([0] + [len(part.embeddings) for part in parts])
        ends = [part.ends + start for part, start in zip(parts, starts)]
        tokens, embeddings = ([getattr(part, name) for part in parts] for name in ("tokens", "embeddings"))
        lows = [part.low for part in parts if part.low is not None]
        if lows and len(lows) < len(parts):
            raise ValueError(f"Only {len(lows)} of {len(parts)} caches have low-resolution tokens; join all or none.")
        low = np.concatenate(lows) if lows else None
        return cls(np.concatenate(tokens), np.concatenate(embeddings), np.concatenate(ends), low)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file, atomically."""
        write_arrays(path, {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)})

    @classmethod
    def load(cls, path: Path | str) -> "TokenCache":
        """The cache that `save` wrote; ValueError for a damaged one."""
        from safetensors.numpy import load_file

        with reading(path, "a token cache", "Delete it, and it is made again"):
            return cls(**load_file(path))

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples of these numbers: tokens int32 [B, N], text float16 [B, S, width] padded with zeros, text_mask
        bool [B, S], and for super-resolution low int32 [B, n]. S is the length of the longest caption of the whole
        cache, so every batch has the same shape."""
        text = np.zeros((len(indices), self.text_length, self.embeddings.shape[1]), np.float16)
        mask = np.zeros(text.shape[:2], bool)
        for row, i in enumerate(indices):
            vectors = self.embeddings[self.ends[i - 1] if i else 0 : self.ends[i]]
            text[row, : len(vectors)], mask[row, : len(vectors)] = vectors, True
        pictures = dict(tokens=self.tokens) | ({} if self.low is None else dict(low=self.low))
        flat = {name: ids[indices].reshape(len(indices), -1).astype(np.int32) for name, ids in pictures.items()}
        return flat | dict(text=text, text_mask=mask)
