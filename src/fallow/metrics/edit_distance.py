"""Edit distance in 64-cell columns, beam, trace back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BEAM = 20
"""A cell this much worse than the best match or substitution that leads into its column is not followed."""


Column = tuple[int, int, int]
"""Rows that go up, rows that go down, and the value in the last row."""


class EditTable:
    """Distances of one reference to whatever begins with the columns computed before.

    >>> table = EditTable("the cat sat".split())
    >>> table.columns("the sat".split())[-1][2]
    1
    """

    def __init__(self, reference: Sequence[str]) -> None:
        self.num_rows = len(reference)
        self.first: Column = ((1 << self.num_rows) - 1, 0, self.num_rows)
        self._rows_of: dict[str, int] = {}
        for row, token in enumerate(reference):
            self._rows_of[token] = self._rows_of.get(token, 0) | (1 << row)

    def columns(self, hypothesis: Iterable[str]) -> list[Column]:
        """The column before any token, and one after each."""
        found = [self.first]
        for token in hypothesis:
            found.append(self._step(found[-1], token))
        return found

    def distance(self, tokens: Sequence[str], start: Column) -> int:
        """The last value after more tokens."""
        up, down, value = start
        return self.last(*self.after(tokens, up, down), value - up.bit_count() + down.bit_count() + len(tokens))

    def last(self, up: int, down: int, count: int) -> int:
        """The last value of a column after `count` tokens, which is what stands in row 0."""
        return count + up.bit_count() - down.bit_count()

    def after(self, tokens: Sequence[str], up: int, down: int) -> tuple[int, int]:
        """Where a column goes up and down after more tokens."""
        full = self.first[0]
        rows_of = self._rows_of.get
        # This is `_step` in a loop, without the value: shifts are tried with it thousands of times.
        for token in tokens:
            equal = rows_of(token, 0)
            across = equal | down
            diagonal = (((equal & up) + up) ^ up) | equal
            right = ((down | (full & ~(diagonal | up))) << 1) | 1
            up, down = (((up & diagonal) << 1) | ~(across | right)) & full, right & across & full
        return up, down

    def _step(self, column: Column, token: str) -> Column:
        full, last = self.first[0], 1 << (self.num_rows - 1)
        up, down, value = column
        equal = self._rows_of.get(token, 0)
        across = equal | down
        diagonal = (((equal & up) + up) ^ up) | equal
        right = down | (full & ~(diagonal | up))
        left = up & diagonal
        value += 1 if right & last else -1 if left & last else 0
        right = (right << 1) | 1
        return ((left << 1) | ~(across | right)) & full, right & across & full, value

    def value(self, column: Column, row: int) -> int:
        """D in this column at a row, counted from 0 for no token of the reference."""
        up, down, last = column
        return last - (up >> row).bit_count() + (down >> row).bit_count()


@dataclass(frozen=True, slots=True)
class Alignment:
    """Steps from the beginning to the end: a token inserted is one of the hypothesis, one deleted of the reference."""

    steps: str

    def marks(self) -> tuple[list[int], list[bool], list[bool]]:
        """For `shifts.candidates`: where reference tokens are aligned, and which tokens of both sides are wrong."""
        aligned: list[int] = []
        wrong_hypothesis: list[bool] = []
        wrong_reference: list[bool] = []
        for step in self.steps:
            if step != DELETE:
                wrong_hypothesis.append(step != MATCH)
            if step != INSERT:
                aligned.append(len(wrong_hypothesis) - 1)
                wrong_reference.append(step != MATCH)
        return aligned, wrong_hypothesis, wrong_reference


def within_beam(table: EditTable, columns: Sequence[Column], path: Alignment) -> bool:
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


def beam_search(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, Alignment]:
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


def _back(cells: dict[tuple[int, int], tuple[int, str]], row: int, column: int) -> Alignment:
    steps = []
    while row or column:
        step = cells[(row, column)][1]
        steps.append(step)
        row -= step != INSERT
        column -= step != DELETE
    return Alignment("".join(reversed(steps)))


MATCH, SUBSTITUTE, INSERT, DELETE = "=", "S", "I", "D"


def traced(
    table: EditTable, reference: Sequence[str], hypothesis: Sequence[str], columns: Sequence[Column]
) -> Alignment:
    """A path of the least distance; of equal steps the diagonal one, then insertion, then deletion.

    >>> table = EditTable("a b c".split())
    >>> traced(table, "a b c".split(), "a x c c".split(), table.columns("a x c c".split())).steps
    '=IS='
    """
    row, column = len(reference), len(hypothesis)
    value, steps = columns[-1][2], []
    while row or column:
        if row and column:
            match = reference[row - 1] == hypothesis[column - 1]
            before = table.value(columns[column - 1], row - 1)
            if before + (not match) == value:
                steps.append(MATCH if match else SUBSTITUTE)
                row, column, value = row - 1, column - 1, before
                continue
        if column and table.value(columns[column - 1], row) + 1 == value:
            steps.append(INSERT)
            column -= 1
        else:
            steps.append(DELETE)
            row -= 1
        value -= 1
    return Alignment("".join(reversed(steps)))
