"""A published table beside our own numbers, cell by cell."""

import math
from dataclasses import dataclass
from typing import Any

MISPRINT = "misprint"
"""How the note of a cell begins whose published figure is known to be wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure of a table.

    >>> Cell(row="GPT-2", column="parameters", paper=100.0, ours=99.0).relative_error
    0.01
    """

    row: str
    column: str
    """What is counted, and in which unit."""

    paper: float | None
    """As printed; None where nothing was published, or nothing that could be traced."""

    ours: float
    """Computed."""

    note: str = ""
    """Why the two differ, or where the figure was taken from."""

    digits: int = 2
    """Decimals that the paper prints, and that text shows."""

    @property
    def relative_error(self) -> float | None:
        """|ours - paper| / |paper|; None where nothing was published."""
        return None if self.paper is None else relative_error(self.ours, self.paper)

    @property
    def agrees(self) -> bool | None:
        """Whether ours, rounded as the paper rounds, is what the paper prints."""
        return None if self.paper is None else round(self.ours, self.digits) == round(self.paper, self.digits)

    @property
    def misprint(self) -> bool:
        """Whether the published figure is known to be wrong."""
        return self.note.startswith(MISPRINT)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, numbers unrounded."""
        plain = {"row": self.row, "column": self.column, "paper": self.paper, "ours": self.ours}
        return {**plain, "relative_error": self.relative_error, "note": self.note}


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A published table, recomputed."""

    name: str
    title: str
    source: str
    """Where the published figures come from."""

    cells: tuple[Cell, ...]

    method: tuple[str, ...]
    """How ours are computed: the equations, one a line."""

    remarks: tuple[str, ...] = ()
    """What is known about misprints, and what stays open."""

    @property
    def max_relative_error(self) -> float:
        """Over every cell with a published figure, misprints included."""
        return _largest(self.cells)

    @property
    def max_relative_error_without_misprints(self) -> float:
        """Over the cells whose published figure is not known to be wrong."""
        return _largest(tuple(cell for cell in self.cells if not cell.misprint))

    def cell(self, row: str, column: str) -> Cell:
        """The cell of a row and a column.

        Raises:
            KeyError: there is none.
        """
        for cell in self.cells:
            if (cell.row, cell.column) == (row, column):
                return cell
        raise KeyError((row, column))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "table": self.name,
            "cells": [cell.to_dict() for cell in self.cells],
            "max_relative_error": self.max_relative_error,
            "max_relative_error_without_misprints": self.max_relative_error_without_misprints,
            "title": self.title,
            "source": self.source,
            "method": list(self.method),
            "remarks": list(self.remarks),
        }


def relative_error(ours: float, paper: float) -> float:
    """|ours - paper| / |paper|.

    >>> relative_error(0.0, 0.0), relative_error(1.0, 0.0)
    (0.0, inf)
    """
    if paper == 0:
        return 0.0 if ours == 0 else math.inf
    return abs(ours - paper) / abs(paper)


def _largest(cells: tuple[Cell, ...]) -> float:
    return max((cell.relative_error for cell in cells if cell.relative_error is not None), default=0.0)
