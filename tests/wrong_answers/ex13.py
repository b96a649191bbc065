"""Wrong answers to exercises 13."""

import math

import jax
import jax.numpy as jnp
import numpy as np

SUMS = {"adamw": 2, "adafactor": 1, "sgd": 0}


def cost(weights, run, numbers=None, bytes_kept=None, rows=None, state=None, seconds=None):
    """Bytes and seconds; what is given replaces a part of the right formula."""
    devices = run["data"] * run["fsdp"]
    numbers = 2 + run["ema"] + SUMS[run["optimizer"]] if numbers is None else numbers
    rows = run["batch"] / devices / run["accumulate"] if rows is None else rows
    bytes_kept = (2 if run["dtype"] == "bfloat16" else 4) if bytes_kept is None else bytes_kept
    state = 4 * weights * numbers / run["fsdp"] if state is None else state
    if seconds is None:
        seconds = 6 * weights * run["tokens"] * run["batch"] * run["steps"] / devices / run["speed"]
    return np.array([state + rows * run["kept"] * bytes_kept, seconds])


def numbers_of(choose):
    return lambda weights, run: cost(weights, run, numbers=choose(run))


def rows_of(choose):
    return lambda weights, run: cost(weights, run, rows=choose(run))


def timed(choose):
    """What a device holds is right; seconds by a formula of N D and the settings."""
    return lambda w, run: cost(w, run, seconds=choose(w * run["tokens"] * run["batch"] * run["steps"], run))


def halved_state(weights, run):
    held, seconds = cost(weights, run)
    size = 2 if run["dtype"] == "bfloat16" else 4
    return cost(weights, run, state=size * weights * (2 + run["ema"] + SUMS[run["optimizer"]]) / run["fsdp"])


def split_state(divide):
    def answer(weights, run):
        return cost(weights, run, state=4 * weights * (2 + run["ema"] + SUMS[run["optimizer"]]) / divide(run))

    return answer


def own_step(
    loss,
    shard,
    xs,
    ys,
    rate,
    reduce=lambda g: jax.lax.pmean(g, ("data", "fsdp")),
    index=lambda: jax.lax.axis_index("fsdp"),
):
    w = jax.lax.all_gather(shard, "fsdp", tiled=True)
    g = reduce(jax.grad(loss)(w, xs, ys))
    return shard - rate * jax.lax.dynamic_slice_in_dim(g, index() * len(shard), len(shard))


def stepping(**options):
    return lambda *args: own_step(*args, **options)


def whole_weights(loss, shard, xs, ys, rate):
    w = jax.lax.all_gather(shard, "fsdp", tiled=True)
    return w - rate * jax.lax.pmean(jax.grad(loss)(w, xs, ys), ("data", "fsdp"))


def half_unreduced(loss, shard, xs, ys, rate):
    """`psum_scatter` adds up; the sum is not divided."""
    w = jax.lax.all_gather(shard, "fsdp", tiled=True)
    g = jax.lax.pmean(jax.grad(loss)(w, xs, ys), "data")
    return shard - rate * jax.lax.psum_scatter(g, "fsdp", tiled=True)


def scattered(loss, shard, xs, ys, rate):
    """Right: the sum is divided by the number of devices."""
    w = jax.lax.all_gather(shard, "fsdp").reshape(-1)
    g = jax.lax.psum_scatter(jax.grad(loss)(w, xs, ys), "fsdp", tiled=True)
    return shard - rate * jax.lax.pmean(g, "data") / jax.lax.psum(1, "fsdp")


def through_the_gather(loss, shard, xs, ys, rate):
    """Right: the gradient of a gather adds up what all devices need of a share."""
    g = jax.grad(lambda s: loss(jax.lax.all_gather(s, "fsdp", tiled=True), xs, ys))(shard)
    return shard - rate * jax.lax.psum(g, "data") / jax.lax.psum(1, ("data", "fsdp"))


def all_rows(loss, shard, xs, ys, rate):
    """Right, but it gathers rows instead of averaging gradients."""
    for axis in ("fsdp", "data"):
        xs, ys = (jax.lax.all_gather(v, axis, tiled=True) for v in (xs, ys))
    return own_step(loss, shard, xs, ys, rate, reduce=lambda g: g)


def moved(own_loss, params, batch, pieces, total=None, each=lambda mask: 1.0, last=lambda total, pieces: total):
    """Loss and gradients as a sum over pieces, with the losses of a piece weighed by `each` of its mask."""
    total = jnp.sum(batch["mask"]) if total is None else total
    size = len(batch["mask"]) // pieces
    found = None
    for i in range(pieces):
        rows = jax.tree.map(lambda v: v[i * size : (i + 1) * size], batch)  # noqa: B023

        def share(params):
            return jnp.sum(own_loss(params, rows) * rows["mask"]) * each(rows["mask"]) / total  # noqa: B023

        part = jax.value_and_grad(share)(params)
        found = part if found is None else jax.tree.map(jnp.add, found, part)
    return jax.tree.map(lambda v: last(v, pieces), found)


def mean_of_means(losses, params, batch, pieces):
    return moved(losses, params, batch, pieces, total=pieces, each=lambda mask: 1 / mask.sum())


def at_once(losses, params, batch, pieces, weight=lambda mask: mask / mask.sum()):
    return jax.value_and_grad(lambda p: jnp.sum(losses(p, batch) * weight(batch["mask"])))(params)


def weighed(weight):
    return lambda losses, params, batch, pieces: at_once(losses, params, batch, pieces, weight)


def by_vmap(losses, params, batch, pieces):
    split = jax.tree.map(lambda v: v.reshape(pieces, -1, *v.shape[1:]), batch)
    share = lambda p, rows: jnp.sum(losses(p, rows) * rows["mask"]) / batch["mask"].sum()
    parts = jax.vmap(jax.value_and_grad(share), in_axes=(None, 0))(params, split)
    return jax.tree.map(lambda v: v.sum(0), parts)


def by_scan(losses, params, batch, pieces):
    split = jax.tree.map(lambda v: v.reshape(-1, pieces, *v.shape[1:]).swapaxes(0, 1), batch)

    def add(carry, rows):
        part = jax.value_and_grad(lambda p: jnp.sum(jnp.where(rows["mask"], losses(p, rows), 0.0)))(params)
        return jax.tree.map(jnp.add, carry, part), rows["mask"].sum()

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, counts = jax.lax.scan(add, zero, split)
    return jax.tree.map(lambda v: v / counts.sum(), total)


def checkpointed(losses, params, batch, pieces):
    """One gradient, of a loop whose pieces are computed again in the backward pass."""
    split = jax.tree.map(lambda v: v.reshape(pieces, -1, *v.shape[1:]), batch)

    @jax.checkpoint
    def of(p, rows):
        return jnp.sum(losses(p, rows) * rows["mask"])

    def whole(p):
        return jax.lax.scan(lambda t, rows: (t + of(p, rows), None), 0.0, split)[0] / batch["mask"].sum()

    return jax.value_and_grad(whole)(params)


def half(params, dtype=jnp.float16):
    return jax.tree.map(lambda x: x.astype(dtype), params)


def gradients(loss, params, scale, dtype=jnp.float16):
    return jax.grad(lambda p: loss(p) * scale.astype(dtype))(half(params, dtype))


def finite(tree):
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def scaled(
    loss,
    params,
    scale,
    rate,
    grads=gradients,
    unscale=lambda g, scale: g.astype(jnp.float32) / scale,
    skip=finite,
    next_scale=lambda fine, scale: jnp.where(fine, scale, scale / 2),
):
    slopes = jax.tree.map(lambda g: unscale(g, scale), grads(loss, params, scale))
    fine = skip(slopes)
    new = jax.tree.map(lambda p, g: jnp.where(fine, p - rate * g, p), params, slopes)
    return new, next_scale(fine, scale)


def scaling(**options):
    return lambda *args: scaled(*args, **options)


def by_parts(loss, params, scale, rate, of=lambda x: jnp.isfinite(x)):
    slopes = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradients(loss, params, scale))
    new = jax.tree.map(lambda p, g: jnp.where(of(g), p - rate * g, p), params, slopes)
    return new, jnp.where(finite(slopes), scale, scale / 2)


def by_an_if(loss, params, scale, rate):
    slopes = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradients(loss, params, scale))
    if finite(slopes):
        return jax.tree.map(lambda p, g: p - rate * g, params, slopes), scale
    return params, scale / 2


def by_product(loss, params, scale, rate):
    slopes = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradients(loss, params, scale))
    fine = finite(slopes)
    return jax.tree.map(lambda p, g: p - rate * g * fine, params, slopes), jnp.where(fine, scale, scale / 2)


def by_the_loss(loss, params, scale, rate):
    """Judges the scaled loss, too."""
    value, slopes = jax.value_and_grad(lambda p: loss(p) * scale.astype(jnp.float16))(half(params))
    slopes = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, slopes)
    fine = jnp.isfinite(value) & finite(slopes)
    new = jax.tree.map(lambda p, g: jnp.where(fine, p - rate * g, p), params, slopes)
    return new, jnp.where(fine, scale, scale / 2)


def only_the_loss(loss, params, scale, rate):
    value, slopes = jax.value_and_grad(lambda p: loss(p) * scale.astype(jnp.float16))(half(params))
    fine = jnp.isfinite(value)
    new = jax.tree.map(lambda p, g: jnp.where(fine, p - rate * g.astype(jnp.float32) / scale, p), params, slopes)
    return new, jnp.where(fine, scale, scale / 2)


def without_infinities(loss, params, scale, rate):
    slopes = jax.tree.map(
        lambda g: jnp.nan_to_num(g.astype(jnp.float32), posinf=65504, neginf=-65504) / scale,
        gradients(loss, params, scale),
    )
    return jax.tree.map(lambda p, g: p - rate * g, params, slopes), scale


def by_cond(loss, params, scale, rate):
    slopes = jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradients(loss, params, scale))
    step = lambda: (jax.tree.map(lambda p, g: p - rate * g, params, slopes), scale)
    return jax.lax.cond(finite(slopes), step, lambda: (params, 0.5 * scale))


def scaled_in_float32(loss, params, scale, rate):
    """Right: the loss is multiplied as a float32, and the scale enters the float16 part as its first gradient."""
    total = lambda p: loss(half(p)).astype(jnp.float32) * scale
    slopes = jax.tree.map(lambda g: g / scale, jax.grad(total)(params))
    fine = jnp.isfinite(sum(jnp.abs(g).sum() for g in jax.tree.leaves(slopes)))
    return jax.tree.map(lambda p, g: jax.lax.select(fine, p - rate * g, p), params, slopes), scale * (1 + fine) / 2


def smooth(x, width=5):
    return np.convolve(x, np.ones(width) / width, "valid")


RULES = {
    "not finite": lambda log, codes: not np.isfinite(log["loss"]).all(),
    "no rate": lambda log, codes: not log["learning_rate"].any(),
    "wrong start": lambda log, codes: abs(log["loss"][0] / math.log(codes) - 1) > 0.2,
    "diverging": lambda log, codes: log["loss"][-5:].mean() > smooth(log["loss"]).min() + 0.1 * math.log(codes),
    "memorizing": lambda log, codes: rises(log["held_out_loss"], 0.25),
}


def rises(held, least):
    held = held[~np.isnan(held)]
    return held[-1] > held.min() + least


def diagnose(log, codes, rules=RULES, **instead):
    """The first rule that holds, in the order of RULES."""
    return next((name for name, rule in (rules | instead).items() if rule(log, codes)), "sound")


def by_rules(**instead):
    rules = {name.replace("_", " "): rule for name, rule in instead.items()}
    return lambda log, codes: diagnose(log, codes, RULES | rules)


def without(name):
    return lambda log, codes: diagnose(log, codes, {key: rule for key, rule in RULES.items() if key != name})


WRONG = {
    "run_cost": {
        "no gradients": (numbers_of(lambda run: 1 + run["ema"] + SUMS[run["optimizer"]]), "gradients are missing"),
        "no average": (numbers_of(lambda run: 2 + SUMS[run["optimizer"]]), "running average is missing"),
        "always an average": (numbers_of(lambda run: 3 + SUMS[run["optimizer"]]), "always counted"),
        "no optimizer": (numbers_of(lambda run: 2 + run["ema"]), "optimizer's numbers"),
        "AdamW for all": (numbers_of(lambda run: 4 + run["ema"]), "every optimizer"),
        "state in bfloat16": (halved_state, "stay in float32"),
        "four bytes always": (lambda w, run: cost(w, run, bytes_kept=4), "two bytes"),
        "not in pieces": (rows_of(lambda run: run["batch"] / run["data"] / run["fsdp"]), "one piece"),
        "pieces save time": (lambda w, run: cost(w, run) / [1, run["accumulate"]], "not the time"),
        "state by all devices": (split_state(lambda run: run["data"] * run["fsdp"]), "Only the axis"),
        "state not divided": (split_state(lambda run: 1), "its share"),
        "rows along fsdp only": (
            rows_of(lambda run: run["batch"] / run["fsdp"] / run["accumulate"]),
            "both axes of the mesh",
        ),
        "time of one device": (timed(lambda product, run: 6 * product / run["speed"]), "one device"),
        "2 N D": (timed(lambda product, run: 2 * product / run["speed"] / run["data"] / run["fsdp"]), "6 N D"),
        "exchanged": (lambda w, run: cost(w, run)[::-1], "order"),
    },
    "one_device_step": {
        "own rows only": (stepping(reduce=lambda g: g), "own rows only"),
        "along fsdp only": (stepping(reduce=lambda g: jax.lax.pmean(g, "fsdp")), "along `fsdp` only"),
        "along data only": (stepping(reduce=lambda g: jax.lax.pmean(g, "data")), "along `data` only"),
        "added up": (stepping(reduce=lambda g: jax.lax.psum(g, ("data", "fsdp"))), "added up"),
        "scattered, not divided": (half_unreduced, "divided by its size"),
        "the first share": (stepping(index=lambda: 0), "first share"),
        "uphill": (lambda loss, shard, xs, ys, rate: own_step(loss, shard, xs, ys, -rate), "uphill"),
        "not moved": (lambda loss, shard, xs, ys, rate: shard, "not moved"),
        "no rate": (lambda loss, shard, xs, ys, rate: own_step(loss, shard, xs, ys, 1.0), "rate"),
        "whole weights": (whole_weights, "own share"),
    },
    "pieced_gradient": {
        "a mean of means": (mean_of_means, "mean of the pieces' means"),
        "all places": (weighed(lambda mask: jnp.ones(mask.shape) / mask.size), "not hidden"),
        "by all places": (weighed(lambda mask: mask / mask.size), "number of all places"),
        "by rows": (weighed(lambda mask: mask / len(mask)), "number of rows"),
        "sums": (weighed(lambda mask: mask), "sum of losses"),
        "by pieces, too": (lambda *args: moved(*args, last=lambda v, pieces: v / pieces), "number of pieces"),
        "a sum for the loss": (
            lambda losses, params, batch, pieces: (
                moved(losses, params, batch, pieces)[0] * batch["mask"].sum(),
                moved(losses, params, batch, pieces)[1],
            ),
            "loss is a sum",
        ),
        "all at once": (at_once, "no memory is saved"),
        "vmap": (by_vmap, "no memory is saved"),
        "exchanged": (lambda *args: moved(*args)[::-1], "order"),
        "nothing by nothing": (
            lambda losses, params, batch, pieces: moved(
                losses, params, batch, pieces, each=lambda mask: mask.sum() / mask.sum()
            ),
            "nan",
        ),
    },
    "scaled_step": {
        "not unscaled": (scaling(unscale=lambda g, scale: g.astype(jnp.float32)), "still multiplied"),
        "not scaled": (
            scaling(
                grads=lambda loss, params, scale: jax.grad(loss)(half(params)),
                unscale=lambda g, scale: g.astype(jnp.float32),
            ),
            "not scaled",
        ),
        "unscaled in float16": (
            scaling(unscale=lambda g, scale: (g / scale.astype(jnp.float16)).astype(jnp.float32)),
            "while they are float16",
        ),
        "number by number": (by_parts, "Only those numbers"),
        "array by array": (lambda *args: by_parts(*args, of=lambda x: jnp.isfinite(x).all()), "Only those arrays"),
        "the scale stays": (scaling(next_scale=lambda fine, scale: scale), "stays the same"),
        "always halved": (scaling(next_scale=lambda fine, scale: scale / 2), "after every step"),
        "doubled": (scaling(next_scale=lambda fine, scale: jnp.where(fine, scale, scale * 2)), "doubled"),
        "never skipped": (scaling(skip=lambda slopes: jnp.array(True)), "must be skipped"),
        "times 0": (by_product, "0 · inf"),
        "an if": (by_an_if, "jnp.where"),
        "in float32": (scaling(grads=lambda *args: gradients(*args, dtype=jnp.float32)), "not float16"),
        "float16 params": (lambda *args: (half(scaled(*args)[0]), scaled(*args)[1]), "kept in float32"),
    },
    "diagnose_run": {
        "always sound": (lambda log, codes: "sound", "for all logs"),
        "a name of one's own": (lambda log, codes: "overfitting", "return one of"),
        "any nan": (
            by_rules(not_finite=lambda log, codes: any(np.isnan(x).any() for x in log.values())),
            "not a fault",
        ),
        "the last rate": (by_rules(no_rate=lambda log, codes: log["learning_rate"][-1] < 1e-6), "begins or ends"),
        "a single high row": (
            by_rules(
                diverging=lambda log, codes: (
                    log["loss"][1:].max() > log["loss"][0] + 0.3 or RULES["diverging"](log, codes)
                )
            ),
            "single high row",
        ),
        "no memorizing": (without("memorizing"), "held-out loss falls at first"),
        "only nan": (by_rules(not_finite=lambda log, codes: np.isnan(log["loss"]).any()), "infinite"),
    },
}


class Equal(str):
    """A text that claims to be equal to everything."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash("sound")


def changes_the_log(log, codes):
    found = diagnose(log, codes)
    log["held_out_loss"][:] = 0
    return found


def changes_the_run(weights, run):
    found = cost(weights, run)
    run["batch"] //= run["accumulate"]
    return found


REFUSED = {
    "run_cost": {
        "changes its argument": changes_the_run,
        "bits": lambda w, run: cost(w, run) * [8, 1],
        "gigabytes": lambda w, run: cost(w, run) / [1e9, 1],
        "hours": lambda w, run: cost(w, run) / [1, 3600],
        "one number": lambda w, run: cost(w, run)[0],
        "only the state": rows_of(lambda run: 0),
        "one row": rows_of(lambda run: 1),
        "tokens in what is kept": rows_of(
            lambda run: run["batch"] * run["tokens"] / run["data"] / run["fsdp"] / run["accumulate"]
        ),
        "pieces of one row": rows_of(lambda run: run["accumulate"]),
        "steps forgotten": timed(
            lambda product, run: 6 * product / run["steps"] / run["speed"] / run["data"] / run["fsdp"]
        ),
        "batch of a piece": timed(
            lambda product, run: 6 * product / run["accumulate"] / run["speed"] / run["data"] / run["fsdp"]
        ),
        "backward once": timed(lambda product, run: 4 * product / run["speed"] / run["data"] / run["fsdp"]),
        "twice as fast in bfloat16": lambda w, run: cost(w, run) / [1, 2 if run["dtype"] == "bfloat16" else 1],
        "the mesh's product on both": lambda w, run: cost(w, run) / [run["data"], 1],
        "gradients in bfloat16": lambda w, run: cost(
            w,
            run,
            numbers=1 + run["ema"] + SUMS[run["optimizer"]] + (0.5 if run["dtype"] == "bfloat16" else 1),
        ),
        "gradients not split": lambda w, run: cost(w, run) + [4 * w * (1 - 1 / run["fsdp"]), 0],
        "a copy in bfloat16": lambda w, run: cost(w, run) + [2 * w / run["fsdp"] * (run["dtype"] == "bfloat16"), 0],
    },
    "one_device_step": {
        "not gathered": lambda loss, shard, xs, ys, rate: shard - rate * jax.grad(loss)(shard, xs, ys),
        "its share of the rows' columns": lambda loss, shard, xs, ys, rate: (
            shard - rate * jax.lax.pmean(jax.grad(loss)(shard, xs[:, : len(shard)], ys), ("data", "fsdp"))
        ),
        "the largest": stepping(reduce=lambda g: jax.lax.pmax(g, ("data", "fsdp"))),
        "the last share": stepping(index=lambda: jax.lax.psum(1, "fsdp") - 1),
        "by the place along data": stepping(index=lambda: jax.lax.axis_index("data")),
        "one share further": stepping(index=lambda: jax.lax.axis_index("fsdp") + 1),
        "gathered along data": lambda loss, shard, xs, ys, rate: own_step(
            loss, jax.lax.all_gather(shard, "data")[0][::-1], xs, ys, rate
        ),
        "losses added up": lambda loss, shard, xs, ys, rate: own_step(
            lambda w, xs, ys: len(xs) * loss(w, xs, ys), shard, xs, ys, rate
        ),
        "divided twice": stepping(
            reduce=lambda g: jax.lax.pmean(g, ("data", "fsdp")) / jax.lax.psum(1, ("data", "fsdp"))
        ),
        "divided by rows": lambda loss, shard, xs, ys, rate: own_step(
            loss, shard, xs, ys, rate / len(xs), reduce=lambda g: jax.lax.psum(g, ("data", "fsdp"))
        ),
        "the gradient": lambda *args: args[1] - own_step(*args),
        "two steps": lambda loss, shard, xs, ys, rate: own_step(
            loss, own_step(loss, shard, xs, ys, rate), xs, ys, rate
        ),
        "every second number": lambda loss, shard, xs, ys, rate: (
            shard
            - rate
            * jax.lax.pmean(jax.grad(loss)(jax.lax.all_gather(shard, "fsdp").T.reshape(-1), xs, ys), ("data", "fsdp"))[
                : len(shard)
            ]
        ),
        "weights averaged": lambda *args: jax.lax.pmean(own_step(*args, reduce=lambda g: g), "fsdp"),
        "the first device's rows": stepping(
            reduce=lambda g: jax.lax.all_gather(jax.lax.all_gather(g, "fsdp")[0], "data")[0]
        ),
        "numpy": lambda loss, shard, xs, ys, rate: np.asarray(shard) - rate,
    },
    "pieced_gradient": {
        "the first piece": lambda losses, params, batch, pieces: at_once(
            losses, params, jax.tree.map(lambda v: v[: len(v) // pieces], batch), pieces
        ),
        "the last row left out": lambda losses, params, batch, pieces: at_once(
            losses, params, jax.tree.map(lambda v: v[:-1], batch), pieces
        ),
        "hidden and known exchanged": weighed(lambda mask: ~mask / (~mask).sum()),
        "a mean of rows' means": weighed(lambda mask: mask / mask.sum(1, keepdims=True) / len(mask)),
        "the first row's mask": weighed(lambda mask: jnp.broadcast_to(mask[0], mask.shape) / mask[0].sum() / len(mask)),
        "the largest piece": lambda losses, params, batch, pieces: moved(
            losses, params, batch, pieces, total=batch["mask"].reshape(pieces, -1).sum(1).max() * pieces
        ),
        "not differentiated": lambda losses, params, batch, pieces: (moved(losses, params, batch, pieces)[0], params),
        "uphill": lambda *args: (moved(*args)[0], jax.tree.map(jnp.negative, moved(*args)[1])),
        "gradients only": lambda *args: moved(*args)[1],
        "gradients in a list": lambda *args: (moved(*args)[0], list(moved(*args)[1].values())),
        "loss of each piece": lambda losses, params, batch, pieces: (
            jnp.full(pieces, moved(losses, params, batch, pieces)[0]),
            moved(losses, params, batch, pieces)[1],
        ),
        "a piece too few": lambda losses, params, batch, pieces: moved(losses, params, batch, max(pieces - 1, 1)),
        "at least one place per piece": lambda losses, params, batch, pieces: moved(
            losses, params, batch, pieces, total=jnp.maximum(batch["mask"].reshape(pieces, -1).sum(1), 1).sum()
        ),
        "halves": lambda losses, params, batch, pieces: by_scan(losses, params, batch, min(pieces, 2)),
        "checkpointed, but whole": lambda losses, params, batch, pieces: jax.value_and_grad(
            lambda p: jnp.sum(jax.checkpoint(losses)(p, batch) * batch["mask"]) / batch["mask"].sum()
        )(params),
        "empty pieces left out by a mean": lambda losses, params, batch, pieces: moved(
            losses,
            params,
            batch,
            pieces,
            total=(batch["mask"].reshape(pieces, -1).sum(1) > 0).sum(),
            each=lambda mask: 1 / jnp.maximum(mask.sum(), 1),
        ),
    },
    "scaled_step": {
        "the loss decides, too": by_the_loss,
        "only the loss decides": only_the_loss,
        "no infinities": without_infinities,
        "uphill": lambda loss, params, scale, rate: scaled(loss, params, scale, -rate),
        "no rate": lambda loss, params, scale, rate: scaled(loss, params, scale, 1.0),
        "unscaled twice": scaling(unscale=lambda g, scale: g.astype(jnp.float32) / scale**2),
        "a fixed scale": scaling(unscale=lambda g, scale: g.astype(jnp.float32) / 1024),
        "params set to 0": lambda *args: (
            jax.tree.map(lambda p: jnp.where(scaled(*args)[1] < args[2], 0.0, p), scaled(*args)[0]),
            scaled(*args)[1],
        ),
        "only nan": scaling(skip=lambda slopes: ~jnp.array([jnp.isnan(x).any() for x in slopes.values()]).any()),
        "only infinite": scaling(skip=lambda slopes: ~jnp.array([jnp.isinf(x).any() for x in slopes.values()]).any()),
        "only the weights decide": scaling(skip=lambda slopes: jnp.isfinite(slopes["w"]).all()),
        "only b decides": scaling(skip=lambda slopes: jnp.isfinite(slopes["b"]).all()),
        "any that is finite": scaling(
            skip=lambda slopes: jnp.array([jnp.isfinite(x).any() for x in slopes.values()]).any()
        ),
        "a quarter": scaling(next_scale=lambda fine, scale: jnp.where(fine, scale, scale / 4)),
        "doubled after each step": scaling(next_scale=lambda fine, scale: jnp.where(fine, scale * 2, scale / 2)),
        "exchanged": lambda *args: scaled(*args)[::-1],
        "only params": lambda *args: scaled(*args)[0],
        "clipped": scaling(unscale=lambda g, scale: jnp.clip(g.astype(jnp.float32) / scale, -1, 1)),
        "rounded params": lambda *args: (
            half(half(scaled(*args)[0]), jnp.float32),
            scaled(*args)[1],
        ),
    },
    "diagnose_run": {
        "changes its argument": changes_the_log,
        "equal to everything": lambda log, codes: Equal("sound"),
        "capitals": lambda log, codes: diagnose(log, codes).capitalize(),
        "a list": lambda log, codes: [diagnose(log, codes)],
        "no diverging": without("diverging"),
        "no start": without("wrong start"),
        "no rate": without("no rate"),
        "no nan": without("not finite"),
        "1,024 codes always": lambda log, codes: diagnose(log, 1024),
        "bits": by_rules(wrong_start=lambda log, codes: abs(log["loss"][0] / math.log2(codes) - 1) > 0.2),
        "only too high": by_rules(wrong_start=lambda log, codes: log["loss"][0] > 1.2 * math.log(codes)),
        "only too low": by_rules(wrong_start=lambda log, codes: log["loss"][0] < 0.8 * math.log(codes)),
        "above the first loss": by_rules(diverging=lambda log, codes: log["loss"][-1] > log["loss"][0]),
        "held out above the first": by_rules(
            memorizing=lambda log, codes: log["held_out_loss"][-1] > log["held_out_loss"][0]
        ),
        "any rise of the held-out loss": by_rules(memorizing=lambda log, codes: rises(log["held_out_loss"], 0.001)),
        "memorizing before diverging": lambda log, codes: (
            "memorizing" if RULES["memorizing"](log, codes) else diagnose(log, codes)
        ),
        "any rate of 0": by_rules(no_rate=lambda log, codes: (log["learning_rate"] == 0).any()),
        "the first rate": by_rules(no_rate=lambda log, codes: log["learning_rate"][0] == 0),
    },
}


def in_a_loop(weights, run):
    """Number by number."""
    size = dict(bfloat16=2, float32=4)[run["dtype"]]
    held = 4 * weights // run["fsdp"] if weights % run["fsdp"] == 0 else 4 * weights / run["fsdp"]
    total = held * sum([1, 1, bool(run["ema"]), *[1] * SUMS[run["optimizer"]]])
    pictures = run["batch"] / (run["data"] * run["fsdp"] * run["accumulate"])
    forward = 2 * weights * run["tokens"] * run["batch"]
    return (
        total + pictures * run["kept"] * size,
        (forward + 2 * forward) * run["steps"] / run["speed"] / (run["data"] * run["fsdp"]),
    )


def by_lines(log, codes):
    """Straight lines through the ends instead of smallest values."""
    loss, held = log["loss"], log["held_out_loss"][np.isfinite(log["held_out_loss"])]
    if not np.isfinite(loss).all():
        return np.str_("not finite")
    if log["learning_rate"].max() == 0:
        return "no rate"
    guess = np.log(codes)
    if not 0.8 * guess < np.mean(loss[:1]) < 1.2 * guess:
        return "wrong start"
    end, lowest = np.median(loss[-9:]), np.quantile(loss, 0.1)
    if end - lowest > 0.08 * guess:
        return "diverging"
    return "memorizing" if np.median(held[-3:]) - np.quantile(held, 0.1) > 0.15 else "sound"


UNUSUAL = {
    "run_cost": {
        "number by number": in_a_loop,
        "jnp": lambda w, run: jnp.array([float(x) for x in cost(w, run)]),
    },
    "one_device_step": {
        "scattered": scattered,
        "through the gather": through_the_gather,
        "all rows gathered": all_rows,
    },
    "pieced_gradient": {"scan": by_scan, "checkpoints": checkpointed, "a loop": moved},
    "scaled_step": {"cond": by_cond, "scaled in float32": scaled_in_float32},
    "diagnose_run": {"other rules": by_lines, "numpy text": lambda log, codes: np.str_(diagnose(log, codes))},
}
