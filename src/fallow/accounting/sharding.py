"""A model among N processes under FSDP2: what each one holds, gathers and sends."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from fallow.accounting.manner import Manner
from fallow.accounting.planned import PlannedModel, StoredTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Bytes that one process holds from step to step; the one that holds most, where rows do not divide evenly."""

    weights: int
    gradients: int
    optimizer: int
    """Moments, scales, projections and step counters."""

    indices: int
    """Row pointers and columns: buffers, whole on every process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """Bytes of whole weights and gradients that exist for a moment on every process; all 0 for one process."""

    weights: int
    """The unit of embeddings and head, the block at work and the one fetched ahead."""

    gradients: int
    """The largest unit's gradient before it is shared out, with the buffer it is shared out from."""

    accumulated: int = 0
    """All gradients, between the micro-batches of an update that adds them up once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Bytes that one process moves in one update."""

    all_gather: int
    """Received: every block twice a micro-batch (forward, backward), the rest once."""

    reduce_scatter: int
    """Sent: every gradient once a micro-batch, or once an update, in fp32 under mixed precision."""

    optimizer: int
    """Read and written in memory by the update itself: weights and states both ways, gradients once."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sharding:
    """A planned model on N processes.

    With FSDP2 every parameter is cut along its first dimension into N pieces of equal, rounded-up length. Blocks are
    units that are gathered when they are needed and freed after; embeddings, last norm and head are one more, which
    stays gathered from forward to backward. The 1-D values of a sparse term are cut as anything else, so states,
    gradients and traffic shrink with the density; supports never travel.
    """

    planned: PlannedModel
    processes: int
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["cpu", "cuda"] = "cuda"
    manner: Manner = Manner()

    @property
    def is_mixed(self) -> bool:
        """Whether weights travel in bfloat16: `bf16` on several GPUs."""
        return self.processes > 1 and self.precision == "bf16" and self.device == "cuda"

    def local(self, tensor: StoredTensor) -> int:
        """Entries of a parameter on the process that holds most."""
        if tensor.is_whole or not tensor.shape:
            return tensor.numel
        rows = tensor.shape[0]
        return -(-rows // self.processes) * (tensor.numel // rows if rows else 0)

    def shares(self) -> Shares:
        """What one process holds."""
        size = self.planned.element_bytes
        trainable = [tensor for tensor in self.planned.tensors if tensor.trainable]
        learned = sum(map(self.local, trainable))
        return Shares(
            weights=size * sum(map(self.local, self.planned.tensors)),
            gradients=size * learned,
            optimizer=sum(self.manner.states.num_bytes(t, self.local(t), size) for t in trainable),
            indices=self.planned.index_bytes,
        )

    def gathered(self, accumulation: int = 1) -> Gathered:
        """What exists whole for a moment in an update of `accumulation` micro-batches."""
        if self.processes == 1:
            return Gathered(weights=0, gradients=0)
        root, blocks = self._units(self.planned.tensors)
        learned_root, learned = self._units(tuple(t for t in self.planned.tensors if t.trainable))
        block, travel = max(blocks, default=0), self._travel_bytes
        largest = max(learned_root, *learned) if learned else learned_root
        once = self.manner.reduce == "update" and accumulation > 1
        return Gathered(
            weights=travel * (root + 2 * block),
            gradients=(travel + self._reduce_bytes) * largest,
            accumulated=self._reduce_bytes * sum(t.numel for t in self.planned.tensors if t.trainable) if once else 0,
        )

    def traffic(self, accumulation: int) -> Traffic:
        """What one process moves in an update of `accumulation` micro-batches."""
        trainable, size = [t for t in self.planned.tensors if t.trainable], self.planned.element_bytes
        moments = sum(self.manner.states.moment_bytes(t, self.local(t), size) for t in trainable)
        optimizer = 3 * size * sum(map(self.local, trainable)) + 2 * moments
        if self.processes == 1:
            return Traffic(all_gather=0, reduce_scatter=0, optimizer=optimizer)
        root, blocks = self._units(self.planned.tensors)
        sent = sum(self.local(t) for t in self.planned.tensors if t.trainable) * (self.processes - 1)
        others = (self.processes - 1) / self.processes
        received = round(others * (root + 2 * sum(blocks)))
        return Traffic(
            all_gather=accumulation * self._travel_bytes * received,
            reduce_scatter=(1 if self.manner.reduce == "update" else accumulation) * self._reduce_bytes * sent,
            optimizer=optimizer,
        )

    @property
    def _travel_bytes(self) -> int:
        return 2 if self.is_mixed else self.planned.element_bytes

    @property
    def _reduce_bytes(self) -> int:
        return 4 if self.is_mixed else self.planned.element_bytes

    def _units(self, tensors: tuple[StoredTensor, ...]) -> tuple[int, list[int]]:
        """Gathered entries, padding included, outside the blocks and in each block."""
        sizes: dict[int | None, int] = {}
        for tensor in tensors:
            sizes[tensor.block] = sizes.get(tensor.block, 0) + self.processes * self.local(tensor)
        return sizes.pop(None, 0), list(sizes.values())
