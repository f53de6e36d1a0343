"""`fallow merge`: a converted model becomes a stock one."""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Turn a folder of fallow.save into a plain Hugging Face folder with the same outputs.

    What was sparse becomes a dense matrix with zeros, what was a sum of terms becomes their sum. The result loads
    anywhere with from_pretrained. Tokenizer files are copied along.

    An update beside a pruned weight fills its zeros: the result is dense there, and a warning says so. With --zeros
    keep the update is projected onto what is not zero; the share of its norm that is lost is told.

    Examples:
      fallow merge runs/sparse --output merged
      fallow merge runs/sparse --output merged --json
      fallow merge runs/pruned --output merged --zeros keep
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder of the converted model."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Where the stock model goes; a new or empty folder."""

    zeros: Literal["fill", "keep"] = "fill"
    """What happens to zeros of a pruned weight that an update would fill."""

    shard_size: float = 2.0
    """Largest size of a file in GB. The model is written layer by layer; memory holds about one file of it."""

    json: bool = False
    """Print counts as JSON."""


def run(args: Args) -> int:
    """Load, merge, save, say what it was."""
    import shutil
    from pathlib import Path

    from transformers.utils import logging

    from fallow.conversion import filling
    from fallow.counting import count
    from fallow.errors import UserError
    from fallow.evaluate.progress import shown
    from fallow.files import fill_folder, refuse_used
    from fallow.folder import RECORD_FILE, WEIGHTS_FILE, is_unmerged, load
    from fallow.hf.export import export

    logging.disable_progress_bar()
    source, target = Path(args.folder), Path(args.output)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    if not is_unmerged(source):
        raise UserError(f"{source} holds no unmerged fallow model ({RECORD_FILE} and {WEIGHTS_FILE}); nothing to merge")
    if not 0 < args.shard_size < float("inf"):
        raise UserError(f"--shard-size is {args.shard_size:g}, but it must be above 0 GB. 2 is usual")
    refuse_used(target)
    model = load(source)
    before = count(model)
    filled = filling(model)
    ours = {RECORD_FILE, WEIGHTS_FILE, "config.json", "README.md"}
    with fill_folder(target) as folder:
        with shown("merging layers", lines=4) as progress:
            after = export(model, folder, zeros=args.zeros, shard_bytes=round(args.shard_size * 1e9), progress=progress)
        for path in source.iterdir():
            known = path.name in ours or path.name.startswith(".") or (folder / path.name).exists()
            if path.is_file() and not known:
                shutil.copy2(path, folder / path.name)
    if args.json:
        lost = {"update_lost": filled.lost if args.zeros == "keep" else 0.0, "apart": before.apart}
        print(as_json({"output": str(target), **asdict(after), "sparsity": after.sparsity, **lost}))
    else:
        print(f"{target}: {after.positions:,} parameters, {after.nonzero:,} not zero ({after.sparsity:.1%} sparse)")
    return 0
