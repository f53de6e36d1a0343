"""The configuration of the model that each stage trains, read from recipes and folders; nothing is built."""

import json
from pathlib import Path
from typing import Any

from fallow.data.settings import TokenizerSettings
from fallow.errors import UserError
from fallow.files import read_json
from fallow.methods.base import ChangesShape
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage
from fallow.shearing.target import resized_config

_DTYPES = ("dtype", "torch_dtype")


def config_of(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The configuration of a stage's model, `vocab_size` included.

    A model that is loaded is trained in float32, whatever its file holds; a new one in its configuration's `dtype`;
    either in bfloat16 where the optimizer's `weights` say so.

    Raises:
        UserError: the model or the tokenizer's size is not on this machine.
    """
    config = _source(recipe, stage)
    return {**config, "dtype": "bfloat16"} if stage.trains and stage.update.weights == "bf16" else config


def _source(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    if stage.model.stage:
        earlier = recipe.stage(stage.model.stage)
        config = _without_dtype(leaves(earlier, config_of(recipe, earlier)))
    elif stage.model.path:
        config = _without_dtype(read_config(stage))
    else:
        config = dict(stage.model.config)
        if "vocab_size" not in config:
            config["vocab_size"] = vocabulary(recipe.tokenizer, stage)
    return begins_with(stage, config)


def begins_with(stage: Stage, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a stage trains, from that of its source: another one if the model is cut first.

    Raises:
        UserError: the source cannot be cut to the target.
    """
    if stage.model.cut is None:
        return config
    try:
        return resized_config(config, stage.model.cut.to)
    except UserError as error:
        raise UserError(f"stage {stage.name}: model.cut.to: {error}") from None


def leaves(stage: Stage, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a stage's finished model, from that of the model it trains.

    Raises:
        UserError: its method cannot work on such a model.
    """
    try:
        return stage.method.output_config(config) if isinstance(stage.method, ChangesShape) else dict(config)
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None


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


def read_config(stage: Stage) -> dict[str, Any]:
    """The configuration in the folder that a stage begins with.

    Raises:
        UserError: it is not on this machine.
    """
    path = stage.model.path
    if path.startswith("hub:"):
        raise UserError(
            f"stage {stage.name} begins with {path}, which is not on this machine. Give a folder: "
            f"--stages.{stage.name}.model.path FOLDER (its config.json is enough)"
        )
    for name in ("fallow.json", "config.json"):
        file = Path(path) / name
        if file.is_file():
            content = read_json(file, _OTHER)
            config = content.get("config") if name == "fallow.json" else content
            if not isinstance(config, dict):
                raise UserError(f"{file} is damaged (it has no config). {_OTHER}")
            return config
    raise UserError(f"stage {stage.name}: {path} holds no model: neither fallow.json nor config.json is there")


_OTHER = "Give the folder of another model"


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _DTYPES}
