"""The two running means of a parameter's gradient, as an optimizer's state: in full, or a byte an entry.

A moment called `exp_avg` is stored under its name, as fp32 or as codes, and then beside it `exp_avg_scale`, the scales
of its blocks. Codes are cut into shards as their parameter is. Scales are of shape (processes, blocks of a process),
since blocks are counted within a shard.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fallow.train.optimizers.parameters import local, local_offset
from fallow.train.optimizers.quantisation import dequantise, quantise

State = dict[str, Any]
FIRST, SECOND = "exp_avg", "exp_avg_sq"
NAMES = (FIRST, SECOND)


@dataclass(frozen=True, slots=True)
class Moments:
    """Reads and writes the moments of one parameter; knows how they are stored and holds nothing.

    Args:
        block: entries that share a scale; 0 for moments in full.
    """

    block: int = 0

    def empty(self, like: Tensor) -> State:
        """Moments of zero for a parameter (or a projected gradient) of this shape, sharded as it is."""
        if not self.block:
            return {name: torch.zeros_like(like, dtype=torch.float32) for name in NAMES}
        return {
            key: value
            for name in NAMES
            for key, value in (
                (name, torch.zeros_like(like, dtype=torch.uint8)),
                (f"{name}_scale", self._empty_scales(like)),
            )
        }

    def read(self, state: State, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Entries start..stop of this process's part, fp32, flat; may share memory with the state.

        `start` is the beginning of a block.
        """
        stored = local(state[name]).view(-1)[start:stop]
        if not self.block:
            return stored
        scales = local(state[f"{name}_scale"]).view(-1)[start // self.block :][: -(-stored.numel() // self.block)]
        return dequantise(stored, scales, self.block, signed=name == FIRST)

    def write(self, state: State, name: str, values: Tensor, start: int = 0, refused: Tensor | None = None) -> None:
        """Replace the entries from `start` on.

        Args:
            state: of the parameter.
            name: which moment.
            values: fp32, flat.
            start: the beginning of a block.
            refused: nothing changes where this is true, a scalar; known to the device alone.
        """
        stored = local(state[name]).view(-1)[start : start + values.numel()]
        if not self.block:
            put(stored, values, refused)
            return
        codes, scales = quantise(values, self.block, signed=name == FIRST)
        put(stored, codes, refused)
        put(local(state[f"{name}_scale"]).view(-1)[start // self.block :][: scales.numel()], scales, refused)

    def settle(self, state: State, like: Tensor) -> None:
        """Make scales fit that another number of processes wrote: the same moments in other blocks, to rounding.

        Args:
            state: with codes of this process, and the scales of all processes then, whole, of shape (them, blocks).
            like: the parameter.
        """
        expected = self._empty_scales(like) if self.block else None
        for name in NAMES:
            written = state.get(f"{name}_scale")
            if expected is None or written is None or written.shape == expected.shape:
                continue
            codes = local(state[name]).view(-1)
            rows, inner = like.shape[0], like.numel() // max(like.shape[0], 1)
            share = -(-rows // written.shape[0]) * inner  # entries of a process then
            place = torch.arange(codes.numel(), device=codes.device) + local_offset(like)
            scale = written[place // share, place % share // self.block]
            ones = torch.ones(-(-codes.numel() // self.block), device=codes.device)
            values = dequantise(codes, ones, self.block, signed=name == FIRST) * scale
            state[f"{name}_scale"] = self._empty_scales(like)
            self.write(state, name, values)

    def _empty_scales(self, like: Any) -> Tensor:
        if not hasattr(like, "to_local"):
            return torch.zeros(1, -(-like.numel() // self.block), device=like.device)
        from torch.distributed.tensor import DTensor, Shard

        mesh = like.device_mesh
        rows, inner = like.shape[0], like.numel() // max(like.shape[0], 1)
        num = -(-(-(-rows // mesh.size()) * inner) // self.block)
        part = torch.zeros(1, num, device=local(like).device)
        whole: Tensor = DTensor.from_local(part, mesh, [Shard(0)], run_check=False)
        return whole


def put(target: Tensor, values: Tensor, refused: Tensor | None) -> None:
    """Copy values into a tensor, unless `refused` is true, which no processor has to wait for."""
    target.copy_(values if refused is None else torch.where(refused, target, values))
