"""To go into tests/test_experiments.py."""


@pytest.mark.slow
def test_equal_weights_and_those_of_the_bound(tiny_runs, monkeypatch):
    for name, value in dict(SCENES=48, ESTIMATES=1).items():
        monkeypatch.setattr(weights, name, value)
    for arm in ("equal, uniform", "bound, uniform"):
        row = weights.run(arm, 0)
        assert 500 < row["bits"] < 800  # an untrained model: 640 if all codes were alike


