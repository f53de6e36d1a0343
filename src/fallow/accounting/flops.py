"""Floating-point operations per token: what a method needs, what a dense model would need, what is really executed."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from fallow.accounting.anatomy import LinearLayer, linear_layers, sees_one_position, size_named
from fallow.accounting.backward import Numbers, Passed, needs_backward, saved
from fallow.errors import UserError
from fallow.linear.cut import HEADS
from fallow.linear.inputs import is_linear
from fallow.linear.paths import DENSE_PATHS
from fallow.linear.reparam import ReparamLinear
from fallow.tuners.prefix import prefix_of

TRAINING = 3
"""Forward plus backward over forward: the gradients of inputs and of weights cost as much as the forward pass each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    r"""Forward operations per token, by part; a multiplication and an addition are two.

        linear    = sum over the linear layers of the blocks of 2 * (numbers that multiply)
        attention = 4 L (H * head size) T      scores and values, no causal halving
        softmax   = 3 L H T
        vocab     = 2 * size of the head       the input embedding is a look-up and free

    with L layers, H heads and T positions of context. For a linear layer the numbers that multiply are the entries of
    its support, of its factors, or all d_out * d_in of a dense weight, without the zeros of a frozen one. These are
    Chinchilla's appendix F without the input embedding, and reproduce SPDF's supplement.

    Norms, activations, biases and rotary angles are left out: they grow with the width, not with its square.
    """

    linear: int
    """Needed: only what exists multiplies."""

    linear_dense: int
    """The same layers, dense."""

    linear_executed: int
    """What the execution paths of the layers multiply today: the path `materialise` multiplies by the zeros too."""

    attention: int
    softmax: int
    vocab: int

    other: int
    """Dense layers outside the blocks that see every token (projections of embeddings, transforms before the head)."""

    converted_sparsity: float
    """Share of the entries of the converted layers that need not be multiplied; 0 when no layer is converted."""

    saved: int = 0
    """Operations of the backward pass that frozen weights make needless: their own gradients, and those of inputs below
    which nothing is trained."""

    saved_executed: int = 0
    """The part of these that is not executed today either."""

    recomputed: int = 0
    """Operations of the second forward pass of blocks that do not keep their activations; see `recomputing`."""

    @property
    def _fixed(self) -> int:
        return self.attention + self.softmax + self.vocab + self.other

    @property
    def forward(self) -> int:
        """Needed for a forward pass."""
        return self.linear + self._fixed

    @property
    def forward_dense(self) -> int:
        """Forward pass of the dense equivalent."""
        return self.linear_dense + self._fixed

    @property
    def forward_executed(self) -> int:
        """What a forward pass executes here."""
        return self.linear_executed + self._fixed

    @property
    def training(self) -> int:
        """Needed for forward and backward: three times the forward pass, less what frozen weights save."""
        return TRAINING * self.forward - self.saved

    @property
    def training_dense(self) -> int:
        """Forward and backward of the dense equivalent, all of it trained."""
        return TRAINING * self.forward_dense

    @property
    def training_executed(self) -> int:
        """What forward and backward execute here."""
        return TRAINING * self.forward_executed - self.saved_executed + self.recomputed

    def recomputing(self) -> "Flops":
        """The same with blocks that compute their activations again for the backward pass.

        Counted as one more forward pass of the blocks. torch stops it at the last tensor that the backward pass needs,
        before the block's last product, so that it is a little less.
        """
        return replace(self, recomputed=self.linear_executed + self.attention + self.softmax)

    @property
    def reduction(self) -> float:
        """Dense over needed: 1.65 means 1.65 times fewer operations."""
        return self.forward_dense / self.forward

    @property
    def linear_share(self) -> float:
        """Share of the blocks' linear layers in the dense forward pass: all that sparsity can act on."""
        return self.linear_dense / self.forward_dense

    @property
    def ceiling(self) -> float:
        """The reduction if every linear layer of the blocks had the sparsity of the converted ones."""
        return ceiling(self.converted_sparsity, self.linear_share)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        derived = ("forward", "forward_dense", "forward_executed", "training", "training_dense", "training_executed")
        ratios = ("reduction", "linear_share", "ceiling")
        return {**asdict(self), **{key: getattr(self, key) for key in derived + ratios}}


def ceiling(sparsity: float, linear_share: float) -> float:
    """The most a sparsity can reduce: 1 / (1 - sparsity * linear_share), whatever kernel computes it.

    >>> round(ceiling(0.75, 0.5250), 2)
    1.65
    """
    return 1 / (1 - sparsity * linear_share)


def count_flops(model: nn.Module, context: int) -> Flops:
    """Count the operations of a model per token at a context length, without running it; also on the meta device.

    Layers that see one position of a sequence (poolers, classifiers) are not counted.

    Args:
        model: a Hugging Face transformer, stock or converted.
        context: positions T that each token attends to; sequences are taken as full.

    Raises:
        UserError: `context` is not positive, or the model's config does not say its heads.
    """
    if context < 1:
        raise UserError(f"context is {context}, but it must be at least 1 token")
    heads, num_layers = size_named(model, "num_attention_heads"), size_named(model, "num_hidden_layers")
    if not heads or not num_layers:
        raise UserError(
            f"the operations of {type(model).__name__} cannot be counted: its config names no num_attention_heads or "
            "num_hidden_layers. Pass a Hugging Face transformer"
        )
    width = size_named(model, "head_dim") or (size_named(model, "hidden_size") or 0) // heads
    layers = linear_layers(model)
    blocks = [layer for layer in layers if layer.group in ("attention", "mlp")]
    others = [la for la in layers if la.group in ("head", "other") and not sees_one_position(la.name)]
    converted = [layer for layer in blocks if layer.converted]
    size = sum(layer.size for layer in converted)
    cut: dict[str, list[int]] = getattr(model, HEADS, {})
    groups = heads // (size_named(model, "num_key_value_heads") or heads)
    by_layer = [groups * len(units) for units in cut.values()] or [heads] * num_layers
    prefix = prefix_of(model)
    seen = context + (prefix.length if prefix is not None else 0)
    attention, softmax = 4 * width * seen, 3 * seen  # of one head
    chosen = experts(model)
    exist = {layer.name: numbers(layer) for layer in blocks + others} | chosen
    done = {layer.name: numbers(layer, as_executed=True) for layer in blocks + others} | chosen
    by_experts = 2 * sum(found.total for found in chosen.values())
    passed = Passed.of((name, p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False))
    needed = needs_backward([la.name for la in blocks if la.group == "attention"], passed)
    needless = (
        2 * (attention + softmax) * sum(n for n, is_needed in zip(by_layer, needed, strict=False) if not is_needed)
    )
    return Flops(
        linear=sum(2 * exist[layer.name].total for layer in blocks) + by_experts,
        linear_dense=sum(2 * layer.size for layer in blocks) + by_experts,
        linear_executed=sum(2 * done[layer.name].total for layer in blocks) + by_experts,
        attention=sum(by_layer) * attention,
        softmax=sum(by_layer) * softmax,
        vocab=sum(2 * layer.size for layer in layers if layer.group == "head"),
        other=sum(2 * layer.size for layer in others if layer.group == "other"),
        converted_sparsity=max(0.0, 1 - sum(exist[la.name].total for la in converted) / size) if size else 0.0,
        saved=2 * sum(saved(name, found, passed) for name, found in exist.items()) + needless,
        saved_executed=2 * sum(saved(name, found, passed) for name, found in done.items()) + needless,
    )


def experts(model: nn.Module) -> dict[str, Numbers]:
    """Numbers of experts that multiply a token, by the module that holds them: of those that the router chooses.

    Experts are parameters of three dimensions, (experts, d_out, d_in) or the other way round; a token meets
    `num_experts_per_tok` of them, and all of the router, which is a matrix (experts, d_in) and no linear layer.
    """
    per_token = size_named(model, "num_experts_per_tok") or 1
    parameters = dict(model.named_parameters())
    sizes = {n: p.numel() * per_token // p.shape[0] for n, p in parameters.items() if p.ndim == 3 and "expert" in n}
    counts = {parameters[name].shape[0] for name in sizes}
    for module, part in model.named_modules():
        weight = None if is_linear(part) else part._parameters.get("weight")
        if weight is not None and weight.ndim == 2 and weight.shape[0] in counts and not isinstance(part, nn.Embedding):
            sizes[f"{module}.weight"] = weight.numel()
    found: dict[str, Numbers] = {}
    for name, size in sizes.items():
        module = name.rpartition(".")[0]
        before = found.get(module, Numbers())
        trains = before.trains_base or parameters[name].requires_grad
        found[module] = Numbers(base=before.base + size, trains_base=trains)
    return found


def numbers(layer: LinearLayer, as_executed: bool = False) -> Numbers:
    """How many numbers of a layer multiply an input, by term, and which terms are trained; the bias only adds.

    Args:
        layer: stock or converted.
        as_executed: what the layer's path multiplies each token by, instead of what exists. `materialise` and `fused`
            build W once a pass and multiply all of it; building is not counted, since all tokens of the pass share it.
            The other paths multiply by the terms; of `semi_structured` the weight's gradient is counted so, too,
            which is a dense product.
    """
    module = layer.module
    if not isinstance(module, ReparamLinear):
        weight = module.get_parameter("weight")
        return Numbers(base=layer.size if as_executed else _exist(weight), trains_base=weight.requires_grad)
    terms = (module.base, module.low_rank_a, module.low_rank_b, module.values)
    base, a, b, values = (0 if term is None else term.numel() for term in terms)
    trains = [term is not None and term.requires_grad for term in terms]
    if as_executed and module.path in DENSE_PATHS:
        return Numbers(base=layer.size, trains_base=any(trains))
    if module.base is not None and not as_executed:
        base = _exist(module.base)
    return Numbers(base, a, b, values, *trains)


def _exist(weight: nn.Parameter) -> int:
    """Entries of a dense weight that multiply: zeros of a frozen one never will, those of a trained one may wake up."""
    return weight.numel() if weight.requires_grad or weight.is_meta else int(weight.count_nonzero())
