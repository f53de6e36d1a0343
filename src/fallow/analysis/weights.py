"""The weights of a model folder, one tensor at a time."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fallow.analysis.families import Family, family_of, split
from fallow.errors import UserError
from fallow.folder import is_unmerged, load
from fallow.integrity import check_model
from fallow.stock import INDEX, SINGLE, check_folder, weight_map

_BUFFER = re.compile(r"(^|\.)(attn|attention)\.(masked_)?bias$|inv_freq$|(position|token_type)_ids$")
"""Masks and tables that older versions of transformers saved beside the weights."""


class Weights:
    """The tensors of a model folder under names without the prefix of a head, `h.0.attn.c_attn.weight`.

    A plain Hugging Face folder is read from its safetensors tensor by tensor, so that two models of any size fit. A
    folder of `fallow.save` that is not merged is loaded whole, and its weights are those of the merged model; the terms
    of each are known too.

    Args:
        folder: of a model of one of `FAMILIES`.

    Raises:
        UserError: no model there, another family, quantised weights, or files that cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        check_model(self.folder)
        self.unmerged = is_unmerged(self.folder)
        self._files: dict[str, tuple[Path, str]] = {}
        self._tensors: dict[str, Tensor] = {}
        self._low_rank: dict[str, Tensor] = {}
        stored = _json(self.folder / ("fallow.json" if self.unmerged else "config.json"))
        self.config: Mapping[str, Any] = stored["config"] if self.unmerged else stored
        try:
            self.family: Family = family_of(self.config)
        except UserError as error:
            raise UserError(f"{self.folder}: {error}") from None
        if self.config.get("quantization_config"):
            raise UserError(f"{self.folder} holds quantised weights. Compare the folder that they were made from")
        self.shapes: dict[str, tuple[int, ...]] = self._load() if self.unmerged else self._index()

    @property
    def model_type(self) -> str:
        """The `model_type` of the config."""
        return str(self.config["model_type"])

    @property
    def num_layers(self) -> int:
        """Blocks that have weights here."""
        numbers = [int(found[1]) for name in self.shapes if (found := self._in_block.match(name))]
        return max(numbers, default=-1) + 1

    def is_in_block(self, name: str) -> bool:
        """Whether a tensor belongs to a block."""
        return bool(self._in_block.match(name))

    def tensor(self, name: str) -> Tensor:
        """A tensor as stored.

        Raises:
            UserError: it is no floating-point tensor, or holds values that are no numbers.
        """
        found = self._tensors[name] if self.unmerged else self._read(name)
        if not found.is_floating_point():
            raise UserError(f"{self.folder}: {name} holds {found.dtype} numbers, not weights that can be compared")
        if not bool(found.isfinite().all()):
            raise UserError(f"{self.folder}: {name} holds values that are not finite numbers")
        return found

    def matrices(self, layer: int) -> dict[str, Tensor]:
        """The matrices of a block by kind, each (d_out, d_in), in the precision that they are stored in.

        Raises:
            UserError: one that the family has is not there.
        """
        found = {}
        for name, kinds in self.names_of(layer).items():
            if name not in self.shapes:
                raise UserError(f"{self.folder} has no {name}, which every {self.model_type} model has")
            found.update(self._split(kinds, self.tensor(name)))
        return found

    def low_rank(self, layer: int) -> dict[str, Tensor]:
        """Of an unmerged folder: the low-rank term (alpha / rank) B A of each matrix that has one, as float64."""
        found = {}
        for name, kinds in self.names_of(layer).items():
            if name in self._low_rank:
                term = self._low_rank[name]
                found.update(self._split(kinds, term.T if self.family.transposed else term))
        return found

    def names_of(self, layer: int) -> dict[str, tuple[str, ...]]:
        """Names of the matrices of a block, and which they are."""
        start = f"{self.family.blocks}.{layer}"
        return {f"{start}.{path}.weight": kinds for path, kinds in self.family.matrices.items()}

    def _split(self, kinds: tuple[str, ...], weight: Tensor) -> dict[str, Tensor]:
        return split(self.family, kinds, weight, int(self.config.get("num_attention_heads") or 1))

    @property
    def _in_block(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.family.blocks) + r"\.(\d+)\.")

    def _index(self) -> dict[str, tuple[int, ...]]:
        from safetensors import SafetensorError, safe_open

        if (self.folder / INDEX).is_file():
            files = sorted(set(weight_map(self.folder).values()))
        else:
            check_folder(self.folder)
            files = [self.folder / SINGLE]
        shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            try:
                with safe_open(path, framework="pt") as file:
                    for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                        name = self._canonical(key)
                        if name:
                            self._files[name] = (path, key)
                            shapes[name] = tuple(file.get_slice(key).get_shape())
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is damaged: {error}") from error
        return shapes

    def _load(self) -> dict[str, tuple[int, ...]]:
        self._take(load(self.folder))
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def _take(self, model: nn.Module) -> None:
        """The weights of a converted model as it is merged, and its low-rank terms."""
        from fallow.conversion import merge
        from fallow.methods.base import reparam_layers

        for name, layer in reparam_layers(model).items():
            term = layer.terms.low_rank
            if term is not None and layer.low_rank_a is not None and layer.low_rank_b is not None:
                product = layer.low_rank_b.detach().double() @ layer.low_rank_a.detach().double()
                self._low_rank[self._canonical(f"{name}.weight")] = product * (term.alpha / term.rank)
        model = merge(model)
        for key, tensor in model.state_dict().items():
            if name := self._canonical(key):
                self._tensors[name] = tensor

    def _read(self, name: str) -> Tensor:
        from safetensors import safe_open

        path, key = self._files[name]
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor

    def _canonical(self, key: str) -> str:
        """The name without a head's prefix; empty for what is no weight."""
        if _BUFFER.search(key):
            return ""
        name = key.removeprefix(f"{self.family.prefix}.")
        # What BERT's first checkpoints called the numbers of a norm.
        return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def check_comparable(a: Weights, b: Weights) -> None:
    """Refuse two models whose blocks do not have the same tensors.

    Embeddings and heads may differ: a vocabulary grows, a head is exchanged, and the blocks can be compared still.

    Raises:
        UserError: names the tensors that only one has, and those of another shape.
    """
    mine, theirs = ({name for name in one.shapes if one.is_in_block(name)} for one in (a, b))
    parts = [_listed(f"only in {one.folder}", sorted(names)) for one, names in ((a, mine - theirs), (b, theirs - mine))]
    shapes = [
        f"{name} is {_shape(a, name)} and {_shape(b, name)}"
        for name in sorted(mine & theirs)
        if a.shapes[name] != b.shapes[name]
    ]
    parts.append(_listed("of another shape", shapes))
    if any(parts):
        kinds = "" if a.model_type == b.model_type else f" (the first is {a.model_type}, the second {b.model_type})"
        raise UserError(
            f"{a.folder} and {b.folder} are not comparable{kinds}: {'; '.join(part for part in parts if part)}"
        )
    if not mine:
        raise UserError(f"{a.folder} has no blocks: no tensor is called {a.family.blocks}.0")


def _listed(title: str, names: list[str], most: int = 4) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{title}: {', '.join(names[:most])}{more}"


def _shape(one: Weights, name: str) -> str:
    return " x ".join(map(str, one.shapes[name]))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent} holds no model: there is no {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not the JSON of a model")
    return found
