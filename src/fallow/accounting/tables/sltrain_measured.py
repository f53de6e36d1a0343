"""SLTrain's measured memory at 7B: which bytes make it up."""

from fallow.accounting.tables.counts import matrices, num_parameters, planned
from fallow.accounting.tables.models import SLTRAIN
from fallow.accounting.tables.sltrain_memory import BF16, DENSITIES, INT64, RANKS, STATES, Parts, parts
from fallow.accounting.tables.table import Cell, Table

SIZE = "7B"
BLOCK = 256
"""Entries that share one 32-bit scale in an 8-bit optimizer state."""

_ADAM, _SLTRAIN = 67.4, 18.3  # figure 3, GB
_SAVING = 73.0  # %, abstract


def compute() -> Table:
    """The parts of the first and the last bar of figure 3 at 7B."""
    adam, sltrain = adam_bytes(SIZE), sltrain_bytes(SIZE)
    cells = [_cell("Adam", name, size, None) for name, size in adam.items()]
    cells.append(_cell("Adam", "sum", sum(adam.values()), _ADAM))
    cells += [_cell("SLTrain 8-bit per layer", name, size, None) for name, size in sltrain.items()]
    total = sum(sltrain.values())
    note = f"{_SLTRAIN - total / 1e9:.2f} GB more were measured: activations are not counted here"
    cells.append(_cell("SLTrain 8-bit per layer", "sum", total, _SLTRAIN, note))
    saving = 100 * (1 - total / sum(adam.values()))
    note = "from sums without activations"
    cells.append(Cell(row="SLTrain against Adam", column="saved, %", paper=_SAVING, ours=saving, note=note, digits=0))
    fused = sum(adam.values()) - adam["temporary of the update"]
    row = "SLTrain against Adam without the temporary"
    cells.append(Cell(row=row, column="saved, %", paper=None, ours=100 * (1 - total / fused), digits=0))
    cells += [_cell("SLTrain with 16-bit columns, A not copied", "sum", _compact(SIZE), None)]
    one = {"Adam": (adam_bytes("1B"), 16.3), "SLTrain": (sltrain_bytes("1B"), 6.8)}
    others = ", ".join(f"{name} {sum(found.values()) / 1e9:.1f} of {bar}" for name, (found, bar) in one.items())
    return Table(
        name="sltrain-measured",
        title="SLTrain: the measured memory of a 7B model, byte by byte",
        source="Han et al., SLTrain, NeurIPS 2024 (arXiv 2406.02214): figure 3, one A100-80G, abstract",
        cells=tuple(cells),
        method=(
            "Adam: 2 bytes x P for weights, gradients, two moments, and the list of temporaries of an update that "
            "handles all tensors at once",
            "SLTrain: 2 P weights + 8 nnz int64 indices + 2 P one-byte moments with a 32-bit scale every 256 entries "
            "+ 2 r d_in bytes a matrix for the scaled copy of A kept for backward; gradients are freed at once",
        ),
        remarks=(
            "Dense Adam is inflated by the temporary: an update that handles one tensor at a time needs none.",
            "8 bytes an index and the copies of A can be avoided: the last row.",
            f"Open: at 1B the same sums explain less (GB: {others}); the conditions of those bars are not published.",
        ),
    )


def adam_bytes(size: str) -> dict[str, int]:
    """Bytes of a dense model in bf16 at the peak of its update."""
    one = BF16 * num_parameters(SLTRAIN[size])
    parts_of_it = ("weights", "gradients", "first moment", "second moment", "temporary of the update")
    return dict.fromkeys(parts_of_it, one)


def sltrain_bytes(size: str) -> dict[str, int]:
    """Bytes of SLTrain with 8-bit states, updated layer by layer."""
    counted = _parts(size)
    total = counted.rest + counted.low_rank + counted.nnz
    return {
        "weights": BF16 * total,
        "indices": INT64 * counted.nnz,
        "moments": STATES * sum(size + 4 * -(-size // BLOCK) for size in _tensors(size)),
        "copies of A": BF16 * RANKS[size] * sum(layer.shape[1] for layer in matrices(SLTRAIN[size])),
    }


def _compact(size: str) -> int:
    """The same with 16-bit columns and 32-bit row pointers, and without the copies."""
    found = sltrain_bytes(size)
    rows = sum(layer.shape[0] + 1 for layer in matrices(SLTRAIN[size]))
    return found["weights"] + found["moments"] + 2 * _parts(size).nnz + 4 * rows


def _parts(size: str) -> Parts:
    return parts(SLTRAIN[size], RANKS[size], DENSITIES[size])


def _tensors(size: str) -> list[int]:
    """Sizes of the trained tensors: A, B and values of each matrix, and what stays dense."""
    inside = {f"{layer.name}.weight" for layer in matrices(SLTRAIN[size])}
    sizes = []
    for tensor in planned(SLTRAIN[size]).tensors:
        if tensor.name in inside:
            d_out, d_in = tensor.shape
            sizes += [RANKS[size] * d_in, RANKS[size] * d_out, int(DENSITIES[size] * tensor.numel)]
        else:
            sizes.append(tensor.numel)
    return sizes


def _cell(row: str, name: str, size: int, paper: float | None, note: str = "") -> Cell:
    digits = 2 if paper is None else 1
    return Cell(row=row, column=f"{name}, GB", paper=paper, ours=size / 1e9, note=note, digits=digits)
