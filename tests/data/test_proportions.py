import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.data.mixture import Mixture
from fallow.data.proportions import RULES, Following, Rule
from fallow.errors import UserError
from tests.data.helpers import Numbers

WEIGHTS = (0.67, 0.045, 0.045, 0.02, 0.045, 0.025, 0.15)
NAMES = ("cc", "github", "book", "stackexchange", "wiki", "arxiv", "c4")
SHARES = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=8)


def by_hand(shares: list[float], losses: list[float], references: list[float], rule: str) -> list[float]:
    """The two published forms, written out one number at a time."""
    grown = []
    for share, loss, reference in zip(shares, losses, references, strict=True):
        gap = loss - reference if rule == "released" else max(loss - reference, 0.0)
        grown.append(share * math.exp(gap))
    total = math.fsum(grown)
    floor = 1e-4 if rule == "released" else 0.0
    return [(1 - floor) * one / total + floor / len(shares) for one in grown]


@pytest.mark.parametrize("rule", ["paper", "released"])
@given(weights=SHARES, seed=st.integers(0, 1000))
def test_published_rules(rule: str, weights: list[float], seed: int) -> None:
    draw = np.random.default_rng(seed)
    shares = (np.array(weights) / sum(weights)).tolist()
    losses, references = draw.uniform(0.5, 4, len(shares)).tolist(), draw.uniform(0.5, 4, len(shares)).tolist()
    found = RULES[rule].follow(shares, shares, losses, references)
    np.testing.assert_allclose(found, by_hand(shares, losses, references, rule), rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(weights=SHARES, losses=st.lists(st.floats(0, 12), min_size=8, max_size=8), steps=st.integers(1, 30))
def test_shares_stay_shares(rule: str, weights: list[float], losses: list[float], steps: int) -> None:
    num = len(weights)
    following = Following([str(i) for i in range(num)], weights, RULES[rule], {str(i): 2.0 for i in range(num)})
    for _ in range(steps):
        following.observe({"loss": 0.0, **{f"loss/{i}": losses[i] for i in range(num)}})
        assert np.isfinite(following.shares).all() and (following.shares >= 0).all()
        assert math.isclose(following.shares.sum(), 1.0, abs_tol=1e-9)


def test_a_constant_gap_runs_away_under_the_published_rules_and_not_under_ours() -> None:
    """The reference's arithmetic: 64 updates with an excess gap of 0.05 multiply the odds by exp(3.2) = 25."""
    ends = {}
    for name, rule in RULES.items():
        following = Following(["a", "b"], [0.05, 0.95], rule, {"a": 2.0, "b": 2.0})
        for _ in range(64):
            following.observe({"loss": 2.0, "loss/a": 2.05, "loss/b": 2.0})
        a, b = following.shares
        ends[name] = (a / b) / (0.05 / 0.95)
    assert math.isclose(ends["paper"], math.exp(3.2), rel_tol=1e-9)
    assert 20 < ends["released"] < 30
    assert 1.2 < ends["stable"] < 3


def test_a_ceiling_holds_and_the_others_share_the_rest() -> None:
    rule = Rule(lowest_gap=0.0, step_size=10.0, floor=0.0, ceiling=2.0)
    found = rule.follow([0.1, 0.3, 0.6], [0.1, 0.3, 0.6], [9.0, 2.0, 2.0], [2.0, 2.0, 2.0])
    np.testing.assert_allclose(found, [0.2, 0.8 / 3, 1.6 / 3])


def test_a_domain_without_a_loss_keeps_its_share() -> None:
    following = Following(["a", "b", "c"], [1, 1, 2], RULES["paper"], {"a": 1.0, "b": 1.0, "c": 1.0})
    said = following.observe({"loss": 2.0, "loss/a": 2.0, "loss/b": math.nan})
    assert math.isclose(said["share/c"], 0.5) and math.isclose(said["share/b"], 0.25)
    assert "gap/b" not in said and "gap/c" not in said and said["gap/a"] == 1.0
    assert all(math.isfinite(value) for value in said.values())


def test_references_must_fit_the_domains() -> None:
    with pytest.raises(UserError, match="hold wikki, which is no domain of the data. Did you mean wiki"):
        Following(NAMES, WEIGHTS, RULES["paper"], {"wikki": 1.0})
    with pytest.raises(UserError, match="lack c4"):
        Following(NAMES, WEIGHTS, RULES["paper"], dict.fromkeys(NAMES[:-1], 1.0))
    with pytest.raises(UserError, match="finite"):
        Following(["a"], [1.0], RULES["paper"], {"a": math.nan})


def mixture(start: tuple[float, float] = (1.0, 1.0), rank: int = 0, world: int = 1) -> Mixture:
    sources = [("a", Numbers(40), start[0]), ("b", Numbers(40, first=100), start[1])]
    following = Following(["a", "b"], start, RULES["paper"], {"a": 1.0, "b": 1.0})
    return Mixture(sources, seed=3, batch=16, rank=rank, world=world, proportions=following)


def firsts(stream: Mixture, num: int) -> list[int]:
    return [int(row[0]) for _ in range(num) for batch in stream.next_batches(1) for row in batch.input_ids]


METRICS = {"loss": 2.0, "loss/a": 1.2, "loss/b": 3.0}


def test_samples_follow_the_shares() -> None:
    stream = mixture()
    before = np.mean([n >= 100 for n in firsts(stream, 30)])
    stream.observe(METRICS)
    after = np.mean([n >= 100 for n in firsts(stream, 30)])
    assert abs(before - 0.5) < 0.08
    assert abs(after - stream.proportions.shares[1]) < 0.08 and after > 0.8


def test_the_state_is_small_and_exact_and_independent_of_processes() -> None:
    whole = mixture()
    firsts(whole, 5), whole.observe(METRICS), firsts(whole, 3), whole.observe(METRICS)
    state = whole.state_dict()
    again = mixture()
    again.load_state_dict(state)
    assert set(state["shares"]) == {"a", "b"}
    ranks = [mixture(rank=rank, world=2) for rank in range(2)]
    for stream in ranks:
        stream.load_state_dict(state)
    expected = firsts(whole, 1)
    assert firsts(again, 1) == expected
    assert firsts(ranks[0], 1) == expected[0::2] and firsts(ranks[1], 1) == expected[1::2]


def test_another_rule_is_another_stream() -> None:
    other = Mixture(mixture().sources, seed=3, batch=16)
    with pytest.raises(UserError, match="belongs to another stream"):
        other.load_state_dict(mixture().state_dict())
