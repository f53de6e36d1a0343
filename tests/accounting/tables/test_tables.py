"""Cells, their text, and the shapes that they are computed from."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fallow.accounting import count_flops, count_parameters
from fallow.accounting.tables import TABLES, Cell, Table, relative_error, table
from fallow.accounting.tables.counts import forward, num_parameters
from fallow.accounting.tables.text import WIDTH, to_text
from fallow.errors import UserError


def make_table(*cells: Cell) -> Table:
    return Table(name="t", title="T", source="S", cells=cells, method=("m",), remarks=("r",))


def cell(row: str = "a", paper: float | None = 2.0, ours: float = 2.02, note: str = "", digits: int = 1) -> Cell:
    return Cell(row=row, column="c", paper=paper, ours=ours, note=note, digits=digits)


def test_errors_of_cells() -> None:
    assert cell().relative_error == pytest.approx(0.01) and cell().agrees
    assert cell(ours=2.06).agrees is False
    assert cell(paper=None).relative_error is None and cell(paper=None).agrees is None
    assert relative_error(-1.0, -2.0) == 0.5
    assert relative_error(1.0, 0.0) == math.inf


def test_the_largest_error_counts_misprints_and_says_what_is_left_without() -> None:
    found = make_table(cell(), cell("b", 4.0, 2.0, "misprint: 4 for 2"), cell("c", None))
    assert found.max_relative_error == 0.5
    assert found.max_relative_error_without_misprints == pytest.approx(0.01)
    assert make_table(cell(paper=None)).max_relative_error == 0
    assert "largest error 50.00%, without misprints 1.00%" in to_text(found)
    with pytest.raises(KeyError):
        found.cell("a", "d")


def test_text_groups_rows_and_wraps_notes() -> None:
    text = to_text(make_table(cell("x"), cell("y", note="why " * 40), cell("x", paper=None, ours=7.0)))
    lines = text.splitlines()
    assert [line for line in lines if line in ("x", "y")] == ["x", "y"]
    assert lines[lines.index("x") + 2].split() == ["c", "-", "7.0"]
    assert max(map(len, lines)) <= WIDTH


@given(st.floats(1e-6, 1e12), st.floats(1e-6, 1e12))
def test_error_is_not_negative_and_is_zero_for_equals(paper: float, ours: float) -> None:
    assert relative_error(ours, paper) >= 0
    assert relative_error(paper, paper) == 0


@pytest.mark.parametrize("name", TABLES)
def test_tables_print_within_the_width_and_name_their_source(name: str) -> None:
    found = table(name)
    text = to_text(found)
    assert found.name == name
    assert max(map(len, text.splitlines())) <= WIDTH
    assert found.source and found.method
    assert text.isascii()
    places = [(one.row, one.column) for one in found.cells]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(("name", "message"), [("spdf-flop", 'Did you mean "spdf-flops"?'), ("zebra", "Known: dsee-")])
def test_unknown_tables(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(name)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_counts_from_shapes_equal_those_of_models(family: str, make: Callable[..., nn.Module]) -> None:
    model = make(family)
    config = model.config.to_dict()
    context = 8
    ours, theirs = forward(config, context), count_flops(model, context)
    assert (ours.linear, ours.attention, ours.softmax, ours.vocab) == (
        theirs.linear, theirs.attention, theirs.softmax, theirs.vocab,
    )  # fmt: skip
    assert num_parameters(config) == count_parameters(model).positions
    assert forward(config, context, sparsity=0.75).linear * 4 == ours.linear
