"""Seeds of stages: inherited, and written as inherited."""

from pathlib import Path

import pytest

from fallow.config import Words, dump, write
from fallow.errors import UserError
from fallow.run.recipe import INHERIT, load


def test_a_written_recipe_inherits_still(tmp_path: Path) -> None:
    recipe = load("spdf-demo", [("seed", 3), ("stages.0.seed", 7)])
    seeds = [stage["seed"] for stage in recipe.document()["stages"]]
    assert seeds == [7] + [INHERIT] * (len(seeds) - 1)
    (tmp_path / "r.yaml").write_text(write(recipe.document()))
    assert load(tmp_path / "r.yaml") == recipe
    changed = load(tmp_path / "r.yaml", [("seed", Words(("5",)))])
    assert [stage.seed for stage in changed.stages] == [7] + [5] * (len(seeds) - 1)


def test_a_seed_without_effect_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(dump(load("spdf-demo")))
    with pytest.raises(UserError, match="seed is 5, which has no effect: .* Write --stages.all.seed 5"):
        load(tmp_path / "r.yaml", [("seed", Words(("5",)))])
