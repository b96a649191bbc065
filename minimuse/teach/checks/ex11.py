"""Exercises 11: editing."""

from collections.abc import Callable, Iterable

import numpy as np

from minimuse.teach.asking import Wrong, call, exercise, numbers, pair, same, unless

MEETS = {  # (pixels, tokens): which tokens each pixel touches, by hand
    (6, 3): ["0", "0", "1", "1", "2", "2"],
    (5, 2): ["0", "0", "01", "1", "1"],
    (7, 3): ["0", "0", "01", "1", "12", "2", "2"],
    (10, 4): ["0", "0", "01", "1", "1", "2", "2", "23", "3", "3"],
    (2, 4): ["01", "23"],
    (3, 1): ["0", "0", "0"],
}


@exercise(points=3)
def tokens_under_mask(answer: Callable) -> None:
    """mask bool [H, W], grid (h, w) -> bool [h, w]: every token with a pixel of the mask in it."""
    for rows, columns in (((6, 3), (6, 3)), ((5, 2), (6, 3)), ((7, 3), (10, 4)), ((3, 1), (5, 2)), ((2, 4), (7, 3))):
        (tall, h), (wide, w) = rows, columns
        about = f"a mask of {tall} x {wide} pixels and a grid of {h} x {w} tokens"
        rng = np.random.default_rng(tall)
        single = [np.arange(tall * wide).reshape(tall, wide) == i for i in range(tall * wide)]
        for mask in (
            *single,
            np.ones((tall, wide), bool),
            np.zeros((tall, wide), bool),
            rng.random((tall, wide)) < 0.2,
        ):
            expected = np.zeros((h, w), bool)
            for y, x in np.argwhere(mask):
                for row in MEETS[rows][y]:
                    for column in MEETS[columns][x]:
                        expected[int(row), int(column)] = True
            got = numbers(call(answer, mask, (h, w)), (h, w), "bool")
            if mask.sum() == 1 and not (got == expected).all():
                pixel = tuple(np.argwhere(mask)[0].tolist())
                if not got.any():
                    raise Wrong(
                        f"For {about} the pixel at {list(pixel)} touches no token in your answer. One pixel is "
                        "enough: the mask need not cover most of a token, or its middle."
                    )
                if (~got == expected).all():
                    raise Wrong("It is inverted: True marks the tokens that are touched, and sampled again.")
                if (got <= expected).all():
                    raise Wrong(
                        f"For {about} the pixel at {list(pixel)} touches {expected.sum()} tokens; you return "
                        f"{got.sum()}. A pixel on the border of two tokens touches both: round down for the first, up "
                        "for the last."
                    )
                if (got >= expected).all():
                    raise Wrong(
                        f"For {about} the pixel at {list(pixel)} touches {expected.sum()} of the tokens; you return "
                        f"{got.sum()}, more than it touches. Where a pixel ends exactly at the border of two tokens, "
                        "it does not touch the second."
                    )
            if (got >= expected).all() and (got > expected).any() and mask.any():
                raise Wrong(
                    f"For {about} you also return tokens without a pixel of the mask in them. A mask may have several "
                    "pieces: what is between them stays."
                )
            same(got, expected, f"{about}, {mask.sum()} pixels in the mask")


@exercise(points=3)
def inpainting_start(answer: Callable) -> None:
    """base int [h, w], fine int [k h, k w], hidden bool [h, w], two ids -> their start tokens."""
    for (h, w), k, base_mask, fine_mask in (
        ((3, 4), 2, 50, 70),
        ((2, 2), 4, 9, 9),
        ((1, 5), 3, 64, 32),
        ((4, 3), 1, 8, 7),
    ):
        rng = np.random.default_rng(h * w)
        base, fine = rng.integers(0, base_mask, (h, w)), rng.integers(0, fine_mask, (k * h, k * w))
        hidden = np.arange(h * w).reshape(h, w) % 3 == 1
        got = pair(call(answer, base, fine, hidden, base_mask, fine_mask), "return base_start, fine_start")
        low, high = numbers(got[0], (h, w), "int"), numbers(got[1], (k * h, k * w), "int")
        about = f"a grid of {h} x {w} and k = {k}, "
        if (low == np.where(hidden, base, base_mask)).all():
            raise Wrong("The mask is inverted: hidden tokens stay, and the others become [MASK].")
        unless(
            low,
            {
                "The two [MASK] ids are mixed up: the base got the one of the fine stage.": np.where(
                    hidden, fine_mask, base
                )
            },
            right=np.where(hidden, base_mask, base),
        )
        same(low, np.where(hidden, base_mask, base), about + "start tokens of the base")
        expected = fine.copy()
        for y, x in np.argwhere(hidden):
            expected[k * y : k * y + k, k * x : k * x + k] = fine_mask
        first = fine.copy()
        first[tuple(k * np.argwhere(hidden).T)] = fine_mask
        unless(
            high,
            {
                "The fine tokens are all as they were. The image comes from them, so nothing would change: those "
                "under a hidden base token must be sampled again with it.": fine,
                "All fine tokens are [MASK], even those that should stay.": np.full_like(fine, fine_mask),
                "The fine mask is made of whole copies of the base mask, side by side. Every position of the base "
                "mask must become a square of k x k.": np.where(np.tile(hidden, (k, k)), fine_mask, fine),
                "Of the k x k fine tokens under a hidden base token only the first one is [MASK].": first,
                "The fine stage got the base's [MASK] id: it has a codebook, and so a [MASK], of its own.": np.where(
                    expected != fine, base_mask, fine
                ),
                "The fine mask is inverted: what a hidden base token covers stays.": np.where(
                    expected != fine, fine, fine_mask
                ),
            },
            right=expected,
        )
        same(high, expected, about + "start tokens of the fine stage")


@exercise(points=3)
def resampled_once(answer: Callable) -> None:
    """tokens int [B, N], fraction, draw, mask_id, rng -> int [B, N]: a few positions of each row are sampled again."""

    def run(batch: int, n: int, fraction: float, seed: int) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        tokens, seen = np.arange(batch * n).reshape(batch, n), []

        def draw(shown: np.ndarray) -> np.ndarray:
            seen.append(np.array(shown))
            return 1_000_000 + np.arange(np.size(shown)).reshape(np.shape(shown))

        got = numbers(call(answer, tokens, fraction, draw, 77_777, np.random.default_rng(seed)), (batch, n), "int")
        return tokens, seen, got

    for batch, n, fraction, expected in ((3, 64, 0.08, 5), (1, 16, 0.17, 3), (4, 5, 0.01, 1), (2, 12, 1.0, 12)):
        tokens, seen, got = run(batch, n, fraction, seed=n)
        if len(seen) != 1:
            raise Wrong(
                f"`draw` was called {len(seen)} times. Call it once: it answers for all rows and positions together."
            )
        shown, about = numbers(seen[0], (batch, n), "int"), f"N = {n} and fraction = {fraction}"
        hidden = shown == 77_777
        if not hidden.any():
            raise Wrong("`draw` gets no [MASK]. It must sample without seeing what was there.")
        if not (shown == tokens)[~hidden].all():
            raise Wrong("`draw` gets tokens that are not those of the image. Only the chosen positions become mask_id.")
        if hidden.all() and expected < n:
            raise Wrong("`draw` gets nothing but [MASK]. It must see the tokens that stay.")
        counts, again = hidden.sum(1), (run(batch, n, fraction, seed=n + 1)[1][0] == 77_777).sum(1)
        if (counts != expected).any():
            if (counts == int(fraction * n)).all():
                raise Wrong(
                    f"For {about} you hide {int(fraction * n)} positions. Round to the nearest number: {expected}."
                )
            if len({*counts.tolist(), *again.tolist()}) > 1:
                raise Wrong(
                    "The number of hidden positions varies. A coin toss per position, or sampling with replacement, "
                    f"does that. For {about} hide exactly {expected}: those with the lowest ranks of random numbers."
                )
            if (counts == n - expected).all():
                raise Wrong(
                    "It is inverted: you hide what should stay. Only a fraction of the tokens is sampled again."
                )
        same(counts, np.full(batch, expected), f"{about}, the hidden positions of each row")
        if (got == 77_777).any():
            raise Wrong("There is still [MASK] in what it returned. Replace it by the proposals of `draw`.")
        if (got == tokens).all():
            raise Wrong("The tokens come back unchanged: what `draw` proposed is not used.")
        if expected < n and (got >= 1_000_000).all():
            raise Wrong(
                "All tokens are those that `draw` proposed. Take its proposals where you have hidden a token; the "
                "others stay unchanged."
            )
        if not ((got >= 1_000_000) == hidden).all():
            raise Wrong(
                "The positions sampled again are not those that were hidden. Use the same choice of positions twice."
            )
        drawn = 1_000_000 + np.arange(batch * n).reshape(batch, n)
        same(got, np.where(hidden, drawn, tokens), f"{about}, the final tokens")
    many = run(2000, 10, 0.3, seed=1)[2] >= 1_000_000
    if (many == many[0]).all():
        raise Wrong("Every row samples the same positions again. Use random numbers of shape [B, N].")
    if np.abs(many.mean(0) - 0.3).max() > 0.07:
        raise Wrong(
            f"Over 2,000 rows with a fraction of 0.3, the positions are chosen in {many.mean(0).min():.0%} to "
            f"{many.mean(0).max():.0%} of the rows. Every position must have the same chance."
        )
    one, two, three = (run(1, 64, 0.25, seed)[2] for seed in (3, 3, 4))
    if not (one == two).all():
        raise Wrong("The same rng chooses different positions each time. Take all random numbers from `rng`.")
    if (one == three).all():
        raise Wrong("A different rng chooses the same positions. Take the numbers from `rng`, not from a fixed seed.")


SEEN = {  # (new, grid, windows): the most that every window can see
    (8, 8, 2): 4,
    (8, 8, 3): 5,
    (16, 8, 3): 2,
    (20, 16, 3): 9,
    (1, 8, 1): 7,
    (24, 8, 3): 0,
    (8, 8, 8): 7,
    (7, 4, 2): 0,
    (30, 16, 4): 8,
}


@exercise(points=2)
def most_seen(answer: Callable) -> None:
    """new, grid, windows ints -> int: the greatest number of known columns that every window can see."""
    for (new, grid, windows), expected in SEEN.items():
        got = numbers(call(answer, new, grid, windows), (), "int")
        about = f"{new} new columns, a grid of {grid} and {windows} windows"
        share = new // windows
        unless(
            got,
            {
                f"For {about} you return {got}: that is how many columns a window fills. Return how many it sees, "
                f"out of {grid}.": grid - expected,
                f"For {about} you round down what a window fills, to {share} columns: then {new - share * windows} "
                "are left over at the end. One window must fill one more.": grid - share,
                f"For {about} you return {got}, as if the first window filled all its columns. It should see some "
                "of the image as well.": grid - -(-(new - grid) // max(1, windows - 1)),
            },
            right=expected,
        )
        if got > expected:
            raise Wrong(
                f"For {about}, {got} is too much: each window then fills at most {max(0, grid - got)} of the new "
                "columns, which is not enough."
            )
        if got < expected:
            raise Wrong(f"For {about}, {got} is possible, but every window could see more.")


def facts(words: str) -> set:
    """A set of facts, one per word."""
    return set(words.split())


EDITS = [  # (asked, caption, before, after)
    ("dog", facts("dog tree blue"), facts("cat tree blue"), facts("dog blue")),  # succeeds, keeps 1 of 2
    ("red", facts("red house"), facts("house grey"), facts("house grey bird")),  # fails, keeps 1 of 1
    ("owl", facts("owl moon star hill"), facts("moon star hill sun"), facts("owl moon star hill")),  # 3 of 3
    ("sea", facts("sea boat gull sand"), facts("boat"), facts("sea gull sand")),  # 0 of 1; the other facts are new
]


@exercise(points=2)
def edit_scores(answer: Callable) -> None:
    """edits list of (asked, caption, before, after) -> (success, preservation)."""
    cases = [(EDITS, (3 / 4, 5 / 7)), (EDITS[:2], (1 / 2, 2 / 3)), (EDITS[2:3], (1, 1)), (EDITS[3:], (1, 0))]
    for seed in (0, 1):  # random edits: `wanted` facts to keep, of which `kept` are kept
        rng, edits, done, counts = np.random.default_rng(seed), [], 0, np.zeros(2, int)
        for _ in range(6):
            wanted, success = int(rng.integers(1, 6)), bool(rng.integers(2))
            kept = int(rng.integers(0, wanted + 1))
            before = {f"fact {j}" for j in range(wanted)}
            caption = before | {"asked", "never true before"}
            after = {f"fact {j}" for j in range(kept)} | ({"asked"} if success else set()) | {"never true before"}
            edits.append(("asked", caption, before | {"was to go"}, after))
            done, counts = done + success, counts + (kept, wanted)
        cases.append((edits, (done / 6, counts[0] / counts[1])))
    for edits, (success, preservation) in cases:
        got = numbers(call(answer, edits), (2,))
        if 1 < max(got) <= 100:
            raise Wrong("Shares lie between 0 and 1. Return them as they are, not as percentages.")
        unless(
            got,
            {
                "The two are swapped: success first, then preservation.": (preservation, success),
                "Success looks right. For preservation you take the mean of each edit, and then the mean of "
                "those. An edit with one fact to keep would count as much as one with five: pool all facts.": (
                    success,
                    _mean(
                        _mean(f in after for f in before & caption - {asked}) for asked, caption, before, after in edits
                    ),
                ),
                "Success looks right. For preservation you also count what was to go, such as the cat: count only "
                "facts of the caption.": (success, _mean(f in after for _, _, before, after in edits for f in before)),
                "Success looks right. For preservation you also count facts that were not true before: what was never "
                "there cannot be kept.": (
                    success,
                    _mean(f in after for asked, caption, _, after in edits for f in caption - {asked}),
                ),
                "Success looks right. For preservation you count all facts of the caption, including the "
                "requested one. That one has its own measure.": (
                    success,
                    _mean(f in after for _, caption, _, after in edits for f in caption),
                ),
            },
            right=(success, preservation),
        )
        same(got, (success, preservation), f"{len(edits)} edits")


def _mean(values: Iterable[float]) -> float:
    values = [*values]
    return sum(values) / len(values)
