"""How well answers agree with labels: accuracy, F1, and three correlations."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fallow.errors import UserError

Numbers = NDArray[np.float64]


def accuracy(answers: Numbers, labels: Numbers) -> float:
    """Share of answers that are the label."""
    return float(np.mean(answers == labels))


def f1(answers: Numbers, labels: Numbers) -> float:
    """F1 of class 1 (equivalent, duplicate): 2 TP / (2 TP + FP + FN); 0 without such labels and answers.

    >>> f1(np.array([1.0, 1, 0, 0]), np.array([1.0, 0, 1, 0]))
    0.5
    """
    hits = np.sum((answers == 1) & (labels == 1))
    wrong = np.sum((answers == 1) != (labels == 1))
    return float(2 * hits / (2 * hits + wrong)) if hits + wrong else 0.0


def matthews(answers: Numbers, labels: Numbers) -> float:
    """Matthews correlation (Gorodkin's form for more than two classes); 0 where answers or labels are all the same.

    With c_kl items of class k answered as l, t_k = sum_l c_kl, p_l = sum_k c_kl and n items in all:

        (n sum_k c_kk - sum_k t_k p_k) / sqrt((n^2 - sum_k p_k^2) (n^2 - sum_k t_k^2))

    0 when answers do not depend on labels, also for unequal classes: CoLA's majority class gives 0, not 69%.
    """
    classes = np.union1d(answers, labels)
    t = np.array([np.sum(labels == k) for k in classes], dtype=np.float64)
    p = np.array([np.sum(answers == k) for k in classes], dtype=np.float64)
    n = float(len(labels))
    below = (n * n - p @ p) * (n * n - t @ t)
    return float((n * np.sum(answers == labels) - t @ p) / math.sqrt(below)) if below else 0.0


def pearson(answers: Numbers, labels: Numbers) -> float:
    """Pearson correlation; 0 where one side does not vary, which leaves it undefined."""
    a, b = answers - answers.mean(), labels - labels.mean()
    below = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / below if below else 0.0


def spearman(answers: Numbers, labels: Numbers) -> float:
    """Spearman correlation: Pearson's of the ranks, equal values sharing the mean of their ranks."""
    return pearson(_ranks(answers), _ranks(labels))


METRICS: Mapping[str, Callable[[Numbers, Numbers], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
"""By the names that tasks use."""


def classification_metrics(names: tuple[str, ...], answers: Numbers, labels: Numbers) -> dict[str, float]:
    """The named metrics, each between -1 and 1.

    Args:
        names: keys of `METRICS`.
        answers: numbers of classes, or values.
        labels: as many.

    Raises:
        UserError: none, not equally many, or an answer that is not a number.
    """
    if len(answers) != len(labels) or not len(labels):
        raise UserError(
            f"there are {len(answers)} answers to {len(labels)} labels; they must be equally many, and some"
        )
    if not np.isfinite(answers).all():
        raise UserError(f"{int((~np.isfinite(answers)).sum())} of {len(answers)} answers are not a number")
    return {name: METRICS[name](answers, labels) for name in names}


def _ranks(values: Numbers) -> Numbers:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which], dtype=np.float64)
