"""What the explorers show, as plain functions: each returns an image or a figure, and a sentence about it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from minimuse import canvas, editing, masking
from minimuse.data import scenes
from minimuse.layers import attend, split_heads
from minimuse.teach import charts, figures
from minimuse.transformer import BaseTransformer, from_windows, to_windows

if TYPE_CHECKING:
    from minimuse.muse import Generation, Muse
    from minimuse.t5 import TextEncoder


@jax.jit
def attention_to_text(
    model: BaseTransformer, tokens: jax.Array, text: jax.Array, text_mask: jax.Array, low: jax.Array | None = None
) -> jax.Array:
    """The cross-attention weights of every layer, float [depth, B, heads, N, S]: how image tokens attend to the text.

    model             a base or a super-resolution transformer
    tokens            int [B, N]
    text, text_mask   float [B, S, text_width] and bool [B, S], of `TextEncoder.encode`
    low               low-resolution tokens int [B, n], for super-resolution: they stand before the text, so the weights
                      are [depth, B, heads, N, n + S]
    """
    keys_values, mask = model.condition((text, text_mask), low)
    batch, length = mask.shape
    x = model.embed_tokens(tokens)
    if model.window:
        x = to_windows(x, model.grid, model.window)

    def layer(x: jax.Array, inputs: tuple) -> tuple[jax.Array, jax.Array]:
        block, (keys, values) = inputs
        q = split_heads(block.cross_q(block.norm2(block.self_attention(x))), block.heads)
        # With one-hot vectors as the text tokens' values, what attention returns is its weights.
        one_hot = jnp.broadcast_to(jnp.eye(length)[:, None], (batch, length, block.heads, length))
        weights = attend(q, keys, one_hot, mask)
        if model.window:
            weights = from_windows(weights, model.grid, model.window)
        return block(x, keys, values, mask), split_heads(weights, block.heads).swapaxes(1, 2)

    return jax.lax.scan(layer, x, (model.blocks, keys_values))[1]


def _pixels(muse: Muse, tokens: np.ndarray, stage: str = "base") -> np.ndarray:
    """Tokens int [B, h, w] -> uint8 [B, H, W, 3]."""
    return np.asarray(muse.detokenize(tokens, stage))


def first_picture(
    muse: Muse, prompt: str, guidance: float = 0.5, steps: int = 12, seed: int = 0
) -> tuple[np.ndarray | None, str]:
    """Generate one image: (uint8 [H, W, 3], a sentence with its settings), or (None, what to change)."""
    if not isinstance(prompt, str) or not prompt.strip():
        return None, "Type a caption first, for instance: a cat left of a dog on a blue background."
    try:
        image = muse.generate(prompt, n=1, seed=seed, steps=steps, guidance=guidance)[0]
    except ValueError as error:  # its message says what to change
        return None, str(error)
    return image, f"“{prompt.strip()}”, guidance {guidance:g}, {steps} step{'s' * (steps != 1)}, seed {seed}"


def browse_scene(
    split: str = "train", task: str = "position", number: int = 0, size: int = 128, lattice: bool = True
) -> tuple[np.ndarray | None, str]:
    """Scene `number` of a task: (uint8 [size, size, 3], its caption and facts), or (None, what to change)."""
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


def code_pictures(
    muse: Muse, code: int, images: np.ndarray, tokens: np.ndarray, most: int = 7, stage: str = "base"
) -> tuple[np.ndarray, list[str], str]:
    """What a code stands for: (uint8 [B, 3 f, 3 f, 3], their titles, a sentence).

    images, tokens   images uint8 [M, H, W, 3] and their tokens int [M, h, w], which are searched for the code
    most             the number of patches to show at most
    stage            whose tokens they are: base or superres
    The first image is the decoder's output for 3 x 3 copies of the code. The others are patches that have this code,
    enlarged three times.
    """
    f = images.shape[1] // tokens.shape[1]
    shown, titles = [_pixels(muse, np.full((1, 3, 3), code), stage)[0]], ["painted 3 x 3"]
    found = np.argwhere(tokens == code)
    for i, row, column in found[:: max(1, len(found) // most)][:most]:
        patch = images[i, row * f : (row + 1) * f, column * f : (column + 1) * f]
        shown.append(patch.repeat(3, 0).repeat(3, 1))
        titles.append(f"in picture {i}")
    share = len(found) / tokens.size
    return np.stack(shown), titles, f"Code {code}: {len(found)} of {tokens.size} tokens ({share:.2%})"


def swap_token(muse: Muse, tokens: np.ndarray, row: int, column: int, code: int) -> tuple[np.ndarray, str]:
    """The images of tokens int [h, w] before and after one token is replaced: (uint8 [2, H, W, 3], a sentence)."""
    changed = np.array(tokens)
    changed[row, column] = code
    pair = _pixels(muse, np.stack([tokens, changed]))
    pixels = (np.abs(pair[0].astype(int) - pair[1]) > 25).any(-1).mean()
    words = f"Row {row}, column {column}: code {tokens[row, column]} -> {code}"
    words += (
        f"; {pixels:.1%} of the pixels changed by more than a tenth of the range (one patch is {1 / tokens.size:.1%})"
    )
    return pair, words


def near_words(encoder: TextEncoder, word: str, frame: str = "a {}", n: int = 8) -> tuple[dict[str, float] | None, str]:
    """The n sprite names whose vectors are nearest to that of a word: ({name: cosine}, a sentence), or (None, what to
    change). Each word is put into `frame`; the vector of a caption is the mean of its tokens' vectors."""
    if not word.strip() or "{}" not in frame:
        return None, "Type a word, and a frame with {} where the word should stand, for instance: a {}"
    names = list(scenes.sprites())
    captions = [scenes.fill_frame(frame, one) for one in (word.strip(), *names)]
    wanted, *named = encoder.directions(captions)
    cosines = np.stack(named) @ wanted
    best = np.argsort(-cosines, kind="stable")[:n]
    near = {names[i]: float(cosines[i]) for i in best}
    listed = ", ".join(f"{name} {cosine:.3f}" for name, cosine in near.items())
    return near, f"nearest to “{captions[0]}”: {listed}"


def caption_pieces(muse: Muse, caption: str) -> list[str]:
    """The pieces of a caption, without the mark for a space; "▁" is a piece that is only a space."""
    ids, mask = muse.text.tokenize([caption], length=muse.configs["base"].text_length)
    pieces = (muse.text.tokenizer.id_to_token(int(i)) or "" for i in ids[mask])
    return [piece.replace("▁", "") or "▁" for piece in pieces]


def word_attention(muse: Muse, tokens: np.ndarray, caption: str) -> tuple[list[str], np.ndarray]:
    """The pieces of a caption, and the attention of tokens int [h, w] to each of them, float [depth, heads, pieces, h,
    w]. The weights of a position sum to 1 over the pieces."""
    pieces = caption_pieces(muse, caption)
    text, text_mask = muse.text.encode([caption], length=muse.configs["base"].text_length)
    flat = np.asarray(tokens).reshape(1, -1)
    weights = np.asarray(attention_to_text(muse.models["base"], flat, text, text_mask))
    weights = weights[:, 0, :, :, : len(pieces)].swapaxes(2, 3)  # [depth, heads, pieces, N]
    return pieces, weights.reshape(*weights.shape[:3], *np.shape(tokens))


def where_it_looks(
    muse: Muse,
    tokens: np.ndarray,
    caption: str,
    piece: int,
    layer: int | None = None,
    hidden: np.ndarray | None = None,
) -> tuple[Figure, str]:
    """How much each of the tokens int [h, w] attends to a piece of a caption: (Figure, a sentence). After the picture
    comes the mean of the heads, then one panel per head.

    piece    which piece, counted from 0
    layer    which layer, counted from 1; None is the mean of all
    hidden   bool [h, w], positions that the transformer gets as [MASK]; None hides nothing
    """
    tokens = np.asarray(tokens)
    hidden = np.zeros(tokens.shape, bool) if hidden is None else np.asarray(hidden, bool)
    shown = np.where(hidden, muse.configs["base"].codebook_size, tokens)
    pieces, weights = word_attention(muse, shown, caption)
    maps = (weights.mean(0) if layer is None else weights[layer - 1])[:, piece]  # [heads, h, w]
    maps = np.concatenate([maps.mean(0, keepdims=True), maps])
    titles = ["mean of heads", *(f"head {i + 1}" for i in range(len(maps) - 1))]
    image = _pixels(muse, tokens[None])[0]
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    where = "the mean of all layers" if layer is None else f"layer {layer} of {len(weights)}"
    words = (
        f"“{pieces[piece]}” in “{caption}”, {where}, {hidden.sum()} of {hidden.size} tokens hidden: a position gives "
        f"it {maps[0].mean():.0%} of its attention on average, at most {maps[0].max():.0%}, in row {row}, "
        f"column {column}"
    )
    return figures.attention_over(image, maps, titles, columns=1 + len(maps), hidden=hidden), words


def compare_laws(
    first: str = "cosine", second: str = "arccos", tokens: int = 64, steps: int = 12
) -> tuple[Figure | None, str]:
    """Two mask schedules, in training and in decoding: (Figure, a sentence), or (None, what to change)."""
    laws, described = list(dict.fromkeys((first, second))), []
    try:
        figure = charts.mask_laws(laws, steps, tokens, masks=True)
    except ValueError as error:
        return None, str(error)
    for law in laws:
        r = masking.mask_rate((np.arange(1000) + 0.5) / 1000, law, tokens)
        revealed = -np.diff(masking.decode_schedule(steps, tokens, law), prepend=tokens)
        described.append(
            f"{law}: mean rate {masking.mean_rate(law, tokens):.2f}, {(r > 0.9).mean():.0%} of the rates above 0.9, "
            f"{revealed[0]} of {tokens} tokens revealed at the first step and {revealed[-1]} at the last"
        )
    return figure, "; ".join(described)


def decode_frame(muse: Muse, generation: Generation, step: int, image_index: int = 0) -> tuple[Figure, str]:
    """One step of a Generation, counted from 1: (Figure, a sentence)."""
    figure = figures.decode_frame(generation, image_index, step, muse.detokenize)
    after = generation.trace.hidden[step - 1, image_index]
    before = generation.trace.hidden[step - 2, image_index] if step > 1 else np.ones_like(after)
    sure = generation.trace.confidence[step - 1, image_index]
    words = (
        f"step {step} of {len(generation.trace.tokens)}: {before.sum()} hidden, {(before & ~after).sum()} kept, with "
        f"a probability of {sure[before & ~after].mean():.2f} on average; the {after.sum()} hidden again: "
    )
    return figure, words + (f"{sure[after].mean():.2f}" if after.any() else "none are left")


def cells_mask(cells: Collection[tuple[int, int]], grid: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Positions of base tokens, each (row, column), as a mask in pixels, bool [H, W]."""
    mask = np.zeros(grid, bool)
    for row, column in cells:
        mask[row, column] = True
    return mask.repeat(shape[0] // grid[0], 0).repeat(shape[1] // grid[1], 1)


def redraw_cells(
    muse: Muse, image: np.ndarray, cells: Collection[tuple[int, int]], caption: str, seed: int = 0
) -> tuple[np.ndarray | None, str]:
    """Sample the chosen base tokens of an image again: (uint8 [H, W, 3], a sentence), or (None, what to change)."""
    if not cells:
        return None, "Choose some positions in the image first."
    if not caption.strip():
        return None, "Type a caption of the whole image as it should be."
    mask = cells_mask(cells, muse.configs["base"].grid, image.shape[:2])
    count = f"{len(cells)} position{'s' * (len(cells) != 1)}"
    try:
        new = muse.inpaint(image, mask, caption, seed=seed)[0]
    except ValueError as error:  # its message says what to change
        return None, str(error)
    return new, f"{count} sampled again for “{caption.strip()}”, seed {seed}"


def iteration_frame(muse: Muse, edited: editing.Edited, iteration: int, before: np.ndarray) -> tuple[np.ndarray, str]:
    """The first image of a mask-free edit before it and after `iteration` iterations: (uint8 [2, H, W, 3], a sentence).

    edited   what `Muse.edit(..., way="resample", trace=True)` returned
    before   base tokens int [h, w] before the edit
    """
    if edited.states is None:
        raise ValueError("This edit has no trace; call `muse.edit(..., way='resample', trace=True)`.")
    tokens = edited.states[iteration - 1, 0] if iteration else before
    pictures = _pixels(muse, np.stack([before, tokens]))
    share = (tokens != before).mean()
    return pictures, f"before, and after {iteration} iterations: {share:.0%} of the base tokens have changed"


def over_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3], darkened outside a mask in base tokens, bool [h, w]."""
    f = len(image) // len(mask)
    inside = mask.repeat(f, 0).repeat(f, 1)[..., None]
    return np.where(inside, image, image // 3).astype(np.uint8)


def read_frame(muse: Muse, image: np.ndarray, caption: str, seed: int = 0) -> tuple[np.ndarray, str]:
    """The mask that is read from a caption, over the picture, and the picture after it: (uint8 [2, H, W, 3], a
    sentence). The base stage only."""
    edited = muse.edit(image, caption, seed=seed, way="read", superres=False, trace=True)
    assert isinstance(edited, editing.Edited)  # with trace=True
    mask = edited.redrawn[0]
    before = canvas.to_canvas(muse, ("base",), image).pixels
    words = (
        f"the mask read from the caption holds {mask.sum()} of {mask.size} base tokens (outside it the picture is dark)"
    )
    return np.stack([over_mask(before, mask), edited.images[0]]), words
