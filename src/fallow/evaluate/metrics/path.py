"""How a hypothesis is aligned with a reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from fallow.evaluate.metrics.distance import Column, Table

MATCH, SUBSTITUTE, INSERT, DELETE = "=", "S", "I", "D"


@dataclass(frozen=True, slots=True)
class Path:
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


def traced(table: Table, reference: Sequence[str], hypothesis: Sequence[str], columns: Sequence[Column]) -> Path:
    """A path of the least distance; of equal steps the diagonal one, then insertion, then deletion.

    >>> table = Table("a b c".split())
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
    return Path("".join(reversed(steps)))
