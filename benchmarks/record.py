"""The form of a benchmark record: what was run, on what, when, and what came out."""

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"


def write_record(name: str, results: Any, *, notes: str = "") -> Path:
    """Write `records/<date>-<name>.json` and give its path."""
    import torch
    import transformers

    from fallow import __version__

    record = {
        "name": name,
        "date": today(),
        "command": "python " + shlex.join(["benchmarks/" + Path(sys.argv[0]).name, *map(_anywhere, sys.argv[1:])]),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "fallow": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        **({"gpu": gpu()} if torch.cuda.is_available() else {}),
        "notes": notes,
        "results": results,
    }
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{record['date']}-{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path


def gpu() -> dict[str, Any]:
    """The GPU, and what drives it."""
    import torch

    try:
        import triton
    except ImportError:
        triton = None

    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": found.name,
        "memory_gb": round(found.total_memory / 1e9),
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "triton": None if triton is None else triton.__version__,
    }


def today() -> str:
    """The date that a record is named by."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _anywhere(argument: str) -> str:
    """A path of this machine without what is only true here."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def processor() -> str:
    """Name of the processor and its widest vector extension."""
    name, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
            if line.startswith("flags"):
                flags = line
    vector = next((v for v in ("avx512f", "avx2", "avx") if v in flags), "")
    return f"{name} {vector}".strip()
