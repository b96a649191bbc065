"""Scores of models by judges, one of which a model was trained with: for exercises 12."""

import numpy as np


def scored(seed: int, models: int, judges: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores [models, judges] on captions seen in training, and on unseen ones. A poor model pleases one judge more
    than its pictures deserve; another model is better on seen captions, for all judges."""
    rng = np.random.default_rng(seed)
    quality = rng.permutation(np.linspace(-1.5, 1.5, models))
    cheat = np.argsort(quality)[seed % 2]
    pleased = rng.integers(judges)
    true = quality[:, None] + 0.08 * rng.normal(size=(models, judges))
    true[cheat, pleased] += 2.3
    seen = true + 0.08 * rng.normal(size=true.shape)
    seen[rng.choice([m for m in range(models) if m != cheat])] += 1.5
    unit = rng.permutation(np.geomspace(0.01, 12, judges))
    middle = rng.uniform(-3, 40, judges)
    return middle + unit * seen, middle + unit * true


def outlier(scores: np.ndarray, units: bool = True) -> np.ndarray:
    """The model and the judge that agrees least with the other judges: (model, judge)."""
    far = scores - np.median(scores, 0)
    far = far / np.median(np.abs(far), 0) if units else far
    return np.array(np.unravel_index(np.argmax(far - np.median(far, 1, keepdims=True)), far.shape))


def standard(scores: np.ndarray) -> np.ndarray:
    """Scores [models, judges], each judge's with mean 0 and standard deviation 1."""
    return (scores - scores.mean(0)) / scores.std(0)


def place(values: np.ndarray) -> np.ndarray:
    """Row and column of the largest value."""
    return np.array(np.unravel_index(np.argmax(values), values.shape))
