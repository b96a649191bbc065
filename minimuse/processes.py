"""Processes: whether JAX works in this one; and several that train together, one per host: who they are, who writes,
how they wait for each other."""

import contextlib
import glob
import itertools
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

DAY = 24 * 60 * 60  # seconds
WAITS = itertools.count()  # every wait needs its own name
UNUSABLE = {  # settings of JAX with which neither flax's layers nor these work
    "jax_numpy_dtype_promotion": ("strict",),
    "jax_numpy_rank_promotion": ("raise",),
    "jax_transfer_guard": ("disallow", "disallow_explicit"),
}
_started: list[int] = []  # the process in which JAX was begun to be used, by its number


def check_jax() -> None:
    """ValueError if JAX finds no device, or has a setting that minimuse cannot work with. RuntimeError in a process
    that was forked from one that uses JAX, where JAX would wait for ever for threads that were not copied."""
    if _started and _started[0] != os.getpid():
        raise RuntimeError(
            f"This process was forked from process {_started[0]}, which uses JAX, and JAX does not work in the copy; "
            'start processes with multiprocessing.get_context("spawn"), or use threads.'
        )
    for name, values in UNUSABLE.items():
        if (value := getattr(jax.config, name, None)) in values:
            raise ValueError(f"{name.upper()} is {value!r}, with which minimuse cannot compute; unset it.")
    if _started:
        return
    try:
        jax.devices()
    except Exception as error:  # RuntimeError or AssertionError, with or without words
        words = " ".join(str(error).split())
        if names := getattr(jax.config, "jax_platforms", None):
            why = f"JAX_PLATFORMS is {names!r}, and JAX finds no device of this kind; unset it, or set it to cpu."
        else:
            why = f"JAX does not start ({words or type(error).__name__}); `python -m minimuse doctor` says more."
        raise ValueError(why) from None
    _started.append(os.getpid())


def repair_cache(folder: str) -> None:
    """From now on, a damaged program in JAX's compilation cache is deleted when it is found, so that JAX writes it
    again; JAX itself would keep it, and warn and compile at every start."""
    before = warnings.showwarning
    if getattr(before, "repairs", None) == folder:
        return

    def show(message: Warning | str, *args: Any, **options: Any) -> None:
        found = re.match(r"Error reading persistent compilation cache entry for '([^'/\\]+)'", str(message))
        if found is None:
            return before(message, *args, **options)
        for path in Path(folder).glob(f"{glob.escape(found[1])}-*"):
            path.unlink(missing_ok=True)
        print(f"A compiled program in {folder} is damaged ({found[1]}); it is compiled again.", file=sys.stderr)

    show.repairs = folder
    warnings.showwarning = show


def start(processes: str) -> None:
    """Join the processes that train together, before JAX looks for devices: "auto" where a cluster lists them
    (TPU pods, Slurm, Open MPI), else "ADDRESS:PORT,COUNT,INDEX" with the address of process 0."""
    if processes == "auto":
        return jax.distributed.initialize()
    address, *numbers = processes.split(",")
    if ":" not in address or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise ValueError(
            f"--processes is auto or ADDRESS:PORT,COUNT,INDEX, such as 10.0.0.1:1234,2,0 on the first of two hosts; it "
            f"was {processes!r}."
        )
    count, index = map(int, numbers)
    if not 0 <= index < count:
        raise ValueError(f"With {count} processes, INDEX must be from 0 to {count - 1}; it was {index}.")
    jax.distributed.initialize(address, count, index)


def is_first() -> bool:
    """Whether this is the process that writes logs and weights."""
    return jax.process_index() == 0


def wait_for_all() -> None:
    """Continue when every process has reached this point."""
    if (count := jax.process_count()) > 1:
        from orbax.checkpoint import multihost

        # Through the processes' coordinator, which can wait for hours; a sum over all devices gives up within a minute.
        multihost.sync_global_processes(f"wait {next(WAITS)}", timeout=DAY, processes=set(range(count)))


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Process 0 runs the body before the others, which then find the files that it wrote."""
    if not is_first():
        wait_for_all()
    try:
        yield
    finally:
        if is_first():
            wait_for_all()


def any_process(*flags: bool) -> list[bool]:
    """For each flag, whether it is set in any process; all processes must call this together."""
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return list(flags)
    return multihost_utils.process_allgather(np.array(flags)).any(0).tolist()


def to_host(x: jax.Array) -> np.ndarray:
    """The whole of an array; every process must call this if the array is spread over several processes."""
    from jax.experimental import multihost_utils

    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)
