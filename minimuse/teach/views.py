"""What the explorers show, as plain functions: each returns a picture or a figure, and a sentence."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from minimuse import masking
from minimuse.data import scenes
from minimuse.layers import _heads, attend
from minimuse.teach import charts, figures, views
from minimuse.transformer import from_windows, to_windows


@functools.partial(jax.jit, static_argnames="graphdef")
def attention_to_text(
    graphdef, params: dict, tokens: jax.Array, text: jax.Array, text_mask: jax.Array, low: jax.Array | None = None
) -> jax.Array:
    """The weights of every layer's cross-attention, float [depth, B, heads, N, S]: how image tokens look at text.

    With low-resolution tokens int [B, n] it is [depth, B, heads, N, n + S]: they stand before the text.
    """
    model = nnx.merge(graphdef, params)
    keys_values, mask = model.condition((text, text_mask), low)
    batch, length = mask.shape
    x = model.place(tokens)
    if model.window:
        x = to_windows(x, model.grid, model.window)

    def layer(x, inputs):
        block, (keys, values) = inputs
        q = _heads(block.cross_q(block.norm2(block.look_around(x))), block.heads)
        # With a 1 of its own as each text token's value, what is seen are the weights.
        ones = jnp.broadcast_to(jnp.eye(length)[:, None], (batch, length, block.heads, length))
        seen = attend(q, keys, ones, mask)
        if model.window:
            seen = from_windows(seen, model.grid, model.window)
        return block(x, keys, values, mask), _heads(seen, block.heads).swapaxes(1, 2)

    return jax.lax.scan(layer, x, (model.blocks, keys_values))[1]


def first_picture(muse, prompt: str, guidance: float = 0.5, steps: int = 12, seed: int = 0):
    """Draw one picture: (uint8 [H, W, 3] or None, a sentence that says what was drawn or what to change)."""
    if not isinstance(prompt, str) or not prompt.strip():
        return None, "Type a caption first, for instance: a cat left of a dog on a blue background."
    try:
        image = muse.generate(prompt, n=1, seed=seed, steps=steps, guidance=guidance)[0]
    except ValueError as error:  # minimuse says in words what was wrong
        return None, str(error)
    return image, f"“{prompt.strip()}”, guidance {guidance:g}, {steps} step{'s' * (steps != 1)}, seed {seed}"


def browse_scene(split: str = "train", task: str = "position", number: int = 0, size: int = 128, lattice: bool = True):
    """Scene `number` of a task: (uint8 [size, size, 3], its caption and facts), or (None, what is wrong)."""
    tasks = scenes.tasks_of(split)
    if task not in tasks:
        return None, f"The split {split} has no scenes of the task {task}; it has {', '.join(tasks)}."
    scene, caption = scenes.example(split, number * len(tasks) + tasks.index(task), lattice=lattice)
    facts = [
        f"{kind} {' '.join(map(str, fact)) if isinstance(fact, tuple) else fact}"
        for kind, values in scenes.asked(scene, caption).items()
        for fact in values
    ]
    return scenes.render(scene, size), f"“{caption}” asks for: {'; '.join(facts)}"


def code_pictures(muse, code: int, images, tokens, most: int = 7, stage: str = "base"):
    """What a code stands for: (uint8 [B, 3 f, 3 f, 3], their titles, a sentence).

    images, tokens   pictures uint8 [M, H, W, 3] and their tokens int [M, h, w], in which the code is looked for
    stage            whose tokens they are, base or superres
    The first picture is what the decoder paints for 3 x 3 of the code; then come patches that have it, enlarged.
    """
    f = images.shape[1] // tokens.shape[1]
    shown, titles = [np.asarray(muse.detokenize(np.full((1, 3, 3), code), stage))[0]], ["painted 3 x 3"]
    found = np.argwhere(tokens == code)
    for i, row, column in found[:: max(1, len(found) // most)][:most]:
        patch = images[i, row * f : (row + 1) * f, column * f : (column + 1) * f]
        shown.append(patch.repeat(3, 0).repeat(3, 1))
        titles.append(f"in picture {i}")
    share = len(found) / tokens.size
    return np.stack(shown), titles, f"Code {code}: {len(found)} of {tokens.size} tokens ({share:.2%})"


def swap_token(muse, tokens, row: int, column: int, code: int):
    """Pictures of tokens int [h, w] before and after one token is replaced: (uint8 [2, H, W, 3], a sentence)."""
    changed = np.array(tokens)
    changed[row, column] = code
    pair = np.asarray(muse.detokenize(np.stack([tokens, changed])))
    pixels = (np.abs(pair[0].astype(int) - pair[1]) > 25).any(-1).mean()
    words = f"Row {row}, column {column}: code {tokens[row, column]} -> {code}"
    words += (
        f"; {pixels:.1%} of the pixels changed by more than a tenth of the range (one patch is {1 / tokens.size:.1%})"
    )
    return pair, words


def near_words(encoder, word: str, frame: str = "a {}", n: int = 8):
    """The n sprites' names whose vectors in a frame are nearest to a word's: ({name: cosine}, a sentence), or (None,
    what is wrong). A caption's vector is the mean of its tokens'."""
    if not word.strip() or "{}" not in frame:
        return None, "Type a word, and a frame with {} where the word shall stand, for instance: a {}"
    names = list(scenes.sprites())
    captions = [scenes.fill_frame(frame, one) for one in (word.strip(), *names)]
    wanted, *named = encoder.directions(captions)
    cosines = np.stack(named) @ wanted
    best = np.argsort(-cosines, kind="stable")[:n]
    near = {names[i]: float(cosines[i]) for i in best}
    told = ", ".join(f"{name} {cosine:.3f}" for name, cosine in near.items())
    return near, f"nearest to “{captions[0]}”: {told}"


def caption_pieces(muse, caption: str) -> list[str]:
    """The pieces of a caption, without the sign for a space; "▁" is a space alone."""
    ids, mask = muse.text.tokenize([caption], length=muse.sampling.text_length)
    return [muse.text.tokenizer.id_to_token(int(i)).replace("▁", "") or "▁" for i in ids[mask]]


def word_attention(muse, tokens, caption: str) -> tuple[list[str], np.ndarray]:
    """The pieces of a caption, and the weights with which tokens int [h, w] look at each, float [depth, heads, pieces,
    h, w]. A place's weights sum to 1 over the pieces."""
    pieces = caption_pieces(muse, caption)
    text, text_mask = muse.text.encode([caption], length=muse.sampling.text_length)
    base, flat = (muse.graphdefs["base"], muse.params["base"]), np.asarray(tokens).reshape(1, -1)
    weights = np.asarray(views.attention_to_text(*base, flat, text, text_mask))
    weights = weights[:, 0, :, :, : len(pieces)].swapaxes(2, 3)  # [depth, heads, pieces, N]
    return pieces, weights.reshape(*weights.shape[:3], *np.shape(tokens))


def where_it_looks(muse, tokens, caption: str, piece: int, layer: int | None = None, hidden=None):
    """A piece of a caption, and the places of tokens int [h, w] that look at it: (Figure, a sentence). A panel a head,
    and their mean first.

    piece    which piece, from 0
    layer    which layer, from 1; None is the mean of all
    hidden   bool [h, w], places that the transformer gets as [MASK]; None hides nothing
    """
    tokens = np.asarray(tokens)
    hidden = np.zeros(tokens.shape, bool) if hidden is None else np.asarray(hidden, bool)
    shown = np.where(hidden, muse.configs["base"].codebook_size, tokens)
    pieces, weights = word_attention(muse, shown, caption)
    maps = (weights.mean(0) if layer is None else weights[layer - 1])[:, piece]  # [heads, h, w]
    maps = np.concatenate([maps.mean(0, keepdims=True), maps])
    titles = ["mean of heads", *(f"head {i + 1}" for i in range(len(maps) - 1))]
    image = np.asarray(muse.detokenize(tokens[None]))[0]
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    where = "the mean of all layers" if layer is None else f"layer {layer} of {len(weights)}"
    words = (
        f"“{pieces[piece]}” in “{caption}”, {where}, {hidden.sum()} of {hidden.size} tokens hidden: a place gives it "
        f"{maps[0].mean():.0%} of its attention on average, at most {maps[0].max():.0%}, in row {row}, column {column}"
    )
    return figures.attention_over(image, maps, titles, columns=len(maps), hidden=hidden), words


def compare_laws(first: str = "cosine", second: str = "arccos", tokens: int = 64, steps: int = 12):
    """Two laws of the mask rate, in training and in decoding: (Figure, a sentence), or (None, what is wrong)."""
    laws, said = list(dict.fromkeys((first, second))), []
    try:
        figure = charts.mask_laws(laws, steps, tokens, masks=True)
    except ValueError as error:
        return None, str(error)
    for law in laws:
        r = masking.mask_rate((np.arange(1000) + 0.5) / 1000, law, tokens)
        revealed = -np.diff(masking.decode_schedule(steps, tokens, law), prepend=tokens)
        said.append(
            f"{law}: mean rate {masking.mean_rate(law, tokens):.2f}, {(r > 0.9).mean():.0%} of the rates above 0.9, "
            f"{revealed[0]} of {tokens} tokens revealed at the first step and {revealed[-1]} at the last"
        )
    return figure, "; ".join(said)


def decode_frame(muse, generation, step: int, image_index: int = 0):
    """One step of a Generation, counted from 1: (Figure, a sentence)."""
    figure = figures.decode_frame(generation, image_index, step, muse.detokenize)
    after = generation.trace.hidden[step - 1, image_index]
    before = generation.trace.hidden[step - 2, image_index] if step > 1 else np.ones_like(after)
    sure = generation.trace.confidence[step - 1, image_index]
    words = (
        f"step {step} of {len(generation.trace.tokens)}: {before.sum()} hidden, {(before & ~after).sum()} kept, drawn "
        f"with a probability of {sure[before & ~after].mean():.2f} on average; the {after.sum()} hidden again: "
    )
    return figure, words + (f"{sure[after].mean():.2f}" if after.any() else "none are left")


def cells_mask(cells, grid: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Base tokens (row, column) as a mask in pixels, bool [H, W]."""
    mask = np.zeros(grid, bool)
    for row, column in cells:
        mask[row, column] = True
    return mask.repeat(shape[0] // grid[0], 0).repeat(shape[1] // grid[1], 1)


def redraw_cells(muse, image, cells, caption: str, seed: int = 0):
    """Draw the chosen base tokens of a picture anew: (uint8 [H, W, 3] or None, a sentence)."""
    if not cells:
        return None, "Choose some places of the picture first."
    if not caption.strip():
        return None, "Type a caption of the whole picture as it shall be."
    mask = cells_mask(cells, muse.configs["base"].grid, image.shape[:2])
    count = f"{len(cells)} place{'s' * (len(cells) != 1)}"
    try:
        new = muse.inpaint(image, mask, caption, seed=seed)[0]
    except ValueError as error:  # minimuse says in words what was wrong
        return None, str(error)
    return new, f"{count} drawn anew for “{caption.strip()}”, seed {seed}"


def iteration_frame(muse, edited, iteration: int, before: np.ndarray):
    """Mask-free editing after so many iterations: (uint8 [2, H, W, 3], the picture before and then; a sentence).

    edited    an Edited with its states, of `Muse.edit(..., trace=True)`, first picture · before    base tokens [h, w]
    """
    tokens = edited.states[iteration - 1, 0] if iteration else before
    pictures = np.asarray(muse.detokenize(np.stack([before, tokens])))
    share = (tokens != before).mean()
    return pictures, f"before, and after {iteration} iterations: {share:.0%} of the base tokens are others"
