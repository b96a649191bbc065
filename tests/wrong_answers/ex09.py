"""Wrong answers to exercises 09."""

import numpy as np


def places(grid):
    return np.divmod(np.arange(grid[0] * grid[1]), grid[1])


def covering(number):
    """number(row, column, H / h, W / w, h, w) for each fine position."""
    return lambda fine, coarse: number(*places(fine), fine[0] // coarse[0], fine[1] // coarse[1], *coarse)


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


def spoilt(low, most, k, rng, share=None, codes=None, chance=None):
    share = rng.uniform(0, most, (len(low), 1)) if share is None else share
    codes = rng.integers(0, k, low.shape) if codes is None else codes
    return np.where((rng.random(low.shape) if chance is None else chance) < share, codes, low)


def shuffled(low, most, k, rng):
    return spoilt(low, most, k, rng, codes=rng.permuted(low, axis=1))


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
            "as many as a window",
        ),
        "as numbers": (lambda grid, window: tuple(mask * 1.0 for mask in masks(grid, window)), "return bools"),
    },
    "best_window": {
        "the larger of two": (lambda grid: best(grid, -1), "Take the smaller"),
        "that divides one side": (
            lambda grid: best(grid, of=[side for side in range(1, grid[0] + 1) if grid[0] % side == 0]),
            "divide both sides",
        ),
        "the fourth root of N": (lambda grid: round((grid[0] * grid[1]) ** 0.25), "divide both sides"),
        "P": (lambda grid: best(grid) ** 2, "That is P"),
        "the number of scores": (lambda grid: int(looks(grid, best(grid))), "number of scores"),
        "the largest window": (lambda grid: max(sides(grid)), "Count both"),
        "only near": (lambda grid: best(grid, cost=lambda grid, side: side**2), "Count both"),
        "the side for P": (lambda grid: best(grid, cost=lambda g, side: side + g[0] * g[1] / side), "Count both"),
    },
    "spoil_low": {
        "the most for all": (lambda *given: spoilt(*given, share=given[1]), "loses the share `most`"),
        "one share a batch": (
            lambda *given: spoilt(*given, share=given[3].uniform(0, given[1])),
            "lose the same share",
        ),
        "a share per position": (
            lambda *given: spoilt(*given, share=given[3].uniform(0, given[1], given[0].shape)),
            "half of `most`",
        ),
        "half of the most": (lambda *given: spoilt(*given, share=given[1] / 2), "half of `most`"),
        "shuffled": (shuffled, "shuffled"),
        "K, too": (
            lambda *given: spoilt(*given, codes=given[3].integers(0, given[2] + 1, given[0].shape)),
            "never masked",
        ),
        "K - 1 never": (
            lambda *given: spoilt(*given, codes=given[3].integers(0, given[2] - 1, given[0].shape)),
            "never sampled",
        ),
        "one code a picture": (
            lambda *given: spoilt(*given, codes=given[3].integers(0, given[2], (len(given[0]), 1))),
            "the same code",
        ),
        "the same positions": (
            lambda *given: spoilt(*given, chance=given[3].random((1, given[0].shape[1]))),
            "more often than others",
        ),
        "kept and replaced exchanged": (
            lambda low, most, k, rng: spoilt(low, most, k, rng, share=1 - rng.uniform(0, most, (len(low), 1))),
            "share is kept",
        ),
        "a seed of its own": (lambda low, most, k, rng: spoilt(low, most, k, np.random.default_rng(0)), "fixed seed"),
        "chance from elsewhere": (
            lambda low, most, k, rng: spoilt(low, most, k, np.random.default_rng()),
            "from `rng`",
        ),
        "the old ones": (lambda low, most, k, rng: low, "Nothing was replaced"),
    },
    "uses_condition": {
        "all pictures at once": (tester(all_at_once, lambda moved, b: moved.any()), "one image at a time"),
        "all at once, each looked at": (tester(all_at_once, own), "one image at a time"),
        "never restored": (never_restored, "one image at a time"),
        "any picture's logits": (tester(next_code, lambda moved, b: moved.any()), "neighbour in the batch"),
        "only the first picture": (tester(next_code, lambda moved, b: moved[b] or b > 0), "some images"),
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
}
