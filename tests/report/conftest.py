import json
from typing import Any

import pytest

ARMS = (
    "dense",
    "50% sparse",
    "75% sparse",
    "75% sparse, tuned sparse",
    "75% sparse, rate of dense",
    "dense, half",
    "x",
)


@pytest.fixture
def results() -> dict[str, Any]:
    """Seven arms with all that can occur: missing values, spread, remarks, ties, hostile texts."""
    columns = [
        {"key": "arm", "title": "arm"},
        {"key": "sparsity", "title": "sparsity", "unit": "%", "digits": 0, "scale": 0.01},
        {"key": "nonzero", "title": "non-zero parameters", "unit": "M", "scale": 1e6, "better": "low"},
        {"key": "flops", "title": "training FLOPs", "unit": "1e12", "digits": 1, "scale": 1e12, "better": "low"},
        {"key": "ratio", "title": "fewer FLOPs than dense", "unit": "x"},
        {"key": "ceiling", "title": "ceiling", "unit": "x"},
        {"key": "speed", "title": "speed", "unit": "tokens/s", "digits": 0, "better": "high"},
        {"key": "loss", "title": "loss after pre-training", "digits": 3, "better": "low"},
        {"key": "perplexity", "title": "perplexity on pairs", "better": "low"},
        {"key": "bleu", "title": "BLEU", "better": "high"},
        {"key": "bytes", "title": "weights + optimizer", "unit": "MB", "digits": 1, "scale": 1e6, "better": "low"},
    ]
    rows = [
        {
            "arm": arm, "sparsity": 0.25 * n, "nonzero": 4_312_576 - n * 1000, "flops": 5.92e13 / (n + 1),
            "ratio": 1.0 + n, "ceiling": 1.5, "speed": 11830 + n, "loss": 3.5 + n / 10,
            "perplexity": None if n == 4 else 9.81 + n, "bleu": {"mean": 14.2 - n, "spread": 0.125}, "bytes": 6.9e7,
            "note": "rate chosen by <sweep>" if n == 0 else "",
        }
        for n, arm in enumerate(ARMS)
    ]  # fmt: skip
    curves = [
        {
            "label": arm, "stage": "Pre-training", "kind": kind,
            "points": [[100 * i, 3.0 + 5.0 / (1 + i) + n / 10] for i in range(1, count)],
        }
        for n, arm in enumerate(ARMS[:3])
        for kind, count in (("train", 2000), ("valid", 10))
    ]  # fmt: skip
    samples = [
        {
            "context": "def f(x):\n    return x < 1 & True",
            "references": ["<script>alert(1)</script>", "A second one."],
            "outputs": {"dense": "A text.", "75% sparse": ""},
        }
    ]
    plain = {
        "recipe": {"name": "spdf <demo>", "description": "What was run & why.", "stages": [{"name": "a", "lr": 0.002}]},
        "columns": columns, "rows": rows, "curves": curves, "samples": samples,
        "notes": ["Rate chosen by a sweep > 3."],
    }  # fmt: skip
    return json.loads(json.dumps(plain))
