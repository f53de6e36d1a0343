"""A table of numbers as a map of shades: layers down, matrices across."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_LEFT, _HEAD, _CELL, _ROW = 74, 30, 108, 27
_LEGEND = 46
_DARK = 0.55
"""Shades above this share of the strongest carry light text."""


def heat_map(
    values: Mapping[tuple[int, str], float | None],
    rows: Sequence[int],
    columns: Mapping[str, str],
    *,
    title: str,
    row_title: str = "layer",
    low: float = 0.0,
    high: float | None = None,
) -> str:
    """An SVG element: one cell a value, its number in it, darker where it is higher.

    Args:
        values: by row and column key; None or absent cells stay empty.
        rows: from top to bottom.
        columns: key -> title, from left to right.
        title: read out by screen readers, and the start of each cell's remark.
        row_title: what a row is.
        low: value of the lightest shade.
        high: value of the darkest; by default the largest value.
    """
    known = [value for value in values.values() if value is not None]
    top = high if high is not None else max(known, default=0.0)
    width = _LEFT + _CELL * len(columns)
    height = _HEAD + _ROW * len(rows) + _LEGEND
    parts = [
        f'<text x="{_LEFT + _CELL * (i + 0.5):.0f}" y="{_HEAD - 10}" text-anchor="middle">{escape(name)}</text>'
        for i, name in enumerate(columns.values())
    ]
    for j, row in enumerate(rows):
        y = _HEAD + _ROW * j
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 18}" text-anchor="end">{row_title} {row}</text>')
        for i, (key, name) in enumerate(columns.items()):
            told = f"{title}, {row_title} {row}, {name}: "
            parts.append(_cell(values.get((row, key)), _LEFT + _CELL * i, y, low, top, told))
    parts.append(_legend(height - _LEGEND + 12, low, top))
    largest = f"; highest {shade_text(max(known))}, lowest {shade_text(min(known))}" if known else ""
    return "\n".join(
        [
            f'<svg class="chart heat" viewBox="0 0 {width} {height}" role="img" '
            f'style="max-width:{width}px;min-width:{min(width, 620)}px" aria-label="{escape(title + largest)}">',
            *parts,
            "</svg>",
        ]
    )


def shade_text(value: float) -> str:
    """A number in few letters.

    >>> [shade_text(value) for value in (0, 0.01234, 1, 0.000031, 1e-16, 12.5)]
    ['0', '0.0123', '1', '3.1e-5', '1e-16', '12.5']
    """
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return f"{value:.3g}"


def _cell(value: float | None, x: float, y: float, low: float, high: float, told: str) -> str:
    if value is None or not math.isfinite(value):
        return (
            f'<text class="value" x="{x + _CELL / 2:.0f}" y="{y + 18}" text-anchor="middle">&#8211;'
            f"<title>{escape(told)}none</title></text>"
        )
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0
    kind = "strong" if share > _DARK else "value"
    return (
        f'<g><title>{escape(told)}{value!r}</title><rect class="shade" x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" '
        f'height="{_ROW - 2}" rx="3" fill-opacity="{0.06 + 0.94 * share:.3f}"/>'
        f'<text class="{kind}" x="{x + _CELL / 2:.0f}" y="{y + 18}" text-anchor="middle">{shade_text(value)}</text></g>'
    )


def _legend(y: float, low: float, high: float) -> str:
    if not high > low:
        return ""
    steps = 12
    boxes = "".join(
        f'<rect class="shade" x="{_LEFT + 1 + 15 * n}" y="{y}" width="15" height="12" '
        f'fill-opacity="{0.06 + 0.94 * n / (steps - 1):.3f}"/>'
        for n in range(steps)
    )
    end = _LEFT + 15 * steps
    return (
        f'{boxes}<text x="{_LEFT}" y="{y + 28}">{shade_text(low)}</text>'
        f'<text x="{end}" y="{y + 28}" text-anchor="end">{shade_text(high)}</text>'
    )
