"""The loss of each held-out source by itself, as a table of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from fallow.run.stage import Stage

COLUMNS: list[dict[str, Any]] = [
    {"key": "stage", "title": "stage"},
    {"key": "domain", "title": "domain"},
    {"key": "num_tokens", "title": "tokens", "digits": 0},
    {"key": "loss", "title": "loss", "unit": "nats", "digits": 4},
    {"key": "perplexity", "title": "perplexity", "digits": 2},
    {"key": "bits_per_byte", "title": "bits per byte", "digits": 4},
    {"key": "n_plus_one", "title": 'perplexity, "N + 1"', "digits": 2},
]
"""In the form of `fallow.report.tables`."""


def by_domain(stages: Sequence[Stage], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Rows for the stages that were judged on more than one source, or by more than the loss; else no rows.

    Args:
        stages: that are finished, in order.
        records: what they measured, by name.
    """
    rows = []
    for stage in stages:
        scores = records[stage.name]["scores"]
        parts, published = scores.get("parts", {}), scores.get("n_plus_one", {})
        if len(parts) > 1 or published:
            for name, part in parts.items():
                row = {"stage": stage.label, "domain": name, **part}
                rows.append({**row, "n_plus_one": published.get(name, {}).get("perplexity")})
    used = [column for column in COLUMNS if any(row.get(column["key"]) is not None for row in rows)]
    return {"columns": used, "rows": rows}
