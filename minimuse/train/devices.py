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
from minimuse.train.step import Tree

SMALL = 2**12  # numbers; an array that has fewer is held whole: gathering it would take longer than it saves


def mesh_shape(shape: tuple[int, int], train: TrainConfig, devices: int | None = None) -> tuple[int, int]:
    """Devices along data and along fsdp, where a 0 in `shape` stands for all that are left of `devices` (default all
    that JAX finds).

    ValueError if there are not as many devices, or if they cannot share train's batch evenly.
    """
    devices = jax.device_count() if devices is None else devices
    if len(shape) != 2 or min(shape) < 0 or sum(n == 0 for n in shape) > 1:
        raise ValueError(
            f"A mesh is two numbers of devices, along data and along fsdp, such as 0 1, where 0 (in one place) stands "
            f"for all that are left; it was {' '.join(map(str, shape))}."
        )
    fixed = math.prod(n for n in shape if n)
    data, fsdp = (n or devices // fixed for n in shape)
    size = data * fsdp
    if not 0 < size <= devices or (size < devices and (0 in shape or jax.process_count() > 1)):
        wanted = " x ".join(str(n or "all that are left") for n in shape)
        there = f"the {devices} there are" + (", all of which must be in it" if jax.process_count() > 1 else "")
        raise ValueError(f"A mesh of {wanted} devices does not fit {there}; choose another --mesh.")
    if train.batch % (size * train.accumulate):
        pieces = f" in {train.accumulate} pieces" if train.accumulate > 1 else ""
        fewer = math.gcd(train.batch // train.accumulate, size)
        raise ValueError(
            f"A batch of {train.batch}{pieces} cannot be shared evenly by {size} devices; choose a --batch that is a "
            f"multiple of {size * train.accumulate}, or fewer devices, such as --mesh {fewer} 1."
        )
    return data, fsdp


def make_mesh(shape: tuple[int, int], train: TrainConfig) -> Mesh:
    """The devices in a grid of `mesh_shape`."""
    full = mesh_shape(shape, train)
    # In the order of their processes, so that a process has consecutive rows of every batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices[: math.prod(full)]).reshape(full), AXES, axis_types=(AxisType.Auto,) * 2)


def sharding_of(mesh: Mesh, x: jax.Array) -> NamedSharding:
    """How an array of the training state lies on the mesh: its longest axis that fsdp divides is sharded along fsdp.

    Only the last two axes are considered: before them are stacked layers, which lax.scan takes one by one.
    """
    fsdp = mesh.shape["fsdp"]
    spec: list[str | None] = [None] * x.ndim
    axes = [axis for axis in range(x.ndim)[-2:] if x.shape[axis] % fsdp == 0]
    if fsdp > 1 and axes and x.size >= SMALL:
        spec[max(axes, key=lambda axis: x.shape[axis])] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))


def shard(tree: Tree, mesh: Mesh) -> Tree:
    """The arrays of a training state, or of a part of it, on the devices of the mesh; on one device nothing changes."""
    if mesh.size == 1:
        return tree

    def move(x: jax.Array) -> jax.Array:
        sharding = sharding_of(mesh, x)
        return x if isinstance(x, jax.Array) and x.sharding == sharding else _on(sharding, to_host(x))

    return jax.tree.map(move, tree)


def shard_batch(batch: dict, mesh: Mesh) -> dict:
    """A batch [B, ...] on the devices of the mesh, each with its rows; on one device nothing changes.

    Every process passes the whole batch, of which only the rows of its own devices are copied.
    """
    if mesh.size == 1:
        return batch
    by_batch = NamedSharding(mesh, BY_BATCH)
    return jax.tree.map(lambda x: _on(by_batch, np.asarray(x)), batch)


def _on(sharding: NamedSharding, x: np.ndarray) -> jax.Array:
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def on_mesh(step: Callable, state: dict[str, Tree], mesh: Mesh) -> Callable:
    """The training step (state, batch) -> (state, metrics), compiled for states sharded as this one is; on one device
    nothing changes."""
    if mesh.size == 1:
        return step
    # What comes out lies as what went in, or the next step would be compiled again.
    compiled = jax.jit(step, donate_argnums=0, out_shardings=(jax.tree.map(lambda x: x.sharding, state), None))

    def step_on_mesh(state: dict[str, Tree], batch: dict) -> tuple[dict[str, Tree], dict]:
        with jax.set_mesh(mesh):  # for `rows_apart`
            return compiled(state, batch)

    return step_on_mesh
