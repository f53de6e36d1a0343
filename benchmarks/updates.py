"""What U V + S costs beside its rivals, what cutting heads saves, and how supports are found; by processor time.

    python benchmarks/updates.py steps      training step and forward pass: plain, LoRA and Super-Tuning of PEFT, ours
    python benchmarks/updates.py heads      forward pass of BERT with 9 of 12 heads cut out, beside its operations
    python benchmarks/updates.py supports   16 planted entries in 768 x 768: how many each rule finds, and its time
    python benchmarks/updates.py weights FOLDER --rank 16    equation 1 on queries and values of a pretrained model

`steps` and `heads` take one model right after the other in rounds, on one thread; a record holds the medians of the
ratios within rounds and the range of their middle half. `steps` needs peft.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from record import write_record
from torch import nn

import fallow
from fallow.accounting.flops import count_flops
from fallow.folder import build
from fallow.hf.update_file import save_update
from fallow.linear import linear_sites
from fallow.linear.inputs import dense_weight
from fallow.linear.roles import roles_of
from fallow.pruning import Heads, prune
from fallow.random import Key
from fallow.supports.choices import choose
from fallow.supports.decomposition import decompose

WIDTH, LAYERS, VOCABULARY, BATCH, CONTEXT = 256, 4, 1024, 4, 128
RANK, ENTRIES = 4, 16


def main() -> None:
    """Measure one part and write its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["steps", "heads", "supports", "weights"])
    parser.add_argument("folder", nargs="?", help="of a pretrained model, for weights")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rank", type=int, default=RANK)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.part == "weights":
        results, notes = weights(Path(args.folder), args.rank)
        print(write_record(f"updates-weights-{Path(args.folder).name}", results, notes=notes))
        return
    results, notes = {"steps": steps, "heads": heads, "supports": supports}[args.part](args.rounds)
    print(write_record(f"updates-{args.part}", results, notes=notes))


def steps(rounds: int) -> tuple[Any, str]:
    """Ratios to full fine-tuning (a whole step) and to the plain model (forward)."""
    results = []
    for family in ("gpt2", "llama"):
        models = {name: Training(make()) for name, make in rivals(family).items()}
        found = in_rounds({name: one.step for name, one in models.items()}, rounds)
        for name, one in models.items():
            forward = in_rounds({"full": models["full"].forward, name: one.forward}, 8 * rounds)  # nothing between them
            row = {
                "model": family,
                "method": name,
                "trainable": sum(p.numel() for p in one.model.parameters() if p.requires_grad),
                "step_ms": round(1000 * statistics.median(found[name])),
                "step_of_full": ratio(found[name], found["full"]),
                "step_of_peft": ratio(found[name], found["peft"]),
                "forward_ms": round(1000 * statistics.median(forward[name])),
                "forward_of_plain": ratio(forward[name], forward["full"]),
                "bytes": one.saved(),
            }
            results.append(row)
            print(*row.values(), flush=True)
    return results, (
        f"width {WIDTH}, {LAYERS} layers, {BATCH} x {CONTEXT} tokens, fp32, AdamW (foreach); rank {RANK}, {ENTRIES} "
        "entries, queries and values. peft: Super-Tuning with r on Llama; LoRA on GPT-2's c_attn, whose class "
        "Super-Tuning refuses"
    )


def rivals(family: str) -> dict[str, Callable[[], nn.Module]]:
    """What is compared, each on the same model."""
    return {
        "full": lambda: plain(family),
        "peft": lambda: of_peft(family),
        "dsee": lambda: ours(family, "dsee", rank=RANK, entries=ENTRIES),
        "lora": lambda: ours(family, "lora", rank=RANK),
    }


def plain(family: str) -> nn.Module:
    """The stock model."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 4, "vocab_size": VOCABULARY}
    own = (
        {"intermediate_size": 4 * WIDTH} if family == "llama" else {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    )
    names = {"num_hidden_layers": "n_layer", "hidden_size": "n_embd", "num_attention_heads": "n_head"}
    given = {names.get(k, k) if family == "gpt2" else k: v for k, v in sizes.items()}
    return build({"model_type": family, **given, **own})


def ours(family: str, method: str, **settings: object) -> nn.Module:
    """Converted, as it is trained."""
    model = plain(family)
    fallow.convert(model, method, **settings)
    return model


def of_peft(family: str) -> nn.Module:
    """PEFT's nearest counterpart."""
    import peft

    if family == "gpt2":
        config: Any = peft.LoraConfig(r=RANK, lora_alpha=32, target_modules=["c_attn"], fan_in_fan_out=True)
    else:
        config = peft.SupertuningConfig(
            r=RANK, lora_alpha=32, target_modules=["q_proj", "v_proj"], sparsity=1 - ENTRIES / WIDTH**2
        )
    wrapped: nn.Module = peft.get_peft_model(plain(family), config)
    return wrapped


class Training:
    """Steps of one model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)
        self.ids = torch.randint(VOCABULARY, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(1))

    def step(self) -> None:
        """Forward, backward, update."""
        self.model.train()(input_ids=self.ids, labels=self.ids).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def forward(self) -> None:
        """Forward alone."""
        self.model.eval()(input_ids=self.ids)

    def saved(self) -> int:
        """Bytes of the smallest file that the model's own library writes."""
        with TemporaryDirectory() as folder:
            path = Path(folder)
            if getattr(self.model, "fallow_record", None) is not None:
                return save_update(self.model, path / "update.safetensors")
            self.model.save_pretrained(folder)  # type: ignore[operator]
            return sum(file.stat().st_size for file in path.glob("*.safetensors"))


def heads(rounds: int) -> tuple[Any, str]:
    """BERT-base's width at length 128, three layers of it."""
    length, results = 128, []
    whole = bert()
    ids = torch.randint(VOCABULARY, (BATCH, length), generator=torch.Generator().manual_seed(1))
    models = {0: whole}
    for num in (3, 6, 9):
        models[num] = bert()
        prune(models[num], Heads(num=num, score="weight"))

    def forward(model: Any) -> Callable[[], None]:
        def once() -> None:
            with torch.no_grad():
                model(input_ids=ids)

        return once

    found = in_rounds({num: forward(model) for num, model in models.items()}, rounds)
    operations = {num: count_flops(model, length).forward for num, model in models.items()}
    for num in models:
        row = {
            "heads_cut": num,
            "forward_ms": round(1000 * statistics.median(found[num])),
            "forward_of_whole": ratio(found[num], found[0]),
            "operations_left": round(operations[num] / operations[0], 4),
        }
        results.append(row)
        print(*row.values(), flush=True)
    return results, f"3 layers of BERT-base (width 768, 12 heads), {BATCH} x {length} tokens, fp32, no update"


def bert() -> nn.Module:
    """Three layers of BERT-base with a small vocabulary."""
    torch.manual_seed(0)
    config = {"model_type": "bert", "num_hidden_layers": 3, "vocab_size": VOCABULARY}
    return build(config, "BertForSequenceClassification").eval()


def supports(rounds: int) -> tuple[Any, str]:
    """Planted entries that are found, and the time."""
    results = []
    for deviations in (8.0, 4.0):
        for rule in ("decomposition", "released", "magnitude", "random"):
            hits, seconds = [], []
            for seed in range(1 if rule == "released" else min(rounds, 5)):
                weight, planted = with_outliers(seed, deviations)
                began = time.process_time()
                chosen = choose(rule, weight, entries=16, rank=16, key=Key(seed))  # type: ignore[arg-type]
                seconds.append(time.process_time() - began)
                hits.append(len(set(chosen.tolist()) & set(planted.tolist())))
            row = {
                "rule": rule,
                "deviations": deviations,
                "found_of_16": hits,
                "seconds": round(statistics.median(seconds), 3),
            }
            results.append(row)
            print(*row.values(), flush=True)
    return (
        results,
        "768 x 768: normal entries plus a product of rank 32; +-8 or +-4 deviations of their sum added to 16 entries",
    )


def weights(folder: Path, rank: int) -> tuple[Any, str]:
    """What is left of equation 1 on real weights, as a share of what the best matrix of that rank leaves."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    chosen = {n: site for n, site in linear_sites(model).items() if roles_of(site).keys() & {"q", "v"}}
    results = []
    for name, site in chosen.items():
        weight = dense_weight(model.get_submodule(name)).detach().double()
        began = time.process_time()
        found = decompose(weight.float(), rank=rank, entries=ENTRIES, key=Key(0).child(name))
        seconds = time.process_time() - began
        alone = 0.5 * float(torch.linalg.svdvals(weight)[rank:].square().sum())
        row: dict[str, Any] = {
            "layer": name,
            "shape": list(site.shape),
            "entries": len(found.positions_c),
            "rank": int(torch.linalg.matrix_rank(found.u_mk @ found.v_kn)),
            "decomposition": round(found.objective / alone, 4),
        }
        for rule in ("magnitude", "random"):
            at = choose(rule, weight.float(), entries=ENTRIES, rank=rank, key=Key(0).child(name))
            row[rule] = round(left_over(weight, rank, at) / alone, 4)
        row["seconds"] = round(seconds, 3)
        results.append(row)
        print(*row.values(), flush=True)
    return results, (
        f"rank {rank}, {ENTRIES} entries; 1/2 ||W - U V - S||^2 over that of the truncated SVD without S, which is 1. "
        "Magnitude and random: their support, and the best U V and S on it by 60 alternations of full decompositions"
    )


def left_over(weight: torch.Tensor, rank: int, positions: torch.Tensor) -> float:
    """The objective of equation 1 for a support that is given, in float64."""
    rest = weight.clone()
    for _ in range(60):
        u, s, v = torch.linalg.svd(rest, full_matrices=False)
        low = (u[:, :rank] * s[:rank]) @ v[:rank]
        rest = weight.clone()
        rest.view(-1)[positions] = low.reshape(-1)[positions]
    error = weight - low
    error.view(-1)[positions] = 0.0
    return 0.5 * float(error.square().sum())


def with_outliers(seed: int, deviations: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, positions of the planted entries)."""
    draw = torch.Generator().manual_seed(seed)
    weight = 0.04 * torch.randn(768, 768, generator=draw)
    weight += 0.01 * torch.randn(768, 32, generator=draw) @ torch.randn(32, 768, generator=draw)
    planted = torch.randperm(weight.numel(), generator=draw)[:16]
    weight.view(-1)[planted] += deviations * float(weight.std()) * torch.randn(16, generator=draw).sign()
    return weight, planted


def in_rounds(calls: dict[Any, Callable[[], None]], rounds: int) -> dict[Any, list[float]]:
    """Seconds of processor time of each call, there and back by turns; the first round is thrown away."""
    seconds: dict[Any, list[float]] = {name: [] for name in calls}
    there = list(calls.items())
    for number in range(rounds + 1):
        for name, call in there if number % 2 else reversed(there):  # what runs second is slower by a percent or two
            began = time.process_time()
            call()
            if number:
                seconds[name].append(time.process_time() - began)
    return seconds


def ratio(seconds: list[float], others: list[float]) -> list[float]:
    """Median of the ratios of a round, and the range of their middle half."""
    ratios = sorted(mine / other for mine, other in zip(seconds, others, strict=True))
    quarter = len(ratios) // 4
    return [round(r, 3) for r in (statistics.median(ratios), ratios[quarter], ratios[-1 - quarter])]


if __name__ == "__main__":
    main()
