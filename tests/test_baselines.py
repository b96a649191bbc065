"""The twins that Muse is compared with: what each sees, how it is sampled, that it trains."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import random_tree
from flax import nnx

from minimuse import layers
from minimuse.config import DiffusionConfig, TrainConfig, TransformerConfig
from minimuse.data.scenes import BACKGROUNDS
from minimuse.evaluate import baselines
from minimuse.evaluate.baselines import TWINS, Twin
from minimuse.evaluate.fidelity import evaluate_generation
from minimuse.muse import Muse
from minimuse.train import losses
from minimuse.vqgan import unit

SIZES = dict(codebook_size=12, grid=(2, 3), width=16, depth=2, heads=2, mlp_width=32, text_width=8)
CONFIGS = dict(autoregressive=TransformerConfig(**SIZES), diffusion=DiffusionConfig(**SIZES, code_dim=4))
TRAIN = TrainConfig(steps=1, batch=2)


def made(name):
    graphdef, like = layers.abstract(TWINS[name].module, CONFIGS[name])
    return graphdef, random_tree(like)


def inputs(batch=3, text=5):
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, 12, (batch, 6)), jnp.int32)
    return (
        tokens,
        jnp.asarray(rng.normal(size=(batch, text, 8)), jnp.float32),
        jnp.arange(text) < jnp.array([[2], [5], [3]]),
    )


@jax.jit
def autoregressive_logits(params, tokens, text, mask):
    model = nnx.merge(made("autoregressive")[0], params)
    return model(tokens, model.text_keys_values(text), mask)


def keys(batch, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(batch))


# --- autoregressive -------------------------------------------------------------------------------------------------


def test_a_place_sees_those_before_it_and_no_other():
    _, params = made("autoregressive")
    tokens, text, mask = inputs()
    logits = autoregressive_logits(params, tokens, text, mask)
    for i in range(6):
        changed = autoregressive_logits(params, tokens.at[:, i].set((tokens[:, i] + 1) % 12), text, mask)
        apart = np.abs(changed - logits).max((0, 2))
        assert (apart[: i + 1] == 0).all(), i  # itself and all before it
        assert (apart[i + 1 :] > 1e-4).all(), i


def test_one_place_at_a_time_gives_what_all_at_once_gives():
    graphdef, params = made("autoregressive")
    tokens, text, mask = inputs()
    expected = autoregressive_logits(params, tokens, text, mask)

    @jax.jit
    def walk(params):
        model = nnx.merge(graphdef, params)
        keys_values = model.text_keys_values(text)
        past, found = (jnp.zeros((2, 3, 6, 2, 8)),) * 2, []
        for i in range(6):
            before = tokens[:, i - 1] if i else jnp.full(3, 12)
            logits, past = model.step(before, jnp.array(i), past, keys_values, mask)
            found.append(logits)
        return jnp.stack(found, 1)

    np.testing.assert_allclose(walk(params), expected, atol=1e-4)


def test_the_likeliest_tokens_are_those_of_the_model():
    """At a low temperature every token drawn is the best one after the tokens before it."""
    graphdef, params = made("autoregressive")
    _, text, mask = inputs()
    options = dict(guidance=0.0, token_temperature=1e-3)
    drawn = baselines.sample_autoregressive(
        graphdef, params, (text, mask), (text, mask), keys(3), options, guided=False
    )
    assert (jnp.argmax(autoregressive_logits(params, drawn, text, mask), -1) == drawn).all()


def test_guidance_of_the_caption_against_itself_changes_nothing():
    graphdef, params = made("autoregressive")
    _, text, mask = inputs()
    draw = lambda t, guided: baselines.sample_autoregressive(
        graphdef, params, (text, mask), (text, mask), keys(3), dict(guidance=t, token_temperature=0.5), guided=guided
    )
    assert (draw(0.0, False) == draw(5.0, True)).mean() > 0.9  # but for rounding at ties


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
    """Whatever the noise and the number of steps, DDIM ends at the picture that every prediction points to."""
    codes = 2 * unit(jax.random.normal(jax.random.key(1), (12, 4)))
    params = made("diffusion")[1] | dict(codebook=codes)
    tokens, text, mask = inputs()

    class Knows(baselines.DiffusionTransformer):
        def __call__(self, z, progress, keys_values, text_mask):
            alpha, sigma = (part[:, None, None] for part in baselines.signal_and_noise(progress))
            x = self.codes()[tokens]
            noise = (z - alpha * x) / jnp.maximum(sigma, 1e-6)
            return alpha * noise - sigma * x

    graphdef = layers.abstract(Knows, CONFIGS["diffusion"])[0]
    for steps in (1, 2, 7):
        options = dict(guidance=0.0)
        arguments = (graphdef, params, (text, mask), (text, mask), keys(3), options)
        assert (baselines.sample_diffusion(*arguments, guided=False, steps=steps) == tokens).all()


def test_the_diffusion_loss_by_hand():
    """A fresh model predicts v = 0; with codes of length 2 in 4 dimensions, both x and noise have a variance of 1."""
    graphdef, params = made("diffusion")
    codes = 2 * unit(jax.random.normal(jax.random.key(1), (12, 4)))
    params = params | dict(codebook=codes, logits=jax.tree.map(jnp.zeros_like, params["logits"]))
    tokens, text, mask = inputs()
    batch = dict(
        tokens=jnp.tile(tokens, (200, 1)), text=jnp.tile(text, (200, 1, 1)), text_mask=jnp.tile(mask, (200, 1))
    )
    loss, _ = losses.diffusion_loss(graphdef, CONFIGS["diffusion"], TRAIN, params, jax.random.key(0), batch)
    assert loss == pytest.approx(1, abs=0.05)


# --- both -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWINS)
def test_every_weight_that_should_learn_gets_a_gradient(name):
    graphdef, params = made(name)
    tokens, text, mask = inputs()
    batch = dict(tokens=tokens, text=text, text_mask=mask)
    loss = lambda params: losses.BASELINES[name](graphdef, CONFIGS[name], TRAIN, params, jax.random.key(0), batch)[0]
    grads = jax.grad(loss)(params)
    fixed = {"text_mean", "text_whiten", "codebook"}
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert bool(jnp.any(grad)) != (path[0].key in fixed), path


@pytest.fixture(scope="module")
def twin_folder(micro_folder, tmp_path_factory):
    """The micro checkpoint with both twins, trained for some steps."""
    import shutil

    from minimuse import cli

    folder = tmp_path_factory.mktemp("twins") / "run"
    shutil.copytree(micro_folder, folder)
    for name in TWINS:
        cli.main(["train", name, "--preset", "micro", "--out", str(folder)])
    return folder


@pytest.mark.parametrize("name", TWINS)
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


def test_shipped_twins_draw_what_is_asked():
    """The real weights: blue means blue."""
    muse = Muse.from_pretrained("tiny", superres=False)
    for name in TWINS:
        images = Twin.from_pretrained(name, "tiny", muse).generate(
            [f"a cat on a {c} background" for c in ("blue", "yellow")]
        )
        for image, colour in zip(images, ("blue", "yellow")):
            corner = image[:4, :4].reshape(-1, 3).mean(0)
            assert np.abs(corner - BACKGROUNDS[colour]).max() < 25, name
