import copy
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from fallow.report.charts import SmallSeries, heat_map, shade_text, small_chart
from fallow.report.comparison import comparison_page
from tests.report.test_pages import Checker

SIDE = {"model_type": "gpt2", "merged": True, "positions": 1000, "nonzero": 250}


def spectrum(scale: float) -> dict[str, Any]:
    left = {"rank": 1, "share": 0.5, "mean": 0.1, "top": 0.2, "quantiles": [0.0, 0.1 * scale, 0.4 * scale]}
    return {
        "values": [3.0 * scale, 1.0 * scale, 1e-9],
        "energy": 0.9,
        "stable_rank": 1.1,
        "rank_90": 1,
        "residual": left,
    }


@pytest.fixture
def found() -> dict[str, Any]:
    matrices = [
        {"layer": layer, "matrix": kind, "distance": d, "change": 2 * (d or 0), "jaccard": 0.5, "shape": [4, 4]}
        for layer, kind, d in ((0, "q", 0.0), (0, "out", 0.02), (1, "q", 0.01), (1, "out", None))
    ]
    row = {"distance": 0.01, "largest": 0.02, "density_a": 0.25, "density_b": 1.0, "jaccard": 0.25}
    plain = {
        "a": {**SIDE, "folder": "runs/<a>"}, "b": {**SIDE, "folder": "runs/b"}, "num_layers": 2, "rank": 1,
        "kinds": {"q": "Q", "out": "MLP out"}, "quantiles": [0.0, 0.5, 1.0],
        "columns": [{"key": "matrix", "title": "matrix"}, {"key": "distance", "title": "cosine distance", "digits": 5}],
        "rows": [{"matrix": "Q", **row}, {"matrix": "MLP out", **row}], "matrices": matrices,
        "spectra": [
            {"layer": 1, "matrix": "q", "rank": 1, "a": spectrum(1.0), "b": spectrum(2.0), "change": spectrum(0.1)}
        ],
        "tensors": [{"name": "wte.weight", "shape": [9, 4], "distance": None, "change": 3.1e-5, "ratio": 1.0}],
        "left_out": [], "notes": ["Something & more."],
    }  # fmt: skip
    return json.loads(json.dumps(plain))


def test_the_page_is_self_contained_and_says_everything(found: dict[str, Any]) -> None:
    text, checker = comparison_page(found), Checker()
    checker.feed(text)
    assert checker.open == []
    assert not {tag for tag, _ in checker.tags} & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    said = " ".join(checker.texts)
    for part in (
        "runs/<a>", "25.0% not zero", "Cosine distance", "Relative change", "Overlap of supports", "Singular values",
        "Layer 1",        "Residuals after low rank", "Q: 50% of A left", "wte.weight", "3.1e-5", "Something & more.",
    ):  # fmt: skip
        assert part in said, part
    assert text.count("prefers-color-scheme: dark") == 2
    assert comparison_page(copy.deepcopy(found)) == text


def test_without_spectra_and_zeros_those_parts_are_left_out(found: dict[str, Any]) -> None:
    found["spectra"] = []
    for row in found["rows"]:
        row["density_a"] = 1.0
    text = comparison_page(found)
    assert "Overlap" not in text and "Singular values" not in text and "Residuals" not in text


def test_terms_of_unmerged_folders_are_drawn(found: dict[str, Any]) -> None:
    found["spectra"][0]["b"]["composition"] = {"low_rank": [5.0, 0.1], "rest": [0.5, 1.9]}
    assert "Terms in the spectrum" in comparison_page(found)


def test_the_map_shades_by_value_and_leaves_holes() -> None:
    values = {(0, "q"): 0.0, (0, "v"): 0.5, (1, "q"): 1.0, (1, "v"): None}
    svg = heat_map(values, [0, 1], {"q": "Q", "v": "V <"}, title="t")
    ET.fromstring(svg)
    cells = re.findall(r"<title>t, layer (\d), (\w+)[^:]*: (\S+)</title><rect[^>]*fill-opacity=\"([\d.]+)\"", svg)
    assert [(layer, name, value) for layer, name, value, _ in cells] == [
        ("0", "Q", "0.0"),
        ("0", "V", "0.5"),
        ("1", "Q", "1.0"),
    ]
    shades = [float(shade) for *_, shade in cells]
    assert shades[0] < shades[1] < shades[2] == 1.0
    assert shades[1] == pytest.approx((shades[0] + shades[2]) / 2)
    assert "layer 1, V &lt;: none" in svg
    assert "highest 1, lowest 0" in svg


def test_a_map_of_zeros_and_one_of_nothing_are_drawn() -> None:
    for value in (0.0, None):
        ET.fromstring(heat_map({(0, "q"): value}, [0], {"q": "Q"}, title="t"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.0001, "1e-4"), (0.000999, "1e-3"), (-2e-5, "-2e-5"), (123456.0, "1.2e5")]
)
def test_shade_text(value: float, text: str) -> None:
    assert shade_text(value) == text


class TestSmall:
    def test_rounding_noise_is_left_out_of_logarithms(self) -> None:
        points = [(1, 10.0), (2, 1.0), (3, 0.1), (4, 1e-15), (5, 0.0)]
        svg = small_chart([SmallSeries(label="a", points=points)], title="t", x_title="x", y_title="y", log=True)
        ET.fromstring(svg)
        (path,) = re.findall(r'class="line valid series-0" d="(.*?)"', svg)
        places = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
        assert len(places) == 3
        assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)  # a decade each
        assert ">10<" in svg and ">1<" in svg and ">0.1<" in svg

    def test_the_rank_is_marked_inside_the_axis_only(self) -> None:
        lines = [SmallSeries(label="a", points=[(1, 1.0), (10, 2.0)])]
        assert 'class="rank"' in small_chart(lines, title="t", x_title="x", y_title="y", mark=5)
        assert 'class="rank"' not in small_chart(lines, title="t", x_title="x", y_title="y", mark=50)

    @pytest.mark.parametrize("points", [[], [(1.0, 0.0), (2.0, 0.0)]])
    def test_nothing_to_draw(self, points: list[tuple[float, float]]) -> None:
        line = SmallSeries(label="a", points=points)
        assert small_chart([line], title="t", x_title="x", y_title="y", log=True) == ""

    def test_one_point_is_drawn(self) -> None:
        svg = small_chart([SmallSeries(label="a", points=[(1.0, 2.0)])], title="t", x_title="x", y_title="y", log=True)
        assert "nan" not in svg and "<path" in svg
