"""Exercises 09: super-resolution."""

from collections.abc import Callable

import numpy as np

from minimuse.teach.asking import Wrong, call, exercise, numbers, pair, same, unless


@exercise(points=2)
def covering_place(answer: Callable) -> None:
    """fine (H, W), coarse (h, w) -> int [H W], the coarse position that covers each fine one."""
    grids = [(2, 6, 1, 2), (6, 4, 3, 2), (4, 6, 2, 2), (3, 5, 3, 5), (2, 3, 1, 1), (8, 12, 4, 3), (32, 32, 8, 8)]
    for height, width, h, w in grids:
        high, wide, n = height // h, width // w, height * width
        expected = np.full((height, width), -1)
        for position in range(h * w):  # each coarse position in turn
            top, left = position // w * high, position % w * wide
            expected[top : top + high, left : left + wide] = position
        row, column = np.indices((height, width)).reshape(2, n)
        got = numbers(call(answer, (height, width), (h, w)), (n,), "int")
        unless(
            got,
            {
                "This splits the list of positions into equal stretches. But positions are numbered row by row, so "
                "a coarse position covers pieces of several rows.": np.arange(n) // (n // (h * w)),
                "This puts copies of the coarse grid side by side, by a remainder. Divide instead: each coarse "
                "position covers a block.": row % h * w + column % w,
                "Coarse positions are numbered column by column. Number them row by row: row · w + column.": column
                // wide
                * h
                + row // high,
                "The coarse row counts h positions, but a row has w of them: row · w + column.": row // high * h
                + column // wide,
                "Rows and columns are divided by the same number. H / h and W / w may differ.": row // high * w
                + column // high,
                "Positions are numbered from 0, not from 1.": expected.reshape(-1) + 1,
            },
            right=expected.reshape(-1),
        )
        same(got, expected.reshape(-1), f"{height} x {width} fine and {h} x {w} coarse positions")


GRIDS = [
    (6, 8, 3, 2),
    (4, 6, 2, 3),
    (4, 4, 2, 2),
    (6, 4, 3, 1),
    (6, 4, 2, 2),
    (3, 8, 1, 4),
    (8, 8, 4, 4),
    (2, 3, 1, 1),
]


@exercise(points=4)
def multi_axis_masks(answer: Callable) -> None:
    """grid (h, w), window (a, b) -> near and across, bool [N, N]."""
    for h, w, a, b in GRIDS:
        n, p, about = h * w, a * b, f"{h} x {w} positions in windows of {a} x {b}"
        masks = pair(call(answer, (h, w), (a, b)), "return near, across")
        near, across = (numbers(mask, (n, n), "bool") for mask in masks)
        windows = np.arange(n).reshape(h // a, a, w // b, b).swapaxes(1, 2).reshape(n // p, p)  # one window per row
        groups = {"near": windows, "across": windows.T}
        expected = {name: np.zeros((n, n), bool) for name in groups}
        for name, lists in groups.items():
            for positions in lists:
                expected[name][np.ix_(positions, positions)] = True
        number, (row, column) = np.arange(n), np.indices((h, w)).reshape(2, n)
        alike = lambda x: np.equal.outer(x, x)
        both = lambda one, two: np.stack([one, two])
        eye, got, right = np.eye(n, dtype=bool), both(near, across), both(*expected.values())
        unless(
            got,
            {
                "The two masks are swapped: near comes first, across second.": right[::-1],
                "Windows are treated as stretches of the list of positions. But positions are numbered row by row, "
                "so a window holds pieces of several rows.": both(alike(number // p), alike(number % p)),
                "That is a row and a column for every position, as in axial attention. Near is the token's own "
                "window, across is the same position in each window.": both(alike(row), alike(column)),
                "A position does not see itself. It should, in both masks: each head needs the position's own "
                "content.": right & ~eye,
                "Some windows get the same number: a row of windows is counted as if it had h / a of them. It has "
                "w / b.": both(alike(row // a * (h // a) + column // b), right[1]),
                "Some positions inside a window get the same number: a row of a window has b positions, not a.": both(
                    right[0], alike(row % a * a + column % b)
                ),
                "The masks are inverted: True means that a position is seen.": ~right,
                "Your windows are a positions wide and b high. A window is (a, b): a rows of b positions.": both(
                    alike(row // b * n + column // a), alike(row % b * n + column % a)
                ),
            },
            right=right,
        )
        for name, mask, count in (("near", near, p), ("across", across, n // p)):
            if not (seen := mask.sum(1) == count).all():
                bad = int(np.argmin(seen))
                raise Wrong(
                    f"For {about}, in {name} position {bad} sees {mask[bad].sum()} positions, and should see {count}: "
                    + ("as many as a window has." if name == "near" else "one in every window.")
                )
            same(mask, expected[name], f"{about}, the mask {name}")


BEST = {  # the best sides of a window
    (32, 32): 4,
    (64, 64): 8,
    (8, 8): 2,
    (16, 16): 4,
    (9, 9): 3,
    (6, 12): 3,
    (12, 20): 4,
    (30, 42): 6,
    (8, 24): 4,
    (48, 80): 8,
    (5, 7): 1,
}


@exercise(points=2)
def best_window(answer: Callable) -> None:
    """grid (h, w) -> int, the side of the square window with the fewest attended positions."""
    looks = lambda h, w, side: side**2 + h * w / side**2
    for (h, w), best in BEST.items():
        got, grid = int(numbers(call(answer, (h, w)), (), "int")), f"For {h} x {w} positions"
        if got < 1 or h % got or w % got:
            if got == best**2:
                raise Wrong(f"{grid} you return {got}. That is P, the positions of a window. Return its side.")
            if got == looks(h, w, best):
                raise Wrong(f"{grid} you return {got}. That is the number of scores. Return the side of the window.")
            raise Wrong(
                f"{grid} you return {got}, which does not divide both sides of the grid. Try only those that do."
            )
        if got == best**2 and best > 1:
            raise Wrong(f"{grid} you return {got}. That is P, the positions of a window. Return its side.")
        if looks(h, w, got) == looks(h, w, best) and got != best:
            raise Wrong(f"{grid} the sides {got} and {best} cost the same. Take the smaller.")
        if got != best:
            raise Wrong(
                f"{grid} a side of {got} costs {looks(h, w, got):g} scores, but a side of {best} only "
                f"{looks(h, w, best):g}. Count both: P near, and N / P across, where P is the square of the side."
            )


@exercise(points=3)
def spoil_low(answer: Callable) -> None:
    """low int [B, n], most float, codebook_size int, rng numpy Generator -> int [B, n]."""
    b, n, k = 1000, 256, 1000
    for seed, most in enumerate((0.2, 0.6)):
        low = np.random.default_rng(9).integers(0, 10, (b, n))  # only ten of the codes occur
        spoilt, again = (
            numbers(call(answer, low, most, k, np.random.default_rng(10 * i + seed)), (b, n), "int") for i in (1, 2)
        )
        changed, changed_again = spoilt != low, again != low
        if not changed.any():
            raise Wrong("Nothing was replaced. It must return the new tokens.")
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
        if abs(codes.mean() / k - 0.5) > 0.05 or np.unique(codes // 100).size < 10:
            raise Wrong("Some codes come more often than others. Sample them uniformly from all K.")
        shares = changed.mean(1)
        wanted, spread = most / 2, most / 12**0.5
        if abs(shares.mean() - (1 - wanted)) < 0.05 and most < 0.5:
            raise Wrong(f"The share is kept and the rest is replaced: {shares.mean():.0%} of all tokens are new.")
        if shares.std() < 0.6 * spread:
            if abs(shares.mean() - changed_again.mean()) > 0.1 * most:
                raise Wrong("All images of a batch lose the same share. Sample one per image: [B, 1].")
            if abs(shares.mean() - most) < 0.1 * most:
                raise Wrong(
                    f"Every image loses the share `most`, {most:g}. That is the maximum; sample a share between 0 and "
                    "it."
                )
            raise Wrong(
                "Every image loses about the same, half of `most`. Sample one share per image, [B, 1], not one per "
                "position."
            )
        if np.abs(changed.mean(0) - changed.mean()).max() > 0.15 * min(1, 2 * most):
            raise Wrong(
                "Some positions are replaced far more often than others. Choose different ones for every image."
            )
        if abs(shares.mean() - wanted) > 0.1 * most or not 0.85 * spread < shares.std() < 1.25 * spread:
            raise Wrong(
                f"For most = {most:g} the shares have mean {shares.mean():.2f} and standard deviation "
                f"{shares.std():.2f}. Uniform between 0 and {most:g}, they would have mean {wanted:.2f} and standard "
                f"deviation {spread:.2f}."
            )
    for old in (0, 1):
        low = np.full((50, 60), old)
        if (numbers(call(answer, low, 1.0, 2, np.random.default_rng(old)), low.shape, "int") == old).all():
            raise Wrong(f"With a codebook of two codes, 0 and 1, the code {1 - old} is never sampled.")
    low = np.random.default_rng(1).integers(0, 50, (1, 60))
    same(numbers(call(answer, low, 0.0, 50, np.random.default_rng(0)), (1, 60), "int"), low, "most = 0")
    one, two, three = (call(answer, low, 1.0, 50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    if not np.array_equal(one, two):
        raise Wrong("The same rng gives different tokens each time. Take all random numbers from `rng`.")
    if np.array_equal(one, three):
        raise Wrong("A different rng gives the same tokens. Take the random numbers from `rng`, not from a fixed seed.")


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
        if kind == "first half":
            return x + read[:, cover] * (np.arange(len(low)) < (len(low) + 1) // 2)[:, None, None]
        rounding = jitter.uniform(-5e-6, 5e-6, x.shape) if kind == "rounding" else 0
        return x + 0 * read[:, cover] + rounding

    return model_fn


SOUND = ("local", "whole", "faint")
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
    "first half": "A program that uses the coarse tokens of only some images is reported as using them. Every image "
    "must pass.",
}


@exercise(points=3)
def uses_condition(answer: Callable) -> None:
    """model_fn(tokens, low), tokens int [B, N], low int [B, n], codebook_size int -> bool."""
    returned = {}
    for seed, (b, n, low_n, k, low_k) in enumerate(
        [(3, 16, 4, 6, 20), (2, 12, 6, 9, 7), (4, 36, 9, 4, 30), (1, 24, 8, 7, 12)]
    ):
        rng = np.random.default_rng(seed)
        tokens, low = rng.integers(0, k, (b, n)), rng.integers(0, low_k, (b, low_n))
        tokens[:, n // 2 :] = k  # the second half is hidden
        if seed == 2:
            low[:] = 0
        for kind in (*SOUND, *FAULTY):
            if b == 1 and kind in ("first picture", "turned batch", "first half"):
                continue  # not a fault for a single image
            model_fn = second_stage(kind, seed, n, low_n, k, low_k)
            got = numbers(call(answer, model_fn, tokens, low, low_k), (), "bool")
            returned.setdefault(kind, []).append(bool(got))
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
    if any(returned["first half"]) and not any(returned["turned batch"]):
        raise Wrong(FAULTY["first half"])
    for kind, paragraph in FAULTY.items():
        if any(returned[kind]):
            raise Wrong(paragraph)
