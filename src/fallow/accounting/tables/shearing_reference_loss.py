"""LLM-Shearing, table 6: the losses that sampling of the data is steered by."""

from collections.abc import Iterator

from fallow.accounting.reference_loss import Point, ReferenceFit, fit_reference
from fallow.accounting.tables.counts import num_parameters
from fallow.accounting.tables.models import LLAMA2, SHEARED
from fallow.accounting.tables.table import Cell, Table

NOISE = 0.005
"""Standard deviation that the error bars assume for each measured loss, in nats."""

MEASURED = {
    "cc": (1.7520, 1.6680, 1.4621),
    "github": (0.6216, 0.5791, 0.4890),
    "book": (1.9063, 1.8242, 1.6450),
    "stackexchange": (1.4482, 1.3936, 1.2805),
    "wiki": (1.4844, 1.3945, 1.2118),
    "arxiv": (1.2637, 1.2109, 1.1148),
    "c4": (1.9219, 1.8486, 1.6848),
}
"""Losses of Llama 2 with 7B, 13B and 70B: the input of the fit."""

PREDICTED = {
    "2.7B": (1.8712, 0.6883, 2.0325, 1.5353, 1.6297, 1.3560, 2.0328),
    "1.3B": (1.9643, 0.7459, 2.1393, 1.6117, 1.7590, 1.4449, 2.1251),
    "370M": (2.1401, 0.8694, 2.3625, 1.7791, 2.0470, 1.6637, 2.3139),
}
"""By target, in the order of the domains."""


def compute() -> Table:
    """Predictions of seven domains for three targets, with error bars."""
    return Table(
        name="shearing-reference-loss",
        title="LLM-Shearing: reference losses predicted from Llama 2",
        source="Xia et al., Sheared LLaMA (arXiv 2310.06694): table 6, with the four decimals of its scripts",
        cells=tuple(_cells()),
        method=(
            "L(N) = C + A N^-alpha through the losses of 7B, 13B and 70B; alpha by bisection, A and C by subtraction",
            "N counts all parameters, both embeddings included; no starting point is needed",
            f"error bar: standard deviation of the prediction under noise of {NOISE} nat in each of the three losses",
        ),
        remarks=(
            "Three models leave nothing over to judge the fit by; the error bars are as large as the gaps that steer "
            "sampling.",
            "A negative constant (cc) says that the law does not hold down to infinite size.",
            "Noisy inputs through which no power law passes are left out of the error bar; their share is a column.",
        ),
    )


def fit(domain: str) -> ReferenceFit:
    """The power law of a domain with its predictions for the targets."""
    sizes = (num_parameters(config) for config in LLAMA2.values())
    points = [Point(num_parameters=size, loss=loss) for size, loss in zip(sizes, MEASURED[domain], strict=True)]
    targets = [Point(num_parameters=num_parameters(config)) for config in SHEARED.values()]
    return fit_reference(points, targets, noise=NOISE)


def _cells() -> Iterator[Cell]:
    for number, domain in enumerate(MEASURED):
        found = fit(domain)
        for target, prediction in zip(SHEARED, found.predictions, strict=True):
            paper = PREDICTED[target][number]
            note = f"+- {prediction.deviation:.3f}"
            yield Cell(row=domain, column=f"{target}, nats", paper=paper, ours=prediction.loss, note=note, digits=4)
        for target, prediction in zip(SHEARED, found.predictions, strict=True):
            yield Cell(row=domain, column=f"{target}, error bar", paper=None, ours=prediction.deviation, digits=3)
        yield Cell(row=domain, column="alpha", paper=None, ours=found.law.exponent, digits=3)
        yield Cell(row=domain, column="constant, nats", paper=None, ours=found.law.constant, digits=3)
        yield Cell(row=domain, column="noisy inputs without a law, %", paper=None, ours=100 * found.unsolved, digits=0)
