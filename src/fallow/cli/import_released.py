"""`fallow import-sltrain`: a checkpoint of SLTrain's released code becomes a model of fallow, or a stock one."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Turn a checkpoint of the released SLTrain code into a folder that fallow reads, with the same outputs.

    Such a folder has splora_config.json beside config.json, and four tensors for each layer. Plain transformers loads
    it with a warning and random weights. Indices shrink from 8 bytes an entry to 4 in the folder and 2 in memory, or to
    none in the folder where --seed repeats the draw.

    The result is unmerged: factors and entries stay apart, for fallow generate, evaluate and merge. --merge writes a
    stock Hugging Face folder instead, layer by layer.

    Examples:
      fallow import-sltrain checkpoints/model_60000 --output imported
      fallow import-sltrain checkpoints/model_60000 --output stock --merge
      fallow import-sltrain checkpoints/model_60000 --output imported --seed 42
      fallow import-sltrain old/model_11000 --output imported --pickle
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """The folder of the checkpoint."""

    output: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Where the model goes; a new or empty folder."""

    merge: bool = False
    """Write a stock model, W as one matrix a layer."""

    seed: int | None = None
    """Parity: insist that supports are those of the released layers after torch.manual_seed(SEED) on a CPU, and store
    the seed in their place."""

    pickle: bool = False
    """Read pytorch_model.bin where there is no model.safetensors. Only for files that you trust."""

    json: bool = False
    """Print what was imported as JSON."""


def run(args: Args) -> int:
    """Check, read, write, say what it was."""
    import shutil
    from pathlib import Path

    from fallow.errors import UserError
    from fallow.files import fill_folder, refuse_used

    source, target = Path(args.folder), Path(args.output)
    if not source.is_dir():
        raise UserError(f"{source} is not a folder")
    refuse_used(target)
    if args.merge and args.seed is not None:
        raise UserError("--seed has no effect on a merged model, which has no supports. Remove --seed or --merge")
    from transformers.utils import logging

    from fallow.counting import count
    from fallow.evaluate.progress import shown
    from fallow.folder import save
    from fallow.hf.export import export
    from fallow.hf.released import SETTINGS_FILE, import_released

    logging.disable_progress_bar()
    with shown("reading layers", lines=4) as progress:
        found = import_released(source, seed=args.seed, pickle=args.pickle, progress=progress)
    counts = count(found.model)
    weights = {"config.json", "README.md", SETTINGS_FILE}
    with fill_folder(target) as folder:
        if args.merge:
            with shown("merging layers", lines=4) as progress:
                export(found.model, folder, progress=progress)
        else:
            save(found.model, folder)
        for path in source.iterdir():
            kept = path.name not in weights and path.suffix in (".json", ".txt", ".model", ".jinja")
            if path.is_file() and kept and not (folder / path.name).exists() and "training" not in path.name:
                shutil.copy2(path, folder / path.name)
    if args.json:
        told = {"output": str(target), "merged": args.merge, "stored": counts.stored, "positions": counts.positions}
        print(as_json({**told, "seed": found.seed, "notes": list(found.notes)}))
        return 0
    form = (
        "a stock model"
        if args.merge
        else "an unmerged model, supports from the seed"
        if found.seed is not None
        else ("an unmerged model, supports kept beside the weights")
    )
    print(f"{target}: {form}; {counts.stored:,} parameters for {counts.positions:,} positions")
    for note in found.notes:
        print(f"  {note}")
    return 0
