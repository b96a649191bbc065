"""Keeping a codebook in use while a tokenizer trains (section 2.2): running means, and new places for dead codes."""

import jax
import jax.numpy as jnp

from minimuse.config import VQGANConfig
from minimuse.train.step import Tree
from minimuse.vqgan import VQGAN, unit
from minimuse.weights import named_arrays, with_arrays


def _codes(model: Tree) -> jax.Array:
    return named_arrays(model)["codebook"]


def _with_codes(model: Tree, codes: jax.Array) -> Tree:
    return with_arrays(model, dict(codebook=codes))


def _forget(opt: Tree, moved: jax.Array) -> Tree:
    """An optimizer's state with zeros for the `moved` codes, bool [K], in every array that it keeps for the codebook,
    such as Adam's two moments. Otherwise a moved code would go on drifting as the dead one did."""

    def is_mirror(name: str, x: jax.Array) -> bool:
        return name.split(".")[-1] == "codebook" and x.ndim == 2 and len(x) == len(moved)

    mirrors = {name: x for name, x in named_arrays(opt).items() if is_mirror(name, x)}
    return with_arrays(opt, {name: jnp.where(moved[:, None], 0, x) for name, x in mirrors.items()})


def restart_dead_codes(state: dict, key: jax.Array, metrics: dict, decay: float = 0.98, floor: float = 0.02) -> dict:
    """Move codes that almost nothing uses onto encodings of this batch.

    state["usage"] [K] is a running mean of the share of a batch that each code gets, times K: 1 on average. A code
    that falls under `floor` is replaced by an encoding of this batch and given some time (a usage of 5 floors) to be of
    use. The encodings farthest from their code are the most likely to be chosen, as in k-means++: most of a batch is
    plain background, which needs no second code. Usage starts at zero: then the whole codebook is laid onto the first
    encodings; without that the encoder soon sends everything to one code. It stays at zero for as long as
    metrics["quantize"] is 0, so the codebook is laid onto what a plain autoencoder has learned to distinguish.

    state["opt"], if there is one, forgets the moved codes: their moments begin at zero.
    """
    share = metrics["counts"] / metrics["counts"].sum() * metrics["counts"].size
    usage = decay * state["usage"] + (1 - decay) * share
    dead = (usage < floor) | ~jnp.any(state["usage"] > 0)
    chance = metrics["distance"] + 1e-8
    fresh = jax.random.choice(key, metrics["encodings"], usage.shape, p=chance / chance.sum())

    def replace(codes: jax.Array) -> jax.Array:
        return jnp.where(dead[:, None], fresh, codes)

    moved = {name: _with_codes(state[name], replace(_codes(state[name]))) for name in ("params", "ema")}
    sums = dict(sums=replace(state["sums"])) if "sums" in state else {}
    opt = dict(opt=_forget(state["opt"], dead)) if "opt" in state else {}
    usage = jnp.where(dead, 5 * floor, usage) * metrics.get("quantize", 1.0)
    return state | sums | moved | opt | dict(usage=usage)


def average_codes(state: dict, metrics: dict, decay: float) -> dict:
    """Each code becomes the running mean of the encodings that chose it, instead of following a gradient.

    This is k-means a batch at a time. state["sums"] [K, code_dim] holds running means of the sums of encodings; codes
    are compared by direction only, so the sums need not be divided by counts. A code that nothing chose stays.
    """
    sums = jnp.zeros_like(state["sums"]).at[metrics["tokens"]].add(metrics["encodings"])
    sums = decay * state["sums"] + (1 - decay) * sums
    chosen = jnp.sum(sums**2, -1, keepdims=True) > 1e-12
    codes = jnp.where(chosen, unit(sums), _codes(state["params"]))
    return state | {name: _with_codes(state[name], codes) for name in ("params", "ema")} | dict(sums=sums)


def codebook_state(config: VQGANConfig, begun: VQGAN | None = None) -> dict:
    """What `update_codes` keeps in the training state beside the weights.

    begun    a tokenizer whose codes are in use: they stay where they are until they die
    """
    usage = jnp.zeros(config.codebook_size) if begun is None else jnp.ones(config.codebook_size)
    if not config.codebook_ema:
        return dict(usage=usage)
    return dict(usage=usage, sums=usage[:, None] * (unit(_codes(begun)) if begun else jnp.zeros((1, config.code_dim))))


def update_codes(config: VQGANConfig, state: dict, key: jax.Array, metrics: dict) -> dict:
    """After a step: running means, if the codes are such, then new places for dead codes."""
    if config.codebook_ema:
        state = average_codes(state, metrics, config.codebook_ema)
    return restart_dead_codes(state, key, metrics)
