"""Tokens a second of a source model, of the model sheared from it, and of other shapes with as many parameters.

    python benchmarks/sheared_speed.py
    python benchmarks/sheared_speed.py --hidden 1024 --layers 24 --tokens 128 --update docs/shearing.md

Generation: greedy, one text at a time, with a cache. Training: a step of 4 x 128 tokens with AdamW. Processor time of
one thread; the models take turns, and medians count. Weights are random, which changes no speed.

Shapes: `targeted` halves width, heads and MLP and keeps three quarters of the layers, as Sheared-LLaMA-1.3B does.
`wide` keeps depth and width and takes heads and MLP units alone, as LLM-Pruner does. `uneven` keeps the width, too, and
gives every layer another number of units, as CoFi does; no stock configuration says that. `2:4` is the source with half
of its weights zero: a CPU computes with the zeros, and what it differs by from the source is noise.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import write_record
from seeds import update
from torch import nn

from fallow.folder import build
from fallow.pruning import Sparsify, sparsify

MARK = "sheared-speed"


def main() -> None:
    """Build the models, let them take turns, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--update", nargs="*", default=[], help="documents whose table is replaced")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models = shapes(args.hidden, args.layers)
    rows = []
    generate = turns({n: generation(m, args.tokens) for n, m in models.items()}, args.rounds)
    train = turns({n: training(m) for n, m in models.items()}, args.rounds)
    for name, model in models.items():
        parameters = sum(p.numel() for p in model.parameters())
        generated, trained = args.tokens / generate[name], 4 * 128 / train[name]
        rows.append({"model": name, "parameters": parameters, "generation": generated, "training": trained})
    lines = ["| model | parameters (M) | generation (tokens/s) | training (tokens/s) |", "| --- | ---: | ---: | ---: |"]
    first = rows[0]
    for row in rows:
        cells = [f"{row[key]:,.0f} ({row[key] / first[key]:.2f}x)" for key in ("generation", "training")]
        lines.append(f"| {row['model']} | {row['parameters'] / 1e6:.1f} | {' | '.join(cells)} |")
    path = write_record(MARK, rows, notes=f"Llama, hidden {args.hidden}, {args.layers} layers, fp32, one thread")
    text = "\n".join(lines) + (
        f"\n\nLlama with random weights, one thread of a CPU, by processor time; what 2:4 differs by from the "
        f"source is noise. Again: `python benchmarks/sheared_speed.py`; record: `benchmarks/records/{path.name}`."
    )
    print(text)
    for document in args.update:
        update(Path(document), MARK, text)


def shapes(hidden: int, layers: int) -> dict[str, nn.Module]:
    """The models, those after the first with about the parameters of the second in their layers."""
    inner, heads = hidden * 11 // 4, hidden // 64
    source = llama(hidden, layers, heads, inner)
    targeted = llama(hidden // 2, layers * 3 // 4, heads // 2, inner // 2)
    each = inside(targeted) // layers
    few = max(round(heads * 7 / 32), 1)
    units = (each - 4 * hidden * few * 64) // (3 * hidden)
    wide = llama(hidden, layers, few, units)
    uneven = llama(hidden, layers, few, units)
    for number, layer in enumerate(uneven.model.layers):  # type: ignore[union-attr, arg-type]
        own = round(units * (0.25 + 1.5 * number / max(layers - 1, 1)))
        layer.mlp.gate_proj, layer.mlp.up_proj = (nn.Linear(hidden, own, bias=False) for _ in range(2))
        layer.mlp.down_proj = nn.Linear(own, hidden, bias=False)
    halved = llama(hidden, layers, heads, inner)
    sparsify(halved, Sparsify(by="magnitude", pattern="2:4"))
    return {"source": source, "targeted": targeted, "wide": wide, "uneven": uneven, "2:4 of the source": halved}


def llama(hidden: int, layers: int, heads: int, inner: int) -> Any:
    """A stock model with random weights."""
    torch.manual_seed(0)
    return build({
        "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "head_dim": 64, "intermediate_size": inner, "vocab_size": 4096,
        "max_position_embeddings": 512, "tie_word_embeddings": True,
    })  # fmt: skip


def inside(model: Any) -> int:
    """Parameters of the layers."""
    return sum(p.numel() for p in model.model.layers.parameters())


def generation(model: Any, num: int) -> Callable[[], None]:
    """Writes `num` tokens after a few given ones."""
    prompt = torch.arange(1, 9)[None]

    def write() -> None:
        model.eval()
        model.generate(prompt, max_new_tokens=num, min_new_tokens=num, do_sample=False, pad_token_id=0)

    return write


def training(model: Any) -> Callable[[], None]:
    """One step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(4096, (4, 129), generator=torch.Generator().manual_seed(1))

    def step() -> None:
        model.train()
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def turns(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median processor time of each, which take turns; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, one in work.items():
            start = time.process_time()
            one()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


if __name__ == "__main__":
    main()
