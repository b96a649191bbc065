"""To go into tests/test_experiments.py."""


def test_arms_of_a_budget_cost_the_same_passes():
    found = {arm: equal_work.passes(equal_work.BASE | options) for arm, options in equal_work.ARMS.items()}
    for arm, passes in found.items():
        budget = 2 * int(arm.partition(":")[0])
        assert budget - 2 <= passes <= budget, arm
    assert found["12: revise, critic"] == 24  # 11 guided steps and two judgements
    assert found["12: confidence, critic"] == 23  # 8 guided steps, 7 judgements
