"""How far the gates of a stage came: a line whether they converged, and a table of sizes and margins by axis."""

from collections.abc import Mapping
from html import escape
from typing import Any

from fallow.report.html_table import table_element
from fallow.report.results import Results

_COLUMNS: list[dict[str, Any]] = [
    {"key": "axis", "title": "axis"},
    {"key": "size", "title": "units", "digits": 0},
    {"key": "target", "title": "to stay", "digits": 0},
    {"key": "expected", "title": "expected", "digits": 1},
    {"key": "expected_worst", "title": "expected, farthest row", "digits": 1},
    {"key": "open", "title": "more open than not", "digits": 1},
    {"key": "undecided", "title": "undecided", "unit": "%", "digits": 1, "scale": 0.01},
    {"key": "margin", "title": "margin", "digits": 3},
    {"key": "margin_worst", "title": "margin, worst row", "digits": 3},
    {"key": "linear", "title": "linear multiplier", "digits": 2},
    {"key": "quadratic", "title": "quadratic multiplier", "digits": 2},
]


def gates_of_results(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages that trained gates, as they stand in `results.json`.

    Args:
        stages: records of finished stages by label.

    Returns:
        For each one {"stage", "verdict", "converged", "rows"}, a row an axis.
    """
    found = []
    for label, record in stages.items():
        told = record.get("training", {}).get("method") or {}
        if "verdict" in told and "axes" in told:
            rows = [{"axis": axis, **state} for axis, state in told["axes"].items()]
            found.append({"stage": label, "verdict": told["verdict"], "converged": told["converged"], "rows": rows})
    return found


def gates_section(results: Results) -> str:
    """The section of the page; empty when no stage trained gates."""
    parts = []
    for number, entry in enumerate(results.get("gates", ())):
        key = f"gates-{number}"
        table = table_element({"columns": _COLUMNS, "rows": entry.get("rows", ())}, {}, key=key)
        anyway = "" if entry.get("converged") else " They were cut to the target by rank."
        line = f"<p>The gates have {escape(str(entry.get('verdict', '')))}.{anyway}</p>"
        parts.append(f'<h3 id="{key}">{escape(str(entry.get("stage", "")))}</h3>{line}{table}')
    if not parts:
        return ""
    return f'<section aria-labelledby="gates"><h2 id="gates">Gates</h2>{"".join(parts)}</section>\n'
