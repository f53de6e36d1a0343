"""LLM-Shearing: operations of the source over those of the targets, beside the throughput that was reported."""

from collections.abc import Iterator

from fallow.accounting.tables.counts import TRAINING, forward
from fallow.accounting.tables.models import LLAMA2, SHEARED, Config
from fallow.accounting.tables.table import Cell, Table

CONTEXT = 4096
PEAK = 312e12
"""Operations a second of an A100 in bf16, from its data sheet."""

_TABLE_7 = {"7B": 15_000 / 8, "2.7B": 77_000 / 16, "1.3B": 145_000 / 16}
_README = {"7B": 14_750 / 8, "2.7B": 79_306 / 16, "1.3B": 138_945 / 16}
"""Tokens a second and GPU: of the pruning stage for 7B, of continued pre-training for the targets."""


def models() -> dict[str, Config]:
    """Source and targets."""
    return {"7B": LLAMA2["LLaMA2-7B"], "2.7B": SHEARED["2.7B"], "1.3B": SHEARED["1.3B"]}


def per_token(config: Config) -> float:
    """Operations of a forward pass per token: causal attention counted at half, softmax left out."""
    parts = forward(config, CONTEXT)
    return parts.linear + parts.attention / 2 + parts.vocab


def compute() -> Table:
    """Operations a token, ratios, and the share of the hardware's peak that the reported throughput means."""
    return Table(
        name="shearing-flops",
        title="LLM-Shearing: why pruning is five times slower than training the target",
        source="Xia et al., Sheared LLaMA (arXiv 2310.06694): table 7; throughput of the released code's README",
        cells=tuple(_cells()),
        method=(
            "forward per token = 2 x matrices + 4 L d T / 2 (causal half) + 2 V d, T = 4096; training = 3 x forward",
            "ratio = 7B over target; in the paper: tokens a second and GPU of the target over those of the 7B pruning",
            "utilisation = training operations x tokens a second and GPU / 312e12",
        ),
        remarks=(
            "The pruning stage runs the 7B source, so it is as slow as training 7B; the gates leave no visible mark.",
            "A ratio of throughputs is not a ratio of operations: equal only where both runs use the hardware equally.",
        ),
    )


def _cells() -> Iterator[Cell]:
    operations = {name: per_token(config) for name, config in models().items()}
    for name, number in operations.items():
        yield Cell(row=name, column="forward a token, 1e9", paper=None, ours=number / 1e9)
    for name in ("1.3B", "2.7B"):
        ratio = operations["7B"] / operations[name]
        for source, tokens in (("table 7", _TABLE_7), ("README", _README)):
            paper = tokens[name] / tokens["7B"]
            equal = abs(ratio / paper - 1) < 0.01
            note = "throughput, not operations" if equal else "the runs use the hardware unequally: see utilisation"
            column = f"ratio, against throughput of {source}"
            yield Cell(row=f"7B over {name}", column=column, paper=paper, ours=ratio, note=note)
    for name, number in operations.items():
        share = 100 * TRAINING * number * _README[name] / PEAK
        yield Cell(row=name, column="utilisation of an A100 (README), %", paper=None, ours=share, digits=1)
