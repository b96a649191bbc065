"""Captions, seeds, numbers of pictures and options: what a batch is sampled from, and how. `prompts` is a method of
Muse."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from minimuse.config import BASE_ONLY, SampleOptions, Sampling
from minimuse.decoding import Prompts, is_whole, whole_number
from minimuse.files import as_given
from minimuse.processes import check_jax

if TYPE_CHECKING:
    from minimuse.muse import Muse

MOST = 2**16  # images per caption
LAST = 2**30  # number of a seed's last image

_numbered = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))  # key [] and numbers [B] -> keys [B], as one program
_keys = jax.jit(jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number)))  # both [B]


def strings(captions: Any, what: str) -> list[str]:
    """One or more captions as a list, or a ValueError."""
    given = [captions] if isinstance(captions, str) else captions
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(c, str) for c in given):
        raise ValueError(f"{what} must be a string or a list of at least one string; it was {as_given(captions)}.")
    return list(given)


def encode(muse: "Muse", captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Text embeddings [B, S, width] and mask [B, S]; an empty caption has an empty mask, as in training."""
    embeddings, mask = muse.text.encode(captions, length=muse.configs["base"].text_length)
    given = np.array([bool(caption.strip()) for caption in captions])[:, None]
    return np.asarray(embeddings), np.asarray(mask) & given


def image_keys(captions: int, n: int, seed: int | Sequence[int], index: int | Sequence[int]) -> jax.Array:
    """Random keys [captions * n], see `prompts`."""
    if isinstance(seed, Sequence) or isinstance(index, Sequence):
        each = lambda given: list(given) if isinstance(given, Sequence) else [given] * captions
        pairs = dict(seed=each(seed), index=each(index))
        for (name, values), last in zip(pairs.items(), (2**32 - 1, LAST)):
            if len(values) != captions:
                raise ValueError(f"{len(values)} values of {name} for {captions} captions; give one, or one each.")
            pairs[name] = [whole_number(name, value, 0, last) for value in values]
        numbers = np.add.outer(np.array(pairs["index"]), np.arange(n)).ravel()
        return _keys(np.repeat(np.array(pairs["seed"], np.uint32), n), numbers)
    seed, index = whole_number("seed", seed, 0, 2**32 - 1), whole_number("index", index, 0, LAST)
    return _numbered(jax.random.key(seed), np.arange(index, index + captions * n))


def prompts(
    muse: "Muse",
    captions: str | Sequence[str],
    n: int = 1,
    seed: int | Sequence[int] = 0,
    negative: str | Sequence[str] | None = None,
    *,
    index: int | Sequence[int] = 0,
) -> Prompts:
    """What a batch is sampled from, every caption n times. ValueError for what `generate` does not take.

    seed, index    image i of the batch is number index + i of the seed; or one of each per caption, whose images are
                   then number index to index + n - 1 of its own seed
    """
    check_jax()
    captions = strings(captions, "A caption")
    if not is_whole(n) or not 1 <= n <= MOST:
        raise ValueError(f"n is the number of images per caption, from 1 to {MOST}; it was {as_given(n)}.")
    keys = image_keys(len(captions), n, seed, index)
    negatives = strings("" if negative is None else negative, "A negative caption")
    if len(negatives) not in (1, len(captions)):
        raise ValueError(f"{len(negatives)} negative captions for {len(captions)} captions; give one, or one each.")
    negatives = negatives * (len(captions) // len(negatives))
    repeat = lambda text: jax.tree.map(lambda x: jax.device_put(np.repeat(x, n, axis=0)), text)
    return Prompts(repeat(encode(muse, captions)), repeat(encode(muse, negatives)), keys)


def with_options(own: Sampling, options: SampleOptions, stage: int) -> Sampling:
    """A stage's record (stage 0 is the base, 1 super-resolution) with the options that are given for it. If steps are
    given and revise is not, a quarter of them revise at most.

    TypeError for an unknown option, ValueError for a pair that is not one; the values are for
    `decoding.check_sampling`.
    """
    changes = {}
    for name, value in options.items():
        if name not in SampleOptions.__annotations__:
            raise TypeError(
                f"There is no sampling option {name!r}; there are {', '.join(SampleOptions.__annotations__)}."
            )
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError(
                    f"{name} is one value, or a pair for the base and super-resolution stage; it was {as_given(value)}."
                )
            value = value[stage]
        elif stage and name in BASE_ONLY:
            continue
        if value is not None:
            changes[name] = value
    if is_whole(steps := changes.get("steps")):
        changes.setdefault("revise", min(own.revise, steps // 4))
    return dataclasses.replace(own, **changes)
