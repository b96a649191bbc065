"""The race: parallel decoding against its autoregressive and its diffusion twin: `python -m benchmarks.decoding`.

Three transformers of the same sizes, with random weights, since only time counts here; all guided, so each computes
two halves. A row is a grid of tokens and a batch. Each program is compiled beforehand, then they take turns, and the
medians are compared with those of parallel decoding in the same row. A second table shows what it saves to compute the
text's keys and values once a prompt and not once a step.

    --json           one JSON object instead of tables
    --largest 16     leave out larger grids than 16 x 16; 32 x 32 takes most of the time
"""

import argparse
import functools
import json
import statistics
import time

import jax
import jax.numpy as jnp
from flax import nnx

from minimuse import decoding, layers
from minimuse.config import TransformerConfig
from minimuse.decoding import both_halves, guide, parallel_decode
from minimuse.evaluate import baselines
from minimuse.presets import get_preset
from minimuse.train.loop import machine
from minimuse.transformer import BaseTransformer

SIDES, BATCHES = (8, 16, 32), (1, 16)
STEPS, DIFFUSION_STEPS = 12, 50
WORDS, LENGTH = 12, 32  # text tokens of a caption, and what they are padded to
ROUNDS, ENOUGH = 5, 20.0  # turns of each, but no more once they have taken so many seconds together


def prompts(config: TransformerConfig, batch: int) -> tuple:
    """text, negative, keys as `Muse.prompts` makes them."""
    embeddings = jax.random.normal(jax.random.key(0), (batch, LENGTH, config.text_width))
    mask = jnp.broadcast_to(jnp.arange(LENGTH) < WORDS, (batch, LENGTH))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), jnp.arange(batch))
    return (embeddings, mask), (embeddings, jnp.zeros_like(mask)), keys


def compiled(function, graphdef, params, arguments: tuple, *options, **static):
    """A program without arguments, ready to run."""
    program = function.lower(graphdef, params, *arguments, *options, **static).compile()
    return functools.partial(program, params, *arguments, *options)


def contestants(config: TransformerConfig, batch: int) -> dict:
    """{name: program}, each of which draws `batch` pictures' tokens."""
    numbers, arguments = dict(guidance=0.5), prompts(config, batch)
    sampling = numbers | dict(temperature=4.5, token_temperature=0.25, ramp=True)
    static = dict(guided=True, order="confidence", steps=STEPS)
    found = {f"parallel, {STEPS} steps": (decoding.sample_tokens, BaseTransformer, config, arguments, sampling, static)}
    for name, extra in (("autoregressive", {}), ("diffusion", dict(steps=DIFFUSION_STEPS))):
        kind = baselines.TWINS[name]
        own = baselines.twin_config(name, get_preset("tiny"))
        own = type(own)(**(vars(own) | dict(grid=config.grid)))
        steps = extra.get("steps", config.grid[0] * config.grid[1])
        values = {key: value for key, value in sampling.items() if key in kind.numbers}
        found[f"{name}, {steps} steps"] = (kind.sample, kind.module, own, arguments, values, dict(guided=True) | extra)
    return {
        name: compiled(function, *layers.init(module, own), inputs, options, **static)
        for name, (function, module, own, inputs, options, static) in found.items()
    }


@functools.partial(jax.jit, static_argnames=("graphdef", "once"))
def sample_with_text(graphdef, params, text, negative, keys, options, *, once: bool):
    """`decoding.sample_tokens` with the text's keys and values computed once, or anew at each step."""
    model, batch = nnx.merge(graphdef, params), len(keys)
    embeddings, text_mask = both_halves(text, negative)
    kept = model.text_keys_values(embeddings)

    def logits_fn(tokens, t):
        both = both_halves(tokens, tokens)
        # The barrier ties the text to this step's tokens; without it XLA finds out that nothing changes.
        keys_values = kept if once else model.text_keys_values(jax.lax.optimization_barrier((embeddings, both))[0])
        logits = model(both, keys_values, text_mask)
        return guide(logits[:batch], logits[batch:], t)

    start = jnp.full((batch, len(model.positions())), model.embed.num_embeddings - 1, jnp.int32)
    return parallel_decode(logits_fn, start, keys, mask_id=model.embed.num_embeddings - 1, steps=STEPS, **options)[0]


def race(programs: dict) -> dict[str, float]:
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
    tell = (lambda *_: None) if options.json else functools.partial(print, flush=True)

    tell(f"{'tokens':>8} {'batch':>5}  seconds a picture (times parallel decoding)")
    for side in (side for side in SIDES if side <= options.largest):
        for batch in BATCHES:
            config = TransformerConfig(**(vars(base) | dict(grid=(side, side))))
            found = race(contestants(config, batch))
            first = next(iter(found.values()))
            ratios = {name: round(seconds / first, 2) for name, seconds in found.items()}
            each = {name: float(f"{seconds / batch:.3g}") for name, seconds in found.items()}
            rows.append(dict(tokens=[side, side], batch=batch, seconds_a_picture=each, times_parallel=ratios))
            told = "   ".join(f"{name}: {each[name]:.3g} ({ratios[name]:g})" for name in found)
            tell(f"{side:>5} x {side:<2} {batch:>3}  {told}")

    tell(f"\n{'batch':>5}  pictures a second, {base.grid[0]} x {base.grid[1]} tokens, {STEPS} steps")
    graphdef, params = layers.init(BaseTransformer, base)
    for batch in BATCHES:
        arguments, numbers = prompts(base, batch), dict(guidance=0.5, temperature=4.5, token_temperature=0.25)
        names = {"keys and values once a prompt": True, "once a step": False}
        programs = {
            name: compiled(sample_with_text, graphdef, params, arguments, numbers, once=once)
            for name, once in names.items()
        }
        found = race(programs)
        rates = {name: float(f"{batch / seconds:.3g}") for name, seconds in found.items()}
        kept, anew = found.values()
        text.append(dict(batch=batch, pictures_a_second=rates, gain=round(anew / kept, 3)))
        tell(f"{batch:>5}  " + "   ".join(f"{k}: {v}" for k, v in rates.items()) + f"   gain {anew / kept:.2f}")
    if options.json:
        print(json.dumps(dict(race=rows, text=text, machine=machine())))


if __name__ == "__main__":
    main()
