"""Gates and data mixtures of a run: as they stand in `results.json`, and as the page shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fallow.report.charts import LineSeries, line_chart
from fallow.report.tables import Results, table_view

_GATE_COLUMNS: list[dict[str, Any]] = [
    {"key": "axis", "title": "axis"},
    {"key": "size", "title": "units", "digits": 0},
    {"key": "target", "title": "to stay", "digits": 0},
    {"key": "expected", "title": "expected", "digits": 1},
    {"key": "expected_worst", "title": "expected, farthest row", "digits": 1},
    {"key": "open", "title": "more open than not", "digits": 1},
    {"key": "undecided", "title": "undecided", "unit": "%", "digits": 1, "scale": 0.01},
    {"key": "margin", "title": "margin", "digits": 3},
    {"key": "margin_worst", "title": "margin, worst row", "digits": 3},
    {"key": "linear", "title": "linear multiplier", "digits": 2},
    {"key": "quadratic", "title": "quadratic multiplier", "digits": 2},
]


def gates_of_results(stages: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages that trained gates, as they stand in `results.json`.

    Args:
        stages: records of finished stages by label.

    Returns:
        For each one {"stage", "verdict", "converged", "rows"}, a row an axis.
    """
    found = []
    for label, record in stages.items():
        told = record.get("training", {}).get("method") or {}
        if "verdict" in told and "axes" in told:
            rows = [{"axis": axis, **state} for axis, state in told["axes"].items()]
            found.append({"stage": label, "verdict": told["verdict"], "converged": told["converged"], "rows": rows})
    return found


def gates_view(results: Results) -> list[dict[str, Any]]:
    """What the page shows of gates: for each stage its name, verdict, whether it converged, and a table by axis."""
    return [
        {
            "stage": str(entry.get("stage", "")),
            "verdict": str(entry.get("verdict", "")),
            "converged": bool(entry.get("converged")),
            "table": table_view({"columns": _GATE_COLUMNS, "rows": entry.get("rows", ())}, {}),
        }
        for entry in results.get("gates", ())
    ]


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


def mixtures_view(results: Results) -> list[dict[str, Any]]:
    """What the page shows of mixtures: for each stage its charts (title, drawing) and where each domain ended."""
    return [_mixture_view(entry) for entry in results.get("mixtures", ())]


def _mixture_view(entry: Mapping[str, Any]) -> dict[str, Any]:
    stage, domains = str(entry.get("stage", "")), entry.get("domains", ())
    charts = []
    for column, title, unit in ((3, "share of the data", "share"), (2, "loss above its reference", "nats")):
        series = [
            LineSeries(label=str(domain["label"]), style=style, points=mixture_points(domain, column))
            for style, domain in enumerate(domains)
        ]
        drawn = line_chart(series, title=f"{stage}: {title}", x_title="training tokens", y_title=unit, start=0.0)
        if drawn:
            charts.append({"title": title, "drawn": drawn})
    return {"stage": stage, "charts": charts, "table": _domain_table(domains)}


def mixture_points(domain: Mapping[str, Any], column: int) -> list[tuple[float, float]]:
    """Shares begin with that at the start, which holds until the first validation."""
    found = [(float(p[0] or 0), float(value)) for p in domain["points"] if (value := p[column]) is not None]
    begins = column == 3 and domain.get("start") is not None and found and found[0][0] > 0
    return [(0.0, float(domain["start"])), *found] if begins else found


def _domain_table(domains: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
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
    return table_view({"columns": columns, "rows": rows}, {})
