"""Wrong answers to exercises 03."""

import jax
import jax.numpy as jnp
import numpy as np


def folded(x, size, order=(0, 1, 3, 2, 4, 5), inner_last=True):
    b, h, w, c = x.shape
    h, w = h // size, w // size
    if inner_last:
        blocks = x.reshape(b, h, size, w, size, c).transpose(order)
    else:
        blocks = x.reshape(b, size, h, size, w, c).transpose(0, 2, 4, 1, 3, 5)
    return blocks.reshape(b, h, w, size * size * c)


def only_reshaped(x, size):
    b, h, w, c = x.shape
    return x.reshape(b, h // size, w // size, size * size * c)


def columns_first(x, size):
    b, h, w, c = x.shape
    return folded(x, size).reshape(b, w // size, h // size, size * size * c)


def hinges(true, rebuilt):
    judging = np.maximum(0, 1 - true).mean() / 2 + np.maximum(0, 1 + rebuilt).mean() / 2
    return judging, -rebuilt.mean()


def hinge_of_means(true, rebuilt):
    return max(0, 1 - true.mean()) / 2 + max(0, 1 + rebuilt.mean()) / 2, -rebuilt.mean()


def one_mean(true, rebuilt):
    every = np.concatenate([np.maximum(0, 1 - true).ravel(), np.maximum(0, 1 + rebuilt).ravel()])
    return every.mean(), -rebuilt.mean()


def sums(true, rebuilt):
    return np.maximum(0, 1 - true).sum() / 2 + np.maximum(0, 1 + rebuilt).sum() / 2, -rebuilt.mean()


def no_hinge(true, rebuilt):
    return (1 - true).mean() / 2 + (1 + rebuilt).mean() / 2, -rebuilt.mean()


def length(g):
    return np.sqrt((g**2).sum())


def weight(a, b, most, size=length, small=1e-4):
    return min(size(a) / (size(b) + small), most)


def players(fool_picture, fool_judge, hinge_picture, hinge_judge, fool_logit, hinge_logit, *, sign=-1, swap=False):
    """A loss for both players; each of the first six arguments is the identity or stop_gradient."""

    def loss(decoder, judge, codes, true):
        rebuilt = codes @ decoder
        fooling = sign * jnp.mean(fool_logit(fool_picture(rebuilt) @ fool_judge(judge)))
        logits = true @ hinge_judge(judge), hinge_logit(hinge_picture(rebuilt) @ hinge_judge(judge))
        if swap:
            logits = logits[::-1]
        hinges = jax.nn.relu(1 - logits[0]).mean() + jax.nn.relu(1 + logits[1]).mean()
        return jnp.mean((rebuilt - true) ** 2) + fooling + hinges / 2

    return loss


def stopped_for_all(decoder, judge, codes, true):
    return right(stop(decoder), judge, codes, true)


def no_fooling(decoder, judge, codes, true):
    rebuilt = codes @ decoder
    hinges = jax.nn.relu(1 - true @ judge).mean() + jax.nn.relu(1 + stop(rebuilt) @ judge).mean()
    return jnp.mean((rebuilt - true) ** 2) + hinges / 2


def in_numpy(decoder, judge, codes, true):
    rebuilt = codes @ decoder
    hinges = np.maximum(0, 1 - true @ judge).mean() + np.maximum(0, 1 + rebuilt @ judge).mean()
    return float(np.mean((rebuilt - true) ** 2) - np.mean(rebuilt @ judge) + hinges / 2)


def same(x):
    return x


stop = jax.lax.stop_gradient
right = players(same, stop, stop, same, same, same)

WRONG = {
    "fold_pixels": {
        "only reshape": (only_reshaped, "single `reshape`"),
        "down the columns": (lambda x, size: folded(x, size, (0, 1, 3, 4, 2, 5)), "down the columns"),
        "channel after channel": (lambda x, size: folded(x, size, (0, 1, 3, 5, 2, 4)), "pixel_unshuffle"),
        "strides": (lambda x, size: folded(x, size, inner_last=False), "steps of H/size"),
        "height and width swapped": (columns_first, "return shape"),
        "every second pixel": (lambda x, size: x[:, ::size, ::size].repeat(size**2, -1), "values differ"),
    },
    "hinge_losses": {
        "fake and true swapped": (lambda t, r: (hinges(r, t)[0], -r.mean()), "Fake and true"),
        "without the half": (lambda t, r: (2 * hinges(t, r)[0], -r.mean()), "factor 1/2"),
        "no hinge": (no_hinge, "no hinge in the discriminator"),
        "the hinge of the mean": (hinge_of_means, "of the means"),
        "one mean of all": (one_mean, "one mean over all"),
        "sums": (sums, "hinges of all patches"),
        "the wrong sign": (lambda t, r: (hinges(t, r)[0], r.mean()), "sign of the fooling loss"),
        "a hinge for both": (lambda t, r: (hinges(t, r)[0], np.maximum(0, 1 - r).mean()), "hinge in the fooling loss"),
        "fooled by true ones": (lambda t, r: (hinges(t, r)[0], -t.mean()), "uses the true"),
        "the wrong way round": (lambda t, r: hinges(t, r)[::-1], "comes first"),
        "one loss": (lambda t, r: hinges(t, r)[0], "shape"),
    },
    "fooling_weight": {
        "upside down": (lambda a, b, most: weight(b, a, most), "upside down"),
        "no root": (lambda a, b, most: weight(a, b, most, lambda g: (g**2).sum()), "sums of the squares"),
        "absolute values": (lambda a, b, most: weight(a, b, most, lambda g: np.abs(g).sum()), "absolute values"),
        "means": (lambda a, b, most: weight(a, b, most, lambda g: np.sqrt((g**2).mean())), "means of the squares"),
        "no cap": (lambda a, b, most: weight(a, b, np.inf), "cap is missing"),
        "the larger one": (lambda a, b, most: max(weight(a, b, np.inf), most), "never less"),
        "no small number": (lambda a, b, most: weight(a, b, most, small=1e-30), "denominator is missing"),
        "nothing to divide by": (lambda a, b, most: weight(a, b, most, small=0.0), "denominator is missing"),
        "under the root": (
            lambda a, b, most: min(length(a) / np.sqrt((b**2).sum() + 1e-4), most),
            "under the root",
        ),
    },
    "why_grey_wins": {
        "a": (lambda: "a", "Nothing is smoothed"),
        "c": (lambda: "c", "eyes"),
        "d": (lambda: "D ", "same for both"),
    },
    "untangled_loss": {
        "as it was": (players(same, same, same, same, same, same), "still reaches the discriminator"),
        "the judge not stopped": (players(same, same, stop, same, same, same), "still reaches the discriminator"),
        "the picture not stopped": (players(same, stop, same, same, same, same), "still reaches the decoder"),
        "the whole logit in the hinge": (players(same, stop, same, same, same, stop), "only from the true"),
        "the whole logit in fooling": (players(same, same, stop, same, stop, same), "does not reach the decoder"),
        "the stops swapped": (players(stop, same, same, stop, same, same), "judge is stopped in the hinges"),
        "fake and true swapped": (players(same, stop, stop, same, same, same, swap=True), "Fake and true"),
        "the wrong sign": (players(same, stop, stop, same, same, same, sign=1), "sign of the fooling loss"),
        "stopped for all": (stopped_for_all, "Nothing reaches the decoder"),
        "no fooling": (no_fooling, "fooling loss is not in the value"),
        "numpy": (in_numpy, "plain numbers and numpy"),
    },
}
