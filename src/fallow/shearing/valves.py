"""Gates at work: hooks and masked norms that multiply what a stock decoder computes. No model code is touched.

b: sequences, t: positions, n: units. A gate has shape (n,), or (b, 1, n) when sequences have gates of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fallow.errors import UserError
from fallow.shearing.families import Family
from fallow.shearing.groups import Group, by_head
from fallow.shearing.norms import mask_norm, unmask_norm
from fallow.shearing.shape import Axis, Shape


class _OfOnePass(ABC):
    """Values of one forward pass: a pickle and a copy of the model are without, and draw their own."""

    def __init__(self) -> None:
        self.clear()

    @abstractmethod
    def clear(self) -> None:
        """Forget the gates: the model computes as if there were none."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.clear()


class InLayer(_OfOnePass):
    """What the hooks of one layer multiply by at the moment; nothing while there are no gates.

    An object for each layer, and not a list with the layer's number beside it: such a number is a constant to
    `torch.compile`, which would make code anew for every layer and give up after eight.
    """

    def clear(self) -> None:
        """Forget the gates."""
        self.stream: Tensor | None = None
        self.heads: Tensor | None = None
        self.inner: Tensor | None = None


class Values(_OfOnePass):
    """What norms multiply by at the moment; nothing while there are no gates."""

    def clear(self) -> None:
        """Forget the gates: a norm is the stock one."""
        self.hidden: Tensor | None = None
        self.keep: Tensor | None = None
        self.num_kept: Tensor | None = None


class Valves:
    """The hooks and norms of one model.

    A head's gate multiplies its part of what the attention's output projection reads, a unit's gate what the MLP's
    output projection reads. Both projections' outputs are multiplied by the gate of their layer and those of the
    channels. Every norm of the residual stream averages over open channels only and multiplies them by their gates.
    Embeddings and head have none: what reads the stream is a norm.

    Args:
        model: a stock decoder; hooks are put on its projections, and its norms get another forward.
        family: where they are.
        source: its sizes.
        groups: which axes have gates.
    """

    def __init__(self, model: nn.Module, family: Family, source: Shape, groups: Sequence[Group]) -> None:
        self.family, self.source = family, source
        self.groups = {group.axis: group for group in groups}
        self.values = Values()
        self.layers = tuple(InLayer() for _ in range(source.layers))
        self._handles: list[RemovableHandle] = []
        has_stream = bool({"hidden", "layers"} & self.groups.keys())
        for number, layer in enumerate(self.layers):
            attention = model.get_submodule(family.in_layer(number, family.attention_out))
            mlp = model.get_submodule(family.in_layer(number, family.mlp_out))
            if "heads" in self.groups:
                self._handles.append(attention.register_forward_pre_hook(_Reads(layer, "heads")))
            if "inner" in self.groups:
                self._handles.append(mlp.register_forward_pre_hook(_Reads(layer, "inner")))
            if has_stream:
                self._handles.append(attention.register_forward_hook(_Writes(layer)))
                self._handles.append(mlp.register_forward_hook(_Writes(layer)))
        if "hidden" in self.groups:
            for name in norm_names(family, source):
                mask_norm(model.get_submodule(name), family.norm, self.values)

    def set(self, gates: dict[Axis, Tensor]) -> None:
        """Multiply by these gates from now on.

        Args:
            gates: for each group a tensor of its shape; or with a leading dimension b, a row for each sequence.
        """
        values = self.values
        values.clear()
        for layer in self.layers:
            layer.clear()
        lead = {gate.ndim - len(self.groups[axis].shape) for axis, gate in gates.items()}
        assert len(lead) == 1, "all gates have a leading dimension, or none has"
        each = lead.pop() == 1
        if "heads" in gates:
            by_h = by_head(self.groups["heads"], self.source, gates["heads"])
            for layer, gate in self._by_layer(by_h.repeat_interleave(self.source.head_size, dim=-1), each):
                layer.heads = gate
        if "inner" in gates:
            for layer, gate in self._by_layer(gates["inner"], each):
                layer.inner = gate
        hidden = gates.get("hidden")
        if hidden is not None:
            hidden = hidden.unsqueeze(1) if each else hidden
            values.hidden, values.keep = hidden, (hidden > 0).to(hidden.dtype)
            values.num_kept = values.keep.sum(-1, keepdim=True)
            for layer in self.layers:
                layer.stream = hidden
        if "layers" in gates:
            for layer, gate in self._by_layer(gates["layers"].unsqueeze(-1), each):
                layer.stream = gate if hidden is None else gate * hidden

    def _by_layer(self, gates: Tensor, each: bool) -> Iterator[tuple[InLayer, Tensor]]:
        """Each layer with its share of (L, n) or (b, L, n): a tensor of (n,) or (b, 1, n)."""
        shares = [gate.unsqueeze(1) for gate in gates.unbind(1)] if each else gates.unbind(0)
        return zip(self.layers, shares, strict=True)

    def remove(self, model: nn.Module) -> None:
        """Take hooks and masks away again."""
        for handle in self._handles:
            handle.remove()
        for name in norm_names(self.family, self.source):
            unmask_norm(model.get_submodule(name))


def norm_names(family: Family, source: Shape) -> list[str]:
    """Dotted names of the norms that read the residual stream."""
    inside = [family.in_layer(number, name) for number in range(source.layers) for name in family.norms]
    return [*inside, family.final_norm]


def refuse_reentrant(model: nn.Module) -> None:
    """Refuse the kind of activation checkpointing that cannot follow gates.

    Raises:
        UserError: it is switched on.
    """
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        if getattr(module, "gradient_checkpointing", False) and getattr(function, "keywords", {}).get("use_reentrant"):
            raise UserError(
                "activation checkpointing is re-entrant, which computes a layer's gates twice and then fails. Write "
                'gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})'
            )


class _Reads:
    """Before an output projection: its input, unit by unit."""

    def __init__(self, layer: InLayer, what: str) -> None:
        self.layer, self.what = layer, what

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        gate = getattr(self.layer, self.what)
        return None if gate is None else (gated(args[0], gate), *args[1:])


class _Writes:
    """After an output projection: what goes into the residual stream."""

    def __init__(self, layer: InLayer) -> None:
        self.layer = layer

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        gate = self.layer.stream
        return None if gate is None else gated(output, gate)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """The product of x (b, t, n) or (b t, n), and gates (n,) or (b, 1, n), in the type of x."""
    gate = gate.to(x.dtype)
    if gate.ndim == 3 and x.ndim == 2:  # OPT flattens sequences before its MLP
        return (x.view(gate.shape[0], -1, x.shape[-1]) * gate).view_as(x)
    return x * gate
