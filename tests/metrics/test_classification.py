"""Metrics of labels. Oracles: values by hand; scikit-learn and scipy where they are installed."""

import numpy as np
import pytest

from fallow.errors import UserError
from fallow.metrics.classification import accuracy, classification_metrics, f1, matthews, pearson, spearman


def numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_by_hand() -> None:
    labels, answers = numbers(1, 1, 1, 0, 0, 0, 1, 0), numbers(1, 0, 1, 0, 1, 0, 1, 0)
    # TP 3, FP 1, FN 1, TN 3
    assert accuracy(answers, labels) == 0.75
    assert f1(answers, labels) == 0.75
    assert matthews(answers, labels) == pytest.approx((3 * 3 - 1 * 1) / np.sqrt(4 * 4 * 4 * 4))
    assert pearson(numbers(1, 2, 3), numbers(2, 4, 6)) == pytest.approx(1.0)
    assert spearman(numbers(1, 2, 3, 10), numbers(1, 4, 9, 16)) == pytest.approx(1.0)
    assert spearman(numbers(1, 2, 2, 3), numbers(4, 3, 2, 1)) == pytest.approx(-0.9486832980505138)


def test_the_majority_class_is_worth_nothing_to_matthews() -> None:
    labels = numbers(*([1] * 69 + [0] * 31))
    assert matthews(np.ones(100), labels) == 0.0
    assert accuracy(np.ones(100), labels) == 0.69


def test_undefined_is_zero() -> None:
    ones = np.ones(4)
    assert pearson(ones, numbers(1, 2, 3, 4)) == spearman(ones, numbers(1, 2, 3, 4)) == 0.0
    assert f1(np.zeros(4), np.zeros(4)) == 0.0
    assert matthews(ones, ones) == 0.0


def test_refusals() -> None:
    with pytest.raises(UserError, match="3 answers to 2 labels"):
        classification_metrics(("accuracy",), np.ones(3), np.ones(2))
    with pytest.raises(UserError, match="0 answers to 0 labels"):
        classification_metrics(("accuracy",), np.ones(0), np.ones(0))
    with pytest.raises(UserError, match="1 of 2 answers are not a number"):
        classification_metrics(("pearson",), numbers(1, np.nan), np.ones(2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 3])
def test_peers(seed: int, classes: int) -> None:
    peers, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(seed)
    labels, answers = (draw.integers(classes, size=60).astype(np.float64) for _ in range(2))
    assert accuracy(answers, labels) == pytest.approx(peers.accuracy_score(labels, answers))
    assert matthews(answers, labels) == pytest.approx(peers.matthews_corrcoef(labels, answers))
    if classes == 2:
        assert f1(answers, labels) == pytest.approx(peers.f1_score(labels, answers))
    values = np.round(draw.normal(size=60) + labels, 1)  # with ties
    assert pearson(values, labels) == pytest.approx(stats.pearsonr(values, labels).statistic)
    assert spearman(values, labels) == pytest.approx(stats.spearmanr(values, labels).statistic)
