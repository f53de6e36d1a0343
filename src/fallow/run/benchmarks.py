"""Benchmark tasks in the table of a run: a column a task, and the average of a whole preset."""

from collections.abc import Iterator, Mapping
from typing import Any

AVERAGE = "benchmarks/average"


def benchmark_columns(records: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A column for each task that some stage was asked; members of a group are in the record alone."""
    found: dict[str, dict[str, Any]] = {}
    for record in records.values():
        benchmarks = record["scores"].get("benchmarks", {})
        for name in _shown(benchmarks):
            task = benchmarks["tasks"][name]
            title = f"{name} ({task['shots']})" if task["shots"] else name
            found.setdefault(name, _column(f"benchmarks/{name}", title))
        if "average" in benchmarks:
            found.setdefault("", _column(AVERAGE, f"average of {benchmarks['preset']}"))
    average = found.pop("", None)
    yield from found.values()
    if average is not None:
        yield average


def benchmark_values(scores: Mapping[str, Any]) -> dict[str, float]:
    """The values of a row by the keys of `benchmark_columns`."""
    benchmarks = scores.get("benchmarks", {})
    values = {f"benchmarks/{name}": benchmarks["tasks"][name]["value"] for name in _shown(benchmarks)}
    return values | ({AVERAGE: benchmarks["average"]} if "average" in benchmarks else {})


def benchmark_notes(label: str, scores: Mapping[str, Any]) -> Iterator[str]:
    """By what and how the tasks of a stage were scored."""
    benchmarks = scores.get("benchmarks")
    if benchmarks:
        metrics = ", ".join(f"{name} by {benchmarks['tasks'][name]['metric']}" for name in _shown(benchmarks))
        part = f", the first {benchmarks['limit']} questions of each" if "limit" in benchmarks else ""
        yield f"{label}: tasks by {benchmarks['harness']}, shots in parentheses{part}: {metrics}."


def _shown(benchmarks: Mapping[str, Any]) -> list[str]:
    return list(benchmarks.get("asked", ()))


def _column(key: str, title: str) -> dict[str, Any]:
    return {"key": key, "title": title, "unit": "%", "digits": 2, "scale": 0.01, "better": "high"}
