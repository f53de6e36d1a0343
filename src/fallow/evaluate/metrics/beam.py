"""The beam in which tercom searches edit distances."""

from collections.abc import Sequence

from fallow.evaluate.metrics.distance import Column, Table
from fallow.evaluate.metrics.path import DELETE, INSERT, MATCH, SUBSTITUTE, Path

BEAM = 20
"""A cell this much worse than the best match or substitution that leads into its column is not followed."""


def within_beam(table: Table, columns: Sequence[Column], path: Path) -> bool:
    """Whether the beam surely leaves this path alone, and so finds it.

    A column's least value is not above what the beam compares with, so the test never says yes wrongly. Cells side by
    side differ by 1 at most, so a cell that is better by more than the beam is further away than that.
    """
    row = column = value = 0
    for step in path.steps:
        if value > BEAM and column < len(columns) - 1:
            far = (*range(row - BEAM), *range(row + BEAM + 1, table.num_rows + 1))
            if any(table.value(columns[column], other) < value - BEAM for other in far):
                return False
        row += step != INSERT
        column += step != DELETE
        value += step != MATCH
    return True


def beam_search(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, Path]:
    """Distance and path, following only cells in the beam; of equal steps the diagonal one, then insertion.

    Cells are followed column by column, from the first to the last reached. What leads into the next column by a match
    or substitution sets its standard; insertions do not.
    """
    rows, last_column = len(reference), len(hypothesis)
    cells: dict[tuple[int, int], tuple[int, str]] = {(0, 0): (0, "")}
    standard: float = float("inf")
    reached = [0]
    for column in range(last_column + 1):
        best: float = float("inf")
        following: list[int] = []
        row = reached[0]
        last = reached[-1]
        while row <= min(last, rows):
            cell = cells.get((row, column))
            if cell is None or (column < last_column and cell[0] > standard + BEAM):
                row += 1
                continue
            value = cell[0]
            if column < last_column:
                if row < rows:
                    match = reference[row] == hypothesis[column]
                    cost = value + (not match)
                    if _improves(cells, (row + 1, column + 1), cost):
                        cells[(row + 1, column + 1)] = (cost, MATCH if match else SUBSTITUTE)
                        best = min(best, cost)
                    elif match:
                        best = min(best, cost)
                if _improves(cells, (row, column + 1), value + 1):
                    cells[(row, column + 1)] = (value + 1, INSERT)
            if row < rows and _improves(cells, (row + 1, column), value + 1):
                cells[(row + 1, column)] = (value + 1, DELETE)
                last = max(last, row + 1)
            following.append(row)
            row += 1
        standard = best
        reached = [following[0], following[-1] + 1]
    return cells[(rows, last_column)][0], _back(cells, rows, last_column)


def _improves(cells: dict[tuple[int, int], tuple[int, str]], place: tuple[int, int], cost: int) -> bool:
    known = cells.get(place)
    return known is None or cost < known[0]


def _back(cells: dict[tuple[int, int], tuple[int, str]], row: int, column: int) -> Path:
    steps = []
    while row or column:
        step = cells[(row, column)][1]
        steps.append(step)
        row -= step != INSERT
        column -= step != DELETE
    return Path("".join(reversed(steps)))
