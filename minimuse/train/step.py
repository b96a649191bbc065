"""One training step: optimizer, gradients, the running average of the weights."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from minimuse.config import TrainConfig
from minimuse.weights import named_arrays

# Of a pytree, mostly: a model's weights, or gradients of the same form.
Tree = Any


def by_name(choose: Callable[[list[str]], Any]) -> Callable[[Tree], Tree]:
    """A function of weights that gives a tree of the same form: at each leaf `choose` of its name's parts, such as
    ["blocks", "qkv", "kernel"]."""

    def of(tree: Tree) -> Tree:
        names = [name.split(".") for name in named_arrays(tree)]
        return jax.tree.unflatten(jax.tree.structure(tree), [choose(name) for name in names])

    return of


def debiased_decay(step: ArrayLike, b2: ArrayLike) -> jax.Array:
    """The decay of Adafactor's running means at step 0, 1, ..., for which they are those of Adam with its b2:
    b2 (1 - b2^step) / (1 - b2^(step + 1)), which rises from 0 to b2 (arXiv 1804.04235, section 7.1).

    In optax, as in Adafactor's paper (7.2), the decay is 1 - t^-0.8 by default, which rises to 1 and has no b2. The
    tables of Muse name a b2, so its means have a fixed memory of about 1 / (1 - b2) steps.
    """
    step, b2 = jnp.asarray(step, jnp.float32), jnp.asarray(b2)
    return b2 * (1 - b2**step) / (1 - b2 ** (step + 1))


def schedule(config: TrainConfig, peak: float) -> optax.Schedule:
    """The learning rate of each step, 0 first: linear warm-up to `peak`, then a cosine decay to 2% of it."""
    warmup = min(config.warmup, max(1, config.steps // 2))
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(config.steps, warmup + 1), 0.02 * peak)


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW or Adafactor with linear warm-up, cosine decay to 2% and clipping; only matrices (`kernel`) decay.

    config.b2 is the decay of the running mean of squared gradients in both, see `debiased_decay`. Adafactor keeps sums
    over rows and columns of these means, and limits the root mean square of a weight's update to 1 before the momentum
    of 0.9.

    With config.muon the matrices inside the model are trained by Muon (momentum, orthogonalized before each step)
    at that rate, and AdamW keeps the rest: vectors, embeddings, and the last layer, `logits` or `head`.
    """
    rate = functools.partial(schedule, config)
    matrices = by_name(lambda name: name[-1] == "kernel")
    if config.optimizer == "adamw":
        most = optax.adamw(
            rate(config.learning_rate), b1=0.9, b2=config.b2, weight_decay=config.weight_decay, mask=matrices
        )
    elif config.optimizer == "adafactor":
        most = optax.chain(
            optax.scale_by_factored_rms(decay_rate=config.b2, decay_rate_fn=debiased_decay),
            optax.clip_by_block_rms(1.0),
            optax.ema(0.9, debias=False),
            optax.add_decayed_weights(config.weight_decay, mask=matrices),
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
    kinds: dict[Hashable, optax.GradientTransformation] = {"muon": muon, "most": most}
    inside = by_name(lambda name: "muon" if name[-1] == "kernel" and not {"logits", "head"} & {*name} else "most")
    return optax.chain(optax.clip_by_global_norm(config.clip), optax.multi_transform(kinds, inside))


def init_state(params: Tree, config: TrainConfig, **extra: Tree) -> dict[str, Tree]:
    """The state before the first step: params, ema, opt, step, and `extra`, which the step or its `update` looks
    after."""
    # Copies: the step gives its input's memory away, so no two entries may share a buffer, nor may the caller's.
    copy = functools.partial(jax.tree.map, jnp.copy)
    opt = optimizer(config).init(params)
    if config.dtype == "float16":
        extra = extra | dict(scaling=dict(scale=jnp.float32(FIRST_SCALE), steps=jnp.zeros((), int)))
    return dict(params=copy(params), ema=copy(params), opt=opt, step=jnp.zeros((), int), **copy(extra))


FIRST_SCALE, STEPS_TO_DOUBLE = 2.0**16, 2000  # as PyTorch's GradScaler


def next_scale(scaling: dict[str, jax.Array], finite: jax.Array) -> dict[str, jax.Array]:
    """Dynamic loss scaling (arXiv 1710.03740): half the scale after gradients that were not finite, twice the scale
    after STEPS_TO_DOUBLE steps in a row with finite ones. `steps` counts these."""
    scale, steps = scaling["scale"], scaling["steps"] + 1
    doubled = steps >= STEPS_TO_DOUBLE
    grown = jnp.where(doubled, 2 * scale, scale)
    return dict(scale=jnp.where(finite, grown, scale / 2), steps=jnp.where(finite & ~doubled, steps, 0))


def running_average(state: dict[str, Tree], params: Tree, config: TrainConfig) -> Tree:
    """state["ema"] moved a little towards the new params."""
    # A young average follows closely; otherwise a short run would still ship its first weights.
    decay = jnp.minimum(config.ema, (1 + state["step"]) / (10 + state["step"]))
    return optax.incremental_update(params, state["ema"], 1 - decay)


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss in parts, so that a batch can be computed in pieces. It is called like a function:
    (*settings, model, key, batch) -> (loss, metrics).

    draw      (*settings, key, batch) -> the batch with everything random in it: masks, noise, dropped captions
    share     (*settings, model, rows, batch) -> (loss, sums, by_row): what some rows of a drawn batch contribute to its
              loss and its metrics. It divides by the number of places in the whole batch, so losses and sums of pieces
              add up to those of the whole. by_row holds arrays [rows, ...], which are put back in the batch's order.
    metrics   (sums, by_row of the whole batch) -> metrics
    """

    draw: Callable
    share: Callable
    metrics: Callable = operator.or_

    def __call__(self, *args: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        *settings, model, key, batch = args
        batch = self.draw(*settings, key, batch)
        loss, sums, by_row = self.share(*settings, model, batch, batch)
        return loss, self.metrics(sums, by_row)


def share_of_mean(x: jax.Array, batch: dict) -> jax.Array:
    """What x, of some rows of a batch, contributes to the mean of x over the whole batch: a scalar."""
    return jnp.mean(x) * (len(x) / _rows(batch))


def _rows(batch: dict) -> int:
    return len(jax.tree.leaves(batch)[0])


def _in_parts(loss: Callable) -> Loss:
    """A Loss with its settings bound. A plain function is taken as the mean over rows that it must be."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, functools.partial) and isinstance(loss.func, Loss):
        draw, share = (functools.partial(part, *loss.args) for part in (loss.func.draw, loss.func.share))
        return Loss(draw, share, loss.func.metrics)

    def refused(why: str) -> ValueError:
        return ValueError(
            f"This loss cannot be computed in pieces, since {why}. Make it a train.step.Loss, or set accumulate to 1."
        )

    def share(model: Tree, rows: dict, batch: dict) -> tuple:
        try:
            value, metrics = loss(model, None, rows)
        except TypeError as error:
            raise refused(f"it does not take None as its key ({error})") from error
        if arrays := [name for name, x in metrics.items() if jnp.ndim(x)]:
            raise refused(f"its metric {arrays[0]} is an array")
        part = _rows(rows) / _rows(batch)
        return value * part, {name: x * part for name, x in metrics.items()}, {}

    return Loss(lambda key, batch: batch, share)


def gradients(
    loss: Callable, pieces: int, params: Tree, key: jax.Array, batch: dict, scale: ArrayLike = 1.0
) -> tuple[Tree, dict]:
    """Gradients of the loss and its metrics (the loss is one of them), the batch [B, ...] taken in `pieces` pieces.

    loss    a Loss, or a `functools.partial` of one with its settings. A plain function (model, key, batch) -> (loss,
            metrics) can be computed in pieces if it is a mean over rows, draws no random numbers (its key is None) and
            has scalar metrics.
    scale   gradients are those of scale times the loss, divided by it again. In float16 numbers below 6e-8 are 0, and
            so would many gradients be.

    Gradients and metrics are those of the whole batch, up to the order of sums: everything random is drawn for the
    whole batch at once. Only one piece at a time needs the memory of a forward and a backward pass. ValueError if B is
    not a multiple of `pieces`.
    """
    unscaled = functools.partial(jax.tree.map, lambda grad: grad / scale)
    if pieces == 1:

        def whole(params: Tree) -> tuple:
            value, metrics = loss(params, key, batch)
            return value * scale, metrics | dict(loss=value)

        grads, metrics = jax.grad(whole, has_aux=True)(params)
        return unscaled(grads), metrics
    if wrong := sorted({len(x) for x in jax.tree.leaves(batch) if len(x) % pieces}):
        raise ValueError(
            f"A batch of {wrong[0]} cannot be split into {pieces} equal pieces; choose another accumulate."
        )
    parts = _in_parts(loss)
    batch = parts.draw(key, batch)

    def of(rows: dict) -> tuple:
        def share(params: Tree) -> tuple:
            value, sums, by_row = parts.share(params, rows, batch)
            return value * scale, (sums | dict(loss=value), by_row)

        grads, (sums, by_row) = jax.grad(share, has_aux=True)(params)
        return (grads, sums), by_row

    def add(total: Tree, rows: dict) -> tuple:
        found, by_row = of(rows)
        return jax.tree.map(jnp.add, total, found), by_row

    # A piece is every `pieces`-th row: on a mesh each device then computes rows of its own in every piece.
    split = jax.tree.map(lambda x: x.reshape(-1, pieces, *x.shape[1:]).swapaxes(0, 1), batch)
    like = jax.eval_shape(of, jax.tree.map(lambda x: x[0], split))[0]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    (grads, sums), by_row = jax.lax.scan(add, zeros, split)
    by_row = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), by_row)
    value = sums.pop("loss")
    return unscaled(grads), parts.metrics(sums, by_row) | dict(loss=value)


def make_step(loss: Callable, config: TrainConfig, update: Callable | None = None) -> Callable:
    """Compile one training step: (state, batch) -> (state, metrics, all of them scalars).

    loss      (model, key, batch) -> (loss, metrics); for config.accumulate above 1 see `gradients`
    update    (state, key, metrics) -> state, after the gradient step (codebook restarts, for instance). Metrics that
              are arrays are for it, and are not returned.

    In float16 the loss is scaled, see `next_scale`. A step whose gradients are not finite changes nothing but the
    scale; its gradient norm is NaN.
    """
    tx = optimizer(config)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: dict[str, Tree], batch: dict) -> tuple[dict[str, Tree], dict]:
        key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), state["step"]))
        scaling = state.get("scaling")
        scale = 1.0 if scaling is None else scaling["scale"]
        grads, metrics = gradients(loss, config.accumulate, state["params"], key, batch, scale)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = dict(params=params, ema=running_average(state, params, config), opt=opt)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
        if scaling is not None:
            finite = jnp.isfinite(norm)
            new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, {name: state[name] for name in new})
            new["scaling"], norm = next_scale(scaling, finite), jnp.where(finite, norm, jnp.nan)
            metrics = metrics | dict(loss_scale=scaling["scale"])
        state = state | new | dict(step=state["step"] + 1)
        if update is not None:
            state = update(state, update_key, metrics)
        return state, scalars(metrics) | dict(grad_norm=norm)

    return step


@jax.jit
def all_finite(tree: Tree) -> jax.Array:
    """Whether no array of a tree holds NaN or an infinite number: a bool []."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.array([jnp.isfinite(x).all() for x in floats]).all()


def scalars(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Those of the metrics that are single numbers."""
    return {name: value for name, value in metrics.items() if jnp.ndim(value) == 0}
