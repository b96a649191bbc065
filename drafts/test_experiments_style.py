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
