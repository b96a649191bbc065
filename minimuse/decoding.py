"""Parallel decoding (paper section 2.8) and guidance (section 2.7).

`parallel_decode` knows nothing of text or weights: it is given `logits_fn(tokens, t)` and calls it once per step. Every
image has its own key, so it comes out the same in any batch. `sample_tokens` gives it a transformer.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from minimuse.beyond.critic import TokenCritic
from minimuse.config import Sampling
from minimuse.files import as_given
from minimuse.masking import LAWS, decode_schedule, revise_schedule
from minimuse.transformer import BaseTransformer

ORDERS = ("confidence", "halton", "random", "raster")  # in which positions are revealed
MOST = 1e6  # guidance and temperatures; logits must stay finite in float32
CACHED_TOKENS = 2**11  # image tokens in one batch on a CPU; with more, a layer's results no longer fit its cache

# --- checking what is given -------------------------------------------------------------------------------------------


def is_whole(value: Any) -> bool:
    """Whether this is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from low to high, or a ValueError."""
    if not is_whole(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}; it was {as_given(value)}.")
    return int(value)


def number(name: str, value: Any) -> float:
    """`value` as a float, or a ValueError."""
    try:
        return float("" if isinstance(value, (str, bytes)) else value)  # it would parse them
    except Exception:  # what is not a number may raise anything
        raise ValueError(f"{name} must be a number; it was {as_given(value)}.") from None


def scale(name: str, value: Any) -> float:
    """A guidance scale or temperature as a float, or a ValueError."""
    value = number(name, value)
    if not 0 <= value <= MOST:  # false for nan, too
        raise ValueError(f"{name} must be a finite number from 0 to {MOST:g}; it was {value}.")
    if name == "token_temperature" and value < 1 / MOST:
        raise ValueError(
            f"token_temperature divides the logits and cannot be 0; a small one, 0.01, does the same. It was {value:g}."
        )
    return value


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """`value` if it is one of the known names, or a ValueError."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"There is no {name} {as_given(value)}; there are {', '.join(known)}.")
    return value


def check_sampling(sampling: Sampling, tokens: int, codes: int) -> Sampling:
    """The record for a grid of N = `tokens` and K = `codes`, numbers as floats and `guided` set, or a ValueError."""
    guidance, steps = scale("guidance", sampling.guidance), whole_number("steps", sampling.steps, 1, tokens)
    begin, end = number("guided_from", sampling.guided_from), number("guided_to", sampling.guided_to)
    if not 0 <= begin < end <= 1:
        raise ValueError(
            "guided_from and guided_to are shares of the steps, from 0 to 1, the first below the second; they were "
            f"{begin:g} and {end:g}."
        )
    order, revise = one_of("order", sampling.order, ORDERS), whole_number("revise", sampling.revise, 0, steps - 1)
    if sampling.critic and (steps == 1 or (order != "confidence" and not revise)):
        raise ValueError(
            "critic=True chooses the tokens that revise hides again, and in the order confidence those of every step; "
            f"with order {order!r}, steps {steps} and revise {revise} it does nothing. Set revise, or critic=False."
        )
    return Sampling(
        steps=steps,
        guidance=guidance,
        ramp=bool(sampling.ramp),
        temperature=scale("temperature", sampling.temperature),
        token_temperature=scale("token_temperature", sampling.token_temperature),
        top_k=whole_number("top_k", sampling.top_k, 0, codes),
        law=one_of("law", sampling.law, tuple(LAWS)),
        order=order,
        guided_from=begin,
        guided_to=end,
        revise=revise,
        critic=bool(sampling.critic),
        guided=guidance > 0,
    )


# --- parallel decoding ------------------------------------------------------------------------------------------------


class Trace(NamedTuple):
    """What happened at each step, for looking at; the first axis is the step."""

    tokens: jax.Array  # int [steps, B, N], the sampled tokens, those of hidden positions included
    confidence: jax.Array  # float [steps, B, N], probability of the sampled token; 1 where it was known
    hidden: jax.Array  # bool [steps, B, N], hidden after the step: still, or again for a revising pass


def guide(conditional: jax.Array, unconditional: jax.Array, t: jax.Array) -> jax.Array:
    """Equation 1: (1 + t) l_c - t l_u."""
    return (1 + t) * conditional - t * unconditional


@jax.jit  # one program; operation by operation, a fresh process compiles several
def other_keys(keys: jax.Array, number: int | jax.Array) -> jax.Array:
    """Random keys [B] for another use than `keys` [B]: each folded with the same number, from 0 to 2^32 - 1."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, jnp.asarray(number).astype(jnp.uint32))


def both_halves(conditional: Any, unconditional: Any) -> Any:
    """Two trees of arrays [B, ...] as one of [2 B, ...]: one batch for the two answers that `guide` combines."""
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), conditional, unconditional)


def guided_predict(predict: Callable, guided: bool, *, has_aux: bool = False) -> Callable:
    """Classifier-free guidance around a model: (x, t) -> `guide`d answers for x [B, ...].

    predict   x -> answers, on [B, ...] without guidance, else on the two halves [2 B, ...], the conditional one first
    has_aux   predict returns (answers, aux), and so does what is returned; aux is that of both halves
    """
    if not guided:
        return lambda x, t: predict(x)

    def both(x: jax.Array, t: jax.Array) -> Any:
        found = predict(both_halves(x, x))
        answers, aux = found if has_aux else (found, None)
        conditional, unconditional = jnp.split(answers, 2)
        answers = guide(conditional, unconditional, t)
        return (answers, aux) if has_aux else answers

    return both


def guided_steps(sampling: Sampling) -> range:
    """The steps, counted from 0, that the guidance interval covers, wholly or in part: at least one."""
    begin, end = (round(share * sampling.steps, 6) for share in (sampling.guided_from, sampling.guided_to))
    first = min(math.floor(begin), sampling.steps - 1)
    return range(first, max(first + 1, math.ceil(end)))


def keep_most_likely(logits: jax.Array, top_k: int) -> jax.Array:
    """Logits [..., K] with all but the top_k greatest at minus infinity; ties with the last of them stay, too."""
    return jnp.where(logits < jax.lax.top_k(logits, top_k)[0][..., -1:], -jnp.inf, logits)


def draw_tokens(
    keys: jax.Array, logits: jax.Array, temperature: float | jax.Array = 1.0, top_k: int = 0
) -> tuple[jax.Array, jax.Array]:
    """One token per position: keys [B], logits [B, N, K] -> tokens int [B, N], and softmax(logits) of each, [B, N].

    temperature   1 samples from softmax(logits); less prefers the more likely tokens
    top_k         sample from the k most likely tokens (0 = all)

    Both change what is sampled, not the probability that the model gives it. By inverse CDF: one random number per
    token instead of one per code, three times as fast on a CPU.
    """
    p = jax.nn.softmax(logits.astype(jnp.float32))
    changed = keep_most_likely(logits, top_k) if top_k else logits
    cdf = jnp.cumsum(jax.nn.softmax(changed.astype(jnp.float32) / temperature), -1)
    u = jax.vmap(lambda key: jax.random.uniform(key, (logits.shape[1], 1), jnp.float32))(keys)
    # Scaled by the last entry, which rounding leaves a little off 1: no u can then pass the end.
    tokens = jnp.minimum(jnp.sum(cdf <= u * cdf[..., -1:], -1, dtype=jnp.int32), logits.shape[-1] - 1)
    return tokens, jnp.take_along_axis(p, tokens[..., None], -1)[..., 0]


def halton_ranks(h: int, w: int) -> np.ndarray:
    """The Halton order of h x w positions (arXiv 2503.17076): int [h w], the turn at which each is revealed.

    Point i of the sequence has i's digits in base 2, mirrored at the point, as its x, and those in base 3 as its y.
    Every stretch of the sequence is spread evenly, so positions that are revealed together lie far from each other. A
    position's turn is that of its first point.
    """

    def mirrored(i: int, base: int) -> float:
        value, unit = 0.0, 1.0
        while i:
            i, digit = divmod(i, base)
            unit /= base
            value += digit * unit
        return value

    turns, i = {}, 0
    while len(turns) < h * w:
        i += 1
        turns.setdefault(int(mirrored(i, 3) * h) * w + int(mirrored(i, 2) * w), len(turns))
    return np.array([turns[position] for position in range(h * w)])


def order_ranks(order: str, grid: tuple[int, int], keys: jax.Array) -> jax.Array | None:
    """`ranks` for parallel_decode: int [N] for halton and raster (row by row), [B, N] for random (one order per key),
    None for confidence."""
    h, w = grid
    if order == "raster":
        return jnp.arange(h * w)
    if order == "halton":
        return jnp.asarray(halton_ranks(h, w))
    if order == "random":  # steps fold in 0 to N - 1, so N is free
        return jax.vmap(lambda key: jax.random.permutation(jax.random.fold_in(key, h * w), h * w))(keys)
    if order != "confidence":
        raise ValueError(f"There is no order {as_given(order)}; there are {', '.join(ORDERS)}.")
    return None


def hide_least_confident(confidence: jax.Array, count: jax.Array) -> jax.Array:
    """bool [B, N], True at the `count` ([] or [B, 1]) least confident positions of each row of [B, N]."""
    rank = jnp.argsort(jnp.argsort(confidence, -1), -1)
    return rank < count


def parallel_decode(
    logits_fn: Callable,
    tokens: jax.Array,
    keys: jax.Array,
    sampling: Sampling,
    *,
    mask_id: int,
    ranks: jax.Array | None = None,
    judge: Callable | None = None,
    trace: bool = False,
) -> tuple[jax.Array, Trace | None]:
    """Fill the positions of tokens int [B, N] that hold mask_id, in sampling.steps steps; the others stay as they are.

    logits_fn    (tokens [B, N], t) -> logits [B, N, K], t the guidance scale of this step, or None where the
                 guidance interval leaves out the unguided half
    keys         [B], one random key per image
    sampling     guidance: t rises linearly (ramp) to this at the last step, or is this at every step
                 temperature: of the Gumbel noise on log confidence; step s of T has temperature (1 - (s + 1) / T), so
                 the last choices are the most confident
                 token_temperature, top_k: see `draw_tokens`
                 guided_from, guided_to: the interval of guided steps, see `guided_steps`
                 law, steps - revise: the decode schedule, see masking.decode_schedule
                 revise: the last steps, see below
    ranks        int [N] or [B, N]: reveal positions in this order, the least first, whatever their confidence
    judge        tokens [B, N], none of them hidden -> sureness [B, N], logarithms of probabilities; see below

    A step samples a token for every hidden position, then hides those of least (noisy) confidence again, as many as the
    schedule says. Rows may have different numbers of known tokens: the schedule is scaled to each row, and each step
    reveals at least one position. A row with fewer hidden positions than steps is therefore finished early. (MaskGIT
    clamps in the same way, but keeps the last position for the last step.)

    With `revise`, the schedule ends that many steps earlier. Then positions that were filled are hidden again, those
    whose tokens had the lowest probability when they were sampled, and the next step samples them given all others; so
    in every revising step, as many as masking.revise_schedule says, scaled to the row and rounded up.

    With `judge`, revising hides the tokens with the least of its sureness. Without `ranks` so does every other step,
    with the same noise, and tokens of earlier steps may be hidden again (Token-Critic). It is called once for each of
    these choices: sampling.revise times with ranks, else after every step except the last.
    """
    given = tokens != mask_id
    step = decode_step(logits_fn, given, keys, sampling, mask_id=mask_id, ranks=ranks, judge=judge, trace=trace)
    # One scan for each stretch of steps of one kind: what a kind leaves out is not computed.
    carry, records = (tokens, jnp.ones(tokens.shape, jnp.float32)), []
    kinds = functools.partial(kind_of, sampling, ranked=ranks is not None, judged=judge is not None)
    for kind, stretch in itertools.groupby(range(sampling.steps), kinds):
        carry, record = jax.lax.scan(functools.partial(step, kind=kind), carry, jnp.asarray([*stretch], jnp.int32))
        records.append(record)
    return carry[0], jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)


def kind_of(sampling: Sampling, s: int, *, ranked: bool, judged: bool) -> tuple[bool, bool, bool]:
    """Of step s, counted from 0: in the guidance interval; filled: nothing is hidden after it, except what is to be
    revised; by a judge. ranked and judged: whether there are `ranks` and a `judge`."""
    filled = sampling.revise > 0 and s >= sampling.steps - sampling.revise - 1
    return s in guided_steps(sampling), filled, judged and s < sampling.steps - 1 and (not ranked or filled)


def decode_step(
    logits_fn: Callable,
    given: jax.Array,
    keys: jax.Array,
    sampling: Sampling,
    *,
    mask_id: int,
    ranks: jax.Array | None = None,
    judge: Callable | None = None,
    trace: bool = False,
) -> Callable:
    """One step of `parallel_decode`, step(carry, s, kind=...) -> carry, record: `kind` of `kind_of`, carry the tokens
    int [B, N] and how sure each was; given: bool [B, N], what was known before the first step."""
    n, scheduled = given.shape[1], sampling.steps - sampling.revise
    hide = jnp.asarray([*decode_schedule(scheduled, n, sampling.law)[:-1], *revise_schedule(sampling.revise, n), 0])
    to_fill = jnp.sum(~given, -1, keepdims=True)

    def step(carry: tuple, s: jax.Array, *, kind: tuple[bool, bool, bool]) -> tuple[tuple, Trace | None]:
        (tokens, sureness), (guided, filled, judged) = carry, kind
        ratio = jnp.minimum((s + 1) / jnp.float32(scheduled), 1.0)
        known = tokens != mask_id
        step_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, s)))(keys)
        t = sampling.guidance * jnp.where(sampling.ramp, ratio, 1.0) if guided else None
        logits = logits_fn(tokens, t)
        sampled, probability = draw_tokens(step_keys[:, 0], logits, sampling.token_temperature, sampling.top_k)
        sampled, sureness = jnp.where(known, tokens, sampled), jnp.where(known, sureness, probability)
        judgement = judge(sampled) if judge and judged else None
        if filled:
            score = sureness if judgement is None else judgement
        elif ranks is None:
            noise = jax.vmap(lambda key: jax.random.gumbel(key, (n,), jnp.float32))(step_keys[:, 1])
            score = jnp.log(jnp.maximum(probability, 1e-30)) if judgement is None else judgement
            score = score + sampling.temperature * (1 - ratio) * noise
        else:
            score = -ranks
        score = jnp.where(given if filled or judged else known, jnp.inf, score)
        if filled:
            count = -(-hide[s] * to_fill // n)
        else:
            hidden_before = jnp.sum(~known, -1, keepdims=True)
            count = jnp.minimum(hide[s] * to_fill // n, jnp.maximum(hidden_before - 1, 0))
        hidden = hide_least_confident(score, count)
        record = Trace(sampled, jnp.where(known, 1.0, probability), hidden) if trace else None
        return (jnp.where(hidden, mask_id, sampled), sureness), record

    return step


# --- with a transformer -----------------------------------------------------------------------------------------------


class Prompts(NamedTuple):
    """What a batch of images is sampled from. Text is (embeddings [B, S, text_width], mask bool [B, S])."""

    text: tuple[jax.Array, jax.Array]
    negative: tuple[jax.Array, jax.Array]  # takes the unconditional half's place; its mask is all False without one
    keys: jax.Array  # [B], one random key per image


@functools.partial(jax.jit, static_argnames="trace")
def sample_tokens(
    model: BaseTransformer,
    sampling: Sampling,
    prompts: Prompts,
    low: jax.Array | None = None,
    start: jax.Array | None = None,
    *,
    critic: TokenCritic | None = None,
    trace: bool = False,
) -> tuple[jax.Array, Trace | None]:
    """Sample the tokens of one stage: the whole of parallel decoding with guidance as one program.

    sampling   a record from `check_sampling`; only its static fields compile again
    low        int [B, n], the low-resolution tokens for the super-resolution stage; None for the base
    start      int [B, N], to be filled where it holds the transformer's mask_id; None: everywhere
    critic     the base's, if sampling.critic; it judges by the captions, without guidance
    -> tokens int [B, N], Trace or None
    """
    options, keys = decode_options(model, sampling, prompts, low, critic), prompts.keys
    if start is None:
        start = jnp.full((len(keys), math.prod(model.grid)), model.mask_id, jnp.int32)
    return parallel_decode(tokens=start, keys=keys, sampling=sampling, trace=trace, **options)


def decode_options(
    model: BaseTransformer, sampling: Sampling, prompts: Prompts, low: jax.Array | None, critic: TokenCritic | None
) -> dict[str, Any]:
    """logits_fn, mask_id, ranks and judge of `parallel_decode` for a transformer; its arguments: see sample_tokens."""
    text, negative, keys = prompts
    condition = model.condition(both_halves(text, negative) if sampling.guided else text, low)
    predict = guided_predict(lambda tokens: model(tokens, *condition), sampling.guided)
    halved = sampling.guided and (sampling.critic or len(guided_steps(sampling)) < sampling.steps)
    alone = model.first_half(condition) if halved else None
    logits_fn = lambda tokens, t: model(tokens, *alone) if t is None and alone is not None else predict(tokens, t)
    ranks, judge = order_ranks(sampling.order, model.grid, keys), None
    if sampling.critic:
        if critic is None:
            raise ValueError("The sampling record has critic=True, but there is no critic to judge with.")
        judge = lambda tokens: critic.sureness(model, tokens, condition if alone is None else alone)
    return dict(logits_fn=logits_fn, mask_id=model.mask_id, ranks=ranks, judge=judge)
