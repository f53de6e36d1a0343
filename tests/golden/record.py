"""Golden outputs: what a change of names and places must not change, recorded once and compared byte for byte.

python -m tests.golden.record            record all groups
python -m tests.golden.record --check    compare all groups with what is recorded
python -m tests.golden.record g2 g5      these groups only, with or without --check
"""

import gzip
import hashlib
import json
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from tests.golden import names

HERE = Path(__file__).parent
Sample = Callable[[int], bool]
"""Whether the entry of this number is looked at."""


def everything(number: int) -> bool:
    """No entry is left out."""
    return True


def machine() -> dict[str, str]:
    """What the bits of a sum depend on."""
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "architecture": platform.machine(),
        "torch": torch.__version__.partition("+")[0],
        "kernels": "missing" if names.kernels_missing() else "there",
    }


def sha(content: bytes) -> str:
    """The checksum of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _picked(items: Iterable[Any], sample: Sample) -> list[Any]:
    return [item for number, item in enumerate(items) if sample(number)]


def g1(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Estimates of the shipped recipes."""
    cases = [(n, d, p) for n in names.recipe_names() for d in ("cpu", "cuda") for p in (1, 2)]
    return {f"{n}/{d}/{p}": names.estimate(n, d, p, folder) for n, d, p in _picked(cases, sample)}


def g2(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Twenty steps of every row of the table of methods."""
    cases = [(r, f, p) for r in names.ROW_TABLE for f in ("gpt2", "llama") for p in ("fp32", "bf16")]
    found = {}
    for number, (name, family, precision) in enumerate(_picked(cases, sample)):
        row = names.ROW_TABLE[name]
        if row.method == "peft" and not names.module_exists("peft"):
            continue
        model, log = names.trained(row, family, precision, folder / str(number))
        text = log.read_bytes()
        rows = [json.loads(line) for line in text.splitlines()]
        columns = {
            key: [row[key] for row in rows if key in row] for key in sorted({key for row in rows for key in row})
        }
        entry = {"trained": sha(names.weight_bytes(model)), "log": columns, "log bytes": sha(text)}
        if row.merges:
            entry["merged"] = sha(names.weight_bytes(names.merged(model)))
        found[f"{name}/{family}/{precision}"] = entry
    return found


TIMES = {"seconds", "tokens_per_second", "speed", "time", "tokens_per_second_measured"}


def g3(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Whole runs: records, results, backends, card, page, fingerprints of their data."""
    found: dict[str, Any] = {}
    for name, run in names.runs(folder):
        if name == "tiny":
            found["fingerprints"] = names.fingerprints(run, folder)
        for path in sorted(run.rglob("*")):
            if path.is_dir() or "checkpoints" in path.parts or path.name == "timing.jsonl":
                continue
            key = f"{name}/{path.relative_to(run).as_posix()}"
            if path.suffix in (".safetensors", ".bin") or path.name == "tokenizer.json":
                found[key] = sha(path.read_bytes())
                continue
            text = path.read_text(encoding="utf-8").replace(str(folder), "FOLDER")
            if path.name == "report.html":
                found[key] = _page(text)
            elif path.suffix == ".json":
                found[key] = without_seal(without_times(json.loads(text)))
            elif path.suffix == ".jsonl":
                found[key] = [without_times(json.loads(line)) for line in text.splitlines()]
            else:
                text = re.sub(r"(?<=SHA-256 of what follows: )\w+", "N", text)  # of paths, too
                found[key] = re.sub(r"[\d,.]+ tokens/s", "N tokens/s", text)
    return found


def without_times(value: Any) -> Any:
    """A document without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def without_seal(value: Any) -> Any:
    """A record without the checksum of itself, in which its times count."""
    return {key: item for key, item in value.items() if key != "sha256"} if isinstance(value, dict) else value


def _page(text: str) -> str:
    """The words of a page, its measured speeds left out."""
    words = re.sub(r"<style.*?</style>|<svg.*?</svg>", " ", text, flags=re.DOTALL)
    rows = re.sub(r"(?s)<tbody>.*?</tbody>", _without_speed, words)
    return " ".join(re.sub(r"<[^>]+>", " ", rows).split())


def _without_speed(table: re.Match[str]) -> str:
    return re.sub(r"(?<=>)\d{1,3}(,\d{3})+(?=<)|(?<=>)\d{3}(?=<)", "N", table[0])


def g4(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """What `save` writes of every row, and every support."""
    found = {}
    for number, (name, row) in enumerate(_picked(names.ROW_TABLE.items(), sample)):
        if row.method in ("dense", "shear") or (row.method == "peft" and not names.module_exists("peft")):
            continue
        for family in ("gpt2", "llama", "bert") if row.method != "peft" else ("gpt2",):
            model = names.converted(row, family)
            entry: dict[str, Any] = {"supports": names.digests(model)}
            if row.merges:
                entry["file"] = sha(names.saved(model, folder / f"{number}-{family}").read_bytes())
            found[f"{name}/{family}"] = entry
    return found


def g5(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Slices of every family."""
    cases = [(family, shape) for family in names.SHEARABLE for shape in ("half", "shallow")]
    found = {}
    for family, shape in _picked(cases, sample):
        parts = names.sliced(family, shape, folder / f"{family}-{shape}")
        found[f"{family}/{shape}"] = {key: sha(value) for key, value in parts.items()}
    return found


def g6(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Parameters, operations and bytes of every row on every family."""
    cases = [(name, family) for name in names.ROWS for family in names.FAMILIES]
    found = {}
    for name, family in _picked(cases, sample):
        found[f"{name}/{family}"] = names.numbers(names.converted(names.ROWS[name], family))
    return found


def g7(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Tables of the papers."""
    return names.tables()


def g8(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Scores of odd texts."""
    os.environ["JAVA_HOME"] = os.devnull  # without METEOR, as in the other tests
    return {profile: _rounded(names.scores(profile)) for profile in _picked(names.PROFILES, sample)}


def _rounded(value: Any) -> Any:
    """Twelve digits: CIDEr adds up the members of a set, whose order Python draws anew in every process."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items() if key != "absent"}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def g9(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Commands with their flags."""
    return names.commands()


def g10(folder: Path, sample: Sample = everything) -> dict[str, Any]:
    """Public names and the settings of methods."""
    return names.public_names()


GROUPS = {"g1": g1, "g2": g2, "g3": g3, "g4": g4, "g5": g5, "g6": g6, "g7": g7, "g8": g8, "g9": g9, "g10": g10}
OF_ONE_MACHINE = ("g1", "g2", "g3", "g4", "g5")
"""Sums of floating-point numbers, or a choice of backend: equal to the bit on processors of one kind only."""


def read(group: str) -> dict[str, Any]:
    """What was recorded of a group."""
    with gzip.open(HERE / f"{group}.json.gz", "rt", encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def write(group: str, outputs: dict[str, Any]) -> Path:
    """Record a group; the same outputs give the same bytes."""
    path = HERE / f"{group}.json.gz"
    text = json.dumps({"machine": machine(), "outputs": outputs}, indent=0, sort_keys=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())
    return path


def make(group: str, sample: Sample = everything) -> dict[str, Any]:
    """The outputs of a group as they are now, as JSON would have them."""
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        found: dict[str, Any] = json.loads(json.dumps(GROUPS[group](Path(folder), sample)))
    return found


def differences(recorded: Any, made: Any, *, exact: bool, at: str = "") -> list[str]:
    """Where two documents differ; on another kind of processor checksums are passed over and numbers may be near."""
    if isinstance(recorded, dict) and isinstance(made, dict):
        found = [f"{at}/{key}: only recorded" for key in recorded.keys() - made.keys()]
        found += [f"{at}/{key}: not recorded" for key in made.keys() - recorded.keys()]
        for key in recorded.keys() & made.keys():
            found += differences(recorded[key], made[key], exact=exact, at=f"{at}/{key}")
        return found
    if isinstance(recorded, list) and isinstance(made, list) and len(recorded) == len(made):
        return [
            line
            for number, (a, b) in enumerate(zip(recorded, made, strict=True))
            for line in differences(a, b, exact=exact, at=f"{at}[{number}]")
        ]
    if recorded == made:
        return []
    if not exact:
        if isinstance(recorded, str) and isinstance(made, str):
            return []
        if isinstance(recorded, float | int) and isinstance(made, float | int):
            return [] if math.isclose(recorded, made, rel_tol=0.02, abs_tol=1e-3) else [f"{at}: {recorded} -> {made}"]
    return [f"{at}: {recorded!r} -> {made!r}"]


def check(group: str, sample: Sample | None = None) -> list[str]:
    """Differences of a group from what is recorded; with a sample, of its entries only."""
    recorded = read(group)
    made = make(group, sample or everything)
    kept = recorded["outputs"] if sample is None else {k: v for k, v in recorded["outputs"].items() if k in made}
    exact = group not in OF_ONE_MACHINE or recorded["machine"] == machine()
    return sorted(differences(kept, made, exact=exact, at=group))


def main(argv: list[str]) -> int:
    """Record or compare; says how many differences there are, and the first ones."""
    chosen = [word for word in argv if word in GROUPS] or list(GROUPS)
    num_wrong = 0
    for group in chosen:
        if "--check" not in argv:
            path = write(group, make(group))
            print(f"{group}: {path.stat().st_size:,} bytes", flush=True)
            continue
        found = check(group)
        num_wrong += len(found)
        print(f"{group}: {len(found) or 'no'} differences", *found[:20], sep="\n  ", flush=True)
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
