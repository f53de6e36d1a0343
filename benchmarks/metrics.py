"""The metrics of generated texts: how far from the official scores, and how long they take.

    python benchmarks/metrics.py --data FOLDER
    python benchmarks/metrics.py --data FOLDER --seconds
    python benchmarks/metrics.py --tables

FOLDER holds outputs of systems, references and `scores.json` of the official scripts, a folder for each system. The
tables of docs/metrics.md are written from the profiles and from the latest record; --tables writes them without
measuring, --seconds measures times alone and keeps the agreement of the latest record.
Times are processor time on one thread, without METEOR, which runs in Java.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from record import RECORDS, write_record

from fallow.metrics import PROFILES, score

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
Texts = tuple[list[str], list[list[str]]]


def main() -> None:
    """Measure, record, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", action="store_true")
    parser.add_argument("--tables", action="store_true")
    args = parser.parse_args()
    if args.data is not None:
        rows = latest()["agreement"] if args.seconds else list(agreement(args.data))
        results = {"agreement": rows, "seconds": dict(seconds(args.data))}
        print(json.dumps(results["seconds"], indent=1))
        print(write_record("metrics", results, notes="processor time on one thread; METEOR in Java is not in it"))
    elif not args.tables:
        parser.error("name --data FOLDER, or --tables")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def latest() -> dict[str, Any]:
    """The results of the latest record."""
    record = json.loads(max(RECORDS.glob("*-metrics.json")).read_text(encoding="utf-8"))
    found: dict[str, Any] = record["results"]
    return found


def lines(path: Path) -> list[str]:
    """Lines of a file."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def e2e(folder: Path, outputs: str, references: str) -> Texts:
    """Outputs and blocks of references."""
    text = (folder / references).read_text(encoding="utf-8")
    return lines(folder / outputs), [block.split("\n") for block in text.strip().split("\n\n")]


def streams(folder: Path) -> Texts:
    """Outputs and three files of references."""
    files = [lines(folder / f"reference{number}.txt") for number in range(3)]
    return lines(folder / "hypothesis.txt"), [list(group) for group in zip(*files, strict=True)]


def agreement(data: Path) -> Iterator[dict[str, Any]]:
    """Each official score beside ours."""
    names = {
        "BLEU": "bleu", "NIST": "nist", "METEOR": "meteor", "ROUGE_L": "rouge_l", "CIDEr": "cider", "TER": "ter",
        "BLEU_pymteval": "bleu_pymteval", "NIST_pymteval": "nist_pymteval",
        "bleu": "bleu", "bleu_nltk": "bleu_nltk", "chrf++": "chrf", "ter": "ter_webnlg2020", "meteor": "meteor",
    }  # fmt: skip
    computed = "computed here with official script"
    first = "first 500 lines"
    webnlg, bart = data / "webnlg2017_melbourne", data / "dart_bart-large"
    dart = streams(bart)
    cases: list[tuple[str, str, Texts, dict[str, Any]]] = [
        ("TGen, E2E", "e2e", e2e(data / "e2e_tgen", "outputs.txt", "references.txt"), of(data / "e2e_tgen")[computed]),
        (
            "example, E2E",
            "e2e",
            e2e(data / "e2e_example10", "baseline-output.txt", "devel-conc.txt"),
            of(data / "e2e_example10")[computed],
        ),
        *(
            (f"MELBOURNE, WebNLG {track}", "webnlg2017", streams(webnlg / track), of(webnlg)["official scripts"][track])
            for track in ("all", "seen", "unseen")
        ),
        ("MELBOURNE, WebNLG all", "webnlg2020", streams(webnlg / "all"), of(webnlg)["GenerationEval"]["all"]),
        ("BART-large, DART", "dart", dart, of(bart)[computed]),
        (
            "BART-large, DART, 500",
            "webnlg2020",
            (dart[0][:500], dart[1][:500]),
            of(bart)["GenerationEval"][first],
        ),
    ]
    for system, profile, texts, known in cases:
        asked = {key: names[key] for key in known if key in names}
        found = score(profile, *texts, only=list(asked.values()))
        for key, ours in asked.items():
            if ours in found.absent:
                continue
            value = found.scores[ours]
            digits = len(str(known[key]).partition(".")[2])
            yield {
                "system": system,
                "profile": profile,
                "metric": ours,
                "official": known[key],
                "ours": value,
                "printed_alike": round(value, min(digits, 12)) == round(known[key], 12),
            }


def of(folder: Path) -> dict[str, Any]:
    """The official scores of a system."""
    found: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return found


def seconds(data: Path) -> Iterator[tuple[str, float]]:
    """Processor time of what a user waits for."""
    tgen = e2e(data / "e2e_tgen", "outputs.txt", "references.txt")
    webnlg = streams(data / "webnlg2017_melbourne" / "all")
    for name, profile, texts in (("E2E", "e2e", tgen), ("WebNLG all", "webnlg2017", webnlg)):
        keys = [metric.key for metric in PROFILES[profile].metrics if metric.key != "meteor"]
        yield f"{name}, all but METEOR", timed(lambda p=profile, t=texts, k=keys: score(p, *t, only=k))
        yield f"{name}, TER", timed(lambda p=profile, t=texts: score(p, *t, only=["ter"]))


def timed(work: Callable[[], object]) -> float:
    """The lower of two."""
    found = []
    for _ in range(2):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return round(min(found), 2)


def with_tables(page: str) -> str:
    """The page with its tables made anew."""
    results = latest()
    for name, table in (
        ("profiles", profile_tables()),
        ("agreement", agreement_table(results["agreement"])),
        ("seconds", seconds_table(results["seconds"])),
    ):
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, t=table: m[1] + t + m[2], page, flags=re.DOTALL
        )
    return page


def profile_tables() -> str:
    """What each profile computes."""
    parts = []
    for profile in PROFILES.values():
        rows = [
            f"| `{metric.key}` | {metric.variant} | {metric.scale} | {'yes' if metric.official else 'besides'} |"
            for metric in profile.metrics
        ]
        head = ["| key | variant | scale | official |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"### {profile.name}", "", f"{profile.script}.", "", *head, *rows]) + "\n")
    return "\n" + "\n".join(parts) + "\n"


def agreement_table(rows: list[dict[str, Any]]) -> str:
    """Official and ours."""
    found = ["| system | profile | metric | official | ours |", "| --- | --- | --- | --- | --- |"]
    found += [
        f"| {row['system']} | {row['profile']} | `{row['metric']}` | {row['official']} | {row['ours']:.10g} |"
        for row in rows
    ]
    return "\n" + "\n".join(found) + "\n\n"


def seconds_table(times: dict[str, float]) -> str:
    """Processor time."""
    found = ["| what | seconds of processor time |", "| --- | --- |"]
    return "\n" + "\n".join([*found, *(f"| {name} | {value} |" for name, value in times.items())]) + "\n\n"


if __name__ == "__main__":
    main()
