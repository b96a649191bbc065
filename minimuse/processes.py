"""Several processes that train together, one per host: who they are, who writes, how they wait for each other."""

import contextlib
import itertools
from collections.abc import Iterator

import jax
import numpy as np

DAY = 24 * 60 * 60  # seconds
WAITS = itertools.count()  # every wait needs its own name


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
