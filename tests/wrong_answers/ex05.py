"""Wrong answers to exercises 05."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.wrong_answers.letters import NOT_LETTERS


def log_p(logits, shift=True, axis=-1, small=None):
    logits = logits - logits.max(axis, keepdims=True) if shift else logits
    powers = jnp.exp(logits)
    if small is not None:
        return jnp.log(powers / powers.sum(axis, keepdims=True) + small)
    return logits - jnp.log(powers.sum(axis, keepdims=True))


def costs(logits, tokens, smoothing=0.0, own=None, every=None, **options):
    values = log_p(logits, **options)
    true = -jnp.take_along_axis(values, tokens[..., None], -1)[..., 0]
    return (1 - smoothing if own is None else own) * true - (smoothing if every is None else every) * values.mean(-1)


def masked_mean(losses, mask):
    return jnp.where(mask, losses, 0).sum() / mask.sum()


def loss(change=masked_mean, **options):
    return lambda logits, tokens, mask, smoothing: change(costs(logits, tokens, smoothing, **options), mask)


def mean_of_means(losses, mask):
    rows = (losses * mask).sum(-1) / jnp.maximum(mask.sum(-1), 1)
    return rows.sum() / mask.any(-1).sum()


def plain_logits(logits, tokens, mask, smoothing):
    own = -jnp.take_along_axis(logits, tokens[..., None], -1)[..., 0]
    return masked_mean((1 - smoothing) * own - smoothing * logits.mean(-1), mask)


def others_only(logits, tokens, mask, smoothing):
    k = logits.shape[-1]
    target = jnp.where(jax.nn.one_hot(tokens, k) > 0, 1 - smoothing, smoothing / (k - 1))
    return masked_mean(-(target * jax.nn.log_softmax(logits)).sum(-1), mask)


def numpy_loss(logits, tokens, mask, smoothing):
    logits = np.asarray(logits) - np.asarray(logits).max(-1, keepdims=True)
    values = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    own = -np.take_along_axis(values, np.asarray(tokens)[..., None], -1)[..., 0]
    return ((1 - smoothing) * own - smoothing * values.mean(-1))[np.asarray(mask)].mean()


def head(q, k, v, mask, scale=0.5, low=-1e30, axis=-1, has_text=lambda mask: mask.any(-1), turn=False, scores=None):
    scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** scale if scores is None else scores
    scores = jnp.where((~mask if turn else mask)[:, None], scores, low)
    return jax.nn.softmax(scores, axis) @ v * has_text(mask)[:, None, None]


def padding_seen(q, k, v, mask):
    return head(q, k, v, jnp.ones_like(mask)) * mask.any(-1)[:, None, None]


def masked_afterwards(q, k, v, mask, axis=-1):
    scores = q @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1])
    return jax.nn.softmax(scores, axis) * mask[:, None] @ v


def nothing_by_nothing(q, k, v, mask):
    scores = jnp.where(mask[:, None], q @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1]), -jnp.inf)
    return jax.nn.softmax(scores) @ v


def nan_gradient(q, k, v, mask):
    return jnp.where(mask.any(-1)[:, None, None], nothing_by_nothing(q, k, v, mask), 0.0)


def largest_of_all(q, k, v, mask):
    """The largest score is that of padding, too: one loud key leaves nothing of the text."""
    scores = q @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1])
    powers = jnp.where(mask[:, None], jnp.exp(scores - scores.max(-1, keepdims=True)), 0)
    return powers / jnp.maximum(powers.sum(-1, keepdims=True), 1e-9) @ v


def no_largest(q, k, v, mask):
    powers = jnp.where(mask[:, None], jnp.exp(q @ k.swapaxes(1, 2) / jnp.sqrt(q.shape[-1])), 0)
    return powers / jnp.maximum(powers.sum(-1, keepdims=True), 1e-30) @ v


def first_mask_for_all(q, k, v, mask):
    return head(q, k, v, mask[:1].repeat(len(mask), 0))


def text_first(q, k, v, mask):
    """As if padding always came last."""
    return head(q, k, v, jnp.arange(mask.shape[1]) < mask.sum(-1, keepdims=True))


def numpy_head(q, k, v, mask):
    scores = np.where(np.asarray(mask)[:, None], q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), -1e30)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v * np.asarray(mask).any(-1)[:, None, None]


def dropped(text_mask, rate, rng, rows=None, columns=1):
    return text_mask & (rng.random((rows or len(text_mask), columns)) >= rate)


def exact_share(text_mask, rate, rng):
    keep = np.ones(len(text_mask), bool)
    keep[rng.permutation(len(keep))[: round(rate * len(keep))]] = False
    return text_mask & keep[:, None]


def in_pairs(text_mask, rate, rng):
    """Two neighbours share a random number."""
    lost = rng.random(-(-len(text_mask) // 2)).repeat(2)[: len(text_mask)] < rate
    return text_mask & ~lost[:, None]


def one_block(text_mask, rate, rng):
    """Always neighbours: a run that begins anywhere."""
    b = len(text_mask)
    count = int(rate * b + rng.random())
    lost = (np.arange(b) - rng.integers(b)) % b < count
    return text_mask & ~lost[:, None]


def into_targets(tokens, hidden, mask_id):
    tokens[hidden] = mask_id
    return tokens, hidden


WRONG = {
    "hidden_loss": {
        "all positions": (loss(lambda x, mask: x.mean()), "over all positions"),
        "divided by B N": (loss(lambda x, mask: (x * mask).mean()), "divided by B N"),
        "a mean of means": (loss(mean_of_means), "a mean of those"),
        "the known positions": (loss(lambda x, mask: masked_mean(x, ~mask)), "known positions are counted"),
        "a sum": (loss(lambda x, mask: (x * mask).sum()), "This is a sum. Divide"),
        "a sum a picture": (loss(lambda x, mask: (x * mask).sum(-1).mean()), "This is a sum, divided by B"),
        "no sign": (loss(lambda x, mask: -masked_mean(x, mask)), "sign is missing"),
        "bits": (loss(lambda x, mask: masked_mean(x, mask) / jnp.log(2)), "bits"),
        "no softmax": (plain_logits, "log-probabilities"),
        "softmax over positions": (loss(axis=1), "goes over the positions"),
        "no smoothing": (loss(own=1.0, every=0.0), "smoothing is missing"),
        "smoothing of the others": (others_only, "the true one included"),
        "smoothing added": (loss(own=1.0), "counts with 1 - smoothing"),
        "overflow": (loss(shift=False), "too large"),
        "a small number": (loss(small=1e-9), "small number is added"),
        "a loss a picture": (loss(lambda x, mask: (x * mask).mean(-1)), "shape"),
        "a mask in brackets": (loss(lambda x, mask: x[mask].mean()), "mask in brackets"),
        "numpy": (numpy_loss, "jax.jit"),
    },
    "read_caption": {
        "padding seen": (padding_seen, "weight must be 0"),
        "masked after the softmax": (masked_afterwards, "after the softmax"),
        "scores of 0": (lambda q, k, v, mask: head(q, k, v, mask, low=0.0), "were set to 0"),
        "the mask turned": (lambda q, k, v, mask: head(q, k, v, mask, turn=True), "Only padding"),
        "no scale": (lambda q, k, v, mask: head(q, k, v, mask, scale=0), "not divided by"),
        "divided by d": (lambda q, k, v, mask: head(q, k, v, mask, scale=1), "divided by d."),
        "divided by the root of N": (
            lambda q, k, v, mask: head(q, k, v, mask, scores=q @ k.swapaxes(1, 2) / q.shape[1] ** 0.5),
            "by √N",
        ),
        "divided by the root of S": (
            lambda q, k, v, mask: head(q, k, v, mask, scores=q @ k.swapaxes(1, 2) / k.shape[1] ** 0.5),
            "by √S",
        ),
        "k and v exchanged": (lambda q, k, v, mask: head(q, v, k, mask), "exchanged"),
        "the wrong softmax": (lambda *args: masked_afterwards(*args, axis=1), "over the image tokens"),
        "0 by 0": (nothing_by_nothing, "0 divided by 0"),
        "0 by 0 in the gradient": (nan_gradient, "the gradient is nan"),
        "the mean of padding": (
            lambda q, k, v, mask: head(q, k, v, mask, has_text=lambda mask: jnp.ones(len(mask))),
            "made of its padding",
        ),
        "the first row's mask": (first_mask_for_all, "Each row has its own"),
        "text if the first token is": (
            lambda q, k, v, mask: head(q, k, v, mask, has_text=lambda mask: mask[:, 0]),
            "padding may come first",
        ),
        "-30 at padding": (lambda q, k, v, mask: head(q, k, v, mask, low=-30.0), "not low enough"),
        "no largest": (no_largest, "large scores"),
        "the weights": (lambda q, k, v, mask: q @ k.swapaxes(1, 2), "shape"),
        "numpy": (numpy_head, "jax.jit"),
    },
    "masked_batch": {
        "still swapped": (lambda x, hidden, mask_id: (np.where(hidden, x, mask_id), hidden), "still swapped"),
        "all still count": (
            lambda x, hidden, mask_id: (np.where(hidden, mask_id, x), np.ones_like(hidden)),
            "all positions still count",
        ),
        "the known ones count": (
            lambda x, hidden, mask_id: (np.where(hidden, mask_id, x), ~hidden),
            "known positions count",
        ),
        "0 for [MASK]": (lambda x, hidden, mask_id: (x * ~hidden, hidden), "hold 0"),
        "the last code for [MASK]": (
            lambda x, hidden, mask_id: (np.where(hidden, mask_id - 1, x), hidden),
            "one past the codebook",
        ),
        "the example's [MASK]": (lambda x, hidden, mask_id: (np.where(hidden, 64, x), hidden), "Use the argument"),
        "nothing hidden": (lambda x, hidden, mask_id: (x, hidden), "sees all tokens"),
        "all hidden": (lambda x, hidden, mask_id: (np.full(x.shape, mask_id), hidden), "Only hidden ones"),
        "into the targets": (into_targets, "changes its argument `tokens`"),
        "exchanged": (lambda x, hidden, mask_id: (hidden, np.where(hidden, mask_id, x)), "exchanged"),
        "one array": (lambda x, hidden, mask_id: np.where(hidden, mask_id, x), "two values"),
        "0 and 1": (lambda x, hidden, mask_id: (np.where(hidden, mask_id, x), hidden * 1), "return bools"),
    },
    "drop_some_captions": {
        "still inverted": (lambda mask, rate, rng: dropped(mask, 1 - rate, rng), "still inverted"),
        "parts of captions": (lambda mask, rate, rng: dropped(mask, rate, rng, columns=mask.shape[1]), "lost part"),
        "one coin for all": (lambda mask, rate, rng: dropped(mask, rate, rng, rows=1), "not one for the batch"),
        "padding": (lambda mask, rate, rng: dropped(np.ones_like(mask), rate, rng), "padding became True"),
        "a seed of its own": (lambda mask, rate, rng: dropped(mask, rate, np.random.default_rng(0)), "fixed seed"),
        "chance from elsewhere": (lambda mask, rate, rng: dropped(mask, rate, np.random.default_rng()), "each time"),
        "always one in two": (lambda mask, rate, rng: dropped(mask, 0.5, rng), "It should be"),
        "an exact share": (exact_share, "depend on each other"),
        "in pairs": (in_pairs, "depend on each other"),
    },
    "why_lower_loss": {
        "a": (lambda: "a", "does not fall with the count"),
        "b": (lambda: "b", "ruled out"),
        "d": (lambda: "d", "only B counts"),
    },
}


def by_argmax(logits, tokens, mask, smoothing):
    return masked_mean(-jax.nn.log_softmax(logits).max(-1), mask)


def inputs_and(counted, inputs=lambda x, hidden, mask_id: np.where(hidden, mask_id, x)):
    return lambda *args: (inputs(*args), counted(*args))


REFUSED = {
    "hidden_loss": {
        "a smaller number": loss(small=1e-30),
        "clipped": loss(lambda x, mask: masked_mean(jnp.minimum(x, 100.0), mask)),
        "divided by K": lambda logits, *rest: loss()(logits, *rest) / logits.shape[-1],
        "the most likely code": by_argmax,
        "the median": loss(lambda x, mask: jnp.nanmedian(jnp.where(mask, x, jnp.nan))),
        "the first image": loss(lambda x, mask: masked_mean(x[:1], mask[:1])),
        "the largest": loss(lambda x, mask: jnp.where(mask, x, 0).max()),
        "the perplexity": loss(lambda x, mask: jnp.exp(masked_mean(x, mask))),
        "no gradient": lambda *args: jax.lax.stop_gradient(loss()(*args)),
        "a count of its own": loss(lambda x, mask: (x * mask).sum() / (mask.sum() + 1)),
        "a smoothing of its own": lambda logits, tokens, mask, smoothing: loss()(logits, tokens, mask, 0.1),
        "smoothing for each code": lambda logits, tokens, mask, smoothing: masked_mean(
            costs(logits, tokens, own=1 - smoothing, every=smoothing * logits.shape[-1]), mask
        ),
        "smoothing exchanged": lambda logits, tokens, mask, smoothing: loss()(logits, tokens, mask, 1 - smoothing),
        "a list": lambda *args: [loss()(*args)],
        "per image": loss(lambda x, mask: (x * mask).sum(-1) / jnp.maximum(mask.sum(-1), 1)),
    },
    "read_caption": {
        "the largest of padding, too": largest_of_all,
        "no largest, a small number": lambda q, k, v, mask: no_largest(q, k, v, mask),
        "text first": text_first,
        "-1,000 at padding": lambda q, k, v, mask: head(q, k, v, mask, low=-1000.0),
        "values of padding": lambda q, k, v, mask: head(q, k, v, mask) + 0.01 * (v * ~mask[..., None]).sum(1)[:, None],
        "values times the mask": lambda q, k, v, mask: padding_seen(q, k, v * mask[..., None], mask),
        "one empty row empties all": lambda q, k, v, mask: head(q, k, v, mask) * mask.any(-1).all(),
        "any text of the batch": lambda q, k, v, mask: head(q, k, v, mask, has_text=lambda m: m.any()[None]),
        "a mean": lambda q, k, v, mask: (
            (v * mask[..., None]).sum(1, keepdims=True) / jnp.maximum(mask.sum(-1), 1)[:, None, None] + 0 * q
        ),
        "the best only": lambda q, k, v, mask: (
            jnp.take_along_axis(v, jnp.where(mask[:, None], q @ k.swapaxes(1, 2), -1e30).argmax(-1)[..., None], axis=1)
            * mask.any(-1)[:, None, None]
        ),
        "the root of D - 1": lambda q, k, v, mask: head(
            q, k, v, mask, scores=q @ k.swapaxes(1, 2) / max(q.shape[-1] - 1, 1) ** 0.5
        ),
        "turned": lambda q, k, v, mask: head(q, k, v, mask).swapaxes(1, 2),
        "no gradient at all": lambda q, k, v, mask: head(q, k, v, mask).tolist(),
        "squeezed": lambda q, k, v, mask: head(q, k, v, mask).squeeze(),
    },
    "masked_batch": {
        "-1 for [MASK]": inputs_and(lambda x, hidden, m: hidden, lambda x, hidden, m: np.where(hidden, -1, x)),
        "mask_id + 1": inputs_and(lambda x, hidden, m: hidden, lambda x, hidden, m: np.where(hidden, m + 1, x)),
        "the largest token": inputs_and(lambda x, hidden, m: hidden, lambda x, hidden, m: np.where(hidden, x.max(), x)),
        "floats": inputs_and(lambda x, hidden, m: hidden, lambda x, hidden, m: np.where(hidden, float(m), x)),
        "none counts": inputs_and(lambda x, hidden, m: np.zeros_like(hidden)),
        "numbers of positions": inputs_and(lambda x, hidden, m: np.flatnonzero(hidden)),
        "hidden by value": inputs_and(lambda x, hidden, m: np.isin(x, x[hidden])),
        "the first row": inputs_and(lambda x, hidden, m: np.broadcast_to(hidden[:1], hidden.shape)),
        "turned": inputs_and(lambda x, hidden, m: hidden.T),
        "three values": lambda x, hidden, m: (np.where(hidden, m, x), hidden, x),
        "only where it counts": inputs_and(lambda x, hidden, m: hidden[hidden]),
    },
    "drop_some_captions": {
        "one block": one_block,
        "every second row": lambda mask, rate, rng: mask & (np.arange(len(mask))[:, None] % 2 == 0),
        "the first rows": lambda mask, rate, rng: mask & (np.arange(len(mask)) >= rate * len(mask))[:, None],
        "nothing": lambda mask, rate, rng: mask,
        "all": lambda mask, rate, rng: np.zeros_like(mask),
        "0 and 1": lambda mask, rate, rng: dropped(mask, rate, rng) * 1,
        "the rows that stay": lambda mask, rate, rng: mask[rng.random(len(mask)) >= rate],
        "the first token only": lambda mask, rate, rng: (
            mask & ~((rng.random((len(mask), 1)) < rate) * np.eye(1, 7, dtype=bool)[:, : mask.shape[1]])
        ),
        "normal numbers": lambda mask, rate, rng: mask & (rng.normal(size=(len(mask), 1)) >= rate),
        "rate squared": lambda mask, rate, rng: dropped(mask, rate**2, rng),
        "twice": lambda mask, rate, rng: dropped(dropped(mask, rate, rng), rate, rng),
        "numpy's global state": lambda mask, rate, rng: mask & (np.random.random((len(mask), 1)) >= rate),  # noqa: NPY002
        "changes its argument": lambda mask, rate, rng: np.logical_and(
            mask, rng.random((len(mask), 1)) >= rate, out=mask
        ),
    },
    "why_lower_loss": NOT_LETTERS,
}


def with_one_hot(logits, tokens, mask, smoothing):
    k = logits.shape[-1]
    target = (1 - smoothing) * jax.nn.one_hot(tokens, k) + smoothing / k
    values = logits - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    return -jnp.einsum("bnk,bnk,bn->", target, values, mask / mask.sum())


def head_by_vmap(q, k, v, mask):
    def one(q, k, v, mask):
        scores = jnp.where(mask, k @ q / len(q) ** 0.5, -1e9)
        return jnp.where(mask.any(), jax.nn.softmax(scores) @ v, 0)

    return jax.vmap(jax.vmap(one, (0, None, None, None)))(q, k, v, mask)


def safe_division(q, k, v, mask):
    scores = jnp.einsum("bnd,bsd->bns", q, k) / jnp.sqrt(q.shape[-1])
    largest = jnp.where(mask[:, None], scores, -1e30).max(-1, keepdims=True)
    powers = jnp.where(mask[:, None], jnp.exp(jnp.where(mask[:, None], scores, 0) - jnp.maximum(largest, -1e5)), 0)
    total = powers.sum(-1, keepdims=True)
    return jnp.einsum("bns,bsd->bnd", powers / jnp.where(total > 0, total, 1), v)


UNUSUAL = {
    "hidden_loss": {
        "one-hot targets": with_one_hot,
        "by mean with where": lambda logits, tokens, mask, smoothing: costs(logits, tokens, smoothing).mean(where=mask),
    },
    "read_caption": {"by vmap": head_by_vmap, "division by 1": safe_division},
    "masked_batch": {
        "lists": lambda x, hidden, m: [np.where(hidden, m, x).tolist(), hidden.tolist()],
        "jnp": lambda x, hidden, m: (jnp.where(hidden, m, x), jnp.asarray(hidden)),
        "products": lambda x, hidden, m: (x * ~hidden + m * hidden, hidden.copy()),
    },
    "drop_some_captions": {
        "a loop": lambda mask, rate, rng: np.array([row if rng.random() >= rate else 0 * row > 0 for row in mask]),
        "choice": lambda mask, rate, rng: mask * rng.choice([True, False], (len(mask), 1), p=[1 - rate, rate]),
        "binomial": lambda mask, rate, rng: mask & (rng.binomial(1, rate, len(mask)) == 0)[:, None],
    },
    "why_lower_loss": {"a capital": lambda: "C", "numpy's text": lambda: np.str_("c ")},
}
