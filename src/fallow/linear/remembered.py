"""What was measured on this machine, kept between runs in the user's cache folder."""

import functools
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fallow.config import check
from fallow.files import write_json
from fallow.linear.kernels.build import checksum
from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.library import library
from fallow.linear.planner import Choice
from fallow.linear.terms import Chosen, Terms
from fallow.linear.timing import Precision, Timing, time_paths

ENVIRONMENT = "FALLOW_CACHE"
"""The folder of measurements; by default `fallow` in $XDG_CACHE_HOME or ~/.cache."""


def timings_of(
    terms: Terms,
    shape: tuple[int, int],
    tokens: int,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    *,
    again: bool = False,
) -> list[Timing]:
    """Times of all paths for a layer: measured once on a machine, then remembered.

    A measurement counts for one processor, number of threads, version of torch and state of the kernels. A file that is
    damaged, or a folder that cannot be written, costs a measurement and nothing else.

    Args:
        terms: of the layer, without a base.
        shape: (d_out, d_in).
        tokens: of the activations.
        device: where.
        precision: of the products.
        again: measure even what is remembered.
    """
    device = torch.device(device)
    file, key = _file(device), _key(terms, shape, tokens, precision)
    known = _read(file)
    if key in known and not again and (rows := _rows(known[key])):
        return rows
    rows = time_paths(terms, shape, tokens, device=device, precision=precision)
    known = _read(file)  # another process may have added its own meanwhile
    known[key] = [asdict(row) for row in rows]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, known)
    except OSError:
        pass
    return rows


def _rows(plain: Any) -> list[Timing]:
    """What was remembered of a layer; nothing where it is damaged, or of another version."""
    try:
        rows = [Timing(**row) for row in plain]
        for row in rows:
            check(row)
    except (TypeError, ValueError):
        return []
    return rows if [row.chosen for row in rows].count(True) == 1 else []


def measured(
    terms: Terms,
    shape: tuple[int, int],
    tokens: int,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
) -> Choice:
    """The fastest path by measurement, and why; the time that it takes to find out is a second or so a shape."""
    chosen = next(row for row in timings_of(terms, shape, tokens, device, precision) if row.chosen)
    return Choice(chosen.path, chosen.why)


def folder() -> Path:
    """Where measurements are kept."""
    if given := os.environ.get(ENVIRONMENT):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fallow"


def _file(device: torch.device) -> Path:
    kernels = library()
    parts = (
        processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        f"kernels {'none' if kernels is None else f'{kernels.engine} {checksum()}'}"
        if device.type == "cpu"
        else available.missing() or f"triton {available.version()}",
    )
    plain = "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in part) for part in parts)
    return folder() / f"paths-{plain}.json"


@functools.cache
def processor() -> str:
    """Its name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _key(terms: Terms, shape: tuple[int, int], tokens: int, precision: Precision) -> str:
    """What the time depends on: sizes, and how the entries lie, but not which draw it was."""
    low, sparse = terms.low_rank, terms.sparse
    factors = "" if low is None else f"rank {low.total_rank} rows {low.rows}"
    assert not isinstance(sparse, Chosen)
    entries = "" if sparse is None else f"{sparse.kind} {sparse.num_entries(shape[1])} parts {sparse.parts}"
    narrow = "" if precision == "fp32" else f" {precision}"
    return f"{shape[0]}x{shape[1]} tokens {tokens} {factors} {entries}{narrow}"


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
