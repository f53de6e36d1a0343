"""The layer that every method uses: y = x W^T + bias, where W is a sum of terms."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fallow.errors import UserError
from fallow.linear.inputs import Site, dense_weight, stock_layer
from fallow.linear.kernels.sound import changeable
from fallow.linear.operands import Operands, assemble
from fallow.linear.paths import path_of
from fallow.linear.paths.fits import require_fit
from fallow.linear.paths.low_rank import low_rank
from fallow.linear.paths.structures import block_size, structure_of
from fallow.linear.planner import Choice, usual
from fallow.linear.shares import local, share_of, whole
from fallow.linear.terms import Chosen, Terms
from fallow.supports import Support

Zeros = Literal["fill", "keep"]
"""What merging does where the base is zero and the update is not: let the update in, or leave it out."""


class ReparamLinear(nn.Module):
    r"""A linear layer whose weight is the sum of the terms that are present.

        W = base + (alpha / rank) * B @ A + scatter(values, support)

    Parameters (absent ones are None): `base` (d_out, d_in), `low_rank_a` (rank, d_in), `low_rank_b` (d_out, rank; see
    `LowRank.rows`), `values` (nnz,), `bias` (d_out,). The support is two buffers, `row_pointers` and `columns`, that
    are not among the saved tensors: they follow from (seed, module name). Paths may keep a third
    one, `structure`; that of the compiled kernels is empty where they derive it in each pass. Entries outside the
    support do not exist, so nothing can make them non-zero: no weight decay, no momentum, no second process.

    >>> from fallow.linear import Base, Terms
    >>> site = Site("fc", shape=(2, 4), parts=(2,), transposed=False)
    >>> layer = ReparamLinear.from_layer(nn.Linear(4, 2), site, Terms(base=Base()))
    >>> layer(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    base: nn.Parameter | None
    low_rank_a: nn.Parameter | None
    low_rank_b: nn.Parameter | None
    values: nn.Parameter | None
    bias: nn.Parameter | None
    row_pointers: Tensor | None
    columns: Tensor | None
    structure: Tensor | None

    def __init__(self, site: Site, terms: Terms, path: str = "", device: str = "cpu", *, planned: bool = False) -> None:
        """Names the parts; `from_layer` fills them."""
        super().__init__()
        self.site = site
        self.terms = terms
        self.asked = path
        self._block = block_size(terms)
        self._set_path(device, planned=planned)
        for name in ("base", "low_rank_a", "low_rank_b", "values", "bias"):
            self.register_parameter(name, None)
        for name in ("row_pointers", "columns", "structure"):
            self.register_buffer(name, None, persistent=False)

    @classmethod
    def from_layer(
        cls, module: nn.Module, site: Site, terms: Terms, path: str = "", device: str = ""
    ) -> "ReparamLinear":
        """From a stock layer; parameters keep its type and device.

        The base takes over the layer's weight (the very memory, where its orientation allows), the sparse values begin
        and the factors as their terms say. On the meta device sizes are set and nothing is drawn.

        Args:
            module: the stock layer.
            site: its place.
            terms: what the weight becomes.
            path: that computes it; empty for the usual one.
            device: type of the device that will compute a layer on meta, which decides the usual path.
        """
        weight = dense_weight(module).detach()
        layer = cls(site, terms, path, device or weight.device.type, planned=bool(device) and weight.is_meta)
        if terms.base is not None:
            layer.base = nn.Parameter(weight.contiguous(), requires_grad=terms.base.trainable)
        if terms.low_rank is not None:
            rank, d_in = terms.low_rank.total_rank, site.shape[1]
            layer.low_rank_a = nn.Parameter(weight.new_empty(rank, d_in))
            layer.low_rank_b = nn.Parameter(
                weight.new_empty(terms.low_rank.num_rows(site.shape[0]), terms.low_rank.rank)
            )
            if not weight.is_meta:
                a, b = terms.low_rank.draw(weight)
                layer.low_rank_a.data.copy_(a)
                layer.low_rank_b.data.copy_(b)
        if terms.sparse is not None:
            if weight.is_meta:
                support = Support.meta(site.shape, terms.sparse.num_entries(site.shape[1]))
                values = weight.new_empty(support.nnz)
            else:
                support = terms.sparse.support(weight)
                if isinstance(terms.sparse, Chosen):
                    layer.terms = terms.with_support(None, None)  # the layer holds it from here on
                at_support = weight.reshape(-1)[support.flat().to(weight.device)]
                values = terms.sparse.start.values(at_support, site.shape[1], terms.sparse.key)
            layer.values = nn.Parameter(values)
            layer.set_support(support, weight.device)
        bias = getattr(module, "bias", None)
        if bias is not None:
            layer.bias = bias
        return layer

    def set_support(self, support: Support, device: torch.device) -> None:
        """Hold this support as the buffers that belong to `values`."""
        if support.shape != self.site.shape:
            raise ValueError(f"{self.site.name} is {self.site.shape}, but its support is for {support.shape}")
        self.row_pointers = support.row_pointers.to(device)
        self.columns = support.columns.to(device)
        self.structure = None
        self._prepare()

    @property
    def device(self) -> torch.device:
        """Where the layer is."""
        return next(self.parameters()).device

    def use(self, path: str, why: str = "asked for") -> None:
        """Compute by another path from now on.

        Args:
            path: its name; empty for the one that suits terms, shape and device, now and wherever the layer goes.
            why: what `why` will say.

        Raises:
            UserError: there is no such path, or it cannot be used here.
        """
        before, self.asked = self.path, path
        self._set_path(self.device.type, why)
        if self.path != before:
            self.structure = None  # what one path keeps of it another derives
        self._prepare()

    def _set_path(self, device: str, why: str = "asked for", *, planned: bool = False) -> None:
        self.path, self.why = Choice(self.asked, why) if self.asked else usual(self.terms, self.site.shape, device)
        self._compute = path_of(self.path, planned=planned)
        require_fit(self.path, self.site.name, self.terms, self.site.shape)

    def _prepare(self) -> None:
        """Derive what the kernels want to know of the support, where the path uses them and they can act."""
        if self.row_pointers is None or self.columns is None:
            self.structure = None
        elif self.structure is None:
            self.row_pointers, self.columns = changeable(self.row_pointers), changeable(self.columns)
            self.structure = structure_of(self.path, self.terms, self.site.shape, self.row_pointers, self.columns)

    def _apply(self, fn: Any, recurse: bool = True) -> "ReparamLinear":
        """What `to` and its like call. On another device another path may suit, and another structure."""
        before, structure, self.structure = self.device, self.structure, None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        after = self.device
        if before == after:
            self.structure = structure
            return self
        if before.type != after.type:
            self._set_path(after.type, self.why)
        if before.type != "meta":  # from there comes memory without contents, and `draw_support` follows
            self._prepare()
        return self

    def draw_support(self, device: torch.device | str | None = None) -> None:
        """Draw the support of a layer that was made on the meta device, on that of its values or on another one.

        The path that suits the device is taken, too: on the meta device nothing is known of it.
        """
        self._set_path(torch.device(device or self.device).type, self.why)
        if self.terms.sparse is not None and self.values is not None:
            self.set_support(self.terms.sparse.draw(self.in_features), torch.device(device or self.values.device))

    @property
    def in_features(self) -> int:
        """Columns of W, d_in."""
        return self.site.shape[1]

    @property
    def out_features(self) -> int:
        """Rows of W, d_out."""
        return self.site.shape[0]

    @property
    def support(self) -> Support | None:
        """The support of the sparse term."""
        if self.row_pointers is None or self.columns is None:
            return None
        return Support(self.site.shape, self.row_pointers, self.columns)

    @property
    def nnz(self) -> int:
        """Entries of W that can differ from zero: all of them unless W is a sparse term alone."""
        if self.terms.base is None and self.terms.low_rank is None and self.columns is not None:
            return self.columns.numel()
        return self.site.shape[0] * self.site.shape[1]

    @property
    def density(self) -> float:
        """Share of the entries of W that can differ from zero."""
        return self.nnz / (self.site.shape[0] * self.site.shape[1])

    @property
    def weight(self) -> Tensor:
        """W in the orientation of the stock layer, built on the spot.

        For model code that asks a layer for its weight, for its type or device for instance. Reading it costs a build.
        """
        weight = self.effective_weight()
        return weight.t() if self.site.transposed else weight

    def operands(self) -> Operands:
        """The tensors, as an execution path wants them."""
        scale = 0.0 if self.terms.low_rank is None else self.terms.low_rank.alpha / self.terms.low_rank.rank
        parameters, buffers = (
            self._parameters,
            self._buffers,
        )  # a token at a time, the look-up of attributes would count
        return Operands(
            self.site.shape,
            parameters["base"],
            parameters["low_rank_a"],
            parameters["low_rank_b"],
            scale,
            self._scaled_values(),
            buffers["row_pointers"],
            buffers["columns"],
            parameters["bias"],
            () if self.terms.low_rank is None else self.terms.low_rank.rows,
            buffers["structure"],
            self._block,
        )

    def _scaled_values(self) -> Tensor | None:
        factor = 1.0 if self.terms.sparse is None else self.terms.sparse.factor
        values = self._parameters["values"]
        return values if values is None or factor == 1.0 else factor * values

    def forward(self, x: Tensor) -> Tensor:
        """X (..., d_in) -> (..., d_out), computed by the layer's path; under autocast in its type, as `nn.Linear`.

        Raises:
            UserError: x has another width, or whole numbers.
        """
        if not x.dim() or x.shape[-1] != self.site.shape[1] or not (x.is_floating_point() or x.is_complex()):
            raise UserError(self._misfit(x))
        device = x.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        operands = self.operands()
        dropout = 0.0 if self.terms.low_rank is None else self.terms.low_rank.dropout
        if not (dropout and self.training):
            return self._compute(x, operands)
        rest = operands._replace(a_ri=None, b_or=None, rows=())
        return self._compute(x, rest) + low_rank(functional.dropout(x, dropout), operands)

    def _misfit(self, x: Tensor) -> str:
        d_out, d_in = self.site.shape
        if x.dim() and x.shape[-1] == d_in:
            return f"{self.site.name} takes floating-point inputs, not {x.dtype}"
        shape = f"{x.shape[:-1].numel()}x{x.shape[-1]}" if x.dim() else "a number"
        return (
            f"mat1 and mat2 shapes cannot be multiplied ({shape} and {d_in}x{d_out}): {self.site.name} takes inputs of "
            f"width {d_in}"
        )

    def effective_weight(self) -> Tensor:
        """W, shape (d_out, d_in), in the parameters' type; differentiable."""
        dtype = next(self.parameters()).dtype
        return assemble(self.operands(), dtype)

    def update_weight(self) -> Tensor:
        """What is added to the base, shape (d_out, d_in): W without it; differentiable."""
        dtype = next(self.parameters()).dtype
        return assemble(self.operands()._replace(base_oi=None), dtype)

    @torch.no_grad()
    def restart(self, number: int) -> None:
        """The base takes up the low-rank product, and the factors begin anew: A drawn again, B zero; same outputs.

        Args:
            number: which restart this is, from 1; names the draw.
        """
        term, a_ri, b_or = self.terms.low_rank, self.low_rank_a, self.low_rank_b
        if self.base is None or term is None or a_ri is None or b_or is None:
            raise ValueError(f"{self.site.name} has no base that could take up a low-rank product")
        factors = self.operands()._replace(a_ri=whole(a_ri), b_or=whole(b_or)).widened()
        assert factors.a_ri is not None
        assert factors.b_or is not None
        local(self.base).addmm_(local(share_of(self.base, factors.b_or)), factors.a_ri, alpha=factors.scale)
        a_ri.copy_(share_of(a_ri, term.draw_again(self.in_features, number)))
        b_or.zero_()

    @torch.no_grad()
    def merge(self, zeros: Zeros = "fill") -> nn.Module:
        """The stock layer with the same outputs; its weight is trained if any of the terms was.

        Args:
            zeros: `keep` leaves out what an update would add where the base is zero, so outputs differ by that.
        """
        terms = (self.base, self.low_rank_a, self.low_rank_b, self.values)
        trainable = any(term is not None and term.requires_grad for term in terms)
        weight = self.effective_weight().detach().clone()
        if zeros == "keep" and self.base is not None:
            weight[self.base == 0] = 0.0
        return stock_layer(self.site, weight, self.bias, trainable=trainable)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, which cannot read 16-bit unsigned tensors back: columns as signed ones, bit for bit.

        The structure is left out: it is for this machine's instruction set, and another one may read the pickle.
        """
        state = self.__dict__.copy()
        state["_buffers"] = {**state["_buffers"], "structure": None}
        if self.columns is not None and self.columns.dtype == torch.uint16:
            state["_buffers"]["columns"] = self.columns.view(torch.int16)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What `__getstate__` gave."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.columns is not None and self.columns.dtype == torch.int16:
            self.columns = self.columns.view(torch.uint16)
        self._prepare()

    def extra_repr(self) -> str:
        """Sizes, terms and path."""
        terms = [f.lower() for f in ("base", "low_rank", "sparse") if getattr(self.terms, f) is not None]
        text = f"in_features={self.in_features}, out_features={self.out_features}, terms={'+'.join(terms)}"
        return f"{text}, density={self.density:.4g}, bias={self.bias is not None}, path={self.path}"
