"""What the benchmarks count; speed is never tested."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import mesh, paper_sizes, peers, pictures, superres
from benchmarks.flops import attended, condition_flops, forward_flops, pass_flops
from benchmarks.peers import OURS, Contender
from minimuse.config import SuperresConfig, T5Config, TransformerConfig, VQGANConfig
from minimuse.muse import init_stage
from minimuse.presets import paper_preset


@pytest.mark.parametrize("depth, text_length", [(1, 5), (1, 16)])
def test_flops_are_those_of_the_compiled_program(depth, text_length):
    config = TransformerConfig(codebook_size=256, width=64, depth=depth, heads=4, mlp_width=256, text_width=48)
    model = init_stage("base", config)
    inputs = (jnp.zeros((1, 64), int), jnp.zeros((1, text_length, 48)), np.ones((1, text_length), bool))

    def forward(model, tokens, text, mask):
        return model(tokens, model.text_keys_values(text), mask)

    counted = jax.jit(forward).lower(model, *inputs).compile().cost_analysis()["flops"]
    # XLA counts norms, softmax and activations, too; they are a few percent at this width.
    assert 0.88 < forward_flops(config, text_length) / counted < 1


def test_flops_grow_with_depth_as_they_should():
    one, two, three = (forward_flops(TransformerConfig(depth=depth), 16) for depth in (1, 2, 3))
    assert two - one == three - two > 0


def test_positions_that_a_position_attends_to():
    """By hand: 32 x 32 positions in 16 windows of 64; half of the heads see 64 positions, half 16."""
    assert attended(SuperresConfig()) == 40 and attended(SuperresConfig(window=0)) == 1024
    assert attended(SuperresConfig(grid=(64, 64))) == 64


@pytest.mark.parametrize("enough, rounds", [(0, 3), (15, 3), (17, 4), (1e9, 50)])
def test_contenders_take_turns(monkeypatch, enough, rounds):
    """A round takes 1 + 3 = 4 seconds, the second 8: three take 16. None begins after more than `enough`."""
    now, turns = [0.0], []

    def program(name, seconds):
        def run():
            turns.append(name)
            now[0] += 2 * seconds if len(turns) in (3, 4) else seconds

        return run

    monkeypatch.setattr(peers.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(peers, "ENOUGH", enough)
    found = peers.race({"a": program("a", 1.0), "b": program("b", 3.0)})
    assert found == {"a": 1.0, "b": 3.0}
    assert "".join(turns) == ("abba" * rounds)[: 2 * rounds]


def test_a_peer_counts_in_its_fastest_mode():
    """By hand: of 3 and 2 seconds the 2 count, 2 / 0.8 = 2.5; the second peer takes a quarter of our time."""
    seconds = {"x, eager": 3.0, OURS: 0.8, "x, default": 2.0, "y, eager": 0.2}
    contenders = {name: Contender(None, 7, 1.234) for name in seconds} | {OURS: Contender(None, 5, 1.0, 33.4)}
    row = peers.compare(contenders, seconds)
    assert row["best"] == {"x": "default", "y": "eager"} and row["times_ours"] == {"x": 2.5, "y": 0.25}
    assert row["parameters"] == {"x, eager": 7, OURS: 5, "x, default": 7, "y, eager": 7}
    assert row["megabytes"] == {OURS: 33} and row["first_seconds"]["x, eager"] == 1.2 and row["seconds"] == seconds


@pytest.mark.parametrize("task", ["decode", "train"])
def test_what_of_ours_is_raced(monkeypatch, task):
    monkeypatch.setattr(peers, "SIZES", dict(codebook_size=16, width=16, depth=1, heads=2, mlp_width=32, text_width=8))
    monkeypatch.setattr(peers, "STEPS", 2)
    one = peers.build(OURS, task, 2, 3, "float32", "cpu")
    again = one.run()
    if task == "decode":
        tokens = np.concatenate(again)
        assert tokens.shape == (3, 4) and 0 <= tokens.min() and tokens.max() < 16
    else:
        state, metrics = one.run()
        assert int(state["step"]) == 3 and np.isfinite(metrics["loss"])
        assert one.parameters == sum(x.size for x in jax.tree.leaves(state["params"]))


def test_the_stages_of_one_picture_are_timed_separately(cascade, monkeypatch):
    monkeypatch.setattr(superres, "ROUNDS", 1)
    found = superres.shares(cascade)
    assert list(found) == ["text encoder", "base, 12 steps", "superres, 8 steps", "decoder"]
    assert all(seconds > 0 for seconds in found.values())


def test_flops_of_super_resolution_by_hand():
    """2 x 2 fine and 1 coarse token, 3 text tokens, width 2: every product counted one by one."""
    sizes = dict(codebook_size=5, grid=(2, 2), width=2, depth=1, heads=1, mlp_width=3, text_width=4, window=0)
    config = SuperresConfig(**sizes, low_grid=(1, 1), low_depth=1)
    token = 2 * 6 + 2 * 2 + 2 * (2 * 2) + 2 * (2 * 3)  # qkv, out, cross q and out, up and down
    token += 2 * (4 * 2) + 2 * (4 * 2)  # four positions, then 3 text tokens and 1 coarse one: scores and sums
    assert pass_flops(config, 3) == 2 * 4 * (token + 2 * 2 + 2 * 5)
    text, low = 3 * (4 * 4 + 4 * 2 + 2 * 4), 2 * 6 + 2 * 2 + 2 * (2 * 3) + 2 * (1 * 2) + 2 * 4
    assert condition_flops(config, 3) == 2 * (text + low)


def test_meshes_that_are_timed():
    assert mesh.shapes(1) == [(1, 1)]
    assert mesh.shapes(4) == mesh.shapes(6) == [(1, 1), (2, 1), (1, 2), (4, 1), (1, 4), (2, 2)]


def test_paper_sizes_are_close_to_the_papers():
    small, large = (paper_sizes.counts(name) for name in paper_sizes.PAPER)
    assert abs(small["base"] - 632) < 20 and abs(small["superres"] - 268) < 40
    assert 3000 < large["base"] < 3500


def test_a_stages_lower_bound_is_its_arithmetic_or_its_reading():
    slow_sums, slow_memory = paper_sizes.floors("muse-3b", dict(a=(1e12, 1e30), b=(1e30, 1e12))).values()
    assert slow_sums["base"] > 10 * slow_memory["base"] > 0
    layers = 48 * (16 * 2048**2 + 3 * 2048)  # weights; 2 bytes each, read in each of 24 steps
    assert slow_memory["base"] == pytest.approx(24 * 2 * layers / 1e12, rel=0.05)


@pytest.mark.slow
def test_paper_sizes_are_measured_in_the_same_way_at_any_size(monkeypatch):
    monkeypatch.setattr(paper_sizes, "ROUNDS", 1)
    text = T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    monkeypatch.setattr(paper_sizes, "T5_XXL", text)
    monkeypatch.setattr(paper_sizes, "peak_flops", lambda: 1e9)
    tiny = dict(width=16, depth=1, heads=2, mlp_width=16)
    preset = paper_preset("small", base=tiny, superres=tiny | dict(low_depth=1))
    few = dict(codebook_size=64, text_width=8)
    fine = few | dict(grid=(12, 12), low_grid=(6, 6), low_codebook_size=64, window=6)
    preset = dataclasses.replace(
        preset,
        base=dataclasses.replace(preset.base, **few, grid=(6, 6)),
        superres=dataclasses.replace(preset.superres, **fine),
        tokenizer=VQGANConfig(256, 16, 64, 8, channels=(8,)),
        superres_tokenizer=VQGANConfig(512, 8, 64, 8, channels=(8,)),
    )
    found = paper_sizes.measure(preset, 2, lambda *_: None)
    stages = ["text encoder", "base, 24 steps", "pixels, 256 px", "superres, 8 steps", "pixels, 512 px"]
    assert list(found["stages"]) == stages
    text, base, small, superres_stage, large = (row["seconds"] for row in found["stages"].values())
    assert found["seconds_a_picture"]["256 px"] == pytest.approx(text + base + small, rel=0.02)
    assert found["seconds_a_picture"]["512 px"] == pytest.approx(text + base + superres_stage + large, rel=0.02)
    assert found["training_step"]["batch"] == 2 and found["training_step"]["seconds"] > 0


def test_pictures_are_prepared_in_three_ways_and_memory_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SIZES", (8, 16))
    pictures.make(tmp_path, 3, (80, 60), 2)
    found = pictures.milliseconds(tmp_path, 3)
    assert len(found) == 3 and all(each > 0 for each in found.values())
    memory = pictures.peak_megabytes(tmp_path, 3)
    assert memory["pictures"] == 3 and 0 < memory["before"] <= memory["after"]
