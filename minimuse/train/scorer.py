"""Training the scene scorer: pictures, what is done to them, and the loss."""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from minimuse.data import scenes
from minimuse.data.scenes import BACKGROUNDS, CANVAS, CELL, Item, sprites
from minimuse.evaluate.metrics import blur
from minimuse.evaluate.scorer import GRID, ScorerNet
from minimuse.train.step import Loss, share_of_mean
from minimuse.vqgan import to_float


def _mush(rng: random.Random, side: int) -> Image.Image:
    """RGBA that shows no object: patches of four sprites, a third of one at the most, or two sprites blended."""
    pictures = [s.image for s in rng.sample([s for s in sprites().values() if s.category != "shape"], 4)]
    pictures = [picture.resize((side, side)) for picture in pictures]
    if rng.random() < 0.3:
        return Image.blend(pictures[0], pictures[1], 0.5)
    mush, patches = pictures[0].copy(), [(x, y) for x in range(0, side, CELL) for y in range(0, side, CELL)]
    for i, (x, y) in enumerate(rng.sample(patches, len(patches))):
        box = (x, y, x + CELL, y + CELL)
        mush.paste(pictures[i % 4].crop(box), box)
    return mush


def training_picture(index: int) -> tuple[np.ndarray, str | None, tuple[Item, ...]]:
    """Picture number `index`: uint8 [64, 64, 3], its background (None: any) and its objects.

    Scenes of every task, pairs kept for `unseen_pairs` too, half of them off the lattice; crowds of any sprites, some
    of them mush that must not be read; and now and then only noise.
    """
    rng = random.Random(f"scorer/{index}")
    if index % 32 == 31:
        side = rng.choice([4, 8, 16, 32, 64])
        noise = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
        way = rng.choice([Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
        return np.asarray(Image.fromarray(noise).resize((CANVAS, CANVAS), way)), None, ()
    lattice = rng.random() < 0.5
    if index % 2:
        split = "unseen_pairs" if index % 8 == 1 else "train"
        scene, _ = scenes.example(split, index // 2, 1_000_000, lattice=lattice)
        return scenes.render(scene), scene.background, scene.items
    scene = scenes.random_scene(rng, "counting", lattice=lattice)
    items = [dataclasses.replace(item, name=rng.choice(tuple(sprites()))) for item in scene.items]
    if len(items) == 1 and rng.random() < 0.5:  # room for the larger size
        size = scenes.SIZES[1]
        items = [dataclasses.replace(v, size=size, x=min(v.x, CANVAS - size), y=min(v.y, CANVAS - size)) for v in items]
    mush = [rng.random() < 0.25 for _ in items]
    kept = tuple(item for item, bad in zip(items, mush) if not bad)
    canvas = Image.fromarray(scenes.render(dataclasses.replace(scene, items=kept)))
    for item, bad in zip(items, mush):
        if bad:
            stamp = _mush(rng, item.size)
            canvas.paste(stamp, (item.x, item.y), stamp)
    return np.asarray(canvas), scene.background, kept


def training_batch(step: int, batch: int) -> dict[str, np.ndarray]:
    """images uint8 [B, 64, 64, 3] · classes int [B, 8, 8] · centres [B, 8, 8, 2] · background int [B], -1:
    any."""
    names = {name: i for i, name in enumerate(sprites())}
    pictures = [training_picture(i) for i in range(step * batch, (step + 1) * batch)]
    classes = np.full((len(pictures), GRID, GRID), len(names))
    centres = np.zeros((len(pictures), GRID, GRID, 2), np.float32)
    for b, (_, _, items) in enumerate(pictures):
        for item in items:
            x, y = (v / CELL for v in item.centre)
            classes[b, int(y), int(x)] = names[item.name]
            centres[b, int(y), int(x)] = x % 1, y % 1
    grounds = tuple(BACKGROUNDS)
    background = np.array([-1 if name is None else grounds.index(name) for _, name, _ in pictures])
    return dict(images=np.stack([p[0] for p in pictures]), classes=classes, centres=centres, background=background)


def _spoil(key: jax.Array, pixels: jax.Array) -> jax.Array:
    """Some of what a generator does to a picture: blur, noise, patches and whole pictures a little off in colour."""
    keys, batch = jax.random.split(key, 7), len(pixels)

    def amount(key: jax.Array, most: float) -> jax.Array:  # none for half of the pictures
        return jnp.maximum(jax.random.uniform(key, (batch, 1, 1, 1), minval=-most, maxval=most), 0)

    pixels = blur(pixels, amount(keys[0], 2.0)[:, 0, 0, 0])
    pixels *= jax.random.uniform(keys[1], (batch, 1, 1, 1), minval=0.9, maxval=1.1)
    pixels += jax.random.uniform(keys[2], (batch, 1, 1, 3), minval=-0.05, maxval=0.05)
    patches = amount(keys[3], 0.08) * jax.random.normal(keys[4], (batch, GRID, GRID, 3))
    pixels += jnp.repeat(jnp.repeat(patches, CELL, 1), CELL, 2)
    return jnp.clip(pixels + amount(keys[5], 0.12) * jax.random.normal(keys[6], pixels.shape), -1, 1)


def _spoiled(key: jax.Array, batch: dict) -> dict:
    return batch | dict(pixels=_spoil(key, to_float(batch["images"])))


def _reading(model: ScorerNet, rows: dict, batch: dict) -> tuple[jax.Array, dict, dict]:
    logits, centres, background = model(rows["pixels"])
    there, all_there = (x["classes"] < logits.shape[-1] - 1 for x in (rows, batch))
    objects = jnp.maximum(all_there.sum(), 1)
    weights, all_weights = (jnp.where(x, 1.0, 0.25) for x in (there, all_there))
    errors = optax.softmax_cross_entropy_with_integer_labels(logits, rows["classes"])
    classes = jnp.sum(weights * errors) / jnp.sum(all_weights)
    distance = jnp.sum(there * jnp.abs(centres - rows["centres"]).sum(-1)) / objects
    wanted = jax.nn.one_hot(rows["background"], len(BACKGROUNDS))  # -1 gives a row of zeros, and no loss
    ground = share_of_mean(optax.softmax_cross_entropy(background, wanted), batch)
    right = jnp.sum(there * (logits.argmax(-1) == rows["classes"])) / objects
    sums = dict(classes=classes, ground=ground, distance=distance, right=right)
    return classes + 0.1 * distance + 0.2 * ground, sums, {}


scorer_loss = Loss(_spoiled, _reading)
"""(model, key, batch) -> (loss, metrics): which sprite (cells with nothing weigh a quarter, as they are thirty times as
many), where, and which background, on a batch of `training_batch`."""
