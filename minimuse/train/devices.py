"""One training program for one device, for many, and for many hosts; only where arrays lie changes.

A mesh lays the devices out in a grid with the axes data and fsdp. Every batch is sharded over all devices. Weights,
their average and the optimizer's sums are sharded along fsdp and replicated along data: on a mesh of (8, 1) each device
holds them whole (data parallel), on one of (1, 8) an eighth (fully sharded data parallel, FSDP, arXiv 1910.02054 and
2304.11277). The numbers are those of one device, up to the order of sums.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from minimuse.config import TrainConfig
from minimuse.layers import AXES, BY_BATCH
from minimuse.processes import to_host

SMALL = 2**12  # numbers; an array that has fewer is held whole: gathering it would take longer than it saves


def make_mesh(shape: tuple[int, int], train: TrainConfig) -> Mesh:
    """The devices in a grid, shape[0] along data and shape[1] along fsdp, 0 for all that are left.

    ValueError if they do not fit it, or if they cannot share train's batch evenly.
    """
    # In the order of their processes, so that a process has consecutive rows of every batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    fixed = math.prod(n for n in shape if n)
    if len(shape) != 2 or min(shape) < 0 or sum(n == 0 for n in shape) > 1:
        raise ValueError(
            f"A mesh is two numbers of devices, along data and along fsdp, such as 0 1, where 0 (in one place) stands "
            f"for all that are left; it was {' '.join(map(str, shape))}."
        )
    full = [n or len(devices) // fixed for n in shape]
    size = math.prod(full)
    if not 0 < size <= len(devices) or (size < len(devices) and (0 in shape or jax.process_count() > 1)):
        wanted = " x ".join(str(n or "all that are left") for n in shape)
        there = f"the {len(devices)} there are" + (", all of which must be in it" if jax.process_count() > 1 else "")
        raise ValueError(f"A mesh of {wanted} devices does not fit {there}; choose another --mesh.")
    if train.batch % (size * train.accumulate):
        parts = f" in {train.accumulate} parts" if train.accumulate > 1 else ""
        fewer = math.gcd(train.batch // train.accumulate, size)
        raise ValueError(
            f"A batch of {train.batch}{parts} cannot be shared evenly by {size} devices; choose a --batch that is a "
            f"multiple of {size * train.accumulate}, or fewer devices, such as --mesh {fewer} 1."
        )
    return Mesh(np.array(devices[:size]).reshape(full), AXES, axis_types=(AxisType.Auto,) * 2)


def sharding_of(mesh: Mesh, x: jax.Array) -> NamedSharding:
    """How an array of the training state lies on the mesh: its longest axis that fsdp divides is sharded along fsdp.

    Only the last two axes are looked at: before them are stacked layers, which lax.scan takes one by one.
    """
    fsdp, spec = mesh.shape["fsdp"], [None] * x.ndim
    axes = [axis for axis in range(x.ndim)[-2:] if x.shape[axis] % fsdp == 0]
    if fsdp > 1 and axes and x.size >= SMALL:
        spec[max(axes, key=lambda axis: x.shape[axis])] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))


def like(x: jax.Array) -> np.ndarray | jax.ShapeDtypeStruct:
    """What tells orbax how to read an array back: as it is if it lies on one device, else on the same devices."""
    if isinstance(x, jax.Array) and len(x.sharding.device_set) > 1:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    return np.asarray(x)


def place(tree: dict, mesh: Mesh) -> dict:
    """The same arrays on the devices of the mesh; if it is one device they stay as they are."""
    if mesh.size == 1:
        return tree

    def move(x):
        sharding = sharding_of(mesh, x)
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        whole = to_host(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(move, tree)


def spread(mesh: Mesh, step: Callable, state: dict, batch_at: Callable, batch: int) -> tuple[Callable, dict, Callable]:
    """What `loop.fit` is given, for a mesh; if it is one device all three are returned as they are.

    Of several processes each makes its own rows of a batch alone, by batch_at(step, rows=slice).
    """
    if mesh.size == 1:
        return step, state, batch_at
    state = place(state, mesh)
    # What comes out lies as what went in, or the next step would be compiled again.
    compiled = jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))
    processes, by_batch = jax.process_count(), NamedSharding(mesh, BY_BATCH)
    share = batch // processes
    own = dict(rows=slice(jax.process_index() * share, (jax.process_index() + 1) * share)) if processes > 1 else {}

    def step_on_mesh(state, batch):
        with jax.set_mesh(mesh):  # for `rows_apart`
            return compiled(state, batch)

    def batch_on_mesh(i):
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(by_batch, x), batch_at(i, **own))

    return step_on_mesh, state, batch_on_mesh
