"""The page of two models side by side, from the mapping that `comparison.json` holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from fallow.report.charts import SmallSeries, heat_map, shade_text, small_chart
from fallow.report.render import render
from fallow.report.tables import table_view

Comparison = Mapping[str, Any]
SmallChart = Callable[[Mapping[str, Any], str], Markup]
"""(an entry of `spectra`, the name of its matrix) -> the drawing; empty where there is nothing to draw."""

LINES = (("A", 0), ("B", 1), ("B - A", 2))
"""What is drawn of each matrix, and the number of its colour."""


def comparison_page(found: Comparison) -> str:
    """The whole page; the same comparison always gives the same page."""
    return render(
        "comparison.html",
        title="comparison",
        command="fallow compare",
        heading="Two models, matrix by matrix",
        description="",
        sides=[_side("A", found["a"]), _side("B", found["b"])],
        table=table_view(found, {}),
        maps=_maps(found),
        smalls=[group for group in (_spectra(found), _residuals(found), _compositions(found)) if group],
        notes=[str(note) for note in found.get("notes", ())],
        tensors=[_tensor(one) for one in found.get("tensors", ())],
        footer="Made by fallow from comparison.json, which holds every number unrounded. Layers count from 0.",
    )


def _side(name: str, side: Mapping[str, Any]) -> dict[str, str]:
    kind = "" if side["merged"] else ", not merged"
    share = side["nonzero"] / side["positions"]
    facts = f"{side['model_type']}{kind}, {side['positions']:,} weights in the blocks' matrices, {share:.1%} not zero"
    return {"name": name, "folder": str(side["folder"]), "facts": facts}


def _maps(found: Comparison) -> list[dict[str, Any]]:
    maps: list[tuple[str, str, float | None, str]] = [
        ("Cosine distance", "distance", None, "0 is the same direction; the scale does not matter."),
        ("Relative change", "change", None, "Norm of B - A over the norm of A."),
    ]
    if any(row["density_a"] < 0.999 or row["density_b"] < 0.999 for row in found["rows"]):
        maps.append(("Overlap of supports", "jaccard", 1.0, "Entries not zero in both over entries not zero in one."))
    return [
        {"title": title, "drawn": _map(found, key, title, high), "caption": text} for title, key, high, text in maps
    ]


def _map(found: Comparison, key: str, title: str, high: float | None) -> Markup:
    values = {(entry["layer"], entry["matrix"]): entry[key] for entry in found["matrices"]}
    return heat_map(values, range(found["num_layers"]), found["kinds"], title=title, high=high)


def _spectra(found: Comparison) -> dict[str, Any] | None:
    def chart(entry: Mapping[str, Any], title: str) -> Markup:
        lines = [
            SmallSeries(label=label, style=style, points=list(enumerate(part["values"], 1)), wide=label == "A")
            for (label, style), part in _parts(entry)
        ]
        return small_chart(
            lines, title=title, x_title="number", y_title="singular values", log=True, mark=entry["rank"]
        )

    text = (
        f"Singular values, largest first, on a logarithmic axis; the dashed line stands at rank {found.get('rank')}. A "
        "line that falls at once is a matrix that low rank describes well; B - A says the same of what changed."
    )
    return _smalls(found, "spectra", "Singular values", text, chart, LINES)


def _residuals(found: Comparison) -> dict[str, Any] | None:
    shares = found.get("quantiles", ())

    def chart(entry: Mapping[str, Any], title: str) -> Markup:
        lines = []
        for (label, style), part in _parts(entry):
            if "residual" in part:
                left = part["residual"]
                points = list(zip(left["quantiles"], shares, strict=True))
                lines.append(SmallSeries(label=label, style=style, points=points, wide=label == "A"))
        held = entry["a"]["residual"]["share"]
        name = title if held is None else f"{title}: {held:.0%} of A left"
        return small_chart(lines, title=name, x_title="magnitude", y_title="share of the entries below")

    text = (
        f"What is left of each matrix after its best approximation of rank {found.get('rank')}: the share of entries "
        "whose magnitude is below a value. A curve that rises at one place has entries of similar size everywhere, so "
        "that which of them a sparse term holds matters little."
    )
    return _smalls(found, "residuals", "Residuals after low rank", text, chart, LINES[:2])


def _compositions(found: Comparison) -> dict[str, Any] | None:
    def chart(entry: Mapping[str, Any], title: str) -> Markup:
        charts = []
        for side in ("a", "b"):
            if parts := entry[side].get("composition"):
                lines = [
                    SmallSeries(label=label, style=style, points=list(enumerate(parts[key], 1)))
                    for key, label, style in (("low_rank", "low rank", 3), ("rest", "rest", 4))
                ]
                name = f"{side.upper()}, {title}"
                charts.append(small_chart(lines, title=name, x_title="number", y_title="parts", mark=entry["rank"]))
        return Markup().join(charts)

    text = "What the low-rank term and the rest of each weight give to each of its singular values; they add up to it."
    return _smalls(found, "terms", "Terms in the spectrum", text, chart, (("low rank", 3), ("rest", 4)))


def _parts(entry: Mapping[str, Any]) -> list[tuple[tuple[str, int], Mapping[str, Any]]]:
    return [
        (line, entry[key])
        # the first is drawn below the others
        for line, key in zip((LINES[2], LINES[0], LINES[1]), ("change", "a", "b"), strict=True)
        if key in entry
    ]


def _smalls(
    found: Comparison, key: str, title: str, text: str, chart: SmallChart, lines: Sequence[tuple[str, int]]
) -> dict[str, Any] | None:
    layers: dict[int, Markup] = {}
    for entry in found.get("spectra", ()):
        if drawn := chart(entry, found["kinds"][entry["matrix"]]):
            layers[entry["layer"]] = layers.get(entry["layer"], Markup()) + drawn
    return {"key": key, "title": title, "text": text, "lines": lines, "layers": layers} if layers else None


def _tensor(one: Mapping[str, Any]) -> dict[str, Any]:
    numbers = ["\N{EN DASH}" if value is None else shade_text(value) for value in (one[key] for key in _TENSOR_COLUMNS)]
    return {"name": str(one["name"]), "cells": [" x ".join(map(str, one["shape"])), *numbers]}


_TENSOR_COLUMNS = ("distance", "change", "ratio")
