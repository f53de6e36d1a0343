import re
from pathlib import Path

import pytest

from fallow.report.charts import LineSeries, ScatterPoint, line_chart, point_chart, shown_range
from fallow.report.pages import runs_page
from fallow.report.runs import read_run
from tests.report.make_runs import results, without_the_last_stage, write
from tests.report.test_pages import Checker


def parsed(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


@pytest.fixture
def several(tmp_path: Path) -> str:
    plain = [results(0, 2.0), results(1, 4.0), results(0, 3.0, name="<other>")]
    return runs_page([read_run(write(tmp_path / f"r{n}", one)) for n, one in enumerate(plain)])


def test_is_self_contained_and_well_formed(several: str) -> None:
    checker = parsed(several)
    assert not {tag for tag, _ in checker.tags} & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|url\((?!#)|@import", several)
    assert not any(key.startswith("on") or key in ("src", "href") for _, attrs in checker.tags for key in attrs)
    ids = re.findall(r'id="([^"]+)"', several)
    assert len(ids) == len(set(ids))
    assert several.count("prefers-color-scheme: dark") == 2


def test_says_everything(several: str) -> None:
    said = " ".join(parsed(several).texts)
    for text in (
        "2 recipes side by side", "seed 1", "demo: tuned", "<other>: tuned", "3.000 \N{PLUS-MINUS SIGN} 1.414",
        "Loss on text", "Loss on pairs", "Against tokens", "Against FLOPs", "Last loss against bytes",
        "Last loss against all FLOPs", "6 of 6 finished", "The same remark.", "Settings that differ",
    ):  # fmt: skip
        assert text in said, text
    assert said.count("The same remark.") == 1


def test_seeds_have_a_band_and_whiskers(several: str) -> None:
    assert several.count('class="band series') == 4  # two data sets, against tokens and against FLOPs
    assert several.count('class="whisker series') == 3  # bytes of both stages, all FLOPs of the second


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    run = read_run(write(tmp_path, results(0, 2.0)))
    assert runs_page([run]) == runs_page([run])


def test_one_run_has_its_settings_and_samples(tmp_path: Path) -> None:
    plain = results(0, 2.0)
    plain["samples"] = [{"context": "said", "references": ["one"], "outputs": {"tuned": "two"}}]
    text = runs_page([read_run(write(tmp_path, plain))])
    assert "Generated texts" in text and "The whole recipe" in text and "What &amp; why." in text
    assert "whisker series" not in text and "standard deviation" not in text


def test_unfinished_stages_are_open_to_see(tmp_path: Path) -> None:
    text = runs_page([read_run(write(tmp_path, without_the_last_stage(results(0, 2.0))))])
    assert "<details open><summary>1 of 2 finished" in text and "not begun" in text


def test_a_run_of_nothing_is_a_page(tmp_path: Path) -> None:
    bare = {"columns": [{"key": "a", "title": "a"}], "rows": []}
    parsed(runs_page([read_run(write(tmp_path, bare))]))


def test_points_stand_where_the_axes_say() -> None:
    points = [ScatterPoint(label="a", x=100, y=1.0, spread=0.5), ScatterPoint(label="b", x=200, y=3.0)]
    svg = point_chart(points, title="t", x_title="bytes")
    marks = [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]*cx="([\d.]+)" cy="([\d.]+)"', svg)]
    at = {float(label): float(y) - 4 for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">([\d.]+)<', svg)}
    per_unit = (at[3.0] - at[1.0]) / 2
    assert [y for _, y in marks] == pytest.approx([at[3.0], at[1.0]], abs=0.2)  # the highest loss first
    (top, bottom) = re.findall(r'class="whisker series-0" d="M[\d.]+ ([\d.]+)V([\d.]+)', svg)[0]
    assert float(bottom) - float(top) == pytest.approx(abs(per_unit), abs=0.3)  # from 0.5 to 1.5
    assert "b: 3.000 at 200" in svg
    assert point_chart([], title="t", x_title="x") == ""
    assert "nan" not in point_chart(points[:1], title="t", x_title="x")


def test_a_band_lies_around_its_line() -> None:
    series = LineSeries(label="a", points=[(0, 1.0), (1, 2.0)], band=[(0, 0.5, 1.5), (1, 1.0, 3.0)])
    svg = line_chart([series], title="t")
    band = [
        float(y) for y in re.findall(r" (-?[\d.]+)(?=[LZ])", re.findall(r'class="band series-0" d="(.*?)"', svg)[0])
    ]
    line = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", re.findall(r'class="line valid.*?d="(.*?)"', svg)[0])]
    assert (band[0] + band[3]) / 2 == pytest.approx(line[0], abs=0.1)
    assert (band[1] + band[2]) / 2 == pytest.approx(line[1], abs=0.1)


def test_the_end_of_a_short_line_is_inside_the_frame() -> None:
    short, long = (
        LineSeries(label="a", points=[(0, 9), (5, 8)]),
        LineSeries(label="b", points=[(0, 9), (50, 4), (100, 3)]),
    )
    assert shown_range([short, long])[:2] == (3, 8)
