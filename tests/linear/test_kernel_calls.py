"""Calls of the kernels that make no sense: each one is refused, and none reads or writes outside its tensors."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear import ReparamLinear, Site, Sparse, Terms
from fallow.linear.kernels.operators import sparse_linear
from fallow.linear.kernels.structure import make_structure
from fallow.linear.paths import PATHS, why_not
from fallow.random import Key
from fallow.supports import kind_of
from tests.paths import needs_kernels

ROOT = Path(__file__).parents[2]
NOTHING = torch.empty(0, dtype=torch.int32)


@needs_kernels
def test_random_calls_are_right_or_refused() -> None:
    """In a process of their own, which a call outside of memory would end."""
    command = [sys.executable, "-m", "tests.attack.kernels", "1200", "3"]
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1200 calls" in done.stdout and " 0 wrong" in done.stdout


@pytest.mark.parametrize("path", [path for path in PATHS if not why_not(path) and path != "semi_structured"])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (300,), (3, 300), (2, 2, 39)])
def test_a_layer_refuses_another_width(path: str, shape: tuple[int, ...]) -> None:
    kind, size = ("block:16", 64) if path == "block" else ("uniform", 64)
    sparse = Sparse(kind=kind_of(kind), density=0.25, key=Key(0), parts=(size,))
    site = Site("fc", (size, size), (size,), False)
    layer = ReparamLinear.from_layer(nn.Linear(size, size), site, Terms(sparse=sparse), path)
    with torch.no_grad(), pytest.raises(UserError, match=r"cannot be multiplied \(\d+x\d+ and 64x64\): fc takes"):
        layer(torch.zeros(shape))
    with pytest.raises(UserError, match="fc takes floating-point inputs, not torch.int64"):
        layer(torch.zeros(2, 64, dtype=torch.int64))


@needs_kernels
@pytest.mark.parametrize("tokens", [1, 2, 40])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda pointers, columns: columns.view(torch.int16)[-1:].fill_(-1),  # 65,535
        lambda pointers, columns: pointers[1:2].fill_(2**31 - 1),
        lambda pointers, columns: pointers[1:2].fill_(-5),
        lambda pointers, columns: pointers[-1:].add_(1),
        lambda pointers, columns: pointers.resize_(3),
    ],
)
def test_a_support_that_was_changed_is_looked_at_again(tokens: int, kept: bool, spoil: Callable) -> None:
    support = kind_of("uniform").draw((20, 50), 0.3, Key(0, "changed"))
    pointers, columns = support.row_pointers, support.columns
    structure = make_structure(support.shape, pointers, columns) if kept else NOTHING
    x, values = torch.randn(tokens, 50), torch.randn(support.nnz)
    with torch.no_grad():
        sparse_linear(x, values, structure, pointers, columns)
        spoil(pointers, columns)
        with pytest.raises(ValueError):
            sparse_linear(x, values, structure, pointers, columns)


@needs_kernels
def test_a_structure_with_one_wrong_word_is_refused() -> None:
    support = kind_of("uniform").draw((20, 50), 0.3, Key(0, "changed"))
    structure = make_structure(support.shape, support.row_pointers, support.columns)
    x, values = torch.randn(40, 50), torch.randn(support.nnz)
    for place in range(0, structure.numel(), 7):
        spoilt = structure.clone()
        spoilt[place] += 1
        with pytest.raises(ValueError), torch.no_grad():
            sparse_linear(x, values, spoilt, support.row_pointers, support.columns)


@needs_kernels
def test_a_support_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.linear.kernels import structure as module

    looked: list[int] = []
    whole = module._sound
    monkeypatch.setattr(module, "_sound", lambda *given: looked.append(1) or whole(*given))
    sparse = Sparse(kind=kind_of("uniform"), density=0.1, key=Key(0), parts=(24,))
    for path, times in (("factored", 1), ("sparse", 0)):
        looked.clear()
        site = Site("fc", (24, 40), (24,), False)
        with torch.inference_mode():  # whatever the layer is made in
            layer = ReparamLinear.from_layer(nn.Linear(40, 24), site, Terms(sparse=sparse), path)
        assert layer.columns is not None and not layer.columns.is_inference()
        for tokens in (1, 2, 40):
            x = torch.randn(tokens, 40)
            with torch.no_grad():
                layer(x)
        layer.values = nn.Parameter(layer.values.detach().clone())
        layer.bias = nn.Parameter(torch.zeros(24))
        layer(torch.randn(3, 40)).sum().backward()
        assert len(looked) == times, path


@needs_kernels
def test_the_compiler_sees_the_same_mistakes() -> None:
    support = kind_of("uniform").draw((20, 50), 0.3, Key(0, "changed"))
    rest = [t.to("meta") for t in (NOTHING, support.row_pointers, support.columns)]
    x, values = torch.empty(3, 50, device="meta"), torch.empty(support.nnz, device="meta")
    call: Callable[..., Tensor] = torch.ops.fallow.sparse_linear
    assert call(x, values, *rest, None, None).shape == (3, 20)
    for wrong in ((x[0], values), (x, values[1:]), (x.double(), values), (torch.zeros(3, 50), values)):
        with pytest.raises(ValueError):
            call(*wrong, *rest, None, None)
    with pytest.raises(ValueError, match="bias"):
        call(x, values, *rest, torch.empty(19, device="meta"), None)
