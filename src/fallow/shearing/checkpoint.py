"""The weights of a Hugging Face folder, tensor by tensor: nothing is loaded before it is asked for."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from fallow.errors import UserError
from fallow.shearing.families import Family
from fallow.stock import INDEX, SINGLE, check_folder, weight_map

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_BUFFERS = (".inv_freq", ".attention.bias", ".attention.masked_bias", ".attn.bias", ".attn.masked_bias")
"""What older versions of transformers saved and today's compute."""


class Checkpoint:
    """One or several safetensors files, under the names that today's model has.

    Args:
        folder: a Hugging Face folder.
        family: its architecture.

    Raises:
        UserError: no safetensors there (a pickle is not opened), a shard is missing or damaged, or a tensor that the
            architecture does not have.
    """

    def __init__(self, folder: Path, family: Family) -> None:
        self.folder, self.family = folder, family
        self.files: dict[str, Path] = {}
        """Tensor, as the file has it -> file."""
        self.names: dict[str, str] = {}
        """Tensor, as the model has it -> as the file has it."""
        for name, path in _files(folder).items():
            if not name.endswith(_BUFFERS):
                self.files[name] = path
                self.names[self._today(name)] = name

    def _today(self, name: str) -> str:
        today = self.family.renamed.get(name, name)
        base = self.family.blocks.partition(".")[0]
        for candidate in (today, f"{base}.{today}"):  # a base model is saved without the name that holds it
            try:
                self.family.slots_of(candidate)
            except UserError:
                continue
            return candidate
        self.family.slots_of(today)
        raise AssertionError

    def __iter__(self) -> Iterator[str]:
        """Names as the model has them, in the order of the files."""
        return iter(self.names)

    def read(self, name: str) -> Tensor:
        """One tensor."""
        with _open(self.files[self.names[name]]) as file:
            tensor: Tensor = file.get_tensor(self.names[name])
        return tensor

    def describe(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, from the head of its file."""
        with _open(self.files[self.names[name]]) as file:
            part = file.get_slice(self.names[name])
            return tuple(part.get_shape()), str(part.get_dtype())

    def num_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor of another shape and the same type."""
        return _BYTES.get(self.describe(name)[1], 4) * math.prod(shape)


def _files(folder: Path) -> dict[str, Path]:
    if (folder / INDEX).is_file():
        return dict(sorted(weight_map(folder).items(), key=lambda item: item[1].name))
    check_folder(folder)
    with _open(folder / SINGLE) as file:
        return dict.fromkeys(file.keys(), folder / SINGLE)


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from None
