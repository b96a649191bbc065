"""Exercises 11: editing."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from minimuse.teach.asking import Wrong, call, compare, compiles, describe, exercise, numbers, pair
from minimuse.teach.checks.masks import BASE_MISTAKES, FINE_MISTAKES, TOUCH_MISTAKES, met, start
from minimuse.teach.checks.tracing import constant_length, recorded


@exercise(points=3)
def tokens_under_mask(answer: Callable) -> None:
    """mask bool [H, W], grid (h, w) -> bool [h, w]: every token with a pixel of the mask in it."""
    sizes = [
        ((2, 2), (2, 1)),
        ((3, 1), (5, 2)),
        ((6, 3), (6, 3)),
        ((5, 2), (6, 3)),
        ((2, 4), (7, 3)),
        ((7, 3), (10, 4)),
    ]
    cases = []
    for (tall, h), (wide, w) in sizes:
        rng, pixels = np.random.default_rng(tall), np.arange(tall * wide).reshape(tall, wide)
        masks = [pixels == i for i in range(tall * wide)] + [pixels < 0, pixels >= 0]
        masks += [rng.random((tall, wide)) < share for share in (0.2, 0.6)]
        cases += [(mask, (h, w)) for mask in masks]
    rng = np.random.default_rng(0)  # 50 / 14 and 44 / 30 are not exact in floating point
    cases += [(rng.random((50, 44)) < 0.004, (14, 30)) for _ in range(12)]
    compare(answer, sorted(cases, key=lambda case: case[0].size), met, TOUCH_MISTAKES, kind="bool")


@exercise(points=3)
def inpainting_start(answer: Callable) -> None:
    """base int [h, w], fine int [k h, k w], hidden bool [h, w], two ids -> their start tokens."""
    cases = []
    for seed, ((h, w), k, low, high) in enumerate(
        [((2, 3), 2, 50, 70), ((2, 2), 3, 9, 9), ((1, 5), 3, 64, 32), ((4, 3), 1, 8, 7), ((3, 3), 4, 5, 1000)]
    ):
        rng = np.random.default_rng(seed)
        base, fine = rng.integers(0, low, (h, w)), rng.integers(0, high, (k * h, k * w))
        hidden = np.arange(h * w).reshape(h, w) % 3 == 1
        cases += [(base, fine, mask, low, high) for mask in ([hidden, ~hidden] if seed == 1 else [hidden])]
    cases += [(*cases[0][:2], np.full((2, 3), everywhere), 50, 70) for everywhere in (False, True)]
    parts: list[tuple[Callable, dict]] = [
        (lambda base, fine, hidden, base_mask, fine_mask: np.where(hidden, base_mask, base), BASE_MISTAKES),
        (lambda base, fine, hidden, base_mask, fine_mask: start(fine, hidden, fine_mask), FINE_MISTAKES),
    ]
    for which, (right, mistakes) in enumerate(parts):
        read: Callable = lambda value, which=which: pair(value, "return base_start, fine_start")[which]
        compare(answer, cases, right, mistakes, kind="int", read=read)


def _resampled(answer: Callable, batch: int, n: int, fraction: float, seed: int) -> tuple[np.ndarray, ...]:
    """The tokens, what `draw` was shown, its proposals, and what was returned; Wrong if `draw` is not used well."""
    tokens, seen = np.arange(batch * n).reshape(batch, n), []

    def draw(key: Any, shown: Any) -> jax.Array:
        if isinstance(shown, Tracer):
            raise Wrong("`draw` is called inside `jax.jit` or `jax.vmap`. Call it on all rows together.")
        seen.append((key, np.array(shown)))
        return jnp.asarray(1_000_000 + np.arange(np.size(shown)).reshape(np.shape(shown)))

    key = jax.random.key(seed)
    got = numbers(call(answer, key, jnp.asarray(tokens), fraction, draw, 77_777), (batch, n), "int")
    if len(seen) != 1:
        raise Wrong(
            f"`draw` was called {len(seen)} times. Call it once: it answers for all rows and positions together."
        )
    own, shown = seen[0][0], numbers(seen[0][1], (batch, n), "int")
    if not (hasattr(own, "dtype") and jnp.issubdtype(own.dtype, jax.dtypes.prng_key) and own.shape == ()):
        raise Wrong(f"`draw` gets {describe(own)} as its first argument; it needs a key of JAX.")
    if (jax.random.key_data(own) == jax.random.key_data(key)).all():
        raise Wrong(
            "`draw` gets the key that you were given. Split it: one key for the positions, another one for `draw`."
        )
    hidden = shown == 77_777
    ranks = np.asarray(jax.random.bits(own, (batch, n))).argsort(1).argsort(1)
    count = hidden.sum(1, keepdims=True)
    if n > 8 and 0 < count.max() < n and any((hidden == (r < count)).all() for r in (ranks, n - 1 - ranks)):
        raise Wrong("The positions are chosen with the key that `draw` gets. Split the key, and use each part once.")
    return tokens, shown, 1_000_000 + np.arange(batch * n).reshape(batch, n), got


def _check_shown(tokens: np.ndarray, shown: np.ndarray, fraction: float, expected: int, again: np.ndarray) -> None:
    """Wrong unless `draw` was shown the tokens with the right number of [MASK] in each row."""
    n, hidden, about = tokens.shape[1], shown == 77_777, f"N = {tokens.shape[1]} and fraction = {fraction}"
    if not hidden.any():
        raise Wrong("`draw` gets no [MASK]. It must sample without seeing what was there.")
    if not (shown == tokens)[~hidden].all():
        raise Wrong("`draw` gets tokens that are not those of the image. Only the chosen positions become mask_id.")
    if hidden.all() and expected < n:
        raise Wrong("`draw` gets nothing but [MASK]. It must see the tokens that stay.")
    counts = hidden.sum(1)
    if (counts == expected).all():
        return
    if (counts == int(fraction * n)).all():
        raise Wrong(f"For {about} you hide {int(fraction * n)} positions. Round to the nearest number: {expected}.")
    if len({*counts.tolist(), *(again == 77_777).sum(1).tolist()}) > 1:
        raise Wrong(
            "The number of hidden positions varies. A coin toss per position, or sampling with replacement, does that. "
            f"For {about} hide exactly {expected}: those with the lowest ranks of random numbers."
        )
    if (counts == n - expected).all():
        raise Wrong("It is inverted: you hide what should stay. Only a fraction of the tokens is sampled again.")
    raise Wrong(f"For {about} you hide {counts[0]} positions of a row. It should be {expected}.")


def _check_merged(tokens: np.ndarray, shown: np.ndarray, drawn: np.ndarray, got: np.ndarray) -> None:
    """Wrong unless the proposals were taken where tokens were hidden, and nowhere else."""
    hidden = shown == 77_777
    if (got == 77_777).any():
        raise Wrong("There is still [MASK] in what it returned. Replace it by the proposals of `draw`.")
    if (got == tokens).all():
        raise Wrong("The tokens come back unchanged: what `draw` proposed is not used.")
    if not hidden.all() and (got >= 1_000_000).all():
        raise Wrong(
            "All tokens are those that `draw` proposed. Take its proposals where you have hidden a token; the others "
            "stay unchanged."
        )
    if not ((got >= 1_000_000) == hidden).all():
        raise Wrong(
            "The positions sampled again are not those that were hidden. Use the same choice of positions twice."
        )
    if not (got == np.where(hidden, drawn, tokens)).all():
        raise Wrong(
            "Tokens are in other places than before. Each proposal belongs to the position that it was made for."
        )


@exercise(points=3)
def resampled_once(answer: Callable) -> None:
    """key, tokens int [B, N], fraction, draw(key, tokens), mask_id -> int [B, N]: a few positions sampled again."""
    for batch, n, fraction, expected in ((3, 64, 0.08, 5), (1, 16, 0.17, 3), (4, 5, 0.01, 1), (2, 12, 1.0, 12)):
        tokens, shown, drawn, got = _resampled(answer, batch, n, fraction, seed=n)
        _check_shown(tokens, shown, fraction, expected, again=_resampled(answer, batch, n, fraction, seed=n + 1)[1])
        _check_merged(tokens, shown, drawn, got)
    many = _resampled(answer, 3000, 4, 0.5, seed=1)[1] == 77_777
    if (many == many[0]).all():
        raise Wrong("Every row samples the same positions again. Use random numbers of shape [B, N].")
    rows = Counter(tuple(np.flatnonzero(row).tolist()) for row in many)
    shares = {both: rows[both] / 3000 for both in combinations(range(4), 2)}
    if max(abs(share - 1 / 6) for share in shares.values()) > 0.04:  # six standard deviations
        raise Wrong(
            "Not all sets of positions are equally likely. Here are the shares of 3,000 rows with N = 4 and a fraction "
            "of 0.5 in which each two of the positions are hidden; each should be near 17%.",
            {f"positions {one}, {two}": f"{share:.0%}" for (one, two), share in shares.items()},
        )
    one, two, three = (_resampled(answer, 3, 64, 0.08, seed)[1] for seed in (3, 3, 4))
    if not (one == two).all():
        raise Wrong("The same key chooses different positions each time. Take all random numbers from `key`.")
    if (one == three).all():
        raise Wrong("A different key chooses the same positions. Take the numbers from `key`, not from one of yours.")
    compiles(answer, jax.random.key(0), jnp.zeros((2, 12), int), 0.25, lambda key, tokens: tokens + 7, 99)


def _most_seen(new: int, grid: int, windows: int) -> int:
    return max(seen for seen in range(grid) if windows * (grid - seen) >= new)


@exercise(points=2)
def most_seen(answer: Callable) -> None:
    """new, grid, windows ints -> int: the greatest number of known columns that every window can see."""
    compare(
        answer,
        [(1, 4, 1), (8, 8, 2), (7, 4, 2), (1, 8, 1), (8, 8, 3), (16, 8, 3), (24, 8, 3), (3, 8, 5), (8, 8, 8)]
        + [(20, 16, 3), (30, 16, 4), (47, 16, 6), (2, 5, 2), (10, 8, 3), (9, 8, 4)],
        _most_seen,
        {
            "That is how many columns a window fills. Return how many it sees.": (
                lambda new, grid, windows: grid - _most_seen(new, grid, windows)
            ),
            "What a window fills is rounded down: then some columns are left over at the end. One window must fill one "
            "more.": lambda new, grid, windows: grid - new // windows,
            "What a window fills is rounded to the nearest number. Round up: columns that are left over must be "
            "filled, too.": lambda new, grid, windows: grid - round(new / windows),
            "One too few: you round up even where the columns divide evenly.": (
                lambda new, grid, windows: grid - new // windows - 1
            ),
            "This is as if the first window filled all its columns. It should see some of the image as well.": (
                lambda new, grid, windows: grid - -(-(new - grid) // max(1, windows - 1))
            ),
            "Every window sees all but one column in your answer. They would not be enough.": (
                lambda new, grid, windows: grid - 1
            ),
        },
        kind="int",
    )


def _mean(values: Iterable[float]) -> float:
    values = [*values]
    return sum(values) / len(values)


def _facts(words: str) -> set:
    return set(words.split())


EDITS = [  # (asked, caption, before, after)
    ("dog", _facts("dog tree blue"), _facts("cat tree blue"), _facts("dog blue")),  # succeeds, keeps 1 of 2
    ("red", _facts("red house"), _facts("house grey"), _facts("house grey bird")),  # fails, keeps 1 of 1
    ("owl", _facts("owl moon star hill"), _facts("moon star hill sun"), _facts("owl moon star hill")),  # 3 of 3
    ("sea", _facts("sea boat gull sand"), _facts("boat"), _facts("sea gull sand")),  # 0 of 1; the others are new
    ("fox", _facts("fox den"), _facts("fox den"), _facts("fox den")),  # what was asked for was there before
    ("ivy", _facts("ivy wall"), _facts("ivy wall"), _facts("wall")),  # and is lost: kept 1 of 1 all the same
]


def _random_edits(seed: int) -> list[tuple]:
    """Edits with one to five facts to keep, of which some are kept."""
    rng, edits = np.random.default_rng(seed), []
    for _ in range(6):
        before = {f"fact {j}" for j in range(rng.integers(1, 6))}
        after = {fact for fact in sorted(before) if rng.random() < 0.6} | {"never true before"}
        after |= {"asked"} if rng.random() < 0.5 else set()
        edits.append(("asked", before | {"asked", "never true before"}, before | {"was to go"}, after))
    return edits


def _scores(edits: list[tuple]) -> tuple[float, float]:
    done, kept, wanted = 0, 0, 0
    for asked, caption, before, after in edits:
        done += asked in after
        for fact in caption:
            if fact in before and fact != asked:
                wanted, kept = wanted + 1, kept + (fact in after)
    return done / len(edits), kept / wanted


def _preserved(keep: Callable, pooled: bool = True) -> Callable:
    """A mistake: preservation over keep(asked, caption, before), pooled or as the mean of the edits' means."""

    def scores(edits: list[tuple]) -> tuple[float, float]:
        kept = [[fact in after for fact in keep(asked, caption, before)] for asked, caption, before, after in edits]
        return _scores(edits)[0], _mean(sum(kept, []) if pooled else map(_mean, kept))

    return scores


SCORE_MISTAKES = {
    "Success looks right. For preservation you take the mean of each edit, and then the mean of those. An edit with "
    "one fact to keep would count as much as one with five: pool all facts.": (
        _preserved(lambda asked, caption, before: before & caption - {asked}, pooled=False)
    ),
    "Success looks right. For preservation you also count what was to go, such as the cat: count only facts of the "
    "caption.": _preserved(lambda asked, caption, before: before - {asked}),
    "Success looks right. For preservation you count all facts that were true before, including what was to go, such "
    "as the cat: count only facts of the caption.": _preserved(lambda asked, caption, before: before),
    "Success looks right. For preservation you also count facts that were not true before: what was never there cannot "
    "be kept.": _preserved(lambda asked, caption, before: caption - {asked}),
    "Success looks right. For preservation you count all facts of the caption, including the requested one. That one "
    "has its own measure.": _preserved(lambda asked, caption, before: caption),
    "Success looks right. For preservation you also count the requested fact where it was true before. That one has "
    "its own measure.": _preserved(lambda asked, caption, before: caption & before),
    "The two are swapped: success first, then preservation.": lambda edits: _scores(edits)[::-1],
    "Shares lie between 0 and 1. Return them as they are, not as percentages.": (
        lambda edits: 100 * np.array(_scores(edits))
    ),
    "Those are the shares that failed and that were lost. Return those that succeeded and that were kept.": (
        lambda edits: 1 - np.array(_scores(edits))
    ),
}


@exercise(points=2)
def edit_scores(answer: Callable) -> None:
    """edits list of (asked, caption, before, after) -> (success, preservation)."""
    cases = [EDITS[:1], EDITS[1:2], EDITS[:2], EDITS[3:4], EDITS[4:5], EDITS[4:], EDITS, *map(_random_edits, range(3))]
    compare(answer, [(edits,) for edits in cases], _scores, SCORE_MISTAKES)


def _states(tokens: Any, once: Callable, iterations: int) -> np.ndarray:
    """All states [T + 1, B, N], the start first; once must not use its key."""
    states = [np.asarray(tokens)]
    for _ in range(iterations):
        states.append(np.asarray(once(None, jnp.asarray(states[-1]))))
    return np.stack(states)


def _picked(which: Callable) -> Callable:
    """A function of best_state's arguments: which(scores [T + 1, B]) -> the state of each row, int [B]."""

    def picked(key: Any, tokens: Any, once: Callable, score: Callable, iterations: int) -> np.ndarray:
        states = _states(tokens, once, iterations)
        at = which(np.stack([np.asarray(score(jnp.asarray(state))) for state in states]))
        rows = states[at, np.arange(len(at))]
        return np.concatenate([rows, at[:, None]], 1)  # tokens and iteration

    return picked


BEST_MISTAKES = {
    "That is the last state. Return the best one of each row.": _picked(lambda s: np.full(s.shape[1], len(s) - 1)),
    "That is the start. Return the best state of each row.": _picked(lambda s: np.zeros(s.shape[1], int)),
    "The start is never returned, even where no iteration is better. It is state 0.": (
        _picked(lambda s: 1 + s[1:].argmax(0) if len(s) > 1 else s.argmax(0))
    ),
    "The state after the last iteration is never returned.": (
        _picked(lambda s: s[:-1].argmax(0) if len(s) > 1 else s.argmax(0))
    ),
    "Those are the worst states. A higher score is better.": _picked(lambda s: s.argmin(0)),
    "Of states with equal scores, you return the last. Return the first: replace the best only if the new score is "
    "higher.": _picked(lambda s: len(s) - 1 - s[::-1].argmax(0)),
    "All rows get the state that is best on average. Each row has a best state of its own.": (
        _picked(lambda s: np.full(s.shape[1], s.mean(1).argmax()))
    ),
    "All rows get the state that is best for the first row. Each row has a best state of its own.": (
        _picked(lambda s: np.full(s.shape[1], s[:, 0].argmax()))
    ),
}


def _joined(value: Any) -> np.ndarray:
    """Tokens and iterations side by side, int [B, N + 1]."""
    tokens, at = pair(value, "return tokens, iteration")
    if np.ndim(tokens) != 2 or np.shape(at) != np.shape(tokens)[:1]:
        raise Wrong(f"It returned shapes {list(np.shape(tokens))} and {list(np.shape(at))}; return [B, N] and [B].")
    tokens, at = numbers(tokens, np.shape(tokens), "int"), numbers(at, np.shape(at), "int")
    return np.concatenate([tokens, at[:, None]], 1)


@exercise(points=3)
def best_state(answer: Callable) -> None:
    """key, tokens int [B, N], once(key, tokens), score(tokens), iterations -> the best tokens, and after which."""
    once, key = (lambda key, tokens: (3 * tokens + 1) % 17), jax.random.key(0)
    near: Callable = lambda tokens: -jnp.abs(tokens.sum(-1) - 20.0)
    parity: Callable = lambda tokens: tokens[:, 0] % 2
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 17, (4, 3)))
    cases = [(key, tokens, once, near, 1), (key, tokens, once, near, 6), (key, tokens, once, parity, 5)]
    cases += [(key, tokens[::-1], once, near, 6), (key, tokens, once, lambda tokens: -tokens[:, 1], 9)]
    try:
        compare(answer, cases, _picked(lambda s: s.argmax(0)), BEST_MISTAKES, kind="int", read=_joined)
    except Wrong as wrong:
        names = dict(yours="yours: tokens, iteration", right="right: tokens, iteration")
        raise Wrong(wrong.args[0], {names.get(name, name): text for name, text in wrong.table.items()}) from None
    _check_iteration_keys(answer)
    compiles(answer, *cases[1])
    programs = [recorded(answer, key, tokens, once, near, n, static=(2, 3, 4)) for n in (3, 30)]
    constant_length(programs, "30 iterations", "Use `jax.lax.scan`, which compiles the iteration once.")


def _check_iteration_keys(answer: Callable) -> None:
    """Wrong unless each iteration has a key of its own, which follows from the given one."""
    shifted: Callable = lambda key, tokens: jnp.concatenate(
        [tokens[:, 1:], jax.random.randint(key, (len(tokens), 1), 1, 10**8)], 1
    )
    filled: Callable = lambda tokens: (tokens > 0).sum(-1)  # rises by 1 in every iteration
    found = []
    for seed in (0, 0, 1):
        value = call(answer, jax.random.key(seed), jnp.zeros((2, 6), int), shifted, filled, 6)
        found.append(_joined(value))
    one, two, three = found
    if len(np.unique(one[0, :6])) < 6:
        raise Wrong("Some iterations get the same key, so they draw the same. Give each iteration a key of its own.")
    if not (one == two).all():
        raise Wrong("The same key gives different results. Make the keys of the iterations from `key` only.")
    if (one == three).all():
        raise Wrong("A different key gives the same results. Make the keys of the iterations from `key`.")
