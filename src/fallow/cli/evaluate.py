"""`fallow evaluate`: perplexity on text, perplexity and BLEU on pairs."""

import json as json_module
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Measure a model folder, merged or not, on text or on pairs of a context and a target.

    Text (files, folders, folders of shards, embedded:stdlib): loss in nats per token and perplexity, every token
    weighing the same. Pairs (--format): the same on the targets, and BLEU of the texts that the model generates, one
    for each distinct context.

    Examples:
      fallow evaluate runs/demo/dense/model --data articles.jsonl
      fallow evaluate runs/demo/dense/model --data shards/books-valid shards/code-valid --json
      fallow evaluate runs/e2e/tuned/model --format e2e --data testset_w_refs.csv --num-beams 4 --length-penalty 0.9
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the model with its tokenizer."""

    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SOURCE ...")] = ()
    """Text sources, each measured on its own and all together; with --format one file of pairs."""

    format: Literal["text", "e2e", "webnlg", "dart", "curation", "jsonl", "embedded"] = "text"
    """text, or how the pairs are written."""

    context: int = 0
    """Length of a sequence in tokens. By default the model's."""

    overflow: Literal["error", "cut", "drop"] = "error"
    """Pairs longer than the context: stop, cut their context, or leave them out (both are counted)."""

    field: Annotated[str, tyro.conf.arg(metavar="NAME")] = "text"
    """Field or column that holds the text, for JSONL and Parquet."""

    max_megabytes: float = 0.0
    """Take about this much of each text source, spread evenly. 0 takes all."""

    max_contexts: int = 0
    """Decode this many contexts, spread evenly. 0 decodes all."""

    num_beams: int = 1
    """Beams; 1 is greedy search."""

    max_new_tokens: int = 64
    """Most tokens to generate for a context."""

    length_penalty: float = 1.0
    """With beams: below 1 prefers shorter texts."""

    no_repeat_ngram_size: int = 0
    """No n-gram of this many tokens occurs twice; 0 allows all."""

    lowercase: bool = False
    """BLEU without case, as the E2E script computes it."""

    batch_size: int = 8
    """Sequences in a forward pass."""

    tokenizer: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Tokenizer folder, when the model's folder has none."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = ""
    """cpu or cuda. By default cuda where there is one."""

    json: bool = False
    """Print the result as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Check, load, measure, print."""
    import tempfile
    from pathlib import Path

    from fallow.cli.models import check_folder, open_model
    from fallow.errors import UserError

    if not args.data and args.format != "embedded":
        raise UserError("evaluate needs --data: files, folders, folders of shards, or embedded:stdlib")
    if args.batch_size < 1:
        raise UserError(f"batch_size is {args.batch_size}, but it must be at least 1")
    _refuse_without_effect(args)
    decoding = _decoding(args)
    check_folder(args.folder)
    model, tokenizer = open_model(args.folder, args.tokenizer, args.device)

    from fallow.evaluate.generation import positions_of

    context = args.context or positions_of(model)
    if not context:
        raise UserError(f"the config of {args.folder} does not say its context. Write --context")
    if positions_of(model) and context > positions_of(model):
        raise UserError(f"context is {context}, but the model has {positions_of(model)} positions. Write that or less")
    with tempfile.TemporaryDirectory(prefix="fallow-evaluate-") as scratch:
        if args.format == "text":
            result = _text(args, model, tokenizer, context, Path(scratch))
        else:
            result = _pairs(args, model, tokenizer, context, decoding, Path(scratch))
    result = {"model": args.folder, "context": context, **result}
    print(json_module.dumps(result, indent=2) if args.json else _lines(result))
    return 0


def _refuse_without_effect(args: Args) -> None:
    """A setting of the other kind of data would do nothing."""
    from fallow.errors import UserError

    text = args.format == "text"
    foreign: dict[str, Any] = (
        {"max_contexts": 0, "num_beams": 1, "max_new_tokens": 64, "lowercase": False, "overflow": "error"}
        if text
        else {"field": "text", "max_megabytes": 0.0}
    )
    for key, default in foreign.items():
        if getattr(args, key) != default:
            flag, kind = key.replace("_", "-"), "text" if text else "pairs"
            raise UserError(f"--{flag} has no effect on {kind}. Remove it" + (", or name the --format of pairs" * text))
    if not text and len(args.data) > 1:
        raise UserError(
            f"--format {args.format} takes one file, but --data names {len(args.data)}. Evaluate them in turn"
        )
    if args.format == "embedded" and args.data:
        raise UserError("--data has no effect with --format embedded, which needs no file. Remove it")


def _decoding(args: Args) -> Any:
    from fallow.evaluate.decoding import Decoding

    return Decoding(
        num_beams=args.num_beams,
        max_new_tokens=args.max_new_tokens,
        length_penalty=args.length_penalty,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
        batch_size=args.batch_size,
        max_contexts=args.max_contexts,
    )


def _text(args: Args, model: Any, tokenizer: Any, context: int, scratch: "Path") -> dict[str, Any]:
    from fallow.data import TextData, TextSource, open_data
    from fallow.evaluate.perplexity import exponential, perplexity, pooled_loss

    sources = tuple(
        TextSource(path=path, field=args.field, max_megabytes=args.max_megabytes, domain=_domain(path, args.data))
        for path in args.data
    )
    splits = open_data(TextData(sources=sources, context=context), tokenizer, scratch)
    parts = {}
    for name, dataset, _ in splits.train:
        _tell(f"{name}: {len(dataset):,} sequences of {context} tokens")
        parts[name] = perplexity(model, dataset, batch_size=args.batch_size)
    loss, num_tokens = pooled_loss(parts.values())
    return {"loss": loss, "perplexity": exponential(loss), "num_tokens": num_tokens, "parts": parts}


def _pairs(args: Args, model: Any, tokenizer: Any, context: int, decoding: Any, scratch: "Path") -> dict[str, Any]:
    from dataclasses import asdict

    from fallow.data import PairData, PairDataset
    from fallow.data.formats import read_pairs
    from fallow.evaluate.pairs import evaluate_pairs
    from fallow.evaluate.perplexity import perplexity

    # The settings insist on a training file, which is not read here.
    path = args.data[0] if args.data else ""
    settings = PairData(format=args.format, train=path, test=path, context=context, overflow=args.overflow)  # type: ignore[arg-type]
    pairs = read_pairs(settings, "test", scratch)
    dataset = PairDataset(pairs, tokenizer, context, overflow=args.overflow, name=f"{args.format}-test")
    _tell(f"{len(dataset):,} pairs, {len(dataset.groups()):,} contexts")
    result: dict[str, Any] = {**perplexity(model, dataset, batch_size=args.batch_size), "pairs": asdict(dataset.report)}
    shown = [0]

    def progress(done: int, total: int) -> None:
        if done == total or done >= shown[0] + total / 10:
            _tell(f"generated {done} of {total} texts")
            shown[0] = done

    scores = evaluate_pairs(model, tokenizer, dataset.groups(), decoding, lowercase=args.lowercase, progress=progress)
    return {**result, **scores.to_dict(), "samples": scores.samples(3)}


def _domain(path: str, paths: tuple[str, ...]) -> str:
    """Its own name for each source: the path's last part, or more of it where two would agree."""
    last = [p.rstrip("/").rpartition("/")[2] for p in paths]
    mine = path.rstrip("/").rpartition("/")[2]
    return path.strip("/").replace("/", "-") if last.count(mine) > 1 else ""


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _lines(result: dict[str, Any]) -> str:
    lines = [f"loss {result['loss']:.4f}   perplexity {result['perplexity']:.2f}   ({result['num_tokens']:,} tokens)"]
    parts = result.get("parts", {})
    if len(parts) > 1:
        width = max(map(len, parts))
        lines += [
            f"  {name:<{width}}  loss {part['loss']:.4f}   perplexity {part['perplexity']:.2f}"
            for name, part in parts.items()
        ]
    if "bleu" in result:
        share = f"{result['num_contexts']} of {result['num_contexts_total']} contexts"
        lines.append(f"BLEU {result['bleu']:.2f}   ({share}; {result['signature']})")
        dropped, cut = result["pairs"]["dropped"], result["pairs"]["cut"]
        if dropped or cut:
            lines.append(f"of {result['pairs']['read']:,} pairs {cut:,} were cut and {dropped:,} left out as too long")
    return "\n".join(lines)
