"""How the shares of the data followed the losses: a chart of shares, one of gaps, and where each domain ended."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fallow.report.html_table import table_element
from fallow.report.results import Results
from fallow.report.svg import Series, line_chart


def mixtures_of(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """What the logs say about moving shares, as it stands in `results.json`; stages with fixed shares are left out.

    Args:
        logs: lines of `log.jsonl` by the stage's label.

    Returns:
        For each stage {"stage", "domains": [{"label", "reference", "start", "points": [[tokens, loss, gap, share],
        ...]}]}; loss and gap are None where the domain was not measured.
    """
    found = []
    for label, lines in logs.items():
        seen = [(line["tokens"], line["valid"]) for line in lines if "valid" in line]
        names = [key.removeprefix("share/") for key in (seen[-1][1] if seen else {}) if key.startswith("share/")]
        domains = []
        for name in names:
            points = [
                [tokens, valid.get(f"loss/{name}"), valid.get(f"gap/{name}"), valid.get(f"share/{name}")]
                for tokens, valid in seen
            ]
            domains.append(
                {
                    "label": name,
                    "reference": seen[-1][1].get(f"reference/{name}"),
                    "start": seen[0][1].get(f"start/{name}"),
                    "points": points,
                }
            )
        if domains:
            found.append({"stage": label, "domains": domains})
    return found


def mixture_section(results: Results) -> str:
    """The section of the page; empty when all shares were fixed."""
    figures = "".join(_figure(entry, number) for number, entry in enumerate(results.get("mixtures", ())))
    if not figures:
        return ""
    return f'<section aria-labelledby="mixture"><h2 id="mixture">Data mixture</h2>{figures}</section>\n'


def _figure(entry: Mapping[str, Any], number: int) -> str:
    stage, domains = str(entry.get("stage", "")), entry.get("domains", ())
    charts = []
    for column, title, unit in ((3, "share of the data", "share"), (2, "loss above its reference", "nats")):
        series = [
            Series(label=str(domain["label"]), style=style, points=_points(domain, column))
            for style, domain in enumerate(domains)
        ]
        chart = line_chart(series, title=f"{stage}: {title}", x_title="training tokens", y_title=unit, start=0.0)
        if chart:
            charts.append(
                f'<figure><h3>{escape(stage)}: {title}</h3><div class="wide" tabindex="0">{chart}</div></figure>\n'
            )
    name = f'<h3 id="mixture-{number}">{escape(stage)}: where each domain ended</h3>'
    return "".join(charts) + name + _table(domains, number)


def _points(domain: Mapping[str, Any], column: int) -> list[tuple[float, float]]:
    """Shares begin with that at the start, which holds until the first validation."""
    found = [(float(p[0] or 0), float(value)) for p in domain["points"] if (value := p[column]) is not None]
    begins = column == 3 and domain.get("start") is not None and found and found[0][0] > 0
    return [(0.0, float(domain["start"])), *found] if begins else found


def _table(domains: Sequence[Mapping[str, Any]], number: int) -> str:
    columns: list[dict[str, Any]] = [{"key": "domain", "title": "domain"}]
    columns += [{"key": key, "title": key, "unit": "nats", "digits": 3} for key in ("loss", "reference", "gap")]
    columns += [{"key": key, "title": key, "digits": 3} for key in ("share at the start", "share at the end")]
    rows = []
    for domain in domains:
        _, loss, gap, share = domain["points"][-1]
        rows.append(
            {
                "domain": domain["label"],
                "loss": loss,
                "reference": domain["reference"],
                "gap": gap,
                "share at the start": domain["start"],
                "share at the end": share,
            }
        )
    return table_element({"columns": columns, "rows": rows}, {}, key=f"mixture-{number}")
