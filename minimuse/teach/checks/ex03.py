"""Exercises 03: VQGAN."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from minimuse.teach.asking import Wrong, call, chosen, exercise, numbers, same, unless


@exercise(points=3)
def fold_pixels(answer: Callable) -> None:
    """x float [B, H, W, C], size int -> float [B, H/size, W/size, size * size * C]."""
    for (b, h, w, c), size in (((2, 6, 4, 3), 2), ((1, 4, 12, 1), 4), ((3, 3, 9, 2), 3), ((1, 2, 5, 3), 1)):
        x = np.random.default_rng(h).normal(size=(b, h, w, c))
        rows, columns = h // size, w // size
        shape = (b, rows, columns, size * size * c)
        got = numbers(call(answer, x, size), shape)
        blocks = [[x[:, i : i + size, j : j + size] for j in range(0, w, size)] for i in range(0, h, size)]
        right = np.stack([np.stack([block.reshape(b, -1) for block in row], 1) for row in blocks], 1)
        apart, strided = x.reshape(b, rows, size, columns, size, c), x.reshape(b, size, rows, size, columns, c)
        unless(
            got,
            {
                "The shape is right, but a single `reshape` only cuts the rows of pixels into pieces: a position "
                "does not hold a block. Give the rows and columns inside a block axes of their own, and move them "
                "to the end with `transpose` before you join them.": x.reshape(shape),
                "Each position holds its block, but down the columns: the first column, then the next. The order "
                "should be row by row.": apart.transpose(0, 1, 3, 4, 2, 5).reshape(shape),
                "Each position holds its block, but one channel after the other, as in PyTorch's "
                "`pixel_unshuffle`. The C numbers of a pixel stay together, so C must be the last of the axes that "
                "you join.": apart.transpose(0, 1, 3, 5, 2, 4).reshape(shape),
                "Each position holds pixels from all over the image, in steps of H/size and W/size. In `reshape` "
                "the block's axis must come before the axis inside the block: H/size before size.": strided.transpose(
                    0, 2, 4, 1, 3, 5
                ).reshape(shape),
            },
            right=right,
        )
        same(got, right, f"x of shape {[b, h, w, c]} and size {size}")


LOGITS = (  # real, reconstructed, the two losses by hand
    ([[[3.0, -0.5]]], [[[0.5, -0.5]], [[2.5, -2.0]]], (1.0625, -0.125)),  # hinges 0, 1.5 | 1.5, 0.5, 3.5, 0
    ([[[2.0, 0.0]]], [[[-3.0, 1.0]]], (0.75, 1.0)),
    ([[[0.0], [0.0], [0.0]]], [[[0.0], [0.0], [0.0]]], (1.0, 0.0)),
    ([[[-1.5, 4.0]], [[0.5, 0.0]]], [[[-2.0, -4.0]]], (0.5, 3.0)),  # hinges 2.5, 0, 0.5, 1 | 0, 0
)


@exercise(points=2)
def hinge_losses(answer: Callable) -> None:
    """true float [B, h, w], rebuilt float [b, h, w] -> (discriminator's loss, fooling loss)."""
    for true, rebuilt, right in LOGITS:
        true, rebuilt = np.array(true), np.array(rebuilt)
        pair = numbers(call(answer, true, rebuilt), (2,))
        hinge, t, r = lambda x: np.maximum(x, 0), true.mean(), rebuilt.mean()
        unless(pair, {"The two losses are swapped: the discriminator's comes first.": right[::-1]}, right)
        unless(
            pair[0],
            {
                "Fake and true are swapped in the discriminator's loss: with it the discriminator learns +1 for "
                "rebuilt images and -1 for true ones. The hinge of true logits is max(0, 1 - D).": (
                    hinge(1 + true).mean() + hinge(1 - rebuilt).mean()
                )
                / 2,
                "The factor 1/2 of the discriminator's loss is missing: this is the sum of two means.": 2 * right[0],
                "There is no hinge in the discriminator's loss: it keeps falling beyond +1 and -1. Take max(0, "
                "...) of each logit before the mean.": (1 - t + 1 + r) / 2,
                "You take max(0, ...) of the means. The hinge applies to each patch: first the maximum, then the "
                "mean.": (hinge(1 - t) + hinge(1 + r)) / 2,
                "You take one mean over all hinges. If there are more rebuilt than true logits, they count more. "
                "Take a mean of each, then the mean of the two.": (
                    np.concatenate([hinge(1 - true).ravel(), hinge(1 + rebuilt).ravel()]).mean()
                ),
                "You sum the hinges of all patches. A loss must not grow with the batch: take means.": (
                    hinge(1 - true).sum() + hinge(1 + rebuilt).sum()
                )
                / 2,
            },
            right=right[0],
        )
        unless(
            pair[1],
            {
                "The sign of the fooling loss is wrong. The tokenizer minimises it, and wants high logits for "
                "rebuilt images: the loss is minus their mean.": r,
                "There is a hinge in the fooling loss. It is minus the plain mean of the logits.": hinge(
                    1 - rebuilt
                ).mean(),
                "The fooling loss uses the true images. Only the rebuilt ones come from the tokenizer.": -t,
                "You sum the logits in the fooling loss. Take their mean.": -rebuilt.sum(),
            },
            right=right[1],
        )
        same(pair, right, f"the true logits {true.tolist()} and the rebuilt ones {rebuilt.tolist()}, the two losses")


WEIGHTS = (  # norm of each of the two gradients, cap, shape, the weight by hand
    (3.0, 0.4999, 1e4, (6,), 6.0),
    (2.0, 0.0003, 1e4, (3, 3, 4, 2), 5000.0),
    (0.5, 0.9999, 1e4, (3, 3, 1, 12), 0.5),
    (7.0, 0.0, 1e4, (4, 5), 1e4),
    (7.0, 0.9999, 2.5, (1, 1, 2, 3), 2.5),
    (0.0, 0.0, 1e4, (7,), 0.0),
)


@exercise(points=2)
def fooling_weight(answer: Callable) -> None:
    """rebuilding and fooling float of the same shape, most float -> the weight, a float."""
    for seed, (long, short, most, shape, right) in enumerate(WEIGHTS):
        a, b = np.random.default_rng(seed).normal(size=(2, *shape))
        a, b = a * long / np.sqrt(np.sum(a * a)), b * short / np.sqrt(np.sum(b * b))
        got = numbers(call(answer, a, b, most))
        unless(
            got,
            {
                "That is upside down. The steeper the discriminator, the larger the norm of its gradient, and the "
                "smaller the weight: this norm belongs in the denominator.": min(short / (long + 1e-4), most),
                "You divide the sums of the squares. A norm is the square root of that sum.": min(
                    long**2 / (short**2 + 1e-4), most
                ),
                "You sum absolute values. A norm is the square root of the sum of the squares.": min(
                    np.abs(a).sum() / (np.abs(b).sum() + 1e-4), most
                ),
                "You take means of the squares; a norm needs their sum. Only the 0.0001 makes the ratio differ.": min(
                    (a**2).mean() ** 0.5 / ((b**2).mean() ** 0.5 + 1e-4), most
                ),
                "The cap is missing: the weight is never more than `most`.": long / (short + 1e-4),
                "This weight is never less than `most`: you took the larger of the quotient and the cap.": max(
                    long / (short + 1e-4), most
                ),
                "The 0.0001 in the denominator is missing. It keeps the weight finite where the discriminator is "
                "flat.": min(long / max(short, 1e-12), most),
                "The 0.0001 is under the root. Take the norm first, then add it.": min(
                    long / (short**2 + 1e-4) ** 0.5, most
                ),
            },
            right=right,
        )
        same(got, right, f"gradients of norms {long:g} and {short:g}, most = {most:g}, shape {list(shape)}")


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


@exercise(points=4)
def untangled_loss(answer: Callable) -> None:
    """decoder float [C, P], judge float [P], codes float [B, C], true float [B, P] -> float, with gradients."""
    for seed, (b, c, p) in enumerate(((6, 5, 12), (1, 9, 10)), 1):
        rng = np.random.default_rng(seed)
        drawn = (rng.normal(size=shape) for shape in ((c, p), (p,), (b, c), (b, p)))
        decoder, judge, codes, true = (array.astype(np.float32) for array in drawn)
        judge *= 0.3

        def loss(decoder, judge):
            try:
                return _scalar(call(answer, decoder, judge, codes, true))  # noqa: B023
            except Wrong as wrong:
                raise Wrong(PLAIN if "Tracer" in str(wrong) else str(wrong)) from None

        got, slopes = jax.jit(jax.value_and_grad(loss, (0, 1)))(decoder, judge)
        rebuilt = codes @ decoder
        t, r = true @ judge, rebuilt @ judge
        squared, fooling = np.mean((rebuilt - true) ** 2), -r.mean()
        hinges = np.where(t < 1, 1 - t, 0).mean() / 2 + np.where(r > -1, 1 + r, 0).mean() / 2
        swapped = np.where(t > -1, 1 + t, 0).mean() / 2 + np.where(r < 1, 1 - r, 0).mean() / 2
        right, about = squared + fooling + hinges, f"{b} images of {p} pixels and {c} numbers per code"
        unless(
            numbers(got),
            {
                "The hinges are not in the value. Without them the discriminator does not learn.": right - hinges,
                "The fooling loss is not in the value. Without it the decoder does not learn from the "
                "discriminator.": right - fooling,
                "Fake and true are swapped in the hinges: true images need logits above +1.": right + swapped - hinges,
                "The sign of the fooling loss is wrong; the value must equal that of `tangled_loss`.": right
                - 2 * fooling,
            },
            right=right,
        )
        same(numbers(got), right, f"{about}, the value")
        # By hand: the gradient of each term for each player.
        of_squares, of_fooling = codes.T @ (rebuilt - true) * 2 / (b * p), -np.outer(codes.mean(0), judge)
        of_hinge = np.outer(codes.T @ (r > -1), judge) / (2 * b)
        on_true, on_rebuilt, on_fooling = -true.T @ (t < 1) / (2 * b), rebuilt.T @ (r > -1) / (2 * b), -rebuilt.mean(0)
        to_decoder, to_judge = of_squares + of_fooling, on_true + on_rebuilt
        unless(
            numbers(slopes[1], (p,)),
            {
                "The fooling loss still reaches the discriminator, and trains it to call rebuilt images true. Stop "
                "the judge there: `rebuilt @ stop_gradient(judge)`.": to_judge + on_fooling,
                "The discriminator learns only from the true images: no gradient comes from the hinge of the "
                "rebuilt ones. You stopped the whole logit; stop the image, not the judge.": on_true,
                "The judge is stopped in the hinges, and learns from the fooling loss instead. It should be the "
                "reverse.": on_fooling,
                "The discriminator learns from the fooling loss, and not from the hinge of the rebuilt images. You "
                "stopped it in the wrong term.": on_true + on_fooling,
                "Nothing reaches the discriminator, so it never learns. The hinges are its loss.": np.zeros(p),
            },
            right=to_judge,
        )
        unless(
            numbers(slopes[0], (c, p)),
            {
                "The discriminator's loss still reaches the decoder, which then learns to make the discriminator's "
                "task easy. Stop the image there: `stop_gradient(rebuilt) @ judge`.": to_decoder + of_hinge,
                "The fooling loss does not reach the decoder any more. It is the decoder's loss: stop the judge in "
                "it, not the image and not the whole logit.": of_squares,
                "The decoder learns from the discriminator's own loss, but not from the one that fools it. You "
                "stopped the image in the wrong term.": of_squares + of_hinge,
                "Nothing reaches the decoder. Stop the rebuilt image only in the hinge, not in all terms.": np.zeros(
                    (c, p)
                ),
                "The squared differences do not reach the decoder any more.": of_fooling,
            },
            right=to_decoder,
        )
        same(np.asarray(slopes[1]), to_judge, f"{about}, the gradient for the discriminator")
        same(np.asarray(slopes[0]), to_decoder, f"{about}, the gradient for the decoder")


PLAIN = (
    "There is no gradient through plain numbers and numpy. Compute everything with `jnp` and `jax.nn`, and return "
    "the result without `float(...)`."
)


def _scalar(value: Any) -> jax.Array:
    """A value that can be differentiated, a scalar jax float; Wrong for anything else."""
    if not isinstance(value, jax.Array):
        numbers(value)
        raise Wrong(PLAIN)
    if value.shape or value.dtype.kind != "f":
        raise Wrong(f"It returned {value.dtype} {list(value.shape)}; return one float without axes.")
    return value
