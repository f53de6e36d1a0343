from dataclasses import replace

from fallow.run.pace import Pace
from fallow.run.recipe import load
from fallow.train.settings import Duration


def test_time_left_follows_the_stages_done() -> None:
    recipe = load("spdf-demo")
    pretrain, tune = recipe.stage("pretrain-dense"), recipe.stage("tune-dense")
    pace = Pace()
    pace.add(pretrain, 60.0)
    assert pace.left([pretrain, pretrain]) == 120.0
    assert pace.left([pretrain, tune]) is None  # nothing like it has been seen
    half = replace(tune, budget=Duration(steps=tune.budget.steps // 2))
    pace.add(half, 10.0)
    assert pace.left([pretrain, tune]) == 80.0
    pace.add(pretrain, 120.0)
    assert pace.left([pretrain]) == 90.0
