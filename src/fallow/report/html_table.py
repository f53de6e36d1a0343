"""The results table in HTML."""

from collections.abc import Mapping
from html import escape

from fallow.report.document import dot
from fallow.report.results import (
    MISSING,
    Column,
    Results,
    Row,
    best_rows,
    cell_text,
    columns_of,
    is_numeric,
    number_of,
)


def table_section(
    results: Results, style: Mapping[str, int], *, title: str, key: str = "table", intro: str = ""
) -> str:
    """A section with the table of these results; empty without rows.

    Args:
        results: `columns` and `rows`; see `fallow.report.results`.
        style: colour numbers of the rows that have curves, by label.
        title: of the section; plain text.
        key: its name in the page, for screen readers; no two sections share one.
        intro: plain text above the table.
    """
    table = table_element(results, style, key=key)
    if not table:
        return ""
    texts = f'<p class="soft">{escape(intro)}</p>' if intro else ""
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{texts}{table}</section>\n'


def table_element(results: Results, style: Mapping[str, int], *, key: str) -> str:
    """The table alone, in a box that scrolls sideways; empty without rows."""
    columns, rows = columns_of(results), list(results.get("rows", ()))
    if not columns or not rows:
        return ""
    numeric = [is_numeric(column, rows) for column in columns]
    best = [best_rows(column, rows) for column in columns]
    head = "".join(_head(column, number) for column, number in zip(columns, numeric, strict=True))
    body = []
    for i, row in enumerate(rows):
        cells = [_row_name(columns[0], row, style)]
        for column, number, winners in zip(columns[1:], numeric[1:], best[1:], strict=True):
            cells.append(_cell(column, row, number=number, best=i in winners))
        body.append(f"<tr>{''.join(cells)}</tr>\n")
    many = ' class="many"' if len(columns) > 11 else ""
    legend = '<p class="soft">Shaded: best of the column.</p>' if any(best) else ""
    return (
        f'{legend}<div class="wide" tabindex="0" role="region" aria-labelledby="{key}"><table{many}>\n'
        f"<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{''.join(body)}</tbody></table></div>"
    )


def _head(column: Column, number: bool) -> str:
    unit = f'<span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind}>{escape(column.title)}{unit}</th>'


def _row_name(column: Column, row: Row, style: Mapping[str, int]) -> str:
    label = cell_text(column, row.get(column.key))
    remark = f'<span class="remark">{escape(str(row["note"]))}</span>' if row.get("note") else ""
    return f'<th scope="row">{dot(label, style)}{escape(label)}{remark}</th>'


def _cell(column: Column, row: Row, *, number: bool, best: bool) -> str:
    value = row.get(column.key)
    text = cell_text(column, value).replace("+-", "\N{PLUS-MINUS SIGN}")
    kinds = [kind for kind, on in (("number", number), ("best", best), ("missing", text == MISSING)) if on]
    exact = number_of(value)
    told = f' title="{exact!r}"' if exact is not None else ""
    shown = "&ndash;" if text == MISSING else escape(text)
    return f'<td class="{" ".join(kinds)}"{told}><span>{shown}</span></td>'
