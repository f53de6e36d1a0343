"""The page of the documentation shows what the command prints."""

from fallow.accounting.tables import TABLES
from tests.accounting.tables.page import OUTPUT, PAGE, refreshed

TEXT = PAGE.read_text(encoding="utf-8")


def test_every_table_is_on_the_page() -> None:
    assert [name for name, _ in OUTPUT.findall(TEXT)] == list(TABLES)


def test_the_page_is_not_stale() -> None:
    assert refreshed(TEXT) == TEXT, "write it anew: PYTHONPATH=src python -m tests.accounting.tables.page"


def test_a_changed_figure_is_noticed() -> None:
    assert refreshed(TEXT.replace("236.089", "236.100")) == TEXT
