@pytest.mark.slow
def test_tokenizers_with_and_without_a_codebook(tiny_runs, monkeypatch):
    least = dataclasses.replace(fsq.TRAIN, steps=4, batch=4, warmup=1, quantize_start=2)
    for name, value in dict(TRAIN=least, PICTURES=4, RUNS=tiny_runs / "runs").items():
        monkeypatch.setattr(fsq, name, value)
    rows = {arm: fsq.run(arm, 0) for arm in fsq.ARMS}
    assert [row["codes"] for row in rows.values()] == [1024, 1024, 1000]
    assert all(0 < row["seen"]["usage"] <= 1 and row["unseen"]["psnr"] > 5 for row in rows.values())
