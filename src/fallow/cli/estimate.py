"""`fallow estimate`: what a recipe costs, before it is paid."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fallow.cli.json_text import as_json
from fallow.config import Words, parse_flags
from fallow.errors import UserError

if TYPE_CHECKING:
    from fallow.accounting.planned import PlannedModel
    from fallow.run.recipe import Recipe
    from fallow.run.stage import Stage

USAGE = """\
usage: fallow estimate RECIPE [--processes N] [--memory GB] [--tokens-per-second X | --measure] [--loss] [--json]
                              [--only STAGE ...] [--epoch-tokens DATASET=N ...] [--dotted.key VALUE ...]

Parameters, operations, memory, traffic, disk and time of a recipe, stage by stage and in total, from its settings:
nothing is built or downloaded. What the hardware does not accelerate is not counted as saved time.

  --processes N             devices that share each model (FSDP2); by default 1
  --memory GB               does it fit into a device of so many GB, and what is the largest micro-batch that does?
  --tokens-per-second X     throughput of all devices together, for the time
  --measure                 measure it: a few real steps of one and of two blocks of each model, on this machine
  --loss                    what two published laws predict for sparse pre-training, with their limits
  --only STAGE ...          these stages and the ones they begin with
  --epoch-tokens NAME=N     tokens in one pass over a data set that is not prepared here
  --json                    everything as JSON on standard output, and nothing else there
  --dotted.key VALUE        change a setting of the recipe, as in fallow run

Examples:
  fallow estimate spdf-demo
  fallow estimate spdf-gpt3-xl --processes 8 --memory 80 --only pretrain-75
  fallow estimate spdf-gpt2-small --loss --stages.all.method.sparsity 0.9 --only pretrain-75
  fallow estimate spdf-demo --measure --json"""

SWITCHES = ("measure", "loss", "json")
HELP = ("-h", "--help")
_OWN = ("processes", "memory", "tokens_per_second", "epoch_tokens", "only")


@dataclass(slots=True)
class Flags:
    """The command's own flags; the rest are settings of the recipe."""

    source: str = ""
    switches: set[str] = field(default_factory=set)
    own: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settings: list[tuple[str, Words]] = field(default_factory=list)


def main(argv: Sequence[str]) -> int:
    """Count and print."""
    if not argv or any(flag in argv for flag in HELP):
        if argv:
            print(USAGE)
            return 0
        raise UserError(
            "which recipe? Write fallow estimate RECIPE, with a .yaml file or one that fallow recipes list names."
        )
    flags = read_flags(argv)
    from fallow.run.estimate import Question, estimate_recipe  # with torch
    from fallow.run.recipe import load

    question = Question(
        processes=_whole(flags, "processes", 1),
        memory=_number(flags, "memory"),
        tokens_per_second=_number(flags, "tokens_per_second"),
        epoch_tokens=_epoch_tokens(flags),
        only=flags.own.get("only", ()),
        loss="loss" in flags.switches,
    )
    recipe = load(flags.source, flags.settings)
    cost = estimate_recipe(recipe, question, _measure(recipe) if "measure" in flags.switches else None)
    if "json" in flags.switches:
        print(as_json(cost.to_dict()))
        return 0
    from fallow.cli.estimate_text import as_text

    print(as_text(cost))
    return 0


def read_flags(argv: Sequence[str]) -> Flags:
    """Sort the arguments into recipe, switches, own flags and settings.

    Raises:
        UserError: a flag without its value, two that contradict each other, or no recipe.
    """
    flags = Flags()
    rest = [argument for argument in argv if argument.removeprefix("--") not in SWITCHES or argument[:2] != "--"]
    flags.switches = {argument[2:] for argument in argv if argument not in rest}
    if not rest or rest[0].startswith("--"):
        raise UserError("which recipe? Write it first: fallow estimate RECIPE --json, for example.")
    flags.source = rest[0]
    for key, words in parse_flags(rest[1:]):
        name = key.replace("-", "_")
        if name in SWITCHES:
            raise UserError(f"--{key} takes no value, but it was given {' '.join(words)}. Write --{key} alone.")
        if name in _OWN:
            if not words:
                raise UserError(f"--{key} needs a value. fallow estimate --help shows what.")
            flags.own[name] = (*flags.own.get(name, ()), *words)
        else:
            flags.settings.append((key, words))
    if "measure" in flags.switches and "tokens_per_second" in flags.own:
        raise UserError(
            "--measure and --tokens-per-second are given together, but there is one throughput. Remove one."
        )
    return flags


def _number(flags: Flags, name: str) -> float:
    words = flags.own.get(name, ())
    if not words:
        return 0.0
    flag = name.replace("_", "-")
    try:
        value = _finite(words[-1])
    except ValueError:
        raise UserError(f"--{flag} is {words[-1]}, but it must be a number") from None
    if value <= 0:
        raise UserError(f"--{flag} is {words[-1]}, but it must be above 0")
    return value


def _finite(text: str) -> float:
    """A number as people write it; ValueError where it is none, or has no end."""
    value = float(text.replace("_", "").replace(",", ""))
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _whole(flags: Flags, name: str, default: int) -> int:
    value = _number(flags, name) or default
    if value != int(value):
        raise UserError(f"--{name} is {value:g}, but it must be a whole number")
    return int(value)


def _epoch_tokens(flags: Flags) -> dict[str, int]:
    found = {}
    for word in flags.own.get("epoch_tokens", ()):
        name, equals, number = word.partition("=")
        try:
            found[name] = int(_finite(number))
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--epoch-tokens is {word}, but it is written DATASET=TOKENS, such as e2e=3e6")
    return found


def _measure(recipe: "Recipe") -> Any:
    from transformers.utils import logging

    from fallow.run.measure import throughput
    from fallow.train import Mesh

    logging.set_verbosity_error()
    device = Mesh.start(recipe.device).device.type
    shown: dict[int, float] = {}

    def measure(planned: "PlannedModel", stage: "Stage", context: int) -> float:
        key = hash((id(planned), stage.batch.micro, context))
        if key not in shown:
            shown[key] = throughput(
                planned,
                stage,
                context,
                device=device,
                precision=recipe.precision,
                say=lambda text: print(text, file=sys.stderr),
            )
        return shown[key]

    return measure
