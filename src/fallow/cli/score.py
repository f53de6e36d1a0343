"""`fallow score`: texts against references, by the official evaluation of a data set."""

import json as json_module
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fallow.cli.json_text import as_json

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Score generated texts against references, with the numbers of the official scripts.

    BLEU, NIST, METEOR, ROUGE-L, CIDEr, TER and chrF++. The profile says whose evaluation: tokens, case, what an empty
    reference is, and which variant of a metric. Needs no Perl and no network; METEOR needs Java and the extra meteor,
    and is left out with the reason where they are missing. Scales are those of the scripts; see docs/metrics.md.

    Files are UTF-8 with a text a line. References: a file for each (an empty line: no such reference), or one file with
    a block of lines for each hypothesis and empty lines between. Tables (.tsv, .csv) of the E2E challenge are read too.

    Examples:
      fallow score --profile e2e --hypotheses outputs.txt --references references.txt
      fallow score --profile e2e --hypotheses tgen.tsv --references testset_w_refs.csv --json
      fallow score --profile webnlg2017 --hypotheses out.txt --references ref0.txt ref1.txt ref2.txt
      fallow score --profile dart --hypotheses out.txt --references ref*.txt --metrics bleu ter --segments s.jsonl
    """

    profile: Literal["e2e", "webnlg2017", "webnlg2020", "dart"]
    """Whose evaluation."""

    hypotheses: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """The generated texts."""

    references: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE ...")]
    """What people wrote."""

    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METRIC ...")] = ()
    """Compute these metrics, such as bleu nist. By default all of the profile."""

    segments: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Also write the scores of each text, for the metrics that have them, to this JSON Lines file."""

    json: bool = False
    """Print the result as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Read, score, print."""
    from pathlib import Path

    from fallow.errors import UserError
    from fallow.metrics import score
    from fallow.metrics.corpus import read
    from fallow.metrics.profiles import find

    chosen = find(args.profile)
    for key in args.metrics:
        chosen.metric(key)
    output = Path(args.segments) if args.segments else None
    if output is not None and output.is_dir():
        raise UserError(f"--segments is {output}, which is a folder; name a file")
    hypotheses, references = read(Path(args.hypotheses), [Path(path) for path in args.references])
    progress = _progress if sys.stderr.isatty() else None
    found = score(
        args.profile, hypotheses, references, only=args.metrics or None, segments=output is not None, progress=progress
    )
    if progress is not None:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    most = chosen.max_references
    if most and len(args.references) > most:
        left_out = ", ".join(args.references[most:])
        print(
            f"fallow score: profile {args.profile} reads {most} reference files; left out: {left_out}", file=sys.stderr
        )
    result = found.to_dict()
    segments = result.pop("segments", {})
    if output is not None:
        _write(output, hypotheses, segments)
    result = {"hypotheses": args.hypotheses, "references": list(args.references), **result, **result["scores"]}
    print(as_json(result) if args.json else "\n".join(_lines(result)))
    missing = next((key for key in args.metrics if key in found.absent), "")
    if missing:
        raise UserError(f"--metrics names {missing}, which is absent: {found.absent[missing]}")
    return 0


def _lines(result: dict[str, Any]) -> list[str]:
    """For people."""
    empty = f", {result['num_empty']:,} of them empty" if result["num_empty"] else ""
    found = [
        f"profile {result['profile']}: {result['script']}",
        f"{result['num_hypotheses']:,} texts{empty}, {result['num_references']:,} references",
    ]
    width = max(map(len, (*result["scores"], *result["absent"])))
    for key, value in result["scores"].items():
        besides = "" if key in result["official"] else "; not one of this evaluation"
        scale = result["scales"][key]
        found.append(f"  {key:<{width}}  {value:8.4f}   ({scale}) {result['variants'][key]}{besides}")
    found += [f"  {key:<{width}}  absent: {reason}" for key, reason in result["absent"].items()]
    return found


def _write(path: "Path", hypotheses: list[str], segments: dict[str, list[float]]) -> None:
    from fallow.files import write_text

    rows = (
        {"text": text, **{key: values[number] for key, values in segments.items()}}
        for number, text in enumerate(hypotheses)
    )
    write_text(path, "".join(json_module.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _progress(key: str) -> None:
    print(f"\r\033[Kscoring: {key}", end="", file=sys.stderr, flush=True)
