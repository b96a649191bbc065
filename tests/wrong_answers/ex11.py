"""Wrong answers to exercises 11: WRONG with words of their messages, REFUSED, and UNUSUAL ones that are right."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

# --- tokens_under_mask ------------------------------------------------------------------------------------------------


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


def share(mask, grid):
    large = mask.repeat(grid[0], 0).repeat(grid[1], 1)
    return large.reshape(grid[0], mask.shape[0], grid[1], mask.shape[1]).mean((1, 3))


def by_matrices(mask, grid):
    """Which rows of tokens meet which rows of pixels, as a matrix; the same for columns."""

    def meets(tokens, pixels):
        i, y = np.indices((tokens, pixels))
        return (y * tokens < (i + 1) * pixels) & ((y + 1) * tokens > i * pixels)

    rows, columns = (meets(n, side).astype(int) for n, side in zip(grid, mask.shape))
    return rows @ mask @ columns.T > 0


def token_by_token(mask, grid):
    """The pixels from the floor of a token's beginning to the ceiling of its end."""
    cut = lambda i, n, side: slice(i * side // n, int(np.ceil(Fraction((i + 1) * side, n))))
    return [
        [bool(mask[cut(i, grid[0], mask.shape[0]), cut(j, grid[1], mask.shape[1])].any()) for j in range(grid[1])]
        for i in range(grid[0])
    ]


# --- inpainting_start -------------------------------------------------------------------------------------------------


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


def right_start(base, fine, hidden, base_mask, fine_mask):
    return starting(larger)(base, fine, hidden, base_mask, fine_mask)


def start_in_place(base, fine, hidden, base_mask, fine_mask):
    base[hidden] = base_mask
    return base, starting(larger)(base, fine, hidden, base_mask, fine_mask)[1]


def by_kron(base, fine, hidden, base_mask, fine_mask):
    k = len(fine) // len(base)
    covered = np.kron(hidden, np.ones((k, k), bool))
    low, high = base.copy(), fine.copy()
    low[hidden], high[covered] = base_mask, fine_mask
    return [low, high]


def by_indices(base, fine, hidden, base_mask, fine_mask):
    k = fine.shape[1] // base.shape[1]
    rows, columns = np.indices(fine.shape) // k
    return (
        jnp.where(hidden, base_mask, base),
        [[fine_mask if hidden[r, c] else int(f) for r, c, f in zip(*row)] for row in zip(rows, columns, fine)],
    )


# --- resampled_once ---------------------------------------------------------------------------------------------------


def ranked(key, tokens, fraction, rows=None, number=round):
    shape = (rows or len(tokens), tokens.shape[1])
    count = max(1, number(fraction * tokens.shape[1]))
    return jnp.broadcast_to(jax.random.uniform(key, shape).argsort(1).argsort(1) < count, tokens.shape)


def repeated(key, tokens, fraction):
    b, n = tokens.shape
    drawn = jax.random.randint(key, (b, max(1, round(fraction * n))), 0, n)
    return (drawn[:, :, None] == jnp.arange(n)).any(1)


def a_run(key, tokens, fraction):
    """Neighbours, from a random position on."""
    b, n = tokens.shape
    start = jax.random.randint(key, (b, 1), 0, n)
    return (jnp.arange(n) - start) % n < max(1, round(fraction * n))


def argsort_once(key, tokens, fraction):
    return jax.random.uniform(key, tokens.shape).argsort(1) < max(1, round(fraction * tokens.shape[1]))


def sampled_rows(key, tokens, fraction):
    count = max(1, round(fraction * tokens.shape[1]))
    keys = jax.random.split(key, len(tokens))
    return jax.vmap(lambda key: jax.random.permutation(key, tokens.shape[1]) < count)(keys)


def resampling(places, shown=jnp.where, taken=jnp.where, keys=jax.random.split):
    def answer(key, tokens, fraction, draw, mask_id):
        own, other = keys(key)
        chosen = places(own, tokens, fraction)
        return taken(chosen, draw(other, shown(chosen, mask_id, tokens)), tokens)

    return answer


def one_row_a_time(key, tokens, fraction, draw, mask_id):
    own, other = jax.random.split(key)
    chosen = ranked(own, tokens, fraction)
    rows = [jnp.where(c, draw(other, jnp.where(c, mask_id, t)[None])[0], t) for c, t in zip(chosen, tokens)]
    return jnp.stack(rows)


def mask_left(key, tokens, fraction, draw, mask_id):
    own, other = jax.random.split(key)
    shown = jnp.where(ranked(own, tokens, fraction), mask_id, tokens)
    draw(other, shown)
    return shown


def other_places(key, tokens, fraction, draw, mask_id):
    own, other, third = jax.random.split(key, 3)
    drawn = draw(other, jnp.where(ranked(own, tokens, fraction), mask_id, tokens))
    return jnp.where(ranked(third, tokens, fraction), drawn, tokens)


def by_scatter(key, tokens, fraction, draw, mask_id):
    """The indices of the smallest numbers."""
    own, other = jax.random.split(key)
    count = max(1, round(fraction * tokens.shape[1]))
    at = jax.lax.top_k(jax.random.normal(own, tokens.shape), count)[1]
    rows = jnp.arange(len(tokens))[:, None]
    drawn = draw(other, tokens.at[rows, at].set(mask_id))
    return tokens.at[rows, at].set(drawn[rows, at])


# --- most_seen --------------------------------------------------------------------------------------------------------


def tried(new, grid, windows):
    """Slide the windows, and see whether they reach the end."""
    for seen in range(grid - 1, -1, -1):
        left = new
        for _ in range(windows):
            left -= grid - seen
        if left <= 0:
            return seen


# --- edit_scores ------------------------------------------------------------------------------------------------------


def scored(keep, together=True):
    """Preservation over what keep(asked, caption, before) returns, of all edits together or the mean of their means."""

    def answer(edits):
        kept = [[fact in after for fact in keep(asked, caption, before)] for asked, caption, before, after in edits]
        parts = [sum(kept, [])] if together else kept
        return np.mean([asked in after for asked, _, _, after in edits]), np.mean([np.mean(part) for part in parts])

    return answer


def others(asked, caption, before):
    return caption & before - {asked}


def in_a_loop(edits):
    success, kept, wanted = 0, 0, 0
    for asked, caption, before, after in edits:
        stay = (caption & before).difference([asked])
        success, kept, wanted = success + (asked in after), kept + len(stay & after), wanted + len(stay)
    return [Fraction(success, len(edits)).__float__(), np.float32(kept / wanted)]


def takes_away(edits):
    """Changes the captions."""
    done, kept = [], []
    for asked, caption, before, after in edits:
        done.append(asked in after)
        caption.discard(asked)
        kept += [fact in after for fact in caption & before]
    return np.mean(done), np.mean(kept)


# --- best_state -------------------------------------------------------------------------------------------------------


def kept_best(
    better=lambda new, old: new > old, first=True, own=jax.random.split, out=lambda best, at, now: (best, at)
):
    """By a scan whose carry is the state, the best state so far, its score and its number."""

    def answer(key, tokens, once, score, iterations):
        def step(carry, given):
            now, best, high, at = carry
            key, i = given
            now = once(key, now)
            new = score(now)
            change = better(new, high)
            best = jnp.where(change[:, None], now, best)
            return (now, best, jnp.where(change, new, high), jnp.where(change, i, at)), None

        high = score(tokens) if first else jnp.full(len(tokens), -1e9).astype(score(tokens).dtype)
        start = tokens, tokens, high, jnp.zeros(len(tokens), int)
        keys = own(key, iterations)
        (now, best, _, at), _ = jax.lax.scan(step, start, (keys, jnp.arange(1, iterations + 1)))
        return out(best, at, now)

    return answer


def all_states(which, own=jax.random.split):
    """By a scan that stacks all states: which(scores [T + 1, B]) -> int [B]."""

    def answer(key, tokens, once, score, iterations):
        step = lambda now, key: (once(key, now),) * 2
        states = jnp.concatenate([tokens[None], jax.lax.scan(step, tokens, own(key, iterations))[1]])
        at = which(jax.vmap(score)(states))
        return states[at, jnp.arange(len(tokens))], at

    return answer


def right_which(s):
    return s.argmax(0)


def same_keys(key, n):
    return jnp.broadcast_to(key, n)


def in_python(key, tokens, once, score, iterations, compiled=True):
    best, high, at = tokens, score(tokens), jnp.zeros(len(tokens), int)
    for i, own in enumerate(jax.random.split(key, iterations), 1):
        tokens = once(own, tokens)
        new = score(tokens)
        best, at = jnp.where((new > high)[:, None], tokens, best), jnp.where(new > high, i, at)
        high = jnp.maximum(new, high)
    return best, at


def by_fori(key, tokens, once, score, iterations):
    def body(i, carry):
        now, best, at = carry
        now = once(jax.random.fold_in(key, i), now)
        change = score(now) > score(best)
        return now, jnp.where(change[:, None], now, best), jnp.where(change, i + 1, at)

    return jax.lax.fori_loop(0, iterations, body, (tokens, tokens, jnp.zeros(len(tokens), int)))[1:]


WRONG = {
    "tokens_under_mask": {
        "most of a token": (most, "One pixel is enough"),
        "the middle of a token": (middles, "in the middle of each token"),
        "all of a token": (lambda mask, grid: share(mask, grid) == 1, "covers entirely"),
        "one token a pixel": (lambda mask, grid: over(mask, grid, down, lambda *at: down(*at) + 1), "round down for"),
        "the middle of a pixel": (
            lambda mask, grid: over(
                mask, grid, lambda y, h, t: (2 * y + 1) * h // (2 * t), lambda y, h, t: (2 * y + 1) * h // (2 * t) + 1
            ),
            "the token of its middle",
        ),
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
        "rows repeated, columns tiled": (
            starting(
                lambda hidden, fine, base: np.tile(
                    hidden.repeat(len(fine) // len(base), 0), (1, len(fine) // len(base))
                )
            ),
            "Repeat both",
        ),
        "the base as it was": (
            lambda base, *given: (base, right_start(base, *given)[1]),
            "base is as it was",
        ),
        "all base tokens": (
            lambda base, fine, hidden, a, b: (np.full_like(base, a), right_start(base, fine, hidden, a, b)[1]),
            "All base tokens",
        ),
        "changes its argument": (start_in_place, "changes its argument"),
        "ids mixed up": (starting(larger, ids=lambda a, b: (b, a)), "mixed up"),
        "only fine": (lambda base, fine, *_: fine, "two values"),
    },
    "resampled_once": {
        "a coin for every position": (
            resampling(lambda key, tokens, fraction: jax.random.uniform(key, tokens.shape) < fraction + 0.01),
            "varies",
        ),
        "with repetition": (resampling(repeated), "varies"),
        "rounded down": (resampling(lambda *a: ranked(*a, number=int)), "nearest number"),
        "turned round": (resampling(lambda *a: ~ranked(*a)), "hide what should stay"),
        "neighbours": (resampling(a_run), "equally likely"),
        "unmasked": (resampling(ranked, shown=lambda chosen, mask_id, tokens: tokens), "without seeing"),
        "all masked": (resampling(ranked, shown=lambda c, m, tokens: jnp.full_like(tokens, m)), "nothing but [MASK]"),
        "all drawn": (resampling(ranked, taken=lambda chosen, drawn, tokens: drawn), "All tokens are those"),
        "none drawn": (resampling(ranked, taken=lambda chosen, drawn, tokens: tokens), "is not used"),
        "mask left": (mask_left, "still [MASK]"),
        "other positions": (other_places, "same choice"),
        "once per row": (one_row_a_time, "Call it once"),
        "the same positions": (resampling(lambda *a: ranked(*a, rows=1)), "Every row"),
        "one key for both": (
            resampling(ranked, keys=lambda key: [jax.random.fold_in(key, 1)] * 2),
            "key that `draw` gets",
        ),
        "the given key for draw": (resampling(ranked, keys=lambda key: (jax.random.fold_in(key, 1), key)), "Split it"),
        "no key for draw": (resampling(ranked, keys=lambda key: (key, None)), "needs a key"),
        "a key of its own": (resampling(lambda key, *a: ranked(jax.random.key(0), *a)), "not from one of yours"),
        "chance from elsewhere": (
            resampling(lambda key, *a: ranked(jax.random.key(np.random.default_rng().integers(10**6)), *a)),
            "from `key`.",
        ),
        "numpy": (
            resampling(ranked, taken=lambda c, drawn, tokens: np.where(c, drawn, tokens)),
            "cannot compile",
        ),
    },
    "most_seen": {
        "rounded down": (lambda new, grid, windows: grid - new // windows, "rounded down"),
        "what is drawn": (lambda new, grid, windows: -(-new // windows), "how many columns"),
        "the first draws all": (
            lambda new, grid, windows: grid - -(-(new - grid) // max(1, windows - 1)),
            "as if the first window",
        ),
        "rounded": (lambda new, grid, windows: grid - round(new / windows), "to the nearest"),
        "one too few": (lambda new, grid, windows: grid - new // windows - 1, "One too few"),
        "all but one": (lambda new, grid, windows: grid - 1, "all but one"),
        "a float": (lambda new, grid, windows: grid - np.ceil(new / windows), "return ints"),
    },
    "edit_scores": {
        "the mean of means": (scored(others, together=False), "mean of those"),
        "what was to go": (scored(lambda asked, caption, before: before), "was to go"),
        "what was never there": (scored(lambda asked, caption, before: caption - {asked}), "cannot be kept"),
        "the asked fact, too": (scored(lambda asked, caption, before: caption), "its own measure"),
        "the wrong way round": (lambda edits: scored(others)(edits)[::-1], "success first"),
        "percentages": (lambda edits: 100 * np.array(scored(others)(edits)), "percentages"),
        "what was there before, too": (
            scored(lambda asked, caption, before: caption & before),
            "where it was true before",
        ),
        "what failed": (lambda edits: 1 - np.array(scored(others)(edits)), "that failed"),
        "changes its argument": (takes_away, "changes its argument"),
        "only success": (lambda edits: scored(others)(edits)[0], "return shape [2]"),
    },
    "best_state": {
        "the last state": (all_states(lambda s: jnp.full(s.shape[1], len(s) - 1)), "last state"),
        "the start": (lambda key, tokens, *_: (tokens, jnp.zeros(len(tokens), int)), "That is the start"),
        "the start never": (all_states(lambda s: 1 + s[1:].argmax(0)), "never returned"),
        "the end never": (all_states(lambda s: s[:-1].argmax(0)), "last iteration is never"),
        "the worst": (all_states(lambda s: s.argmin(0)), "worst"),
        "the last of equals": (kept_best(better=lambda new, old: new >= old), "equal scores"),
        "best on average": (all_states(lambda s: jnp.full(s.shape[1], s.mean(1).argmax())), "best on average"),
        "best for the first row": (all_states(lambda s: jnp.full(s.shape[1], s[:, 0].argmax())), "for the first row"),
        "the same key": (kept_best(own=same_keys), "the same key"),
        "keys of its own": (kept_best(own=lambda key, n: jax.random.split(jax.random.key(0), n)), "A different key"),
        "chance from elsewhere": (
            kept_best(own=lambda key, n: jax.random.split(jax.random.key(np.random.default_rng().integers(10**6)), n)),
            "The same key gives different",
        ),
        "a Python loop": (in_python, "unrolls"),
        "a score": (kept_best(out=lambda best, at, now: (best, at.max())), "return [B, N] and [B]"),
        "only the tokens": (kept_best(out=lambda best, at, now: best), "two values"),
    },
}

REFUSED = {
    "tokens_under_mask": {
        "nothing": lambda mask, grid: np.zeros(grid, bool),
        "everything": lambda mask, grid: np.ones(grid, bool),
        "everything if anything": lambda mask, grid: np.full(grid, mask.any()),
        "sides divided": lambda mask, grid: over(
            mask,
            grid,
            lambda y, h, t: min(y // max(t // h, 1), h - 1),
            lambda y, h, t: min(y // max(t // h, 1), h - 1) + 1,
        ),
        "rounded": lambda mask, grid: over(
            mask, grid, lambda y, h, t: round(y * h / t), lambda y, h, t: round((y + 1) * h / t)
        ),
        "rounded up first": lambda mask, grid: over(mask, grid, lambda y, h, t: -(-y * h // t), up),
        "rows only": lambda mask, grid: right_mask(mask, grid) | right_mask(mask, grid).any(1, keepdims=True),
        "columns only": lambda mask, grid: right_mask(mask, grid) | right_mask(mask, grid).any(0, keepdims=True),
        "upside down": lambda mask, grid: right_mask(mask, grid)[::-1],
        "mirrored": lambda mask, grid: right_mask(mask, grid)[:, ::-1],
        "transposed": lambda mask, grid: right_mask(mask.T, grid[::-1]),
        "h for both": lambda mask, grid: over(mask, (grid[0], grid[0]), down, up)[:, : grid[1]],
        "half a token": lambda mask, grid: share(mask, grid) >= 0.5,
        "a tenth of a token": lambda mask, grid: share(mask, grid) > 0.1,
        "the neighbours, too": lambda mask, grid: over(
            mask, grid, lambda *at: max(down(*at) - 1, 0), lambda *at: up(*at) + 1
        ),
        "numbers": lambda mask, grid: right_mask(mask, grid) * 1.0,
        "positions": lambda mask, grid: np.argwhere(right_mask(mask, grid)),
    },
    "inpainting_start": {
        "k is 2": lambda base, fine, hidden, a, b: (
            np.where(hidden, a, base),
            np.where(hidden.repeat(2, 0).repeat(2, 1), b, fine),
        ),
        "k is 4": lambda base, fine, hidden, a, b: (
            np.where(hidden, a, base),
            np.where(hidden.repeat(4, 0).repeat(4, 1), b, fine),
        ),
        "the last of each": starting(lambda hidden, *grids: corners(hidden, *grids)[::-1, ::-1]),
        "k from the sizes": lambda base, fine, hidden, a, b: (
            np.where(hidden, a, base),
            np.where(hidden.repeat(max(1, fine.size // base.size), 0).repeat(1, 1), b, fine),
        ),
        "transposed": starting(lambda hidden, fine, base: larger(hidden, fine, base).T),
        "the fine mask's size": lambda *given: (right_start(*given)[1], right_start(*given)[0]),
        "-1 for [MASK]": lambda base, fine, hidden, a, b: right_start(base, fine, hidden, -1, -1),
        "one array": lambda *given: np.concatenate([np.ravel(part) for part in right_start(*given)]),
        "masks": lambda base, fine, hidden, a, b: (hidden, larger(hidden, fine, base)),
        "floats": lambda *given: tuple(part.astype(float) for part in right_start(*given)),
        "flat": lambda *given: tuple(part.ravel() for part in right_start(*given)),
        "one more around": starting(
            lambda hidden, fine, base: larger(hidden, fine, base) | np.roll(larger(hidden, fine, base), 1, 0)
        ),
        "a box": starting(
            lambda hidden, *grids: larger(hidden.any(1, keepdims=True) & hidden.any(0, keepdims=True), *grids)
        ),
        "where all is hidden": lambda base, fine, hidden, a, b: right_start(base, fine, hidden | True, a, b),
    },
    "resampled_once": {
        "argsort once": resampling(lambda key, *a: jnp.sort(argsort_once(key, *a), 1)),
        "the first positions": resampling(
            lambda key, tokens, fraction: jnp.broadcast_to(
                jnp.arange(tokens.shape[1]) < max(1, round(fraction * tokens.shape[1])), tokens.shape
            )
        ),
        "one more": resampling(lambda key, tokens, fraction: ranked(key, tokens, fraction + 1 / tokens.shape[1])),
        "rounded up": resampling(lambda *a: ranked(*a, number=lambda x: int(np.ceil(x)))),
        "0 allowed": resampling(
            lambda key, tokens, fraction: (
                jax.random.uniform(key, tokens.shape).argsort(1).argsort(1) < round(fraction * tokens.shape[1])
            )
        ),
        "never all": resampling(lambda *a: ranked(*a) & (jnp.arange(a[1].shape[1]) > 0)),
        "twice": lambda key, tokens, fraction, draw, mask_id: resampling(ranked)(
            jax.random.fold_in(key, 1),
            resampling(ranked)(key, tokens, fraction, draw, mask_id),
            fraction,
            draw,
            mask_id,
        ),
        "proposals in another order": resampling(
            ranked, taken=lambda chosen, drawn, tokens: jnp.where(chosen, drawn[:, ::-1], tokens)
        ),
        "proposals of the first row": resampling(
            ranked, taken=lambda chosen, drawn, tokens: jnp.where(chosen, drawn[:1], tokens)
        ),
        "zero for [MASK]": resampling(ranked, shown=lambda chosen, mask_id, tokens: jnp.where(chosen, 0, tokens)),
        "without the hidden ones": resampling(ranked, shown=lambda chosen, mask_id, tokens: tokens[:, 1:]),
        "floats": lambda *given: resampling(ranked)(*given) * 1.0,
        "the choice": resampling(ranked, taken=lambda chosen, drawn, tokens: chosen),
        "a pair": resampling(ranked, taken=lambda *given: (jnp.where(*given), given[0])),
        "not at all": lambda key, tokens, *_: tokens,
        "for one row": resampling(lambda key, tokens, fraction: ranked(key, tokens[:1], fraction)),
    },
    "most_seen": {
        "half the grid": lambda new, grid, windows: grid // 2,
        "what is drawn in all": lambda new, grid, windows: new,
        "grid less new": lambda new, grid, windows: max(0, grid - new),
        "the overlap of a picture": lambda new, grid, windows: (windows * grid - new) // windows + 1,
        "of windows less 1": lambda new, grid, windows: grid - -(-new // max(1, windows - 1)),
        "of windows and 1": lambda new, grid, windows: grid - -(-new // (windows + 1)),
        "windows for grid": lambda new, grid, windows: grid - -(-new // grid),
        "a share": lambda new, grid, windows: 1 - new / (windows * grid),
        "a numpy float": lambda new, grid, windows: np.float64(grid - -(-new // windows)),
        "a list": lambda new, grid, windows: [grid - -(-new // windows)],
        "all columns": lambda new, grid, windows: grid,
        "one too few where uneven": lambda new, grid, windows: grid - -(-new // windows) - (new % windows > 0),
        "the last window": lambda new, grid, windows: grid - (new % windows or new // windows),
        "always 4": lambda new, grid, windows: 4,
    },
    "edit_scores": {
        "numbers of facts": lambda edits: (
            sum(asked in after for asked, _, _, after in edits),
            sum(len(after & caption & before) for _, caption, before, after in edits),
        ),
        "by edits that keep all": lambda edits: (
            scored(others)(edits)[0],
            np.mean([caption & before - {asked} <= after for asked, caption, before, after in edits]),
        ),
        "of successful edits": lambda edits: (
            scored(others)(edits)[0],
            scored(others)([edit for edit in edits if edit[0] in edit[3]] or edits)[1],
        ),
        "of what is there afterwards": lambda edits: (
            scored(others)(edits)[0],
            np.mean([fact in before for asked, _, before, after in edits for fact in after - {asked}]),
        ),
        "success if new": lambda edits: (
            np.mean([asked in after - before for asked, _, before, after in edits]),
            scored(others)(edits)[1],
        ),
        "success if all holds": lambda edits: (
            np.mean([caption <= after for _, caption, _, after in edits]),
            scored(others)(edits)[1],
        ),
        "of the first edit": lambda edits: scored(others)(edits[:1]),
        "of the last edit": lambda edits: scored(others)(edits[-1:]),
        "the product": lambda edits: np.prod(scored(others)(edits)),
        "rounded": lambda edits: tuple(round(share, 1) for share in scored(others)(edits)),
        "three numbers": lambda edits: (*scored(others)(edits), len(edits)),
        "text": lambda edits: tuple(f"{share:.0%}" for share in scored(others)(edits)),
        "the union": lambda edits: (
            scored(others)(edits)[0],
            np.mean([len(after & (caption & before)) / len(caption | before) for _, caption, before, after in edits]),
        ),
        "per edit": lambda edits: [(asked in after, 1.0) for asked, _, _, after in edits],
    },
    "best_state": {
        "one iteration": lambda key, tokens, once, score, n: kept_best()(key, tokens, once, score, 1),
        "one too many": lambda key, tokens, once, score, n: kept_best()(key, tokens, once, score, n + 1),
        "one too few": lambda key, tokens, once, score, n: kept_best()(key, tokens, once, score, n - 1),
        "iterations from 0": kept_best(out=lambda best, at, now: (best, jnp.maximum(at - 1, 0))),
        "the start is 1": kept_best(out=lambda best, at, now: (best, at + 1)),
        "the last tokens": kept_best(out=lambda best, at, now: (now, at)),
        "exchanged": kept_best(out=lambda best, at, now: (at, best)),
        "one best for all columns": all_states(lambda s: jnp.full(s.shape[1], s.max(1).argmax())),
        "without the start's score": kept_best(first=False),
        "greedy": lambda key, tokens, once, score, n: greedy(key, tokens, once, score, n),
        "the last rise": all_states(lambda s: jnp.where(s[-1] > s[0], len(s) - 1, 0)),
        "states": lambda key, tokens, once, score, n: jnp.stack([tokens, once(key, tokens)]),
        "the scores": kept_best(out=lambda best, at, now: (best, best.sum(-1))),
        "floats": kept_best(out=lambda best, at, now: (best * 1.0, at)),
        "two keys in turns": kept_best(own=lambda key, n: jax.random.split(key, 2)[jnp.arange(n) % 2]),
        "numpy": lambda *given: tuple(np.asarray(part) for part in kept_best()(*given)),
    },
}


def greedy(key, tokens, once, score, iterations):
    """Goes on from the best state."""

    def step(carry, given):
        best, at = carry
        key, i = given
        now = once(key, best)
        change = score(now) > score(best)
        return (jnp.where(change[:, None], now, best), jnp.where(change, i, at)), None

    start = tokens, jnp.zeros(len(tokens), int)
    return jax.lax.scan(step, start, (jax.random.split(key, iterations), jnp.arange(1, iterations + 1)))[0]


UNUSUAL = {
    "tokens_under_mask": {
        "matrices": by_matrices,
        "lists, token by token": token_by_token,
        "shares": lambda mask, grid: share(mask, grid) > 0,
    },
    "inpainting_start": {
        "a Kronecker product": by_kron,
        "jnp and lists, by indices": by_indices,
    },
    "resampled_once": {
        "top-k": by_scatter,
        "permutations": resampling(sampled_rows),
        "the other end": resampling(
            lambda key, tokens, fraction: (
                jax.random.uniform(key, tokens.shape).argsort(1).argsort(1)
                >= tokens.shape[1] - max(1, round(fraction * tokens.shape[1]))
            )
        ),
        "folded keys": resampling(ranked, keys=lambda key: (jax.random.fold_in(key, 0), jax.random.fold_in(key, 1))),
    },
    "most_seen": {
        "tried": tried,
        "whole numbers": lambda new, grid, windows: (grid * windows - new) // windows,
        "numpy": lambda new, grid, windows: grid - np.ceil(new / windows).astype(int),
    },
    "edit_scores": {
        "in a loop": in_a_loop,
        "an array": lambda edits: np.array(scored(others)(edits), np.float32),
        "jnp": lambda edits: tuple(jnp.float32(share) for share in scored(others)(edits)),
    },
    "best_state": {
        "all states": all_states(right_which),
        "a loop of JAX": by_fori,
        "compiled": jax.jit(kept_best(), static_argnums=(2, 3, 4)),
        "lists": kept_best(out=lambda best, at, now: [best, at]),
    },
}
