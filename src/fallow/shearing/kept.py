"""Which units stay, and what their gates are worth.

L: layers kept, d: channels kept, H: query heads kept, K: heads of keys and values kept, m: MLP units kept.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fallow.errors import UserError
from fallow.files import atomic
from fallow.shearing.shape import Shape

KEPT_FILE = "fallow-kept.safetensors"
"""Beside a cut model: which units of the source it is made of. Hugging Face ignores it."""

_INDICES = ("layers", "hidden_d", "heads_lh", "kv_heads_lk", "inner_lm")
_GATES = ("layer_gates_l", "hidden_gates_d", "head_gates_lh", "inner_gates_lm")


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """The units of a source model that a smaller one is made of, numbered as in the source, and their gates.

    A gate is the number that a unit's output was multiplied by: 1 for a unit that is only kept. Cutting absorbs gates
    into the weights, so that the small model does what the gated one did.
    """

    source: Shape
    """Sizes of the model that is cut."""

    layers: tuple[int, ...]
    """Layers that stay, ascending."""

    hidden_d: Tensor
    """Channels of the residual stream, shape (d,)."""

    heads_lh: Tensor
    """Query heads of each layer that stays, shape (L, H); those of a group side by side."""

    kv_heads_lk: Tensor
    """Heads of keys and values, shape (L, K)."""

    inner_lm: Tensor
    """MLP units, shape (L, m)."""

    layer_gates_l: Tensor
    hidden_gates_d: Tensor
    head_gates_lh: Tensor
    inner_gates_lm: Tensor

    def __post_init__(self) -> None:
        source = self.source
        _check("layers", torch.tensor([self.layers], dtype=torch.long), source.layers)
        _check("hidden", self.hidden_d[None], source.hidden)
        _check("inner", self.inner_lm, source.inner)
        _check("kv_heads", self.kv_heads_lk, source.kv_heads)
        _check("heads", self.heads_lh, source.heads)
        for name in ("heads_lh", "kv_heads_lk", "inner_lm", "head_gates_lh", "inner_gates_lm"):
            rows = getattr(self, name).shape[0]
            if rows != len(self.layers):
                raise UserError(f"{name} has {rows} rows, but {len(self.layers)} layers are kept")
        self._check_groups()
        for indices, gates in (("hidden_d", "hidden_gates_d"), ("heads_lh", "head_gates_lh"),
                               ("inner_lm", "inner_gates_lm")):  # fmt: skip
            if getattr(self, indices).shape != getattr(self, gates).shape:
                raise UserError(f"{gates} has not the shape of {indices}")
        for name in _GATES:
            if not bool(torch.isfinite(getattr(self, name)).all()):
                raise UserError(f"{name} holds values that are not finite")

    def _check_groups(self) -> None:
        """Each kept query head must find its own keys where the smaller model looks for them."""
        num_heads, num_kv = self.heads_lh.shape[1], self.kv_heads_lk.shape[1]
        if num_heads % num_kv:
            raise UserError(
                f"{num_heads} heads cannot share {num_kv} heads of keys and values equally. "
                f"Keep {num_heads // num_kv * num_kv or num_kv} heads"
            )
        of_lh = self.heads_lh // self.source.group
        if not torch.equal(of_lh, self.kv_heads_lk.repeat_interleave(num_heads // num_kv, dim=1)):
            raise UserError(
                "heads and kv_heads do not belong together: each head of keys and values that is kept needs the same "
                "number of its own query heads, side by side"
            )

    @property
    def target(self) -> Shape:
        """Sizes of the smaller model."""
        return Shape(
            layers=len(self.layers),
            hidden=self.hidden_d.shape[0],
            heads=self.heads_lh.shape[1],
            kv_heads=self.kv_heads_lk.shape[1],
            head_size=self.source.head_size,
            inner=self.inner_lm.shape[1],
        )

    @classmethod
    def of(
        cls,
        source: Shape,
        *,
        layers: Sequence[int] | None = None,
        hidden: Tensor | Sequence[int] | None = None,
        heads: Tensor | Sequence[Sequence[int]] | None = None,
        kv_heads: Tensor | Sequence[Sequence[int]] | None = None,
        inner: Tensor | Sequence[Sequence[int]] | None = None,
    ) -> "Kept":
        """From lists of indices; an axis that is left out stays whole, and gates are open.

        Args:
            source: sizes of the model.
            layers: layers to keep, ascending.
            hidden: channels of the residual stream.
            heads: query heads, one row for each layer that stays.
            kv_heads: heads of keys and values, likewise. Left out, they follow from `heads`.
            inner: MLP units, one row for each layer that stays.

        Raises:
            UserError: an index that does not exist, is repeated or out of order, or heads that do not fit together.

        >>> shape = Shape(layers=2, hidden=8, heads=2, kv_heads=2, head_size=4, inner=4)
        >>> str(Kept.of(shape, layers=[1], inner=[[0, 3]]).target)
        '1 layer, hidden 8, 2 heads of 4, inner 2'
        """
        kept = tuple(range(source.layers)) if layers is None else tuple(int(i) for i in layers)
        num = len(kept)

        def rows(given: Tensor | Sequence[Sequence[int]] | None, size: int) -> Tensor:
            return torch.arange(size).repeat(num, 1) if given is None else torch.as_tensor(given, dtype=torch.long)

        hidden_d = torch.arange(source.hidden) if hidden is None else torch.as_tensor(hidden, dtype=torch.long)
        heads_lh, inner_lm = rows(heads, source.heads), rows(inner, source.inner)
        if kv_heads is None and heads is not None:
            kv_heads = [torch.unique_consecutive(row // source.group).tolist() for row in heads_lh]
            if len({len(row) for row in kv_heads}) != 1:
                raise UserError("heads leave a different number of heads of keys and values in each layer")
        return cls(
            source=source,
            layers=kept,
            hidden_d=hidden_d,
            heads_lh=heads_lh,
            kv_heads_lk=rows(kv_heads, source.kv_heads),
            inner_lm=inner_lm,
            layer_gates_l=torch.ones(num),
            hidden_gates_d=torch.ones(hidden_d.shape),
            head_gates_lh=torch.ones(heads_lh.shape),
            inner_gates_lm=torch.ones(inner_lm.shape),
        )

    @classmethod
    def from_masks(
        cls,
        source: Shape,
        *,
        layers: Tensor | None = None,
        hidden: Tensor | None = None,
        heads: Tensor | None = None,
        inner: Tensor | None = None,
    ) -> "Kept":
        """From gates of the whole source model, where 0 means dropped; an axis that is left out stays whole.

        Args:
            source: sizes of the model.
            layers: shape (layers,).
            hidden: shape (hidden,).
            heads: shape (layers, heads).
            inner: shape (layers, inner).

        Raises:
            UserError: a mask of another shape, or one that leaves layers of different sizes.
        """
        expected = {"layers": (source.layers,), "hidden": (source.hidden,), "heads": (source.layers, source.heads),
                    "inner": (source.layers, source.inner)}  # fmt: skip
        given = {"layers": layers, "hidden": hidden, "heads": heads, "inner": inner}
        masks = {name: torch.ones(shape) for name, shape in expected.items()}
        for name, mask in given.items():
            if mask is not None:
                if tuple(mask.shape) != expected[name]:
                    raise UserError(f"the mask of {name} has shape {tuple(mask.shape)}, expected {expected[name]}")
                masks[name] = mask.detach().float().cpu()
        stay = masks["layers"].nonzero().flatten()
        hidden_d = masks["hidden"].nonzero().flatten()
        rows = {name: _rows_of(name, masks[name][stay]) for name in ("heads", "inner")}
        kept = cls.of(source, layers=stay.tolist(), hidden=hidden_d, heads=rows["heads"], inner=rows["inner"])
        return kept.with_gates(
            layers=masks["layers"][stay],
            hidden=masks["hidden"][hidden_d],
            heads=masks["heads"][stay].gather(1, rows["heads"]),
            inner=masks["inner"][stay].gather(1, rows["inner"]),
        )

    def with_gates(self, *, layers: Tensor, hidden: Tensor, heads: Tensor, inner: Tensor) -> "Kept":
        """The same units with these gates: shapes (L,), (d,), (L, H), (L, m)."""
        return Kept(
            source=self.source,
            layers=self.layers,
            hidden_d=self.hidden_d,
            heads_lh=self.heads_lh,
            kv_heads_lk=self.kv_heads_lk,
            inner_lm=self.inner_lm,
            layer_gates_l=layers,
            hidden_gates_d=hidden,
            head_gates_lh=heads,
            inner_gates_lm=inner,
        )

    def save(self, path: Path) -> None:
        """Write to a safetensors file: indices as int32, gates as float32."""
        from dataclasses import asdict

        from safetensors.torch import save_file

        tensors = {name: torch.as_tensor(getattr(self, name)).to(torch.int32).contiguous() for name in _INDICES}
        tensors |= {name: getattr(self, name).detach().float().cpu().contiguous() for name in _GATES}
        source = asdict(self.source)
        with atomic(path) as temporary:
            # In one key: several would be written in an order that changes from file to file.
            save_file(
                tensors, temporary, metadata={"source": json.dumps({**source, "sha256": _digest(source, tensors)})}
            )

    @classmethod
    def load(cls, path: Path) -> "Kept":
        """Read what `save` wrote.

        Raises:
            UserError: the file is not there, damaged, or holds something else.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise UserError(f"{path} does not exist. A shear stage writes it beside its model")
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in (*_INDICES, *_GATES)}
                source = json.loads((file.metadata() or {})["source"])
                if source.pop("sha256") != _digest(source, tensors):
                    raise ValueError("it does not have the checksum that is in it")
                shape = Shape(**source)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no kept units, or is damaged: {error}") from None
        indices = {name: tensors[name].long() for name in _INDICES if name != "layers"}
        gates = {name: tensors[name] for name in _GATES}
        return cls(source=shape, layers=tuple(tensors["layers"].tolist()), **indices, **gates)


def _digest(source: dict[str, int], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode())
    for name in (*_INDICES, *_GATES):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check(name: str, rows: Tensor, size: int) -> None:
    if rows.ndim != 2 or not rows.numel():
        raise UserError(f"{name} keeps nothing. Keep at least one in every layer")
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise UserError(f"{name} holds index {wrong}, but the model has {size}: 0 to {size - 1}")
    if bool((rows.diff(dim=1) <= 0).any()):
        raise UserError(f"{name} must be ascending and without repeats")


def _rows_of(name: str, mask_ln: Tensor) -> Tensor:
    """Indices of the entries that are not 0, a row a layer."""
    counts = (mask_ln != 0).sum(1)
    if len(set(counts.tolist())) != 1:
        raise UserError(
            f"the mask of {name} keeps {int(counts.min())} in one layer and {int(counts.max())} in another, but a "
            "stock model has the same sizes in every layer"
        )
    return (mask_ln != 0).nonzero()[:, 1].view(mask_ln.shape[0], -1)
