"""Local tasks through lm-eval, offline. Oracle: log-probabilities summed by hand, in float64."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import fallow
from fallow.data import TokenizerSettings, train_tokenizer
from fallow.errors import UserError
from fallow.evaluate import harness
from fallow.evaluate.tasks import Tasks
from tests.evaluate.local_task import ROWS, TASK, write_tasks

pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
pytest.importorskip("accelerate", reason="accelerate is not installed (extra eval)")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_tasks`."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("cache"))
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("words") / "bpe"
    return train_tokenizer(TokenizerSettings(vocab_size=270), [" ".join(str(row) for row in ROWS)], folder)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_embd=32, n_head=2, n_positions=128, vocab_size=len(tokenizer), initializer_range=0.3,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def by_hand(model: Any, tokenizer: Any, shots: int) -> dict[str, float]:
    """Accuracy by the log-probability of each choice, and by that per character."""
    shown = "".join(f"{row['q']} {row['choices'][row['gold']]}\n" for row in ROWS[:shots])
    exact = model.double()
    right, right_norm = 0, 0
    for row in ROWS:
        sums = []
        context = tokenizer(shown + row["q"])["input_ids"]
        for choice in row["choices"]:
            whole = tokenizer(f"{shown}{row['q']} {choice}")["input_ids"]
            assert whole[: len(context)] == context
            with torch.no_grad():
                log_p = torch.log_softmax(exact(torch.tensor([whole])).logits[0], dim=-1)
            sums.append(sum(float(log_p[i - 1, whole[i]]) for i in range(len(context), len(whole))))
        right += max(range(3), key=lambda i: sums[i]) == row["gold"]
        right_norm += max(range(3), key=lambda i: sums[i] / len(row["choices"][i])) == row["gold"]
    model.float()
    return {"acc": right / len(ROWS), "acc_norm": right_norm / len(ROWS)}


@pytest.mark.parametrize("shots", [0, 3])
def test_equals_log_probabilities_by_hand(tasks: Path, model: Any, tokenizer: Any, shots: int) -> None:
    before = torch.get_rng_state(), random.getstate()
    found = harness.evaluate_tasks(model, tokenizer, Tasks(names=("cats",), path=str(tasks), shots=shots))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    cats = found["tasks"]["cats"]
    expected = by_hand(model, tokenizer, shots)
    assert cats["metrics"] == pytest.approx(expected)
    assert (cats["shots"], cats["num"], cats["metric"], cats["value"]) == (shots, 12, "acc", cats["metrics"]["acc"])
    share = expected["acc"]
    assert cats["stderr"]["acc"] == pytest.approx((share * (1 - share) / 11) ** 0.5)
    assert found["harness"].startswith("lm-eval ")


def test_a_converted_model_answers_as_its_merged_one(tasks: Path, model: Any, tokenizer: Any) -> None:
    import copy

    sparse = copy.deepcopy(model)
    fallow.convert(sparse, "sparse", sparsity=0.5)
    asked = Tasks(names=("cats",), path=str(tasks))
    unmerged = harness.evaluate_tasks(sparse, tokenizer, asked)["tasks"]
    assert unmerged == harness.evaluate_tasks(fallow.merge(sparse), tokenizer, asked)["tasks"]
    assert sparse.training is False


def test_groups_limits_and_shots_of_the_file(tasks: Path, model: Any, tokenizer: Any) -> None:
    found = harness.evaluate_tasks(model, tokenizer, Tasks(names=("pets",), path=str(tasks), limit=5))
    assert found["limit"] == 5 and set(found["tasks"]) == {"pets", "cats", "shown_cats"}
    assert [found["tasks"][name]["shots"] for name in ("cats", "shown_cats")] == [0, 1]
    assert (found["tasks"]["cats"]["num"], found["tasks"]["pets"]["num"]) == (5, 10)
    parts = [found["tasks"][name]["value"] for name in ("cats", "shown_cats")]
    assert found["tasks"]["pets"]["value"] == pytest.approx(sum(parts) / 2)


def test_data_are_beside_the_task_also_where_its_folder_is_relative(
    tasks: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tasks.parent)
    found = harness.evaluate_tasks(model, tokenizer, Tasks(names=("cats",), path=tasks.name, limit=2))
    assert found["tasks"]["cats"]["num"] == 2


def test_names_and_data_that_are_not_there(tasks: Path, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no task catz in .* Did you mean cats\?"):
        harness.require_tasks(Tasks(names=("catz",), path=str(tasks)))
    with pytest.raises(UserError, match=r"there is no task hellaswagg among .* Did you mean hellaswag\?"):
        harness.require_tasks(Tasks(names=("hellaswagg",)))
    with pytest.raises(UserError, match="which is not a folder"):
        harness.require_tasks(Tasks(names=("cats",), path=str(tmp_path / "absent")))
    lost = {**TASK, "dataset_kwargs": {"data_files": {"test": "absent.jsonl"}}}
    (tmp_path / "lost.yaml").write_text(yaml.safe_dump(lost))
    with pytest.raises(UserError, match=r"task cats cannot be loaded: .*absent.jsonl"):
        harness.evaluate_tasks(model, tokenizer, Tasks(names=("cats",), path=str(tmp_path)))


def test_every_task_of_the_preset_exists() -> None:
    harness.require_tasks(Tasks(preset="sheared-llama"))


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r'tasks need the package lm_eval. Install it: pip install "fallow\[eval\]"'):
        harness.require_tasks(Tasks(names=("x",)))
