"""A support in compact form: row pointers and narrow column indices.

Shapes: o = d_out rows, i = d_in columns, n = number of entries (nnz).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fallow.errors import UserError
from fallow.files import atomic, sort_metadata

_WIDEST_16_BIT = 65_536


@dataclass(frozen=True, eq=False)
class Support:
    """The set of entries of a (d_out, d_in) matrix that exist, row by row.

    An entry costs 2 bytes (a 16-bit column index; 4 bytes when d_in is above 65,536), a row 4 bytes more, where a pair
    of 64-bit coordinates would cost 16. Entry k of row r is in column `columns[row_pointers[r] + k]`; columns ascend
    within a row. This order is the order of the 1-D parameter that holds the values.

    >>> support = Support.from_flat((2, 3), np.array([0, 2, 4]))
    >>> support.nnz, support.density, support.num_bytes
    (3, 0.5, 18)
    >>> support.flat().tolist()
    [0, 2, 4]
    """

    shape: tuple[int, int]
    """(d_out, d_in)."""

    row_pointers: Tensor
    """int32 (int64 when nnz does not fit), shape (d_out + 1,)."""

    columns: Tensor
    """uint16 (int32 when d_in is above 65,536), shape (nnz,)."""

    @classmethod
    def from_flat(cls, shape: tuple[int, int], flat: NDArray[np.int64]) -> "Support":
        """From ascending positions in the row-major matrix."""
        d_out, d_in = shape
        rows, columns = np.divmod(flat, d_in)
        pointers = np.zeros(d_out + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=d_out), out=pointers[1:])
        return cls(
            shape,
            torch.from_numpy(pointers).to(pointer_dtype(len(flat))),
            torch.from_numpy(columns.astype(np.uint16 if d_in <= _WIDEST_16_BIT else np.int32)),
        )

    @classmethod
    def from_positions(cls, shape: tuple[int, int], positions: Tensor) -> "Support":
        """From row-major positions in any order.

        Raises:
            ValueError: one of them is outside the matrix or there twice.
        """
        flat = positions.to(torch.int64).sort().values
        if flat.numel() and (int(flat[0]) < 0 or int(flat[-1]) >= shape[0] * shape[1]):
            raise ValueError(f"a position lies outside a matrix of {shape[0]} x {shape[1]}")
        if bool((flat.diff() == 0).any()):
            raise ValueError(f"a position of a matrix of {shape[0]} x {shape[1]} is named twice")
        return cls.from_flat(shape, flat.cpu().numpy())

    @classmethod
    def meta(cls, shape: tuple[int, int], nnz: int) -> "Support":
        """Sizes without contents, for models on the meta device."""
        return cls(
            shape,
            torch.empty(shape[0] + 1, dtype=pointer_dtype(nnz), device="meta"),
            torch.empty(nnz, dtype=torch.uint16 if shape[1] <= _WIDEST_16_BIT else torch.int32, device="meta"),
        )

    @classmethod
    def stack(cls, parts: Sequence["Support"]) -> "Support":
        """Supports of equal width, one above the other, as in a fused QKV projection."""
        pointers = [parts[0].row_pointers[:1].long()]
        for part in parts:
            pointers.append(part.row_pointers[1:].long() + pointers[-1][-1:])
        nnz = sum(part.nnz for part in parts)
        return cls(
            (sum(part.shape[0] for part in parts), parts[0].shape[1]),
            torch.cat(pointers).to(pointer_dtype(nnz)),
            torch.cat([part.columns for part in parts]),
        )

    @property
    def num_positions(self) -> int:
        """Entries of the whole matrix, d_out * d_in."""
        return self.shape[0] * self.shape[1]

    @property
    def nnz(self) -> int:
        """How many entries exist."""
        return self.columns.numel()

    @property
    def density(self) -> float:
        """Nnz / (d_out * d_in), exactly what is stored."""
        return self.nnz / (self.shape[0] * self.shape[1])

    @property
    def num_bytes(self) -> int:
        """Bytes of pointers and columns."""
        return sum(t.numel() * t.element_size() for t in (self.row_pointers, self.columns))

    def flat(self) -> Tensor:
        """int64 positions in the row-major matrix, ascending, shape (nnz,)."""
        return flat_positions(self.row_pointers, self.columns, self.shape[1])

    def digest(self) -> str:
        """A checksum of shape and entries: equal supports, equal digests, on every machine."""
        state = hashlib.blake2b(json.dumps(self.shape).encode(), digest_size=16)
        state.update(self.flat().cpu().numpy().astype("<i8").tobytes())
        return state.hexdigest()

    def save(self, path: Path) -> None:
        """Write to a safetensors file."""
        from safetensors.torch import save_file

        tensors = {"row_pointers": self.row_pointers.cpu(), "columns": self.columns.cpu()}
        with atomic(Path(path)) as temporary:
            save_file(tensors, temporary, metadata={"shape": json.dumps(self.shape), "digest": self.digest()})
            sort_metadata(temporary)

    @classmethod
    def load(cls, path: Path) -> "Support":
        """Read a file written by `save`.

        Raises:
            UserError: the file is damaged: its entries do not have the checksum that was stored with them.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                support = cls(
                    tuple(json.loads(metadata.get("shape", "[0, 0]"))),
                    file.get_tensor("row_pointers"),
                    file.get_tensor("columns"),
                )
        except SafetensorError as error:
            raise UserError(f"{path} is not a support written by fallow: {error}") from error
        if metadata.get("digest") != support.digest():
            raise UserError(f"{path} is damaged: its entries do not match the checksum stored with them")
        return support


def pointer_dtype(nnz: int) -> torch.dtype:
    """The narrowest type of row pointers that can count to `nnz`."""
    return torch.int32 if nnz < 2**31 else torch.int64


def flat_positions(row_pointers_o: Tensor, columns_n: Tensor, d_in: int) -> Tensor:
    """Row-major positions (int64) of the entries; built when needed, never kept: it is four times the stored form."""
    counts_o = row_pointers_o.diff()
    starts_o = torch.arange(0, counts_o.numel() * d_in, d_in, device=counts_o.device)
    starts_n = torch.repeat_interleave(starts_o, counts_o, output_size=columns_n.numel())
    return starts_n + columns_n.to(torch.int64)
