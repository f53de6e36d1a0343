"""The head of a classifier: one output for each class of a task, or one value."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from fallow.conversion import merge
from fallow.data.batch import Dataset
from fallow.data.classification import ClassificationDataset
from fallow.data.task import Task
from fallow.errors import UserError, first_line
from fallow.evaluate.classification import classify, pad_with, pooled
from fallow.folder import build, is_unmerged, load
from fallow.integrity import check_model
from fallow.stock import check_stored, read_config, read_model
from fallow.train import Mesh
from fallow.train.objective import Objective, TextClass, TextValue

_FRESH = "pooler"  # between the blocks and the head; a model trained for filling gaps has none
_DECIDED = ("num_labels", "id2label", "label2id", "problem_type")


class LabelHead:
    """Classification and regression of whole texts: `AutoModelForSequenceClassification` for the task.

    A model that already tells these very classes apart keeps its head. Any other one gets a fresh head, and a fresh
    pooler where it has none; both depend on the seed alone.

    Args:
        task: says how many outputs there are, and what they mean.
    """

    counts = "texts"

    def __init__(self, task: Task) -> None:
        self.task = task

    def build(self, values: Mapping[str, Any]) -> nn.Module:
        """A model for the task with fresh weights."""
        for key in _DECIDED:
            if key in values:
                raise UserError(f"{key} has no effect, since the task {self.task.name} decides it. Remove it")
        return build({**values, **self._labels()}, _architecture(str(values.get("model_type", ""))))

    def undecided(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All but what is said of classes: another task may have others."""
        return {key: value for key, value in values.items() if key not in _DECIDED}

    def load(self, source: str, seed: int) -> nn.Module:
        """The model of a folder (classifier, language model or bare blocks) with a head for the task."""
        if not source.startswith("hub:") and is_unmerged(Path(source)):
            given: Any = merge(load(source).float())
            has_head = self._is_of(given.config, type(given).__name__)
        else:
            given, has_head = self._stock(source.removeprefix("hub:"))
        values = self.undecided(given.config.to_dict())
        torch.manual_seed(seed)
        model: Any = self.build({**values, "dtype": "float32"})
        if has_head:
            model.load_state_dict(given.state_dict())
        else:
            _copy_body(given, model, source)
        return cast(nn.Module, model)

    def check(self, model: nn.Module, source: str) -> None:
        """Every model with this head answers once for a text, whatever it sees."""

    def fits(self, model: nn.Module) -> bool:
        """Whether it tells the classes of the task apart."""
        stock: Any = model
        return self._is_of(stock.config, type(model).__name__)

    def adapt(self, model: nn.Module, tokenizer: Any) -> None:
        """Which token is padding: a causal model answers at the last one that is not."""
        pad_with(model, tokenizer)

    def objective(self, label_smoothing: float) -> Objective:
        """Cross-entropy of classes, squared error of values."""
        return TextValue() if self.task.is_regression else TextClass(label_smoothing)

    def validate(
        self, model: nn.Module, held_out: Mapping[str, Dataset], *, batch_size: int, max_batches: int, mesh: Mesh | None
    ) -> dict[str, float]:
        """Loss, score and metrics of the task."""
        found = {
            name: classify(
                model,
                cast(ClassificationDataset, dataset),
                batch_size=batch_size,
                max_batches=max_batches,
                mesh=mesh,
            )
            for name, dataset in held_out.items()
        }
        together = _plain(pooled(list(found.values())))
        if len(found) == 1:
            return together
        return {**together, **{f"{key}/{name}": x for name, part in found.items() for key, x in _plain(part).items()}}

    def _stock(self, source: str) -> tuple[Any, bool]:
        """A stock model as a classifier, and whether its head is one for this task."""
        from transformers import AutoModelForSequenceClassification

        check_model(source)
        try:
            config: Any = read_config(source)
            has_head = self._is_of(config, next(iter(config.architectures or []), ""))
            for key, value in self._labels().items():
                setattr(config, key, value)
            with torch.random.fork_rng(devices=[]), _quiet():  # a head that is drawn here is not used
                model, found = read_model(
                    AutoModelForSequenceClassification,
                    source,
                    config=config,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                )
        except UserError:
            raise
        except Exception as error:  # transformers and safetensors raise many kinds for damaged folders
            raise UserError(f"{source} holds a model that cannot be loaded: {first_line(error)}") from error
        check_stored(model, Path(source))
        prefix = f"{model.base_model_prefix}."
        body = sorted(name for name in found["missing_keys"] if name.startswith(prefix) and _FRESH not in name)
        if body:
            more = f" and {len(body) - 1} more" if len(body) > 1 else ""
            raise UserError(f"{source} does not hold all weights below the head: {body[0]}{more} would be random")
        for name in found["missing_keys"]:
            if name.startswith(prefix):
                model.get_parameter(name).fallow_fresh = True
        return model, has_head

    def _is_of(self, config: Any, architecture: str) -> bool:
        """Whether a model has a head for exactly this task."""
        labels = self._labels()
        is_classifier = architecture.endswith("ForSequenceClassification")
        names = {int(number): str(name) for number, name in config.id2label.items()}
        return is_classifier and config.num_labels == labels["num_labels"] and names == labels["id2label"]

    def _labels(self) -> dict[str, Any]:
        if self.task.is_regression:
            return {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
        names = dict(enumerate(self.task.labels))
        return {
            "num_labels": len(names),
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
            "problem_type": "single_label_classification",
        }


def _plain(part: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in part.items() if key != "num_examples"}


def _architecture(kind: str) -> str:
    """The class of a model type that gives one answer to a text."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES

    from fallow.errors import unknown

    if kind not in CONFIG_MAPPING_NAMES:
        raise unknown("model_type", kind, CONFIG_MAPPING_NAMES)
    if kind not in NAMES:
        raise UserError(f"transformers has no classifier of model_type {kind}. Use one such as bert, roberta or gpt2")
    return str(NAMES[kind])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' table of weights that are not in the file: what may be missing is checked here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _copy_body(given: Any, model: Any, source: str) -> None:
    """Everything below the head; a pooler that was not trained stays fresh."""
    weights = given.base_model.state_dict()
    drawn = {name for name, p in given.base_model.named_parameters() if getattr(p, "fallow_fresh", False)}
    with torch.no_grad():
        for name, tensor in model.base_model.state_dict().items():
            if name in weights and name not in drawn:
                tensor.copy_(weights[name])
            elif _FRESH not in name:
                raise UserError(f"{source} holds a {type(given).__name__}, which has no {name}. Use another model")
