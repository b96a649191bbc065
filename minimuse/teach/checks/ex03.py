"""Exercises 03: VQGAN."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks.formulas import Formula, floats
from minimuse.teach.checks.tracing import gradient, random, weights


def _folded(x: np.ndarray, size: int) -> np.ndarray:
    """Channel after channel, row after row of a block: every size-th pixel, from each pixel of the first block on."""
    places = [(c, row, column) for c in range(x.shape[-1]) for row in range(size) for column in range(size)]
    return np.stack([x[:, row::size, column::size, c] for c, row, column in places], -1)


def _unfolded(order: tuple[int, ...], blocks_first: bool = True) -> Callable:
    """A mistake: the axes (B, block row, row, block column, column, C), in another order before they are joined."""

    def made(x: np.ndarray, size: int) -> np.ndarray:
        b, h, w, c = x.shape
        split = (h // size, size, w // size, size) if blocks_first else (size, h // size, size, w // size)
        return x.reshape(b, *split, c).transpose(order).reshape(b, h // size, w // size, -1)

    return made


@exercise(points=3)
def fold_pixels(answer: Callable) -> None:
    """x float [B, H, W, C], size int -> float [B, H/size, W/size, C * size * size], channel after channel."""
    shapes = [((1, 2, 4, 2), 2), ((2, 6, 4, 3), 2), ((1, 4, 12, 1), 4), ((3, 3, 9, 2), 3), ((1, 4, 4, 3), 2)]
    cases = [(np.random.default_rng(n).normal(size=shape), size) for n, (shape, size) in enumerate(shapes)]
    cases += [(np.arange(30).reshape(1, 2, 5, 3) / 8, 1), (np.arange(48, dtype=np.float16).reshape(2, 2, 4, 3), 2)]
    compare(
        answer,
        [(np.arange(8.0).reshape(1, 2, 2, 2), 2), *cases],
        _folded,
        {
            "The shape is right, but a single `reshape` only cuts the rows of pixels into pieces: a position does not "
            "hold a block. Give the rows and columns inside a block axes of their own, and move them to the end with "
            "`transpose` before you join them.": lambda x, size: x.reshape(_folded(x, size).shape),
            "Each position holds its block pixel by pixel, as the library's. Here all numbers of the first channel "
            "come first, so C must be the first of the axes that you join.": _unfolded((0, 1, 3, 2, 4, 5)),
            "Each position holds its block channel after channel, but down the columns: the first column, then the "
            "next. The order should be row by row.": _unfolded((0, 1, 3, 5, 4, 2)),
            "Each position holds its block, but down the columns, pixel by pixel. The order should be channel after "
            "channel, and row by row in each.": _unfolded((0, 1, 3, 4, 2, 5)),
            "Each position holds pixels from all over the image, in steps of H/size and W/size. In `reshape` the "
            "block's axis must come before the axis inside the block: H/size before size.": (
                _unfolded((0, 2, 4, 5, 1, 3), blocks_first=False)
            ),
            "Block rows and block columns are swapped: the first axis after B counts the block rows.": (
                lambda x, size: _folded(x, size).swapaxes(1, 2)
            ),
        },
    )


LOGITS = (  # true, rebuilt
    ([[[2.0, 0.0]]], [[[-3.0, 1.0]]]),  # hinges 0, 1 | 0, 2: 0.75
    ([[[3.0, -0.5]]], [[[0.5, -0.5]], [[2.5, -2.0]]]),  # hinges 0, 1.5 | 1.5, 0.5, 3.5, 0: 1.0625
    ([[[0.0], [0.0], [0.0]]], [[[0.0], [0.0], [0.0]]]),
    ([[[-1.5, 4.0]], [[0.5, 0.0]]], [[[-2.0, -4.0]]]),  # hinges 2.5, 0, 0.5, 1 | 0, 0: 0.5
)


def _hinges(true: Any, rebuilt: Any) -> tuple[list, list]:
    """The hinges of both kinds of logit, one by one."""
    return [max(0.0, 1 - t) for t in floats(true).flat], [max(0.0, 1 + r) for r in floats(rebuilt).flat]


def _judging(true: Any, rebuilt: Any) -> float:
    one, two = _hinges(true, rebuilt)
    return (sum(one) / len(one) + sum(two) / len(two)) / 2


def _both(value: Any) -> tuple[Any, Any]:
    return pair(value.tolist() if hasattr(value, "tolist") else value, "return judging, fooling")


def _of_hinges(loss: Callable) -> Callable:
    """A mistake: a function of the hinges of true and of rebuilt logits."""
    return lambda true, rebuilt: loss(*map(np.array, _hinges(true, rebuilt)))


@exercise(points=2)
def hinge_losses(answer: Callable) -> None:
    """true float [B, h, w], rebuilt float [b, h, w] -> (discriminator's loss, fooling loss)."""
    cases = [(np.array(true), np.array(rebuilt)) for true, rebuilt in LOGITS]
    for n, (b, other, h, w) in enumerate([(3, 3, 2, 2), (2, 5, 3, 4), (4, 1, 1, 7)]):
        rng = np.random.default_rng(n)
        cases.append((rng.normal(size=(b, h, w)).astype(np.float32) * 2, rng.normal(size=(other, h, w)) * 3))
    for case in cases[1:3]:
        for loss in _both(call(answer, *case)):
            numbers(loss)
    compare(
        answer,
        cases,
        _judging,
        {
            "The two losses are swapped: the discriminator's comes first.": lambda true, rebuilt: -rebuilt.mean(),
            "Fake and true are swapped in the discriminator's loss: with it the discriminator learns +1 for rebuilt "
            "images and -1 for true ones. The hinge of true logits is max(0, 1 - D).": (
                lambda true, rebuilt: _judging(rebuilt, true)
            ),
            "The factor 1/2 of the discriminator's loss is missing: this is the sum of two means.": (
                lambda true, rebuilt: 2 * _judging(true, rebuilt)
            ),
            "There is no hinge in the discriminator's loss: it keeps falling beyond +1 and -1. Take max(0, ...) of "
            "each logit before the mean.": lambda true, rebuilt: (1 - true.mean() + 1 + rebuilt.mean()) / 2,
            "You take max(0, ...) of the means. The hinge applies to each patch: first the maximum, then the mean.": (
                lambda true, rebuilt: (max(0, 1 - true.mean()) + max(0, 1 + rebuilt.mean())) / 2
            ),
            "The hinges are limited to 1. They have no upper limit: max(0, 1 - D) may be any number from 0 up.": (
                _of_hinges(lambda one, two: (np.minimum(one, 1).mean() + np.minimum(two, 1).mean()) / 2)
            ),
            "You take one mean over all hinges. If there are more rebuilt than true logits, they count more. Take a "
            "mean of each, then the mean of the two.": _of_hinges(lambda one, two: np.concatenate([one, two]).mean()),
            "You sum the hinges of all patches. A loss must not grow with the batch: take means.": (
                _of_hinges(lambda one, two: (one.sum() + two.sum()) / 2)
            ),
            "Only the true images are in the discriminator's loss.": _of_hinges(lambda one, two: one.mean() / 2),
            "Only the rebuilt images are in the discriminator's loss.": _of_hinges(lambda one, two: two.mean() / 2),
        },
        read=lambda value: _both(value)[0],
    )
    compare(
        answer,
        cases,
        lambda true, rebuilt: -floats(rebuilt).mean(),
        {
            "The sign of the fooling loss is wrong. The tokenizer minimises it, so it must be low where the logits of "
            "rebuilt images are high: minus their mean.": lambda true, rebuilt: rebuilt.mean(),
            "There is a hinge in the fooling loss. It is minus the plain mean of the logits.": (
                lambda true, rebuilt: np.maximum(0, 1 - rebuilt).mean()
            ),
            "The fooling loss uses the true images. Only the rebuilt ones come from the tokenizer.": (
                lambda true, rebuilt: -true.mean()
            ),
            "You sum the logits in the fooling loss. Take their mean.": lambda true, rebuilt: -rebuilt.sum(),
        },
        read=lambda value: _both(value)[1],
    )


def _straight(slope: np.ndarray) -> Formula:
    """A loss whose gradient is the same everywhere."""
    f = lambda kernel, slope=slope: jnp.sum(jnp.asarray(slope, jnp.float32) * kernel)
    return Formula("Σ g · kernel", f, lambda _: slope)


SQUARES = Formula("Σ kernel²", lambda kernel: jnp.sum(kernel**2), lambda kernel: 2 * kernel)
WAVES = Formula("Σ sin(kernel)", lambda kernel: jnp.sum(jnp.sin(kernel)), np.cos)
NORMS = (  # norm of each of the two gradients, cap, shape
    (3.0, 0.4999, 1e4, (6,)),  # 6
    (2.0, 0.0003, 1e4, (3, 3, 4, 2)),  # 5000
    (0.5, 0.9999, 1e4, (3, 3, 1, 12)),  # 0.5
    (1.0, 0.0005, 1e4, (6,)),  # 1666.7
    (7.0, 0.0, 1e4, (4, 5)),  # the cap
    (7.0, 0.9999, 2.5, (6,)),
    (0.0, 0.0, 1e4, (6,)),  # 0
)


def _norms(kernel: Any, *losses: Formula) -> list[float]:
    """The norms of the losses' gradients, number by number."""
    return [sum(slope**2 for slope in floats(loss.by[0](floats(kernel))).flat) ** 0.5 for loss in losses]


def _ratio(kind: Callable, small: Callable = lambda size: size + 1e-4, cap: Callable = min) -> Callable:
    """A mistake: the ratio of another size of the gradients, or another denominator or cap."""

    def made(rebuilding: Formula, fooling: Formula, kernel: Any, most: float) -> float:
        one, two = (kind(floats(loss.by[0](floats(kernel)))) for loss in (rebuilding, fooling))
        return cap(one / small(two), most)

    return made


def _weight(rebuilding: Formula, fooling: Formula, kernel: Any, most: float) -> float:
    one, two = _norms(kernel, rebuilding, fooling)
    return min(one / (two + 1e-4), most)


@exercise(points=2)
def fooling_weight(answer: Callable) -> None:
    """rebuilding and fooling, two losses of kernel, and most, float -> the weight of fooling, without a gradient."""
    small, block = random(9, (6,), (2, 3))
    cases: list[tuple] = [(SQUARES, WAVES, small, 1e4), (WAVES, SQUARES, block, 5.0)]
    for seed, (long, short, most, shape) in enumerate(NORMS):
        a, b = np.random.default_rng(seed).normal(size=(2, *shape))
        a, b = a * long / np.sqrt(np.sum(a * a)), b * short / np.sqrt(np.sum(b * b))
        cases.append((_straight(a), _straight(b), random(seed, shape)[0], most))
    norm = np.linalg.norm
    compare(
        answer,
        cases,
        _weight,
        {
            "That is upside down. The steeper the discriminator, the larger the norm of its gradient, and the smaller "
            "the weight: this norm belongs in the denominator.": lambda f, g, kernel, most: _weight(g, f, kernel, most),
            "You divide the sums of the squares. A norm is the square root of that sum.": _ratio(
                lambda g: (g**2).sum()
            ),
            "You sum absolute values. A norm is the square root of the sum of the squares.": (
                _ratio(lambda g: np.abs(g).sum())
            ),
            "You take means of the squares; a norm needs their sum. Only the 0.0001 makes the ratio differ.": (
                _ratio(lambda g: (g**2).mean() ** 0.5)
            ),
            "You compare the values of the losses. Compare their gradients: `jax.grad`.": (
                lambda f, g, kernel, most: min(abs(float(f(kernel))) / (abs(float(g(kernel))) + 1e-4), most)
            ),
            "The cap is missing: the weight is never more than `most`.": _ratio(norm, cap=lambda ratio, most: ratio),
            "This weight is never less than `most`: you took the larger of the quotient and the cap.": (
                _ratio(norm, cap=max)
            ),
            "The 0.0001 in the denominator is missing. It keeps the weight finite where the discriminator is flat.": (
                _ratio(norm, small=lambda size: size or 1e-12)
            ),
            "The 0.0001 is under the root. Take the norm first, then add it.": (
                _ratio(norm, small=lambda size: (size**2 + 1e-4) ** 0.5)
            ),
        },
        tolerance=1e-3,
    )
    for f, g, kernel, most in cases[:2]:
        compare(compiled(answer, static=(0, 1, 3)), [(f, g, kernel, most)], _weight)
        if np.any(numbers(gradient(answer, 2)(f, g, kernel, most), kernel.shape)):
            raise Wrong(
                "The weight is right, but a gradient passes through it, and would train the decoder to change it. It "
                "should count as a constant: `jax.lax.stop_gradient`."
            )


@exercise(points=1)
def why_grey_wins(answer: Callable) -> None:
    """No arguments -> the letter of the right reason."""
    chosen(
        answer,
        "b",
        {
            "a": (
                "Nothing is smoothed: PSNR compares pixel by pixel. That is why the sharp image scores low; after "
                "smoothing it would score as well as the grey one."
            ),
            "c": "PSNR knows nothing about eyes. It is the mean of squared differences, on a logarithmic scale.",
            "d": (
                "The peak is the largest possible pixel value, 1 here, and the same for both: look at the line with "
                "`log10`."
            ),
        },
    )


def _parts(decoder: Any, judge: Any, codes: Any, true: Any) -> tuple[Any, ...]:
    """Rebuilt images, logits of true and of rebuilt ones, and the parts of the value: squares, fooling, hinges."""
    decoder, judge, codes, true = map(floats, (decoder, judge, codes, true))
    rebuilt = codes @ decoder
    t, r = true @ judge, rebuilt @ judge
    return rebuilt, t, r, np.mean((rebuilt - true) ** 2), -r.mean(), _judging(t, r)


def _value(*case: Any) -> float:
    *_, squares, fooling, hinges = _parts(*case)
    return squares + fooling + hinges


def _changed(change: Callable) -> Callable:
    """A mistake: a function of squares, fooling loss, hinges, and the hinges with true and rebuilt images swapped."""
    return lambda *case: change(*_parts(*case)[3:], _judging(*_parts(*case)[2:0:-1]))


def _to_judge(hinge_true: float = 1, hinge_rebuilt: float = 1, fooling: float = 0) -> Callable:
    """The gradient for the discriminator from the parts of the loss, each times its argument."""

    def slope(decoder: Any, judge: Any, codes: Any, true: Any) -> np.ndarray:
        rebuilt, t, r, *_ = _parts(decoder, judge, codes, true)
        on_true, on_rebuilt = -floats(true).T @ (t < 1) / (2 * len(t)), rebuilt.T @ (r > -1) / (2 * len(r))
        return weights(()) * (hinge_true * on_true + hinge_rebuilt * on_rebuilt - fooling * rebuilt.mean(0))

    return slope


def _to_decoder(squares: float = 1, fooling: float = 1, hinge: float = 0) -> Callable:
    """The gradient for the decoder from the parts of the loss, each times its argument."""

    def slope(decoder: Any, judge: Any, codes: Any, true: Any) -> np.ndarray:
        rebuilt, _, r, *_ = _parts(decoder, judge, codes, true)
        judge, codes, true = map(floats, (judge, codes, true))
        of_squares = codes.T @ (rebuilt - true) * 2 / true.size
        of_fooling, of_hinge = -np.outer(codes.mean(0), judge), np.outer(codes.T @ (r > -1), judge) / (2 * len(r))
        return weights(()) * (squares * of_squares + fooling * of_fooling + hinge * of_hinge)

    return slope


TO_JUDGE = {
    "The fooling loss still reaches the discriminator, and trains it to call rebuilt images true. Stop the judge "
    "there: `rebuilt @ stop_gradient(judge)`.": _to_judge(fooling=1),
    "The discriminator learns only from the true images: no gradient comes from the hinge of the rebuilt ones. You "
    "stopped the whole logit; stop the image, not the judge.": _to_judge(hinge_rebuilt=0),
    "The judge is stopped in the hinges, and learns from the fooling loss instead. It should be the reverse.": (
        _to_judge(0, 0, 1)
    ),
    "The discriminator learns from the fooling loss, and not from the hinge of the rebuilt images. You stopped it in "
    "the wrong term.": _to_judge(1, 0, 1),
    "Nothing reaches the discriminator, so it never learns. The hinges are its loss.": _to_judge(0, 0, 0),
}
TO_DECODER = {
    "The discriminator's loss still reaches the decoder, which then learns to make the discriminator's task easy. Stop "
    "the image there: `stop_gradient(rebuilt) @ judge`.": _to_decoder(hinge=1),
    "The fooling loss does not reach the decoder any more. It is the decoder's loss: stop the judge in it, not the "
    "image and not the whole logit.": _to_decoder(fooling=0),
    "The decoder learns from the discriminator's own loss, but not from the one that fools it. You stopped the image "
    "in the wrong term.": _to_decoder(1, 0, 1),
    "Nothing reaches the decoder. Stop the rebuilt image only in the hinge, not in all terms.": _to_decoder(0, 0, 0),
    "The squared differences do not reach the decoder any more.": _to_decoder(squares=0),
}


@exercise(points=4)
def untangled_loss(answer: Callable) -> None:
    """decoder float [C, P], judge float [P], codes float [B, C], true float [B, P] -> float, with gradients."""
    cases = []
    for seed, (b, c, p) in enumerate(((2, 2, 3), (2, 2, 3), (6, 5, 12)), 1):
        decoder, judge, codes, true = random(seed, (c, p), (p,), (b, c), (b, p))
        cases.append((decoder, 0.3 * judge, codes, true))
    compare(
        answer,
        cases,
        _value,
        {
            "The hinges are not in the value. Without them the discriminator does not learn.": (
                _changed(lambda squares, fooling, hinges, swapped: squares + fooling)
            ),
            "The fooling loss is not in the value. Without it the decoder does not learn from the discriminator.": (
                _changed(lambda squares, fooling, hinges, swapped: squares + hinges)
            ),
            "Fake and true are swapped in the hinges: true images need logits above +1.": (
                _changed(lambda squares, fooling, hinges, swapped: squares + fooling + swapped)
            ),
            "The sign of the fooling loss is wrong; the value must equal that of `tangled_loss`.": (
                _changed(lambda squares, fooling, hinges, swapped: squares - fooling + hinges)
            ),
        },
    )
    compare(gradient(answer, 1), cases, _to_judge(), TO_JUDGE)
    compare(gradient(answer, 0), cases, _to_decoder(), TO_DECODER)
    compare(compiled(answer), cases[:1], _value)
