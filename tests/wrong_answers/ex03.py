"""Wrong answers to exercises 03."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import Equal

stop = jax.lax.stop_gradient


def folded(x, size, order=(0, 1, 3, 5, 2, 4), inner_last=True):
    b, h, w, c = x.shape
    h, w = h // size, w // size
    if inner_last:
        blocks = x.reshape(b, h, size, w, size, c).transpose(order)
    else:
        blocks = x.reshape(b, size, h, size, w, c).transpose(0, 2, 4, 5, 1, 3)
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


def clipped(true, rebuilt):
    return np.clip(1 - true, 0, 1).mean() / 2 + np.clip(1 + rebuilt, 0, 1).mean() / 2, -rebuilt.mean()


def one_mean(true, rebuilt):
    every = np.concatenate([np.maximum(0, 1 - true).ravel(), np.maximum(0, 1 + rebuilt).ravel()])
    return every.mean(), -rebuilt.mean()


def sums(true, rebuilt):
    return np.maximum(0, 1 - true).sum() / 2 + np.maximum(0, 1 + rebuilt).sum() / 2, -rebuilt.mean()


def no_hinge(true, rebuilt):
    return (1 - true).mean() / 2 + (1 + rebuilt).mean() / 2, -rebuilt.mean()


def length(g):
    return jnp.sqrt((g**2).sum())


def weight(f, g, kernel, most, size=length, small=1e-4, cap=jnp.minimum):
    one, two = (size(jax.grad(loss)(kernel)) for loss in (f, g))
    return stop(cap(one / (two + small), most))


def not_stopped(f, g, kernel, most):
    return jnp.minimum(length(jax.grad(f)(kernel)) / (length(jax.grad(g)(kernel)) + 1e-4), most)


def by_min(f, g, kernel, most):
    """Python's own min, which compares traced values."""
    return min(length(jax.grad(f)(kernel)) / (length(jax.grad(g)(kernel)) + 1e-4), most)


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


right = players(same, stop, stop, same, same, same)

WRONG = {
    "fold_pixels": {
        "only reshape": (only_reshaped, "single `reshape`"),
        "the library's order": (lambda x, size: folded(x, size, (0, 1, 3, 2, 4, 5)), "as the library's"),
        "down the columns": (
            lambda x, size: folded(x, size, (0, 1, 3, 5, 4, 2)),
            "after channel, but down the columns",
        ),
        "down the columns, pixel by pixel": (
            lambda x, size: folded(x, size, (0, 1, 3, 4, 2, 5)),
            "down the columns, pixel by pixel",
        ),
        "strides": (lambda x, size: folded(x, size, inner_last=False), "steps of H/size"),
        "height and width swapped": (columns_first, "return shape"),
        "rows and columns swapped": (lambda x, size: folded(x, size).swapaxes(1, 2), "are swapped"),
        "every second pixel": (lambda x, size: x[:, ::size, ::size].repeat(size**2, -1), "Not all results are right"),
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
        "limited to 1": (clipped, "no upper limit"),
        "only true ones": (lambda t, r: (np.maximum(0, 1 - t).mean() / 2, -r.mean()), "Only the true"),
        "only rebuilt ones": (lambda t, r: (np.maximum(0, 1 + r).mean() / 2, -r.mean()), "Only the rebuilt"),
        "one loss": (lambda t, r: hinges(t, r)[0], "two values"),
    },
    "fooling_weight": {
        "upside down": (lambda f, g, k, most: weight(g, f, k, most), "upside down"),
        "no root": (lambda *args: weight(*args, lambda g: (g**2).sum()), "sums of the squares"),
        "absolute values": (lambda *args: weight(*args, lambda g: jnp.abs(g).sum()), "absolute values"),
        "means": (lambda *args: weight(*args, lambda g: jnp.sqrt((g**2).mean())), "means of the squares"),
        "values": (lambda f, g, k, most: jnp.minimum(abs(f(k)) / (abs(g(k)) + 1e-4), most), "values of the losses"),
        "no cap": (lambda f, g, k, most: weight(f, g, k, jnp.inf), "cap is missing"),
        "the larger one": (lambda *args: weight(*args, cap=jnp.maximum), "never less"),
        "no small number": (lambda *args: weight(*args, small=1e-30), "denominator is missing"),
        "under the root": (
            lambda f, g, k, most: jnp.minimum(
                length(jax.grad(f)(k)) / jnp.sqrt((jax.grad(g)(k) ** 2).sum() + 1e-4), most
            ),
            "under the root",
        ),
        "not stopped": (not_stopped, "a gradient passes through it"),
        "Python's min": (by_min, "cannot compile"),
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
        "numpy": (in_numpy, "cannot take a gradient"),
    },
}


def changes_logits(true, rebuilt):
    true -= 1
    rebuilt += 1
    return np.maximum(0, -true).mean() / 2 + np.maximum(0, rebuilt).mean() / 2, 1 - rebuilt.mean()


def losses(judging=lambda t, r: hinges(t, r)[0], fooling=lambda r: -r.mean()):
    return lambda t, r: (judging(t, r), fooling(r))


def terms(change):
    """The right loss, and a function of (squared, fooling, hinges) in place of their sum."""

    def loss(decoder, judge, codes, true):
        rebuilt = codes @ decoder
        hinge = jax.nn.relu(1 - true @ judge).mean() + jax.nn.relu(1 + stop(rebuilt) @ judge).mean()
        return change(jnp.mean((rebuilt - true) ** 2), -jnp.mean(rebuilt @ stop(judge)), hinge / 2)

    return loss


def reversed_gradient(decoder, judge, codes, true):
    """The discriminator's gradient is turned round for the decoder instead of being stopped."""
    rebuilt = codes @ decoder
    turned = 2 * stop(rebuilt) - rebuilt
    hinge = jax.nn.relu(1 - true @ judge).mean() + jax.nn.relu(1 + turned @ judge).mean()
    return jnp.mean((rebuilt - true) ** 2) - jnp.mean(rebuilt @ stop(judge)) + hinge / 2


REFUSED = {
    "fold_pixels": {
        "blocks of 2 only": lambda x, size: folded(x, 2) if size == 2 else only_reshaped(x, size),
        "columns of the block reversed": lambda x, size: folded(x[:, :, ::-1], size)[:, :, ::-1],
        "rows of the block reversed": lambda x, size: folded(x[:, ::-1], size)[:, ::-1],
        "channels reversed": lambda x, size: folded(x[..., ::-1], size),
        "all reversed": lambda x, size: folded(x, size)[..., ::-1],
        "the mean of a block": lambda x, size: (
            folded(x, size).mean(-1, keepdims=True).repeat(x.shape[-1] * size**2, -1)
        ),
        "an axis for channels": lambda x, size: folded(x, size).reshape(*folded(x, size).shape[:3], x.shape[-1], -1),
        "channels in front": lambda x, size: np.moveaxis(folded(x, size), -1, 1),
        "the first picture": lambda x, size: folded(x[:1], size).repeat(len(x), 0),
        "pictures in reverse": lambda x, size: folded(x, size)[::-1],
        "a Fortran reshape": lambda x, size: x.reshape(
            x.shape[0], x.shape[1] // size, x.shape[2] // size, -1, order="F"
        ),
        "transposed picture": lambda x, size: folded(x.swapaxes(1, 2), size).swapaxes(1, 2),
        "sorted": lambda x, size: np.sort(folded(x, size), -1),
        "whole numbers": lambda x, size: folded(x, size).astype(int),
        "flat": lambda x, size: folded(x, size).reshape(len(x), -1),
    },
    "hinge_losses": {
        "changes its arguments": changes_logits,
        "squared hinges": losses(
            lambda t, r: (np.maximum(0, 1 - t) ** 2).mean() / 2 + (np.maximum(0, 1 + r) ** 2).mean() / 2
        ),
        "a soft hinge": losses(lambda t, r: np.logaddexp(0, 1 - t).mean() / 2 + np.logaddexp(0, 1 + r).mean() / 2),
        "a margin of 0": losses(lambda t, r: np.maximum(0, -t).mean() / 2 + np.maximum(0, r).mean() / 2),
        "a margin of 2": losses(lambda t, r: np.maximum(0, 2 - t).mean() / 2 + np.maximum(0, 2 + r).mean() / 2),
        "the largest hinge": losses(lambda t, r: np.maximum(0, 1 - t).max() / 2 + np.maximum(0, 1 + r).max() / 2),
        "medians": losses(lambda t, r: np.median(np.maximum(0, 1 - t)) / 2 + np.median(np.maximum(0, 1 + r)) / 2),
        "only where there is a hinge": losses(
            lambda t, r: (
                (1 - t)[t < 1].sum() / max(1, (t < 1).sum()) / 2 + (1 + r)[r > -1].sum() / max(1, (r > -1).sum()) / 2
            )
        ),
        "half of one": losses(lambda t, r: np.maximum(0, 1 - t).mean() + np.maximum(0, 1 + r).mean() / 2),
        "a minus between": losses(lambda t, r: np.maximum(0, 1 - t).mean() / 2 - np.maximum(0, 1 + r).mean() / 2),
        "the same sign twice": losses(lambda t, r: np.maximum(0, 1 - t).mean() / 2 + np.maximum(0, 1 - r).mean() / 2),
        "per picture": losses(lambda t, r: np.maximum(0, 1 - t).mean((1, 2)) / 2),
        "half of the fooling loss": losses(fooling=lambda r: -r.mean() / 2),
        "the largest logit": losses(fooling=lambda r: -r.max()),
        "the first patch": losses(fooling=lambda r: -r[0, 0, 0]),
        "in a dictionary": lambda t, r: dict(zip(("judging", "fooling"), hinges(t, r))),
        "their sum": lambda t, r: sum(hinges(t, r)),
    },
    "fooling_weight": {
        "no gradients": lambda f, g, k, most: most,
        "a difference": lambda f, g, k, most: jnp.minimum(length(jax.grad(f)(k)) - length(jax.grad(g)(k)), most),
        "the norm of the ratio": lambda f, g, k, most: jnp.minimum(length(jax.grad(f)(k) / jax.grad(g)(k)), most),
        "an inner product": lambda f, g, k, most: jnp.minimum(
            (jax.grad(f)(k) * jax.grad(g)(k)).sum() / (length(jax.grad(g)(k)) ** 2 + 1e-4), most
        ),
        "the largest number": lambda *args: weight(*args, lambda g: jnp.abs(g).max()),
        "of the first axis": lambda *args: weight(*args, lambda g: jnp.sqrt((g**2).sum(0)).mean()),
        "small in both": lambda f, g, k, most: stop(
            jnp.minimum((length(jax.grad(f)(k)) + 1e-4) / (length(jax.grad(g)(k)) + 1e-4), most)
        ),
        "a millionth": lambda *args: weight(*args, small=1e-6),
        "the cap on the norm": lambda f, g, k, most: stop(
            jnp.minimum(length(jax.grad(f)(k)), most) / (length(jax.grad(g)(k)) + 1e-4)
        ),
        "always the cap of VQGAN": lambda f, g, k, most: weight(f, g, k, 1e4),
        "of the other": lambda f, g, k, most: weight(f, f, k, most),
        "at 0": lambda f, g, k, most: weight(f, g, 0 * k, most),
        "a softer cap": lambda *args: weight(*args, cap=lambda ratio, most: most * jnp.tanh(ratio / most)),
        "one number per row": lambda *args: weight(*args, lambda g: jnp.sqrt((g**2).sum(-1))),
        "with an axis": lambda *args: weight(*args)[None],
        "the weighted loss": lambda f, g, k, most: f(k) + weight(f, g, k, most) * g(k),
        "squared": lambda *args: weight(*args) ** 2,
    },
    "why_grey_wins": {
        "equal to everything": lambda: Equal("a"),
        "a number": lambda: 2,
        "its text": lambda: "The grey is wrong by 1/2 at every pixel",
        "a list": lambda: ["b"],
        "all": lambda: "abcd",
        "bytes": lambda: b"b",
        "empty": lambda: "",
        "another letter": lambda: "e",
        "a dot": lambda: "b.",
        "nothing": lambda: None,
    },
    "untangled_loss": {
        "the gradient turned round": reversed_gradient,
        "decoder and judge stopped in the fooling loss": players(stop, stop, stop, same, same, same),
        "all stopped in the hinge": players(same, stop, stop, stop, same, same),
        "two losses": terms(lambda squared, fooling, hinge: (squared + fooling, hinge)),
        "only the decoder's": terms(lambda squared, fooling, hinge: squared + fooling + stop(hinge)),
        "only the discriminator's": terms(lambda squared, fooling, hinge: stop(squared + fooling) + hinge),
        "no squares": terms(lambda squared, fooling, hinge: fooling + hinge),
        "hinges without the half": terms(lambda squared, fooling, hinge: squared + fooling + 2 * hinge),
        "half of the squares": terms(lambda squared, fooling, hinge: squared / 2 + fooling + hinge),
        "squares without a gradient": terms(lambda squared, fooling, hinge: stop(squared) + fooling + hinge),
        "fooling without a gradient": terms(lambda squared, fooling, hinge: squared + stop(fooling) + hinge),
        "the right gradient, but 0": terms(
            lambda squared, fooling, hinge: (lambda total: total - stop(total))(squared + fooling + hinge)
        ),
        "twice the gradient": terms(
            lambda squared, fooling, hinge: (lambda total: 2 * total - stop(total))(squared + fooling + hinge)
        ),
        "with an axis": terms(lambda squared, fooling, hinge: (squared + fooling + hinge)[None]),
        "the root of the squares": terms(lambda squared, fooling, hinge: jnp.sqrt(squared) + fooling + hinge),
        "a gradient of 0 for the judge": lambda decoder, judge, codes, true: right(decoder, stop(judge), codes, true),
    },
}


def by_slices(x, size):
    parts = [x[:, i::size, j::size, c] for c in range(x.shape[-1]) for i in range(size) for j in range(size)]
    return np.stack(parts, axis=-1).tolist()


def in_two_passes(decoder, judge, codes, true):
    """Each network's loss with the other one's arrays stopped."""
    rebuilt, fixed = codes @ decoder, stop(judge)
    of_decoder = jnp.mean(jnp.square(rebuilt - true)) - (rebuilt @ fixed).mean()
    of_judge = jnp.maximum(0, 1 - jnp.dot(true, judge)).mean() + jnp.maximum(0, 1 + stop(rebuilt) @ judge).mean()
    return of_decoder + of_judge / 2


UNUSUAL = {
    "fold_pixels": {
        "slices, as lists": by_slices,
        "jnp": lambda x, size: folded(jnp.asarray(x), size),
        "einsum": lambda x, size: np.einsum(
            "bhiwjc->bhwcij", x.reshape(len(x), x.shape[1] // size, size, -1, size, x.shape[-1])
        ).reshape(len(x), x.shape[1] // size, x.shape[2] // size, -1),
    },
    "hinge_losses": {
        "jnp, as a list": lambda t, r: [
            (jax.nn.relu(1 - jnp.asarray(t)).mean() + jax.nn.relu(1 + jnp.asarray(r)).mean()) / 2,
            jnp.mean(-r),
        ],
        "where": lambda t, r: np.array(
            [np.where(t < 1, 1 - t, 0).mean() / 2 + np.where(r > -1, 1 + r, 0).mean() / 2, -np.average(r)]
        ),
    },
    "fooling_weight": {
        "linalg": lambda f, g, k, most: jnp.clip(
            stop(jnp.linalg.norm(jax.grad(f)(k).ravel()) / (jnp.linalg.norm(jax.grad(g)(k).ravel()) + 1e-4)),
            max=most,
        ),
        "both gradients at once": lambda f, g, k, most: (
            lambda slopes: stop(jnp.where(slopes[0] < most * slopes[1], slopes[0] / slopes[1], most))
        )([length(slope) + small for slope, small in zip(jax.jacrev(lambda k: jnp.stack([f(k), g(k)]))(k), (0, 1e-4))]),
        "stopped first": lambda f, g, k, most: not_stopped(f, g, stop(k), most),
    },
    "why_grey_wins": {"capital": lambda: " B", "a numpy text": lambda: np.str_("b")},
    "untangled_loss": {
        "two losses, added": in_two_passes,
        "compiled": jax.jit(right),
        "a difference": lambda decoder, judge, codes, true: (
            right(decoder, stop(judge), codes, true)
            + right(stop(decoder), judge, codes, true)
            - stop(right(decoder, judge, codes, true))
        ),
    },
}
