import contextlib
import math

import pytest

from fallow.errors import UserError
from fallow.metrics import PROFILES, score

TEXTS = ["the cat sat on the mat .", "", "a dog ran far away ."]
REFERENCES = [["the cat sat on a mat .", "a cat sat ."], ["it is late .", ""], ["a dog ran away .", ""]]
KEYS = {"bleu", "nist", "rouge_l", "cider", "ter", "chrf"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_every_key(profile: str) -> None:
    found = score(profile, TEXTS, REFERENCES)
    assert KEYS <= set(found.scores) == set(found.variants) == set(found.scales)
    assert set(found.absent) == {"meteor"} and "Java" in found.absent["meteor"]
    assert (found.num_hypotheses, found.num_references, found.num_empty) == (3, 4, 1)
    assert found.to_dict()["profile"] == profile


@pytest.mark.parametrize("profile", PROFILES)
def test_equal_texts_are_perfect_and_empty_ones_worth_nothing(profile: str) -> None:
    texts = ["the cat sat on the mat .", "a dog ran far away from here ."]
    same = score(profile, texts, [[text] for text in texts]).scores
    full = 1 if profile == "e2e" else 100
    assert same["bleu"] == pytest.approx(full) and same["ter"] == 0
    assert (
        same["rouge_l"] == pytest.approx(1) and same["chrf"] == pytest.approx(1) and same["cider"] == pytest.approx(10)
    )
    nothing = score(profile, ["", ""], [[text] for text in texts]).scores
    assert (nothing["bleu"], nothing["ter"]) == (0, 1)
    assert max(nothing[key] for key in ("rouge_l", "chrf", "cider", "nist")) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "text", ["x", "\u00a0", "\u3000 \u200b", "???", "&amp;", "<skipped>", "\U0001f642", "(", "\u0301", "0"]
)
def test_odd_texts_give_numbers(profile: str, text: str) -> None:
    found = score(profile, [text, TEXTS[0]], [["a", text + " b"], REFERENCES[0]], segments=True)
    assert all(math.isfinite(value) for value in found.scores.values())
    assert all(math.isfinite(value) for values in found.segments.values() for value in values)


def test_nist_by_hand() -> None:
    # Of 4 tokens of the reference "a" is 2 and "b" 1: 1 and 2 bits; after "a" comes "b" in one case of two: 1 bit.
    found = score("e2e", ["a b"], [["a b c a"]], only=["nist"]).scores["nist"]
    penalty = math.exp(-math.log(2) / math.log(1.5) ** 2 * math.log(2 / 4) ** 2)
    assert found == pytest.approx(penalty * ((1 + 2) / 2 + 1 / 1))


def test_nist_of_the_scripts_differs_where_numbers_of_references_do() -> None:
    texts = ["a b c d e", "c d e f g"]  # 10 tokens, against 17 / 1.5 or 8 + 4.5
    references = [["a b c d e f g h"], ["c d e f g", "c d e f"]]
    found = score("e2e", texts, references, only=["nist", "nist_pymteval"]).scores
    penalties = [math.exp(-math.log(2) / math.log(1.5) ** 2 * math.log(10 / r) ** 2) for r in (17 / 1.5, 8 + 4.5)]
    assert found["nist"] / found["nist_pymteval"] == pytest.approx(penalties[0] / penalties[1])


def test_a_missing_reference_is_a_line_of_length_0_to_multi_bleu() -> None:
    text, reference = "a b c d", "a b c d e f g h i"
    alone = score("dart", [text], [[reference]], only=["bleu"]).scores["bleu"]
    beside = score("dart", [text], [[reference, ""]], only=["bleu"]).scores["bleu"]
    assert alone == pytest.approx(100 * math.exp(1 - 9 / 4)) and beside == pytest.approx(100)


def test_more_references_than_the_script_reads_are_left_out() -> None:
    texts, references = ["a b c d e"], [["a b c d x", "a b", "y", "a b c d e"]]
    assert score("dart", texts, references, only=["ter"]).scores["ter"] > 0
    assert score("webnlg2020", texts, references, only=["ter"]).scores["ter"] == 0


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        (["a"], [["a"], ["b"]], "1 hypotheses but references for 2"),
        ([], [], "the input is empty"),
        (["a", "b"], [["a"], ["", " "]], "hypothesis 2 has no reference"),
        (["a", "b"], [["a"], []], "hypothesis 2 has no reference"),
        (["a"], ["a"], "lists of texts"),
        ("a", [["a"]], "lists of texts"),
        (["a", None], [["a"], ["b"]], "NoneType, not a text"),
    ],
)
def test_mistakes(hypotheses: list[str], references: list[list[str]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        score("e2e", hypotheses, references)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UserError, match="Did you mean"):
        score("webnlg2018", ["a"], [["a"]])
    with pytest.raises(UserError, match='Did you mean "meteor"'):
        score("e2e", ["a"], [["a"]], only=["metoer"])


ODD_TEXTS = (
    "",
    "\u200b",
    "<skipped>",
    "\u0301",
    "\x00",
    "\u2028",
    "\x85 \x85",
    "&quot;",
    ".",
    "a",
    "0",
    "\ufeff",
    "\ud83d",
)


@pytest.mark.parametrize("profile", ["e2e", "webnlg2017", "webnlg2020", "dart"])
def test_texts_without_a_word_are_scored_or_refused_in_one_line(profile: str) -> None:
    for metric in ("bleu", "nist", "rouge_l", "cider", "ter", "chrf"):
        for hypothesis in ODD_TEXTS:
            for reference in ODD_TEXTS:
                with contextlib.suppress(UserError):
                    found = score(profile, [hypothesis], [[reference]], only=[metric], segments=True)
                    assert all(math.isfinite(value) for value in found.scores.values()), (metric, hypothesis, reference)
    with pytest.raises(UserError, match="hypothesis 2 has no reference"):
        score("e2e", ["a", "b"], [["a"], ["<skipped>"]], only=["ter"])
    with pytest.raises(UserError, match="no reference has a word in it, as NIST cuts texts"):
        score("e2e", ["a"], [["<skipped>"]], only=["nist"])
