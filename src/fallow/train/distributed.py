"""The processes of one run: who they are, how they agree, how they share a model."""

import ctypes
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self

import torch
import torch.distributed as dist
from torch import nn

from fallow.environment import place
from fallow.errors import UserError, in_a_line

_PATIENCE = timedelta(days=7)
_LOST = re.compile(r"gloo|nccl|onnection (closed|reset|refused)|ocket|roken pipe|ProcessGroup", re.IGNORECASE)
"""In errors of a collective whose other end is gone."""


class Mesh:
    """The processes that train one model together. One process is a mesh of one, without any communication.

    Attributes:
        rank: number of this process.
        world: number of processes.
        device: where this process computes.

    >>> mesh = Mesh()
    >>> mesh.world, mesh.is_main, mesh.sum(2.0), mesh.any(False)
    (1, True, 2.0, False)
    """

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank, self.world, self.device = rank, world, torch.device(device)

    @classmethod
    def start(cls, device: str = "auto") -> "Mesh":
        """Join the processes that torchrun started, or be alone.

        Args:
            device: `auto` takes a GPU where there is one; `cpu`, `cuda` or `cuda:1`.

        Raises:
            UserError: a GPU is asked for and there is none, or fewer than processes on this machine.
        """
        here = place()
        world = here.world
        chosen = _device(device, here.local, alone=world == 1)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        if world == 1:
            return cls(device=chosen)
        _end_with_launcher()
        if not dist.is_initialized():
            # Numbers and small objects travel over gloo also beside GPUs: agreeing then never waits for a kernel.
            try:
                dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
            except (RuntimeError, ValueError, OSError) as error:
                raise UserError(f"the {world} processes do not find one another: {in_a_line(error)}") from error
        return cls(dist.get_rank(), dist.get_world_size(), chosen)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the logs."""
        return self.rank == 0

    def sum(self, value: float) -> float:
        """The sum of a number over all processes, the same on each."""
        return self.sums([value])[0]

    def sums(self, values: Sequence[float]) -> list[float]:
        """Several sums for the price of one."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any process, the same answer on each."""
        return self.sum(float(flag)) > 0

    def gather(self, value: Any) -> list[Any]:
        """A small picklable value of every process, on every process, in the order of ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self._host_group())
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The main process's small picklable value, on every process."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0, group=self._host_group(), device=torch.device("cpu"))
        return holder[0]

    def barrier(self) -> None:
        """Wait for all processes."""
        self.sum(0.0)

    def close(self) -> None:
        """Leave the process group, if there is one."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error the others may be in the middle of a collective: leaving quietly would wait for them.
        if error is None:
            self.close()
        elif self.world > 1 and isinstance(error, RuntimeError) and _LOST.search(str(error)):
            raise UserError(
                f"another process has ended, and this one cannot go on alone ({in_a_line(error, 120)}). Look at the "
                "messages of the others; the same command continues from the last checkpoint"
            ) from error

    def _host_group(self) -> Any:
        """A gloo group for pickled objects; with GPUs the default group would send them through device memory.

        It waits for days: while the main process tokenises or decodes, the others wait for its word, and the half hour
        of the default group would end the run. A process that dies still ends it, as torchrun stops the others.
        """
        if not hasattr(self, "_gloo"):
            self._gloo = dist.new_group(backend="gloo", timeout=_PATIENCE)
        return self._gloo


def _end_with_launcher() -> None:
    """Ask the system for SIGTERM when the launcher dies, also by kill -9: ranks must not train on without it.

    As after any SIGTERM, a rank that trains saves a checkpoint first. Only Linux can do this.
    """
    if not sys.platform.startswith("linux"):
        return
    launcher = os.getppid()
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != launcher:  # it died just before
        os.kill(os.getpid(), signal.SIGTERM)


def _device(name: str, local_rank: int, *, alone: bool) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f'device is "{name}". Did you mean auto, cpu or cuda?') from None
    if device.type != "cuda":
        return device
    index = device.index if alone and device.index is not None else local_rank
    count = torch.cuda.device_count()
    if index >= count:
        raise UserError(f"device is {name}, but there are {count} GPUs for process {local_rank}. Write --device cpu.")
    return torch.device("cuda", index)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a model: the entries of the `nn.ModuleList` with the most parameters; empty without one.

    >>> len(blocks(nn.ModuleDict({"h": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})))
    2
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    largest = max(lists, key=_num_parameters, default=None)
    return [] if largest is None else list(largest)


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def shard(
    model: nn.Module, mesh: Mesh, precision: Literal["fp32", "bf16"] = "fp32", whole: Iterable[nn.Parameter] = ()
) -> nn.Module:
    """Put a model on the device and share its parameters among the processes, in place (FSDP2).

    Each block is one unit, and the rest (embeddings, a tied head, the last norm) is another. Names of parameters stay.
    With `bf16`, weights travel and are computed with in bfloat16 and gradients are summed in fp32; the shards that the
    optimizer updates stay in their own type.

    Args:
        model: the same weights on every process.
        mesh: with one process, only the device changes.
        precision: see `LoopSettings.precision`.
        whole: parameters that are left as they are, whole on every process and in their own type.

    Raises:
        UserError: the weights differ between the processes, so that each would train a mixture of models.
    """
    model.to(mesh.device)
    if mesh.world == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if isinstance(model, FSDPModule):
        return model
    _refuse_different_weights(model, mesh)
    policy = MixedPrecisionPolicy()
    if precision == "bf16" and mesh.device.type == "cuda":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    device_mesh = init_device_mesh(mesh.device.type, (mesh.world,))
    for block in blocks(model):
        fully_shard(block, mesh=device_mesh, mp_policy=policy)
    fully_shard(model, mesh=device_mesh, mp_policy=policy, ignored_params=set(whole))
    return model


def _refuse_different_weights(model: nn.Module, mesh: Mesh) -> None:
    own = [float(p.detach().double().sum()) for p in model.parameters()]
    main = mesh.broadcast_object(own)
    if mesh.any(own != main):
        raise UserError(
            "the processes begin with different weights. Build the model from the same seed or folder on each of them."
        )


def reshard(model: nn.Module) -> None:
    """Free what the last forward gathered, so that parameters are shards again; nothing to do with one process.

    A forward without a backward (validation) leaves the outermost unit gathered, and its parameters would then be
    read as plain, whole tensors.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def full_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """All weights of a sharded model as whole tensors on the CPU; call it on every process.

    Returns:
        The dictionary of the model as it was before `shard`, the same on every process.
    """
    reshard(model)
    whole: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            whole[name] = tensor
            continue
        full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        whole[name] = full.detach().cpu()
    return whole
