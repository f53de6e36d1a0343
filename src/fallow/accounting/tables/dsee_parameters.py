"""DSEE: trainable parameters of the update U V + S."""

from collections.abc import Iterator

from fallow.accounting.tables.counts import matrices, num_parameters, sizes_of
from fallow.accounting.tables.models import BERT_BASE, GPT2_MEDIUM, ROBERTA_LARGE, Config
from fallow.accounting.tables.table import Cell, Table

ENTRIES = 16
"""Entries of S in each matrix."""

ADAPTED = 2
"""Matrices of a block that get an update: W_q and W_v."""


def low_rank(config: Config, rank: int) -> int:
    """Entries of U and V: 2 L r (d_out + d_in), W_q and W_v being square."""
    sizes = sizes_of(config)
    return ADAPTED * sizes.num_blocks * rank * 2 * sizes.hidden


def update(config: Config, rank: int) -> int:
    """Entries of U, V and S."""
    return low_rank(config, rank) + ADAPTED * sizes_of(config).num_blocks * ENTRIES


def compute() -> Table:
    """Updates of BERT-base, GPT-2 medium and RoBERTa-large."""
    return Table(
        name="dsee-parameters",
        title="DSEE: trainable parameters of its updates",
        source="Chen et al., DSEE, ACL 2023 (arXiv 2111.00160): tables 1 to 6; Hu et al., LoRA (arXiv 2106.09685): "
        "table 3",
        cells=tuple(_cells()),
        method=(
            "U V + S on W_q and W_v of every block: 2 L (r (d_out + d_in) + 16)",
            "the classifier, which is trained as well, is not counted, as in the paper",
        ),
        remarks=(
            "LoRA's 0.35M is its own count for what DSEE calls 0.39M; r (d_out + d_in) on W_q and W_v gives 393,216.",
            "DSEE's released code prints all entries of the dense S as trainable, since it counts before it masks.",
        ),
    )


def _cells() -> Iterator[Cell]:
    published: tuple[tuple[str, Config, int, float, int], ...] = (
        ("BERT-base, r 16", BERT_BASE, 16, 0.6, 1),
        ("BERT-base, r 8", BERT_BASE, 8, 0.3, 1),
        ("GPT-2 medium, r 4", GPT2_MEDIUM, 4, 0.39, 2),
        ("GPT-2 medium, r 2", GPT2_MEDIUM, 2, 0.20, 2),
    )
    for row, config, rank, paper, digits in published:
        ours, note = update(config, rank) / 1e6, "one digit in the paper" if digits == 1 else ""
        yield Cell(row=row, column="U, V and S, 1e6", paper=paper, ours=ours, note=note, digits=digits)
    note = "counted otherwise in LoRA's paper"
    ours = low_rank(GPT2_MEDIUM, 4) / 1e6
    yield Cell(row="GPT-2 medium, r 4", column="U and V, 1e6 (LoRA)", paper=0.35, ours=ours, note=note)
    for row, config, rank, share in (
        ("BERT-base, r 16", BERT_BASE, 16, 0.5),
        ("GPT-2 medium, r 4", GPT2_MEDIUM, 4, 0.1),
    ):
        total = num_parameters(config) - (_masked_head(config) if config is BERT_BASE else 0)
        ours = 100 * update(config, rank) / total
        yield Cell(
            row=row, column="share of the model, %", paper=share, ours=ours, note="one digit in the paper", digits=1
        )
    exact = update(ROBERTA_LARGE, 8)
    yield Cell(row="RoBERTa-large, r 8", column="U, V and S", paper=None, ours=exact, digits=0)
    sizes = sizes_of(BERT_BASE)
    dense = ADAPTED * sizes.num_blocks * sizes.hidden**2
    yield Cell(row="BERT-base", column="entries of a dense S", paper=None, ours=dense, digits=0)
    adapted = ADAPTED * sizes.num_blocks * sizes.hidden**2 / sum(layer.size for layer in matrices(BERT_BASE))
    row = "BERT-base, 50% pruned, update merged"
    yield Cell(row=row, column="sparsity left, %", paper=None, ours=100 * 0.5 * (1 - adapted), digits=1)


def _masked_head(config: Config) -> int:
    """What the masked language model has beyond the encoder: transform, norm and biases."""
    sizes = sizes_of(config)
    return sizes.hidden * (sizes.hidden + 3) + sizes.vocab
