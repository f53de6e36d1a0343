"""The results table: its columns and cells, in a terminal, as JSON, and as the page shows it.

What `results.json` holds, which is everything a report is made of, as plain JSON:

    {"recipe":  {...},                          the resolved recipe; "name" and "description" head the report
     "columns": [{"key", "title", ...}],        see `Column`; the first one names the row
     "rows":    [{key: value, ...}],            numbers unrounded; "note" is an optional remark about the row
     "domains": {"columns", "rows"},            loss of each held-out source by itself, in the same form
     "curves":  [{"label", "stage", "kind", "points": [[tokens, loss], ...]}],   kind: "train" or "valid"
     "gates": [{"stage", "verdict", "converged", "rows"}]  stages that trained gates; see `fallow.report.sections`
     "mixtures": [{"stage", "domains": [...]}]  shares that followed losses; see `fallow.report.sections`
     "samples": [{"context", "references": [...], "outputs": {label: text}}],
     "notes":   ["..."]}

A value is a number, a text, None (not measured), or {"mean", "spread"} over seeds. Curves with the same "stage" share
a chart. Missing lists are empty.
"""

import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import IO, Any, Literal

Results = Mapping[str, Any]
Row = Mapping[str, Any]
Better = Literal["high", "low", ""]

MISSING = "-"

TABLE_WIDTH = 120
"""Characters that a table keeps within."""

_NAME = 24
"""A first column that would become narrower than this, and wrap, gets lines of its own."""


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


@dataclass(frozen=True, slots=True)
class StyledText:
    """A part of a line; `style` is head, rule, name, best or empty."""

    text: str
    style: str = ""


TableLine = tuple[StyledText, ...]


def show_table(results: Results, *, file: IO[str] | None = None) -> None:
    """Print the table, emphasised on a terminal, plain in a file or a pipe."""
    out = sys.stdout if file is None else file
    if not out.isatty():
        out.write(plain_table(results) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out)
    styles = {"head": "bold", "rule": "dim", "name": "bold", "best": "bold green"}
    for line in layout(results, min(console.width, TABLE_WIDTH)):
        text = Text.assemble(*((piece.text, styles.get(piece.style, "")) for piece in line))
        console.print(text, no_wrap=True, overflow="ellipsis")


def plain_table(results: Results, *, width: int = TABLE_WIDTH) -> str:
    """The table as aligned lines of ASCII, at most `width` wide where the numbers allow it."""
    return "\n".join("".join(piece.text for piece in line).rstrip() for line in layout(results, width))


def table_json(results: Results) -> str:
    """Rows and columns as JSON, numbers unrounded."""
    return json.dumps({key: results.get(key, []) for key in ("columns", "rows", "notes")}, indent=2)


def layout(results: Results, width: int) -> list[TableLine]:
    """The lines of the table. The best value of a column is followed by `*`.

    Titles wrap to the width of their numbers. When the names of the rows would have to wrap as well, each name gets a
    line of its own above its numbers.
    """
    columns, rows = columns_of(results), list(results.get("rows", ()))
    if not columns or not rows:
        return []
    name, values = columns[0], columns[1:]
    best = [best_rows(column, rows) for column in values]
    marked = list(zip(values, best, strict=True))
    cells = [[_cell(column, row, i in won) for i, row in enumerate(rows)] for column, won in marked]
    heads = [_head(column, texts) for column, texts in zip(values, cells, strict=True)]
    sizes = [max(map(len, [*head, *texts])) for head, texts in zip(heads, cells, strict=True)]
    right = [is_numeric(column, rows) for column in values]

    names = [cell_text(name, row.get(name.key)) for row in rows]
    natural = max(map(len, [*names, name.title]))
    gap = "  " if 2 + sum(sizes) + 2 * len(sizes) <= width else " "
    room = width - sum(sizes) - len(gap) * len(sizes)
    apart = room < natural and room < _NAME
    first = 2 if apart else min(natural, room)

    lines: list[TableLine] = [
        (StyledText(gap.join(parts), "head"),)
        for parts in _heading(name.title, heads, sizes, right, first, named=not apart)
    ]
    total = max(first + sum(sizes) + len(gap) * len(sizes), natural if apart else 0)
    lines.append((StyledText("-" * total, "rule"),))
    for i, text in enumerate(names):
        wrapped = [text] if apart else textwrap.wrap(text, first) or [""]
        numbers = [
            StyledText(gap + _aligned(texts[i], size, flush), "best" if i in won else "")
            for texts, size, flush, won in zip(cells, sizes, right, best, strict=True)
        ]
        if apart:
            lines += [(StyledText(text, "name"),), (StyledText(" " * first), *numbers)]
        else:
            lines.append((StyledText(wrapped[0].ljust(first), "name"), *numbers))
            lines += [(StyledText(more, "name"),) for more in wrapped[1:]]
    if any(best):
        lines.append((StyledText("* best of the column", "rule"),))
    return lines


def _heading(
    name: str, heads: Sequence[list[str]], sizes: Sequence[int], right: Sequence[bool], first: int, *, named: bool
) -> list[list[str]]:
    """Titles of several lines beside each other, lined up at the bottom."""
    height = max(map(len, heads), default=1)
    lines = []
    for n in range(height):
        line = [(name if named and n == height - 1 else "").ljust(first)]
        for head, size, flush in zip(heads, sizes, right, strict=True):
            at = n - height + len(head)
            line.append(_aligned(head[at] if at >= 0 else "", size, flush))
        lines.append(line)
    return lines


def _head(column: Column, texts: Sequence[str]) -> list[str]:
    longest = max(map(len, [*column.title.split(), *texts]), default=1)
    lines = textwrap.wrap(column.title, longest, break_long_words=False) or [""]
    lines = [*lines, f"({column.unit})"] if column.unit else lines
    # A place for the mark of the best value, so that title and numbers line up.
    return [line + " " for line in lines] if column.better else lines


def _cell(column: Column, row: Row, best: bool) -> str:
    text = cell_text(column, row.get(column.key))
    return text + ("*" if best else " ") if column.better else text


def _aligned(text: str, size: int, flush: bool) -> str:
    return text.rjust(size) if flush else text.ljust(size)


def table_view(results: Results, style: Mapping[str, int]) -> dict[str, Any] | None:
    """What the page shows of a table; None without rows.

    Args:
        results: `columns` and `rows`.
        style: colour numbers of the rows that have curves, by label.

    Returns:
        `heads` (title, unit, is_number), `rows` (label, colour, remark, `cells` of text, classes and the exact number),
        `is_wide` and `has_best`.
    """
    columns, rows = columns_of(results), list(results.get("rows", ()))
    if not columns or not rows:
        return None
    numeric = [is_numeric(column, rows) for column in columns]
    best = [best_rows(column, rows) for column in columns]
    shown = []
    for i, row in enumerate(rows):
        label = cell_text(columns[0], row.get(columns[0].key))
        cells = [
            _view_cell(column, row, is_number=number, is_best=i in winners)
            for column, number, winners in zip(columns[1:], numeric[1:], best[1:], strict=True)
        ]
        shown.append({"label": label, "colour": style.get(label), "remark": str(row.get("note") or ""), "cells": cells})
    return {
        "heads": [
            {"title": column.title, "unit": column.unit, "is_number": number}
            for column, number in zip(columns, numeric, strict=True)
        ],
        "rows": shown,
        "is_wide": len(columns) > 11,
        "has_best": any(best),
    }


def _view_cell(column: Column, row: Row, *, is_number: bool, is_best: bool) -> dict[str, Any]:
    value = row.get(column.key)
    text = cell_text(column, value).replace("+-", "\N{PLUS-MINUS SIGN}")
    is_missing = text == MISSING
    kinds = [kind for kind, on in (("number", is_number), ("best", is_best), ("missing", is_missing)) if on]
    exact = number_of(value)
    return {
        "text": "\N{EN DASH}" if is_missing else text,
        "classes": " ".join(kinds),
        "exact": "" if exact is None else repr(exact),
    }
