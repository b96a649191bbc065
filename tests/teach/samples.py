"""Tiny arrays, and stand-ins for a model and an encoder, for the tests of figures, views and explorers."""

from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

from minimuse.config import Sampling
from minimuse.data import scenes
from minimuse.decoding import Trace
from minimuse.t5 import TextEncoder
from minimuse.teach import display

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


def png(figure) -> bytes:
    """The figure as a file; this also checks that it can be drawn."""
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("IPython.display.display", shown.append)
        display.with_alt(figure, "a figure")
    return shown[0].data


def generation(steps=4, batch=2, h=2, w=3):
    """What `Muse.generate(..., trace=True)` would return."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 16, (steps, batch, h * w))
    hidden = np.arange(h * w) < np.array([5, 4, 2, 0])[:steps, None, None]
    trace = Trace(tokens, rng.random(tokens.shape), np.broadcast_to(hidden, tokens.shape))
    return SimpleNamespace(images=IMAGES[:batch], tokens=tokens[-1].reshape(batch, h, w), trace=trace)


def detokenize(tokens):
    """Each token as a grey patch of 4 x 4 pixels."""
    return np.repeat(np.repeat(tokens, 4, 1), 4, 2)[..., None].repeat(3, -1).astype(np.uint8)


class FakeMuse:
    """Takes the arguments of Muse.generate; its images show the seed."""

    configs = {"base": SimpleNamespace(grid=(8, 8))}
    sampling = {"base": Sampling(guidance=3.0, steps=12)}

    def __init__(self):
        self.calls = []

    def generate(self, caption, n=1, seed=0, *, steps, guidance):
        self.calls.append((caption, seed, steps, guidance))
        if not 1 <= steps <= 64:
            raise ValueError(f"steps must be a whole number from 1 to 64; it was {steps}.")
        return np.full((n, 8, 8, 3), seed, np.uint8)


def said(capsys) -> str:
    """What was printed, its lines joined."""
    return " ".join(capsys.readouterr().out.split())


def controls(widget):
    """All controls with a label inside a widget."""
    for child in getattr(widget, "children", ()):
        yield from controls(child)
    if hasattr(widget, "description"):
        yield widget


class FakeEncoder:
    """One token per word; its vector is that of its first letter, two to a direction: c and k, d and p."""

    directions = TextEncoder.directions

    def encode(self, captions):
        self.captions = captions
        mask = np.zeros((len(captions), 9), bool)
        vectors = np.zeros((len(captions), 9, 13))
        for row, caption in enumerate(captions):
            for position, word in enumerate(caption.split()):
                mask[row, position] = True
                letter = dict(k="c", p="d").get(word[0], word[0])
                vectors[row, position, ord(letter) % 13] = 1
        return vectors, mask


def is_said(capsys, *pieces: str) -> bool:
    """Whether all of these were printed."""
    words = said(capsys)
    return all(piece in words for piece in pieces)


def three_scenes(muse) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [3, 64, 64, 3] of one object each, and their tokens int [3, 8, 8]."""
    images = scenes.render_batch([scenes.example("train", 6 * i)[0] for i in range(3)])
    return images, muse.tokenize(images)
