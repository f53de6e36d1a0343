"""`fallow import`: a LoRA of PEFT, or an update in a file, on its base, as a model that fallow goes on with."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Put a LoRA of PEFT, or an update of fallow export --to file, on the model that it was made for.

    The result is a model with its update apart. A stage of a recipe that begins with it (model: {path: FOLDER}) tunes
    the factors on, or prunes by them; fallow merge makes a stock model of it. Nothing of another base is taken: what
    fallow wrote knows its base by a checksum of the weights; of other adapters layers, shapes and the name of the base
    are compared.

    Examples:
      fallow import adapter --base gpt2-folder --output start
      fallow import adapter --base copy-of-gpt2 --output start --renamed
      fallow import update.safetensors --base gpt2-folder --output start
    """

    adapter: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Folder of PEFT's save_pretrained, or a file."""

    base: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the model that it belongs to."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Where the model goes; a new or empty folder."""

    renamed: bool = False
    """Take --base for the base of the adapter although PEFT noted another name: a copy in another folder."""

    json: bool = False
    """Print what was read as JSON."""


def run(args: Args) -> int:
    """Load both, join, save."""
    import shutil
    from pathlib import Path

    from transformers.utils import logging

    from fallow.counting import count
    from fallow.errors import UserError
    from fallow.files import fill_folder, refuse_used
    from fallow.folder import is_unmerged, load, save
    from fallow.hf.peft_import import from_peft
    from fallow.hf.update_file import load_update
    from fallow.methods.registry import method_to_dict

    logging.disable_progress_bar()
    source, base, target = Path(args.adapter), Path(args.base), Path(args.output)
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if not base.is_dir():
        raise UserError(f"{base} is not a folder")
    refuse_used(target)
    if args.renamed and source.is_file():
        raise UserError(f"--renamed has no effect with {source}, which knows its base by a checksum. Leave it out")
    if is_unmerged(base):
        raise UserError(f"{base} holds a model that is not merged. Write its base with fallow export --base-output")
    model = load(base)
    method = load_update(model, source) if source.is_file() else from_peft(model, source, renamed=args.renamed)
    with fill_folder(target) as folder:
        save(model, folder)
        for path in base.glob("*token*"):
            if path.is_file() and not (folder / path.name).exists():
                shutil.copy2(path, folder / path.name)
    told = {"output": str(target), "method": method_to_dict(method), "update": count(model).trainable}
    if args.json:
        print(as_json(told))
    else:
        print(f"{target}: method {method.name}, {told['update']:,} trained parameters beside the frozen model")
    return 0
