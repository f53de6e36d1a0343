import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.report.overview import differences, overview
from fallow.report.runs import Run, read_run
from fallow.report.seeds import Value, costs_of, curves_of, grouped, rows_of
from tests.report.make_runs import results, without_the_last_stage, write


def runs(tmp_path: Path, *losses: float, **changes: object) -> list[Run]:
    return [read_run(write(tmp_path / f"s{n}", results(n, loss, **changes))) for n, loss in enumerate(losses)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_mean_and_spread_against_the_formula(values: list[float]) -> None:
    found = Value.of(values)
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.spread == pytest.approx(spread, abs=1e-6, rel=1e-6)


def test_equal_values_have_no_spread() -> None:
    assert Value.of([0.1, 0.1, 0.1]) == Value(0.1)


def test_two_seeds_by_hand(tmp_path: Path) -> None:
    """Losses 2 and 4: mean 3, sample standard deviation sqrt(2)."""
    (group,) = grouped(runs(tmp_path, 2.0, 4.0))
    (row,) = rows_of(group)
    assert row["loss"] == {"mean": 3.0, "spread": pytest.approx(math.sqrt(2))}
    assert row["flops"] == 5e6  # the same for both seeds: no spread is shown
    assert (row["arm"], row["seeds"], row["bleu"]) == ("tuned", 2, None)
    curve = next(c for c in curves_of(group) if (c.label, c.kind) == ("sparse", "valid"))
    assert [(x, y.mean) for x, y in curve.points] == [(100, 5.0), (200, 4.0), (300, 3.0)]
    assert all(y.spread == pytest.approx(math.sqrt(2)) for _, y in curve.points)
    assert curve.flops == 3e6 / 300


def test_costs_are_those_of_the_stages(tmp_path: Path) -> None:
    (group,) = grouped(runs(tmp_path, 2.0, 4.0))
    pre, tune = costs_of(group)
    assert (pre.loss.mean, tune.loss.mean) == (3.5, 3.0)
    assert pre.bytes == 607  # weights, optimizer and indices, without gradients
    assert (pre.flops, tune.flops) == (3e6, 5e6)  # of the stage, and of the one before too
    assert (pre.begins_with, tune.begins_with) == ("", "pre")


def test_curves_of_other_lengths_are_as_long_as_the_shortest(tmp_path: Path) -> None:
    plain = results(1, 4.0)
    for curve in plain["curves"]:
        curve["points"] = [[110, 6.0], [210, None], [310, 5.0]]  # a lost step
    pair = [*runs(tmp_path, 2.0), read_run(write(tmp_path / "other", plain))]
    curve = curves_of(grouped(pair)[0])[0]
    assert [(x, y.mean) for x, y in curve.points] == [(105, 5.0), (255, 4.0)]


def test_other_settings_are_another_recipe(tmp_path: Path) -> None:
    found = runs(tmp_path, 2.0, 4.0)
    other = read_run(write(tmp_path / "other", results(0, 1.0, precision="bf16")))
    groups = grouped([*found, other])
    assert [len(group.runs) for group in groups] == [2, 1]
    assert groups[0].title != groups[1].title and groups[1].title.endswith("other")
    shown = overview([*found, other])
    assert [row["arm"] for row in shown["rows"]] == [f"{group.title}: tuned" for group in groups]
    assert differences(groups)["rows"] == [{"setting": "precision", "0": "-", "1": "bf16"}]
    assert differences(groups[:1])["rows"] == []


def test_places_and_devices_do_not_make_another_recipe(tmp_path: Path) -> None:
    first, second = results(0, 1.0, device="cuda", notes=["a"]), results(1, 2.0, root="data")
    pair = [read_run(write(tmp_path / name, plain)) for name, plain in (("a", first), ("b", second))]
    assert len(grouped(pair)) == 1


def test_a_stage_that_only_one_has_is_one_difference(tmp_path: Path) -> None:
    plain = results(0, 1.0)
    plain["recipe"]["stages"] = plain["recipe"]["stages"][:1]
    groups = grouped([*runs(tmp_path, 2.0), read_run(write(tmp_path / "short", without_the_last_stage(plain)))])
    (row,) = differences(groups)["rows"]
    assert (row["setting"], row["1"]) == ("stages.tune", "-")


def test_a_seed_counts_once(tmp_path: Path) -> None:
    twice = [*runs(tmp_path, 2.0), read_run(write(tmp_path / "again", results(0, 2.0)))]
    (group,) = grouped(twice)
    assert len(group.runs) == 1 and "counted instead" in group.notes[0]


def test_losses_on_other_data_are_in_charts_of_their_own(tmp_path: Path) -> None:
    other = results(0, 1.0, name="other", datasets={"text": {"kind": "text", "context": 9}, "pairs": {"kind": "pairs"}})
    shown = overview([*runs(tmp_path, 2.0), read_run(write(tmp_path / "other", other))])
    assert [chart["title"] for chart in shown["charts"]] == ["text (demo)", "pairs", "text (other)"]


class TestUnfinished:
    def test_means_are_over_the_same_seeds(self, tmp_path: Path) -> None:
        late = read_run(write(tmp_path / "late", without_the_last_stage(results(9, 100.0))))
        assert late.unfinished == ("tune",)
        shown = overview([*runs(tmp_path, 2.0, 4.0), late])
        (row,) = shown["rows"]
        assert row["loss"]["mean"] == 3.0
        assert {curve["seeds"] for chart in shown["charts"] for curve in chart["curves"]} == {2}
        assert any("is not finished: tune. The means leave it out." in note for note in shown["notes"])
        assert [state["status"] for state in shown["stages"]] == ["finished"] * 5 + ["not begun"]

    def test_where_none_is_finished_all_count_and_say_so(self, tmp_path: Path) -> None:
        early, late = results(0, 2.0), without_the_last_stage(results(1, 4.0))
        for plain in (early, late):
            plain["recipe"]["stages"].append({"name": "last", "label": "last", "dataset": "pairs", "seed": 0})
        pair = [read_run(write(tmp_path / name, plain)) for name, plain in (("a", early), ("b", late))]
        shown = overview(pair)
        labels = {curve["label"] for chart in shown["charts"] for curve in chart["curves"]}
        assert labels == {"sparse", "tuned (1 of 2 seeds)"}
        assert [row["stages"] for row in shown["rows"]] == [["pre", "tune"]]
