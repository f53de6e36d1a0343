"""What a stage costs before it is run: parameters, operations, memory, traffic, disk."""

import math
from dataclasses import dataclass
from typing import Any

from fallow.accounting.flops import Flops
from fallow.accounting.parameters import Parameters
from fallow.accounting.peak import StepMemory, largest_micro, step_memory
from fallow.accounting.sharding import Sharding, Traffic

GIGA = 1_000_000_000
"""Bytes of the GB in which memory is asked for and shown: decimal, as cards are sold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """Bytes on disk, without headers."""

    checkpoint: int
    """Weights that exist and the optimizer's states; no indices, they follow from the seed."""

    best: int
    """The weights that `validation.keep: best` keeps beside them."""

    model: int
    """The finished Hugging Face folder: merged, so zeros are written out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One stage on N processes."""

    parameters: Parameters
    sparsity: float
    """Share of the entries of the blocks' linear layers that do not exist."""

    flops: Flops
    """A token."""

    memory: StepMemory
    """On one device."""

    traffic: Traffic
    """Of one device in one update."""

    disk: Disk
    largest_micro: int | None
    """Largest micro-batch that fits into the asked memory; 0 for none; None when none was asked for."""

    def fits(self, limit: int) -> bool:
        """Whether the peak stays within so many bytes."""
        return self.memory.peak <= limit

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        parameters = self.parameters.to_dict()
        return {
            "parameters": {**parameters, "sparsity_of_linear_layers": self.sparsity},
            "flops_per_token": {
                **self.flops.to_dict(),
                "backward": self.flops.training - self.flops.forward,
                "backward_executed": self.flops.training_executed - self.flops.forward_executed,
            },
            "memory_per_device": self.memory.to_dict(),
            "traffic_per_step": self.traffic.to_dict(),
            "disk": {"checkpoint": self.disk.checkpoint, "best": self.disk.best, "model": self.disk.model},
        }


def cost_of(
    sharding: Sharding, *, context: int, micro: int, sequences: int, accumulation: int, limit: int | None = None
) -> Cost:
    """What a stage costs a token, a step and a save.

    Args:
        sharding: model, number of processes, precision and device.
        context: tokens in a sequence.
        micro: sequences in a micro-batch of one process.
        sequences: sequences in an update over all processes.
        accumulation: micro-batches of one process in an update.
        limit: bytes of a device, to look for the largest micro-batch.
    """
    planned, flops = sharding.planned, sharding.planned.flops(context)
    return Cost(
        parameters=planned.parameters,
        sparsity=planned.sparsity,
        flops=flops.recomputing() if sharding.manner.activations == "recompute" else flops,
        memory=step_memory(sharding, micro=micro, context=context, accumulation=accumulation),
        traffic=sharding.traffic(accumulation),
        disk=disk_of(sharding),
        largest_micro=None
        if limit is None
        else largest_micro(sharding, limit=limit, context=context, sequences=sequences),
    )


def disk_of(sharding: Sharding) -> Disk:
    """What a checkpoint and the finished model take."""
    planned, states, processes = sharding.planned, sharding.manner.states, sharding.processes
    size = planned.element_bytes
    gates = sum(tensor.numel for tensor in planned.tensors if tensor.is_whole)
    weights = size * sum(tensor.numel for tensor in planned.tensors)
    learned = [tensor for tensor in planned.tensors if tensor.trainable]
    kept = sum(states.saved_bytes(tensor, sharding.local(tensor), size, processes) for tensor in learned)
    return Disk(checkpoint=weights + kept, best=weights, model=size * (planned.parameters.positions - gates))


def seconds(tokens: float, tokens_per_second: float) -> float:
    """Time for so many tokens; the throughput is what was measured or given, never what FLOPs would promise."""
    return tokens / tokens_per_second if tokens_per_second else math.inf
