"""`fallow judge`: which of two models answers better."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Compare the responses of two models by a judge: win rate of the first over the second, with its interval.

    Every pair is shown in both orders, so that a judge that likes the first place does not decide; a tie counts one
    half. The judge is a command of yours, and no service is asked by itself: it reads {"id", "instruction", "first",
    "second"} on each line of standard input and answers {"id", "winner": "first", "second" or "tie"} on a line, at
    once. With --verdicts every answer is kept, and the same command after an interruption goes on from there.

    Examples:
      fallow judge sheared.jsonl pythia.jsonl --judge "python my_judge.py" --verdicts verdicts.jsonl
      fallow judge a.jsonl b.jsonl --judge "python my_judge.py --model large" --ahead 8 --retries 2 --json
    """

    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """File of responses: JSON Lines with an instruction (instruction, prompt or context), a response (response, output
    or text) and, if you like, an id."""

    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """The same of the other model, on the same instructions."""

    judge: Annotated[str, tyro.conf.arg(metavar="COMMAND")]
    """The judge, as typed in a shell."""

    verdicts: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Keep every verdict in this JSON Lines file, and go on from it."""

    max_pairs: int = 0
    """Judge this many pairs, spread evenly. 0 judges all."""

    retries: int = 0
    """Ask again so often when an answer is not understood."""

    ahead: int = 1
    """Questions open at once, for a judge that works on several."""

    timeout: float = 600.0
    """Seconds to wait for an answer."""

    json: bool = False
    """Print the result as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Read, ask, count, print."""
    from pathlib import Path

    from fallow.errors import UserError
    from fallow.evaluate.preference.comparison import compare
    from fallow.evaluate.preference.judge import Judge
    from fallow.evaluate.preference.rate import win_rate
    from fallow.evaluate.preference.responses import read_pairs
    from fallow.evaluate.preference.verdicts import Verdicts
    from fallow.evaluate.progress import shown
    from fallow.evaluate.selection import spread
    from fallow.lock import owned

    for key, lowest in (("max_pairs", 0), ("retries", 0), ("ahead", 1)):
        if getattr(args, key) < lowest:
            raise UserError(f"--{key.replace('_', '-')} is {getattr(args, key)}, but it must be at least {lowest}")
    if not args.timeout > 0:
        raise UserError(f"--timeout is {args.timeout:g}, but it must be above 0 seconds")
    pairs = read_pairs(Path(args.a), Path(args.b))
    pairs = [pairs[i] for i in spread(len(pairs), args.max_pairs)]
    path = Path(args.verdicts) if args.verdicts else None
    with owned(path, is_file=True):
        verdicts = Verdicts(path, pairs, args.judge)
        if len(verdicts) < 2 * len(pairs):
            with Judge(args.judge, args.timeout) as judge, shown("verdicts") as progress:
                compare(pairs, judge, verdicts, retries=args.retries, ahead=args.ahead, progress=progress)
    found = {"a": args.a, "b": args.b, "judge": args.judge, **win_rate(pairs, verdicts).to_dict()}
    print(as_json(found) if args.json else "\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['a']} wins {found['win_rate']:.1%} against {found['b']}   "
        f"(95% interval {found['low']:.1%} to {found['high']:.1%}, {found['num_judged']:,} pairs, both orders)",
        f"pairs: {found['wins']:,} won, {found['losses']:,} lost, {found['ties']:,} tied or split",
        f"shown first {found['shown_first']:.1%}, shown second {found['shown_second']:.1%}; the first place gets "
        f"{found['first_share']:.1%} of the verdicts, and {found['agreement']:.1%} of the pairs are judged alike in "
        "both orders",
        *(
            [f"{found['failures']:,} answers were not understood; their pairs are left out"]
            if found["failures"]
            else []
        ),
    ]
