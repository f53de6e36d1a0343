"""Prepare a tiny corpus and run a recipe of two stages from Python: sparse pre-training, then dense training.

python examples/tiny_recipe.py
"""

import inspect
import json
import tempfile
from pathlib import Path

from fallow.config import from_dict
from fallow.data import TextData, TextSource, TokenizerSettings, open_data, open_tokenizer
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import Recipe

MODEL = {"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32}
COMMON = {
    "dataset": "text",
    "budget": {"steps": 12},
    "batch": {"sequences": 8, "micro": 4},
    "optimizer": {"lr": 3e-3},
    "validation": {"every": {"steps": 6}, "max_batches": 4},
}


def prepare(folder: Path) -> None:
    """Paragraphs of a module as JSONL, then a tokenizer and shards: what `fallow prepare` does."""
    texts = inspect.getsource(inspect).split("\n\n\n")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = TextData(sources=(TextSource(path=str(corpus)),), context=32, valid_share=0.1)
    tokenizer = open_tokenizer(TokenizerSettings(vocab_size=320), [settings], folder)
    splits = open_data(settings, tokenizer, folder / "shards")
    for name, facts in splits.report.items():
        print(f"{name}: {facts['tokens']:,} tokens")


def recipe(folder: Path) -> Recipe:
    """The same mapping that a YAML file holds."""
    pretrain = {"name": "pretrain", "model": {"config": MODEL}, "method": {"name": "sparse", "sparsity": 0.75}}
    densify = {"name": "densify", "model": {"stage": "pretrain"}, "method": {"name": "dense"}}
    document = {
        "name": "tiny",
        "output": str(folder / "run"),
        "device": "cpu",
        "tokenizer": {"path": str(folder / "tokenizer")},
        "datasets": {
            "text": {
                "kind": "text",
                "sources": [{"path": str(folder / "shards" / "corpus-train")}],
                "valid": [{"path": str(folder / "shards" / "corpus-valid")}],
                "context": 32,
            }
        },
        "stages": [{**pretrain, **COMMON}, {**densify, **COMMON}],
    }
    return from_dict(Recipe, document)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        results = run_recipe(recipe(folder))  # once more would find both stages finished
        for name, stage in results["stages"].items():
            print(f"{name}: validation loss {stage['scores']['loss']:.3f}, kept in {name}/model")


if __name__ == "__main__":
    main()
