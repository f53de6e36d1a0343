"""`fallow bench`: is it really faster on this machine?"""

import sys
from collections.abc import Sequence
from typing import Any, Literal

from fallow.cli.json_text import as_json
from fallow.config import parse_flags
from fallow.errors import UserError, unknown

USAGE = """\
usage: fallow bench linear [--shape OxI ...] [--tokens N ...] [--sparsity S ...] [--support KIND ...]
                           [--device D] [--precision P] [--threads N] [--again] [--json]
       fallow bench step RECIPE [--only STAGE ...] [--pairs N] [--threads N] [--whole] [--json] [--dotted.key VALUE ...]

linear: time every path of a layer, forward and backward, beside a stock layer of the same shape, in alternating pairs,
and say which one this machine should take and why. A measurement is remembered (in $FALLOW_CACHE, or the user's cache
folder); a recipe with `path: measure`, or convert(..., path="measure"), goes by it.

  --shape OxI ...       rows x columns of the weight; by default 768x768 3072x768 768x3072 2048x2048
  --tokens N ...        by default 1024
  --sparsity S ...      by default 0.5 0.75 0.9
  --support KIND ...    uniform, vector:4, block:8, 2:4 or transposable (both fix the sparsity); by default uniform
  --device D            cpu or cuda; by default cuda where there is one. What keeps a GPU's own paths (fused,
                        block, semi_structured) from being timed is said on standard error
  --precision P         fp32, or bf16 (autocast); by default fp32
  --threads N           of torch; by default as torch has it. One thread is measured by processor time
  --again               measure even what is remembered

step: time whole steps of training of a recipe's stages (forward, backward, update), beside the same model dense.

  --only STAGE ...      these stages
  --pairs N             steps of each model; by default 5
  --whole               time large models as they are, not by one block and two
  --dotted.key VALUE    change a setting of the recipe, as in fallow run

  --json                the rows as JSON on standard output, and nothing else there

Examples:
  fallow bench linear
  fallow bench linear --shape 3072x768 --sparsity 0.75 --support uniform vector:4 --json
  fallow bench linear --shape 4096x4096 --tokens 8192 --support block:64 --device cuda --precision bf16
  fallow bench step spdf-demo
  fallow bench step spdf-gpt2-small --only pretrain-75 --stages.all.batch.micro 1"""

HELP = ("-h", "--help")
_SWITCHES = {"linear": ("again", "json"), "step": ("whole", "json")}
_VALUES = {
    "linear": ("shape", "tokens", "sparsity", "support", "device", "precision", "threads"),
    "step": ("only", "pairs", "threads"),
}


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    if any(flag in argv for flag in HELP):
        print(USAGE)
        return 0
    if not argv or argv[0] not in _SWITCHES:
        if argv:
            raise unknown("bench", argv[0], _SWITCHES)
        raise UserError("what is to be timed? Write fallow bench linear, or fallow bench step RECIPE.")
    what, rest = argv[0], list(argv[1:])
    switches = {word[2:] for word in rest if word[:2] == "--" and word[2:] in _SWITCHES[what]}
    rest = [word for word in rest if word[:2] != "--" or word[2:] not in switches]
    source = rest.pop(0) if what == "step" and rest and not rest[0].startswith("--") else ""
    values, settings = {}, []
    for key, words in parse_flags(rest):
        if key in _VALUES[what]:
            if not words:
                raise UserError(f"--{key} needs a value. fallow bench --help shows what.")
            values[key] = tuple(words)
        elif what == "linear":
            raise unknown("flag", f"--{key}", [f"--{name}" for name in (*_VALUES[what], *_SWITCHES[what])])
        else:
            settings.append((key, words))
    import torch

    if "threads" in values:
        torch.set_num_threads(_whole("threads", values["threads"][0]))
    if what == "linear":
        return _linear(values, switches)
    return _step(source, values, switches, settings)


def _linear(values: dict[str, tuple[str, ...]], switches: set[str]) -> int:
    import torch

    from fallow.cli.models import device_named
    from fallow.linear import Sparse, Terms
    from fallow.linear.kernels.gpu import available
    from fallow.linear.paths import GPU_PATHS
    from fallow.linear.remembered import timings_of
    from fallow.random import Key
    from fallow.supports import kind_of

    rows: list[dict[str, Any]] = []
    sparsities = [_share(word) for word in values.get("sparsity", ("0.5", "0.75", "0.9"))]
    wanted = [
        (_shape(shape), _whole("tokens", tokens), kind, sparsity)
        for shape in values.get("shape", ("768x768", "3072x768", "768x3072", "2048x2048"))
        for tokens in values.get("tokens", ("1024",))
        for kind in values.get("support", ("uniform",))
        for sparsity in (_fixed(kind) or sparsities)
    ]
    supports = {kind: kind_of(kind) for *_, kind, _ in wanted}  # a mistake is found before anything is timed
    device = device_named(torch, values.get("device", ("",))[0])
    precision = _precision(values.get("precision", ("fp32",))[0])
    absent = "" if torch.cuda.is_available() else "no CUDA device"
    if reason := available.missing() or absent or ("" if device.type == "cuda" else "write --device cuda"):
        print(f"GPU paths {', '.join(GPU_PATHS)} are not timed: {reason}", file=sys.stderr, flush=True)
    for shape, tokens, kind, sparsity in wanted:
        sparse = Sparse(kind=supports[kind], density=1 - sparsity, key=Key(0, "bench"), parts=(shape[0],))
        if not sparse.num_entries(shape[1]):
            raise UserError(f"--sparsity {sparsity:g} leaves no entry in {shape[0]} x {shape[1]}. Write less")
        print(f"timing {shape[0]}x{shape[1]} {kind} {sparsity:.0%}, {tokens} tokens", file=sys.stderr, flush=True)
        found = timings_of(Terms(sparse=sparse), shape, tokens, device, precision, again="again" in switches)
        rows += [row.to_dict() for row in found]
        if "json" not in switches:
            print("\n".join(map(_line, rows[-len(found) :])), flush=True)
    if "json" in switches:
        print(as_json(rows, indent=1))
    return 0


def _line(row: dict[str, Any]) -> str:
    where = f"{row['shape']:>10s} {row['support']:9s} {row['sparsity']:4.0%} {row['tokens']:6d} tokens"
    time = f"{row['forward_backward_ms']:9.2f} ms  {row['ratio_to_dense']:5.2f} of dense"
    return f"{'*' if row['chosen'] else ' '} {where}  {row['path']:11s} {time}  {row['why']}"


def _step(source: str, values: dict[str, tuple[str, ...]], switches: set[str], settings: list[Any]) -> int:
    if not source:
        raise UserError("which recipe? Write it first: fallow bench step spdf-demo, for example.")
    from fallow.run.recipe import load
    from fallow.run.step_bench import time_steps
    from fallow.train import Mesh

    recipe = load(source, settings)
    only = values.get("only", ())
    names = [stage.name for stage in recipe.stages]
    for name in only:
        if name not in names:
            raise unknown("stage", name, names)
    rows = time_steps(
        recipe,
        only=only,
        pairs=_whole("pairs", values.get("pairs", ("5",))[0]),
        whole="whole" in switches,
        device=str(Mesh.start(recipe.device).device),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if "json" in switches:
        print(as_json([row.to_dict() for row in rows], indent=1))
        return 0
    for row in rows:
        print(
            f"{row.stage}: {row.step_ms:.1f} ms a step of {row.tokens} tokens, dense {row.dense_ms:.1f} ms: "
            f"{row.speed_up:.2f} times as fast (operations allow {row.ceiling:.2f})"
        )
        for group in row.paths:
            print(f"  {group['layers']:3d} x {group['shape']}: path {group['path']}; {group['why']}")
    return 0


def _shape(word: str) -> tuple[int, int]:
    rows, _, columns = word.partition("x")
    if not (rows.isdigit() and columns.isdigit() and int(rows) and int(columns)):
        raise UserError(f"--shape is {word}, but it must be rows x columns of the weight, such as 3072x768")
    return int(rows), int(columns)


def _whole(name: str, word: str) -> int:
    if not word.isdigit() or not int(word):
        raise UserError(f"--{name} is {word}, but it must be a whole number of at least 1")
    return int(word)


def _precision(word: str) -> Literal["fp32", "bf16"]:
    if word not in ("fp32", "bf16"):
        raise unknown("precision", word, ("fp32", "bf16"))
    return word  # type: ignore[return-value]


def _share(word: str) -> float:
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise UserError(f"--sparsity is {word}, but it must be at least 0 and below 1, such as 0.75")
    return share


def _fixed(kind: str) -> list[float]:
    """The one sparsity of a kind that leaves no choice; empty for others."""
    if kind == "transposable":
        return [0.5]
    if ":" not in kind or not kind[0].isdigit():
        return []
    n, _, m = kind.partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) < int(m)):
        raise UserError(f"--support is {kind}, but of an n:m support n must be below m, such as 2:4")
    return [1 - int(n) / int(m)]
