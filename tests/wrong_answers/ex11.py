"""Wrong answers to exercises 11."""

import numpy as np


def over(mask, grid, first, end):
    """Tokens from first(pixel, tokens, pixels) to end(...), for every pixel of the mask."""
    touched, (tall, wide), (h, w) = np.zeros(grid, bool), mask.shape, grid
    for y, x in np.argwhere(mask):
        rows, columns = (slice(first(*at), end(*at)) for at in ((y, h, tall), (x, w, wide)))
        touched[rows, columns] = True
    return touched


def down(pixel, tokens, pixels):
    return pixel * tokens // pixels


def up(pixel, tokens, pixels):
    return -(-(pixel + 1) * tokens // pixels)


def right_mask(mask, grid):
    return over(mask, grid, down, up)


def middles(mask, grid):
    rows, columns = (np.arange(n) * side // n + side // (2 * n) for n, side in zip(grid, mask.shape))
    return mask[rows][:, columns]


def most(mask, grid):
    large = mask.repeat(grid[0], 0).repeat(grid[1], 1)
    return large.reshape(grid[0], mask.shape[0], grid[1], mask.shape[1]).mean((1, 3)) > 0.5


def evenly(mask, grid):
    (h, w), (tall, wide) = grid, mask.shape
    return mask.reshape(h, tall // h, w, wide // w).any((1, 3))


def box(mask, grid):
    touched = right_mask(mask, grid)
    rows, columns = np.nonzero(touched)
    if len(rows):
        touched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return touched


def larger(hidden, fine, base):
    k = len(fine) // len(base)
    return hidden.repeat(k, 0).repeat(k, 1)


def corners(hidden, fine, base):
    k, covered = len(fine) // len(base), np.zeros(fine.shape, bool)
    covered[::k, ::k] = hidden
    return covered


def tiled(hidden, fine, base):
    k = len(fine) // len(base)
    return np.tile(hidden, (k, k))


def starting(covered, turn=lambda hidden: hidden, ids=lambda a, b: (a, b)):
    def answer(base, fine, hidden, base_mask, fine_mask):
        low, high = ids(base_mask, fine_mask)
        return np.where(turn(hidden), low, base), np.where(covered(hidden, fine, base), high, fine)

    return answer


def ranked(tokens, fraction, rng, rows=None, number=round):
    shape = (rows or len(tokens), tokens.shape[1])
    count = max(1, number(fraction * tokens.shape[1]))
    return np.broadcast_to(rng.random(shape).argsort(1).argsort(1) < count, tokens.shape)


def repeated(tokens, fraction, rng):
    chosen = np.zeros(tokens.shape, bool)
    for row in chosen:
        row[rng.integers(0, tokens.shape[1], max(1, round(fraction * tokens.shape[1])))] = True
    return chosen


def resampling(places, shown=np.where, taken=np.where):
    def answer(tokens, fraction, draw, mask_id, rng):
        chosen = places(tokens, fraction, rng)
        return taken(chosen, draw(shown(chosen, mask_id, tokens)), tokens)

    return answer


def one_row_a_time(tokens, fraction, draw, mask_id, rng):
    chosen = ranked(tokens, fraction, rng)
    return np.concatenate(
        [np.where(c, draw(np.where(c, mask_id, t)[None])[0], t)[None] for c, t in zip(chosen, tokens)]
    )


def mask_left(tokens, fraction, draw, mask_id, rng):
    shown = np.where(ranked(tokens, fraction, rng), mask_id, tokens)
    draw(shown)
    return shown


def other_places(tokens, fraction, draw, mask_id, rng):
    drawn = draw(np.where(ranked(tokens, fraction, rng), mask_id, tokens))
    return np.where(ranked(tokens, fraction, rng), drawn, tokens)


def scored(keep, together=True):
    """Preservation over what keep(asked, caption, before) returns, of all edits together or the mean of their means."""

    def answer(edits):
        kept = [[fact in after for fact in keep(asked, caption, before)] for asked, caption, before, after in edits]
        parts = [sum(kept, [])] if together else kept
        return np.mean([asked in after for asked, _, _, after in edits]), np.mean([np.mean(part) for part in parts])

    return answer


def others(asked, caption, before):
    return caption & before - {asked}


WRONG = {
    "tokens_under_mask": {
        "most of a token": (most, "touches no token"),
        "the middle of a token": (middles, "touches no token"),
        "one token a pixel": (lambda mask, grid: over(mask, grid, down, lambda *at: down(*at) + 1), "round down for"),
        "one too many at the border": (
            lambda mask, grid: over(mask, grid, down, lambda y, h, tall: (y + 1) * h // tall + 1),
            "does not touch the second",
        ),
        "turned round": (lambda mask, grid: ~right_mask(mask, grid), "inverted"),
        "only multiples": (evenly, "raised ValueError"),
        "a box around it": (box, "several pieces"),
        "ints": (lambda mask, grid: right_mask(mask, grid).astype(int), "return bools"),
    },
    "inpainting_start": {
        "copies side by side": (starting(tiled), "whole copies"),
        "fine tokens left": (starting(lambda hidden, fine, base: np.zeros(fine.shape, bool)), "all as they were"),
        "all fine tokens": (starting(lambda hidden, fine, base: np.ones(fine.shape, bool)), "All fine tokens"),
        "the first fine token": (starting(corners), "only the first one"),
        "both turned round": (
            starting(lambda hidden, *grids: ~larger(hidden, *grids), np.logical_not),
            "hidden tokens stay",
        ),
        "the fine mask turned round": (
            starting(lambda hidden, *grids: ~larger(hidden, *grids)),
            "fine mask is inverted",
        ),
        "the base's id twice": (starting(larger, ids=lambda a, b: (a, a)), "got the base's"),
        "ids mixed up": (starting(larger, ids=lambda a, b: (b, a)), "mixed up"),
        "only fine": (lambda base, fine, *_: fine, "two values"),
    },
    "resampled_once": {
        "a coin for every position": (
            resampling(lambda tokens, fraction, rng: rng.random(tokens.shape) < fraction + 0.01),
            "varies",
        ),
        "with repetition": (resampling(repeated), "varies"),
        "rounded down": (resampling(lambda *a: ranked(*a, number=int)), "nearest number"),
        "turned round": (resampling(lambda *a: ~ranked(*a)), "hide what should stay"),
        "unmasked": (resampling(ranked, shown=lambda chosen, mask_id, tokens: tokens), "without seeing"),
        "all masked": (resampling(ranked, shown=lambda c, m, tokens: np.full_like(tokens, m)), "nothing but [MASK]"),
        "all drawn": (resampling(ranked, taken=lambda chosen, drawn, tokens: drawn), "All tokens are those"),
        "none drawn": (resampling(ranked, taken=lambda chosen, drawn, tokens: tokens), "is not used"),
        "mask left": (mask_left, "still [MASK]"),
        "other positions": (other_places, "same choice"),
        "once per row": (one_row_a_time, "Call it once"),
        "the same positions": (resampling(lambda *a: ranked(*a, rows=1)), "Every row"),
        "a seed of its own": (resampling(lambda t, f, rng: ranked(t, f, np.random.default_rng(0))), "fixed seed"),
        "chance from elsewhere": (resampling(lambda t, f, rng: ranked(t, f, np.random.default_rng())), "from `rng`."),
    },
    "most_seen": {
        "rounded down": (lambda new, grid, windows: grid - new // windows, "round down"),
        "what is drawn": (lambda new, grid, windows: -(-new // windows), "how many columns"),
        "the first draws all": (
            lambda new, grid, windows: grid - -(-(new - grid) // max(1, windows - 1)),
            "as if the first window",
        ),
        "half the grid": (lambda new, grid, windows: grid // 2, "could see more"),
        "all but one": (lambda new, grid, windows: grid - 1, "is too much"),
        "a float": (lambda new, grid, windows: grid - np.ceil(new / windows), "return ints"),
    },
    "edit_scores": {
        "the mean of means": (scored(others, together=False), "mean of those"),
        "what was to go": (scored(lambda asked, caption, before: before), "was to go"),
        "what was never there": (scored(lambda asked, caption, before: caption - {asked}), "cannot be kept"),
        "the asked fact, too": (scored(lambda asked, caption, before: caption), "its own measure"),
        "the wrong way round": (lambda edits: scored(others)(edits)[::-1], "success first"),
        "percentages": (lambda edits: 100 * np.array(scored(others)(edits)), "percentages"),
        "only success": (lambda edits: scored(others)(edits)[0], "return shape [2]"),
    },
}
