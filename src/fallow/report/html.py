"""The report as one HTML file that needs nothing else: no script, no font, no image, no network."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.report.document import document, dot, header, notes_section, write_page
from fallow.report.gates import gates_section
from fallow.report.html_table import table_section
from fallow.report.mixture import mixture_section
from fallow.report.results import Results
from fallow.report.svg import line_chart, series_of, shown_range


def write_report(results: Results, path: Path) -> None:
    """Write the page of these results; the file is whole or absent."""
    write_page(page(results), path)


def read_results(path: Path) -> dict[str, Any]:
    """The mapping in a `results.json`.

    Raises:
        UserError: the file is absent, or not JSON with a table.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist. A finished run has one in its output folder")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or not results.get("columns"):
        raise UserError(f"{path} holds no results: it has no columns")
    return results


def page(results: Results) -> str:
    """The whole page. Every text from the results is escaped; the same results always give the same page."""
    recipe = results.get("recipe") or {}
    name = str(recipe.get("name") or "results")
    style = _styles_of(results)
    sections = [
        header("fallow run", name, str(recipe.get("description") or "")),
        table_section(results, style, title="What it cost and what came out"),
        table_section(
            results.get("domains") or {},
            {},
            title="Loss by domain",
            key="domains",
            intro="Bits per byte of text can be compared between tokenizers, losses per token cannot.",
        ),
        _curves(results, style),
        gates_section(results),
        mixture_section(results),
        samples_section(results, style),
        notes_section(results.get("notes", ())),
        settings_section(recipe),
    ]
    footer = "Made by fallow from results.json, which holds every number unrounded."
    return document(name, "".join(section for section in sections if section), footer)


def _curves(results: Results, style: Mapping[str, int]) -> str:
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for curve in results.get("curves", ()):
        stages.setdefault(str(curve.get("stage", "")), []).append(curve)
    figures = []
    for stage, curves in stages.items():
        series = [one for one in series_of(curves, style) if one.points]
        if series:
            chart = line_chart(series, title=f"{stage}: loss against tokens", x_title="training tokens")
            kinds = {str(curve.get("kind", "valid")) for curve in curves}
            caption = {
                frozenset({"train", "valid"}): "Strong with marks: validation loss. Faint: training loss.",
                frozenset({"train"}): "Training loss.",
            }.get(frozenset(kinds), "Validation loss.")
            cut = " The steep start lies above the frame." if shown_range(series)[2] else ""
            figures.append(
                f'<figure><h3>{escape(stage)}</h3><div class="wide" tabindex="0">{chart}</div>'
                f"<figcaption>{caption}{cut}</figcaption></figure>\n"
            )
    if not figures:
        return ""
    return f'<section aria-labelledby="curves"><h2 id="curves">Loss</h2>{"".join(figures)}</section>\n'


def samples_section(results: Results, style: Mapping[str, int]) -> str:
    """Texts that the models generated, side by side; empty without any."""
    shown = []
    for sample in results.get("samples", ()):
        references = sample.get("references", ())
        title = "Reference" if len(references) == 1 else f"References ({len(references)})"
        texts = [f"<dt>{title}</dt>", *(f'<dd class="reference">{escape(str(text))}</dd>' for text in references)]
        for label, text in sample.get("outputs", {}).items():
            said = escape(str(text)) if str(text).strip() else '<span class="missing">(nothing)</span>'
            texts.append(f"<dt>{dot(str(label), style)}{escape(str(label))}</dt><dd>{said}</dd>")
        context = escape(str(sample.get("context", "")))
        shown.append(
            f'<article class="sample"><div><h4>Context</h4><pre tabindex="0">{context}</pre></div>'
            f"<dl>{''.join(texts)}</dl></article>\n"
        )
    if not shown:
        return ""
    intro = '<p class="soft">Chosen evenly over the held-out pairs, not by quality.</p>'
    return (
        f'<section aria-labelledby="samples"><h2 id="samples">Generated texts</h2>{intro}{"".join(shown)}</section>\n'
    )


def settings_section(recipe: Mapping[str, Any]) -> str:
    """A recipe as YAML, folded; empty without one."""
    if not recipe:
        return ""
    import yaml

    text = yaml.safe_dump(json.loads(json.dumps(recipe, default=str)), sort_keys=False, allow_unicode=True, width=100)
    return (
        "<section><h2>Settings</h2><details><summary>The whole recipe, as it was run</summary>"
        f'<pre tabindex="0">{escape(text)}</pre></details></section>\n'
    )


def _styles_of(results: Results) -> dict[str, int]:
    """A colour number for each label that has a curve, in order of appearance, the same in charts, table and texts."""
    labels = dict.fromkeys(str(curve.get("label", "")) for curve in results.get("curves", ()))
    return {label: number for number, label in enumerate(labels)}
