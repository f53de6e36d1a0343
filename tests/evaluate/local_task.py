"""A benchmark task of lm-eval in a folder: YAML with its data beside it."""

import json
from pathlib import Path
from typing import Any

import yaml

ROWS = [
    {"q": f"the {a} {b}", "choices": ["sat on the mat", "ran", "looked at the dog over there"], "gold": i % 3}
    for i, (a, b) in enumerate((a, b) for a in ("cat", "dog", "mat") for b in ("and", "there", "over", "at"))
]
TASK: dict[str, Any] = {
    "task": "cats",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "cats.jsonl", "train": "cats.jsonl"}},
    "output_type": "multiple_choice",
    "training_split": "train",
    "test_split": "test",
    "doc_to_text": "{{q}}",
    "doc_to_target": "gold",
    "doc_to_choice": "choices",
    "target_delimiter": " ",
    "fewshot_delimiter": "\n",
    "fewshot_config": {"sampler": "first_n"},
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}


def write_tasks(folder: Path) -> Path:
    """A task, the same one with shots in its file, and a group of both."""
    (folder / "cats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "cats.yaml").write_text(yaml.safe_dump(TASK))
    (folder / "shown.yaml").write_text(yaml.safe_dump({**TASK, "task": "shown_cats", "num_fewshot": 1}))
    group = {"group": "pets", "task": ["cats", "shown_cats"], "aggregate_metric_list": [{"metric": "acc"}]}
    (folder / "pets.yaml").write_text(yaml.safe_dump(group))
    return folder
