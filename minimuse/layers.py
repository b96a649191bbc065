"""Layers that several networks share, and how a module is made.

A module is a pytree: it holds its weights only, and goes through jax.jit, jax.grad and optax as it is. Two modules of
one class and config have one tree structure, so that a second one compiles nothing.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from minimuse.files import as_given

Module = TypeVar("Module", bound=nnx.Module)


@functools.cache  # one structure for equal arguments: flax 0.11 would give every module one of its own
def abstract(cls: Callable[..., Module], *config: object) -> Module:
    """cls(*config, rngs=...) with shapes (jax.ShapeDtypeStruct) in the place of weights, which are never made.

    Calls with equal arguments share the module: do not change it.
    """
    return nnx.eval_shape(lambda: cls(*config, rngs=nnx.Rngs(0)))


def init(cls: Callable[..., Module], *config: object, seed: int = 0) -> Module:
    """cls(*config, rngs=...) with fresh weights, by one compiled program instead of one per weight."""
    weights = jax.jit(lambda: jax.tree.leaves(cls(*config, rngs=nnx.Rngs(seed))))()
    return jax.tree.unflatten(jax.tree.structure(abstract(cls, *config)), weights)


def cast(model: Module, dtype: str) -> Module:
    """The same weights in another type, except those whose names the module has in `exact`. A transformer computes in
    the type of its weights; softmax, the statistics of norms and the losses are in float32 all the same."""
    exact = getattr(model, "exact", ())

    def of(path: tuple, x: jax.Array) -> jax.Array:
        return x if str(getattr(path[0], "name", getattr(path[0], "key", ""))) in exact else x.astype(jnp.dtype(dtype))

    return jax.tree_util.tree_map_with_path(of, model)


class Embed(nnx.Embed):
    """ids int [...] -> [..., D], in the type of the weights; nnx.Embed keeps the type it was made in."""

    def __call__(self, ids: jax.Array | np.ndarray) -> jax.Array:
        return jnp.take(self.embedding[...], ids, axis=0)


class Linear(nnx.Module):
    """x [..., in] -> x W [..., out], without a bias.

    nnx.Linear with all axes except the last merged. For [B, N, out], XLA's CPU backend transposes the whole gradient
    before it multiplies, and W's gradient takes two to four times as long (`python -m benchmarks.linear`).
    """

    def __init__(self, width_in: int, width_out: int, kernel_init: nnx.Initializer, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (width_in, width_out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x.reshape(-1, x.shape[-1]) @ self.kernel[...]).reshape(*x.shape[:-1], -1)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """[B, N, D] -> [B, N, heads, D / heads]."""
    return x.reshape(*x.shape[:-1], heads, -1)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None, how: str = "plain") -> jax.Array:
    """Scaled dot-product attention: q [B, N, heads, d]; k, v [B, S, heads, d] -> [B, N, heads d].

    mask   bool [B, S] or [B, N, S], False for keys to ignore; a B of 1 is broadcast
    how    "plain": two matrix products and a softmax, the fastest where N is small; "xla": JAX's own; "cudnn": the
           flash kernel of NVIDIA GPUs, which never stores the N x S scores and computes in bfloat16
    """
    if mask is not None:
        mask = (mask if mask.ndim == 3 else mask[:, None])[:, None]  # [B, 1, N or 1, S]: the same for every head
    if how == "plain":
        # Heads go to the front first: an einsum over [B, N, heads, d] is slower on XLA's CPU backend.
        q, k, v = (x.swapaxes(1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))
        scores = q @ k.mT  # [B, heads, N, S]
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(v.dtype)  # a sum in bfloat16 would lose digits
        seen = (weights @ v).swapaxes(1, 2)
    elif how in ("xla", "cudnn"):
        if how == "cudnn" and jax.default_backend() != "gpu":
            raise ValueError("attention is cudnn, which only NVIDIA GPUs have; set it to plain in config.json.")
        dtype = jnp.bfloat16 if how == "cudnn" else q.dtype
        seen = jax.nn.dot_product_attention(
            *(x.astype(dtype) for x in (q, k, v)),
            mask=mask,
            implementation=how,
        ).astype(q.dtype)
    else:
        raise ValueError(f"There is no attention {as_given(how)}; there are plain, xla and cudnn.")
    return seen.reshape(*seen.shape[:2], -1)


AXES = ("data", "fsdp")  # of a mesh of devices, see train/devices.py
BY_BATCH = PartitionSpec(AXES)  # the first axis over all devices


def rows_apart(x: jax.Array) -> jax.Array:
    """x [B, ...], with the constraint that every device computes its own rows, in a program that runs on a mesh.

    Without it the compiler leaves weights sharded and moves activations between devices. With it, before and after a
    layer, it gathers the layer's weights when the layer is computed, which is FSDP. Without a mesh it does nothing.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, BY_BATCH)
