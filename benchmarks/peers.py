"""Speed compared with public packages: `make peers`, or `python -m benchmarks.peers` where they are installed.

muse-maskgit-pytorch is the best known Muse in PyTorch, diffusers' aMUSEd the one in the best known library. All three
have the same widths, depths, heads, text, image tokens, codebook and steps, random weights, and about the same number
of weights. Each samples tokens and trains as its package does; peers run unchanged ("eager") and compiled, and the
faster of the two counts. Programs are compiled and warmed up first; then they take turns in one process, and medians
are compared.

    --json           one JSON object instead of tables
    --quick          only the smallest grid and batch, and no memory
    --device cuda    where JAX and PyTorch both see a GPU
    --torch MODE..   how peers run: eager, or a mode of torch.compile (default, reduce-overhead, max-autotune)
    --tf32, --bf16   shorter numbers for all three; training in bf16 keeps its weights in float32

Memory is weights, inputs and all intermediate results. On a GPU it is the most that PyTorch allocates, and for JAX the
plan of its program, which is exact. A CPU does not count it: each contender runs once more in a process of its own,
which reports how much it grew (Linux only).
"""

import argparse
import ctypes
import dataclasses
import functools
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # otherwise JAX reserves most of a GPU

import jax

from benchmarks.decoding import parallel, prompts
from minimuse import layers, transformer
from minimuse.config import Sampling, TrainConfig, TransformerConfig
from minimuse.train import losses
from minimuse.train.loop import machine
from minimuse.train.step import init_state, make_step

SIZES = dict(width=256, depth=6, heads=4, mlp_width=1024)
SIDES, BATCHES, STEPS, GUIDANCE = (8, 16), (1, 16), 12, 0.5
TRAIN = TrainConfig(steps=1000, batch=16, label_smoothing=0.0)
PACKAGES = ("torch", "diffusers", "muse-maskgit-pytorch")
OURS = "minimuse"
LEAST, MOST, ENOUGH = 3, 50, 20.0  # rounds, and seconds of one row after which no further round begins


class Contender(NamedTuple):
    """One package in a row."""

    run: Callable  # samples or trains once, and has finished when it returns or when its arrays are ready
    parameters: int
    first: float  # seconds to build, compile and run it once
    megabytes: float | None = None  # its peak memory on a GPU


def ours(task: str, config: TransformerConfig, batch: int, dtype: str) -> Contender:
    """minimuse; task is decode or train."""
    begun = time.perf_counter()
    model, given = layers.init(transformer.BaseTransformer, config), prompts(config, batch)
    parameters = sum(x.size for x in jax.tree.leaves(model))
    if task == "decode":
        sampling = Sampling(steps=STEPS, guidance=GUIDANCE, ramp=False, token_temperature=1.0)
        run, program = parallel(layers.cast(model, dtype), sampling, given)
    else:
        tokens = jax.random.randint(
            jax.random.key(2), (batch, config.grid[0] * config.grid[1]), 0, config.codebook_size
        )
        data = dict(tokens=tokens, text=given.text[0], text_mask=given.text[1])
        train = dataclasses.replace(TRAIN, dtype=dtype)
        state = init_state(model, train)
        step: Any = make_step(functools.partial(losses.transformer_loss, config, train), train)
        program = step.lower(state, data).compile()

        def run() -> tuple[dict, dict]:
            nonlocal state
            state, metrics = program(state, data)
            return state, metrics

    jax.block_until_ready(run())
    plan, first = program.memory_analysis(), time.perf_counter() - begun
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    on_gpu = jax.default_backend() != "cpu"
    return Contender(run, parameters, first, held / 2**20 if on_gpu else None)


def theirs(
    peer: str, mode: str, task: str, config: TransformerConfig, batch: int, dtype: str, device: str
) -> Contender:
    """A peer; mode is eager, or one of torch.compile."""
    import torch

    from benchmarks import peer_models

    begun, gpu = time.perf_counter(), device == "cuda"
    before = torch.cuda.memory_allocated() if gpu else 0
    if task == "decode":
        run, model = peer_models.decoding(peer, mode, config, batch, STEPS, 1 + GUIDANCE, dtype, device)
    else:
        run, model = peer_models.training(peer, mode, config, dataclasses.replace(TRAIN, dtype=dtype), device)
    run()
    first, held = time.perf_counter() - begun, None
    if gpu:
        run()  # CUDA graphs are recorded in the second run
        torch.cuda.reset_peak_memory_stats()
        run()
        held = (torch.cuda.max_memory_allocated() - before) / 2**20
    return Contender(run, sum(x.numel() for x in model.parameters()), first, held)


def build(name: str, task: str, side: int, batch: int, dtype: str, device: str) -> Contender:
    """The contender of that name, OURS or "PEER, MODE", ready to run."""
    config = TransformerConfig(**SIZES, grid=(side, side))
    if name == OURS:
        return ours(task, config, batch, dtype)
    return theirs(*name.rsplit(", ", 1), task, config, batch, dtype, device)


def race(programs: dict[str, Callable]) -> dict[str, float]:
    """Median seconds of each, in turns; every second round goes backwards."""
    seconds = {name: [] for name in programs}
    for turn in range(MOST):
        for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
            begun = time.perf_counter()
            jax.block_until_ready(programs[name]())
            seconds[name].append(time.perf_counter() - begun)
        if turn + 1 >= LEAST and sum(map(sum, seconds.values())) > ENOUGH:
            break
    return {name: statistics.median(values) for name, values in seconds.items()}


def grown(name: str, task: str, side: int, batch: int) -> float:
    """Megabytes by which this process grows to build a contender and run it.

    What a compiler leaves behind counts, its peak while it compiles does not.
    """
    status = lambda field: int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) / 1024
    before = status("VmRSS")
    one = build(name, task, side, batch, "float32", "cpu")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    jax.block_until_ready(one.run())
    return status("VmHWM") - before


def alone(name: str, case: tuple) -> float | None:
    """`grown` in a process of its own, or None where it cannot be measured."""
    command = [sys.executable, "-m", "benchmarks.peers", "--alone", name, *map(str, case)]
    done = subprocess.run(command, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def compare(contenders: dict[str, Contender], seconds: dict[str, float]) -> dict:
    """A row of results, from contenders and their median seconds, both by name: OURS, or "PEER, MODE" of a peer.

    times_ours   each peer's seconds divided by ours, in its faster mode: above 1, ours is faster
    """
    best = {}
    for name in sorted(set(seconds) - {OURS}, key=lambda name: seconds[name], reverse=True):
        peer, mode = name.rsplit(", ", 1)
        best[peer] = mode  # the last one, which is the fastest, remains
    held = {name: round(one.megabytes) for name, one in contenders.items() if one.megabytes is not None}
    return dict(
        seconds={name: float(f"{value:.3g}") for name, value in seconds.items()},
        best=dict(sorted(best.items())),
        times_ours={peer: round(seconds[f"{peer}, {mode}"] / seconds[OURS], 2) for peer, mode in sorted(best.items())},
        parameters={name: one.parameters for name, one in contenders.items()},
        first_seconds={name: round(one.first, 1) for name, one in contenders.items()},
        megabytes=held,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--torch", nargs="+", metavar="MODE", help="default: eager and default, and on a GPU reduce-overhead"
    )
    parser.add_argument("--tf32", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)  # for `alone`
    options = parser.parse_args()

    import torch

    from benchmarks.peer_models import PEERS

    gpu = options.device == "cuda"
    jax.config.update("jax_platforms", options.device)
    if gpu:  # otherwise JAX uses TF32 and PyTorch does not
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if options.tf32 else "highest")
    torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(threads)  # as many as XLA uses
    if options.alone:
        name, task, side, batch = options.alone
        print(grown(name, task, int(side), int(batch)))
        return

    report = (lambda *_: None) if options.json else functools.partial(print, flush=True)
    modes = options.torch or ["eager", "default"] + ["reduce-overhead"] * gpu
    sides, batches = (SIDES[:1], BATCHES[:1]) if options.quick else (SIDES, BATCHES)
    cases = [("decode", side, batch) for side in sides for batch in batches]
    cases += [("train", side, TRAIN.batch) for side in sides]
    dtype, rows = "bfloat16" if options.bf16 else "float32", []
    for case in cases:
        torch._dynamo.reset()  # forgets earlier rows; with too many cases torch would leave some of them eager
        contenders, missing = {}, {}
        for name in [OURS] + [f"{peer}, {mode}" for peer in PEERS for mode in modes]:
            try:
                contenders[name] = build(name, *case, dtype, options.device)
            except Exception as error:  # torch.compile fails in many ways; the others still run
                if name == OURS:
                    raise
                missing[name] = f"{type(error).__name__}: {str(error).strip()[:300]}"
        row = compare(contenders, race({name: one.run for name, one in contenders.items()}))
        if not gpu and not options.quick:
            names = [OURS] + [f"{peer}, {mode}" for peer, mode in row["best"].items()]
            row["megabytes"] = {name: held and round(held) for name in names for held in [alone(name, case)]}
        task, side, batch = case
        rows.append(dict(task=task, tokens=[side, side], batch=batch) | row | dict(missing=missing))
        report(f"\n{task}, {side} x {side} tokens, batch {batch}")
        for name, seconds in row["seconds"].items():
            held = f"{row['megabytes'][name]:>6} MB" if name in row["megabytes"] else ""
            times = f"({seconds / row['seconds'][OURS]:.2f} times)"
            report(f"  {name:38} {seconds:8.3g} s {times:14} {row['parameters'][name]:,} parameters {held}")
        for name, reason in missing.items():
            report(f"  {name:38} does not run: {reason}")
    numbers = "tf32" if options.tf32 and not options.bf16 else dtype
    settings = dict(sizes=SIZES, steps=STEPS, numbers=numbers, threads=None if gpu else threads)
    if options.json:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        print(json.dumps(dict(rows=rows, settings=settings, peers=versions, machine=machine())))


if __name__ == "__main__":
    main()
