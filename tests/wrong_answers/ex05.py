"""Wrong answers to exercises 05."""

import numpy as np


@np.errstate(all="ignore")
def costs(logits, tokens, shift=True):
    logits = logits - logits.max(-1, keepdims=True) if shift else logits
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, tokens[..., None], -1)[..., 0]


@np.errstate(all="ignore")
def overflowing(logits, tokens, mask):
    return costs(logits, tokens, shift=False)[mask].mean()


def a_picture_at_a_time(logits, tokens, mask):
    return np.mean([row[own].mean() for row, own in zip(costs(logits, tokens), mask) if own.any()])


def plain_logits(logits, tokens, mask):
    return -np.take_along_axis(logits, tokens[..., None], -1)[..., 0][mask].mean()


def head(q, k, v, mask, scale=0.5, low=-1e30, axis=-1, no_text=0.0, turn=False):
    scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** scale
    scores = np.where((~mask if turn else mask)[:, None], scores, low)
    raised = np.exp(scores - scores.max(axis, keepdims=True))
    seen = raised / raised.sum(axis, keepdims=True) @ v
    return np.where(mask.any(-1)[:, None, None], seen, seen * no_text)


def padding_seen(q, k, v, mask):
    return head(q, k, v, np.ones_like(mask))


def masked_afterwards(q, k, v, mask):
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    raised = np.exp(scores)
    return raised / raised.sum(-1, keepdims=True) * mask[:, None] @ v


@np.errstate(all="ignore")
def nothing_by_nothing(q, k, v, mask):
    raised = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])) * mask[:, None]
    return raised / raised.sum(-1, keepdims=True) @ v


def over_image_tokens(q, k, v, mask):
    raised = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    return raised / raised.sum(1, keepdims=True) * mask[:, None] @ v


def first_mask_for_all(q, k, v, mask):
    return head(q, k, v, mask[:1].repeat(len(mask), 0))


def dropped(text_mask, rate, rng, rows=None, columns=1):
    return text_mask & (rng.random((rows or len(text_mask), columns)) >= rate)


WRONG = {
    "hidden_loss": {
        "all positions": (lambda logits, tokens, mask: costs(logits, tokens).mean(), "over all positions"),
        "divided by B N": (lambda logits, tokens, mask: (costs(logits, tokens) * mask).mean(), "divided by B N"),
        "a mean of means": (a_picture_at_a_time, "a mean of those"),
        "the known positions": (
            lambda logits, tokens, mask: costs(logits, tokens)[~mask].mean(),
            "known positions are counted",
        ),
        "a sum": (lambda logits, tokens, mask: costs(logits, tokens)[mask].sum(), "This is a sum. Divide"),
        "a sum a picture": (
            lambda logits, tokens, mask: (costs(logits, tokens) * mask).sum(-1).mean(),
            "This is a sum, divided by B",
        ),
        "no sign": (lambda logits, tokens, mask: -costs(logits, tokens)[mask].mean(), "sign is missing"),
        "bits": (lambda logits, tokens, mask: costs(logits, tokens)[mask].mean() / np.log(2), "bits"),
        "no softmax": (plain_logits, "log-probabilities"),
        "overflow": (
            lambda logits, tokens, mask: costs(logits, tokens, shift=False)[mask].mean(),
            "too large",
        ),
        "a loss a picture": (lambda logits, tokens, mask: costs(logits, tokens).mean(-1), "shape"),
    },
    "read_caption": {
        "padding seen": (padding_seen, "weight must be 0"),
        "masked after the softmax": (masked_afterwards, "after the softmax"),
        "scores of 0": (lambda q, k, v, mask: head(q, k, v, mask, low=0.0), "were set to 0"),
        "the mask turned": (lambda q, k, v, mask: head(q, k, v, mask, turn=True), "Only padding"),
        "no scale": (lambda q, k, v, mask: head(q, k, v, mask, scale=0), "not divided by"),
        "divided by d": (lambda q, k, v, mask: head(q, k, v, mask, scale=1), "divided by d."),
        "the wrong softmax": (over_image_tokens, "over the image tokens"),
        "0 by 0": (nothing_by_nothing, "0 divided by 0"),
        "the mean of padding": (lambda q, k, v, mask: head(q, k, v, mask, no_text=1.0), "made of its padding"),
        "the first row's mask": (first_mask_for_all, "own text mask"),
        "the weights": (lambda q, k, v, mask: q @ k.swapaxes(1, 2), "shape"),
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
    },
    "why_lower_loss": {
        "a": (lambda: "a", "does not fall with the count"),
        "b": (lambda: "b", "ruled out"),
        "d": (lambda: "d", "only B counts"),
    },
}
