"""`fallow export`: the update of a tuned model, for PEFT or as one small file."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Write what lora or dsee added to a frozen model: for PEFT, or as one small file of ours.

    For PEFT it is a folder with a plain LoRA: same outputs, and no code of fallow where it is loaded. Entries of DSEE's
    S become ranks: rank r + c, and 2 (r + c) in GPT-2's fused projection. As a file it is several times smaller; fallow
    import reads it. Either belongs to the frozen model that was tuned; --base-output writes that, pruned if it was.

    Examples:
      fallow export runs/tune/unmerged --output adapter --base gpt2-medium
      fallow export runs/retune/model --output adapter --base-output pruned
      fallow export runs/tune/unmerged --output update.safetensors --to file
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A model that is not merged: the folder unmerged of a stage, or the model of one that was pruned."""

    output: Annotated[str, tyro.conf.arg(metavar="PATH")]
    """Where it goes: a new or empty folder, or a new file with --to file."""

    to: Literal["peft", "file"] = "peft"
    """A folder for PEFT, or one small file."""

    base: Annotated[str, tyro.conf.arg(metavar="MODEL")] = ""
    """What PEFT shall say that the adapter belongs to: a folder, or a name on the Hub."""

    base_output: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Write the frozen (and pruned) model without its update into this new folder, too."""

    json: bool = False
    """Print what was written as JSON."""


def run(args: Args) -> int:
    """Load, write, say what it was."""
    from pathlib import Path

    from transformers.utils import logging

    from fallow.errors import UserError
    from fallow.files import fill_folder, refuse_used
    from fallow.folder import is_unmerged, load
    from fallow.hf.peft_export import base_model, to_peft
    from fallow.hf.update_file import save_update

    logging.disable_progress_bar()
    source, target = Path(args.folder), Path(args.output)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    if not is_unmerged(source):
        raise UserError(
            f"{source} holds a merged model, whose update cannot be told apart any more. Give the folder unmerged "
            "beside it, or fallow.save a model before merging"
        )
    refuse_used(target)
    if args.base_output:
        refuse_used(Path(args.base_output), "--base-output")
    if args.to == "file" and args.base:
        raise UserError("--base has no effect with --to file, which knows its base by a checksum. Leave it out")
    model = load(source)
    told: dict[str, object] = {"output": str(target)}
    if args.to == "file":
        told["bytes"] = save_update(model, target)
        line = f"{target}: {told['bytes']:,} bytes"
    else:
        told["rank"] = to_peft(model, target, base=args.base or args.base_output)
        line = f"{target}: a LoRA of rank {told['rank']} for PEFT"
    if args.base_output:
        stock = base_model(model)
        with fill_folder(Path(args.base_output)) as folder:
            stock.save_pretrained(folder)  # type: ignore[operator]
        told["base"] = args.base_output
        line += f"; its base in {args.base_output}"
    print(as_json(told) if args.json else line)
    return 0
