"""Cut a Hugging Face folder into another one, tensor by tensor: a 7B model on a laptop."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fallow.errors import UserError, first_line
from fallow.files import fill_folder, refuse_used
from fallow.integrity import check_model
from fallow.shearing.checkpoint import Checkpoint
from fallow.shearing.families import Family, check_target, family_of
from fallow.shearing.kept import KEPT_FILE, Kept
from fallow.shearing.slots import length
from fallow.shearing.surgery import cut_config, cut_tensor, renumbered
from fallow.stock import INDEX, SINGLE, new_model, read_config

Progress = Callable[[int, int], None]
"""(tensors done, tensors in all)"""

_NOT_COPIED = ("config.json", "README.md", "fallow.json", KEPT_FILE, INDEX)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


def config_of_folder(folder: Path) -> Any:
    """The transformers configuration of a folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model (no config.json)")
    check_model(folder)
    try:
        return read_config(str(folder))
    except UserError:
        raise
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{folder / 'config.json'} is refused by transformers: {first_line(error)}") from error


def cut_folder(
    source: Path, kept: Kept, output: Path, *, shard_bytes: int = 2_000_000_000, progress: Progress | None = None
) -> Any:
    """Write the cut model beside the source's tokenizer files; returns its configuration.

    One tensor of the source and one shard of the result are in memory at a time. Types stay: a bfloat16 model is cut
    in bfloat16, with gates absorbed in fp32. The folder appears only when all of it is on disk.

    Args:
        source: a Hugging Face folder with safetensors, in one file or several.
        kept: the units.
        output: a new or empty folder.
        shard_bytes: most bytes of a file; a larger tensor gets one of its own.
        progress: told how far it is.

    Raises:
        UserError: see `cut`; or the output is in use, the source damaged, the disk full.
    """
    refuse_used(output)
    config = config_of_folder(source)
    family = family_of(config)
    shape = family.shape_of(config)
    if shape != kept.source:
        raise UserError(f"the units were chosen for another model: {kept.source}; {source} has {shape}")
    check_target(family, config, kept.target)
    smaller = cut_config(family, config, kept)
    checkpoint = Checkpoint(source, family)
    plan = _plan(checkpoint, family, kept)
    _check_names(family, smaller, {entry.name for entry in plan})
    tied = bool(getattr(config, "tie_word_embeddings", False))
    with fill_folder(output) as folder:
        shards = list(_shards(checkpoint, family, kept, plan, shard_bytes))
        _write_weights(folder, checkpoint, family, kept, shards, tied, progress)
        smaller.save_pretrained(folder)
        kept.save(folder / KEPT_FILE)
        _copy_others(source, folder)
    return smaller


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor on its way."""

    source: str
    """Name in today's source model."""

    name: str
    """Name in today's smaller model."""

    place: int | None
    """Number of its layer there."""

    written: str
    """Name in the file: the source file's, where that is an older one."""


def _plan(checkpoint: Checkpoint, family: Family, kept: Kept) -> list[_Entry]:
    places = {number: position for position, number in enumerate(kept.layers)}
    plan = []
    for name in checkpoint:
        _, layer = family.slots_of(name)
        if layer is None or layer in places:
            place = None if layer is None else places[layer]
            new, old = renumbered(family, name, place), checkpoint.names[name]
            plan.append(_Entry(name, new, place, old if old in family.renamed else new))
    return plan


def _check_names(family: Family, config: Any, names: set[str]) -> None:
    """The result must hold every tensor of the stock model and no other."""
    with torch.device("meta"):
        model = new_model(config)
    wanted = {name for name, _ in model.named_parameters()}
    free = set(model.state_dict()) - wanted  # a tied head, which some files hold all the same
    for name in sorted(wanted - names):
        raise UserError(f"the source has no {name}, which a {family.model_type} needs. Fetch the model again")
    for name in sorted(names - wanted - free):
        raise UserError(f"the source has {name}, which a {family.model_type} of this configuration does not have")


def _write_weights(
    folder: Path,
    checkpoint: Checkpoint,
    family: Family,
    kept: Kept,
    shards: list[list[_Entry]],
    tied: bool,
    progress: Progress | None,
) -> None:
    from safetensors.torch import save_file

    num_tensors = sum(map(len, shards))
    weight_map: dict[str, str] = {}
    total = 0
    for number, entries in enumerate(shards, 1):
        file = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        for entry in entries:
            slots, _ = family.slots_of(entry.source)
            read = checkpoint.read(entry.source)
            tensor = cut_tensor(family, kept, entry.source, read, slots, entry.place, tied=tied).contiguous()
            tensors[entry.written] = tensor
            total += tensor.numel() * tensor.element_size()
            weight_map[entry.written] = file
            if progress is not None:
                progress(len(weight_map), num_tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _shards(
    checkpoint: Checkpoint, family: Family, kept: Kept, plan: list[_Entry], limit: int
) -> Iterator[list[_Entry]]:
    """Neighbours up to a size together."""
    shard: list[_Entry] = []
    filled = 0
    for entry in plan:
        slots, _ = family.slots_of(entry.source)
        sizes, _ = checkpoint.describe(entry.source)
        new = tuple(length(slot, kept.target, size) for slot, size in zip(slots, sizes, strict=True))
        num_bytes = checkpoint.num_bytes(entry.source, new)
        if shard and filled + num_bytes > limit:
            yield shard
            shard, filled = [], 0
        shard.append(entry)
        filled += num_bytes
    if shard:
        yield shard


def _copy_others(source: Path, target: Path) -> None:
    """Tokenizer, generation settings and the like."""
    for path in sorted(source.iterdir()):
        known = path.name in _NOT_COPIED or path.name.startswith(("fallow-", ".")) or path.name.endswith(_WEIGHTS)
        if path.is_file() and not known and not path.name.endswith(".index.json"):
            shutil.copy2(path, target / path.name)
