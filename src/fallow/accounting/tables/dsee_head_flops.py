"""DSEE: operations that are left when heads of BERT-base are removed in every layer."""

from collections.abc import Iterator

from fallow.accounting.tables.counts import forward, matrices, sizes_of
from fallow.accounting.tables.models import BERT_BASE
from fallow.accounting.tables.table import Cell, Table

LENGTHS = (128, 512)
REMOVED = (3, 6, 9)
CLASSES = 2
_SAVED = 25.0  # %, abstract: "about"


def left(removed: int, length: int) -> float:
    r"""Share of the operations that remain with `removed` heads fewer in every layer.

        (k (4 d^2 + 2 T d) L + 2 d m L + (d^2 + c d) / T) / the same with k = 1,    k = 1 - removed / H

    in multiplications per token: rows of W_q, W_k, W_v and columns of the output projection go with their heads, and so
    do scores and values; the MLP stays, and so do pooler and classifier, which see one position.
    """
    sizes = sizes_of(BERT_BASE)
    attention = 2 * sum(layer.size for layer in matrices(BERT_BASE) if layer.group == "attention")
    with_heads = attention + forward(BERT_BASE, length).attention
    once = 2 * (sizes.hidden**2 + CLASSES * sizes.hidden) / length
    rest = 2 * sum(layer.size for layer in matrices(BERT_BASE) if layer.group == "mlp") + once
    return ((1 - removed / sizes.heads) * with_heads + rest) / (with_heads + rest)


def compute() -> Table:
    """What is left at two lengths, and what the abstract's quarter can mean."""
    return Table(
        name="dsee-head-flops",
        title="DSEE: FLOPs left after heads are removed from BERT-base",
        source="Chen et al., DSEE, ACL 2023 (arXiv 2111.00160): abstract, table 6",
        cells=tuple(_cells()),
        method=(
            "per token: linear layers and attention products of the encoder, without softmax; pooler and classifier",
            "once a sequence; 3, 6 or 9 of the 12 heads of every layer removed, the update merged",
        ),
        remarks=(
            "The paper prints no FLOPs by number of heads, and its code computes none.",
            "About 25% saved is the model with 9 heads fewer; that with 3 fewer saves a quarter of attention alone.",
        ),
    )


def _cells() -> Iterator[Cell]:
    for length in LENGTHS:
        for removed in REMOVED:
            row, column = f"{removed} heads removed", f"left at length {length}, %"
            yield Cell(row=row, column=column, paper=None, ours=100 * left(removed, length), digits=1)
    ours = 100 * (1 - left(9, LENGTHS[0]))
    note = '"about" in the paper; its scripts use length 128'
    column = f"saved at length {LENGTHS[0]}, %"
    yield Cell(row="9 heads removed", column=column, paper=_SAVED, ours=ours, note=note, digits=0)
    heads = sizes_of(BERT_BASE).heads
    note = "the other reading"
    yield Cell(
        row="3 heads removed", column="saved of attention, %", paper=_SAVED, ours=100 * 3 / heads, note=note, digits=0
    )
