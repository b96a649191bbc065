"""Editing (paper section 3.3): the same transformers, started from the tokens of a picture instead of only [MASK].

Inpainting hides the tokens of a region and samples them again; outpainting does so past the picture's border. Nothing
is trained. Mask-free editing is in mask_free.py. The functions take a Muse first; they are its methods `inpaint`,
`outpaint`, `vary` and `interpolate`.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from minimuse.canvas import LARGEST, Canvas, blend, square, to_canvas, to_mask, to_pixels, touched, windows
from minimuse.config import GUIDING, SampleOptions
from minimuse.decoding import Prompts, is_whole, number, other_keys, whole_number
from minimuse.files import as_given
from minimuse.stepwise import OnStep, sample_stage

if TYPE_CHECKING:
    from minimuse.muse import Muse, Plan


class Edited(NamedTuple):
    """What editing with `trace=True` returns."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    tokens: np.ndarray  # int [B, h, w], of the base stage
    superres_tokens: np.ndarray | None  # int [B, h, w], of the super-resolution stage, if it was run
    redrawn: np.ndarray  # bool [B, h, w], which base tokens were sampled again
    states: np.ndarray | None = None  # int [iterations, B, h, w], after every iteration of resampling
    evidence: np.ndarray | None = None  # float [B, 2, h, w], from which the mask was read; see mask_free.read_evidence


# --- shared by all ways ---------------------------------------------------------------------------------------------


def sample(
    muse: "Muse",
    plan: "Plan",
    stage: str,
    prompts: Prompts,
    start: np.ndarray,
    low: np.ndarray | None = None,
) -> np.ndarray:
    """Tokens int [B, h, w] like `start`, sampled where it holds the stage's mask_id; low: the base's [B, h, w]."""
    inputs = muse.stage_inputs(stage, prompts, low, start)
    return sample_stage(muse, stage, plan.stages[stage], inputs, on_step=plan.on_step)[0].reshape(start.shape)


def fill(
    muse: "Muse",
    plan: "Plan",
    stage: str,
    prompts: Prompts,
    tokens: np.ndarray,
    low: np.ndarray | None = None,
) -> np.ndarray:
    """Fill the positions of int [B, h, w] that hold the stage's mask_id, the same in each of the B; the others stay.

    low    the base's tokens of the whole canvas, for the stage superres

    A canvas larger than the trained grid is filled window by window. Each window is a picture of its own to the
    transformer: it starts at the first position, and reads the whole caption.
    """
    config, tokens = muse.configs[stage], np.array(tokens)
    h, w = config.grid
    times = h // config.low_grid[0] if stage == "superres" else 1  # fine positions per coarse one, along a side
    hidden = tokens[0] == config.codebook_size
    for i, (y, x) in enumerate(windows(hidden, config.grid, max(1, h // times // 2) * times)):
        own = prompts._replace(keys=other_keys(prompts.keys, 2**30 + i)) if i else prompts
        window = np.s_[:, y : y + h, x : x + w]
        below = None if low is None else low[:, y // times : (y + h) // times, x // times : (x + w) // times]
        tokens[window] = sample(muse, plan, stage, own, tokens[window], below)
    return tokens


def redraw(muse: "Muse", plan: "Plan", canvas: Canvas, hidden: np.ndarray, prompts: Prompts) -> dict[str, np.ndarray]:
    """New tokens int [B, h, w] of every stage where hidden, bool [h, w] in base tokens; the others stay as they are, at
    both resolutions: a base token and the fine ones that it covers are sampled together."""
    batch, found, low = len(prompts.keys), {}, None
    for stage, tokens in canvas.tokens.items():
        times = len(tokens) // len(hidden)
        fine = hidden.repeat(times, 0).repeat(times, 1)
        start = np.where(fine, muse.configs[stage].codebook_size, tokens)
        low = found[stage] = fill(muse, plan, stage, prompts, np.repeat(start[None], batch, 0), low)
    return found


def raise_changed(
    muse: "Muse", plan: "Plan", canvas: Canvas, low: np.ndarray, changed: np.ndarray, prompts: Prompts
) -> np.ndarray:
    """Fine tokens int [B, h, w] for changed base tokens `low`: new ones where `changed`, bool [B, h', w'], the old ones
    elsewhere."""
    fine = canvas.tokens["superres"]
    times = len(fine) // low.shape[1]
    start = np.where(changed.repeat(times, 1).repeat(times, 2), muse.configs["superres"].codebook_size, fine)
    return sample(muse, plan, "superres", prompts, start, low)


def redraw_each(
    muse: "Muse",
    plan: "Plan",
    canvas: Canvas,
    hidden: np.ndarray,
    prompts: Prompts,
    around: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """As `redraw`, of a picture of the trained grid with a mask for each image, bool [B, h, w].

    around    bool [B, h, w], where fine tokens are sampled again, if that is not `hidden`
    """
    start = np.where(hidden, muse.configs["base"].codebook_size, canvas.tokens["base"])
    found = dict(base=sample(muse, plan, "base", prompts, start))
    if "superres" in plan.stages:
        found["superres"] = raise_changed(
            muse, plan, canvas, found["base"], hidden if around is None else around, prompts
        )
    return found


def finish(
    muse: "Muse",
    plan: "Plan",
    found: dict[str, np.ndarray],
    redrawn: np.ndarray,
    over: Callable[[np.ndarray], np.ndarray],
    trace: bool = False,
    **more: np.ndarray | None,
) -> np.ndarray | Edited:
    """Pixels of the last stage's tokens; over(images) lays them over the old picture, or leaves them. `more` are the
    other fields of an Edited."""
    stage = next(reversed(found))
    images = over(np.asarray(muse.detokenize(found[stage], stage, finetuned=plan.finetuned)))
    redrawn = np.broadcast_to(redrawn, found["base"].shape)
    return Edited(images, found["base"], found.get("superres"), redrawn, **more) if trace else images


# --- inpainting and outpainting ---------------------------------------------------------------------------------------


def inpaint(
    muse: "Muse",
    image: Image.Image | np.ndarray,
    mask: Image.Image | np.ndarray,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    negative: str | list[str] | None = None,
    superres: bool | None = None,
    finetuned: bool | None = None,
    edge: int | None = 2,
    canvas: bool = False,
    trace: bool = False,
    on_step: OnStep | None = None,
    **options: Unpack[SampleOptions],
) -> np.ndarray | Edited:
    """Sample what is under the mask again (section 3.3.1): uint8 [len(captions) * n, H, W, 3].

    image      a PIL image of any mode, or uint8 [H, W, 3]; a square is resized to the size that the Muse draws, another
               picture must be at least that large, with sides that are multiples of what a base token covers
    mask       bool [H, W] of the picture's shape, True where it may change; or 0 and 255, or floats from 0 to 1
    caption    describes the whole picture as it should be
    edge       new and old pixels are blended over this many pixels inside the mask, and outside it every pixel is the
               old one's; None: the picture as it was decoded
    canvas     keep the size of a large square, too, such as `outpaint` makes
    on_step    called after every step of each stage, and of each window of a large canvas, see `stepwise.Step`
    options    steps, guidance, temperature and so on, as for `generate`

    Every base token that the mask touches is sampled again, and the fine tokens that it covers; all others stay as they
    are. An empty mask gives back the picture, a full mask a new one, as `generate` would draw it.
    """
    given = to_pixels(image)
    mask = to_mask(mask, given.shape[:2])
    plan, prompts = muse.plan(superres, finetuned, options, on_step), muse.prompts(caption, n, seed, negative)
    width = None if edge is None else whole_number("edge", edge, 0, 1000)
    old = to_canvas(muse, plan.stages, given, canvas)
    hidden = touched(mask, old.tokens["base"].shape)
    found = redraw(muse, plan, old, hidden, prompts)
    if width is None:
        return finish(muse, plan, found, hidden, lambda new: new, trace=trace)
    at_size = touched(mask, old.pixels.shape[:2])
    return finish(muse, plan, found, hidden, lambda new: blend(new, old.pixels, at_size, width), trace=trace)


def outpaint(
    muse: "Muse",
    image: Image.Image | np.ndarray,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    negative: str | list[str] | None = None,
    superres: bool | None = None,
    finetuned: bool | None = None,
    canvas: bool = False,
    trace: bool = False,
    on_step: OnStep | None = None,
    **options: Unpack[SampleOptions],
) -> np.ndarray | Edited:
    """Extend a picture past its borders: uint8 [len(captions) * n, H + top + bottom, W + left + right, 3].

    left, right, top, bottom    pixels to add, multiples of what a base token covers (16 at 128 px, 8 at 64 px); the
                                picture may become larger than any the transformers were trained on
    The rest as for `inpaint`: H and W are those that the Muse takes, and the old picture's pixels stay as they were.
    """
    amounts = dict(left=left, right=right, top=top, bottom=bottom)
    plan, prompts = muse.plan(superres, finetuned, options, on_step), muse.prompts(caption, n, seed, negative)
    cell = max(muse.tokenizer_config(stage).image_size for stage in plan.stages) // muse.configs["base"].grid[0]
    fits = lambda value: is_whole(value) and 0 <= value <= LARGEST and value % cell == 0
    if wrong := ", ".join(f"{name} was {as_given(value)}" for name, value in amounts.items() if not fits(value)):
        raise ValueError(
            f"Each side grows by a multiple of {cell} pixels, what a base token covers, up to {LARGEST}; {wrong}."
        )
    old = to_canvas(muse, plan.stages, image, canvas)
    left, right, top, bottom = (value // cell for value in amounts.values())  # in base tokens from here on
    around = lambda times: ((times * top, times * bottom), (times * left, times * right))
    h = len(old.tokens["base"])
    tokens = {stage: np.pad(ids, around(len(ids) // h)) for stage, ids in old.tokens.items()}
    pixels = np.pad(old.pixels, (*around(cell), (0, 0)))
    hidden = np.pad(np.zeros(old.tokens["base"].shape, bool), around(1), constant_values=True)
    found = redraw(muse, plan, Canvas(pixels, tokens), hidden, prompts)
    new = hidden.repeat(cell, 0).repeat(cell, 1)
    return finish(muse, plan, found, hidden, lambda images: blend(images, pixels, new, 0), trace=trace)


# --- what users of other systems expect -----------------------------------------------------------------------------


def vary(
    muse: "Muse",
    image: Image.Image | np.ndarray,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    strength: float = 0.5,
    negative: str | list[str] | None = None,
    superres: bool | None = None,
    finetuned: bool | None = None,
    trace: bool = False,
    on_step: OnStep | None = None,
    **options: Unpack[SampleOptions],
) -> np.ndarray | Edited:
    """Pictures similar to this square one: a share `strength` of its base tokens, at random positions, is sampled
    again. 0 gives it back as its tokens decode, 1 is a new picture. The rest as for `inpaint`."""
    if not 0 <= (share := number("strength", strength)) <= 1:
        raise ValueError(f"strength must be from 0 to 1; it was {as_given(strength)}.")
    plan, prompts = muse.plan(superres, finetuned, options, on_step), muse.prompts(caption, n, seed, negative)
    canvas = to_canvas(muse, plan.stages, square(image, "Variations are made of"))
    tokens = canvas.tokens["base"]
    order = np.stack([jax.random.permutation(jax.random.fold_in(key, 2**30), tokens.size) for key in prompts.keys])
    hidden = (order < round(share * tokens.size)).reshape(-1, *tokens.shape)
    return finish(muse, plan, redraw_each(muse, plan, canvas, hidden, prompts), hidden, lambda new: new, trace=trace)


def interpolate(
    muse: "Muse",
    first: str,
    second: str,
    n: int = 5,
    seed: int = 0,
    *,
    superres: bool | None = None,
    finetuned: bool | None = None,
    on_step: OnStep | None = None,
    **options: Unpack[SampleOptions],
) -> np.ndarray:
    """n pictures from one caption to another, all from the same noise: uint8 [n, H, W, 3].

    Their logits are mixed, (1 - a) l_first + a l_second with a from 0 to 1: equation 1 with the second caption as the
    negative one and t = -a. So there is no other guidance: the ends are what `generate` draws with guidance=0.
    """
    if not isinstance(first, str) or not isinstance(second, str):
        raise ValueError(
            f"Interpolation goes from one caption to another; these were {as_given(first)} and {as_given(second)}."
        )
    if mixed := set(GUIDING) & options.keys():
        raise TypeError(f"Interpolation mixes two captions by guidance, so it takes no {min(mixed)}.")
    n = whole_number("n", n, 2, 10_000)
    plan, prompts = muse.plan(superres, finetuned, options, on_step), muse.prompts(first, n, seed, second)
    prompts = prompts._replace(keys=jnp.repeat(prompts.keys[:1], n))
    mix: dict[str, Any] = dict(
        guidance=-jnp.linspace(0, 1, n, dtype=jnp.float32)[:, None, None], ramp=False, guided=True
    )
    mix |= dict(guided_from=0.0, guided_to=1.0, critic=False)  # a critic judges by one caption
    plan = plan._replace(stages={stage: dataclasses.replace(own, **mix) for stage, own in plan.stages.items()})
    found: list[np.ndarray | None] = [None]
    for stage in plan.stages:
        start = np.full((n, *muse.configs[stage].grid), muse.configs[stage].codebook_size)
        found.append(sample(muse, plan, stage, prompts, start, found[-1]))
    return np.asarray(muse.detokenize(np.asarray(found[-1]), stage, finetuned=plan.finetuned))
