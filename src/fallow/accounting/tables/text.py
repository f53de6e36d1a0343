"""A table as text: each row's cells below its name, notes beside them."""

import textwrap
from collections.abc import Sequence

from fallow.accounting.tables.table import Cell, Table

WIDTH = 120
"""Characters that the text keeps within."""

_HEAD = ("", "paper", "ours", "error")
_LONGEST_ERROR = 9


def to_text(table: Table) -> str:
    """The table, its method and remarks, and the largest error.

    `=` after the error: ours, rounded as the paper rounds, is the printed figure.
    """
    rows = {row: number for number, row in enumerate(dict.fromkeys(cell.row for cell in table.cells))}
    shown: set[str] = set()
    name = max(len(cell.column) for cell in table.cells) + 2
    numbers = [(_number(cell, cell.paper), _number(cell, cell.ours, more=1)) for cell in table.cells]
    paper = max(len(text) for text, _ in [*numbers, (_HEAD[1], "")])
    ours = max(len(text) for _, text in [*numbers, ("", _HEAD[2])])
    lines = [table.title, *_wrapped(f"Source: {table.source}"), ""]
    lines.append(f"{'':<{name}}  {_HEAD[1]:>{paper}}  {_HEAD[2]:>{ours}}  {_HEAD[3]:>{_LONGEST_ERROR}}")
    for cell, (printed, computed) in sorted(zip(table.cells, numbers, strict=True), key=lambda pair: rows[pair[0].row]):
        if cell.row not in shown:
            lines.append(cell.row)
            shown.add(cell.row)
        start = (
            f"{'  ' + cell.column:<{name}}  {printed:>{paper}}  {computed:>{ours}}  {_error(cell):>{_LONGEST_ERROR}}"
        )
        lines += _with_note(f"{start} {'=' if cell.agrees else ' '}", cell.note)
    lines += ["", "Ours:", *_listed(table.method)]
    if table.remarks:
        lines += ["", "Known:", *_listed(table.remarks)]
    lines += ["", _summary(table)]
    return "\n".join(line.rstrip() for line in lines)


def _summary(table: Table) -> str:
    compared = [cell for cell in table.cells if cell.paper is not None]
    equal = sum(cell.agrees is True for cell in compared)
    text = f"{equal} of {len(compared)} published figures equal as printed (=); largest error"
    if any(cell.misprint for cell in compared):
        without = _percent(table.max_relative_error_without_misprints)
        return f"{text} {_percent(table.max_relative_error)}, without misprints {without}"
    return f"{text} {_percent(table.max_relative_error)}"


def _number(cell: Cell, value: float | None, *, more: int = 0) -> str:
    """A value with the paper's decimals; ours has one more where there is something to compare it with."""
    if value is None:
        return "-"
    if cell.digits == 0 and float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.{cell.digits + (more if cell.paper is not None or cell.digits == 0 else 0)}f}"


def _error(cell: Cell) -> str:
    return "" if cell.relative_error is None else _percent(cell.relative_error)


def _percent(error: float) -> str:
    return "0" if error == 0 else f"{error:.4%}" if error < 0.001 else f"{error:.2%}"


def _with_note(start: str, note: str) -> list[str]:
    """The note beside the numbers, wrapped in its own column."""
    parts = textwrap.wrap(note, max(WIDTH - len(start) - 1, 20)) or [""]
    return [f"{start} {parts[0]}", *(f"{'':<{len(start)}} {part}" for part in parts[1:])]


def _listed(texts: Sequence[str]) -> list[str]:
    return [
        line for text in texts for line in textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="    ")
    ]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
