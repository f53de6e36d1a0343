"""The tables of docs/speed.md, from the newest records of `kernels.py`, `step.py` and `gpu.py`.

python benchmarks/speed_page.py            write them into the page
python benchmarks/speed_page.py --check    exit with 1 where the page differs
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
RECORDS = Path(__file__).parent / "records"


def main() -> None:
    """Write or check."""
    text = PAGE.read_text(encoding="utf-8")
    found = filled(text)
    if "--check" in sys.argv[1:]:
        sys.exit(found != text)
    PAGE.write_text(found, encoding="utf-8")


def filled(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in TABLES.items():
        if not any(RECORDS.glob(f"????-??-??-{name}.json")):
            continue
        before, begin, rest = text.partition(f"<!-- table: {name} -->\n")
        _, end, after = rest.partition("<!-- /table -->")
        text = f"{before}{begin}{table()}\n{end}{after}"
    return text


def newest(name: str) -> dict[str, Any]:
    """The newest record of this name."""
    path = max(RECORDS.glob(f"????-??-??-{name}.json"))
    return {**json.loads(path.read_text(encoding="utf-8")), "path": f"benchmarks/records/{path.name}"}


def kernels() -> str:
    """Supports and sparsities down, shapes across."""
    record = newest("kernels")
    shapes = list(dict.fromkeys(row["shape"] for row in record["results"]))
    lines = []
    for threads in sorted({row["threads"] for row in record["results"]}):
        lines += ["", f"{threads} thread{'s' if threads > 1 else ''}:", ""]
        lines += [
            f"| support | sparsity | goal | {' | '.join(shapes)} |",
            f"| --- | --- | --- |{' --- |' * len(shapes)}",
        ]
        cells: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
        for row in record["results"]:
            if row["threads"] == threads:
                key = (row["by"] != "fallow", row["by"], row["support"], row["sparsity"], row["goal"])
                cells.setdefault(key, {})[row["shape"]] = row
        for (is_peer, by, support, sparsity, goal), found in sorted(cells.items(), key=_order):
            name = f"{support} by {PEERS.get(by, by)}" if is_peer else support
            across = " | ".join(_cell(found.get(shape)) for shape in shapes)
            lines.append(f"| {name} | {sparsity:.0%} | {'' if goal is None else f'{goal:.1f}'} | {across} |")
    return "\n".join([*lines, "", _source(record)]).strip("\n")


PEERS = {"csr": "torch's CSR"}


def step() -> str:
    """One line a model."""
    record = newest("step")
    lines = [
        "| model | tokens | support | sparsity | threads | dense, ms | speed-up | goal | ceiling |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["results"]:
        model = f"{row['blocks']} blocks of {row['width']}, vocabulary {row['vocab']:,}"
        goal = "" if row["goal"] is None else f"{row['goal']:.1f}"
        lines.append(
            f"| {model} | {row['tokens']} | {row['support']} | {row['sparsity']:.0%} | {row['threads']} | "
            f"{row['dense_ms']:,.0f} | {_cell(row)} | {goal} | {row['ceiling']:.2f} |"
        )
    return "\n".join([*lines, "", _source(record)])


def gpu() -> str:
    """One line a layer."""
    record = newest("gpu")
    found = record["gpu"]
    lines = [
        "| path | shape | tokens | support | sparsity | rank | weights | dense, ms | speed-up | goal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in record["results"]:
        goal = "" if row["goal"] is None else f"{row['goal']:.2f}"
        timed = row["speed_up"] is not None
        lines.append(
            f"| {row['path']} | {row['shape']} | {row['tokens']} | {row['support']} | {row['sparsity']:.0%} | "
            f"{row['rank'] or ''} | {row['weights']} | {row['dense_ms'] if timed else ''} | "
            f"{_cell(row) if timed else 'not timed: ' + row['why']} | {goal} |"
        )
    source = f"{found['name']}, CUDA {found['cuda']}, Triton {found['triton']}, torch {record['versions']['torch']}"
    return "\n".join([*lines, "", f"{source}, {record['date']}. Record: `{record['path']}`."])


def _order(item: tuple[tuple[Any, ...], Any]) -> tuple[Any, ...]:
    is_peer, by, support, sparsity, _ = item[0]
    return is_peer, by, "uniform 1:4 2:4 vector:4 block:4 block:8".find(support), sparsity


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    missed = row["goal"] is not None and row["speed_up"] < row["goal"]
    return f"{row['speed_up']:.2f}{' (missed)' if missed else ''}"


def _source(record: dict[str, Any]) -> str:
    return (
        f"{record['processor']}, {record['cores']} cores, torch {record['versions']['torch']}, {record['date']}. "
        f"Record: `{record['path']}`."
    )


TABLES: dict[str, Callable[[], str]] = {"kernels": kernels, "step": step, "gpu": gpu}

if __name__ == "__main__":
    main()
