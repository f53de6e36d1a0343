"""The configuration of the model that each stage trains, read from recipes and folders; nothing is built."""

import json
from pathlib import Path
from typing import Any

from fallow.data.settings import TokenizerSettings
from fallow.errors import UserError
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

_DTYPES = ("dtype", "torch_dtype")


def config_of(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The configuration of a stage's model, `vocab_size` included.

    A model that is loaded is trained in float32, whatever its file holds; a new one in its configuration's `dtype`.

    Raises:
        UserError: the model or the tokenizer's size is not on this machine.
    """
    if stage.model.stage:
        return _without_dtype(config_of(recipe, recipe.stage(stage.model.stage)))
    if stage.model.path:
        return _without_dtype(_read(stage))
    config = dict(stage.model.config)
    if "vocab_size" not in config:
        config["vocab_size"] = vocabulary(recipe.tokenizer, stage)
    return config


def vocabulary(settings: TokenizerSettings, stage: Stage) -> int:
    """Number of tokens of a recipe's tokenizer.

    Raises:
        UserError: it is not on this machine.
    """
    if settings.vocab_size:
        return settings.vocab_size
    file = Path(settings.path) / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"model.config of stage {stage.name} has no vocab_size, and the tokenizer {settings.path} is not on this "
            f"machine. Write --stages.{stage.name}.model.config.vocab_size N"
        )
    content = json.loads(file.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]  # a mapping (BPE, WordPiece) or a list (Unigram)
    known = set(words) if isinstance(words, dict) else {word for word, _ in words}
    return len(known | {token["content"] for token in content.get("added_tokens", ())})


def _read(stage: Stage) -> dict[str, Any]:
    path = stage.model.path
    if path.startswith("hub:"):
        raise UserError(
            f"stage {stage.name} begins with {path}, which is not on this machine. Give a folder: "
            f"--stages.{stage.name}.model.path FOLDER (its config.json is enough)"
        )
    for name in ("fallow.json", "config.json"):
        file = Path(path) / name
        if file.is_file():
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return dict(content["config"]) if name == "fallow.json" else content
    raise UserError(f"stage {stage.name}: {path} holds no model: neither fallow.json nor config.json is there")


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _DTYPES}
