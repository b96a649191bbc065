"""Wrong answers to exercises 09: WRONG with words of their messages, REFUSED, and UNUSUAL ones that are right."""

import jax
import jax.numpy as jnp
import numpy as np


def places(grid):
    return np.divmod(np.arange(grid[0] * grid[1]), grid[1])


def covering(number):
    """number(row, column, H / h, W / w, h, w) for each fine position."""
    return lambda fine, coarse: number(*places(fine), fine[0] // coarse[0], fine[1] // coarse[1], *coarse)


right_cover = covering(lambda row, column, high, wide, h, w: row // high * w + column // wide)


def alike(x):
    return x[:, None] == x


def masks(grid, window, side=None, wide=None):
    (row, column), (a, b) = places(grid), window
    of_window = row // a * (side or grid[1] // b) + column // b
    return alike(of_window), alike(row % a * (wide or b) + column % b)


def stretches(grid, window):
    i, p = np.arange(grid[0] * grid[1]), window[0] * window[1]
    return alike(i // p), alike(i % p)


def without_itself(grid, window):
    eye = np.eye(grid[0] * grid[1], dtype=bool)
    return tuple(mask & ~eye for mask in masks(grid, window))


def turned(grid, window):
    row, column = places(grid)
    return alike(row // window[1] * 99 + column // window[0]), alike(row % window[1] * 99 + column % window[0])


def sides(grid):
    return [side for side in range(1, min(grid) + 1) if grid[0] % side == grid[1] % side == 0]


def looks(grid, side):
    return side**2 + grid[0] * grid[1] / side**2


def best(grid, order=1, of=None, cost=looks):
    return min((of or sides(grid))[::order], key=lambda side: cost(grid, side))


def spoilt(key, low, most, k, share=None, codes=None, chance=None):
    """share, codes and chance: functions (key, B, n, most, K) of what is drawn, or None for the right one."""
    one, two, three = jax.random.split(key, 3)
    sizes = (*low.shape, most, k)
    share = share(one, *sizes) if share else jax.random.uniform(one, (len(low), 1)) * most
    codes = codes(two, *sizes) if codes else jax.random.randint(two, low.shape, 0, k)
    chance = chance(three, *sizes) if chance else jax.random.uniform(three, low.shape)
    return jnp.where(chance < share, codes, low)


def spoiling(**drawn):
    return lambda *given: spoilt(*given, **drawn)


def shuffled(key, low, most, k):
    return spoilt(key, low, most, k, codes=lambda key, *_: jax.random.permutation(key, low, axis=1))


def one_key(key, low, most, k):
    """The share and the coins from the same key."""
    share = jax.random.uniform(key, (len(low), 1), maxval=most)
    codes = jax.random.randint(jax.random.fold_in(key, 1), low.shape, 0, k)
    return jnp.where(jax.random.uniform(key, low.shape) < share, codes, low)


def codes_by_coins(key, low, most, k):
    share = jax.random.uniform(jax.random.fold_in(key, 1), (len(low), 1), maxval=most)
    coins = jax.random.uniform(key, low.shape)
    return jnp.where(coins < share, (coins * k).astype(int), low)


def a_run(key, b, n, most, k):
    """Chances that are the smallest for a run of neighbours, from a random one on."""
    start = jax.random.randint(key, (b, 1), 0, n)
    return ((jnp.arange(n) - start) % n) / n


def exact_share(key, low, most, k):
    one, two, three = jax.random.split(key, 3)
    count = jnp.round(jax.random.uniform(one, (len(low), 1), maxval=most) * low.shape[1])
    rank = jax.random.uniform(three, low.shape).argsort(1).argsort(1)
    return jnp.where(rank < count, jax.random.randint(two, low.shape, 0, k), low)


def row_by_row(key, low, most, k):
    def one(key, row):
        coins, codes, share = jax.random.split(key, 3)
        hit = jax.random.bernoulli(coins, jax.random.uniform(share) * most, row.shape)
        return jnp.where(hit, jax.random.randint(codes, row.shape, 0, k), row)

    return jax.vmap(one)(jax.random.split(key, len(low)), low)


def tester(change, moved, threshold=1e-3):
    """Change one image after the other; `moved` decides, from the differences [B] and b, whether this one passes."""

    def answer(model_fn, tokens, low, codebook_size):
        before = model_fn(tokens, low)
        for b in range(len(low)):
            other = low.copy()
            change(other, b, codebook_size)
            apart = np.abs(model_fn(tokens, other) - before).max((1, 2))
            if not moved(apart > threshold, b):
                return False
        return True

    return answer


def next_code(other, b, k):
    other[b] = (other[b] + 1) % k


def zeros(other, b, k):
    other[b] = 0


def one_place(other, b, k):
    other[b, 0] = (other[b, 0] + 1) % k


def all_at_once(other, b, k):
    other[:] = (other + 1) % k


def never_restored(model_fn, tokens, low, k):
    before = model_fn(tokens, low)
    for b in range(len(low)):
        low[b] = (low[b] + 1) % k
        if np.abs(model_fn(tokens, low)[b] - before[b]).max() < 1e-3:
            return False
    return True


def likeliest(model_fn, tokens, low, k):
    return bool((model_fn(tokens, low).argmax(-1) != model_fn(tokens, (low + 1) % k).argmax(-1)).any(1).all())


def first_place(model_fn, tokens, low, k):
    apart = model_fn(tokens, low) - model_fn(tokens, (low + 1) % k)
    return bool((np.abs(apart[:, 0]).max(-1) > 1e-3).all())


def own(moved, b):
    return moved[b]


def only(which):
    """Tests one image of the batch."""

    def answer(model_fn, tokens, low, k):
        other = low.copy()
        other[which] = (low[which] + 1) % k
        return bool(np.abs(model_fn(tokens, other)[which] - model_fn(tokens, low)[which]).max() > 1e-3)

    return answer


def by(distance, threshold=1e-3):
    """Another measure of how far two sets of logits [N, K] are from each other."""

    def answer(model_fn, tokens, low, k):
        before = model_fn(tokens, low)
        for b in range(len(low)):
            other = low.copy()
            other[b] = (low[b] + 1) % k
            if not distance(model_fn(tokens, other)[b], before[b]) > threshold:
                return False
        return True

    return answer


def one_at_a_time(model_fn, tokens, low, k):
    """Each image by itself, as a batch of one."""
    return all(
        np.abs(
            model_fn(tokens[b : b + 1], low[b : b + 1]) - model_fn(tokens[b : b + 1], (low[b : b + 1] + 1) % k)
        ).max()
        > 1e-3
        for b in range(len(low))
    )


def by_random_codes(model_fn, tokens, low, k):
    """Five random sets of codes for each image."""
    rng, before = np.random.default_rng(0), model_fn(tokens, low)
    found = np.zeros(len(low), bool)
    for b in np.repeat(np.arange(len(low)), 5):
        other = np.where(np.arange(len(low))[:, None] == b, rng.integers(0, k, low.shape), low)
        found[b] |= not np.allclose(model_fn(tokens, other)[b], before[b], rtol=0, atol=1e-3)
    return found.all()


# --- near_attention ---------------------------------------------------------------------------------------------------


def cut(x, grid, window):
    """[B, N, D] -> [B, windows, P, D]."""
    (h, w), (a, b) = grid, window
    parts = x.reshape(len(x), h // a, a, w // b, b, x.shape[-1]).swapaxes(2, 3)
    return parts.reshape(len(x), -1, a * b, x.shape[-1])


def joined(x, grid, window):
    (h, w), (a, b) = grid, window
    parts = x.reshape(len(x), h // a, w // b, a, b, x.shape[-1]).swapaxes(2, 3)
    return parts.reshape(len(x), h * w, x.shape[-1])


def attended(q, k, v, scale=lambda d: d**-0.5, axis=-1):
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) * scale(q.shape[-1]), axis=axis)
    return weights @ v


def windowed(attend=attended, before=cut, after=joined):
    def answer(q, k, v, grid, window):
        return after(attend(*(before(x, grid, window) for x in (q, k, v))), grid, window)

    return answer


def by_masks(which=0, mask=masks):
    def answer(q, k, v, grid, window):
        scores = q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5
        return jax.nn.softmax(jnp.where(mask(grid, window)[which], scores, -1e9)) @ v

    return answer


def in_stretches(x, grid, window):
    return x.reshape(len(x), -1, window[0] * window[1], x.shape[-1])


def across_windows(x, grid, window):
    return cut(x, grid, window).swapaxes(1, 2)


def back_across(x, grid, window):
    return joined(x.swapaxes(1, 2), grid, window)


def by_gather(q, k, v, grid, window):
    """Of each position the indices of its window's positions."""
    index = np.stack([np.flatnonzero(row) for row in masks(grid, window)[0]])  # [N, P]
    scores = jnp.einsum("bnd,bnpd->bnp", q, k[:, index]) / np.sqrt(q.shape[-1])
    return jnp.einsum("bnp,bnpd->bnd", jax.nn.softmax(scores), v[:, index])


def by_map(q, k, v, grid, window):
    """One window after the other."""
    parts = (jnp.moveaxis(cut(x, grid, window), 1, 0) for x in (q, k, v))
    return joined(jnp.moveaxis(jax.lax.map(lambda one: attended(*one), tuple(parts)), 0, 1), grid, window)


def with_dot_product_attention(q, k, v, grid, window):
    parts = (cut(x, grid, window) for x in (q, k, v))
    flat = (x.reshape(-1, *x.shape[2:])[:, :, None] for x in parts)
    return joined(jax.nn.dot_product_attention(*flat)[:, :, 0].reshape(len(q), -1, *q.shape[1:]), grid, window)


# --- multi_axis_masks, best_window: right but unusual -----------------------------------------------------------------


def by_kron(grid, window, near_kron=np.kron, across_kron=np.kron, both=np.kron):
    """np.kron of masks of rows and of columns."""
    near, across = [], []
    for side, part in zip(grid, window):
        ones, same = np.ones((part, part), bool), np.eye(part, dtype=bool)
        near.append(near_kron(np.eye(side // part, dtype=bool), ones))
        across.append(across_kron(np.ones((side // part,) * 2, bool), same))
    return both(*near), both(*across)


def swapped_kron(one, two):
    return np.kron(two, one)


def pair_by_pair(grid, window):
    n, (a, b) = grid[0] * grid[1], window
    place = [divmod(i, grid[1]) for i in range(n)]
    near = [[(r // a, c // b) == (y // a, x // b) for y, x in place] for r, c in place]
    across = [[(r % a, c % b) == (y % a, x % b) for y, x in place] for r, c in place]
    return near, across


WRONG = {
    "covering_place": {
        "equal stretches": (
            lambda fine, coarse: np.arange(fine[0] * fine[1]) // (fine[0] * fine[1] // (coarse[0] * coarse[1])),
            "equal stretches",
        ),
        "by a remainder": (covering(lambda r, c, high, wide, h, w: r % h * w + c % w), "by a remainder"),
        "column by column": (covering(lambda r, c, high, wide, h, w: c // wide * h + r // high), "column by column"),
        "h for w": (covering(lambda r, c, high, wide, h, w: r // high * h + c // wide), "counts h"),
        "one factor for both": (covering(lambda r, c, high, wide, h, w: r // high * w + c // high), "may differ"),
        "from 1": (covering(lambda r, c, high, wide, h, w: r // high * w + c // wide + 1), "not from 1"),
        "by true division": (covering(lambda r, c, high, wide, h, w: r / high * w + c / wide), "return ints"),
        "as a picture": (
            lambda fine, coarse: covering(lambda r, c, a, b, h, w: r // a * w + c // b)(fine, coarse).reshape(fine),
            "shape",
        ),
    },
    "multi_axis_masks": {
        "exchanged": (lambda grid, window: masks(grid, window)[::-1], "swapped"),
        "stretches": (stretches, "stretches of the list"),
        "axial": (lambda grid, window: tuple(map(alike, places(grid))), "axial attention"),
        "without itself": (without_itself, "does not see itself"),
        "windows with one number": (
            lambda grid, window: masks(grid, window, side=grid[0] // window[0]),
            "Some windows",
        ),
        "positions with one number": (lambda grid, window: masks(grid, window, wide=window[0]), "Some positions"),
        "True where hidden": (lambda grid, window: tuple(~mask for mask in masks(grid, window)), "inverted"),
        "b rows of a": (turned, "a rows of b"),
        "one mask": (lambda grid, window: np.logical_or(*masks(grid, window)), "two values"),
        "rows of windows only": (
            lambda grid, window: (alike(places(grid)[0] // window[0]), masks(grid, window)[1]),
            "same row of windows",
        ),
        "around itself": (
            lambda grid, window: (
                np.logical_and(*(abs(x[:, None] - x) < side for x, side in zip(places(grid), window))),
                masks(grid, window)[1],
            ),
            "a window around itself",
        ),
        "near twice": (lambda grid, window: masks(grid, window)[:1] * 2, "near once more"),
        "rows and columns swapped in kron": (
            lambda grid, window: by_kron(grid, window, both=swapped_kron),
            "column by column",
        ),
        "kron swapped for near": (lambda grid, window: by_kron(grid, window, swapped_kron), "block of neighbours"),
        "kron swapped for across": (
            lambda grid, window: by_kron(grid, window, across_kron=swapped_kron),
            "the same offset in every window",
        ),
        "as numbers": (lambda grid, window: tuple(mask * 1.0 for mask in masks(grid, window)), "return bools"),
    },
    "best_window": {
        "the larger of two": (lambda grid: best(grid, -1), "Take the smaller"),
        "that divides h": (
            lambda grid: best(grid, of=[side for side in range(1, min(grid) + 1) if grid[0] % side == 0]),
            "must divide w as well",
        ),
        "the fourth root of N": (lambda grid: round((grid[0] * grid[1]) ** 0.25), "divide both sides"),
        "P": (lambda grid: best(grid) ** 2, "That is P"),
        "the number of scores": (lambda grid: int(looks(grid, best(grid))), "number of scores"),
        "the largest window": (lambda grid: max(sides(grid)), "largest window"),
        "only near": (lambda grid: best(grid, cost=lambda grid, side: side**2), "smallest window"),
        "the side for P": (lambda grid: best(grid, cost=lambda g, side: side + g[0] * g[1] / side), "largest window"),
        "the cube": (lambda grid: best(grid, cost=lambda g, side: side**2 + g[0] * g[1] / side**3), "side³"),
        "across by the side": (lambda grid: best(grid, cost=lambda g, side: side**2 + g[0] * g[1] / side), "N / side."),
        "nearest the root": (
            lambda grid: best(grid, cost=lambda g, side: abs(side**2 - (g[0] * g[1]) ** 0.5)),
            "nearest to the root",
        ),
        "never the side": (lambda grid: best(grid, of=[s for s in sides(grid) if s < min(grid)] or [1]), "itself"),
        "never 1": (lambda grid: best(grid, of=sides(grid)[1:] or [1]), "side of 1"),
    },
    "spoil_low": {
        "the most for all": (spoiling(share=lambda key, b, n, most, k: most), "loses the share `most`"),
        "one share a batch": (
            spoiling(share=lambda key, b, n, most, k: jax.random.uniform(key) * most),
            "lose the same share",
        ),
        "a share per position": (
            spoiling(share=lambda key, b, n, most, k: jax.random.uniform(key, (b, n)) * most),
            "half of `most`",
        ),
        "half of the most": (spoiling(share=lambda key, b, n, most, k: most / 2), "half of `most`"),
        "shuffled": (shuffled, "shuffled"),
        "K, too": (
            spoiling(codes=lambda key, b, n, most, k: jax.random.randint(key, (b, n), 0, k + 1)),
            "never masked",
        ),
        "K - 1 never": (
            spoiling(codes=lambda key, b, n, most, k: jax.random.randint(key, (b, n), 0, k - 1)),
            "never sampled",
        ),
        "one code a picture": (
            spoiling(codes=lambda key, b, n, most, k: jax.random.randint(key, (b, 1), 0, k)),
            "the same code",
        ),
        "the same codes for all": (
            spoiling(codes=lambda key, b, n, most, k: jax.random.randint(key, (1, n), 0, k)),
            "Different images",
        ),
        "the same positions": (
            spoiling(chance=lambda key, b, n, most, k: jax.random.uniform(key, (1, n))),
            "more often than others",
        ),
        "one run of neighbours": (spoiling(chance=a_run), "run of neighbours"),
        "kept and replaced exchanged": (
            spoiling(share=lambda key, b, n, most, k: 1 - jax.random.uniform(key, (b, 1)) * most),
            "share is kept",
        ),
        "one key for share and coins": (one_key, "same key"),
        "one key for codes and coins": (codes_by_coins, "used for nothing else"),
        "a key of its own": (lambda key, *given: spoilt(jax.random.key(0), *given), "not from one of yours"),
        "chance from elsewhere": (
            lambda key, *given: spoilt(jax.random.key(np.random.default_rng().integers(10**6)), *given),
            "from `key`",
        ),
        "the old ones": (lambda key, low, most, k: low, "Nothing was replaced"),
    },
    "uses_condition": {
        "all pictures at once": (tester(all_at_once, lambda moved, b: moved.any()), "one image at a time"),
        "all at once, each looked at": (tester(all_at_once, own), "one image at a time"),
        "never restored": (lambda fn, x, low, k: never_restored(fn, x, low.copy(), k), "one image at a time"),
        "changes its argument": (never_restored, "changes its argument"),
        "any picture's logits": (tester(next_code, lambda moved, b: moved.any()), "neighbour in the batch"),
        "only the first picture": (only(0), "the second image"),
        "only the last picture": (only(-1), "the first image"),
        "without tolerance": (tester(next_code, own, threshold=0.0), "by rounding in each call"),
        "replaced by zeros": (tester(zeros, own), "some are 0 already"),
        "one coarse token": (tester(one_place, own), "the coarse token over it"),
        "one fine position": (first_place, "all its positions"),
        "the most likely code": (likeliest, "some hundredths"),
        "too tolerant": (tester(next_code, own, threshold=0.5), "some hundredths"),
        "always True": (lambda *given: True, "for every program"),
        "always False": (lambda *given: False, "for every program"),
        "the difference": (
            lambda fn, x, low, k: np.abs(fn(x, low) - fn(x, (low + 1) % k)).max(),
            "return bools",
        ),
    },
    "near_attention": {
        "full": (by_masks(mask=lambda grid, window: np.ones((1, 1, 1), bool)), "full attention"),
        "masked": (by_masks(), "program makes an array"),
        "across": (windowed(before=across_windows, after=back_across), "That is across"),
        "stretches": (
            windowed(before=in_stretches, after=lambda x, grid, window: x.reshape(len(x), -1, x.shape[-1])),
            "stretches",
        ),
        "b rows of a": (by_masks(mask=turned), "b positions"),
        "not put back": (windowed(after=lambda x, *_: x.reshape(len(x), -1, x.shape[-1])), "order of the windows"),
        "no root": (windowed(lambda *x: attended(*x, scale=lambda d: 1)), "not divided"),
        "by D": (windowed(lambda *x: attended(*x, scale=lambda d: 1 / d)), "instead of √D"),
        "the mean": (windowed(lambda q, k, v: attended(0 * q, k, v)), "mean of the window's values"),
        "q and k exchanged": (windowed(lambda q, k, v: attended(k, q, v)), "swapped"),
        "over the queries": (windowed(lambda *x: attended(*x, axis=-2)), "over the queries"),
        "in windows": (windowed(after=lambda x, *_: x), "shape"),
        "numpy": (lambda *given: np.asarray(windowed()(*given)), "cannot compile"),
    },
}


def last_half(key, low, most, k):
    return jnp.where(jnp.arange(low.shape[1]) < low.shape[1] // 2, low, spoilt(key, low, most, k))


REFUSED = {
    "covering_place": {
        "the fine numbers": lambda fine, coarse: np.arange(fine[0] * fine[1]),
        "transposed": lambda fine, coarse: right_cover(fine, coarse).reshape(fine).T.ravel(),
        "for squares": covering(lambda r, c, high, wide, h, w: r // high * h + c // high),
        "for factors of 2": covering(lambda r, c, high, wide, h, w: r // 2 * w + c // 2),
        "for factors of 4": covering(lambda r, c, high, wide, h, w: r // 4 * w + c // 4),
        "only the row": covering(lambda r, c, high, wide, h, w: r // high),
        "only the column": covering(lambda r, c, high, wide, h, w: c // wide),
        "rounded": covering(lambda r, c, high, wide, h, w: (np.round(r / high) * w + np.round(c / wide)).astype(int)),
        "h and H / h confused": covering(lambda r, c, high, wide, h, w: r // h * wide + c // w),
        "backwards": lambda fine, coarse: right_cover(fine, coarse)[::-1],
        "the first position of a cell only": covering(
            lambda r, c, high, wide, h, w: np.where((r % high == 0) & (c % wide == 0), r // high * w + c // wide, -1)
        ),
        "fine width": covering(lambda r, c, high, wide, h, w: r // high * wide * w + c // wide),
    },
    "multi_axis_masks": {
        "both": lambda grid, window: (np.logical_or(*masks(grid, window)),) * 2,
        "squares only": lambda grid, window: masks(grid, (window[0], window[0])),
        "the grid transposed": lambda grid, window: masks(grid[::-1], window),
        "window and offset in one": lambda grid, window: (
            alike(places(grid)[0] // window[0] + places(grid)[1] // window[1]),
            alike(places(grid)[0] % window[0] + places(grid)[1] % window[1]),
        ),
        "only upwards": lambda grid, window: tuple(np.tril(mask) for mask in masks(grid, window)),
        "rows for positions": lambda grid, window: tuple(mask[:, : grid[0]] for mask in masks(grid, window)),
        "four axes": lambda grid, window: tuple(mask.reshape(*grid, *grid) for mask in masks(grid, window)),
        "full": lambda grid, window: (np.ones((grid[0] * grid[1],) * 2, bool),) * 2,
        "itself only": lambda grid, window: (np.eye(grid[0] * grid[1], dtype=bool),) * 2,
        "one of the two": lambda grid, window: masks(grid, window)[0],
        "transposed windows across": lambda grid, window: (masks(grid, window)[0], turned(grid, window)[1]),
        "near by products": lambda grid, window: (
            alike((places(grid)[0] // window[0] + 1) * (places(grid)[1] // window[1] + 1)),
            masks(grid, window)[1],
        ),
        "numbers": lambda grid, window: tuple(mask.astype(int) for mask in masks(grid, window)),
    },
    "best_window": {
        "the root": lambda grid: round((grid[0] * grid[1]) ** 0.5),
        "of the smaller side": lambda grid: round(min(grid) ** 0.5),
        "half of the side": lambda grid: max(1, min(grid) // 2),
        "the largest power of 2": lambda grid: max(side for side in (1, 2, 4, 8) if side in sides(grid)),
        "range(1, min)": lambda grid: best(grid, of=[side for side in sides(grid) if side < min(grid)] or [1]),
        "the scores themselves": lambda grid: looks(grid, best(grid)),
        "a float": lambda grid: float(best(grid)),
        "a pair": lambda grid: (best(grid), best(grid)),
        "for h x h": lambda grid: best((grid[0], grid[0])),
        "for w x w": lambda grid: best((grid[1], grid[1])),
        "the most scores": lambda grid: best(grid, cost=lambda grid, side: -looks(grid, side)),
        "rounded down": lambda grid: max([s for s in sides(grid) if s**4 <= grid[0] * grid[1]], default=1),
        "rounded up": lambda grid: min([s for s in sides(grid) if s**4 >= grid[0] * grid[1]], default=max(sides(grid))),
        "divides N": lambda grid: best(grid, of=[s for s in range(1, min(grid) + 1) if grid[0] * grid[1] % s**2 == 0]),
        "always 4": lambda grid: 4,
    },
    "spoil_low": {
        "the root of a uniform share": spoiling(
            share=lambda key, b, n, most, k: jax.random.uniform(key, (b, 1)) ** 0.5 * most
        ),
        "the square of a uniform share": spoiling(
            share=lambda key, b, n, most, k: jax.random.uniform(key, (b, 1)) ** 2 * most
        ),
        "a share from 0 to 1": spoiling(share=lambda key, b, n, most, k: jax.random.uniform(key, (b, 1))),
        "all or nothing": spoiling(share=lambda key, b, n, most, k: most * jax.random.bernoulli(key, 0.5, (b, 1))),
        "the second half only": last_half,
        "even codes": spoiling(codes=lambda key, b, n, most, k: jax.random.randint(key, (b, n), 0, k // 2) * 2),
        "the first half of the codes": spoiling(
            codes=lambda key, b, n, most, k: jax.random.randint(key, (b, n), 0, k // 2)
        ),
        "codes by a normal distribution": spoiling(
            codes=lambda key, b, n, most, k: jnp.clip(k / 2 + k / 6 * jax.random.normal(key, (b, n)), 0, k - 1).astype(
                int
            )
        ),
        "the next code": lambda key, low, most, k: spoilt(key, low, most, k, codes=lambda *_: (low + 1) % k),
        "floats": lambda *given: spoilt(*given).astype(float),
        "flat": lambda *given: spoilt(*given).ravel(),
        "which are replaced": lambda key, low, most, k: spoilt(key, low, most, k) != low,
        "numpy": lambda key, low, most, k: np.asarray(spoilt(key, low, most, k)),
        "for square batches": lambda key, low, most, k: spoilt(
            key, low, most, k, share=lambda key, b, n, most, k: jax.random.uniform(key, (n,)) * most
        ),
        "fixed 0.2": lambda key, low, most, k: spoilt(key, low, 0.2, k),
    },
    "uses_condition": {
        "only the second picture": only(1),
        "by sums": by(lambda one, two: abs(one.sum() - two.sum()), 1.0),
        "by the first code": by(lambda one, two: abs(one - two)[:, 0].max(), 0.3),
        "by the known positions": by(lambda one, two: abs(one - two)[: len(one) // 2].max()),
        "by the last position": by(lambda one, two: abs(one - two)[-1].max(), 0.5),
        "by the mean change": by(lambda one, two: abs(one - two).mean(), 0.05),
        "all values must change": by(lambda one, two: abs(one - two).min()),
        "in any image": lambda fn, x, low, k: bool((np.abs(fn(x, low) - fn(x, (low + 1) % k)) > 1e-3).any()),
        "images swapped": lambda fn, x, low, k: bool((np.abs(fn(x, low[::-1]) - fn(x, low)).max((1, 2)) > 1e-3).all()),
        "turned": lambda fn, x, low, k: not bool(tester(next_code, own)(fn, x, low, k)),
        "the fine tokens changed": lambda fn, x, low, k: bool(
            (np.abs(fn((x + 1) % 4, low) - fn(x, low)).max((1, 2)) > 1e-3).all()
        ),
        "equal arrays": by(lambda one, two: float((one != two).any()), 0.5),
        "a list": lambda *given: [tester(next_code, own)(*given)],
        "one at a time": one_at_a_time,
        "a word": lambda *given: str(tester(next_code, own)(*given)),
    },
    "near_attention": {
        "scores not masked, values masked": lambda q, k, v, grid, window: (
            (jax.nn.softmax(q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5) * masks(grid, window)[0]) @ v
        ),
        "sums": windowed(lambda q, k, v: jnp.exp(q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5) @ v),
        "by P": windowed(lambda q, k, v: attended(q, k, v, scale=lambda d: q.shape[-2] ** -0.5)),
        "k for v": windowed(lambda q, k, v: attended(q, k, k)),
        "v alone": lambda q, k, v, grid, window: v,
        "the most similar": windowed(lambda q, k, v: attended(100 * q, k, v)),
        "with itself added": lambda q, *given: q + windowed()(q, *given),
        "square windows": lambda q, k, v, grid, window: windowed()(q, k, v, grid, (window[0], window[0])),
        "grid and window transposed": lambda q, k, v, grid, window: windowed()(q, k, v, grid[::-1], window[::-1]),
        "the first image": lambda q, *given: jnp.broadcast_to(windowed()(q, *given)[:1], q.shape),
        "halves": windowed(lambda *x: attended(*(one.astype(jnp.float16) for one in x)).round(2)),
        "without the position itself": by_masks(mask=without_itself),
        "half of the window": windowed(lambda q, k, v: attended(q, k[..., ::2, :], v[..., ::2, :])),
        "flat": lambda *given: windowed()(*given).ravel(),
    },
}
UNUSUAL = {
    "covering_place": {
        "repeated": lambda fine, coarse: (
            np.arange(coarse[0] * coarse[1])
            .reshape(coarse)
            .repeat(fine[0] // coarse[0], 0)
            .repeat(fine[1] // coarse[1], 1)
            .ravel()
        ),
        "a list": lambda fine, coarse: [
            r * coarse[0] // fine[0] * coarse[1] + c * coarse[1] // fine[1]
            for r in range(fine[0])
            for c in range(fine[1])
        ],
        "jnp": lambda fine, coarse: jnp.kron(
            jnp.arange(coarse[0] * coarse[1]).reshape(coarse),
            jnp.ones((fine[0] // coarse[0], fine[1] // coarse[1]), int),
        ).ravel(),
    },
    "multi_axis_masks": {
        "Kronecker products": by_kron,
        "lists, pair by pair": pair_by_pair,
        "jnp, as a list": lambda grid, window: [jnp.asarray(mask) for mask in masks(grid, window)],
    },
    "best_window": {
        "sorted": lambda grid: sorted(sides(grid), key=lambda side: (looks(grid, side), side))[0],
        "a numpy number": lambda grid: np.int64(best(grid)),
        "divisors of the greatest common one": lambda grid: best(
            grid, of=[s for s in range(1, np.gcd(*grid) + 1) if np.gcd(*grid) % s == 0]
        ),
    },
    "spoil_low": {
        "an exact share": exact_share,
        "row by row": row_by_row,
        "compiled": jax.jit(spoilt, static_argnums=3),
    },
    "uses_condition": {
        "random codes": by_random_codes,
        "numpy's bool": lambda *given: np.bool_(tester(next_code, own)(*given)),
        "a norm": by(lambda one, two: np.linalg.norm(one - two)),
    },
    "near_attention": {
        "gathered": by_gather,
        "one window after the other": by_map,
        "JAX's own attention": with_dot_product_attention,
        "einsum": windowed(
            lambda q, k, v: jnp.einsum(
                "bwij,bwjd->bwid", jax.nn.softmax(jnp.einsum("bwid,bwjd->bwij", q, k) / jnp.sqrt(q.shape[-1])), v
            )
        ),
    },
}
