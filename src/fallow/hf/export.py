"""A converted model written as a stock Hugging Face folder, layer by layer: the dense model never exists in memory."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.conversion import RECORD, filling, merge, refuse_merging
from fallow.counting import Counts, count
from fallow.files import fill_folder
from fallow.folder import RECORD_FILE, STOCK_FILES, WEIGHTS_FILE, save
from fallow.linear import ReparamLinear
from fallow.linear.cut import HEADS
from fallow.linear.reparam import Zeros
from fallow.methods.base import reparam_layers

log = logging.getLogger(__name__)

SHARD = 2_000_000_000
"""Bytes of a file by default, and about the most that is held at once."""

Progress = Callable[[int, int], None]


@torch.no_grad()
def export(
    model: nn.Module,
    folder: str | Path,
    *,
    zeros: Zeros = "fill",
    shard_bytes: int = SHARD,
    progress: Progress = lambda done, total: None,
) -> Counts:
    """Write the merged form of a model, which stays as it is.

    The folder loads with `from_pretrained`: standard names, `model.safetensors` or several files with their index, the
    configuration and the settings of generation. Beside the converted model, memory holds one file's worth of tensors
    and one dense weight. Models whose names or tensors transformers rearranges on disk, those with heads cut out, and
    those with something beside their layers are merged in memory instead.

    Args:
        model: converted; a Hugging Face model.
        folder: made when it is not there.
        zeros: as in `fallow.merge`.
        shard_bytes: a file ends before it would exceed this, unless one tensor alone does.
        progress: is told how many layers are done, of how many.

    Returns:
        What the merged model holds.

    Raises:
        UserError: what was trained is no part of the weights.
    """
    refuse_merging(model)
    path, stock = Path(folder), _as_any(model)
    is_stock, beside = getattr(model, RECORD, None) is None, not reparam_layers(model)
    if is_stock or beside or getattr(model, HEADS, None) is not None or not _is_plain(model):
        save(merge(model, zeros=zeros), path)
        return count(model)
    if (filled := filling(model)).entries:
        log.warning(filled.warning(zeros))
    with fill_folder(path, stale=(*STOCK_FILES, RECORD_FILE, WEIGHTS_FILE)) as folder:
        writer = _Writer(folder, shard_bytes)
        positions = nonzero = 0
        for name, tensor in _tensors(model, zeros, progress):
            positions += tensor.numel()
            nonzero += tensor.numel() if tensor.ndim < 2 else int(tensor.count_nonzero())
            for stored, part in _as_stored(model, name, tensor):
                writer.add(stored, part)
        for name, buffer in _buffers(model):
            writer.add(name, buffer)
        writer.finish()
        if stock.can_generate():
            stock.generation_config.save_pretrained(folder)
        stock.config.architectures = [type(model).__name__]
        stock.config.save_pretrained(folder)
    return Counts(positions, positions, positions, nonzero, nonzero)


class _Writer:
    """Tensors into safetensors files of bounded size; the names that transformers looks for appear at the end."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.held: dict[str, Tensor] = {}
        self.size, self.total = 0, 0
        self.files: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Take a tensor; a full file is written and forgotten."""
        num_bytes = tensor.numel() * tensor.element_size()
        if self.held and self.size + num_bytes > self.limit:
            self._write()
        self.held[name] = tensor.contiguous().cpu()
        self.size += num_bytes
        self.total += num_bytes

    def finish(self) -> None:
        """Write the rest, give the files their names, write the index."""
        self._write()
        num = len(self.files)
        if num == 1:
            self.files[0][0].replace(self.folder / "model.safetensors")
            return
        places: dict[str, str] = {}
        for number, (temporary, names) in enumerate(self.files, 1):
            final = f"model-{number:05d}-of-{num:05d}.safetensors"
            temporary.replace(self.folder / final)
            places |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self.total}, "weight_map": dict(sorted(places.items()))}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    def _write(self) -> None:
        from safetensors.torch import save_file

        path = self.folder / f".part-{len(self.files):05d}.safetensors"
        save_file(self.held, path, metadata={"format": "pt"})
        self.files.append((path, list(self.held)))
        self.held, self.size = {}, 0


def _tensors(model: nn.Module, zeros: Zeros, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    """The parameters of the merged model by name, in its order, each made when it is asked for; tied ones once."""
    seen: set[int] = set()
    total = sum(isinstance(module, ReparamLinear) for module in model.modules())
    done = 0
    for name, module in model.named_modules():
        if isinstance(module, ReparamLinear):
            for leaf, parameter in module.merge(zeros).named_parameters():
                yield f"{name}.{leaf}", parameter.detach()
            done += 1
            progress(done, total)
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{name}.{leaf}" if name else leaf, parameter.detach()


def _buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    saved = model.state_dict().keys()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in saved]


def _as_stored(model: nn.Module, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """The name that a file has for a parameter, as `save_pretrained` would write it."""
    from transformers.modeling_utils import revert_weight_conversion

    return list(revert_weight_conversion(model, {name: tensor}).items())


def _is_plain(model: nn.Module) -> bool:
    """Whether a file of this model holds its parameters one by one, renamed at most."""
    from transformers.conversion_mapping import WeightRenaming, get_model_conversion_mapping

    found: list[Any] = get_model_conversion_mapping(_as_any(model), add_legacy=False)
    return all(type(one) is WeightRenaming for one in found)


def _as_any(model: Any) -> Any:
    return model
