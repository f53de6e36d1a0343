"""Prune, with a mixture that follows the losses, then continue with the optimizer's moments: a whole recipe, on as many
processes as there are.
"""

import json
import random
from pathlib import Path
from typing import Any

from fallow.config import from_dict
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe

COMMON = {
    "dataset": "text",
    "batch": {"sequences": 8, "micro": 4},
    "optimizer": {"lr": 1e-3},
    "validation": {"every": {"steps": 4}, "sequences": 8},
}
FOLLOW = {"rule": "released", "references": {"losses": {"a": 4.0, "b": 3.0}}}
SHEAR = {"name": "shear", "to": {"layers": 1, "hidden": 16, "heads": 2, "inner": 24}, "preset": "reachable"}
LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 32}


def write_text(folder: Path) -> None:
    """Text of two domains."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    for name, words in (("a", "seed field rain crop rest"), ("b", "soil year grain lies grows")):
        texts = [" ".join(draw.choices(words.split(), k=40)) for _ in range(40)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def recipe_at(folder: Path, output: str) -> Recipe:
    """The recipe on text that lies in a folder."""
    sources = [{"path": str(folder / f"{name}.jsonl"), "domain": name} for name in "ab"]
    settings: dict[str, Any] = {
        "name": "sheared",
        "device": "cpu",
        "output": str(folder / output),
        "tokenizer": {"vocab_size": 280},
        "datasets": {"text": {"kind": "text", "context": 16, "valid_share": 0.25, "sources": sources}},
        "stages": [
            {
                **COMMON,
                "name": "prune",
                "model": {"config": LLAMA},
                "method": {**SHEAR, "warmup": 12, "rate": 0.4, "multiplier_rate": 0.4, "draws": 3},
                "schedule": {"kind": "constant"},
                "budget": {"steps": 24},
                "checkpoint": {"every": {"steps": 5}},
                "mixture": FOLLOW,
            },
            {
                **COMMON,
                "name": "continue",
                "model": {"stage": "prune", "moments": True},
                "method": {"name": "dense"},
                "budget": {"steps": 8},
                "mixture": {**FOLLOW, "start": "prune"},
            },
        ],
    }
    return from_dict(Recipe, settings)


def shear(folder: Path, output: str) -> None:
    """Run it; several processes end their group with it."""
    run_recipe(recipe_at(folder, output), json=True)


def lines_of(folder: Path, stage: str, name: str = "log.jsonl") -> list[dict[str, Any]]:
    """A log of a stage."""
    return [json.loads(line) for line in (folder / stage / name).read_text().splitlines()]
