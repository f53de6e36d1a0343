from typing import Any

import pytest
import yaml

from fallow.hf.card import model_card

RECIPE = {"name": "spdf-demo", "description": "Sparse, then\n dense."}
STAGE = {
    "name": "tune", "label": "75% sparse | tuned <densely>", "method": {"name": "sparse", "sparsity": 0.75},
    "model": {"config": {}, "path": "", "stage": "pretrain"}, "dataset": "pairs", "optimizer": {"lr": 0.002},
    "batch": {"sequences": 16, "micro": 16},
}  # fmt: skip
RECORD: dict[str, Any] = {
    "training": {
        "steps": 120, "tokens": 61440, "tokens_per_second": 11201.4, "flops": 3.95e13, "flops_dense": 5.92e13,
        "flops_executed": 5.92e13, "reduction": 1.498, "ceiling": 1.53, "validation": {"loss": 2.5},
        "counts": {"positions": 4000, "stored": 1000, "trainable": 1000, "nonzero": 1000}, "memory": {"total": 16384},
    },
    "scores": {
        "split": "test", "loss": 2.3979, "bits_per_byte": 0.98765, "bleu": 0.124, "stride": 64,
        "parts": {"a": {"loss": 2.0, "perplexity": 7.3891}, "b": {"loss": 3.0, "bits_per_byte": 1.25}},
        "n_plus_one": {"a": {"loss": 1.5, "perplexity": 4.4817, "num_batches": 3}},
        "metrics": {
            "profile": "e2e", "script": "e2e-metrics", "scores": {"bleu": 0.124, "nist": 3.5},
            "variants": {"bleu": "mteval | lower case"}, "absent": {"meteor": "java is not installed"},
        },
        "num_contexts": 200,
        "decoding": {"words": "lora, 4 beams"}, "num_contexts_total": 812,
    },
    "data": {"pairs-train": {"read": 4000, "kept": 3990}},
}  # fmt: skip


def front(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    facts: dict[str, Any] = yaml.safe_load(matter)
    return facts


def test_front_matter_is_what_the_hub_reads() -> None:
    facts = front(model_card(RECIPE, STAGE, RECORD))
    assert facts == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["fallow", "sparse", "spdf-demo"],
    }
    tuned = {**STAGE, "model": {"path": "hub:openai-community/gpt2"}}
    assert front(model_card(RECIPE, tuned, RECORD))["base_model"] == "openai-community/gpt2"


@pytest.mark.parametrize(
    "line",
    [
        "# spdf-demo: 75% sparse \\| tuned &lt;densely>",
        "| method | sparse |",
        "| sparsity | 0.75 |",
        "| begins with | stage pretrain |",
        "| peak learning rate | 0.002 |",
        "| global batch | 16 sequences |",
        "| parameters | 4,000 |",
        "| density of the whole model | 0.2500 |",
        "| training FLOPs, needed | 3.95e+13 |",
        "| training FLOPs, executed | 5.92e+13 |",
        "| reduction, and its ceiling | 1.498x of 1.530x |",
        "| measured speed | 11,201 tokens/s |",
        "| pairs-train | read 4,000, kept 3,990 |",
        "| loss (test) | 2.3979 |",
        "| bits per byte (test) | 0.9877 |",
        "| a (test) | loss 2.0000, perplexity 7.3891 |",
        "| b (test) | loss 3.0000, bits per byte 1.2500 |",
        "| loss by windows | a new one every 64 tokens, every token counted once |",
        '| a, "N + 1" figure (test) | loss 1.5000, perplexity 4.4817, N = 3 |',
        "| bleu (test) | 0.1240 |",
        "| nist (test) | 3.5000 |",
        "| scored by | e2e: e2e-metrics |",
        "| bleu is | mteval \\| lower case |",
        "| meteor is absent | java is not installed |",
        "| texts by | lora, 4 beams |",
        "| contexts decoded | 200 of 812 |",
    ],
)
def test_what_was_recorded_is_said(line: str) -> None:
    assert line in model_card(RECIPE, STAGE, RECORD).splitlines()


def test_pairs_are_prompted_with_the_end_token() -> None:
    assert 'tokenizer("..." + tokenizer.eos_token' in model_card(RECIPE, STAGE, RECORD)
    assert "eos_token" not in model_card(RECIPE, STAGE, {**RECORD, "scores": {"loss": 1.0}})


def test_what_is_absent_is_left_out() -> None:
    card = model_card({"name": "r"}, {"name": "s", "model": {"config": {"model_type": "gpt2"}}}, {})
    assert "## Results" not in card
    assert "None" not in card
    assert "| begins with | random weights (gpt2) |" in card
    assert "from_pretrained" in card


def test_texts_of_others_make_no_links() -> None:
    """Pages that show a card turn [text](address) into a link, wherever it leads."""
    card = model_card({**RECIPE, "description": "[x](javascript:alert(1)) ![y](http://there)"}, STAGE, RECORD)
    assert r"\[x\](javascript:alert(1)) !\[y\](http://there)" in card
