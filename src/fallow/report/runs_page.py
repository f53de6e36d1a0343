"""The page of one or several runs: table, curves against tokens, FLOPs and bytes, spread over seeds, stages."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fallow.report.document import document, header, notes_section
from fallow.report.html import samples_section, settings_section
from fallow.report.html_table import table_element, table_section
from fallow.report.overview import differences, overview
from fallow.report.points import Point, point_chart
from fallow.report.results import Results
from fallow.report.runs import Run
from fallow.report.seeds import grouped
from fallow.report.svg import Series, line_chart, shown_range

Chart = Mapping[str, Any]


def runs_page(runs: Sequence[Run]) -> str:
    """The whole page; the same runs always give the same page."""
    found, groups = overview(runs), grouped(runs)
    style = _styles(found["charts"])
    spread = any(len(group.runs) > 1 for group in groups)
    one = runs[0].results if len(runs) == 1 else {}
    title = groups[0].title if len(groups) == 1 else f"{len(groups)} recipes side by side"
    sections = [
        header(
            "fallow report", title, str(groups[0].runs[0].recipe.get("description") or "") if len(groups) == 1 else ""
        ),
        _groups(found["groups"]) if len(runs) > 1 else "",
        table_section(
            found,
            style,
            title="What it cost and what came out",
            intro="Mean and, behind the sign, sample standard deviation over the seeds." if spread else "",
        ),
        _charts(found["charts"], style, spread=spread),
        _stages(found["stages"], several=len(runs) > 1),
        samples_section(one, style),
        notes_section(found["notes"]),
        table_section(differences(groups), {}, title="Settings that differ", key="differences"),
        settings_section(runs[0].recipe) if len(groups) == 1 else "",
    ]
    footer = "Made by fallow from the results.json of each run, which hold every number unrounded."
    return document(title, "".join(section for section in sections if section), footer)


def _groups(groups: Sequence[Mapping[str, Any]]) -> str:
    items = "".join(
        f"<dt>{escape(group['title'])}</dt><dd>"
        + ", ".join(
            f"{escape(folder)}" + (f' <span class="soft">seed {escape(seed)}</span>' if seed else "")
            for folder, seed in zip(group["folders"], group["seeds"], strict=True)
        )
        + "</dd>"
        for group in groups
    )
    return f'<dl class="sides">{items}</dl>\n'


def _charts(charts: Sequence[Chart], style: Mapping[str, int], *, spread: bool) -> str:
    sections = []
    for number, chart in enumerate(charts):
        figures = [
            _tokens(chart, style, spread=spread),
            _flops(chart, style),
            _points(chart, style, "bytes", "bytes", "bytes of weights and optimizer", "Last loss against bytes"),
            _points(
                chart, style, "flops", "", "training FLOPs, earlier stages included", "Last loss against all FLOPs"
            ),
        ]
        if any(figures):
            key, title = f"chart-{number}", f"Loss on {escape(chart['title'])}"
            inside = f'<h2 id="{key}">{title}</h2>{"".join(figures)}'
            sections.append(f'<section aria-labelledby="{key}">{inside}</section>\n')
    return "".join(sections)


def _tokens(chart: Chart, style: Mapping[str, int], *, spread: bool) -> str:
    series = _series(chart, style)
    kinds = {curve["kind"] for curve in chart["curves"]}
    caption = "Strong with marks: validation loss. Faint: training loss." if "valid" in kinds else "Training loss."
    if spread:
        caption += " Shade: one standard deviation over the seeds to both sides of their mean."
    title = f"{chart['title']}: loss against tokens"
    return _figure("Against tokens", series, line_chart(series, title=title, x_title="training tokens"), caption)


def _flops(chart: Chart, style: Mapping[str, int]) -> str:
    series = _series(chart, style, flops=True)
    if not series:
        return ""
    unit, power = _unit(max(x for one in series for x, _ in one.points))
    scaled = [
        Series(
            label=one.label,
            kind=one.kind,
            style=one.style,
            points=[(x / unit, y) for x, y in one.points],
            band=[(x / unit, low, high) for x, low, high in one.band],
        )
        for one in series
    ]
    drawn = line_chart(
        scaled, title=f"{chart['title']}: loss against FLOPs", x_title=f"training FLOPs of the stage{power}"
    )
    caption = "What the method needs: only weights that exist are counted, three times the forward pass."
    return _figure("Against FLOPs", scaled, drawn, caption)


def _points(chart: Chart, style: Mapping[str, int], key: str, unit: str, x_title: str, title: str) -> str:
    costs = [cost for cost in chart["costs"] if cost[key] is not None]
    if not costs or (key == "flops" and not any(cost["begins_with"] for cost in costs)):
        return ""
    size, power = _unit(max(cost[key] for cost in costs))
    if unit:
        size, power = next(((s, f", {n}") for s, n in ((1e9, "GB"), (1e6, "MB")) if size >= s), (1e3, ", kB"))
    points = [
        Point(
            label=cost["label"],
            x=cost[key] / size,
            y=cost["loss"]["mean"],
            spread=cost["loss"]["spread"],
            style=style.get(cost["label"], 0),
        )
        for cost in costs
    ]
    drawn = point_chart(points, title=f"{chart['title']}: {title.lower()}", x_title=f"{x_title}{power}")
    whiskers = " Whiskers: one standard deviation over the seeds." if any(point.spread for point in points) else ""
    caption = f"Loss on held-out data at the end of the stage.{whiskers}"
    return _framed(title, drawn, caption)


def _figure(title: str, series: Sequence[Series], drawn: str, caption: str) -> str:
    if not drawn:
        return ""
    cut = " The steep start lies above the frame." if shown_range(series)[2] else ""
    return _framed(title, drawn, caption + cut)


def _framed(title: str, drawn: str, caption: str) -> str:
    return (
        f'<figure><h3>{title}</h3><div class="wide" tabindex="0">{drawn}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _series(chart: Chart, style: Mapping[str, int], *, flops: bool = False) -> list[Series]:
    found = []
    for curve in chart["curves"]:
        factor = curve["flops_per_token"] if flops else 1.0
        if factor is None:
            continue
        points = [(x * factor, y) for x, y, _ in curve["points"]]
        shaded = curve["kind"] == "valid" and any(spread for *_, spread in curve["points"])
        band = [(x * factor, y - spread, y + spread) for x, y, spread in curve["points"]] if shaded else []
        number = style.get(curve["label"], 0)
        found.append(Series(label=curve["label"], points=points, kind=curve["kind"], style=number, band=band))
    return found


def _unit(largest: float) -> tuple[float, str]:
    """A power of a thousand that makes a number readable, and how an axis says it."""
    power = 3 * int(math.log10(largest) // 3) if largest >= 1000 else 0
    return 10.0**power, f", 1e{power}" if power else ""


def _stages(stages: Sequence[Mapping[str, Any]], *, several: bool) -> str:
    if not stages:
        return ""
    longest = max((state["seconds"] or 0.0 for state in stages), default=0.0)
    unit = {"unit": "min", "scale": 60} if longest >= 600 else {"unit": "s"}
    columns = [
        {"key": "stage", "title": "stage"},
        *([{"key": "run", "title": "run"}] if several else []),
        {"key": "status", "title": "status"},
        {"key": "steps", "title": "steps", "digits": 0},
        {"key": "tokens", "title": "tokens", "digits": 0},
        {"key": "loss", "title": "last loss", "digits": 3},
        {"key": "seconds", "title": "training time", "digits": 1, **unit},
    ]
    rows = [
        {
            **state,
            "stage": state["label"],
            "steps": state["steps"] if state["status"] != "not begun" else None,
            "tokens": state["tokens"] if state["status"] != "not begun" else None,
        }
        for state in stages
    ]
    open_ones = [state for state in stages if state["status"] != "finished"]
    count = f"{len(stages) - len(open_ones)} of {len(stages)} finished"
    results: Results = {"columns": columns, "rows": rows}
    table = table_element(results, {}, key="stages")
    shown = " open" if open_ones else ""
    return (
        f'<section aria-labelledby="stages"><h2 id="stages">Stages</h2><details{shown}><summary>{count}</summary>'
        f"{table}</details></section>\n"
    )


def _styles(charts: Sequence[Chart]) -> dict[str, int]:
    """A colour for each label, in order of appearance, the same in all charts and in the table."""
    labels = dict.fromkeys(entry["label"] for chart in charts for entry in (*chart["curves"], *chart["costs"]))
    return {label: number for number, label in enumerate(labels)}
