"""Sampling a batch's tokens for a stage: in groups that fit a CPU's cache, and step by step where someone watches.

`decoding.sample_tokens` is one program for all steps. With `on_step` the same steps are separate programs, one for each
kind of step, so that Python can look between them: show progress, show a preview, or stop by raising an exception.
Keys and arithmetic are those of the one program, and so are the tokens.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.beyond.critic import TokenCritic
from minimuse.config import Sampling
from minimuse.decoding import CACHED_TOKENS, Prompts, Trace, decode_options, decode_step, kind_of, sample_tokens
from minimuse.transformer import BaseTransformer

if TYPE_CHECKING:
    from minimuse.muse import Muse


class Step(NamedTuple):
    """What `on_step` is given after every step of a stage."""

    stage: str  # base or superres
    step: int  # of the stage, from 1
    steps: int  # of the stage, in all
    images: range  # which images of the batch the step was for: on a CPU a large batch is drawn in groups
    batch: int  # images in all
    tokens: np.ndarray  # int [len(images), h, w], the sampled tokens, those of hidden positions included
    hidden: np.ndarray  # bool [len(images), h, w], hidden after the step: these tokens are a guess so far


OnStep = Callable[[Step], None]


@functools.partial(jax.jit, static_argnames="count")
def _rows(inputs: Any, first: int, count: int) -> Any:
    """Rows first to first + count of every array; one program for every `first`."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), inputs)


def in_groups(tokens: int, sampling: Sampling, inputs: tuple, *, trace: bool = False) -> Iterator[tuple]:
    """`inputs` (prompts, low, start) of a batch, in groups that fit a CPU's cache: no image depends on another.

    tokens    N, image tokens of the stage
    On other devices, with a trace, with a guidance scale per image, or for a batch that does not divide evenly, the
    batch is one group.
    """
    batch = len(inputs[0].keys)
    group = max(1, CACHED_TOKENS // (tokens * (2 if sampling.guided else 1)))
    whole = jax.default_backend() != "cpu" or batch % group or trace or np.ndim(sampling.guidance)
    group = batch if whole else min(group, batch)
    for first in range(0, batch, group):
        yield inputs if group == batch else _rows(inputs, first, group)


def sample_stage(
    muse: "Muse",
    stage: str,
    sampling: Sampling,
    inputs: tuple[Prompts, jax.Array | None, jax.Array | None],
    *,
    on_step: OnStep | None = None,
    trace: bool = False,
) -> tuple[np.ndarray, Trace | None]:
    """Tokens int [B, N] of a stage for `inputs` (prompts, low, start) of `Muse.stage_inputs`, and the Trace or None."""
    model, critic = muse.models[stage], muse.critic_for(sampling)
    size = int(np.prod(model.grid))
    parts, records, first = [], [], 0
    for group in in_groups(size, sampling, inputs, trace=trace):
        if on_step is None:
            tokens, record = sample_tokens(model, sampling, *group, critic=critic, trace=trace)
        else:
            images = range(first, first := first + len(group[0].keys))
            about = dict(stage=stage, steps=sampling.steps, images=images, batch=len(inputs[0].keys))
            told = lambda step, record, about=about: on_step(_as_step(model.grid, step, record, about))
            tokens, record = _in_steps(model, sampling, *group, critic=critic, on_step=told, trace=trace)
        parts.append(tokens)
        records.append(record)
    return np.concatenate(parts), records[0]  # with a trace there is one group


def _as_step(grid: tuple[int, int], step: int, record: Trace, about: dict[str, Any]) -> Step:
    tokens, hidden = (np.asarray(x).reshape(-1, *grid) for x in (record.tokens, record.hidden))
    return Step(step=step, tokens=tokens, hidden=hidden, **about)


def _in_steps(
    model: BaseTransformer,
    sampling: Sampling,
    prompts: Prompts,
    low: jax.Array | None,
    start: jax.Array | None,
    *,
    critic: TokenCritic | None,
    on_step: Callable[[int, Trace], None],
    trace: bool,
) -> tuple[jax.Array, Trace | None]:
    """As `sample_tokens`, with a program for each kind of step instead of one for all."""
    if start is None:
        start = jnp.full((len(prompts.keys), int(np.prod(model.grid))), model.mask_id, jnp.int32)
    given, carry, records = start != model.mask_id, (start, jnp.ones(start.shape, jnp.float32)), []
    for s in range(sampling.steps):
        kind = kind_of(sampling, s, ranked=sampling.order != "confidence", judged=sampling.critic)
        carry, record = _one_step(model, sampling, prompts, low, given, carry, np.int32(s), kind=kind, critic=critic)
        on_step(s + 1, record)
        records.append(record)
    return carry[0], jax.tree.map(lambda *parts: jnp.stack(parts), *records) if trace else None


@functools.partial(jax.jit, static_argnames="kind")
def _one_step(
    model: BaseTransformer,
    sampling: Sampling,
    prompts: Prompts,
    low: jax.Array | None,
    given: jax.Array,
    carry: tuple[jax.Array, jax.Array],
    s: jax.Array,
    *,
    kind: tuple[bool, bool, bool],
    critic: TokenCritic | None,
) -> tuple[tuple[jax.Array, jax.Array], Trace]:
    options = decode_options(model, sampling, prompts, low, critic)
    step = decode_step(options.pop("logits_fn"), given, prompts.keys, sampling, trace=True, **options)
    return step(carry, s, kind=kind)
