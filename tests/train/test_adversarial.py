"""The discriminator, its losses by hand, and the step of two players: who moves, and by which gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import random_weights

from minimuse import layers, vqgan
from minimuse.config import AdversarialConfig, VQGANConfig
from minimuse.train import adversarial, codebook, losses
from minimuse.train.perceptual import perceptual_loss
from minimuse.train.step import init_state, optimizer

CONFIG = VQGANConfig(codebook_size=16, code_dim=4, channels=(16,), blocks=1)
TRAIN = AdversarialConfig(steps=20, batch=2, warmup=1, weight_decay=0.0, discriminator_start=0)


def maps(pixels):
    """A feature function: the differences of neighbours."""
    return [pixels[:, 1:] - pixels[:, :-1]]


@pytest.fixture(scope="module")
def tokenizer():
    return random_weights("tokenizer", CONFIG)


def batch(seed):
    return dict(images=np.random.default_rng(seed).integers(0, 256, (2, 16, 24, 3), np.uint8))


def start(tokenizer, train, **more):
    params, extra = adversarial.starting_state(tokenizer, train)
    return init_state(params, train, **extra, **more)


def run(tokenizer, train, steps=2, update=None, **extra):
    step = adversarial.make_step(CONFIG, train, maps, update)
    state, rows = start(tokenizer, train, **extra), []
    for i in range(steps):
        state, metrics = step(state, batch(i))
        rows.append({k: float(v) for k, v in metrics.items()})
    return state, rows


def same(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


# --- the discriminator ----------------------------------------------------------------------------------------------


def test_one_logit_a_patch_for_any_multiple_of_eight():
    judge = layers.init(adversarial.Discriminator)
    assert judge(jnp.zeros((2, 64, 64, 3))).shape == (2, 8, 8)
    assert judge(jnp.zeros((1, 24, 40, 3))).shape == (1, 3, 5)


def test_a_logit_sees_its_patch_and_22_pixels_around():
    judge = layers.init(adversarial.Discriminator)
    slope = jax.grad(lambda x: judge(x)[0, 5, 5])(jax.random.normal(jax.random.key(0), (1, 96, 96, 3)))
    rows = np.flatnonzero(np.abs(slope[0]).sum((1, 2)))
    assert (rows.min(), rows.max()) == (40 - 22, 47 + 22)


# --- losses by hand -------------------------------------------------------------------------------------------------


def test_a_batch_in_pieces_is_refused():
    with pytest.raises(ValueError, match=r"\baccumulate\b.*\b3\b"):
        adversarial.make_step(CONFIG, AdversarialConfig(steps=1, batch=6, accumulate=3), lambda pixels: [])


def test_hinge_by_hand():
    # True patches: 1 - 2 is past the hinge, 1 - 0 is not. Rebuilt: 1 - 3 is past it, 1 + 1 costs 2.
    true, rebuilt = jnp.array([2.0, 0.0]), jnp.array([-3.0, 1.0])
    assert adversarial.hinge_loss(true, rebuilt) == 0.5 * ((0 + 1) / 2 + (0 + 2) / 2)


def test_lecam_by_hand():
    means = jnp.array([1.0, -1.0])  # of true and of rebuilt patches
    # True at 0.5 is 1.5 above the rebuilt mean; rebuilt at -0.5 is 1.5 below the true mean.
    assert adversarial.lecam(jnp.array([0.5]), jnp.array([-0.5]), means) == 1.5**2 + 1.5**2
    # Where the two have changed sides there is nothing to hold back.
    assert adversarial.lecam(jnp.array([-2.0]), jnp.array([2.0]), means) == 0


def test_r1_by_hand():
    # logit of a picture = the sum of w x: its slope is w everywhere, |w|^2 = 2^2 * 4 * 4 * 3.
    judge = lambda x: (2 * x).sum((1, 2, 3))[:, None, None]
    assert adversarial.r1(judge, jnp.ones((5, 4, 4, 3))) == 4 * 48


def test_adaptive_weight_by_hand():
    rebuilding, fooling = jnp.array([3.0, 4.0]), jnp.array([0.0, 0.5])
    assert adversarial.adaptive_weight(rebuilding, fooling) == pytest.approx(5 / 0.5, rel=1e-3)
    assert adversarial.adaptive_weight(rebuilding, 0 * fooling) == 1e4  # at most


# --- the step -------------------------------------------------------------------------------------------------------


def test_frozen_means_bit_identical(tokenizer):
    state, _ = run(tokenizer, TRAIN, steps=3)
    kept = adversarial.tokenizer_of(CONFIG, state)
    for part in ("encoder", "codebook"):
        assert same(getattr(kept, part), getattr(tokenizer, part))
    assert isinstance(state["params"], vqgan.Decoder) and not same(state["params"], tokenizer.decoder)
    assert same(kept.decoder, state["ema"])
    images = vqgan.to_float(batch(9)["images"])
    before, after = (model.tokenize(images) for model in (tokenizer, kept))
    assert (before == after).all()


def test_the_step_takes_weights_of_channels(tokenizer):
    """As those of LPIPS; the other losses are the same."""
    state, images = start(tokenizer, TRAIN), vqgan.to_float(batch(0)["images"])
    plain, weighted = (
        adversarial.tokenizer_gradients(CONFIG, TRAIN, maps, state, images, channels)[2]
        for channels in (None, [jnp.array([2.0, 2.0, 2.0])])
    )
    assert weighted["perceptual"] == pytest.approx(2 * float(plain["perceptual"]), rel=1e-4)
    assert weighted["l1"] == pytest.approx(float(plain["l1"]), rel=1e-4)


def test_at_first_the_discriminator_changes_nothing(tokenizer):
    """While only the discriminator learns, the tokenizer takes the steps that it would take without one."""
    alone = dataclasses.replace(TRAIN, discriminator_start=99, freeze_tokens=False)
    none = dataclasses.replace(alone, adversarial=0.0, discriminator_start=0, discriminator_rate=0.0, lecam=0.0)
    (first, rows), (second, bare) = run(tokenizer, alone, 3), run(tokenizer, none, 3)
    for one, other in zip(jax.tree.leaves(first["params"]), jax.tree.leaves(second["params"])):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert not same(first["discriminator"], second["discriminator"])
    assert {row["weight"] for row in rows} == {0.0}
    # Without the adversarial loss there is no discriminator to train.
    assert same(second["discriminator"], adversarial.starting_state(tokenizer, none)[1]["discriminator"])
    assert not {"discriminator", "weight"} & bare[0].keys() and second["step"] == 3


def test_its_own_loss_never_reaches_the_tokenizer(tokenizer):
    """The discriminator's loss, however large, moves only the discriminator."""
    free = dataclasses.replace(TRAIN, freeze_tokens=False)
    loud = dataclasses.replace(free, r1=1000.0, lecam=1000.0)
    (one, _), (other, _) = run(tokenizer, free, 2), run(tokenizer, loud, 2)
    # The first step's rate is 0 (warm-up) for both players, so the second step still met equal discriminators.
    pairs = list(zip(jax.tree.leaves(one["params"]), jax.tree.leaves(other["params"]), strict=True))
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in pairs)  # two programs may add in two orders
    assert not same(one["discriminator"], other["discriminator"])


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [True, False])
def test_the_step_follows_the_gradient_of_the_written_loss(tokenizer, freeze):
    """Three gradients meet at the picture; that equals the gradient of one sum, with the adaptive weight held still."""
    train = dataclasses.replace(TRAIN, freeze_tokens=freeze, warmup=1, clip=1e9)
    judge, images = layers.init(adversarial.Discriminator, seed=train.seed), vqgan.to_float(batch(0)["images"])
    moving, frozen = tokenizer.decoder if freeze else tokenizer, adversarial.frozen_arrays(tokenizer)

    def rebuilding(moving):
        model = adversarial.with_decoder(CONFIG, frozen, moving) if freeze else moving
        decoded, codes, _ = losses.code_losses(model, CONFIG, images)
        pixels = jnp.mean(jnp.abs(decoded - images)) + jnp.mean((decoded - images) ** 2)
        return pixels + train.perceptual * perceptual_loss(maps, decoded, images), codes, -jnp.mean(judge(decoded))

    def at_last(which):
        slopes = jax.grad(lambda moving: rebuilding(moving)[which])(moving)
        return (slopes if freeze else slopes.decoder).stages.layers[-1].kernel[...]

    weight = train.adversarial * adversarial.adaptive_weight(at_last(0), at_last(2))
    total = lambda moving: sum(w * loss for w, loss in zip((1, 1, weight), rebuilding(moving)))
    tx = optimizer(train)
    opt, expected = tx.init(moving), moving
    for _ in range(2):  # the first step's rate is 0, so both are at the same place
        updates, opt = tx.update(jax.grad(total)(moving), opt, moving)
        expected = optax.apply_updates(expected, updates)

    step = adversarial.make_step(CONFIG, train, maps)
    state = start(tokenizer, train)
    for _ in range(2):
        state, metrics = step(state, batch(0))
    # Sums are in another order, and Adam's first steps are all sign: where a gradient is about 0, its sign may differ.
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    ours, theirs, before = flat(state["params"]), flat(expected), flat(moving)
    assert np.mean(np.abs(ours - theirs) < 0.05 * np.abs(theirs - before).max()) > 0.99
    assert np.abs(ours - before).max() > 0
    if freeze:
        assert metrics["weight"] == pytest.approx(float(weight), rel=1e-3)


@pytest.mark.slow
def test_a_blind_tokenizer_is_found_out_and_a_perfect_one_is_not():
    """The hinge falls to nothing where true and rebuilt pictures differ, and stays at 1 where they are the same."""
    train = dataclasses.replace(TRAIN, discriminator_rate=3e-3)
    tx = optimizer(dataclasses.replace(train, learning_rate=3e-3))
    images = vqgan.to_float(batch(0)["images"])
    for rebuilt, low, high in ((jnp.zeros_like(images), 0.0, 0.3), (images, 0.999, 1.01)):
        params = layers.init(adversarial.Discriminator)
        loss = lambda judge, r=rebuilt: adversarial.hinge_loss(judge(images), judge(r))
        step, opt = jax.jit(jax.value_and_grad(loss)), tx.init(params)
        for _ in range(20):
            value, grads = step(params)
            updates, opt = tx.update(grads, opt, params)
            params = optax.apply_updates(params, updates)
        assert low <= step(params)[0] <= high


@pytest.mark.slow
def test_the_whole_tokenizer_can_go_on_learning_with_its_codes(tokenizer):
    free = dataclasses.replace(TRAIN, freeze_tokens=False)
    usage = jnp.full(CONFIG.codebook_size, 1.0).at[3].set(0.001)  # one code is dead, the others must stay
    update = lambda state, key, metrics: codebook.update_codes(CONFIG, state, key, metrics)
    state, rows = run(tokenizer, free, 2, update, usage=usage)
    moved = jnp.abs(state["params"].codebook[...] - tokenizer.codebook[...]).max(-1)
    assert moved.argmax() == 3 and jnp.median(moved) < 0.05 < moved[3]
    assert np.isfinite([value for row in rows for value in row.values()]).all()
