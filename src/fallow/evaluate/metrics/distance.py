"""Edit distances of token sequences, 64 and more cells of the table at a time.

The table D has a row for each token of the reference and a column for each of the hypothesis; D(i, j) is the distance
of the first i and the first j of them. Neighbours in a column differ by -1, 0 or 1, so a column is two integers with a
bit a row (Myers, 1999; Hyyroe, 2003): where it goes up, and where it goes down. Python's integers hold any number of
rows.
"""

from collections.abc import Iterable, Sequence

Column = tuple[int, int, int]
"""Rows that go up, rows that go down, and the value in the last row."""


class Table:
    """Distances of one reference to whatever begins with the columns computed before.

    >>> table = Table("the cat sat".split())
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
