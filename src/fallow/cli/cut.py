"""`fallow cut`: a smaller model of the same kind, now and without training gates."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fallow.cli.json_text import as_json

if TYPE_CHECKING:
    from fallow.shearing.groups import Group
    from fallow.shearing.kept import Kept
    from fallow.shearing.scores.example import Example
    from fallow.shearing.shape import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Cut a Hugging Face decoder to a smaller shape: fewer layers, channels, heads, units of the MLP, or any of them.

    The result is a stock model of the same class. Which units stay is said by a score: random and magnitude need the
    files only and go through them tensor by tensor, so that a model larger than memory can be cut; the others measure
    the model on text (--data). --kept repeats the cut of a shear stage. What is cut loses quality: train the result
    further. Gates that are trained choose better: see the recipes that begin with shear.

    Examples:
      fallow cut llama-folder --output small --like sheared-llama-1.3b
      fallow cut llama-folder --output small --layers 24 --hidden 2048 --heads 16 --inner 5504 --dry-run
      fallow cut gpt2-folder --output small --parameters 60000000
      fallow cut qwen-folder --output small --inner 2432 --by wanda --data calibration.jsonl
      fallow cut llama-folder --output small --kept runs/shear/prune/model/fallow-kept.safetensors
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The model to cut, with safetensors in one file or several."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Where the smaller model goes; a new or empty folder."""

    layers: int = 0
    """Layers to keep. 0, here and below: as many as there are."""

    hidden: int = 0
    """Channels of the residual stream to keep."""

    heads: int = 0
    """Query heads of a layer to keep. They follow from --hidden where heads fill it (GPT-2, GPT-NeoX, OPT)."""

    kv_heads: int = 0
    """Heads of keys and values to keep. By default all under grouped queries, else as many as --heads."""

    inner: int = 0
    """Units of the MLP to keep."""

    like: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """Take all sizes from a known model, such as pythia-160m, or from the config.json of a folder."""

    parameters: int = 0
    """Choose the sizes that are not given to come near this number of parameters."""

    by: Literal["magnitude", "random", "activation", "wanda", "fluctuation", "taylor"] = "magnitude"
    """The score that says which units stay."""

    depth: Literal["auto", "influence", "loss"] = "auto"
    """How layers are scored: by how much they change the stream, or by the loss without them. auto: as --by says."""

    sharing: Literal["auto", "within", "whole", "shared"] = "auto"
    """Under grouped queries: prune queries within each group, whole groups, or the same queries of every group."""

    kept: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Cut the units of this file (fallow-kept.safetensors of a cut model), with their gates."""

    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FILE")] = ()
    """Text to measure on: .txt, .jsonl or .parquet files, or embedded:stdlib."""

    sequences: int = 64
    """Sequences of text to measure on."""

    context: int = 0
    """Their length in tokens. By default what the model has positions for, at most 1,024."""

    seed: int = 0
    """Of the random choice."""

    shard_gigabytes: float = 2.0
    """Largest file of the result."""

    dry_run: bool = False
    """Only say what the shape would be, and what it would have of parameters."""

    json: bool = False
    """Print the result as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Check, choose, cut, say what it became."""
    from transformers.utils import logging

    from fallow.errors import UserError
    from fallow.files import refuse_used
    from fallow.shearing.counter import Counter
    from fallow.shearing.families import family_of
    from fallow.shearing.streaming import config_of_folder, cut_folder
    from fallow.shearing.target import describe
    from fallow.stock import new_model

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if not args.output and not args.dry_run:
        raise UserError("name the folder of the result with --output, or write --dry-run")
    if args.output:
        refuse_used(Path(args.output))
    if not 0 < args.shard_gigabytes < float("inf"):
        raise UserError(f"--shard-gigabytes is {args.shard_gigabytes}, but it must be above 0")
    source = Path(args.folder)
    config = config_of_folder(source)
    counter = Counter.of_config(config, new_model)
    units = _given(args) if args.kept else None
    target = units.target if units is not None else _target(args, config, counter)
    facts = {"model": args.folder, "output": args.output, **describe(counter.source, target, counter)}
    if not args.dry_run:
        kept = units if units is not None else _chosen(args, config, counter.source, target)
        bar = _Bar() if not args.json else None
        cut_folder(source, kept, Path(args.output), shard_bytes=round(args.shard_gigabytes * 1e9), progress=bar)
        facts["layers"] = list(kept.layers)
    if args.json:
        print(as_json(facts))
    else:
        print(
            f"source: {counter.source}, {counter.total(counter.source):,} parameters ({family_of(config).model_type})"
        )
        print(f"target: {target}, {counter.total(target):,} parameters")
        print(f"{args.output}" if not args.dry_run else "dry run: nothing is written")
    return 0


def _given(args: Args) -> "Kept":
    from fallow.errors import UserError
    from fallow.shearing.kept import Kept
    from fallow.shearing.settings import SIZES

    plain = Args(folder="")
    for name in (*SIZES, "like", "parameters", "by", "depth", "sharing", "data", "sequences", "context", "seed"):
        if getattr(args, name) != getattr(plain, name):
            raise UserError(f"--{name.replace('_', '-')} has no effect with --kept, which says what stays. Remove it")
    return Kept.load(Path(args.kept))


def _target(args: Args, config: Any, counter: Any) -> "Shape":
    from fallow.shearing.settings import SIZES, Target
    from fallow.shearing.target import shape_for

    sizes = {name: getattr(args, name) for name in SIZES}
    wanted = Target(**sizes, like=args.like, parameters=args.parameters)
    return shape_for(wanted, config, lambda: counter)


def _chosen(args: Args, config: Any, source: "Shape", target: "Shape") -> "Kept":
    from fallow.errors import UserError
    from fallow.shearing.checkpoint import Checkpoint
    from fallow.shearing.families import family_of
    from fallow.shearing.groups import groups_of
    from fallow.shearing.scores.choose import choose, choose_by_weights, needs_data

    groups = groups_of(source, target, args.sharing)
    if not needs_data(args.by, args.depth, groups):
        _refuse_without_effect(args, groups)
        family = family_of(config)
        weights = Checkpoint(Path(args.folder), family)
        read = ((name, weights.read(name)) for name in weights)
        return choose_by_weights(family, source, groups, args.by, read, args.seed)
    if not args.data:
        raise UserError(f"--by {args.by} --depth {args.depth} measures the model on text. Name some with --data")
    from fallow.cli.models import open_model

    model, tokenizer = open_model(args.folder)
    examples = _examples(args, tokenizer, config)
    print(f"measuring on {len(examples)} batches of text", file=sys.stderr)
    return choose(model, target, args.by, examples, sharing=args.sharing, depth=args.depth, seed=args.seed)


def _refuse_without_effect(args: Args, groups: "tuple[Group, ...]") -> None:
    from fallow.errors import UserError

    plain = Args(folder="")
    for name in ("data", "sequences", "context"):
        if getattr(args, name) != getattr(plain, name):
            raise UserError(f"--{name} has no effect with --by {args.by}, which needs no text. Remove it")
    if args.depth != "auto" and not any(group.axis == "layers" for group in groups):
        raise UserError(f"--depth {args.depth} has no effect: no layer is cut. Remove it")


def _examples(args: Args, tokenizer: Any, config: Any) -> "list[Example]":
    import tempfile

    from fallow.data import TextData, TextSource, open_data
    from fallow.errors import UserError

    positions = int(getattr(config, "max_position_embeddings", 0) or 1024)
    context = args.context or min(positions, 1024)
    if context > positions:
        raise UserError(f"--context is {context}, but the model has {positions} positions. Write that or less")
    if args.sequences < 1:
        raise UserError(f"--sequences is {args.sequences}, but it must be at least 1")
    sources = tuple(TextSource(path=path, domain=f"text{number}") for number, path in enumerate(args.data))
    with tempfile.TemporaryDirectory(prefix="fallow-cut-") as scratch:
        splits = open_data(TextData(sources=sources, context=context), tokenizer, Path(scratch))
        found = []
        for _, dataset, _ in splits.train:
            num = min(len(dataset), -(-args.sequences // len(splits.train)))
            chosen = [dataset.sample(i * len(dataset) // num) for i in range(num)]
            for start in range(0, num, 4):
                batch = dataset.collate(chosen[start : start + 4])
                found.append((batch.input_ids, batch.labels))
    return found


class _Bar:
    """A line now and then, on standard error."""

    def __init__(self) -> None:
        self._shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        if done == total or done / total >= self._shown + 0.25:
            self._shown = done / total
            print(f"cut {done:,} of {total:,} tensors", file=sys.stderr)
