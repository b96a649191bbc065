"""The GAN in VQGAN: a patch discriminator, and the training of tokenizer and discriminator against each other.

The discriminator learns to tell true patches from rebuilt ones; the tokenizer learns to leave it nothing to see.
Where a token does not say exactly where an edge is, squared differences are smallest for a blurred one; and a blur is
the first thing that a discriminator sees.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from minimuse import layers
from minimuse.config import AdversarialConfig, VQGANConfig
from minimuse.evaluate.metrics import psnr
from minimuse.train import step as training_step
from minimuse.train.losses import code_losses, pixel_loss
from minimuse.train.perceptual import perceptual_loss
from minimuse.vqgan import Halve, space_to_depth, to_float

# --- the discriminator ----------------------------------------------------------------------------------------------


class LeakyReLU(nnx.Module):
    """x where it is positive, else 0.2 x: a discriminator must pass gradients on where it is sure, too."""

    def __call__(self, x):
        return jax.nn.leaky_relu(x, 0.2)


class Discriminator(nnx.Module):
    """Pixels [B, H, W, 3] in [-1, 1] -> one logit for every 8 x 8 patch [B, H/8, W/8]: true if positive.

    Every logit sees its patch and 22 pixels around it: texture, edges and parts, not the whole scene. Nothing is
    normalised over the batch: true and rebuilt pictures come in separate ones, whose statistics could give them away.
    """

    def __init__(self, channels: tuple[int, int, int] = (48, 96, 128), *, rngs: nnx.Rngs):
        stages, width = [], 3 * 2**2
        for level, channel in enumerate(channels):
            if level:
                stages.append(Halve())
                width *= 4
            stages += [nnx.Conv(width, channel, (3, 3), rngs=rngs), LeakyReLU()]
            width = channel
        self.stages = nnx.Sequential(*stages, nnx.Conv(width, 1, (3, 3), rngs=rngs))

    def __call__(self, pixels):
        return self.stages(space_to_depth(pixels, 2))[..., 0]


# --- losses ---------------------------------------------------------------------------------------------------------


def hinge_loss(true: jax.Array, rebuilt: jax.Array) -> jax.Array:
    """The discriminator's loss on its logits: nothing to gain beyond +1 for true and -1 for rebuilt patches."""
    return 0.5 * (jnp.mean(jax.nn.relu(1 - true)) + jnp.mean(jax.nn.relu(1 + rebuilt)))


def lecam(true: jax.Array, rebuilt: jax.Array, means: jax.Array) -> jax.Array:
    """LeCam regularizer (arXiv 2104.03310): true logits are held near the running mean of the rebuilt ones and the
    reverse; means [2] = (true, rebuilt). A discriminator that is sure of everything teaches nothing."""
    return jnp.mean(jax.nn.relu(true - means[1]) ** 2) + jnp.mean(jax.nn.relu(means[0] - rebuilt) ** 2)


def r1(judge: Callable, images: jax.Array) -> jax.Array:
    """R1 regularizer (arXiv 1801.04406): |d logit / d pixels|^2 on true pictures [B, H, W, 3], a mean over the batch;
    the logit of a picture is the mean over its patches.

    Steep logits make the two players spin; this flattens them where the data is.
    """
    slope = jax.grad(lambda x: judge(x).mean((1, 2)).sum())(images)
    return jnp.mean(jnp.sum(slope**2, (1, 2, 3)))


def adaptive_weight(rebuilding: jax.Array, fooling: jax.Array, most: float = 1e4) -> jax.Array:
    """|gradient of the reconstruction losses| / |gradient of the adversarial loss|, both at the decoder's last kernel.

    With it the two pull the decoder alike, however steep the discriminator has become (VQGAN, equation 7).
    """
    norm = lambda x: jnp.sqrt(jnp.sum(x**2))
    return jnp.clip(norm(rebuilding) / (norm(fooling) + 1e-4), 0, most)


# --- training -------------------------------------------------------------------------------------------------------


def init_state(params: dict, train: AdversarialConfig, **extra) -> dict:
    """The state before the first step, from the weights of a tokenizer that already rebuilds pictures.

    params is what is trained; with train.freeze_tokens that is the decoder, and the rest waits in `frozen`.
    """
    frozen = {k: v for k, v in params.items() if train.freeze_tokens and k != "decoder"}
    moving = {k: v for k, v in params.items() if k not in frozen}
    discriminator = layers.init(Discriminator, seed=train.seed)[1]
    return training_step.init_state(
        moving,
        train,
        frozen=frozen,
        discriminator=discriminator,
        discriminator_opt=training_step.optimizer(_discriminator_config(train)).init(discriminator),
        means=jnp.zeros(2),
        **extra,
    )


def weights(state: dict) -> dict:
    """The tokenizer to keep: what was frozen, and the running average of what was trained."""
    return state["frozen"] | state["ema"]


def _discriminator_config(train: AdversarialConfig) -> AdversarialConfig:
    return dataclasses.replace(train, learning_rate=train.discriminator_rate)


def tokenizer_gradients(graphdef, config: VQGANConfig, train: AdversarialConfig, maps, judge, state, images):
    """Gradients of the tokenizer's losses on images float [B, H, W, 3]; also the rebuilt pictures, and metrics.

    The tokenizer runs forward once. Its three losses meet at the rebuilt picture: their gradients there are added up,
    weighted, and sent back through decoder and encoder together. judge(pixels) are the discriminator's logits.
    """

    def rebuild(params):
        model = nnx.merge(graphdef, state["frozen"] | params)
        decoded, loss, metrics = code_losses(model, config, images)
        return (decoded, loss), metrics

    (decoded, _), back, metrics = jax.vjp(rebuild, state["params"], has_aux=True)

    def rebuilding(pixels):
        loss, l1 = pixel_loss(pixels, images)
        seen = perceptual_loss(maps, pixels, images) if train.perceptual else jnp.zeros(())
        return loss + train.perceptual * seen, dict(l1=l1, perceptual=seen)

    (loss, parts), towards_images = jax.value_and_grad(rebuilding, has_aux=True)(decoded)
    fooling, towards_true = jax.value_and_grad(lambda pixels: -jnp.mean(judge(pixels)))(decoded)

    # XLA computes no more of these two passes than their last kernels' gradients.
    def last(pixels):
        last_layers = back((pixels, jnp.zeros(())))[0]["decoder"]["stages"]["layers"]
        return last_layers[max(last_layers)]["kernel"]

    weight = adaptive_weight(last(towards_images), last(towards_true)) if train.adaptive else 1.0
    weight = jnp.where(state["step"] >= train.discriminator_start, train.adversarial * weight, 0.0)
    # A product with a weight of 0 would still let a nan through.
    heard = jnp.where(weight > 0, weight * towards_true, 0.0)
    (grads,) = back((towards_images + heard, jnp.ones(())))
    metrics |= parts | dict(psnr=psnr(decoded, images), loss=loss, adversarial=fooling, weight=weight)
    return grads, decoded, metrics


def discriminator_gradients(train: AdversarialConfig, judge, state, images, decoded):
    """Gradients of the discriminator's losses on true and rebuilt pictures, both float [B, H, W, 3], and metrics.

    judge(params, pixels) are its logits. No way leads back from its losses to the tokenizer.
    """

    def judging(params):
        true, rebuilt = judge(params, images), judge(params, jax.lax.stop_gradient(decoded))
        loss = hinge = hinge_loss(true, rebuilt)
        if train.lecam:
            loss += train.lecam * lecam(true, rebuilt, state["means"])
        if train.r1:
            loss += train.r1 / 2 * r1(functools.partial(judge, params), images)
        return loss, dict(discriminator=hinge, logits_true=true.mean(), logits_rebuilt=rebuilt.mean())

    return jax.grad(judging, has_aux=True)(state["discriminator"])


def make_step(
    graphdef, config: VQGANConfig, train: AdversarialConfig, maps: Callable, update: Callable | None = None
) -> Callable:
    """One compiled step of both players: (state, batch with images uint8 [B, H, W, 3]) -> (state, metrics).

    maps    the feature function of the perceptual loss
    update  as of `step.make_step`; with frozen tokens there is nothing to update

    The discriminator learns from the same rebuilt pictures that the tokenizer was judged by.
    """
    d_graphdef = layers.abstract(Discriminator)[0]
    tx, d_tx = training_step.optimizer(train), training_step.optimizer(_discriminator_config(train))
    judge = lambda params, pixels: nnx.merge(d_graphdef, params)(pixels)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, batch):
        _, update_key = jax.random.split(jax.random.fold_in(jax.random.key(train.seed), state["step"]))
        images, today = to_float(batch["images"]), functools.partial(judge, state["discriminator"])
        grads, decoded, metrics = tokenizer_gradients(graphdef, config, train, maps, today, state, images)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        d_grads, judged = discriminator_gradients(train, judge, state, images, decoded)
        d_updates, discriminator_opt = d_tx.update(d_grads, state["discriminator_opt"], state["discriminator"])
        means = jnp.stack([judged["logits_true"], judged["logits_rebuilt"]])
        state = state | dict(
            params=params,
            ema=training_step.running_average(state, params, train),
            opt=opt,
            discriminator=optax.apply_updates(state["discriminator"], d_updates),
            discriminator_opt=discriminator_opt,
            means=0.99 * state["means"] + 0.01 * means,
            step=state["step"] + 1,
        )
        if update is not None:
            state = update(state, update_key, metrics)
        return state, {k: v for k, v in metrics.items() if jnp.ndim(v) == 0} | judged

    return step
