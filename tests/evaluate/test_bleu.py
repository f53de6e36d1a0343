import os
import sys
from pathlib import Path

import pytest
import sacrebleu
from transformers import GPT2LMHeadModel

from fallow.errors import UserError
from fallow.evaluate import pairs
from fallow.evaluate.decoding import Decoding
from fallow.metrics.scores import bleu

HYPOTHESES = ["the cat sat on the mat", "a dog runs over there", "birds fly high in the sky"]
REFERENCES = [
    ["the cat is on the mat", "the cat sat on a mat"],
    ["a dog is running over there"],
    ["Birds fly high in the blue sky", "birds were flying", "high in the sky"],
]


def test_one_reference_each_equals_sacrebleu() -> None:
    first = [group[0] for group in REFERENCES]
    ours = bleu(HYPOTHESES, [[text] for text in first])
    assert ours["bleu"] == sacrebleu.corpus_bleu(HYPOTHESES, [first]).score
    assert ours["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_varying_numbers_of_references() -> None:
    """Repeating a reference changes neither clipped counts nor the closest length, so padding is an oracle."""
    padded = [[*group, *[group[0]] * (3 - len(group))] for group in REFERENCES]
    streams = [[group[n] for group in padded] for n in range(3)]
    ours = bleu(HYPOTHESES, REFERENCES)
    assert ours["bleu"] == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, streams).score, abs=1e-12)
    assert "nrefs:var" in ours["signature"]
    assert ours["bleu"] > bleu(HYPOTHESES, [group[:1] for group in REFERENCES])["bleu"]


def test_case_is_named_in_the_signature() -> None:
    cased, lowered = (bleu(HYPOTHESES, REFERENCES, lowercase=flag) for flag in (False, True))
    assert "case:mixed" in cased["signature"]
    assert "case:lc" in lowered["signature"]
    assert lowered["bleu"] > cased["bleu"]


def test_an_empty_text_counts_against_the_score() -> None:
    assert bleu(["", *HYPOTHESES[1:]], REFERENCES)["bleu"] < bleu(HYPOTHESES, REFERENCES)["bleu"]


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 texts but references for 2"),
        ([], [], "at least one text"),
        (["a", "b"], [["a"], []], "text 2 has none"),
        (["a", "b"], [["a"], [" "]], "text 2 has none"),
    ],
)
def test_bad_input(hypotheses: list[str], references: list[list[str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bleu(hypotheses, references)


def test_without_sacrebleu_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sacrebleu"]:
        monkeypatch.delitem(sys.modules, name)

    class Missing:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.partition(".")[0] == "sacrebleu":
                raise ModuleNotFoundError(f"No module named '{name}'", name="sacrebleu")

    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    with pytest.raises(UserError, match=r'pip install "fallow\[eval\]"'):
        bleu(["a"], [["a"]])


def test_the_official_value_of_a_published_system() -> None:
    """TGen on the E2E test set: 0.6593 by the official script, which ignores case."""
    folder = Path(os.environ.get("FALLOW_DEV_DATA", Path(__file__).parents[3] / "shared")) / "data/metrics/e2e_tgen"
    if not folder.is_dir():
        pytest.skip(f"development data is not at {folder}")
    outputs = (folder / "outputs.txt").read_text().splitlines()
    blocks = [block.splitlines() for block in (folder / "references.txt").read_text().strip().split("\n\n")]
    assert bleu(outputs, blocks, lowercase=True)["bleu"] == pytest.approx(65.93, abs=0.05)


def test_pairs_are_chosen_evenly_generated_and_scored(gpt2: GPT2LMHeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def generate(_: object, __: object, contexts: list[str], *args: object, **kwargs: object) -> list[str]:
        asked.extend(contexts)
        return [f"the text about {context} is here" for context in contexts]

    class Ends:
        eos_token_id = 5

    monkeypatch.setattr(pairs, "generate_pairs", generate)
    groups = [(f"c{n}", (f"the text about c{n} is here", "another")) for n in range(10)]
    scores = pairs.evaluate_pairs(gpt2, Ends(), groups, Decoding(max_contexts=4))
    assert asked == ["c0", "c2", "c5", "c7"]
    found = scores.to_dict()
    assert found["bleu"] == found["metrics"]["scores"]["bleu"] == pytest.approx(100)
    assert (found["num_contexts"], found["num_contexts_total"]) == (4, 10)
    assert found["decoding"]["words"] == "generate, greedy, at most 64 new tokens"
    assert found["decoding"]["stops"] == [5]
    assert found["decoding"]["decoder"] == "generate"
    assert scores.samples(1) == [
        {"context": "c0", "references": ["the text about c0 is here", "another"], "output": "the text about c0 is here"}
    ]
