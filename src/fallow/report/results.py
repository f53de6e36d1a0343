"""What `results.json` holds: everything a report is made of, as plain JSON.

    {"recipe":  {...},                          the resolved recipe; "name" and "description" head the report
     "columns": [{"key", "title", ...}],        see `Column`; the first one names the row
     "rows":    [{key: value, ...}],            numbers unrounded; "note" is an optional remark about the row
     "domains": {"columns", "rows"},            loss of each held-out source by itself, in the same form
     "curves":  [{"label", "stage", "kind", "points": [[tokens, loss], ...]}],   kind: "train" or "valid"
     "gates": [{"stage", "verdict", "converged", "rows"}]  stages that trained gates; see `fallow.report.gates`
     "mixtures": [{"stage", "domains": [...]}]  shares that followed losses; see `fallow.report.mixture`
     "samples": [{"context", "references": [...], "outputs": {label: text}}],
     "notes":   ["..."]}

A value is a number, a text, None (not measured), or {"mean", "spread"} over seeds. Curves with the same "stage" share
a chart. Missing lists are empty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

Results = Mapping[str, Any]
Row = Mapping[str, Any]
Better = Literal["high", "low", ""]

MISSING = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """How one value of each row is shown."""

    key: str
    title: str

    unit: str = ""
    """Shown under the title, not in the cells."""

    digits: int = 2
    """Digits after the point."""

    better: Better = ""
    """Which end is better: the best value of the column is emphasised. Empty: neither."""

    scale: float = 1.0
    """Rows hold value, cells show value / scale: 1e6 with the unit "M"."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Column":
        """From JSON; keys that this version does not know are ignored, so that newer files can be read."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in plain.items() if key in known})


def columns_of(results: Results) -> list[Column]:
    """The columns of the table."""
    return [Column.of(plain) for plain in results.get("columns", ())]


def number_of(value: Any) -> float | None:
    """The number in a cell (of several seeds their mean), or None when there is none."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)


def cell_text(column: Column, value: Any) -> str:
    """What stands in a cell.

    >>> cell_text(Column(key="n", title="weights", digits=1, scale=1e6), 1_234_567)
    '1.2'
    >>> cell_text(Column(key="b", title="BLEU"), {"mean": 66.5, "spread": 0.854})
    '66.50 +- 0.85'
    """
    number = number_of(value)
    if number is None:
        return MISSING if value is None or isinstance(value, int | float | Mapping) else str(value)
    text = _decimal(number / column.scale, column.digits)
    spread = value.get("spread") if isinstance(value, Mapping) else None
    return text if spread is None else f"{text} +- {_decimal(float(spread) / column.scale, column.digits)}"


def best_rows(column: Column, rows: Sequence[Row]) -> set[int]:
    """Rows whose shown value is the best of the column; none when all are equal, or fewer than two have one."""
    if not column.better:
        return set()
    # As shown, so that two rows that read the same are emphasised together.
    shown = {
        i: round(number / column.scale, column.digits)
        for i, row in enumerate(rows)
        if (number := number_of(row.get(column.key))) is not None
    }
    if len(set(shown.values())) < 2:
        return set()
    best = max(shown.values()) if column.better == "high" else min(shown.values())
    return {i for i, value in shown.items() if value == best}


def is_numeric(column: Column, rows: Sequence[Row]) -> bool:
    """Whether a column holds numbers (and is set flush right)."""
    values = [row.get(column.key) for row in rows if row.get(column.key) is not None]
    return bool(values) and all(isinstance(value, int | float | Mapping) for value in values)


def _decimal(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "inf" if value > 0 else "-inf"
