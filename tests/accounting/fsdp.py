"""What one process of several holds and moves under FSDP2, with a process group whose collectives only pretend.

Run as a script, in a process of its own: a process group is global. Prints one JSON line.
"""

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

import fallow
from fallow.accounting.memory import measure_memory
from fallow.folder import build
from fallow.methods import method_of
from fallow.train import distributed
from fallow.train.optimizers import build_optimizer
from fallow.train.optimizers.settings import AdamW8bit, Optimizer
from tests.accounting.live_bytes import LiveBytes
from tests.conformance.families import CONFIGS, tokens
from tests.conformance.table import ROWS

FAMILIES = ("gpt2", "llama", "opt", "gpt_neox")


class Collectives(TorchDispatchMode):
    """Adds up the buffers of collectives: gathered ones and those that are shared out."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = self.shared_out = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if name.startswith("c10d._allgather_base_"):
            self.gathered += args[0].numel() * args[0].element_size()
        elif name.startswith("c10d._reduce_scatter_base_"):
            self.shared_out += args[1].numel() * args[1].element_size()
        return func(*args, **(kwargs or {}))


def main(processes: int) -> None:
    dist.init_process_group("fake", rank=0, world_size=processes, store=FakeStore())
    distributed._refuse_different_weights = lambda *_: None  # nobody is there to compare with
    seen = {}
    for family in FAMILIES:
        for name, row in ROWS.items():
            method = method_of(row.method, **row.settings)
            model = build(CONFIGS[family]).train()
            fallow.convert(model, method, seed=3, path="materialise")
            distributed.shard(model, distributed.Mesh(0, processes, "cpu"))
            optimizer = build_optimizer(model, method, Optimizer(lr=1e-3))
            with Collectives() as moved:
                model(input_ids=tokens(), use_cache=False).logits.sum().backward()
            optimizer.step()
            memory = measure_memory(model, optimizer)
            parts = ("weights", "gradients", "optimizer", "indices")
            seen[f"{family}/{name}"] = {
                "held": [getattr(memory.layers, part) + getattr(memory.rest, part) for part in parts],
                "moved": [size * (processes - 1) // processes for size in (moved.gathered, moved.shared_out)],
            }
    seen |= {f"manner/{reduce}": accumulated(processes, reduce) for reduce in ("micro", "update")}
    print(json.dumps(seen))


def accumulated(processes: int, reduce: str) -> dict[str, Any]:
    """Two micro-batches of GPT-2 with 8-bit moments: what is held, what is moved, what is alive between them."""
    model = build(CONFIGS["gpt2"]).train()
    distributed.shard(model, distributed.Mesh(0, processes, "cpu"))
    optimizer = build_optimizer(model, method_of("dense"), AdamW8bit(lr=1e-3, block=64))
    live = LiveBytes()
    with Collectives() as moved, live:
        for last in (False, True):
            if reduce == "update":
                model.set_requires_gradient_sync(last)
            model(input_ids=tokens(), use_cache=False).logits.sum().backward()
            if not last:
                between = live.now
    held = measure_memory(model, optimizer).rest
    optimizer.step()
    return {
        "held": [held.weights, held.gradients, measure_memory(model, optimizer).rest.optimizer],
        "moved": [size * (processes - 1) // processes for size in (moved.gathered, moved.shared_out)],
        "between": between,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]))
