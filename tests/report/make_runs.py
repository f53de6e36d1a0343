"""Results of runs made by hand, with numbers whose means one can check in the head."""

import json
from pathlib import Path
from typing import Any


def record(
    loss: float, *, flops: float = 3e6, tokens: int = 300, sizes: tuple[int, int] = (400, 200)
) -> dict[str, Any]:
    """What a finished stage measured; the sizes are bytes of weights and optimizer."""
    part = {"weights": sizes[0], "optimizer": sizes[1], "indices": 7, "gradients": 99}
    zero = dict.fromkeys(part, 0)
    memory = {"layers": part, "rest": zero}
    return {
        "training": {"steps": 3, "tokens": tokens, "flops": flops, "memory": memory, "seconds": 60.0, "loss": loss + 1},
        "scores": {"loss": loss},
    }


def results(seed: int, loss: float, *, name: str = "demo", **changes: Any) -> dict[str, Any]:
    """A run of two stages on two data sets, of which every curve falls to `loss`."""
    stages = [
        {"name": "pre", "label": "sparse", "dataset": "text", "seed": seed, "model": {"config": {"n": 1}, "stage": ""}},
        {"name": "tune", "label": "tuned", "dataset": "pairs", "seed": seed, "model": {"config": {}, "stage": "pre"}},
    ]
    recipe = {
        "name": name, "description": "What & why.", "seed": seed, "output": f"runs/{seed}", "device": "cpu",
        "datasets": {"text": {"kind": "text"}, "pairs": {"kind": "pairs"}}, "stages": stages,
    }  # fmt: skip
    row = {"arm": "tuned", "stages": ["pre", "tune"], "flops": 5e6, "loss": loss, "bleu": None}
    curves = [
        {"label": label, "stage": data, "kind": kind, "points": [[100, loss + 2], [200, loss + 1], [300, loss]]}
        for label, data in (("sparse", "text"), ("tuned", "pairs"))
        for kind in ("train", "valid")
    ]
    plain = {
        "recipe": {**recipe, **changes},
        "columns": [
            {"key": "arm", "title": "arm"},
            {"key": "flops", "title": "FLOPs", "scale": 1e6},
            {"key": "loss", "title": "loss", "digits": 3, "better": "low"},
        ],
        "rows": [row],
        "curves": curves,
        "notes": ["The same remark."],
        "stages": {"pre": record(loss + 0.5), "tune": record(loss, flops=2e6)},
    }  # fmt: skip
    return json.loads(json.dumps(plain))


def write(folder: Path, plain: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(plain))
    return folder


def without_the_last_stage(plain: dict[str, Any]) -> dict[str, Any]:
    """The same run before its second stage began."""
    del plain["stages"]["tune"]
    plain["curves"] = [curve for curve in plain["curves"] if curve["label"] == "sparse"]
    plain["rows"] = [{**plain["rows"][0], "arm": "sparse", "stages": ["pre"]}]
    return plain
