"""Editing (paper section 3.3): the same transformers, begun from the tokens of a picture instead of from [MASK] alone.

Inpainting hides the tokens of a region and draws them anew; outpainting does so past the picture's border; mask-free
editing hides a few tokens at random, again and again, and lets the caption pull the picture over. Nothing is trained.
The functions take a Muse first; they are its methods `inpaint`, `outpaint`, `edit`, `vary` and `interpolate`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse.canvas import LARGEST, Canvas, blend, read, square, to_mask, to_pixels, touched, windows
from minimuse.decoding import both_halves, checked, draw_tokens, guide, is_whole, number, other_keys, whole_number

# What `edit` does when it is not told otherwise: the paper's own numbers, but for its guidance of 4, which tears what
# is to stay (`python -m experiments.mask_free`).
EDIT = dict(iterations=100, fraction=0.08, top_k=3, guidance=1.0, token_temperature=1.0)


def fill(muse, plan, stage: str, tokens: np.ndarray, prompts: tuple, low: np.ndarray | None = None) -> np.ndarray:
    """Draw the places of int [B, h, w] that hold the stage's mask_id, the same in each of the B; the others stay.

    low    the base's tokens of the whole canvas, for the stage superres

    A canvas larger than the trained grid is drawn window by window. Each window is a picture of its own to the
    transformer: it begins at the first position, and reads the whole caption.
    """
    config, (text, negative, keys) = muse.configs[stage], prompts
    (h, w), tokens = config.grid, np.array(tokens)
    times = h // config.low_grid[0] if stage == "superres" else 1  # fine places a coarse one, along a side
    hidden = tokens[0] == config.codebook_size
    for i, (y, x) in enumerate(windows(hidden, config.grid, max(1, h // times // 2) * times)):
        own = other_keys(keys, 2**30 + i) if i else keys
        part = np.s_[:, y : y + h, x : x + w]
        below = None if low is None else low[:, y // times : (y + h) // times, x // times : (x + w) // times]
        drawn, _ = muse.sample(plan, stage, (text, negative, own), low=below, start=tokens[part])
        tokens[part] = np.asarray(drawn).reshape(-1, h, w)
    return tokens


class Edited(NamedTuple):
    """What editing with `trace=True` returns."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    tokens: np.ndarray  # int [B, h, w], of the base stage
    superres_tokens: np.ndarray | None  # int [B, h, w], of the super-resolution stage, if it was run
    redrawn: np.ndarray  # bool [B, h, w], which base tokens were drawn anew
    states: np.ndarray | None = None  # int [iterations, B, h, w], after every iteration of mask-free editing


def redraw(muse, plan, canvas: Canvas, hidden: np.ndarray, prompts: tuple) -> dict[str, np.ndarray]:
    """New tokens int [B, h, w] of every stage where hidden, bool [h, w] in base tokens; the others stay as they are, at
    both resolutions: a base token and the fine ones that it covers are drawn anew together."""
    batch, found, low = len(prompts[2]), {}, None
    for stage, tokens in canvas.tokens.items():
        times = len(tokens) // len(hidden)
        places = hidden.repeat(times, 0).repeat(times, 1)
        start = np.where(places, muse.configs[stage].codebook_size, tokens)
        low = found[stage] = fill(muse, plan, stage, np.repeat(start[None], batch, 0), prompts, low)
    return found


def _finish(muse, plan, found: dict, redrawn: np.ndarray, over, states=None, trace: bool = False):
    """Pixels of the last stage's tokens; over(images) lays them over the old picture, or leaves them."""
    stage = next(reversed(found))
    images = over(np.asarray(muse.detokenize(found[stage], stage, finetuned=plan.finetuned)))
    redrawn = np.broadcast_to(redrawn, found["base"].shape)
    return Edited(images, found["base"], found.get("superres"), redrawn, states) if trace else images


# --- the three ways of the paper ------------------------------------------------------------------------------------


def inpaint(
    muse,
    image,
    mask,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    negative: str | list[str] | None = None,
    edge: int | None = 2,
    canvas: bool = False,
    trace: bool = False,
    **settings,
) -> np.ndarray | Edited:
    """Draw what is under the mask anew (section 3.3.1): uint8 [len(captions) * n, H, W, 3].

    image      a PIL image of any mode, or uint8 [H, W, 3]; a square is resized to the size that the Muse draws, another
               picture must be at least so large and its sides multiples of what a base token covers
    mask       bool [H, W] of the picture's shape, True where it may change; or 0 and 255, or floats from 0 to 1
    caption    of the whole picture as it shall be
    edge       new and old pixels are blended over so many pixels inside the mask, and outside it every pixel is the
               old one's; None: the picture as it was decoded
    canvas     leave a large square as it is, too, as `outpaint` made it
    settings   steps, guidance, temperature and so on, as for `generate`

    Every base token that the mask touches is drawn anew, and the fine tokens that it covers; all others stay as they
    are. The empty mask gives back the picture, the full mask a new one, as `generate` would draw it.
    """
    given = to_pixels(image)
    mask = to_mask(mask, given.shape[:2])
    plan, prompts = muse.plan(**settings), muse.prompts(caption, n, seed, negative)
    edge = None if edge is None else whole_number("edge", edge, 0, 1000)
    canvas = read(muse, plan.stages, given, canvas)
    hidden = touched(mask, canvas.tokens["base"].shape)
    found = redraw(muse, plan, canvas, hidden, prompts)
    if edge is None:
        return _finish(muse, plan, found, hidden, lambda new: new, trace=trace)
    at_size = touched(mask, canvas.pixels.shape[:2])
    return _finish(muse, plan, found, hidden, lambda new: blend(new, canvas.pixels, at_size, edge), trace=trace)


def outpaint(
    muse,
    image,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    negative: str | list[str] | None = None,
    canvas: bool = False,
    trace: bool = False,
    **settings,
) -> np.ndarray | Edited:
    """Draw on past the borders of a picture: uint8 [len(captions) * n, H + top + bottom, W + left + right, 3].

    left, right, top, bottom    pixels to add, multiples of what a base token covers (16 at 128 px, 8 at 64 px); the
                                picture may become larger than any the transformers were trained on
    The rest as for `inpaint`: H and W are those that the Muse takes, and the old picture's pixels stay as they were.
    """
    amounts = dict(left=left, right=right, top=top, bottom=bottom)
    plan, prompts = muse.plan(**settings), muse.prompts(caption, n, seed, negative)
    cell = max(muse.tokenizer_config(stage).image_size for stage in plan.stages) // muse.configs["base"].grid[0]
    fits = lambda value: is_whole(value) and 0 <= value <= LARGEST and value % cell == 0
    if told := ", ".join(f"{name} was {value!r}" for name, value in amounts.items() if not fits(value)):
        raise ValueError(
            f"Each side grows by a multiple of {cell} pixels, what a base token covers, {LARGEST} at most; {told}."
        )
    canvas = read(muse, plan.stages, image, canvas)
    left, right, top, bottom = (value // cell for value in amounts.values())  # in base tokens from here on
    around = lambda times: ((times * top, times * bottom), (times * left, times * right))
    h = len(canvas.tokens["base"])
    tokens = {stage: np.pad(ids, around(len(ids) // h)) for stage, ids in canvas.tokens.items()}
    pixels = np.pad(canvas.pixels, (*around(cell), (0, 0)))
    hidden = np.pad(np.zeros(canvas.tokens["base"].shape, bool), around(1), constant_values=True)
    found = redraw(muse, plan, Canvas(pixels, tokens), hidden, prompts)
    new = hidden.repeat(cell, 0).repeat(cell, 1)
    return _finish(muse, plan, found, hidden, lambda images: blend(images, pixels, new, 0), trace=trace)


@functools.partial(jax.jit, static_argnames=("graphdef", "guided", "iterations", "count", "top_k", "trace"))
def resample(graphdef, params, text, negative, keys, tokens, options, *, guided, iterations, count, top_k, trace):
    """Mask-free editing as one program: `iterations` times hide `count` random places of tokens int [B, N], and draw
    them given all others and the text.

    options    guidance, the same at every iteration, and token_temperature; all else compiles anew
    -> tokens int [B, N], and those after every iteration [iterations, B, N], or None
    """
    model, batch = nnx.merge(graphdef, params), len(keys)
    seen = model.condition(both_halves(text, negative) if guided else text)

    def iteration(tokens, i):
        own = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, i)))(keys)
        order = jax.vmap(lambda key: jax.random.permutation(key, tokens.shape[1]))(own[:, 0])
        hidden = order < count
        masked = jnp.where(hidden, model.mask_id, tokens)
        logits = model(both_halves(masked, masked) if guided else masked, *seen)
        if guided:
            logits = guide(logits[:batch], logits[batch:], options["guidance"])
        drawn, _ = draw_tokens(own[:, 1], logits, options["token_temperature"], top_k)
        tokens = jnp.where(hidden, drawn, tokens)
        return tokens, tokens if trace else None

    return jax.lax.scan(iteration, tokens, jnp.arange(iterations))


def edit(
    muse,
    image,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    iterations: int = EDIT["iterations"],
    fraction: float = EDIT["fraction"],
    top_k: int = EDIT["top_k"],
    guidance: float = EDIT["guidance"],
    token_temperature: float = EDIT["token_temperature"],
    negative: str | list[str] | None = None,
    superres: bool | None = None,
    finetuned: bool | None = None,
    trace: bool = False,
) -> np.ndarray | Edited:
    """Change a square picture by a caption alone, without a mask (section 3.3.2): uint8 [len(captions) * n, H, W, 3].

    iterations   how often some tokens are drawn anew; fewer keep more of the picture, and none gives it back as its
                 tokens decode
    fraction     share of the base tokens that are drawn anew in each iteration
    top_k        they are drawn from so many likeliest codes, which keeps near the picture; 0: from all
    guidance     t of equation 1, the same at every iteration
    trace        return an Edited, with the tokens after every iteration

    Then the super-resolution stage, under the same caption and with its own settings, draws the fine tokens of those
    places whose base token has changed.
    """
    plan, prompts = muse.plan(superres=superres, finetuned=finetuned), muse.prompts(caption, n, seed, negative)
    settings = dict(iterations=iterations, fraction=fraction, top_k=top_k, guidance=guidance)
    settings = checked_edit(muse, settings | dict(token_temperature=token_temperature))
    canvas = read(muse, plan.stages, square(image, "Mask-free editing takes"))
    tokens, found = canvas.tokens["base"], {}
    start = np.repeat(tokens[None], len(prompts[2]), 0)
    found["base"], states = edit_tokens(muse, start, prompts, trace=bool(trace), **settings)
    changed = found["base"] != tokens
    if "superres" in plan.stages:
        found["superres"] = raise_changed(muse, plan, canvas, found["base"], changed, prompts)
    return _finish(muse, plan, found, changed, lambda new: new, states, trace)


def checked_edit(muse, settings: dict) -> dict:
    """The settings of mask-free editing, the keys of EDIT, or a ValueError that says what is wrong."""
    numbers = checked({name: settings[name] for name in ("guidance", "token_temperature")})
    if not 0 < number("fraction", settings["fraction"]) <= 1:
        raise ValueError(f"fraction lies above 0 and at most at 1; it was {settings['fraction']!r}.")
    return numbers | dict(
        iterations=whole_number("iterations", settings["iterations"], 0, 10_000),
        top_k=whole_number("top_k", settings["top_k"], 0, muse.configs["base"].codebook_size),
        fraction=settings["fraction"],
    )


def edit_tokens(
    muse, tokens: np.ndarray, prompts: tuple, *, iterations, fraction, top_k, guidance, token_temperature, trace=False
) -> tuple[np.ndarray, np.ndarray | None]:
    """`edit` of base tokens int [B, h, w], each its own picture, caption and key -> the new ones, and those after every
    iteration [iterations, B, h, w] or None."""
    (text, negative, keys), shape = prompts, tokens.shape
    drawn, states = resample(
        muse.graphdefs["base"],
        muse.params["base"],
        text,
        negative,
        keys,
        jnp.asarray(tokens.reshape(len(tokens), -1)),
        dict(guidance=guidance, token_temperature=token_temperature),
        guided=guidance > 0,
        iterations=iterations,
        count=max(1, round(fraction * tokens[0].size)),
        top_k=top_k,
        trace=trace,
    )
    return np.asarray(drawn).reshape(shape), None if states is None else np.asarray(states).reshape(iterations, *shape)


def raise_changed(muse, plan, canvas: Canvas, low: np.ndarray, changed: np.ndarray, prompts: tuple) -> np.ndarray:
    """Fine tokens int [B, h, w] for changed base tokens: anew where `changed`, bool [B, h', w'], the old ones
    elsewhere."""
    fine = canvas.tokens["superres"]
    times = len(fine) // low.shape[1]
    places = changed.repeat(times, 1).repeat(times, 2)
    start = np.where(places, muse.configs["superres"].codebook_size, fine)
    drawn, _ = muse.sample(plan, "superres", prompts, low=low, start=start)
    return np.asarray(drawn).reshape(start.shape)


# --- what users of other systems expect -----------------------------------------------------------------------------


def vary(
    muse,
    image,
    caption: str | list[str],
    n: int = 1,
    seed: int = 0,
    *,
    strength: float = 0.5,
    negative: str | list[str] | None = None,
    trace: bool = False,
    **settings,
) -> np.ndarray | Edited:
    """Pictures like this square one: a share `strength` of its base tokens, at random places, is drawn anew. 0 gives it
    back as its tokens decode, 1 is a new picture. The rest as for `inpaint`."""
    if not 0 <= number("strength", strength) <= 1:
        raise ValueError(f"strength lies from 0 to 1; it was {strength!r}.")
    plan, prompts = muse.plan(**settings), muse.prompts(caption, n, seed, negative)
    canvas = read(muse, plan.stages, square(image, "Variations are made of"))
    tokens = canvas.tokens["base"]
    order = np.stack([jax.random.permutation(jax.random.fold_in(key, 2**30), tokens.size) for key in prompts[2]])
    hidden = (order < round(strength * tokens.size)).reshape(-1, *tokens.shape)
    start = np.where(hidden, muse.configs["base"].codebook_size, tokens)
    found = dict(base=np.asarray(muse.sample(plan, "base", prompts, start=start)[0]).reshape(start.shape))
    if "superres" in plan.stages:
        found["superres"] = raise_changed(muse, plan, canvas, found["base"], hidden, prompts)
    return _finish(muse, plan, found, hidden, lambda new: new, trace=trace)


def interpolate(
    muse,
    first: str,
    second: str,
    n: int = 5,
    seed: int = 0,
    *,
    steps=None,
    temperature=None,
    token_temperature=None,
    superres: bool | None = None,
    finetuned: bool | None = None,
) -> np.ndarray:
    """n pictures from one caption to another, all begun from the same noise: uint8 [n, H, W, 3].

    Their logits are mixed, (1 - a) l_first + a l_second with a from 0 to 1: equation 1 with the second caption as the
    negative one and t = -a. So there is no other guidance: the ends are what `generate` draws with guidance=0.
    """
    if not isinstance(first, str) or not isinstance(second, str):
        raise ValueError(f"Interpolation goes from one caption to another; these were {first!r} and {second!r}.")
    n = whole_number("n", n, 2, 10_000)
    settings = dict(steps=steps, temperature=temperature, token_temperature=token_temperature)
    plan = muse.plan(superres=superres, finetuned=finetuned, **settings)
    text, negative, keys = muse.prompts(first, n, seed, second)
    keys = jnp.repeat(keys[:1], n)
    mix = dict(guidance=-jnp.linspace(0, 1, n)[:, None, None], ramp=False)
    stages = {stage: (numbers | mix, static | dict(guided=True)) for stage, (numbers, static) in plan.stages.items()}
    plan, tokens = plan._replace(stages=stages), None
    for stage in stages:
        tokens, _ = muse.sample(plan, stage, (text, negative, keys), low=tokens)
    grid = muse.configs[stage].grid
    return np.asarray(muse.detokenize(np.asarray(tokens).reshape(-1, *grid), stage, finetuned=plan.finetuned))
