"""What `fallow evaluate` measures: text, or pairs of a context and a target."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fallow.cli.evaluate import Args
from fallow.data import PairData, PairDataset, TextData, TextSource, open_data
from fallow.data.formats import read_pairs
from fallow.data.tokens import TokenDataset
from fallow.data.windows import WindowDataset
from fallow.evaluate.evaluation import Evaluation
from fallow.evaluate.fingerprint import fingerprint
from fallow.evaluate.n_plus_one import n_plus_one
from fallow.evaluate.pairs import evaluate_pairs
from fallow.evaluate.perplexity import perplexity, pooled
from fallow.evaluate.progress import shown
from fallow.evaluate.transcript import Transcript
from fallow.lock import owned


def measure_text(
    args: Args, model: Any, tokenizer: Any, context: int, settings: Evaluation, scratch: Path
) -> dict[str, Any]:
    """Loss, perplexity and bits per byte of each source, and of all together."""
    sources = tuple(
        TextSource(path=path, field=args.field, max_megabytes=args.max_megabytes, domain=_domain(path, args.data))
        for path in args.data
    )
    splits = open_data(TextData(sources=sources, context=context), tokenizer, scratch)
    parts: dict[str, dict[str, float]] = {}
    published: dict[str, dict[str, float]] = {}
    for name, dataset, _ in splits.train:
        assert isinstance(dataset, TokenDataset)
        stride = settings.perplexity.stride
        windows = WindowDataset(dataset.shards, context, stride) if stride else dataset
        _tell(f"{name}: {len(windows):,} sequences of {context} tokens")
        with shown(f"{name}, batches") as progress:
            parts[name] = perplexity(model, windows, batch_size=args.batch_size, progress=progress)
        if args.n_plus_one:
            with shown(f"{name}, batches of the N + 1 figure") as progress:
                published[name] = n_plus_one(
                    model, dataset, sequences=args.n_plus_one, batch_size=args.batch_size, progress=progress
                )
    asked = {"stride": args.stride} if args.stride else {}
    return {**asked, **pooled(parts.values()), "parts": parts, **({"n_plus_one": published} if published else {})}


def measure_pairs(
    args: Args, model: Any, tokenizer: Any, context: int, settings: Evaluation, scratch: Path
) -> dict[str, Any]:
    """Loss on the targets, and the scores of what the model generates."""
    # The settings insist on a training file, which is not read here.
    path = args.data[0] if args.data else ""
    data = PairData(format=args.format, train=path, test=path, context=context, overflow=args.overflow)  # type: ignore[arg-type]
    pairs = read_pairs(data, "test", scratch)
    dataset = PairDataset(pairs, tokenizer, context, overflow=args.overflow, name=f"{args.format}-test")
    _tell(f"{len(dataset):,} pairs, {len(dataset.groups()):,} contexts")
    decoding = settings.decoding
    texts = Path(args.texts) if args.texts else None
    with owned(texts, is_file=True):
        written = Transcript(texts, fingerprint(model, tokenizer, decoding)) if texts else None
        with shown("targets, batches") as progress:
            loss = perplexity(model, dataset, batch_size=args.batch_size, progress=progress)
        with shown("generating texts") as progress:
            scores = evaluate_pairs(
                model,
                tokenizer,
                dataset.groups(),
                decoding,
                encode=dataset.prompt,
                profile=settings.profile,
                lowercase=args.lowercase,
                progress=progress,
                transcript=written,
            )
    return {**loss, "pairs": asdict(dataset.report), **scores.to_dict(), "samples": scores.samples(3)}


def _domain(path: str, paths: tuple[str, ...]) -> str:
    """Its own name for each source: the path's last part, or more of it where two would agree."""
    last = [p.rstrip("/").rpartition("/")[2] for p in paths]
    mine = path.rstrip("/").rpartition("/")[2]
    return path.strip("/").replace("/", "-") if last.count(mine) > 1 else ""


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
