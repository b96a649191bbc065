"""Mask-free editing: a caption changes a picture, and no mask is given. There are two ways, and one method, `edit`.

resample    the paper's (section 3.3.2): hide a few tokens at random, sample them under the caption, and repeat
read        read the mask from the caption, then sample what is under it again, as in inpainting. A token belongs to the
            mask if the caption makes it less likely than it is without a caption. It is DiffEdit (arXiv 2210.11427)
            with tokens in place of noise.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from minimuse.canvas import Canvas, blend, square, to_canvas
from minimuse.config import SampleOptions, static
from minimuse.decoding import (
    CACHED_TOKENS,
    MOST,
    Prompts,
    both_halves,
    draw_tokens,
    guided_predict,
    number,
    one_of,
    scale,
    whole_number,
)
from minimuse.editing import Edited, finish, raise_changed, redraw_each
from minimuse.files import as_given
from minimuse.stepwise import OnStep
from minimuse.transformer import BaseTransformer

if TYPE_CHECKING:
    from minimuse.muse import Muse, Plan

WAYS = ("resample", "read")
WAY = "read"  # what `edit` does where nothing says otherwise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Resampling:
    """How the paper's way works. The defaults are the paper's, except for its guidance of 4, which destroys what
    should stay (`python -m experiments.mask_free`)."""

    iterations: int = static(100)  # how often some tokens are sampled again
    fraction: float = static(0.08)  # share of the base tokens that are sampled again in each iteration
    top_k: int = static(3)  # sample from the k most likely codes (0 = all); few keep it close to the picture
    guidance: float = 1.0  # t of equation 1, the same at every iteration
    token_temperature: float = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskReading:
    """How a mask is read from a caption. The thresholds are differences of log probabilities, in nats. They were set on
    120 edits of emoji scenes; other pictures may need different ones."""

    masks: int = static(24)  # random masks over which the evidence is averaged
    rate: float = 0.7  # share of the tokens that each of them hides
    threshold: float = -0.5  # a token is redrawn if its evidence among others is below this
    threshold_all: float = -1.0  # or if its evidence with everything hidden is below this


# How the base draws what is under a read mask. What stays visible says much of what fits there, so more guidance than for
# a whole picture: otherwise the mask is often filled with background, or with a copy of an object beside it.
REDRAW = SampleOptions(order=("halton", None), law=("exp", None), guidance=(2.0, None), ramp=(False, None))


class EditOptions(SampleOptions, total=False):
    """The options of `edit`: those of Resampling for the way resample; those of sampling and MaskReading for read."""

    iterations: int
    fraction: float
    masks: int
    rate: float
    threshold: float
    threshold_all: float


def check_resampling(settings: Resampling, codes: int) -> Resampling:
    """The record with numbers as floats, or a ValueError; codes is K."""
    return dataclasses.replace(
        settings,
        fraction=_share("fraction", settings.fraction),
        iterations=whole_number("iterations", settings.iterations, 0, 10_000),
        top_k=whole_number("top_k", settings.top_k, 0, codes),
        guidance=scale("guidance", settings.guidance),
        token_temperature=scale("token_temperature", settings.token_temperature),
    )


def check_reading(settings: MaskReading) -> MaskReading:
    """The record with numbers as floats, or a ValueError."""

    def threshold(name: str) -> float:
        value = number(name, getattr(settings, name))
        if not abs(value) <= MOST:  # true for nan, too
            raise ValueError(f"{name} must be a finite number from {-MOST:g} to {MOST:g}; it was {value}.")
        return value

    return MaskReading(
        masks=whole_number("masks", settings.masks, 1, 10_000),
        rate=_share("rate", settings.rate),
        threshold=threshold("threshold"),
        threshold_all=threshold("threshold_all"),
    )


def _share(name: str, value: Any) -> float:
    if not 0 < (share := number(name, value)) <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1; it was {as_given(value)}.")
    return share


# --- the paper's way --------------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("guided", "trace"))
def resample(
    model: BaseTransformer, settings: Resampling, prompts: Prompts, tokens: jax.Array, *, guided: bool, trace: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Mask-free editing as one program: every iteration hides some random positions of tokens int [B, N], and samples
    them given all others and the text.

    -> tokens int [B, N], and those after every iteration [iterations, B, N], or None
    """
    text, negative, keys = prompts
    condition = model.condition(both_halves(text, negative) if guided else text)
    predict = guided_predict(lambda tokens: model(tokens, *condition), guided)
    count = max(1, round(settings.fraction * tokens.shape[1]))

    def iteration(tokens: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        own = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys)
        order = jax.vmap(lambda key: jax.random.permutation(key, tokens.shape[1]))(own[:, 0])
        hidden = order < count
        logits = predict(jnp.where(hidden, model.mask_id, tokens), settings.guidance)
        sampled, _ = draw_tokens(own[:, 1], logits, settings.token_temperature, settings.top_k)
        tokens = jnp.where(hidden, sampled, tokens)
        return tokens, tokens if trace else None

    return jax.lax.scan(iteration, tokens, jnp.arange(settings.iterations, dtype=jnp.int32))


def edit_tokens(
    muse: "Muse", tokens: np.ndarray, prompts: Prompts, settings: Resampling, *, trace: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """`resample` of base tokens int [B, h, w], each with its own picture, caption and key -> the new ones, and those
    after every iteration [iterations, B, h, w] or None. `settings` is from `check_resampling`."""
    flat, guided = jnp.asarray(tokens.reshape(len(tokens), -1)), settings.guidance > 0
    found, states = resample(muse.models["base"], settings, prompts, flat, guided=guided, trace=trace)
    if states is not None:
        states = np.asarray(states).reshape(settings.iterations, *tokens.shape)
    return np.asarray(found).reshape(tokens.shape), states


def edit_by_resampling(
    muse: "Muse", plan: "Plan", canvas: Canvas, prompts: Prompts, settings: Resampling, *, trace: bool = False
) -> np.ndarray | Edited:
    """The paper's way. Afterwards the super-resolution stage, with the same caption and its own settings, samples the
    fine tokens wherever the base token has changed."""
    settings = check_resampling(settings, muse.configs["base"].codebook_size)
    start = np.repeat(canvas.tokens["base"][None], len(prompts.keys), 0)
    new, states = edit_tokens(muse, start, prompts, settings, trace=trace)
    found, changed = dict(base=new), new != start
    if "superres" in plan.stages:
        found["superres"] = raise_changed(muse, plan, canvas, new, changed, prompts)
    return finish(muse, plan, found, changed, lambda images: images, trace, states=states)


# --- a mask from the caption ------------------------------------------------------------------------------------------


def contrast(
    predict: Callable,
    tokens: jax.Array,
    hidden: jax.Array,
    *,
    mask_id: int,
    floor: float | jax.Array = -math.inf,
    group: int = 1,
) -> jax.Array:
    """How much less likely the caption makes each token of a picture: float [B, N], in nats.

    predict    tokens int [2 B, N] -> logits [2 B, N, K]: the first half under the caption, the second without one or
               under another caption
    tokens     int [B, N], the picture's
    hidden     bool [M, N], which tokens each of M passes hides from `predict`
    floor      log probabilities below this count as this: of two improbable tokens neither is the less likely
    group      how many passes are one batch

    For a hidden token: d = log p(token | visible tokens, caption) - log p(token | visible tokens, no caption). Its mean
    over the passes that hide the token; 0 where none does.
    """

    def one(hidden: jax.Array) -> jax.Array:
        logits = predict(jnp.where(hidden, mask_id, both_halves(tokens, tokens)))
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        own = jnp.take_along_axis(log_p, both_halves(tokens, tokens)[..., None], -1)[..., 0]
        new, old = jnp.split(jnp.maximum(own, floor), 2)
        return jnp.where(hidden, new - old, 0.0)

    total = jax.lax.map(one, hidden, batch_size=min(group, len(hidden))).sum(0)
    return total / jnp.maximum(hidden.sum(0), 1)


@functools.partial(jax.jit, static_argnames="group")
def read_evidence(
    model: BaseTransformer,
    settings: MaskReading,
    prompts: Prompts,
    tokens: jax.Array,
    key: jax.Array,
    floor: float | jax.Array,
    *,
    group: int,
) -> jax.Array:
    """The evidence from which a mask is read, as one program: `contrast` of tokens int [B, N], float [B, 2, N], first
    the mean over random masks of this rate, then with everything hidden.

    prompts    of B captions; `negative` is a caption of the picture as it is, or none
    key        [], of the random masks, the same ones for all B

    Both are needed. Where some tokens are visible, a token of a wrong object stands out, but one of a wrong background
    never does: every visible one confirms its colour. Where nothing is visible, only the caption counts, and the
    background stands out; but a token with only a little of a wrong object in it does not, as it fits many objects.
    """
    n = tokens.shape[1]
    condition = model.condition(both_halves(prompts.text, prompts.negative))
    predict = lambda tokens: model(tokens, *condition)
    order = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, settings.masks))
    some = order < jnp.maximum(1, jnp.round(settings.rate * n))
    over = functools.partial(contrast, predict, tokens, mask_id=model.mask_id, floor=floor, group=group)
    return jnp.stack([over(some), over(jnp.ones((1, n), bool))], 1)


def find_evidence(
    muse: "Muse", tokens: np.ndarray, caption: str | list[str], before: Any, seed: int, settings: MaskReading
) -> np.ndarray:
    """`read_evidence` of a picture's base tokens int [h, w]: float [captions, 2, h, w]."""
    prompts = muse.prompts(caption, 1, seed, before)  # the negative caption is `before`, or none
    batch = len(prompts.keys)
    # What neither caption names is improbable under both: then less than one code in K says nothing.
    floor = -math.inf if before is None else -math.log(muse.configs["base"].codebook_size)
    fits = settings.masks if jax.default_backend() != "cpu" else max(1, CACHED_TOKENS // (2 * batch * tokens.size))
    flat, group = jnp.repeat(jnp.asarray(tokens.reshape(1, -1)), batch, 0), min(fits, settings.masks)
    found = read_evidence(muse.models["base"], settings, prompts, flat, jax.random.key(seed), floor, group=group)
    return np.asarray(found).reshape(batch, 2, *tokens.shape)


def mask_of(evidence: np.ndarray, settings: MaskReading) -> np.ndarray:
    """Evidence [..., 2, h, w] -> the mask, bool [..., h, w]."""
    return (evidence[..., 0, :, :] < settings.threshold) | (evidence[..., 1, :, :] < settings.threshold_all)


def grown(mask: np.ndarray) -> np.ndarray:
    """bool [B, h, w], True also at the eight neighbours of what is True."""
    _, h, w = mask.shape
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    return np.any([padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], 0)


def find_mask(
    muse: "Muse",
    image: Image.Image | np.ndarray,
    caption: str | list[str],
    seed: int = 0,
    *,
    before: str | list[str] | None = None,
    masks: int = MaskReading.masks,
    rate: float = MaskReading.rate,
    threshold: float = MaskReading.threshold,
    threshold_all: float = MaskReading.threshold_all,
) -> np.ndarray:
    """Which base tokens of a square picture contradict the caption: bool [h, w], or [captions, h, w] for a list.

    seed      of the random masks
    before    a caption of the picture as it is, see `edit`
    masks, rate, threshold, threshold_all    see MaskReading
    """
    settings = check_reading(MaskReading(masks, rate, threshold, threshold_all))
    tokens = to_canvas(muse, ("base",), square(image, "A mask is read from")).tokens["base"]
    found = mask_of(find_evidence(muse, tokens, caption, before, seed, settings), settings)
    return found[0] if isinstance(caption, str) else found


def edit_by_reading(
    muse: "Muse",
    plan: "Plan",
    canvas: Canvas,
    prompts: Prompts,
    settings: MaskReading,
    caption: str | list[str],
    before: str | list[str] | None,
    seed: int,
    *,
    edge: int | None = 2,
    trace: bool = False,
) -> np.ndarray | Edited:
    """The second way: read a mask for each caption and redraw what is under it. `prompts` hold each caption n times.

    Base tokens outside the mask stay. Fine tokens and pixels change up to one base token around it: a neighbour with a
    little of the old object in it often has the same base token for any object.
    """
    width = None if edge is None else whole_number("edge", edge, 0, 1000)
    settings = check_reading(settings)
    evidence = find_evidence(muse, canvas.tokens["base"], caption, before, seed, settings)
    evidence = evidence.repeat(len(prompts.keys) // len(evidence), 0)  # the same for all images of a caption
    hidden = mask_of(evidence, settings)
    around = grown(hidden)
    found = redraw_each(muse, plan, canvas, hidden, prompts, around)
    over = lambda images: images if width is None else _lay_over(images, canvas.pixels, around, width)
    return finish(muse, plan, found, hidden, over, trace, evidence=evidence)


def _lay_over(images: np.ndarray, old: np.ndarray, around: np.ndarray, width: int) -> np.ndarray:
    """Images uint8 [B, H, W, 3] over an old one [H, W, 3], each inside its own mask in base tokens, bool [B, h, w]."""
    times = len(old) // around.shape[1]
    masks = around.repeat(times, 1).repeat(times, 2)
    return np.stack([blend(image[None], old, mask, width)[0] for image, mask in zip(images, masks)])


# --- both -------------------------------------------------------------------------------------------------------------


def edit(
    muse: "Muse",
    image: Image.Image | np.ndarray,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    way: str | None = None,
    before: str | list[str] | None = None,
    negative: str | list[str] | None = None,
    superres: bool | None = None,
    finetuned: bool | None = None,
    edge: int | None = 2,
    trace: bool = False,
    on_step: OnStep | None = None,
    **options: Unpack[EditOptions],
) -> np.ndarray | Edited:
    """Change a square picture by a caption only, without a mask: uint8 [len(captions) * n, H, W, 3].

    way        resample: the paper's way; read: read the mask from the caption, and redraw what is under it. None: the
               way that the options belong to, or WAY
    before     for read: a caption of the picture as it is. The mask is then where the two captions disagree
    edge       for read: as for `inpaint`, at the outer border of what may change
    trace      return an Edited: with the tokens after every iteration for resample, with mask and evidence for read
    on_step    called after every step of sampling, see `stepwise.Step`; not for the iterations of resample
    options    for resample: iterations, fraction, top_k, guidance and token_temperature, see Resampling; fewer
               iterations keep more of the picture, and 0 gives it back as its tokens decode
               for read: masks, rate, threshold and threshold_all, see MaskReading, and those of sampling, as for
               `generate`

    For read, the caption describes the whole picture as it should be. What it does not name is redrawn with the rest,
    except a background. A new background hides nearly all tokens, so that objects are drawn again, and may move.
    """
    settings, sampling = settings_of(way, before, options)
    plan = muse.plan(superres, finetuned, sampling, on_step)
    prompts = muse.prompts(caption, n, seed, negative)
    canvas = to_canvas(muse, plan.stages, square(image, "Mask-free editing takes"))
    if isinstance(settings, Resampling):
        return edit_by_resampling(muse, plan, canvas, prompts, settings, trace=bool(trace))
    return edit_by_reading(muse, plan, canvas, prompts, settings, caption, before, seed, edge=edge, trace=bool(trace))


def _names(record: type) -> set[str]:
    return {field.name for field in dataclasses.fields(record)}


def _way(way: str | None, before: Any, options: EditOptions) -> str:
    """The way that is meant, or an error: TypeError for an unknown option, ValueError for one of the other way."""
    own = dict(resample=_names(Resampling), read={*_names(MaskReading), *SampleOptions.__annotations__, "before"})
    given = options.keys() | ({"before"} if before is not None else set())
    if unknown := sorted(given - own["resample"] - own["read"]):
        raise TypeError(f"There is no option {unknown[0]!r} of editing; see EditOptions.")
    if way is None:
        way = "read" if given - own["resample"] else "resample" if given - own["read"] else WAY
    if wrong := sorted(given - own[one_of("way", way, WAYS)]):
        other = WAYS[1 - WAYS.index(way)]
        raise ValueError(f"Editing by {way} has no {wrong[0]}; leave it out, or choose the way {other}.")
    return way


def settings_of(way: str | None, before: Any, options: EditOptions) -> tuple[Resampling | MaskReading, SampleOptions]:
    """What `edit` does with these arguments: the record of the way that is meant, and the options of sampling."""
    given: Any = dict(options)
    if _way(way, before, options) == "resample":
        return Resampling(**given), SampleOptions()
    own = {name: given.pop(name) for name in _names(MaskReading) & given.keys()}
    return MaskReading(**own), REDRAW | given
