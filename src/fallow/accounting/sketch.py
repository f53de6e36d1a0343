"""A converted model as sizes: which numbers it would store, without a model, without memory, without transformers."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from fallow.accounting.anatomy import GROUPS
from fallow.accounting.backward import Numbers, Passed, needs_backward, saved
from fallow.accounting.dimensions import Dimensions, complete, dimensions_of
from fallow.accounting.flops import Flops
from fallow.accounting.parameters import GroupCounts, Parameters
from fallow.accounting.shapes import Weight, linear_sites_of, weights_of
from fallow.conversion import match_targets
from fallow.linear import Site, Terms
from fallow.linear.kernels.gpu.block_structure import block_structure_bytes
from fallow.linear.kernels.library import library
from fallow.linear.paths import DENSE_PATHS, GPU_PATHS, path_of
from fallow.linear.paths.fits import require_fit
from fallow.linear.paths.structures import KERNEL_PATHS, LEAN_PATHS, block_size
from fallow.linear.paths.update import keeps_places
from fallow.linear.planner import structure_bytes, usual
from fallow.methods import Method
from fallow.random import Key
from fallow.supports import Support
from fallow.tuners.prefix import NAME as PREFIX

_ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "gemma": "GemmaForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM", "opt": "OPTForCausalLM", "bert": "BertLMHeadModel",
    "roberta": "RobertaForCausalLM",
}  # fmt: skip
VIRTUAL_TOKENS = f"{PREFIX}.encoder.embedding.weight"
"""The tensor of a prefix whose rows are its virtual tokens."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter that would be stored."""

    name: str
    shape: tuple[int, ...]
    part: str
    """Group of `count_parameters`."""

    block: int | None
    trainable: bool = True
    beside: bool = False
    """Whether it belongs to no weight of the model."""

    @property
    def numel(self) -> int:
        """Number of its entries."""
        size = 1
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer with the terms that a method gives it; None for a stock layer."""

    weight: Weight
    terms: Terms | None
    device: str = "cuda"

    @property
    def site(self) -> Site:
        """Its place."""
        return self.weight.site

    @property
    def size(self) -> int:
        """The product d_out * d_in."""
        return self.weight.numel

    @property
    def num_entries(self) -> int:
        """Entries of the support; 0 without a sparse term."""
        sparse = None if self.terms is None else self.terms.sparse
        return 0 if sparse is None else sparse.num_entries(self.site.shape[1])

    @property
    def multiplied(self) -> int:
        """Numbers that multiply an input, term by term."""
        if self.terms is None:
            return self.size
        base = 0 if self.terms.base is None else self.size
        factors = 0 if self.terms.low_rank is None else self.terms.low_rank.num_entries(self.site.shape)
        return base + factors + self.num_entries

    def path(self, asked: str) -> str:
        """How it is computed when `asked` was asked for."""
        return asked or ("" if self.terms is None else usual(self.terms, self.site.shape, self.device).path)

    def numbers(self, trained: Collection[str], path: str = "") -> Numbers:
        """Numbers that multiply an input, by term; as a path executes them when one is given.

        Args:
            trained: names of the trained parameters.
            path: as `Layer.path` gives it.
        """
        if self.terms is None:
            return Numbers(base=self.size, trains_base=self.weight.name in trained)
        d_out, d_in = self.site.shape
        low_rank, at = self.terms.low_rank, self.weight.module
        trains = [f"{at}.{term}" in trained for term in ("base", "low_rank_a", "low_rank_b", "values")]
        if path in DENSE_PATHS:
            return Numbers(base=self.size, trains_base=any(trains))
        a = b = 0
        if low_rank is not None:
            a = low_rank.total_rank * d_in
            b = low_rank.rank * low_rank.num_rows(d_out)
        return Numbers(0 if self.terms.base is None else self.size, a, b, self.num_entries, *trains)

    @property
    def nnz(self) -> int:
        """Entries of W that can differ from zero: all of them unless W is a sparse term alone."""
        if self.terms is not None and self.terms.base is None and self.terms.low_rank is None:
            return self.num_entries
        return self.size

    def index_bytes(self, path: str = "") -> int:
        """Bytes of row pointers and columns, and of what the compiled kernels derive from them where the path has any.

        Args:
            path: as `Layer.path` gives it.
        """
        if self.terms is None or self.terms.sparse is None:
            return 0
        own = Support.meta(self.site.shape, self.num_entries).num_bytes
        if path == "update" and self.terms.base is not None:
            return own + (16 * self.num_entries if keeps_places(self.num_entries) else 0)
        if path == "block":
            return own + block_structure_bytes(self.site.shape, self.num_entries, block_size(self.terms))
        keeps = self.uses_kernels(path) and path not in LEAN_PATHS
        return own + (structure_bytes(self.terms, self.site.shape) if keeps else 0)

    def uses_kernels(self, path: str) -> bool:
        """Whether the compiled kernels compute its sparse term."""
        has_entries = self.terms is not None and self.terms.sparse is not None
        return has_entries and path in KERNEL_PATHS and self.device == "cpu" and library() is not None

    def tensors(self) -> list[Tensor]:
        """The parameters of its terms."""
        w = self.weight
        if self.terms is None:
            return [Tensor(w.name, w.shape, w.part, w.block)]
        d_out, d_in = self.site.shape
        found = []
        if self.terms.base is not None:
            found.append(Tensor(f"{w.module}.base", (d_out, d_in), w.part, w.block, self.terms.base.trainable))
        if self.terms.low_rank is not None:
            term = self.terms.low_rank
            found.append(Tensor(f"{w.module}.low_rank_a", (term.total_rank, d_in), w.part, w.block))
            found.append(Tensor(f"{w.module}.low_rank_b", (term.num_rows(d_out), term.rank), w.part, w.block))
        if self.terms.sparse is not None:
            found.append(Tensor(f"{w.module}.values", (self.num_entries,), w.part, w.block))
        return found


@dataclass(frozen=True, slots=True)
class Sketch:
    """What `build` and `convert` would make of a configuration and a method."""

    config: Mapping[str, Any]
    values: Mapping[str, Any]
    """The configuration with the family's defaults."""

    sizes: Dimensions
    weights: tuple[Weight, ...]
    layers: tuple[Layer, ...]
    """Every linear layer in model order."""

    tensors: tuple[Tensor, ...]
    """Every stored parameter, a shared one once."""

    path: str
    """As it was asked for; empty for the usual one of each layer."""

    @property
    def converted(self) -> tuple[Layer, ...]:
        """The layers that the method changes."""
        return tuple(layer for layer in self.layers if layer.terms is not None)

    @property
    def path_name(self) -> str:
        """The path of the converted layers; "stock layers" without any."""
        return next((layer.path(self.path) for layer in self.converted), "stock layers")

    @property
    def element_bytes(self) -> int:
        """Bytes of one stored number."""
        return _BYTES.get(str(self.config.get("dtype", "float32")).removeprefix("torch."), 4)

    @property
    def index_bytes(self) -> int:
        """Bytes of all supports."""
        return sum(layer.index_bytes(layer.path(self.path)) for layer in self.converted)

    @property
    def sparsity(self) -> float:
        """Share of the entries of the blocks' linear layers that do not exist; 0 for a dense model."""
        blocks = [layer for layer in self.layers if layer.weight.block is not None]
        return 1 - sum(layer.nnz for layer in blocks) / sum(layer.size for layer in blocks)

    def matrices(self, targets: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
        """Shapes of the trainable stock matrices of linear layers, by parameter name; by default those of the blocks.

        Args:
            targets: as in `convert`.
        """
        stock = [layer.weight for layer in self.layers if layer.terms is None]
        if targets:
            chosen = set(match_targets(_namesake(self.config), linear_sites_of(tuple(stock)), targets))
        else:
            chosen = {weight.module for weight in stock if weight.target}
        names = {weight.name for weight in stock if weight.module in chosen}
        return {t.name: t.shape for t in self.tensors if t.name in names and t.trainable}

    def parameters(self) -> Parameters:
        """Counts by group, equal to `count_parameters` of the model."""
        groups = {name: GroupCounts() for name in GROUPS}
        inside = {layer.weight.name: layer for layer in self.converted}
        for weight in self.weights:
            group, layer = groups[weight.part], inside.get(weight.name)
            if layer is not None or not weight.tied:
                group.positions += weight.numel
                group.nonzero += weight.numel if layer is None else layer.nnz
        for tensor in self.tensors:
            if tensor.beside:
                groups[tensor.part].positions += tensor.numel
                groups[tensor.part].nonzero += tensor.numel
            groups[tensor.part].stored += tensor.numel
            groups[tensor.part].trainable += tensor.numel if tensor.trainable else 0
        return Parameters(groups=groups)

    def flops(self, context: int) -> Flops:
        """Operations a token, equal to `count_flops` of the model."""
        blocks = [layer for layer in self.layers if layer.weight.part in ("attention", "mlp")]
        others = [layer for layer in self.layers if layer.weight.part in ("head", "other")]
        converted = [layer for layer in blocks if layer.terms is not None]
        size = sum(layer.size for layer in converted)
        s, trained = self.sizes, self.trained
        seen = context + next((t.shape[0] for t in self.tensors if t.name == VIRTUAL_TOKENS), 0)
        attention, softmax = 4 * s.heads * s.head_size * seen, 3 * s.heads * seen
        passed = Passed.of(self._passed(trained))
        products = [layer.weight.module for layer in blocks if layer.weight.part == "attention"]
        needless = 2 * (attention + softmax) * needs_backward(products, passed).count(False)
        needed = {layer.weight.module: layer.numbers(trained) for layer in blocks + others}
        done = {layer.weight.module: layer.numbers(trained, layer.path(self.path)) for layer in blocks + others}
        return Flops(
            linear=sum(2 * layer.multiplied for layer in blocks),
            linear_dense=sum(2 * layer.size for layer in blocks),
            linear_executed=sum(2 * done[layer.weight.module].total for layer in blocks),
            attention=s.num_blocks * attention,
            softmax=s.num_blocks * softmax,
            vocab=sum(2 * layer.size for layer in self.layers if layer.weight.part == "head"),
            other=sum(2 * layer.size for layer in self.layers if layer.weight.part == "other"),
            converted_sparsity=max(0.0, 1 - sum(la.multiplied for la in converted) / size) if size else 0.0,
            saved=2 * sum(saved(name, numbers, passed) for name, numbers in needed.items()) + needless,
            saved_executed=2 * sum(saved(name, numbers, passed) for name, numbers in done.items()) + needless,
        )

    @property
    def trained(self) -> frozenset[str]:
        """Names of the trained parameters; a tied head goes with the embedding that it shares."""
        own = {tensor.name for tensor in self.tensors if tensor.trainable}
        word = next((tensor for tensor in self.tensors if tensor.part == "embeddings"), None)
        tied = {w.name for w in self.weights if w.tied and w.linear and word is not None and word.trainable}
        return frozenset(own | tied)

    def _passed(self, trained: Collection[str]) -> Iterator[tuple[str, bool]]:
        yield from ((tensor.name, tensor.trainable) for tensor in self.tensors if tensor.beside)
        inside = {layer.weight.name: layer for layer in self.converted}
        for weight in self.weights:
            names = [t.name for t in inside[weight.name].tensors()] if weight.name in inside else [weight.name]
            yield from ((name, name in trained) for name in names)


def sketch_of(
    config: Mapping[str, Any],
    method: Method,
    *,
    targets: Sequence[str] = (),
    seed: int = 0,
    path: str = "",
    device: str = "cuda",
) -> Sketch:
    """The sizes of a model of this configuration, converted by this method.

    The method decides as in `convert`: it is asked for the terms of the same sites.

    Args:
        config: values of a Hugging Face configuration with `model_type` and `vocab_size`.
        method: any method.
        targets: as in `convert`.
        seed: changes no size; random draws are named by it, not made.
        path: how the layers would be computed; empty for the usual path of each.
        device: type of the device that would compute them.

    Raises:
        UserError: an unknown family, targets that match nothing, a support that does not fit a shape, or a path that
            does not fit a layer or cannot be used.
    """
    if path and not (path in GPU_PATHS and device == "cuda"):  # a GPU can be planned for where there is none
        path_of(path)
    weights = weights_of(config)
    sites = linear_sites_of(weights)
    if targets:
        chosen = match_targets(_namesake(config), sites, targets)
    else:
        inside = {weight.module for weight in weights if weight.target}
        chosen = {name: site for name, site in sites.items() if name in inside}
    plan = method.plan(chosen, Key(seed))
    for name, terms in plan.items():
        require_fit(path, name, terms, chosen[name].shape)
    layers = {weight.name: Layer(weight, plan.get(weight.module), device) for weight in weights if weight.linear}
    tensors: list[Tensor] = []
    for weight in weights:
        layer = layers.get(weight.name)
        if layer is not None and layer.terms is not None:
            tensors += layer.tensors()
        elif not weight.tied:
            tensors.append(Tensor(weight.name, weight.shape, weight.part, weight.block))
    sizes = dimensions_of(config)
    for name, shape in method.adds(sizes.num_blocks, sizes.kv_heads * sizes.head_size).items():
        tensors.append(Tensor(name, shape, "embeddings" if name == VIRTUAL_TOKENS else "other", None, beside=True))
    trained = method.trained([tensor.name for tensor in tensors])
    tensors = [replace(tensor, trainable=tensor.trainable and tensor.name in trained) for tensor in tensors]
    return Sketch(
        config=config,
        values=complete(config),
        sizes=sizes,
        weights=weights,
        layers=tuple(layers.values()),
        tensors=tuple(tensors),
        path=path,
    )


def _namesake(config: Mapping[str, Any]) -> nn.Module:
    """An empty module with the name of the model's class, for messages alone."""
    named: Any = type(_ARCHITECTURES[str(config["model_type"])], (nn.Module,), {})
    module: nn.Module = named()
    return module
