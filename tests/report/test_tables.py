import io
import json
from typing import Any

import pytest

from fallow.report.tables import Column, best_rows, cell_text, number_of, plain_table, show_table, table_json


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_seven_arms_fit_into_120_columns(results: dict[str, Any]) -> None:
    lines = plain_table(results).splitlines()
    assert max(map(len, lines)) <= 120
    text = "\n".join(lines)
    assert text.isascii()
    for row in results["rows"]:
        assert row["arm"] in text
    assert "3.500*" in text
    assert "14.20 +- 0.12" in text or "14.20 +- 0.13" in text


def test_numbers_line_up_below_their_titles(results: dict[str, Any]) -> None:
    results["columns"] = [
        {"key": "arm", "title": "arm"},
        {"key": "flops", "title": "FLOPs", "digits": 1, "scale": 1e12},
    ]
    lines = plain_table(results).splitlines()
    ends = {len(line) for line in lines}
    assert lines[0].startswith("arm")
    assert len(ends) == 1


def test_long_names_wrap_only_where_there_is_room_for_them(results: dict[str, Any]) -> None:
    apart = plain_table(results, width=110).splitlines()
    assert "75% sparse, rate of dense" in apart
    beside = plain_table(results, width=160).splitlines()
    assert any(line.startswith("75% sparse, rate of dense  ") for line in beside)


def test_a_terminal_shows_the_same_numbers_with_emphasis(
    results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, plain = Terminal(), io.StringIO()
    show_table(results, file=out)
    show_table(results, file=plain)
    assert "\x1b[" in out.getvalue()
    assert "\x1b[" not in plain.getvalue()
    assert "11,836*" in out.getvalue()
    assert "11,836*" in plain.getvalue()


def test_json_keeps_numbers_unrounded(results: dict[str, Any]) -> None:
    assert json.loads(table_json(results))["rows"] == results["rows"]


def test_no_rows_no_table() -> None:
    assert plain_table({"columns": [{"key": "a", "title": "a"}]}) == ""
    assert plain_table({}) == ""


@pytest.mark.parametrize(
    ("better", "values", "expected"),
    [
        ("low", [3.0, 1.0, 2.0], {1}),
        ("high", [3.0, 1.0, None], {0}),
        ("high", [1.001, 1.002, 0.5], {0, 1}),
        ("low", [2.0, 2.0], set()),
        ("low", [2.0, None], set()),
        ("", [3.0, 1.0], set()),
        ("high", [{"mean": 5.0, "spread": 1}, 4.0], {0}),
        ("low", [float("nan"), 4.0, 5.0], {1}),
    ],
)
def test_the_best_is_as_shown(better: Any, values: list[Any], expected: set[int]) -> None:
    column = Column(key="v", title="v", better=better)
    assert best_rows(column, [{"v": value} for value in values]) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1,234.50"),
        (None, "-"),
        (float("nan"), "-"),
        (float("inf"), "inf"),
        ("none", "none"),
        ({"mean": 2, "spread": 0.5}, "2.00 +- 0.50"),
        ({"mean": 2}, "2.00"),
    ],
)
def test_cells(value: Any, text: str) -> None:
    assert cell_text(Column(key="v", title="v"), value) == text


def test_true_is_no_number_and_unknown_keys_of_newer_files_are_ignored() -> None:
    assert number_of(True) is None
    assert Column.of({"key": "a", "title": "b", "colour": "red"}).title == "b"
