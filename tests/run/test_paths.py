"""The paths of a stage: chosen, written, taken again, explained."""

from pathlib import Path

import pytest
from torch import nn

import fallow
from fallow.config import Words
from fallow.errors import UserError
from fallow.files import write_sealed
from fallow.integrity import FORMAT
from fallow.linear import remembered
from fallow.linear.kernels.library import missing
from fallow.linear.planner import Choice
from fallow.methods.base import reparam_layers
from fallow.run import paths
from fallow.run.notes import _paths
from fallow.run.paths import PATHS_FILE, settle_paths
from fallow.run.recipe import load
from fallow.run.stage import Stage
from fallow.run.step_bench import time_steps
from fallow.train import Mesh
from tests.run.tiny import write_recipe


def net() -> nn.Module:
    made = nn.Sequential(nn.ModuleList([nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 64)]))
    fallow.convert(made, "sparse", sparsity=0.75)
    return made


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


def stage(recipe: Path, *path: str) -> Stage:
    settings = [("stages.pretrain.path", Words((word,))) for word in path]
    return load(str(recipe), settings).stages[0]


def settle(chosen: Stage, model: nn.Module, folder: Path) -> list[dict[str, object]]:
    return settle_paths(Mesh(), chosen, model, folder, 64, lambda _: None)


def test_a_choice_is_written_and_taken_again(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements: list[int] = []

    def first(*_: object) -> Choice:
        measurements.append(1)
        return Choice("factored", "the fastest, as measured here")

    monkeypatch.setattr(paths, "measured", first)
    chosen, model = stage(recipe, "measure"), net()
    found = settle(chosen, model, tmp_path)
    assert [(g["shape"], g["layers"], g["path"], g["sparsity"]) for g in found] == [
        ("32x32", 2, "factored", 0.75), ("64x32", 1, "factored", 0.75)
    ]  # fmt: skip
    assert {layer.path for layer in reparam_layers(model).values()} == {"factored"}
    assert len(measurements) == 3
    assert (
        settle(chosen, net(), tmp_path) == found
    )  # as after an interruption, on a machine that would choose otherwise
    assert len(measurements) == 3


def test_by_the_table_and_by_name(recipe: Path, tmp_path: Path) -> None:
    [one, _] = settle(stage(recipe), net(), tmp_path / "table")
    assert one["path"] == "materialise" and ("too small" in str(one["why"]) or missing())
    [one, _] = settle(stage(recipe, "factored"), net(), tmp_path / "named")
    assert (one["path"], one["why"]) == ("factored", "the recipe says so")
    assert settle(stage(recipe), nn.Linear(2, 2), tmp_path / "dense") == []
    assert not (tmp_path / "dense").exists()


def test_a_path_that_is_not_there_any_more(recipe: Path, tmp_path: Path) -> None:
    model = net()
    known = {name: {"path": "wafer", "why": "it was fast"} for name in reparam_layers(model)}
    write_sealed(tmp_path / PATHS_FILE, {"format": FORMAT, "layers": known})
    [one, _] = settle(stage(recipe), model, tmp_path)
    assert one["path"] == "materialise"
    assert str(one["why"]).startswith("it began by path wafer, which cannot be used here; ")


def test_mistakes(recipe: Path) -> None:
    with pytest.raises(UserError, match='Did you mean "sparse"'):
        stage(recipe, "spares")
    with pytest.raises(UserError, match="path has no effect with method dense"):
        load(str(recipe), [("stages.tune.path", Words(("sparse",)))])
    with pytest.raises(UserError, match="path is semi_structured, which has no effect in fp32"):
        stage(recipe, "semi_structured")


def test_what_the_report_says(recipe: Path) -> None:
    group = {"shape": "32x32", "path": "sparse", "why": "the kernels are fast"}
    [note] = _paths(stage(recipe), {"paths": [group, {**group, "shape": "64x32"}]})
    assert note == "sparse: path sparse for 32x32, 64x32; the kernels are fast."


def test_steps_beside_dense(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remembered.ENVIRONMENT, str(tmp_path))
    [row] = time_steps(load(str(recipe)), only=("pretrain",), pairs=2)
    assert row.stage == "pretrain" and row.tokens == 4 * 16 and row.blocks == (2,)
    assert row.speed_up > 0 and row.ceiling > 1 and row.step_ms > 0
    assert {group["path"] for group in row.paths} == {"materialise"}
    with pytest.raises(UserError, match="no stage of this recipe converts layers"):
        time_steps(load(str(recipe)), only=("tune",))
