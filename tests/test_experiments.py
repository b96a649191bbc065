"""The experiments at the smallest size: every arm runs, rows are kept, and a stopped experiment continues."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import random_tree

from experiments import (
    cascade,
    claims,
    defaults,
    discriminator,
    equal_work,
    first_transformer,
    fsq,
    guidance,
    mask_free,
    mask_rates,
    negatives,
    race,
    sampling,
    small,
    style,
    superres,
    text_encoders,
    twins,
    weights,
)
from minimuse import layers
from minimuse.config import SuperresConfig, TransformerConfig
from minimuse.data import scenes
from minimuse.evaluate import curves
from minimuse.evaluate.baselines import BASELINES, Twin, twin_config
from minimuse.muse import Muse
from minimuse.presets import PRESETS


def random_twin(name: str, muse: Muse) -> Twin:
    config = twin_config(name, PRESETS["micro"])
    return Twin(name, muse, config, random_tree(layers.abstract(BASELINES[name].module, config)))


LEAST = TransformerConfig(width=16, depth=1, heads=1, mlp_width=16)


@pytest.fixture
def tiny_runs(tmp_path, monkeypatch):
    """Two steps of a transformer of one layer, in a folder of its own."""
    train = dataclasses.replace(small.TRAIN, steps=2, batch=4, warmup=1, scenes=16)
    for module in (small, mask_rates, text_encoders, weights):
        for name, value in dict(RUNS=tmp_path / "runs", TRAIN=train, SMALL=LEAST, CAPTIONS=2, STEPS=(2,)).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    return tmp_path


@pytest.mark.slow
def test_a_fixed_and_a_variable_mask_rate(tiny_runs):
    for arm in ("fixed 0.15", "cosine"):
        (row,) = mask_rates.run(arm, 1)["steps"].values()
        assert 0 <= row["overall"] <= 1 and row["frechet"] > 0
        folder = tiny_runs / "runs" / "mask_rates" / f"{arm}-1".replace(" ", "-")
        settings = json.loads((folder / "base" / "settings.json").read_text())
        assert settings["train"]["schedule"] == mask_rates.ARMS[arm] and settings["train"]["seed"] == 1
    assert len(list((tiny_runs / "runs").glob("tokens-*.safetensors"))) == 1  # the arms share their tokens


@pytest.mark.slow
def test_frozen_random_learned_and_fine_tuned_text(tiny_runs):
    for arm in text_encoders.ARMS:
        rows = text_encoders.run(arm, 0)["splits"]
        assert set(rows) == {"val", "unseen_words"} and all(0 <= row["overall"] <= 1 for row in rows.values())
        again = text_encoders.run(arm, 0)["splits"]  # trained already: only measured again
        assert again == rows
    runs = tiny_runs / "runs" / "text_encoders"
    assert (runs / "frozen-random-0" / "text" / "model.safetensors").is_file()
    assert not (runs / "frozen-pretrained-0" / "text").exists()


@pytest.mark.slow
def test_with_and_without_the_discriminator(tmp_path, monkeypatch):
    second = dataclasses.replace(discriminator.SECOND, steps=3, batch=1, warmup=1)
    for name, value in dict(RUNS=tmp_path, SECOND=second, PICTURES=2).items():
        monkeypatch.setattr(discriminator, name, value)
    rows = [discriminator.run(arm, 0) for arm in discriminator.ARMS]
    assert len({row["psnr"] for row in rows}) == 3 and len({row["perplexity"] for row in rows}) == 1  # the same tokens
    settings = json.loads((tmp_path / "discriminator" / "control-0" / "settings.json").read_text())
    assert settings["train"] == dataclasses.asdict(dataclasses.replace(second, adversarial=0.0))


def test_every_way_to_sample_runs(micro, monkeypatch):
    for module in (sampling, guidance, negatives):
        monkeypatch.setattr(module.Muse, "from_pretrained", lambda name, **_: micro)
        for name, value in dict(CAPTIONS=2, DIVERSE=2, PICTURES=2).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    for arm in ("temperature 4.5", "confidence, 12", "halton, 4"):
        row = sampling.run(arm, 0)
        assert 0 <= row["overall"] <= 1 and ("diversity" in row) == (arm != "halton, 4")
        assert row["options"] == sampling.BASE | sampling.ARMS[arm]
    assert sampling.run("temperature 4.5", 0)["frechet"] == sampling.run("confidence, 12", 0)["frechet"]
    row = guidance.run("ramp, t 0, token temperature 1", 0)
    assert row["options"]["guidance"] == 0 and 0 <= row["overall"] <= 1
    ways = {
        arm: negatives.run(arm, 0)
        for arm in ("not mentioned, constant, t 2", "negative: the caption with it, ramp, t 4")
    }
    assert all(0 <= row["unwanted"] <= 1 and 0 <= row["exact"] <= row["object"] <= 1 for row in ways.values())


@pytest.mark.slow
def test_the_race_times_and_measures_all_three(micro, monkeypatch):
    twins = {name: random_twin(name, micro) for name in BASELINES}
    monkeypatch.setattr(race, "drawer", (twins | dict(parallel=micro)).get)
    for name, value in dict(CAPTIONS=2, BATCHES=(1, 2), TURNS=1).items():
        monkeypatch.setattr(race, name, value)
    arms = ("parallel, confidence, cosine, 2 steps", "parallel, halton, exp, 4 steps")
    for arm in (*arms, "autoregressive, t 0.5, token temperature 0.25", "diffusion, 25 steps, t 1"):
        row = race.run(arm, 0)
        assert arm.startswith(row["drawer"]) and 0 <= row["overall"] <= 1 and row["frechet"] > 0
        assert set(row["seconds"]) == {"1", "2"} and min(row["seconds"].values()) > 0
    settings = [str(value) for value in race.ARMS.values()]
    assert len(set(settings)) == len(settings)
    parallel = {arm: options for arm, (name, options) in race.ARMS.items() if name == "parallel"}
    assert all(
        f"{options['order']}, {options['law']}, {options['steps']} steps" in arm for arm, options in parallel.items()
    )
    changed = ("order", "law", "steps", "guidance")
    assert len({str({k: v for k, v in one.items() if k not in changed}) for one in parallel.values()}) == 1


@pytest.mark.slow
def test_a_cascade_and_one_large_model(tiny_runs, monkeypatch):
    train = dataclasses.replace(small.TRAIN, steps=2, batch=4, warmup=1, scenes=8)
    least = dict(width=16, depth=1, heads=2, mlp_width=16)
    sizes = dict(
        SUPERRES=SuperresConfig(**least, low_depth=1),
        DIRECT=TransformerConfig(**least, grid=(32, 32), window=8),
        DEEP=TransformerConfig(**least | dict(depth=2), grid=(32, 32), window=8),
    )
    settings = dict(
        SMALL=LEAST, RUNS=tiny_runs / "runs", FIRST_STAGE=train, SECOND=dataclasses.replace(train, low_noise=0.2)
    )
    settings |= dict(STEPS=dict.fromkeys(cascade.STEPS, 1), MILLISECONDS=dict.fromkeys(cascade.STEPS, 3000.0))
    for name, value in (sizes | settings | dict(CAPTIONS=2)).items():
        monkeypatch.setattr(cascade, name, value)
    rows = {arm: cascade.run(arm, 0) for arm in cascade.ARMS}
    assert all(0 <= row["overall"] <= 1 for row in rows.values())
    assert [row["seconds"] for row in rows.values()] == [
        3.0 if arm in cascade.STEPS else round(cascade.SPENT / 1000, 1) for arm in rows
    ]
    assert rows["direct, deep"]["weights"] > rows["direct"]["weights"]
    assert rows["cascade"]["weights"] == rows["cascade, no noise"]["weights"]
    noise = {
        arm: json.loads(path.read_text())["train"]["low_noise"]
        for arm in ("cascade", "cascade-no-noise")
        for path in (tiny_runs / "runs" / "cascade").glob(f"{arm}-0/superres/settings.json")
    }
    assert noise == {"cascade": 0.2, "cascade-no-noise": 0.0}
    assert all(cascade.milliseconds(config, rounds=1) > 0 for config in (cascade.SMALL, cascade.SUPERRES))


def test_all_arms_of_the_cascade_have_the_same_training_time():
    for arm, steps in cascade.STEPS.items():
        assert steps * cascade.MILLISECONDS[arm] == pytest.approx(cascade.SPENT, rel=0.01)


def test_editing_without_a_mask(micro, monkeypatch):
    monkeypatch.setattr(mask_free.Muse, "from_pretrained", lambda name, superres: micro)
    monkeypatch.setattr(mask_free, "EDITS", 2)
    monkeypatch.setitem(mask_free.ARMS, "t 4", dict(guidance=4.0, iterations=5))
    row = mask_free.run("t 4", 0)
    assert row["settings"]["guidance"] == 4 and row["curve"]["iteration"] == [0, 5] and 0 <= row["success"] <= 1


def test_every_claim_is_measured_on_captions_of_its_own_seed(micro, monkeypatch):
    monkeypatch.setattr(claims.Muse, "from_pretrained", lambda name, superres: micro)
    monkeypatch.setattr(claims.Twin, "from_pretrained", lambda name, preset, muse: muse)
    monkeypatch.setattr(claims.negatives, "run", lambda arm, seed: dict(unwanted=arm, seed=seed))
    for name, measure in dict(evaluate_inpainting="inpainted", evaluate_mask_free="edited").items():
        measured = lambda muse, n, seed, measure=measure: dict(measure=measure, seed=seed)
        monkeypatch.setattr(claims.edits, name, measured)
    monkeypatch.setattr(claims, "measured", lambda muse, n, **options: options)
    rows = {arm: [claims.run(arm, seed) for seed in (0, 1)] for arm in claims.ARMS}
    assert rows["own"] == [dict(options={}, first=20_000, seed=0), dict(options={}, first=20_128, seed=1)]
    paper = dict(order="confidence", law="cosine", steps=12, revise=0, token_temperature=0.25)
    assert rows["paper's sampling"][0] == dict(options=paper, first=20_000, seed=0, **paper)
    more = dict(steps=24, revise=0)
    assert rows["24 steps"][1] == dict(options=more, first=20_128, seed=1, **more)
    assert rows["inpainting"] == [dict(measure="inpainted", seed=2), dict(measure="inpainted", seed=3)]
    assert rows["mask-free"][0] == dict(measure="edited", seed=2)
    assert all(rows[words] == [dict(unwanted=words, seed=1), dict(unwanted=words, seed=2)] for words in claims.WORDS)
    assert all(words in negatives.ARMS for words in claims.WORDS)


@pytest.mark.slow
def test_every_arm_of_the_second_stage(cascade_folder, monkeypatch):
    muse = Muse.from_pretrained(cascade_folder)
    monkeypatch.setattr(superres.Muse, "from_pretrained", lambda name: muse)
    monkeypatch.setattr(superres, "CAPTIONS", 2)
    rows = {arm: superres.run(arm, 0) for arm in ("bicubic", "the checkpoint's own", "small decoder", "2 steps")}
    for arm in superres.TRUE:
        row = superres.run(arm, 0)
        assert row["psnr"] > 0 and 0 <= row["overall"] <= 1
    for distance in ("frechet", "frechet_random"):
        assert len({row[distance] for row in rows.values()}) == 4
    assert rows["2 steps"]["options"] == dict(steps=(None, 2))


def test_enlarging_keeps_flat_colours_and_doubles_the_sides():
    images = np.full((2, 6, 4, 3), (10, 200, 30), np.uint8)
    large = superres.enlarge(images)
    assert large.shape == (2, 12, 8, 3) and (large == (10, 200, 30)).all()


def test_no_arm_of_the_sweeps_is_twice_the_same():
    assert len({str(options) for options in guidance.ARMS.values()}) == len(guidance.ARMS)
    settings = [tuple((sampling.BASE | options).items()) for options in sampling.ARMS.values()]
    assert len(settings) - len(set(settings)) == 2  # the middle of three sweeps
    assert all(negative is None or "{thing}" in negative for _, negative in negatives.WORDS.values())


USED = {"checkpoints/tiny/tokenizer.safetensors": "0123456789ab"}


def test_rows_are_kept_and_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "data_dir", lambda: tmp_path)
    calls = []

    def run(arm, seed):
        calls.append((arm, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return dict(value=len(calls))

    def start(n=1, weights=USED):
        small.experiment("try", ["a", "b"], run, dict(n=n), (0, 1), weights=weights)

    with pytest.raises(KeyboardInterrupt):
        start()
    start()
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("a", 1), ("b", 1)]
    stored = json.loads((tmp_path / "experiments" / "try.json").read_text())
    assert [(row["arm"], row["seed"]) for row in stored["rows"]] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert stored["command"] == "python -m experiments.try" and stored["settings"] == dict(n=1)
    assert stored["weights"] == USED and stored["runs"] == 4 and stored["took"] >= 0
    with pytest.raises(SystemExit, match=r"try\.json.*settings"):
        start(n=2)
    with pytest.raises(SystemExit, match=r"try\.json.*weights"):
        start(weights=dict.fromkeys(USED, "ba9876543210"))


def test_an_experiment_says_what_it_would_store(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(small.sys, "argv", ["try.py", "--about"])
    small.experiment("try", ["a", "b"], lambda arm, seed: 1 / 0, dict(steps=(1, 2)), (0,), weights=USED)
    about = json.loads(capsys.readouterr().out)
    assert about["settings"] == dict(steps=[1, 2]) and about["weights"] == USED and about["runs"] == 2
    assert not (tmp_path / "experiments").exists()


def test_some_arms_run_with_the_first_seed_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small, "data_dir", lambda: tmp_path)
    run = lambda: small.experiment("try", ["a", "b"], lambda arm, seed: {}, {}, (3, 4), weights=USED, once=("b",))
    monkeypatch.setattr(small.sys, "argv", ["try"])
    run()
    rows = json.loads((tmp_path / "experiments" / "try.json").read_text())["rows"]
    assert [(row["seed"], row["arm"]) for row in rows] == [(3, "a"), (3, "b"), (4, "a")]
    capsys.readouterr()
    monkeypatch.setattr(small.sys, "argv", ["try", "--about"])
    run()
    assert json.loads(capsys.readouterr().out)["runs"] == 3


def test_two_processes_share_an_experiment(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "data_dir", lambda: tmp_path)

    def run(arm, seed):
        if arm == "b":  # while this one runs, another process finishes its own arm
            small.experiment("try", ["a", "b"], run, dict(n=1), (seed,), only=["a"], weights=USED)
        return dict(value=1)

    small.experiment("try", ["a", "b"], run, dict(n=1), (0, 1), only=["b"], weights=USED)
    rows = json.loads((tmp_path / "experiments" / "try.json").read_text())["rows"]
    assert [(row["arm"], row["seed"]) for row in rows] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    with pytest.raises(SystemExit, match=r"'c'.*\ba\b.*\bb\b"):
        small.experiment("try", ["a", "b"], run, dict(n=1), (0,), only=["c"], weights=USED)


def test_the_first_transformer_becomes_a_band(tmp_path, monkeypatch):
    train = dataclasses.replace(first_transformer.TRAIN, steps=4, batch=4, warmup=1, scenes=8)
    for name, value in dict(
        TRAIN=train, SEEDS=(1, 2), EVERY=2, SIZE=dict(width=16, depth=1, heads=1, mlp_width=16)
    ).items():
        monkeypatch.setattr(first_transformer, name, value)
    monkeypatch.setattr(first_transformer, "data_dir", lambda: tmp_path)
    (tmp_path / "curves").mkdir()
    first_transformer.main()
    curve = json.loads((tmp_path / "curves" / "first_transformer.json").read_text())
    assert (
        curve["step"] == [2, 4]
        and curve["settings"]["seeds"] == [1, 2]
        and curve["command"].endswith("first_transformer")
    )
    loss = curve["metrics"]["loss"]
    assert all(low < high for low, high in zip(loss["low"], loss["high"]))  # seeds differ


def test_the_shipped_band_is_of_the_shipped_weights():
    made_from = curves.reference("first_transformer")["settings"]["made_from"]
    now = first_transformer.made_from(Muse.from_pretrained("tiny"))
    assert made_from == now, "the tokenizer or T5 was replaced: run python -m experiments.first_transformer"


def test_defaults_are_compared_caption_by_caption():
    rows = [
        dict(arm="confidence, cosine", seed=0) | {split: dict(asked="1100", exact="1000") for split in defaults.SPLITS},
        dict(arm="halton, exp", seed=0) | {split: dict(asked="1111", exact="1000") for split in defaults.SPLITS},
        dict(arm="halton, exp", seed=1) | {split: dict(asked="0000", exact="0000") for split in defaults.SPLITS},
    ]
    lines = defaults.compare(rows[:2])
    assert len(lines) == 2 * len(defaults.SPLITS)
    assert "asked 100.0" in lines[1] and "exact  25.0 (+0.0 to +0.0)" in lines[1]
    assert defaults.compare(rows) == lines  # seed 1 has no first arm to compare with


def test_every_arm_of_the_defaults_gives_all_options():
    from minimuse.config import SampleOptions

    assert {*defaults.BASE} == {*SampleOptions.__annotations__}
    assert all({*options} <= {*defaults.BASE} for options in defaults.ARMS.values())


def test_arms_of_a_budget_cost_the_same_passes():
    found = {arm: equal_work.passes(equal_work.BASE | options) for arm, options in equal_work.ARMS.items()}
    for arm, passes in found.items():
        budget = 2 * int(arm.partition(":")[0])
        assert budget - 2 <= passes <= budget, arm
    assert found["12: revise, critic"] == 24  # 11 guided steps and two judgements
    assert found["12: confidence, critic"] == 23  # 8 guided steps, 7 judgements


@pytest.mark.slow
def test_equal_weights_and_those_of_the_bound(tiny_runs, monkeypatch):
    for name, value in dict(SCENES=48, ESTIMATES=1).items():
        monkeypatch.setattr(weights, name, value)
    for arm in ("equal, uniform", "bound, uniform"):
        row = weights.run(arm, 0)
        assert 500 < row["bits"] < 800  # an untrained model: 640 if all codes were alike


@pytest.mark.slow
def test_tokenizers_with_and_without_a_codebook(tiny_runs, monkeypatch):
    least = dataclasses.replace(fsq.TRAIN, steps=4, batch=4, warmup=1, quantize_start=2)
    for name, value in dict(TRAIN=least, PICTURES=4, RUNS=tiny_runs / "runs").items():
        monkeypatch.setattr(fsq, name, value)
    rows = {arm: fsq.run(arm, 0) for arm in fsq.ARMS}
    assert [row["codes"] for row in rows.values()] == [1024, 1024, 1000]
    assert all(0 < row["seen"]["usage"] <= 1 and row["unseen"]["psnr"] > 5 for row in rows.values())


@pytest.fixture
def little_style(tmp_path, monkeypatch):
    """A style of one step per transformer, and two captions."""
    train = {name: dataclasses.replace(own, steps=1, batch=2) for name, own in style.TRAIN.items()}
    for name, value in dict(RUNS=tmp_path, TRAIN=train, CAPTIONS=2, BATCH=2).items():
        monkeypatch.setattr(style, name, value)
    style.prompts.cache_clear()
    yield
    style.prompts.cache_clear()


def test_true_pictures_have_the_style_and_plain_ones_do_not(little_style):
    for row in style.run("true pictures", 0).values():
        assert row["sky"] > 0.5 and row["from_style"] == 0 < row["from_plain"] and row["asked"] == 1
    plain = style.measured(np.stack([scenes.render(scene) for scene, _ in style.prompts()]))
    assert plain["from_plain"] == 0 < plain["from_style"] and plain["sky"] < 0.3 and plain["asked"] == 1


@pytest.mark.slow
def test_a_style_is_measured_at_both_resolutions(little_style):
    row = style.run("captions name it", 1)
    assert {"64px", "128px"} <= row.keys() and 0 <= row["128px"]["asked"] <= 1
    assert 100_000 < row["bytes"] < 1_000_000 and row["style_superres_seconds"] > 0
    assert style.trained(style.WORDS, 1)[1]["style_seconds"] == row["style_seconds"]  # it is not trained again


@pytest.mark.slow
def test_twins_with_equal_training_on_two_grids(tiny_runs, monkeypatch):
    ways = dict(parallel=[dict(steps=2)], autoregressive=[dict(guidance=0.0)], diffusion=[dict(steps=2, guidance=0.0)])
    least = dataclasses.replace(twins.TRAIN, steps=1, batch=2, warmup=0, scenes=4)
    sizes = dict(RUNS=tiny_runs / "runs", SMALL=LEAST, TRAIN=least, SETTINGS=ways, CAPTIONS=2, BATCHES=("1",))
    for name, value in sizes.items():
        monkeypatch.setattr(twins, name, value)
    for arm in (arm for arm in twins.ARMS if arm.endswith("rate 3")):
        (row,) = twins.run(arm, 0)["settings"]
        assert len(row["exact"]) == 2 and row["seconds"]["1"] > 0
    assert len(list((tiny_runs / "runs").glob("tokens-*x*"))) == 2  # the twins of a grid share their tokens
