"""Model folders as commands take them."""

from pathlib import Path
from typing import Any

from fallow.cli.weights import Weights, settle
from fallow.errors import UserError

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def check_folder(folder: str) -> None:
    """Refuse what holds no model, before anything heavy is imported.

    Raises:
        UserError: the folder is absent, or neither a Hugging Face nor a fallow one.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder. Name the folder of a model, such as runs/demo/NAME/model")
    if (path / "config.json").is_file() or (path / "fallow.json").is_file():
        return
    inside = path / "model"
    hint = f"Did you mean {inside}?" if (inside / "config.json").is_file() else "A model's folder has a config.json"
    raise UserError(f"{path} holds no model. {hint}")


def open_model(
    folder: str, tokenizer: str = "", device: str = "", *, labels: bool = False, weights: Weights = "merged"
) -> tuple[Any, Any]:
    """The model of a folder, merged or not, in evaluation mode, and its tokenizer.

    Args:
        folder: of the model.
        tokenizer: its folder, when it is another one.
        device: where to put the model; empty for the best there is.
        labels: whether a classifier is needed; else a causal language model.
        weights: what becomes of an unmerged one; see `fallow.cli.weights.settle`.

    Raises:
        UserError: no tokenizer, one with more tokens than the model knows, weights that cannot be read, no such device,
            or a model of the other kind.
    """
    home = tokenizer or folder
    if not tokenizer and not any(Path(folder, name).is_file() for name in _TOKENIZERS):
        raise UserError(f"{folder} holds no tokenizer. Name the folder of one with --tokenizer")
    import torch
    from transformers.utils import logging

    from fallow import stock
    from fallow.causal import check_causal
    from fallow.data.tokenizer import load_tokenizer
    from fallow.evaluate.classification import check_classifier, pad_with
    from fallow.evaluate.prompts import check_vocabulary
    from fallow.folder import is_unmerged, load

    logging.disable_progress_bar()
    where = device_named(torch, device)
    if not is_unmerged(Path(folder)):
        stock.check_folder(Path(folder))  # before its tokenizer, which transformers would have remarks on
    words = load_tokenizer(home, end=not labels)
    model: Any = settle(load(folder), weights, where)
    (check_classifier if labels else check_causal)(model, folder)
    check_vocabulary(model, words)
    if labels:
        pad_with(model, words)
    return model.eval(), words


def device_named(torch: Any, name: str) -> Any:
    """The device of a flag; by default a GPU where there is one.

    Raises:
        UserError: torch does not know it, or does not see it.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device is {name}, which torch does not know. Write cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device is {name}, but torch sees no CUDA device here. Write cpu")
    return device
