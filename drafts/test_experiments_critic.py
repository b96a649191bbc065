def test_the_critic_at_equal_cost(micro, monkeypatch):
    model = random_tree(build("critic", PRESETS["micro"].critic))
    configs, models = micro.configs | dict(critic=PRESETS["micro"].critic), micro.models | dict(critic=model)
    muse = Muse(micro.text, configs, models, micro.sampling, "t5-scenes")
    monkeypatch.setattr(critic.Muse, "from_pretrained", lambda name, **_: muse)
    monkeypatch.setattr(critic, "CAPTIONS", 2)
    for arm in ("12: revise 2", "12: revise 2, critic"):
        row = critic.run(arm, 0)
        assert row["halves"] == 24 and row["seconds"] > 0 and row["options"]["revise"] == 2
        assert all(len(row[split][kind]) == 2 for split in critic.SPLITS for kind in ("asked", "exact"))
    for arm, options in critic.ARMS.items():
        left = 2 * int(arm.split(":")[0]) - critic.halves(critic.BASE | options)
        assert left == 0 or (left == 1 and arm.endswith("confidence, critic")), arm  # never more than its budget
    assert len({str(options) for options in critic.ARMS.values()}) == len(critic.ARMS)
    assert critic.BASE.keys() == defaults.BASE.keys()
