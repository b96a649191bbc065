"""The GAN in VQGAN: a patch discriminator, and the training of tokenizer and discriminator against each other.

The discriminator learns to distinguish true patches from rebuilt ones; the tokenizer learns to prevent that.
Where a token does not say exactly where an edge is, squared differences are smallest for a blurred edge; and a blur is
the first thing that a discriminator sees.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from minimuse import layers
from minimuse.config import AdversarialConfig, VQGANConfig
from minimuse.evaluate.metrics import psnr
from minimuse.train.losses import code_losses, pixel_loss
from minimuse.train.perceptual import perceptual_loss
from minimuse.train.step import Tree, optimizer, running_average, scalars
from minimuse.vqgan import VQGAN, Decoder, Halve, space_to_depth, to_float
from minimuse.weights import named_arrays, with_arrays

# --- the discriminator ----------------------------------------------------------------------------------------------


class LeakyReLU(nnx.Module):
    """x where it is positive, else 0.2 x: a discriminator must pass gradients on where it is sure, too."""

    def __call__(self, x: jax.Array) -> jax.Array:
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

    def __call__(self, pixels: jax.Array) -> jax.Array:
        return self.stages(space_to_depth(pixels, 2))[..., 0]


# --- losses ---------------------------------------------------------------------------------------------------------


def hinge_loss(true: jax.Array, rebuilt: jax.Array) -> jax.Array:
    """The discriminator's loss on its logits: nothing to gain beyond +1 for true and -1 for rebuilt patches."""
    return 0.5 * (jnp.mean(jax.nn.relu(1 - true)) + jnp.mean(jax.nn.relu(1 + rebuilt)))


def lecam(true: jax.Array, rebuilt: jax.Array, means: jax.Array) -> jax.Array:
    """LeCam regularizer (arXiv 2104.03310): true logits are held near the running mean of the rebuilt ones and the
    reverse; means [2] = (true, rebuilt). A discriminator that is sure of everything gives no useful gradient."""
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

    With it the two pull the decoder equally, however steep the discriminator has become (VQGAN, equation 7).
    """

    def norm(x: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(x**2))

    return jnp.clip(norm(rebuilding) / (norm(fooling) + 1e-4), 0, most)


# --- training -------------------------------------------------------------------------------------------------------


def frozen_arrays(tokenizer: VQGAN) -> dict[str, jax.Array]:
    """The named arrays of a tokenizer's encoder and codebook, which decide its tokens."""
    return {name: x for name, x in named_arrays(tokenizer).items() if not name.startswith("decoder.")}


def with_decoder(config: VQGANConfig, frozen: dict[str, jax.Array], decoder: Decoder) -> VQGAN:
    """A tokenizer of `frozen_arrays` and a decoder."""
    arrays = {f"decoder.{name}": x for name, x in named_arrays(decoder).items()}
    return with_arrays(layers.abstract(VQGAN, config), frozen | arrays)


def tokenizer_of(config: VQGANConfig, state: dict[str, Tree], weights: str = "ema") -> VQGAN:
    """The tokenizer of a training state: what was frozen, if anything was, and what was trained.

    weights    "params", or "ema" for their running average, which is the one to keep
    """
    return with_decoder(config, state["frozen"], state[weights]) if state["frozen"] else state[weights]


def starting_state(tokenizer: VQGAN, train: AdversarialConfig) -> tuple[Tree, dict[str, Tree]]:
    """What is trained, and what the step keeps beside it, from a tokenizer that already rebuilds pictures.

    With train.freeze_tokens only the decoder is trained, and the rest waits in `frozen`.
    """
    discriminator: Tree = layers.init(Discriminator, seed=train.seed)
    extra = dict(
        frozen=frozen_arrays(tokenizer) if train.freeze_tokens else {},
        discriminator=discriminator,
        discriminator_opt=optimizer(_discriminator_config(train)).init(discriminator),
        means=jnp.zeros(2),
    )
    return tokenizer.decoder if train.freeze_tokens else tokenizer, extra


def _discriminator_config(train: AdversarialConfig) -> AdversarialConfig:
    return dataclasses.replace(train, learning_rate=train.discriminator_rate)


def tokenizer_gradients(
    config: VQGANConfig,
    train: AdversarialConfig,
    maps: Callable,
    state: dict[str, Tree],
    images: jax.Array,
    channels: Sequence[jax.Array] | None = None,
) -> tuple[Tree, jax.Array, dict[str, jax.Array]]:
    """Gradients of the tokenizer's losses on images float [B, H, W, 3]; also the rebuilt pictures, and metrics.

    The tokenizer runs forward once. Its three losses meet at the rebuilt picture: their gradients there are added up,
    weighted, and sent back through decoder and encoder together.

    maps, channels    as `perceptual_loss` takes them
    """

    def rebuild(params: Tree) -> tuple:
        tokenizer = tokenizer_of(config, state | dict(params=params), "params")
        decoded, loss, metrics = code_losses(tokenizer, config, images)
        return (decoded, loss), metrics

    (decoded, _), back, metrics = jax.vjp(rebuild, state["params"], has_aux=True)

    def rebuilding(pixels: jax.Array) -> tuple:
        loss, l1 = pixel_loss(pixels, images)
        seen = perceptual_loss(maps, pixels, images, channels) if train.perceptual else jnp.zeros(())
        return loss + train.perceptual * seen, dict(l1=l1, perceptual=seen)

    (loss, terms), towards_images = jax.value_and_grad(rebuilding, has_aux=True)(decoded)
    metrics |= terms | dict(psnr=psnr(decoded, images), loss=loss)
    if train.adversarial:
        heard, judged = adversarial_gradient(train, state, decoded, towards_images, back)
        towards_images, metrics = towards_images + heard, metrics | judged
    (grads,) = back((towards_images, jnp.ones(())))
    return grads, decoded, metrics


def adversarial_gradient(
    train: AdversarialConfig, state: dict[str, Tree], decoded: jax.Array, towards_images: jax.Array, back: Callable
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The weighted gradient of the adversarial loss at the rebuilt pictures [B, H, W, 3], and metrics.

    towards_images    the gradient of the reconstruction losses at the rebuilt pictures
    back              gradients at the rebuilt pictures and at the codes' loss -> the weights' gradients
    """
    fooling, towards_true = jax.value_and_grad(lambda pixels: -jnp.mean(state["discriminator"](pixels)))(decoded)

    # XLA computes no more of these two passes than their last kernels' gradients.
    def last(pixels: jax.Array) -> jax.Array:
        (grads,) = back((pixels, jnp.zeros(())))
        decoder = grads if state["frozen"] else grads.decoder
        return decoder.stages.layers[-1].kernel[...]

    weight = adaptive_weight(last(towards_images), last(towards_true)) if train.adaptive else 1.0
    weight = jnp.where(state["step"] >= train.discriminator_start, train.adversarial * weight, 0.0)
    # A product with a weight of 0 would still let a nan through.
    return jnp.where(weight > 0, weight * towards_true, 0.0), dict(adversarial=fooling, weight=weight)


def discriminator_gradients(
    train: AdversarialConfig, state: dict[str, Tree], images: jax.Array, decoded: jax.Array
) -> tuple[Tree, dict[str, jax.Array]]:
    """Gradients of the discriminator's losses on true and rebuilt pictures, both float [B, H, W, 3], and metrics.

    Nothing flows back from its losses to the tokenizer.
    """

    def judging(discriminator: Discriminator) -> tuple:
        true, rebuilt = discriminator(images), discriminator(jax.lax.stop_gradient(decoded))
        loss = hinge = hinge_loss(true, rebuilt)
        if train.lecam:
            loss += train.lecam * lecam(true, rebuilt, state["means"])
        if train.r1:
            loss += train.r1 / 2 * r1(discriminator, images)
        return loss, dict(discriminator=hinge, logits_true=true.mean(), logits_rebuilt=rebuilt.mean())

    return jax.grad(judging, has_aux=True)(state["discriminator"])


def check_whole(train: AdversarialConfig) -> None:
    """ValueError for a batch in pieces: the adaptive weight is a ratio of two gradients of the whole batch."""
    if train.accumulate != 1:
        raise ValueError(
            f"Training against a discriminator computes its batch as a whole; accumulate was {train.accumulate}. Set "
            "it to 1, and choose a smaller batch if the whole does not fit in memory."
        )


def make_step(
    config: VQGANConfig,
    train: AdversarialConfig,
    maps: Callable,
    update: Callable | None = None,
    channels: Sequence[jax.Array] | None = None,
) -> Callable:
    """Compile one step of both players: (state, batch with images uint8 [B, H, W, 3]) -> (state, metrics).

    maps      the feature function of the perceptual loss
    update    as of `step.make_step`; with frozen tokens there is nothing to update
    channels  weights of the feature function's channels, see `perceptual_loss`

    The discriminator learns from the same rebuilt pictures that the tokenizer was judged by. Where train.adversarial is
    0, it is left out. ValueError if train.accumulate is not 1.
    """
    check_whole(train)
    tx, d_tx = optimizer(train), optimizer(_discriminator_config(train))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: dict[str, Tree], batch: dict) -> tuple[dict[str, Tree], dict]:
        _, update_key = jax.random.split(jax.random.fold_in(jax.random.key(train.seed), state["step"]))
        images = to_float(batch["images"])
        grads, decoded, metrics = tokenizer_gradients(config, train, maps, state, images, channels)
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        state = state | dict(params=params, ema=running_average(state, params, train), opt=opt)
        judged = {}
        if train.adversarial:  # otherwise the discriminator has no effect
            d_grads, judged = discriminator_gradients(train, state, images, decoded)
            d_updates, opt = d_tx.update(d_grads, state["discriminator_opt"], state["discriminator"])
            means = jnp.stack([judged["logits_true"], judged["logits_rebuilt"]])
            state = state | dict(
                discriminator=optax.apply_updates(state["discriminator"], d_updates),
                discriminator_opt=opt,
                means=0.99 * state["means"] + 0.01 * means,
            )
        state = state | dict(step=state["step"] + 1)
        if update is not None:
            state = update(state, update_key, metrics)
        return state, scalars(metrics) | judged

    return step
