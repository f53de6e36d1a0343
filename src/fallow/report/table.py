"""The results table in the terminal, as plain text, and as JSON."""

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from fallow.report.results import Column, Results, Row, best_rows, cell_text, columns_of, is_numeric

WIDTH = 120
"""Characters that a table keeps within."""

_NAME = 24
"""A first column that would become narrower than this, and wrap, gets lines of its own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line; `style` is head, rule, name, best or empty."""

    text: str
    style: str = ""


Line = tuple[Piece, ...]


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
    for line in layout(results, min(console.width, WIDTH)):
        text = Text.assemble(*((piece.text, styles.get(piece.style, "")) for piece in line))
        console.print(text, no_wrap=True, overflow="ellipsis")


def plain_table(results: Results, *, width: int = WIDTH) -> str:
    """The table as aligned lines of ASCII, at most `width` wide where the numbers allow it."""
    return "\n".join("".join(piece.text for piece in line).rstrip() for line in layout(results, width))


def table_json(results: Results) -> str:
    """Rows and columns as JSON, numbers unrounded."""
    return json.dumps({key: results.get(key, []) for key in ("columns", "rows", "notes")}, indent=2)


def layout(results: Results, width: int) -> list[Line]:
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

    lines: list[Line] = [
        (Piece(gap.join(parts), "head"),) for parts in _heading(name.title, heads, sizes, right, first, named=not apart)
    ]
    total = max(first + sum(sizes) + len(gap) * len(sizes), natural if apart else 0)
    lines.append((Piece("-" * total, "rule"),))
    for i, text in enumerate(names):
        wrapped = [text] if apart else textwrap.wrap(text, first) or [""]
        numbers = [
            Piece(gap + _aligned(texts[i], size, flush), "best" if i in won else "")
            for texts, size, flush, won in zip(cells, sizes, right, best, strict=True)
        ]
        if apart:
            lines += [(Piece(text, "name"),), (Piece(" " * first), *numbers)]
        else:
            lines.append((Piece(wrapped[0].ljust(first), "name"), *numbers))
            lines += [(Piece(more, "name"),) for more in wrapped[1:]]
    if any(best):
        lines.append((Piece("* best of the column", "rule"),))
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
