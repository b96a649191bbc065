"""Exercises 14: beyond Muse."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from minimuse.teach.asking import Wrong, beside, call, compare, compiled, exercise, numbers, pair
from minimuse.teach.checks import critics, rotations, scalars
from minimuse.teach.checks.formulas import floats
from minimuse.teach.checks.tracing import gradient, random

# --- 1: Halton's points -----------------------------------------------------------------------------------------------


def _digits(i: int, base: int) -> list[int]:
    """The last digit first."""
    return [i % base, *_digits(i // base, base)] if i else []


def _read(digits: list[int], base: int) -> float:
    """Digits behind the point, as a number of `base`."""
    return sum(digit / base ** (k + 1) for k, digit in enumerate(digits))


def _point(i: int, base: int) -> float:
    return _read(_digits(i, base), base)


def _without_zeros(i: int, base: int) -> float:
    while i and i % base == 0:
        i //= base
    return _point(i, base)


@exercise(points=2)
def mirrored(answer: Callable) -> None:
    """i int, base int -> float: the digits of i in the base, mirrored at the point."""
    # By hand: 1/2; 110 in base 2 gives 0.011; 12 in base 3 gives 0.21 = 7/9; 2, 11 in base 16 gives 11/16 + 2/256.
    cases = [(1, 2), (6, 2), (5, 3), (4, 2), (0, 2), (9, 3), (1234, 10), (43, 16), (700, 16), (2, 7), (1000, 2)]
    cases += [(729, 3)]
    cases += [(int(np.random.default_rng(seed).integers(10, 20_000)), base) for seed, base in enumerate((2, 3, 5, 12))]
    compare(
        answer,
        cases,
        _point,
        {
            "The digits are behind the point, but not mirrored. The last digit of i must come first after the point.": (
                lambda i, base: i / base ** len(_digits(i, base))
            ),
            "The digits are mirrored, but before the point: a whole number. The last digit of i must become the first "
            "one after the point, worth 1 / base.": lambda i, base: _point(i, base) * base ** len(_digits(i, base)),
            "The mirrored digits are read as a decimal number. In base 2, the places after the point are worth 1/2, "
            "1/4, 1/8, and not 1/10, 1/100, 1/1000.": lambda i, base: _read(_digits(i, base), 10),
            "These are the digits in base 10, whatever `base` is. Divide by `base`.": lambda i, base: _point(i, 10),
            "These are the digits in base 2, whatever `base` is. Divide by `base`.": lambda i, base: _point(i, 2),
            "Every digit is worth `base` times too much. The first one after the point is worth 1 / base, not 1.": (
                lambda i, base: base * _point(i, base)
            ),
            "Every digit is worth `base` times too little. The first one after the point is worth 1 / base.": (
                lambda i, base: _point(i, base) / base
            ),
            "The first digit of i is lost. Go on until nothing is left of i, not only while it has several digits.": (
                lambda i, base: _read(_digits(i, base)[:-1], base)
            ),
            "Zeros at the end of i are lost. Mirrored they come first after the point, where they count: 100 becomes "
            "0.001.": _without_zeros,
            "In a base above 10, digits such as 11 are cut into 1 and 1, as in a text. Compute with numbers.": (
                lambda i, base: _read([int(c) for c in "".join(map(str, _digits(i, base)[::-1]))[::-1]], base)
            ),
            "That is the point after i.": lambda i, base: _point(i + 1, base),
            "That is the point before i.": lambda i, base: _point(max(i - 1, 0), base),
            "Only the last digit of i counts in your answer.": lambda i, base: i % base / base,
            "All digits are worth 1 / base. Each is worth `base` times less than the one before it.": (
                lambda i, base: sum(_digits(i, base)) / base
            ),
            "The places are worth 1 / base, 1 / (2 base), 1 / (3 base). Each must be worth `base` times less than the "
            "one before it.": lambda i, base: sum(d / base / (k + 1) for k, d in enumerate(_digits(i, base))),
        },
        tolerance=1e-6,
    )


# --- 2: taking tokens back --------------------------------------------------------------------------------------------


def _revealed(known: float, after: float, sigma: float) -> float:
    """Of 1 - known hidden tokens, those that are missing after `sigma` of the known ones are gone."""
    return (after - (known - sigma * known)) / (1 - known)


def _most(known: float, after: float, sigma: float) -> float:
    """With everything revealed, 1 - after of the known ones may go; there may be fewer."""
    return (1 - after) / known if known > 1 - after else 1.0


@exercise(points=2)
def taken_back(answer: Callable) -> None:
    """known, after, sigma floats -> (p of revealing a hidden token, the greatest sigma), floats."""
    # By hand, of 10 tokens: 4 known, 1 of them taken back, 5 afterwards: 2 of 6. 8 known, 9 afterwards: at most 1 of 8.
    cases = [(0.4, 0.5, 0.25), (0.8, 0.9, 0.125), (0.8, 0.9, 0.0), (0.0, 0.25, 0.5), (0.5, 0.5, 0.3), (0.6, 1.0, 0.0)]
    cases += [(0.25, 0.75, 1.0), (0.9, 0.95, 0.02), (0.1, 0.35, 0.6)]
    for seed in range(4):
        one, two, three = np.random.default_rng(seed).uniform(0.05, 0.95, 3)
        known, after = float(one), float(one + two * (1 - one))
        cases.append((known, after, float(three * _most(known, after, 0.0))))
    of = lambda value, part: pair(value.tolist() if hasattr(value, "tolist") else value, "return p, greatest")[part]
    compare(
        answer,
        cases,
        _revealed,
        {
            "That is the plain sampler: it does not replace the tokens that are taken back. Of the known ones, only "
            "(1 - σ) known are left.": lambda k, a, s: (a - k) / (1 - k),
            "That is a share of all tokens. Only hidden ones can be revealed: divide by their share, 1 - known.": (
                lambda k, a, s: a - (1 - s) * k
            ),
            "It is divided by the share of known tokens. The hidden ones are revealed: divide by 1 - known.": (
                lambda k, a, s: (a - (1 - s) * k) / k
            ),
            "It is divided by what is hidden after the step. The tokens that can be revealed are those hidden before "
            "it: 1 - known.": lambda k, a, s: (a - (1 - s) * k) / (1 - a),
            "It is divided by the hidden tokens and those that are taken back. What this step takes back, it does not "
            "reveal again: divide by 1 - known.": lambda k, a, s: (a - (1 - s) * k) / (1 - (1 - s) * k),
            "σ and 1 - σ are exchanged: σ is the share of the known tokens that is hidden again.": (
                lambda k, a, s: (a - s * k) / (1 - k)
            ),
            "σ is taken of all tokens. Only known ones are hidden again: σ known.": lambda k, a, s: (
                (a - k + s) / (1 - k)
            ),
            "The sign of σ is wrong: what is taken back has to be revealed in addition.": (
                lambda k, a, s: (a - (1 + s) * k) / (1 - k)
            ),
            "That only replaces what is taken back. The schedule also asks for more than before: after - known.": (
                lambda k, a, s: s * k / (1 - k)
            ),
            "That is the probability that a hidden token stays hidden, 1 - p.": lambda *case: 1 - _revealed(*case),
            "The order is wrong: first the probability of revealing, then the greatest σ.": _most,
        },
        read=lambda value: of(value, 0),
    )
    compare(
        answer,
        cases,
        _most,
        {
            "p is right. The greatest σ is more than 1 in some cases, but it is a probability: all known tokens can be "
            "taken back, and not more.": lambda k, a, s: (1 - a) / k if k else 1.0,
            "p is right. But not every σ is possible: p may be at most 1. Solve p = 1 for σ.": lambda k, a, s: 1.0,
            "p is right. The greatest σ is a share of the hidden tokens. Known ones are taken back: divide by known.": (
                lambda k, a, s: min(1, (1 - a) / (1 - k))
            ),
            "p is right. The greatest σ is a share of all tokens. It should be one of the known tokens: divide by "
            "known.": lambda k, a, s: 1 - a,
            "p is right. The greatest σ is upside down: known divided by what may be taken back.": (
                lambda k, a, s: min(1, k / (1 - a)) if a < 1 else 1.0
            ),
            "p is right. For the greatest σ, p is 1, so all hidden tokens are revealed. This is the σ for which p is "
            "twice as large as without taking back.": lambda k, a, s: min(1, (a - k) / k) if k else 1.0,
            "p is right. For the second, p was set to 0. σ is greatest where p is 1.": lambda k, a, s: (
                1 - a / k if k else 1.0
            ),
            "p is right. The second is the σ that was given. Return the greatest that is possible.": (
                lambda k, a, s: s
            ),
            "p is right. The second is how much greater σ could be than it is. Return the greatest σ itself.": (
                lambda *case: _most(*case) - case[2]
            ),
            "p is right. Where nothing is known, any σ is possible: the greatest is 1.": (
                lambda *case: _most(*case) if case[0] else 0.0
            ),
        },
        read=lambda value: of(value, 1),
    )


# --- 3: the critic's loss ---------------------------------------------------------------------------------------------


@exercise(points=3)
def critic_loss(answer: Callable) -> None:
    """logits float [B, N], tokens and real int [B, N], hidden bool [B, N] -> float [2]: losses with either label."""
    ids = lambda *values: jnp.array([values])
    hand = jnp.log(3.0) * jnp.array([[-1.0, 1, 1]]), ids(5, 7, 2), ids(5, 7, 9), ids(False, True, True)  # 0.288, 0.654
    cases = [hand, *(critics.filled(seed, *size) for seed, size in enumerate(((1, 3), (3, 5), (4, 16))))]
    program, right = compiled(answer), critics.judged()
    compare(program, cases, right, critics.MISTAKES)
    # The base has filled three places, one of them with the true token; the losses are 0 or 1000.
    sure = 1000.0 * jnp.array([[1.0, 1, -1, 1, -1]]), ids(3, 4, 5, 6, 7), ids(3, 1, 1, 6, 7), ids(1, 1, 1, 0, 0) > 0
    sure = (*(jnp.tile(each, (3, 1)) for each in sure),)  # every further shape costs a compilation
    value = np.asarray(call(program, *sure), float)
    if not np.isfinite(value).all():
        raise Wrong(
            "Logits of 1000 and -1000 give inf or nan: their sigmoid is rounded to 1 or 0, and the logarithm of 0 is "
            "infinite. Compute ln p without p: `jax.nn.log_sigmoid`."
        )
    if value.shape == (2,) and (value < 0.9 * np.array([400, 600])).all():
        raise Wrong(
            f"With logits of 1000 and -1000 and the label `sampled`, two of five places are wrong by 1000, so the loss "
            f"should be 400; yours is {value[0]:.4g}. A small number inside the logarithm, or a limit on the logits, "
            "hides how wrong the critic is."
        )
    compare(program, [sure], right)
    slope = lambda *case: numbers(beside(critics.slope_of, answer, *case), case[0].shape)
    with np.errstate(over="ignore"):
        if not np.isfinite(np.asarray(beside(critics.slope_of, answer, *sure), float)).all():
            raise Wrong("The losses are right, but for logits of 1000 the gradient is nan.")
        compare(slope, [hand, cases[2], sure], critics.slope_by_hand, critics.SLOPE_MISTAKES)


# --- 4: tokens without a codebook -------------------------------------------------------------------------------------


@exercise(points=3)
def fsq_tokens(answer: Callable) -> None:
    """z float [..., C], levels C odd ints -> tokens int [...]."""
    hand = np.array([[0.9, -0.6], [0.0, 0.0], [9.0, 9.0], [-9.0, -9.0], [0.2, -0.6]]), (3, 5)  # 5, 7, 14, 0, 4
    sizes = [((4,), (5,)), ((6,), (5, 3)), ((2, 3), (3, 7, 5)), ((2, 4, 4), (9, 5, 5, 3)), ((), (7, 3, 11))]
    cases = [hand, *(scalars.encodings(seed, *size) for seed, size in enumerate(sizes))]
    compare(answer, cases, scalars.tokens_by_hand, scalars.MISTAKES, kind="int")


# --- 5: the rotation trick --------------------------------------------------------------------------------------------


@exercise(points=4)
def rotated(answer: Callable) -> None:
    """z, code float [..., C] -> code; backward z gets the gradient turned and scaled from the code to z."""
    right = rotations.value_by_hand
    hand = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])  # M = 0 -2 / 2 0
    far = jnp.array([[3.0, 4.0], [-1.0, 2.0], [1.0, 1.0]]), jnp.array([[0.0, 2.5], [-3.0, -1.0], [-2.0, 0.5]])
    near, many = random(4, (3, 2), (3, 2)), random(1, (2, 3, 5), (2, 3, 5))
    cases = [hand, far, (near[0], near[1]), (many[0], many[1])]
    compare(answer, [*cases, tuple(random(0, (1, 3), (1, 3)))], right, rotations.VALUE_MISTAKES, tolerance=1e-3)
    # Every further shape costs a compilation.
    compare(gradient(answer), cases, rotations.slope_by_hand, rotations.SLOPE_MISTAKES, tolerance=1e-3)
    if np.any(numbers(gradient(answer, 1)(*far), (3, 2))):
        raise Wrong(
            "z gets its gradient, but the code gets one as well. The decoder's gradient must not move the codes: stop "
            "it there."
        )
    z = jnp.array([[0.6, 0.8], [3.0, 4.0], [0.0, -0.1]])
    parallel = z, z * jnp.array([[1.0], [0.5], [20.0]])
    if not all(np.isfinite(np.asarray(call(f, *parallel), float)).all() for f in (answer, gradient(answer))):
        raise Wrong(
            "Where z points in the direction of its code, the value or the gradient is nan. There is nothing to rotate "
            "there, and no direction at right angles to z to be found."
        )
    compare(answer, [parallel], right, tolerance=1e-3)
    compare(gradient(answer), [parallel], rotations.slope_by_hand, tolerance=1e-3)
    compare(compiled(answer), [far], right, tolerance=1e-3)


# --- 6: a bound in bits -----------------------------------------------------------------------------------------------


def _bits(
    weigh: Callable = lambda n, count: n / count,
    count: Callable = lambda hidden: hidden,
    base: float = 2.0,
    mean: Callable = np.mean,
) -> Callable:
    """The bound, sample by sample, with a mistake."""

    def bound(log_p: Any, hidden: Any) -> np.ndarray:
        rows = []
        for row, where in zip(floats(log_p), np.asarray(hidden)):
            rows.append(weigh(len(row), where.sum()) * -row[count(where)].sum() / np.log(base))
        return mean(rows)

    return bound


def _samples(seed: int, s: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """log_p of s samples, and what is hidden: any number of places, at least one; the known ones hold other numbers."""
    rng = np.random.default_rng(seed)
    hidden = rng.random((s, n)).argsort(1).argsort(1) < rng.integers(1, n + 1, (s, 1))
    log_p = np.where(hidden, np.log(rng.uniform(0.01, 1, (s, n))), rng.normal(size=(s, n)) - 3)
    return log_p, hidden


@exercise(points=2)
def bits(answer: Callable) -> None:
    """log_p float [S, N], hidden bool [S, N] -> float: the mean of N / n times the bits of the n hidden tokens."""
    half, yes, no = np.log(0.5), True, False
    # 4 / 2 (1 + 2) = 6 and 4 / 1 · 3 = 12 bits: 9.
    hand = half * np.array([[1, 5, 2, 7], [4, 3, 6, 9.0]]), np.array([[yes, no, yes, no], [no, yes, no, no]])
    cases = [hand, *(_samples(seed, s, n) for seed, (s, n) in enumerate([(1, 3), (3, 4), (8, 16), (40, 9), (2, 1)]))]
    right = _bits()
    compare(
        answer,
        cases,
        lambda log_p, hidden: right(log_p, hidden),
        {
            "Those are nats, of the natural logarithm. Divide by ln 2 to get bits.": _bits(base=np.e),
            "That multiplies by ln 2. Divide by it: -log₂ p = -ln p / ln 2.": lambda *case: (
                right(*case) * np.log(2) ** 2
            ),
            "Those are logarithms of base 10.": _bits(base=10),
            "The sign is missing: the cost is minus a logarithm.": lambda *case: -right(*case),
            "The factor N / n is missing: the sum over the hidden tokens stands for only a part of the picture.": (
                _bits(lambda n, count: 1)
            ),
            "That is the mean over the hidden tokens, so a cost per token. Multiply it by N.": (
                _bits(lambda n, count: 1 / count)
            ),
            "The sum is divided by N, the number of all tokens. Multiply it by N, and divide by the number of hidden "
            "ones.": _bits(lambda n, count: 1 / n),
            "The sum is multiplied by N, and not divided by the number of hidden tokens.": _bits(lambda n, count: n),
            "N is taken for the number of samples, the first axis. It is the number of positions, the second.": (
                lambda log_p, hidden: right(log_p, hidden) * len(log_p) / np.shape(log_p)[1]
            ),
            "The factor is upside down: N / n, not n / N.": _bits(lambda n, count: count / n),
            "The known tokens are added up, too. Only hidden ones count.": _bits(count=lambda hidden: hidden | ~hidden),
            "The known tokens are added up. The hidden ones count.": _bits(count=lambda hidden: ~hidden),
            "All hidden tokens of all samples are put together, and divided by their number. Weigh each sample by its "
            "own N / n, then take the mean: otherwise samples with many hidden tokens count for more.": (
                lambda log_p, hidden: -np.shape(log_p)[1] * floats(log_p)[hidden].mean() / np.log(2)
            ),
            "That is the sum over samples. Take the mean.": _bits(mean=np.sum),
            "That is the median of the samples. Only the mean is the bound.": _bits(mean=np.median),
            "That is the smallest of the samples. Only the mean is the bound.": _bits(mean=np.min),
            "It returned a number for each sample. Take their mean.": _bits(mean=np.array),
            "Only the first sample counts in your answer.": _bits(mean=lambda rows: rows[0]),
        },
    )
