"""`fallow prepare`: text to token shards, with progress, and again where it stopped."""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fallow.cli.json_text import as_json
from fallow.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Turn text into token shards: files that training maps into memory, with an index and checksums.

    Stopped or damaged, the same command continues: good shards are kept, the others made again. Each source becomes the
    folder OUTPUT/NAME-train (and NAME-valid), which a recipe names as the path of a source; OUTPUT/tokenizer is the
    tokenizer.

    Examples:
      fallow prepare corpus.jsonl.gz --vocab-size 8192 --output shards
      fallow prepare books/ wiki.parquet --tokenizer gpt2-folder --valid-share 0.01 --output shards
      fallow prepare embedded:stdlib --vocab-size 4096 --max-megabytes 4 --output shards --json
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE ...")]
    """Files (.txt, .jsonl, both also .gz; .json.gz, .parquet), folders, embedded:stdlib, embedded:reference,
    hub:owner/name."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write to."""

    tokenizer: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Hugging Face tokenizer folder or Hub name. Give this or --vocab-size."""

    vocab_size: int = 0
    """Train a byte-level BPE of this size on the text."""

    valid_share: float = 0.0
    """Share of the documents to hold out, into folders of their own."""

    field: Annotated[str, tyro.conf.arg(metavar="NAME")] = "text"
    """Field or column that holds the text."""

    max_megabytes: float = 0.0
    """Take about this much of each source, spread evenly over it. 0 takes all."""

    json: bool = False
    """Print the result as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Prepare every source; 0 when all of them are complete."""
    from fallow.data.settings import TextData, TextSource, TokenizerSettings

    if not args.sources:
        raise UserError(
            "name at least one source, for example: fallow prepare corpus.jsonl --vocab-size 8192 --output shards"
        )
    if not args.output:
        raise UserError("--output is empty. Name the folder to write to")
    given = [TextSource(path=path, field=args.field, max_megabytes=args.max_megabytes) for path in args.sources]
    settings = TextData(sources=tuple(given), context=2, valid_share=args.valid_share)
    wanted = TokenizerSettings(path=args.tokenizer, vocab_size=args.vocab_size)

    from fallow.data.index import Index
    from fallow.data.prepare import prepare_source
    from fallow.data.splits import open_tokenizer
    from fallow.data.tokenizer import keep_tokenizer
    from fallow.lock import owned

    output, begin = Path(args.output), time.monotonic()
    made: dict[str, Index] = {}
    with owned(output):
        tokenizer = open_tokenizer(wanted, [settings], output)
        if args.tokenizer:
            keep_tokenizer(tokenizer, output / "tokenizer")
        with _Progress() as progress:
            for source in settings.sources:
                for part in ("train", "valid") if args.valid_share else ("all",):
                    name = f"{source.name}-{'train' if part == 'all' else part}"
                    made[name] = prepare_source(
                        source, part, args.valid_share, tokenizer, output / name, name, progress
                    )
    _report(made, output, len(tokenizer), time.monotonic() - begin, wants_json=args.json)
    return 0


def _report(made: dict[str, Any], output: Path, vocab_size: int, seconds: float, *, wants_json: bool) -> None:
    if wants_json:
        folders = {
            name: {
                "folder": str(output / name),
                "documents": index.num_documents,
                "tokens": index.num_tokens,
                "bytes": index.num_bytes,
                "shards": [asdict(shard) for shard in index.shards],
            }
            for name, index in made.items()
        }
        tokenizer = {"folder": str(output / "tokenizer"), "vocab_size": vocab_size}
        print(as_json({"tokenizer": tokenizer, "sources": folders, "seconds": round(seconds, 2)}, indent=1))
        return
    for name, index in made.items():
        print(
            f"{output / name}: {index.num_documents:,} documents, {index.num_tokens:,} tokens, "
            f"{len(index.shards)} shard{'s' if len(index.shards) > 1 else ''}, {index.num_bytes / 1e6:.1f} MB"
        )
    total = sum(index.num_tokens for index in made.values())
    print(f"{output / 'tokenizer'}: {vocab_size:,} tokens")
    print(f"{total:,} tokens in {seconds:.1f} s. A recipe names these folders: path: {output / next(iter(made))}")


class _Progress:
    """A bar with the time left on a terminal, else a line every few seconds; on standard error in both cases."""

    def __init__(self, seconds_between_lines: float = 5.0) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._every, self._last = seconds_between_lines, time.monotonic()

    def __enter__(self) -> "_Progress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"))
            self._bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total)
            self._bars.update(self._tasks[name], completed=done)
            return
        now = time.monotonic()
        begun = self._begun.setdefault(name, now)
        if now - self._last >= self._every and now > begun:
            self._last = now
            left = (total - done) * (now - begun) / max(done, 1)
            print(f"{name}: {done / 1e6:,.1f} of {total / 1e6:,.1f} M characters, {left:,.0f} s left", file=sys.stderr)
