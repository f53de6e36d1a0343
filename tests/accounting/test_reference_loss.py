"""Reference losses: the published predictions of Sheared LLaMA, laws that are known, and data that fit none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.accounting.reference_loss import Law, Point, fit_law, fit_reference, fit_three
from fallow.errors import UserError

SIZES = (6_738_415_616, 13_015_864_320, 68_976_648_192)
TARGETS = (2_701_560_320, 1_345_423_360, 373_867_520)
DOMAINS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "cc": ((1.7520, 1.6680, 1.4621), (1.8712, 1.9643, 2.1401), 0.032),
    "github": ((0.6216, 0.5791, 0.4890), (0.6883, 0.7459, 0.8694), 0.048),
    "book": ((1.9063, 1.8242, 1.6450), (2.0325, 2.1393, 2.3625), 0.045),
    "stackexchange": ((1.4482, 1.3936, 1.2805), (1.5353, 1.6117, 1.7791), 0.049),
    "wiki": ((1.4844, 1.3945, 1.2118), (1.6297, 1.7590, 2.0470), 0.052),
    "arxiv": ((1.2637, 1.2109, 1.1148), (1.3560, 1.4449, 1.6637), 0.062),
    "c4": ((1.9219, 1.8486, 1.6848), (2.0328, 2.1251, 2.3139), 0.041),
}
"""Losses of Llama 2, predictions (Sheared LLaMA, table 6 and its code), deviation at 1.3B under noise of 0.005."""


def measured(domain: str) -> list[Point]:
    return [Point(num_parameters=n, loss=loss) for n, loss in zip(SIZES, DOMAINS[domain][0], strict=True)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_published_predictions_to_four_decimals(domain: str) -> None:
    law = fit_three(measured(domain))
    for size, expected in zip(TARGETS, DOMAINS[domain][1], strict=True):
        assert round(law.loss(Point(num_parameters=size)), 4) == expected


@pytest.mark.parametrize("domain", DOMAINS)
def test_error_bars(domain: str) -> None:
    fit = fit_reference(measured(domain), [Point(num_parameters=TARGETS[1])], noise=0.005, draws=4000)
    one = fit.predictions[0]
    assert one.deviation == pytest.approx(DOMAINS[domain][2], abs=0.002)
    assert one.low < one.loss < one.high
    assert 0.01 < fit.unsolved < 0.4
    assert any("have no solution" in remark for remark in fit.remarks)


def test_a_negative_constant_is_told() -> None:
    remarks = fit_reference(measured("cc"), []).remarks
    assert any("irreducible loss is -2.80, below zero" in remark for remark in remarks)


@given(
    st.floats(0.02, 1.5), st.floats(0.0, 3.0), st.floats(0.05, 2.0), st.floats(1.3, 20.0), st.floats(1.3, 20.0)
)  # fmt: skip
def test_three_points_of_a_law_give_it_back(exponent, constant, fall, first, second) -> None:
    scale = fall * 1e8**exponent
    law = Law(constant=constant, scale=scale, exponent=exponent)
    sizes = (1e8, 1e8 * first, 1e8 * first * second)
    points = [Point(num_parameters=n, loss=law.loss(Point(num_parameters=n))) for n in sizes]
    found = fit_three(points[::-1])  # the order does not matter
    assert found.exponent == pytest.approx(exponent, rel=1e-4)
    assert found.constant == pytest.approx(constant, abs=1e-4)


def chinchilla(noise: float = 0.0) -> tuple[Law, list[Point]]:
    law = Law(constant=1.69, scale=406.4, exponent=0.34, token_scale=410.7, token_exponent=0.28)
    points = []
    for i, size in enumerate((7e7, 1.6e8, 4.1e8, 1.4e9)):
        for j, tokens in enumerate((1e9, 1e10, 1e11)):
            off = noise * math.sin(7.0 * i + 3.0 * j)
            place = Point(num_parameters=size, num_tokens=tokens)
            points.append(Point(num_parameters=size, num_tokens=tokens, loss=law.loss(place) + off))
    return law, points


def test_sizes_and_tokens_are_fitted_together() -> None:
    law, points = chinchilla()
    found = fit_law(points)
    assert (found.constant, found.exponent, found.token_exponent) == pytest.approx((1.69, 0.34, 0.28), rel=1e-6)
    assert (found.scale, found.token_scale) == pytest.approx((law.scale, law.token_scale), rel=1e-5)


def test_a_wild_point_hardly_moves_a_robust_fit_and_is_named() -> None:
    law, points = chinchilla(noise=0.003)
    points[4] = Point(num_parameters=1.6e8, num_tokens=1e10, loss=points[4].loss + 0.5)
    target = Point(num_parameters=2.8e9, num_tokens=1e11)
    fit = fit_reference(points, [target], draws=50)
    assert fit.predictions[0].loss == pytest.approx(law.loss(target), abs=0.02)
    assert any("the model of 160,000,000 parameters is 0.4" in remark for remark in fit.remarks)


def test_the_interval_holds_the_truth() -> None:
    law, points = chinchilla(noise=0.003)
    target = Point(num_parameters=2.8e9, num_tokens=1e11)
    one = fit_reference(points, [target], draws=200).predictions[0]
    assert one.low < law.loss(target) < one.high
    assert one.high - one.low < 0.1


def test_five_models_of_equal_tokens() -> None:
    law = Law(constant=1.9, scale=100, exponent=0.25)
    sizes = (7e7, 1.6e8, 4.1e8, 1.4e9, 2.8e9)
    found = fit_law([Point(num_parameters=n, loss=law.loss(Point(num_parameters=n))) for n in sizes])
    assert (found.constant, found.scale, found.exponent) == pytest.approx((1.9, 100, 0.25), rel=1e-6)
    assert found.token_scale == 0


def test_losses_that_rise_with_size_do_not_fit_five_models_either() -> None:
    points = [Point(num_parameters=10.0**n, loss=2 + 0.1 * n) for n in range(7, 12)]
    assert any("do not fit the law" in remark for remark in fit_reference(points, [], draws=20).remarks)


def three(*losses: float, tokens: tuple[float, ...] = (0, 0, 0)) -> list[Point]:
    return [
        Point(num_parameters=n, loss=loss, num_tokens=t)
        for n, loss, t in zip((1e8, 1e9, 1e10), losses, tokens, strict=False)
    ]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (three(2.0, 2.1, 1.9), "do not fall with size"),
        (three(3.0, 2.8, 2.5), "allows less than 0.2000"),
        (three(3.0, 2.0, 2.0 - 1e-12), "hardly fall"),
        (three(3.0, 2.5), "2 models are given"),
        (three(3.0, 2.5, 2.2, tokens=(1e9, 1e10, 1e10)), "different numbers of tokens"),
        (three(3.0, -2.5, 2.2), "must be above 0"),
        ([*three(3.0, 2.5), Point(num_parameters=1e9, loss=2.4)], "two models have 1,000,000,000 parameters"),
    ],
)
def test_inputs_that_no_law_fits(points: list[Point], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_three(points)


def test_too_few_for_a_robust_fit_and_half_given_tokens() -> None:
    with pytest.raises(UserError, match="takes five or more"):
        fit_law(three(3.0, 2.5, 2.2))
    with pytest.raises(UserError, match="4 models are given"):
        fit_reference([*three(3.0, 2.5, 2.2), Point(num_parameters=1e11, loss=2.1)], [])
    some = [Point(num_parameters=10.0**n, loss=4 - 0.1 * n, num_tokens=1e9 * (n > 8)) for n in range(6, 12)]
    with pytest.raises(UserError, match="others have not"):
        fit_law(some)
