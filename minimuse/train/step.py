"""One training step: optimizer, gradients, the running average of the weights."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from minimuse.config import TrainConfig


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW or Adafactor with linear warm-up, cosine decay to 2 % and clipping; only matrices (`kernel`) decay.

    With config.muon the matrices inside the model are trained by Muon (momentum, made orthogonal before each step)
    at that rate, and AdamW keeps the rest: vectors, embeddings, and the last layer, `logits` or `head`.
    """
    warmup = min(config.warmup, max(1, config.steps // 2))

    def rate(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(config.steps, warmup + 1), 0.02 * peak)

    def by_path(choose):
        return lambda params: jax.tree_util.tree_map_with_path(lambda path, x: choose([k.key for k in path], x), params)

    decayed = dict(weight_decay=config.weight_decay, mask=by_path(lambda path, _: path[-1] == "kernel"))
    if config.optimizer == "adamw":
        most = optax.adamw(rate(config.learning_rate), b1=0.9, b2=config.b2, **decayed)
    elif config.optimizer == "adafactor":
        most = optax.chain(
            optax.scale_by_factored_rms(decay_rate=0.8),
            optax.clip_by_block_rms(1.0),
            optax.ema(0.9, debias=False),
            optax.add_decayed_weights(**decayed),
            optax.scale_by_learning_rate(rate(config.learning_rate)),
        )
    else:
        raise ValueError(f"There is no optimizer {config.optimizer!r}; there are adamw and adafactor.")
    if not config.muon:
        return optax.chain(optax.clip_by_global_norm(config.clip), most)

    # The last two axes are the matrix; a stack of layers has one more before them.
    axes = functools.partial(jax.tree.map, lambda x: optax.contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1))
    muon = optax.chain(
        optax.contrib.scale_by_muon(weight_dimension_numbers=axes),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(rate(config.muon)),
    )
    inner = by_path(lambda path, _: "muon" if path[-1] == "kernel" and not {"logits", "head"} & {*path} else "most")
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.multi_transform(dict(muon=muon, most=most), inner))


def init_state(params: dict, config: TrainConfig, **extra) -> dict:
    """The state before the first step; `extra` are further arrays that a stage's `update` looks after."""
    # Copies: the step gives its input's memory away, so no two entries may share a buffer, nor may the caller's.
    copy = functools.partial(jax.tree.map, jnp.copy)
    opt = optimizer(config).init(params)
    return dict(params=copy(params), ema=copy(params), opt=opt, step=jnp.zeros((), int), **copy(extra))


def running_average(state: dict, params: dict, config: TrainConfig) -> dict:
    """state["ema"] moved a little towards the new params."""
    # A young average follows closely; otherwise a short run would still ship its first weights.
    decay = jnp.minimum(config.ema, (1 + state["step"]) / (10 + state["step"]))
    return optax.incremental_update(params, state["ema"], 1 - decay)


def gradients(loss_fn: Callable, parts: int, params: dict, key: jax.Array, batch: dict) -> tuple[dict, dict]:
    """Gradients of the loss and its metrics (the loss is one of them), the batch [B, ...] taken in `parts` parts.

    Each part has a key of its own. Gradients and metrics are the mean over the parts, so memory is that of one part.
    """

    def of(batch, key):
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, key, batch)
        return grads, metrics | dict(loss=loss)

    if parts == 1:
        return of(batch, key)
    if wrong := sorted({len(x) for x in jax.tree.leaves(batch) if len(x) % parts}):
        raise ValueError(f"A batch of {wrong[0]} does not part into {parts} of one size.")
    # A part is every `parts`-th row: on a mesh each device then computes rows of its own in every part.
    batch = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    keys = jax.random.split(key, parts)
    like = jax.eval_shape(of, jax.tree.map(lambda x: x[0], batch), keys[0])
    if any(value.ndim for value in like[1].values()):
        raise ValueError("A loss whose metrics are arrays cannot be taken in parts; set accumulate to 1.")
    add = lambda total, part: jax.tree.map(lambda a, b: a + b / parts, total, of(*part))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return jax.lax.scan(lambda total, part: (add(total, part), None), zeros, (batch, keys))[0]


def make_step(loss_fn: Callable, config: TrainConfig, update: Callable | None = None) -> Callable:
    """Compile one training step: (state, batch) -> (state, metrics of scalars).

    loss_fn(params, key, batch) -> (loss, metrics). Metrics that are arrays are for `update(state, key, metrics) ->
    state`, which runs after the gradient step (codebook restarts, for instance), and are not returned.
    """
    tx = optimizer(config)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state["step"]))
        grads, metrics = gradients(loss_fn, config.accumulate, state["params"], key, batch)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        ema = running_average(state, params, config)
        state = state | dict(params=params, ema=ema, opt=opt, step=state["step"] + 1)
        if update is not None:
            state = update(state, update_key, metrics)
        scalars = {k: v for k, v in metrics.items() if jnp.ndim(v) == 0}
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        return state, scalars | dict(grad_norm=norm)

    return step
