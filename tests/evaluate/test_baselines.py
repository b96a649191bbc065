"""The twins that Muse is compared with: what each sees, how it samples, that it trains."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree

from minimuse import layers
from minimuse.config import DiffusionConfig, Sampling, TrainConfig, TransformerConfig
from minimuse.data.scenes import BACKGROUNDS
from minimuse.decoding import Prompts
from minimuse.evaluate import baselines
from minimuse.evaluate.baselines import BASELINES, Twin
from minimuse.evaluate.fidelity import evaluate_generation
from minimuse.muse import Muse
from minimuse.train import losses
from minimuse.vqgan import unit
from minimuse.weights import named_arrays, with_arrays

SIZES = dict(codebook_size=12, grid=(2, 3), width=16, depth=2, heads=2, mlp_width=32, text_width=8)
CONFIGS = dict(autoregressive=TransformerConfig(**SIZES), diffusion=DiffusionConfig(**SIZES, code_dim=4))
TRAIN = TrainConfig(steps=1, batch=2)


def made(name):
    return random_tree(layers.abstract(BASELINES[name].module, CONFIGS[name]))


def inputs(batch=3, text=5):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 12, (batch, 6)), jnp.int32)
    return (
        tokens,
        jnp.asarray(rng.normal(size=(batch, text, 8)), jnp.float32),
        jnp.arange(text) < jnp.array([[2], [5], [3]]),
    )


@jax.jit
def autoregressive_logits(model, tokens, text, mask):
    return model(tokens, model.text_keys_values(text), mask)


def prompts():
    """The same captions on both sides."""
    _, text, mask = inputs()
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(3))
    return Prompts((text, mask), (text, mask), keys)


# --- autoregressive -------------------------------------------------------------------------------------------------


def test_a_position_sees_only_those_before_it():
    model, (tokens, text, mask) = made("autoregressive"), inputs()
    logits = autoregressive_logits(model, tokens, text, mask)
    for i in range(6):
        changed = autoregressive_logits(model, tokens.at[:, i].set((tokens[:, i] + 1) % 12), text, mask)
        difference = np.abs(changed - logits).max((0, 2))
        assert (difference[: i + 1] == 0).all(), i  # itself and all before it
        assert (difference[i + 1 :] > 1e-4).all(), i


def test_one_position_at_a_time_gives_what_all_at_once_gives():
    model, (tokens, text, mask) = made("autoregressive"), inputs()

    @jax.jit
    def walk(model):
        keys_values = model.text_keys_values(text)

        def step(past, inputs):
            before, i = inputs
            logits, past = model.step(before, i, past, keys_values, mask)
            return past, logits

        before = jnp.concatenate([jnp.full((3, 1), 12, tokens.dtype), tokens[:, :-1]], 1)
        _, found = jax.lax.scan(step, (jnp.zeros((2, 3, 6, 2, 8)),) * 2, (before.T, jnp.arange(6)))
        return found.swapaxes(0, 1)

    np.testing.assert_allclose(walk(model), autoregressive_logits(model, tokens, text, mask), atol=1e-4)


def test_the_most_likely_tokens_are_those_of_the_model():
    """At a low temperature every sampled token is the best one after the tokens before it."""
    model, (_, text, mask) = made("autoregressive"), inputs()
    sampling = Sampling(guided=False, guidance=0.0, token_temperature=1e-3)
    drawn = baselines.sample_autoregressive(model, sampling, prompts())
    assert (jnp.argmax(autoregressive_logits(model, drawn, text, mask), -1) == drawn).all()


def test_guidance_of_the_caption_against_itself_changes_nothing():
    draw = lambda t, guided: baselines.sample_autoregressive(
        made("autoregressive"), Sampling(guided=guided, guidance=t, token_temperature=0.5), prompts()
    )
    assert (draw(0.0, False) == draw(5.0, True)).mean() > 0.9  # except for rounding at ties


# --- diffusion ------------------------------------------------------------------------------------------------------


def test_picture_and_noise_follow_from_v():
    x, e = np.random.default_rng(0).normal(size=(2, 7))
    for progress in (0.0, 0.3, 1.0):
        alpha, sigma = baselines.signal_and_noise(progress)
        assert alpha**2 + sigma**2 == pytest.approx(1)
        z, v = alpha * x + sigma * e, alpha * e - sigma * x
        np.testing.assert_allclose(alpha * z - sigma * v, x, atol=1e-6)
        np.testing.assert_allclose(sigma * z + alpha * v, e, atol=1e-6)


def test_a_model_that_knows_the_picture_is_followed_to_it():
    """For any noise and number of steps, DDIM ends at the picture that every prediction points to."""
    codes = 2 * unit(jax.random.normal(jax.random.key(1), (12, 4)))
    tokens = inputs()[0]

    class Knows(baselines.DiffusionTransformer):
        def __call__(self, z, progress, keys_values, text_mask):
            alpha, sigma = (part[:, None, None] for part in baselines.signal_and_noise(progress))
            x = self.codes()[tokens]
            noise = (z - alpha * x) / jnp.maximum(sigma, 1e-6)
            return alpha * noise - sigma * x

    model = with_arrays(random_tree(layers.abstract(Knows, CONFIGS["diffusion"])), dict(codebook=codes))
    for steps in (1, 2, 7):
        sampling = Sampling(guided=False, guidance=0.0, steps=steps)
        assert (baselines.sample_diffusion(model, sampling, prompts()) == tokens).all()


def test_the_diffusion_loss_by_hand():
    """A fresh model predicts v = 0; with codes of length 2 in 4 dimensions, both x and noise have a variance of 1."""
    codes = 2 * unit(jax.random.normal(jax.random.key(1), (12, 4)))
    model = with_arrays(made("diffusion"), {"codebook": codes, "logits.kernel": jnp.zeros((16, 4))})
    tokens, text, mask = inputs()
    batch = dict(
        tokens=jnp.tile(tokens, (200, 1)), text=jnp.tile(text, (200, 1, 1)), text_mask=jnp.tile(mask, (200, 1))
    )
    loss, _ = jax.jit(losses.diffusion_loss, static_argnums=(0, 1))(
        CONFIGS["diffusion"], TRAIN, model, jax.random.key(0), batch
    )
    assert loss == pytest.approx(1, abs=0.05)


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_every_weight_that_should_learn_gets_a_gradient(name):
    tokens, text, mask = inputs()
    batch = dict(tokens=tokens, text=text, text_mask=mask)
    loss = lambda model: losses.BASELINE_LOSSES[name](CONFIGS[name], TRAIN, model, jax.random.key(0), batch)[0]
    grads = named_arrays(jax.jit(jax.grad(loss))(made(name)))
    fixed = {"text_mean", "text_whiten", "codebook"}
    assert {weight for weight, grad in grads.items() if not np.any(grad)} == fixed & set(grads)


@pytest.fixture(scope="module")
def twin_folder(micro_folder, tmp_path_factory):
    """The micro checkpoint with both twins, trained for some steps."""
    import shutil

    from minimuse import cli

    folder = tmp_path_factory.mktemp("twins") / "run"
    shutil.copytree(micro_folder, folder)
    for name in BASELINES:
        cli.main(["train", name, "--preset", "micro", "--out", str(folder)])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_a_twin_trains_and_draws(name, twin_folder, capsys):
    from minimuse import cli

    twin = Twin.from_pretrained(name, twin_folder)
    images = twin.generate(["a cat", "a dog"], n=2, seed=1)
    assert images.shape == (4, 64, 64, 3) and images.dtype == np.uint8
    tokens = twin.tokens(["a cat", "a dog"], seed=1)
    assert (twin.tokens("a cat", seed=1) == tokens[:1]).all() and (twin.tokens("a cat", seed=2) != tokens[:1]).any()
    assert (twin.tokens("a cat", seed=1, negative="a dog", guidance=9.0) != tokens[:1]).any()
    settings = evaluate_generation(twin, n=2, guidance=1.0)["settings"]
    assert settings["guidance"] == 1.0 and set(twin.defaults) <= set(settings) and "temperature" not in settings
    cli.main(["evaluate", name, "--preset", str(twin_folder), "--n", "2", "--guidance", "0", "--json"])
    assert json.loads(capsys.readouterr().out)["settings"]["guidance"] == 0


def test_what_a_twin_refuses(twin_folder, micro_folder):
    twin = Twin.from_pretrained("diffusion", twin_folder)
    with pytest.raises(ValueError, match=r"\btemperature\b.*\bsteps\b"):
        twin.generate("a cat", temperature=1.0)
    for options, message in (
        (dict(guidance=-1), r"\bguidance\b.*-1"),
        (dict(steps=0), r"\bsteps\b.*\b0\b"),
    ):
        with pytest.raises(ValueError, match=message):
            twin.generate("a cat", **options)
    with pytest.raises(ValueError, match=r"\[\]"):
        twin.generate([])
    with pytest.raises(ValueError, match=r"\bgan\b.*autoregressive"):
        Twin.from_pretrained("gan", twin_folder)
    with pytest.raises(ValueError, match="train diffusion"):
        Twin.from_pretrained("diffusion", micro_folder)


def test_shipped_twins_draw_what_is_requested():
    """The real weights: blue means blue."""
    muse = Muse.from_pretrained("tiny", superres=False)
    for name in BASELINES:
        images = Twin.from_pretrained(name, "tiny", muse).generate(
            [f"a cat on a {c} background" for c in ("blue", "yellow")]
        )
        for image, colour in zip(images, ("blue", "yellow")):
            corner = image[:4, :4].reshape(-1, 3).mean(0)
            assert np.abs(corner - BACKGROUNDS[colour]).max() < 25, name
