import typing

import pytest

from fallow.errors import UserError
from fallow.evaluate.evaluation import PROFILE_NAMES, Evaluation
from fallow.metrics import PROFILES, score
from fallow.metrics.scores import PLAIN, as_printed, bleu, score_texts

TEXTS = ["The cat sat on the mat .", "", "a dog ran over there to the cat"]
REFERENCES = [["the cat sat on a mat .", "The cat lay on the mat ."], ["nothing was said"], ["a dog ran to the cat"]]


def test_every_profile_can_be_named_in_a_recipe() -> None:
    named = typing.get_args(typing.get_type_hints(Evaluation)["profile"])
    assert named == PROFILE_NAMES == (PLAIN, *PROFILES)


@pytest.mark.parametrize("profile", ["e2e", "webnlg2017", "dart"])
def test_a_data_sets_profile_is_the_official_one(profile: str) -> None:
    found = score_texts(profile, TEXTS, REFERENCES)
    official = score(profile, TEXTS, REFERENCES)
    assert found["profile"] == profile
    assert found["scores"]["bleu"] == official.scores["bleu"]
    assert set(found["variants"]) == set(found["scales"]) == set(found["scores"])


def test_the_plain_profile_has_the_same_form() -> None:
    found = score_texts(PLAIN, TEXTS, REFERENCES, lowercase=True)
    assert found["scores"] == {"bleu": bleu(TEXTS, REFERENCES, lowercase=True)["bleu"]}
    assert "case:lc" in found["variants"]["bleu"]
    assert set(found) == set(score_texts("dart", TEXTS, REFERENCES))
    assert (found["num_hypotheses"], found["num_references"], found["num_empty"]) == (3, 4, 1)


def test_scores_as_papers_print_them() -> None:
    e2e, plain = score_texts("e2e", TEXTS, REFERENCES), score_texts(PLAIN, TEXTS, REFERENCES)
    assert as_printed(e2e)["bleu"] == pytest.approx(100 * e2e["scores"]["bleu"])
    assert as_printed(e2e)["nist"] == e2e["scores"]["nist"]
    assert as_printed(plain) == plain["scores"]


@pytest.mark.parametrize("profile", [PLAIN, "e2e"])
def test_numbers_that_differ_and_no_text(profile: str) -> None:
    with pytest.raises(UserError, match="numbers must agree"):
        score_texts(profile, TEXTS[:2], REFERENCES)
    with pytest.raises(UserError):
        score_texts(profile, [], [])
