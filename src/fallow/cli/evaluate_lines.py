"""What `fallow evaluate` prints for people."""

from collections.abc import Iterator, Mapping
from typing import Any

Plain = Mapping[str, Any]


def lines(result: Plain) -> Iterator[str]:
    """The lines, from what `--json` prints."""
    if "benchmarks" in result:
        yield from _benchmarks(result["benchmarks"])
        return
    if "task" in result:
        yield from _labels(result)
        return
    yield f"{_loss(result)}   ({result['num_tokens']:,} tokens)"
    parts = result.get("parts", {})
    width = max(map(len, parts), default=0)
    if len(parts) > 1:
        yield from (f"  {name:<{width}}  {_loss(part)}" for name, part in parts.items())
    if result.get("stride"):
        yield f"by windows, a new one every {result['stride']} tokens; every token counts once"
    for name, part in result.get("n_plus_one", {}).items():
        yield (
            f'  {name:<{width}}  "N + 1" figure: loss {part["loss"]:.4f}   perplexity {part["perplexity"]:.2f}   '
            f"(N = {part['num_batches']})"
        )
    if "metrics" in result:
        yield from _texts(result)


def _benchmarks(found: Plain) -> Iterator[str]:
    width = max(map(len, found["tasks"]))
    for name, task in found["tasks"].items():
        inside = "" if name in found["asked"] else "  "
        values = "   ".join(
            f"{key} {value:.4f}" + (f" +- {task['stderr'][key]:.4f}" if key in task["stderr"] else "")
            for key, value in task["metrics"].items()
        )
        yield f"{inside}{name:<{width}}  {values}   ({task['num']:,} questions, {task['shots']} shots)"
    if "average" in found:
        yield f"average of {found['preset']} {found['average']:.4f}"
    yield f"asked by {found['harness']}" + (f", the first {found['limit']} of each" if "limit" in found else "")


def _labels(result: Plain) -> Iterator[str]:
    if "score" in result:
        found = "   ".join(f"{key} {result[key]:.4f}" for key in ("loss", *result["metrics"]))
        yield f"{result['task']}: {found}   ({result['num_examples']:,} texts)"
    if "answers" in result:
        yield f"answers to {result['num_answers']:,} texts: {result['answers']}"
    facts = result["texts"]
    lost = [f"{facts[key]:,} {name}" for key, name in _LOST.items() if facts[key]]
    if lost:
        yield f"of {facts['read'] + facts['left_out']:,} rows {' and '.join(lost)}"


_LOST = {"cut": "were cut", "dropped": "left out as too long", "left_out": "left out as the official readers do"}


def _loss(found: Plain) -> str:
    bits = f"   bits per byte {found['bits_per_byte']:.4f}" if "bits_per_byte" in found else ""
    return f"loss {found['loss']:.4f}   perplexity {found['perplexity']:.2f}{bits}"


def _texts(result: Plain) -> Iterator[str]:
    metrics = result["metrics"]
    yield f"{result['num_contexts']} of {result['num_contexts_total']} contexts, {result['decoding']['words']}"
    yield f"profile {metrics['profile']}: {metrics['script']}"
    width = max(map(len, metrics["scores"]), default=0)
    for key, value in metrics["scores"].items():
        yield f"  {key:<{width}}  {value:8.4f}   {metrics['variants'][key]}"
    for key, reason in metrics["absent"].items():
        yield f"  {key:<{width}}  absent: {reason}"
    dropped, cut = result["pairs"]["dropped"], result["pairs"]["cut"]
    if dropped or cut:
        yield f"of {result['pairs']['read']:,} pairs {cut:,} were cut and {dropped:,} left out as too long"
