"""A pruning step against an ordinary step of the same source model, in alternating pairs, by processor time.

    python benchmarks/gates.py
    python benchmarks/gates.py --hidden 768 --layers 12 --pairs 9
    python benchmarks/gates.py --compile

A ratio of 1.05 means that gates on all four axes cost 5% of a step: forward, backward, the constraint, AdamW. Each pair
times the two right after each other; the record holds the median ratio and the range of the middle half.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from record import write_record
from torch import nn

import fallow
from fallow.folder import build
from fallow.methods import method_of
from fallow.train import Optimizer
from fallow.train.optimizers import build_optimizer


def main() -> None:
    """Measure every number of draws and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for axes in (("layers", "hidden", "heads", "inner"), ("layers", "heads", "inner")):
        for draws in args.draws:
            plain, gated = Steps(args, {}, 0), Steps(args, dict.fromkeys(axes, 0.5), draws)
            plain(), gated()  # the first one allocates, and compiles
            ratios = sorted(pair(plain, gated) for _ in range(args.pairs))
            found = {
                "axes": list(axes),
                "draws": draws,
                "compiled": args.compile,
                "ratio": round(statistics.median(ratios), 4),
                "middle_half": [round(ratios[len(ratios) // 4], 4), round(ratios[-1 - len(ratios) // 4], 4)],
                "plain_ms": round(1000 * statistics.median(plain.seconds)),
            }
            results.append(found)
            print(*found.values(), flush=True)
    notes = f"Llama, hidden {args.hidden}, {args.layers} layers, {args.sequences} x {args.context} tokens, fp32, AdamW"
    print(write_record("gates-compiled" if args.compile else "gates", results, notes=notes))


class Steps:
    """Whole training steps of one model."""

    def __init__(self, args: Any, shares: dict[str, float], draws: int) -> None:
        torch.manual_seed(0)
        sizes = {"layers": args.layers, "hidden": args.hidden, "heads": 6, "inner": args.hidden * 11 // 4}
        self.model = build({
            "model_type": "llama", "num_hidden_layers": sizes["layers"], "hidden_size": sizes["hidden"],
            "intermediate_size": sizes["inner"], "num_attention_heads": sizes["heads"],
            "vocab_size": args.vocabulary, "max_position_embeddings": args.context,
        })  # fmt: skip
        to = {axis: round(sizes[axis] * share) for axis, share in shares.items()}
        self.method = method_of("shear", to=to, warmup=0, draws=draws) if shares else method_of("dense")
        fallow.convert(self.model, self.method)
        self.optimizer = build_optimizer(self.model, self.method, Optimizer(lr=1e-4))
        if args.compile:
            for layer in self.model.model.layers:
                layer.compile(fullgraph=True)
        self.ids = torch.randint(args.vocabulary, (args.sequences, args.context + 1))
        self.model.train()
        self.number, self.seconds = 0, []

    def __call__(self) -> float:
        """One step; gives its processor time."""
        start = time.process_time()
        logits = self.model(input_ids=self.ids[:, :-1], use_cache=False).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), self.ids[:, 1:].flatten()).backward()
        self.number += 1
        self.method.before_step(self.model, self.number)
        self.optimizer.step()
        self.method.after_step(self.model, self.number, self.optimizer)
        self.optimizer.zero_grad()
        self.seconds.append(time.process_time() - start)
        return self.seconds[-1]


def pair(plain: Steps, gated: Steps) -> float:
    """Time of a gated step over the time of a plain one."""
    first = plain()
    return gated() / first


if __name__ == "__main__":
    main()
