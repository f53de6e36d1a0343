"""The page of two models side by side, from the mapping that `comparison.json` holds."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fallow.report.document import document, header, notes_section
from fallow.report.heatmap import heat_map, shade_text
from fallow.report.html_table import table_section
from fallow.report.small import Line, legend, small_chart

Comparison = Mapping[str, Any]

LINES = (("A", 0), ("B", 1), ("B - A", 2))
"""What is drawn of each matrix, and the number of its colour."""


def comparison_page(found: Comparison) -> str:
    """The whole page; the same comparison always gives the same page."""
    sections = [
        header("fallow compare", "Two models, matrix by matrix", ""),
        _sides(found),
        table_section(
            found,
            {},
            title="All layers together",
            intro="Distances are means over the layers; change, norms and overlap take all layers as one vector.",
        ),
        _maps(found),
        _spectra(found),
        _residuals(found),
        _compositions(found),
        notes_section(found.get("notes", ())),
        _tensors(found),
    ]
    footer = "Made by fallow from comparison.json, which holds every number unrounded. Layers count from 0."
    return document("comparison", "".join(section for section in sections if section), footer)


def _sides(found: Comparison) -> str:
    texts = []
    for name, side in (("A", found["a"]), ("B", found["b"])):
        share = side["nonzero"] / side["positions"]
        kind = "" if side["merged"] else ", not merged"
        texts.append(
            f"<dt>{name}</dt><dd>{escape(side['folder'])} <span class='soft'>{escape(side['model_type'])}{kind}, "
            f"{side['positions']:,} weights in the blocks' matrices, {share:.1%} not zero</span></dd>"
        )
    return f'<dl class="sides">{"".join(texts)}</dl>\n'


def _maps(found: Comparison) -> str:
    maps: list[tuple[str, str, float | None, str]] = [
        ("Cosine distance", "distance", None, "0 is the same direction; the scale does not matter."),
        ("Relative change", "change", None, "Norm of B - A over the norm of A."),
    ]
    if any(row["density_a"] < 0.999 or row["density_b"] < 0.999 for row in found["rows"]):
        maps.append(("Overlap of supports", "jaccard", 1.0, "Entries not zero in both over entries not zero in one."))
    figures = [
        f'<figure><h3>{title}</h3><div class="wide" tabindex="0">{_map(found, key, title, high)}</div>'
        f"<figcaption>{text}</figcaption></figure>\n"
        for title, key, high, text in maps
    ]
    return f'<section aria-labelledby="maps"><h2 id="maps">Layer by layer</h2>{"".join(figures)}</section>\n'


def _map(found: Comparison, key: str, title: str, high: float | None) -> str:
    values = {(entry["layer"], entry["matrix"]): entry[key] for entry in found["matrices"]}
    return heat_map(values, range(found["num_layers"]), found["kinds"], title=title, high=high)


def _spectra(found: Comparison) -> str:
    def chart(entry: Mapping[str, Any], title: str) -> str:
        lines = [
            Line(label=label, style=style, points=list(enumerate(part["values"], 1)), wide=label == "A")
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


def _residuals(found: Comparison) -> str:
    shares = found.get("quantiles", ())

    def chart(entry: Mapping[str, Any], title: str) -> str:
        lines = []
        for (label, style), part in _parts(entry):
            if "residual" in part:
                left = part["residual"]
                points = list(zip(left["quantiles"], shares, strict=True))
                lines.append(Line(label=label, style=style, points=points, wide=label == "A"))
        held = entry["a"]["residual"]["share"]
        name = title if held is None else f"{title}: {held:.0%} of A left"
        return small_chart(lines, title=name, x_title="magnitude", y_title="share of the entries below")

    text = (
        f"What is left of each matrix after its best approximation of rank {found.get('rank')}: the share of entries "
        "whose magnitude is below a value. A curve that rises at one place has entries of similar size everywhere, so "
        "that which of them a sparse term holds matters little."
    )
    return _smalls(found, "residuals", "Residuals after low rank", text, chart, LINES[:2])


def _compositions(found: Comparison) -> str:
    def chart(entry: Mapping[str, Any], title: str) -> str:
        charts = []
        for side in ("a", "b"):
            if parts := entry[side].get("composition"):
                lines = [
                    Line(label=label, style=style, points=list(enumerate(parts[key], 1)))
                    for key, label, style in (("low_rank", "low rank", 3), ("rest", "rest", 4))
                ]
                name = f"{side.upper()}, {title}"
                charts.append(small_chart(lines, title=name, x_title="number", y_title="parts", mark=entry["rank"]))
        return "".join(charts)

    text = "What the low-rank term and the rest of each weight give to each of its singular values; they add up to it."
    return _smalls(found, "terms", "Terms in the spectrum", text, chart, (("low rank", 3), ("rest", 4)))


def _parts(entry: Mapping[str, Any]) -> list[tuple[tuple[str, int], Mapping[str, Any]]]:
    return [
        (line, entry[key])
        # the first is drawn below the others
        for line, key in zip((LINES[2], LINES[0], LINES[1]), ("change", "a", "b"), strict=True)
        if key in entry
    ]


def _smalls(found: Comparison, key: str, title: str, text: str, chart: Any, lines: Sequence[tuple[str, int]]) -> str:
    layers: dict[int, list[str]] = {}
    for entry in found.get("spectra", ()):
        if drawn := chart(entry, found["kinds"][entry["matrix"]]):
            layers.setdefault(entry["layer"], []).append(drawn)
    if not layers:
        return ""
    rows = "".join(
        f'<h3>Layer {layer}</h3><div class="smalls">{"".join(charts)}</div>\n' for layer, charts in layers.items()
    )
    return (
        f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2><p class="soft">{text}</p>{legend(lines)}'
        f"{rows}</section>\n"
    )


def _tensors(found: Comparison) -> str:
    if not found.get("tensors"):
        return ""

    def number(value: float | None) -> str:
        return "&ndash;" if value is None else shade_text(value)

    rows = "".join(
        f'<tr><th scope="row">{escape(one["name"])}</th><td class="number">{" x ".join(map(str, one["shape"]))}</td>'
        f'<td class="number">{number(one["distance"])}</td><td class="number">{number(one["change"])}</td>'
        f'<td class="number">{number(one["ratio"])}</td></tr>\n'
        for one in found["tensors"]
    )
    heads = "".join(
        f'<th scope="col" class="number">{title}</th>'
        for title in ("shape", "cosine distance", "relative change", "norm B / A")
    )
    return (
        "<section><h2>Other tensors</h2><details><summary>Embeddings, norms, biases and heads: "
        f'{len(found["tensors"])}</summary><div class="wide" tabindex="0"><table><thead><tr><th scope="col">tensor</th>'
        f"{heads}</tr></thead><tbody>\n{rows}</tbody></table></div></details></section>\n"
    )
