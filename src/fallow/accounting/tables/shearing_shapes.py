"""LLM-Shearing: parameters of the source models, the targets and the small models to try it with."""

from fallow.accounting.tables.counts import num_parameters, sizes_of
from fallow.accounting.tables.models import LLAMA2, PYTHIA, SHEARED
from fallow.accounting.tables.table import Cell, Table

PARAMETERS = {
    "LLaMA2-7B": 6_738_415_616, "LLaMA2-13B": 13_015_864_320, "LLaMA2-70B": 68_976_648_192,
    "2.7B": 2_701_560_320, "1.3B": 1_345_423_360, "370M": 373_867_520,
    "pythia-70m": 70_426_624, "pythia-160m": 162_322_944, "pythia-410m": 405_334_016,
    "pythia-1.4b": 1_414_647_808, "pythia-2.8b": 2_775_208_960,
}  # fmt: skip


def compute() -> Table:
    """Parameters of eleven shapes, and the gates of the source."""
    cells = [
        Cell(row=name, column="parameters", paper=PARAMETERS[name], ours=num_parameters(config), digits=0)
        for name, config in {**LLAMA2, **SHEARED, **PYTHIA}.items()
    ]
    cells.append(Cell(row="LLaMA2-7B", column="gates", paper=None, ours=num_gates("LLaMA2-7B"), digits=0))
    return Table(
        name="shearing-shapes",
        title="LLM-Shearing: parameters of sources and targets",
        source="Xia et al., Sheared LLaMA (arXiv 2310.06694) and its code; the configurations of Llama 2 and Pythia",
        cells=tuple(cells),
        method=(
            "sum of all weights, embedding and head both counted (they are not tied)",
            "gates = layers x heads + layers x inner width + layers + hidden width",
        ),
        remarks=("The head size of the source, 128, is kept: heads of a target = its hidden width / 128.",),
    )


def num_gates(name: str) -> int:
    """Gates of heads, of intermediate units, of layers, of hidden units."""
    sizes = sizes_of(LLAMA2[name])
    return sizes.num_blocks * (sizes.heads + sizes.inner + 1) + sizes.hidden
