"""Exercises 09: super-resolution."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, call, compare, compiles, exercise, in_any_order, numbers, pair
from minimuse.teach.checks.tracing import recorded
from minimuse.teach.checks.windows import ACROSS, ATTENTION_MISTAKES, NEAR, groups, near


def _covering(fine: tuple[int, int], coarse: tuple[int, int]) -> np.ndarray:
    """Each coarse position in turn fills its block."""
    (height, width), (h, w) = fine, coarse
    covered = np.full((height, width), -1)
    for position in range(h * w):
        top, left = position // w * (height // h), position % w * (width // w)
        covered[top : top + height // h, left : left + width // w] = position
    return covered.reshape(-1)


def _by_place(f: Callable) -> Callable:
    """A mistake as a function of fine and coarse: f(row, column, H / h, W / w, h, w) of each fine position."""
    return lambda fine, coarse: f(*np.indices(fine).reshape(2, -1), fine[0] // coarse[0], fine[1] // coarse[1], *coarse)


@exercise(points=2)
def covering_place(answer: Callable) -> None:
    """fine (H, W), coarse (h, w) -> int [H W], the coarse position that covers each fine one."""
    grids = [(2, 3, 1, 1), (2, 6, 1, 2), (6, 4, 3, 2), (4, 6, 2, 2), (3, 5, 3, 5), (8, 12, 4, 3), (12, 8, 2, 4)]
    compare(
        answer,
        [((height, width), (h, w)) for height, width, h, w in [*grids, (32, 32, 8, 8)]],
        _covering,
        {
            "This splits the list of positions into equal stretches. But positions are numbered row by row, so a "
            "coarse position covers pieces of several rows.": lambda fine, coarse: (
                np.arange(fine[0] * fine[1]) // (fine[0] * fine[1] // (coarse[0] * coarse[1]))
            ),
            "This puts copies of the coarse grid side by side, by a remainder. Divide instead: each coarse position "
            "covers a block.": _by_place(lambda row, column, high, wide, h, w: row % h * w + column % w),
            "Coarse positions are numbered column by column. Number them row by row: row · w + column.": _by_place(
                lambda row, column, high, wide, h, w: column // wide * h + row // high
            ),
            "The coarse row counts h positions, but a row has w of them: row · w + column.": _by_place(
                lambda row, column, high, wide, h, w: row // high * h + column // wide
            ),
            "Rows and columns are divided by the same number, H / h. H / h and W / w may differ.": _by_place(
                lambda row, column, high, wide, h, w: row // high * w + column // high
            ),
            "Rows and columns are divided by the same number, W / w. H / h and W / w may differ.": _by_place(
                lambda row, column, high, wide, h, w: row // wide * w + column // wide
            ),
            "The fine positions are numbered column by column. Number them row by row, like the coarse ones.": (
                lambda fine, coarse: _covering(fine, coarse).reshape(fine).T.reshape(-1)
            ),
            "Positions are numbered from 0, not from 1.": lambda fine, coarse: _covering(fine, coarse) + 1,
        },
        kind="int",
    )


@exercise(points=3)
def multi_axis_masks(answer: Callable) -> None:
    """grid (h, w), window (a, b) -> near and across, bool [N, N]."""
    grids = [(2, 3, 2, 1), (2, 6, 1, 3), (4, 4, 2, 2), (6, 4, 3, 1), (6, 8, 3, 2), (4, 6, 2, 3), (3, 8, 1, 4)]
    cases = [((h, w), (a, b)) for h, w, a, b in [*grids, (6, 4, 2, 2), (8, 8, 4, 4), (2, 3, 1, 1), (4, 6, 4, 6)]]
    for which, (name, mistakes) in enumerate(dict(near=NEAR, across=ACROSS).items()):
        right: Callable = lambda grid, window, which=which: groups(grid, window)[which]
        read: Callable = lambda value, which=which: pair(value, "return near, across")[which]
        try:
            compare(answer, cases, right, mistakes, kind="bool", read=read)
        except Wrong as wrong:
            raise Wrong(f"In {name}: {wrong.args[0]}", wrong.table) from None


def _sides(grid: tuple[int, int]) -> list[int]:
    return [side for side in range(1, max(grid) + 1) if grid[0] % side == 0 == grid[1] % side]


def _seen(grid: tuple[int, int], side: int) -> float:
    """How many positions one attends to: those of its window, and one in each window."""
    return side * side + grid[0] * grid[1] / side**2


def _cheapest(grid: tuple[int, int]) -> int:
    best, fewest = 0, float("inf")
    for side in _sides(grid):
        if (seen := _seen(grid, side)) < fewest:
            best, fewest = side, seen
    return best


def _cheapest_by(cost: Callable, sides: Callable = _sides) -> Callable:
    """A mistake: the side for which cost(grid, side) is least."""
    return lambda grid: min(sides(grid), key=lambda side: cost(grid, side))


WINDOW_MISTAKES = {
    "That is P, the positions of a window. Return its side.": lambda grid: _cheapest(grid) ** 2,
    "That is the number of scores. Return the side of the window.": lambda grid: _seen(grid, _cheapest(grid)),
    "Where two sides need the same number of scores, you take the larger. Take the smaller.": (
        lambda grid: min(_sides(grid)[::-1], key=lambda side: _seen(grid, side))
    ),
    "This is the largest window, as if side + N / side were minimized. Count both: P near, and N / P across, where P "
    "is the square of the side.": lambda grid: max(_sides(grid)),
    "This is the smallest window. Count both: P near, and N / P across, where P is the square of the side.": (
        lambda grid: 1
    ),
    "This minimizes P + N / side³. Divide N by P, the square of the side.": _cheapest_by(
        lambda grid, side: side**2 + grid[0] * grid[1] / side**3
    ),
    "This minimizes P + N / side. Across, there is one position per window: N / P.": _cheapest_by(
        lambda grid, side: side**2 + grid[0] * grid[1] / side
    ),
    "This is the side whose P is nearest to the root of N, by their difference. Count the scores P + N / P.": (
        _cheapest_by(lambda grid, side: abs(side**2 - (grid[0] * grid[1]) ** 0.5))
    ),
    "This is the side that is nearest to the fourth root of N, by their difference. Count the scores P + N / P.": (
        _cheapest_by(lambda grid, side: abs(side - (grid[0] * grid[1]) ** 0.25))
    ),
    "This never tries the smaller side of the grid itself. A window may be as high or as wide as the grid.": (
        _cheapest_by(_seen, lambda grid: _sides(grid)[:-1] if _sides(grid)[-1] == min(grid) > 1 else _sides(grid))
    ),
    "This never tries a side of 1.": _cheapest_by(_seen, lambda grid: _sides(grid)[1:] or [1]),
    "The side divides h, but it must divide w as well.": _cheapest_by(
        _seen, lambda grid: [side for side in range(1, min(grid) + 1) if grid[0] % side == 0]
    ),
    "The side divides w, but it must divide h as well.": _cheapest_by(
        _seen, lambda grid: [side for side in range(1, min(grid) + 1) if grid[1] % side == 0]
    ),
    "Not all of your sides divide both sides of the grid. Try only those that do.": lambda grid: round(
        (grid[0] * grid[1]) ** 0.25
    ),
}


@exercise(points=2)
def best_window(answer: Callable) -> None:
    """grid (h, w) -> int, the side of the square window with the fewest attended positions."""
    grids = [(1, 1), (2, 2), (5, 7), (3, 3), (3, 30), (30, 3), (6, 12), (10, 20), (20, 10), (8, 8), (9, 9), (12, 20)]
    grids += [
        (16, 16),
        (8, 24),
        (5, 100),
        (4, 6),
        (30, 42),
        (32, 32),
        (48, 80),
        (7, 7),
        (64, 64),
        (2, 50),
        (4, 9),
        (8, 18),
        (96, 96),
        (100, 100),
    ]
    compare(answer, [(grid,) for grid in grids], _cheapest, WINDOW_MISTAKES, kind="int")


def _check_codes(spoilt: np.ndarray, low: np.ndarray, k: int) -> None:
    """Wrong unless the replaced codes are uniform and independent; only the codes 0 to 9 occur in low."""
    changed = spoilt != low
    codes = spoilt[changed]
    if codes.min() < 0 or codes.max() >= k:
        raise Wrong(
            f"It returned the code {codes.max() if codes.max() >= k else codes.min()} for a codebook of {k}. "
            "Codes go from 0 to K - 1; K itself is the mask, and coarse tokens are never masked."
        )
    if codes.max() < 10:
        raise Wrong("The new codes are all among the old ones, as if they were shuffled. Sample from all K codes.")
    if np.mean([len(np.unique(row[where])) < 2 for row, where in zip(spoilt, changed)]) > 0.5:
        raise Wrong("All replaced positions of an image get the same code. Sample a code for every position.")
    both = changed[1:] & changed[:-1]  # neighbouring images
    if both.any() and (spoilt[1:] == spoilt[:-1])[both].mean() > 0.05:
        raise Wrong("Different images get the same codes at a position. Sample a code for every position: [B, n].")
    tenths = np.bincount(codes * 10 // k, minlength=10) / codes.size
    if abs(codes.mean() / k - 0.5) > 0.02 or abs(tenths - 0.1).max() > 0.02 or (codes % 2).mean() < 0.4:
        raise Wrong(
            "Some codes come more often than others. Sample them uniformly from all K, with a key that is used for "
            "nothing else."
        )


def _check_shares(changed: np.ndarray, again: np.ndarray, most: float) -> None:
    """Wrong unless the shares of the images are uniform from 0 to most."""
    shares, wanted, spread = changed.mean(1), most / 2, most / 12**0.5
    if abs(shares.mean() - (1 - wanted)) < 0.05:
        raise Wrong(f"The share is kept and the rest is replaced: {shares.mean():.0%} of all tokens are new.")
    if shares.std() < 0.6 * spread:
        if abs(shares.mean() - again.mean()) > 0.1 * most:
            raise Wrong("All images of a batch lose the same share. Sample one per image: [B, 1].")
        if abs(shares.mean() - most) < 0.1 * most:
            raise Wrong(
                f"Every image loses the share `most`, {most:g}. That is the maximum; sample a share between 0 and it."
            )
        raise Wrong(
            "Every image loses about the same, half of `most`. Sample one share per image, [B, 1], not one per "
            "position."
        )
    quarters = [(shares < edge * most).mean() for edge in (0.25, 0.5, 0.75)]
    even = max(abs(got - edge) for got, edge in zip(quarters, (0.25, 0.5, 0.75))) < 0.1
    if not even or abs(shares.mean() - wanted) > 0.1 * most or not 0.85 * spread < shares.std() < 1.25 * spread:
        raise Wrong(
            f"For most = {most:g} the shares have mean {shares.mean():.2f} and standard deviation {shares.std():.2f}, "
            f"and {quarters[0]:.0%}, {quarters[1]:.0%} and {quarters[2]:.0%} of them are below a quarter, half and "
            f"three quarters of it. Uniform between 0 and {most:g}, they would have mean {wanted:.2f} and "
            f"standard deviation {spread:.2f}."
        )


def _check_places(changed: np.ndarray, most: float) -> None:
    """Wrong unless the replaced positions of an image are independent."""
    if np.abs(changed.mean(0) - changed.mean()).max() > 0.15 * min(1, 2 * most):
        raise Wrong("Some positions are replaced far more often than others. Choose different ones for every image.")
    together = changed.T.astype(float) @ changed / len(changed)  # how often two positions are replaced together
    off = together[~np.eye(len(together), dtype=bool)]
    if off.max() > most**2 / 3 + 0.07:
        raise Wrong(
            f"Some pairs of positions are replaced together far too often, in {off.max():.0%} of the images, as in a "
            "run of neighbours. Choose the positions of an image independently."
        )


@exercise(points=3)
def spoil_low(answer: Callable) -> None:
    """key, low int [B, n], most float, codebook_size int -> int [B, n]."""
    b, n, k = 1000, 256, 1000
    low = jnp.asarray(np.random.default_rng(9).integers(0, 10, (b, n)), jnp.int32)  # only ten of the codes occur
    for seed, most in enumerate((0.6, 0.2)):
        one, two = (numbers(call(answer, jax.random.key(10 * i + seed), low, most, k), (b, n), "int") for i in (1, 2))
        changed, again = one != np.asarray(low), two != np.asarray(low)
        if not changed.any():
            raise Wrong("Nothing was replaced. It must return the new tokens.")
        _check_codes(one, np.asarray(low), k)
        _check_shares(changed, again, most)
        _check_places(changed, most)
    _check_keys(answer)
    for old in (0, 1):
        low = jnp.full((50, 60), old)
        if (numbers(call(answer, jax.random.key(old), low, 1.0, 2), low.shape, "int") == old).all():
            raise Wrong(f"With a codebook of two codes, 0 and 1, the code {1 - old} is never sampled.")
    compiles(answer, jax.random.key(0), low, jnp.float32(0.5), 50)


def _check_keys(answer: Callable) -> None:
    """Wrong unless randomness comes from the key only, and each use has a key of its own."""
    low = jnp.asarray(np.random.default_rng(1).integers(0, 50, (50, 60)))
    if (numbers(call(answer, jax.random.key(0), low, 0.0, 50), (50, 60), "int") != np.asarray(low)).any():
        raise Wrong("With most = 0 no token may be replaced.")
    one, two, three = (np.asarray(call(answer, jax.random.key(seed), low, 1.0, 50)) for seed in (3, 3, 4))
    if not np.array_equal(one, two):
        raise Wrong("The same key gives different tokens each time. Take all random numbers from `key`.")
    if np.array_equal(one, three):
        raise Wrong("A different key gives the same tokens. Take the random numbers from `key`, not from one of yours.")
    single = jnp.zeros((2000, 1), int)  # with one position, its number and the share of the image would be the same
    share = (numbers(call(answer, jax.random.key(5), single, 0.8, 1000), (2000, 1), "int") != 0).mean()
    if abs(share - 0.4) > 0.06:
        raise Wrong(
            f"With a single position per image and most = 0.8, {share:.0%} of 2,000 tokens are new; it should be 40%. "
            "Are two of the random arrays made with the same key? Then they are not independent: split the key, and "
            "use each part once."
        )


def second_stage(kind: str, seed: int, n: int, low_n: int, k: int, low_k: int) -> Callable:
    """A toy model_fn(tokens, low) with n fine and low_n coarse positions, with or without a fault."""
    rng = np.random.default_rng(seed)
    fine, coarse, said = rng.normal(size=(k + 1, k)), rng.normal(size=(low_k, k)), rng.normal(size=(n, k))
    cover, jitter = np.arange(n) * low_n // n, np.random.default_rng(seed)

    def model_fn(tokens: np.ndarray, low: np.ndarray) -> np.ndarray:
        x, read, hidden = fine[tokens] + said, coarse[low], (tokens == k)[..., None]
        if kind == "local":
            return x + 3 * read[:, cover] * hidden  # a known token does not need the coarse one
        if kind == "whole":
            return x + 0.3 * np.tanh(read).mean(1, keepdims=True)
        if kind == "faint":
            return x + 0.02 * read[:, cover]
        if kind == "first picture":
            return x + read[:1, cover]
        if kind == "turned batch":
            return x + np.roll(read, 1, 0)[:, cover]
        if kind.startswith("all but"):
            left_out = {"first": 0, "second": 1, "last": len(low) - 1}[kind.rpartition(" ")[2]]
            return x + read[:, cover] * (np.arange(len(low)) != left_out)[:, None, None]
        rounding = jitter.uniform(-5e-6, 5e-6, x.shape) if kind == "rounding" else 0
        return x + 0 * read[:, cover] + rounding

    return model_fn


SOUND = ("local", "whole", "faint")
PARTLY = ("all but the first", "all but the second", "all but the last")
FAULTY = {
    "ignored": (
        "A program that never uses its coarse tokens is reported as using them. Compare the logits for two sets of "
        "coarse tokens."
    ),
    "rounding": (
        "A program that ignores its coarse tokens, but whose logits differ by rounding in each call, is reported as "
        "using them. Require a change of more than 0.00001."
    ),
    "first picture": (
        "A program that reads the first image's coarse tokens for the whole batch is reported as using its "
        "condition. Change the coarse tokens of one image at a time, and compare the logits of that image."
    ),
    "turned batch": (
        "A program that reads the coarse tokens of the neighbour in the batch is reported as using its condition. "
        "Compare only the logits of the image whose coarse tokens you changed."
    ),
}


@exercise(points=3)
def uses_condition(answer: Callable) -> None:
    """model_fn(tokens, low), tokens int [B, N], low int [B, n], codebook_size int -> bool."""
    kinds, programs = [], []
    for seed, (b, n, low_n, k, low_k) in enumerate(
        [(3, 16, 4, 6, 20), (2, 12, 6, 9, 7), (4, 36, 9, 4, 30), (1, 24, 8, 7, 12)]
    ):
        rng = np.random.default_rng(seed)
        tokens, low = rng.integers(0, k, (b, n)), rng.integers(0, low_k, (b, low_n))
        tokens[:, n // 2 :] = k  # the second half is hidden
        if seed == 2:
            low[:] = 0
        for kind in (*SOUND, *FAULTY, *PARTLY):
            if b == 1 and kind not in (*SOUND, "ignored", "rounding"):
                continue  # not a fault for a single image
            kinds.append(kind)
            programs.append((second_stage(kind, seed, n, low_n, k, low_k), tokens, low, low_k))
    uses = in_any_order(lambda program: bool(numbers(call(answer, *program), (), "bool")), programs)
    returned = {kind: [got for other, got in zip(kinds, uses) if other == kind] for kind in kinds}
    every = [got for row in returned.values() for got in row]
    if all(every) or not any(every):
        raise Wrong(
            f"It returns {every[0]} for every program. Change coarse tokens, and see whether the logits change."
        )
    if not all(returned["local"]):
        raise Wrong(
            "A program that uses its coarse tokens is reported as ignoring them. Each of its fine tokens reads only "
            "the coarse token over it, and only where it is hidden: change all coarse tokens of an image, each to a "
            "different code (some are 0 already), and compare the logits of all its positions."
        )
    if not all(returned["whole"]) or not all(returned["faint"]):
        raise Wrong(
            "A program whose logits change only by some hundredths is reported as ignoring its condition. It does "
            "not. Compare logits, not the most likely codes, and tolerate only rounding, which is below 0.00001."
        )
    skipped = [kind.rpartition(" ")[2] for kind in PARTLY if any(returned[kind])]
    if skipped and not any(returned["turned batch"]):
        raise Wrong(
            f"A program that ignores the coarse tokens of the {skipped[0]} image of a batch is reported as using its "
            "condition. Every image must pass."
        )
    for kind, paragraph in FAULTY.items():
        if any(returned[kind]):
            raise Wrong(paragraph)


@exercise(points=4)
def near_attention(answer: Callable) -> None:
    """q, k, v float [B, N, D], grid (h, w), window (a, b) -> float [B, N, D], without an array of N x N numbers."""
    cases = []
    for seed, (b, h, w, a, c, d) in enumerate([(1, 2, 4, 2, 2, 3), (2, 4, 6, 2, 3, 5), (3, 6, 2, 3, 1, 4)]):
        q, k, v = np.random.default_rng(seed).normal(size=(3, b, h * w, d)) * [[[[2]]], [[[1]]], [[[1]]]]
        cases.append((*(jnp.asarray(x, jnp.float32) for x in (q, k, v)), (h, w), (a, c)))
    compare(answer, cases, lambda q, k, v, grid, window: near(q, k, v, grid, window), ATTENTION_MISTAKES)
    compiles(answer, *cases[1])
    large = jnp.ones((1, 144, 2))
    made = recorded(answer, large, large, large, (12, 12), (3, 3), static=(3, 4)).largest
    if made > 4 * 144 * 9:
        raise Wrong(
            f"The results are right, but for 144 positions the program makes an array of {made:,} numbers. Within "
            "windows of 9 positions, 144 x 9 scores are enough: reorder q, k and v window by window first."
        )
