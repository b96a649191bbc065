"""The race: parallel decoding against its autoregressive and its diffusion twin: `python -m benchmarks.decoding`.

Three transformers of the same sizes with random weights, since only time counts here. All are guided, so each computes
two halves. A row is a grid of tokens and a batch size. All programs are compiled first; then they take turns, and the
medians are compared with that of parallel decoding in the same row. A second table shows the gain from computing the
text's keys and values once per prompt instead of once per step.

    --json           one JSON object instead of tables
    --largest 16     leave out grids larger than 16 x 16; 32 x 32 takes most of the time
"""

import argparse
import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from minimuse import layers
from minimuse.config import Sampling, TransformerConfig
from minimuse.decoding import Prompts, both_halves, guided_predict, parallel_decode, sample_tokens
from minimuse.evaluate import baselines
from minimuse.presets import get_preset
from minimuse.stepwise import in_groups
from minimuse.train.loop import machine
from minimuse.transformer import BaseTransformer

SIDES, BATCHES = (8, 16, 32), (1, 16)
STEPS, DIFFUSION_STEPS = 12, 50
WORDS, LENGTH = 12, 32  # text tokens of a caption, without and with padding
ROUNDS, ENOUGH = 5, 20.0  # turns of each program, and seconds of all together after which no further round begins


def prompts(config: TransformerConfig, batch: int) -> Prompts:
    """Random prompts, as `Muse.prompts` makes them."""
    embeddings = jax.random.normal(jax.random.key(0), (batch, LENGTH, config.text_width))
    mask = jnp.broadcast_to(jnp.arange(LENGTH) < WORDS, (batch, LENGTH))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(batch))
    return Prompts((embeddings, mask), (embeddings, jnp.zeros_like(mask)), keys)


def compiled(function: Any, *arguments: Any, **static: Any) -> functools.partial:
    """A program without arguments, ready to run: function(*arguments, **static), compiled."""
    return functools.partial(function.lower(*arguments, **static).compile(), *arguments)


def parallel(model: BaseTransformer, sampling: Sampling, given: Prompts) -> tuple[Callable, Any]:
    """Parallel decoding of a batch as `Muse.generate` does it, in groups that fit a CPU's cache: what runs all groups,
    and the compiled program of one of them."""
    groups = list(in_groups(model.grid[0] * model.grid[1], sampling, (given, None, None)))
    program = compiled(sample_tokens, model, sampling, *groups[0]).func
    return lambda: [program(model, sampling, *group)[0] for group in groups], program


def contestants(config: TransformerConfig, batch: int) -> dict[str, Callable]:
    """{name: program}; each samples the tokens of `batch` pictures."""
    sampling = Sampling(steps=STEPS, guidance=0.5, temperature=4.5, token_temperature=0.25)
    model = layers.init(BaseTransformer, config)
    found: dict[str, Callable] = {f"parallel, {STEPS} steps": parallel(model, sampling, prompts(config, batch))[0]}
    for name, steps in (("autoregressive", config.grid[0] * config.grid[1]), ("diffusion", DIFFUSION_STEPS)):
        baseline = baselines.BASELINES[name]
        own = dataclasses.replace(baselines.twin_config(name, get_preset("tiny")), grid=config.grid)
        model, changed = layers.init(baseline.module, own), dataclasses.replace(sampling, steps=steps)
        found[f"{name}, {steps} steps"] = compiled(baseline.sample, model, changed, prompts(config, batch))
    return found


@functools.partial(jax.jit, static_argnames="once")
def sample_with_text(model: BaseTransformer, sampling: Sampling, given: Prompts, *, once: bool) -> jax.Array:
    """`decoding.sample_tokens` with the text's keys and values computed once, or again at each step."""
    embeddings, text_mask = both_halves(given.text, given.negative)
    kept = model.text_keys_values(embeddings)

    def predict(tokens: jax.Array) -> jax.Array:
        # The barrier ties the text to this step's tokens; without it XLA finds that nothing changes.
        keys_values = kept if once else model.text_keys_values(jax.lax.optimization_barrier((embeddings, tokens))[0])
        return model(tokens, keys_values, text_mask)

    start = jnp.full((len(given.keys), len(model.positions())), model.mask_id, jnp.int32)
    logits_fn = guided_predict(predict, guided=True)
    return parallel_decode(logits_fn, start, given.keys, sampling, mask_id=model.mask_id)[0]


def race(programs: dict[str, Callable]) -> dict[str, float]:
    """Median seconds of each, in turns."""
    seconds = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            begun = time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append(time.perf_counter() - begun)
        if sum(map(sum, seconds.values())) > ENOUGH:
            break
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--largest", type=int, default=max(SIDES), metavar="SIDE", choices=SIDES)
    options = parser.parse_args()
    base, rows, text = get_preset("tiny").base, [], []
    report = (lambda *_: None) if options.json else functools.partial(print, flush=True)

    report(f"{'tokens':>8} {'batch':>5}  seconds per picture (ratio to parallel decoding)")
    for side in (side for side in SIDES if side <= options.largest):
        for batch in BATCHES:
            found = race(contestants(dataclasses.replace(base, grid=(side, side)), batch))
            first = next(iter(found.values()))
            ratios = {name: round(seconds / first, 2) for name, seconds in found.items()}
            each = {name: float(f"{seconds / batch:.3g}") for name, seconds in found.items()}
            rows.append(dict(tokens=[side, side], batch=batch, seconds_a_picture=each, times_parallel=ratios))
            line = "   ".join(f"{name}: {each[name]:.3g} ({ratios[name]:g})" for name in found)
            report(f"{side:>5} x {side:<2} {batch:>3}  {line}")

    report(f"\n{'batch':>5}  pictures per second, {base.grid[0]} x {base.grid[1]} tokens, {STEPS} steps")
    model = layers.init(BaseTransformer, base)
    sampling = Sampling(steps=STEPS, guidance=0.5, temperature=4.5, token_temperature=0.25)
    for batch in BATCHES:
        names = {"keys and values once per prompt": True, "once per step": False}
        programs = {
            name: compiled(sample_with_text, model, sampling, prompts(base, batch), once=once)
            for name, once in names.items()
        }
        found = race(programs)
        rates = {name: float(f"{batch / seconds:.3g}") for name, seconds in found.items()}
        once, again = found.values()
        text.append(dict(batch=batch, pictures_a_second=rates, gain=round(again / once, 3)))
        report(f"{batch:>5}  " + "   ".join(f"{k}: {v}" for k, v in rates.items()) + f"   gain {again / once:.2f}")
    if options.json:
        print(json.dumps(dict(race=rows, text=text, machine=machine())))


if __name__ == "__main__":
    main()
