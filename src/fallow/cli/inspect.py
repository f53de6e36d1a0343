"""`fallow inspect data`: what the model is really shown, token by token."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fallow.cli.json_text import as_json
from fallow.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text
    from transformers import PreTrainedTokenizerFast

    from fallow.data.batch import Dataset
    from fallow.data.preview import Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Show examples as the model sees them: packed text with the ends of documents, or pairs with their label mask.

    Text: PATH is a folder made by fallow prepare. Pairs: PATH is a file, and --format says how it is written. Text that
    the loss is taken on is shown plain (green on a terminal), text that is only read between double angles, the end
    token as [end].

    Examples:
      fallow inspect data shards/corpus-train --context 256
      fallow inspect data trainset.csv --format e2e --tokenizer shards/tokenizer --num 5
      fallow inspect data pairs.jsonl --format jsonl --tokenizer gpt2-folder --json
    """

    what: Annotated[Literal["data"], tyro.conf.Positional]
    """What to look at."""

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = ""
    """Folder of token shards, or file of pairs; nothing with --format embedded."""

    tokenizer: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Hugging Face tokenizer folder or Hub name. By default the folder `tokenizer` beside the shards."""

    format: Literal["", "e2e", "webnlg", "dart", "curation", "jsonl", "embedded"] = ""
    """How a file of pairs is written."""

    context: int = 128
    """Length of a sequence in tokens."""

    overflow: Literal["error", "cut", "drop"] = "error"
    """What to do with a pair that is longer than the context."""

    num: int = 3
    """Number of examples, spread evenly over the data."""

    start: int = -1
    """Show this example and those behind it instead."""

    json: bool = False
    """Print the examples as JSON, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Show what was asked for."""
    views: dict[str, Callable[[Args], int]] = {"data": inspect_data}
    return views[args.what](args)


def inspect_data(args: Args) -> int:
    """Print examples of token shards or of a file of pairs."""
    if args.num < 1:
        raise UserError(f"--num is {args.num}, but it must be at least 1.")
    if not args.path and args.format != "embedded":
        raise UserError(
            "name a folder of token shards or a file of pairs, for example: fallow inspect data shards/corpus-train"
        )

    from fallow.data.preview import preview

    dataset, tokenizer = _open_pairs(args) if args.format else _open_text(args)
    examples = list(preview(dataset, tokenizer, _choose(len(dataset), args.num, args.start)))
    if args.json:
        facts = {"sequences": len(dataset), "context": args.context, "fingerprint": dataset.fingerprint}
        print(as_json({**facts, "examples": [asdict(example) for example in examples]}, indent=1))
        return 0
    _show(examples, len(dataset))
    return 0


def _open_text(args: Args) -> "tuple[Dataset, PreTrainedTokenizerFast]":
    from fallow.data.files import is_folder_of_shards
    from fallow.data.shards import Shards
    from fallow.data.tokenizer import load_tokenizer
    from fallow.data.tokens import TokenDataset

    folder = Path(args.path)
    if not is_folder_of_shards(folder):
        inner = (
            sorted(child.name for child in folder.iterdir() if is_folder_of_shards(child)) if folder.is_dir() else []
        )
        if inner:
            raise UserError(f"{folder} holds several folders of shards. Name one: {folder / inner[0]}.")
        if folder.is_file():
            raise UserError(f"{folder} is a file. For pairs write --format; for text run fallow prepare first.")
        raise UserError(f"{folder} holds no token shards. Make them with fallow prepare.")
    if args.overflow != "error":
        raise UserError("--overflow has no effect on packed text. Remove it.")
    beside = folder.parent / "tokenizer"
    if not args.tokenizer and not beside.is_dir():
        raise UserError(f"there is no {beside}. Name the tokenizer of these shards with --tokenizer.")
    tokenizer = load_tokenizer(args.tokenizer or str(beside))
    shards = Shards(folder)
    shards.check_tokenizer(tokenizer)
    return TokenDataset(shards, args.context), tokenizer


def _open_pairs(args: Args) -> "tuple[Dataset, PreTrainedTokenizerFast]":
    import tempfile

    from fallow.data.formats import read_pairs
    from fallow.data.pairs import PairDataset
    from fallow.data.settings import PairData
    from fallow.data.tokenizer import load_tokenizer

    assert args.format  # the caller asks
    if not args.tokenizer:
        raise UserError("pairs need --tokenizer: a Hugging Face folder, such as the tokenizer folder of a run.")
    tokenizer = load_tokenizer(args.tokenizer)
    settings = PairData(format=args.format, train=args.path, context=args.context, overflow=args.overflow)
    with tempfile.TemporaryDirectory() as cache:
        pairs = read_pairs(settings, "train", Path(cache))
    name = args.path or args.format
    return PairDataset(pairs, tokenizer, args.context, overflow=args.overflow, name=name), tokenizer


def _choose(size: int, num: int, start: int) -> list[int]:
    if start >= size:
        raise UserError(f"--start is {start}, but there are {size} examples: 0 to {size - 1}.")
    if start >= 0:
        return list(range(start, min(size, start + num)))
    return sorted({i * size // num for i in range(min(num, size))})


def _show(examples: "list[Example]", size: int) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for example in examples:
        ends = f"{example.num_ends} end token{'' if example.num_ends == 1 else 's'}"
        console.print(
            f"example {example.index} of {size:,}: {example.num_tokens} tokens, loss on {example.num_valid}, {ends}",
            style="bold",
        )
        console.print(_render(example, plain=not console.is_terminal))
        console.print()


def _render(example: "Example", *, plain: bool) -> "Text":
    """Colour on a terminal; marks elsewhere, so that a file or a pipe shows the same."""
    from rich.text import Text

    text = Text()
    for stretch in example.stretches:
        if stretch.kind == "end":
            text.append("[end]" if stretch.loss else "<<[end]>>" if plain else "[end]", style="bold magenta")
            text.append("\n" if stretch.loss else "")
        elif stretch.loss:
            text.append(stretch.text, style="green")
        else:
            text.append(f"<<{stretch.text}>>" if plain else stretch.text, style="dim")
    return text
