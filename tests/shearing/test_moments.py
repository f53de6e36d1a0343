"""Gradients of a gated model's weights, carried over, against those of the model that is cut from it."""

import pytest
import torch

import fallow
from fallow.methods import method_of
from fallow.shearing.concrete import HardConcrete
from fallow.shearing.scores.example import loss_of
from tests.conformance.families import tokens
from tests.shearing.test_gates import HALF, sheared
from tests.shearing.tiny import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_moments_are_those_of_the_smaller_model(name: str) -> None:
    ids = tokens(4, 13)
    example = (ids[:, :-1], ids[:, 1:])
    model = sheared(name).eval()
    loss_of(model, example).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None and "gates" not in key}
    method = method_of("shear", to=HALF)
    first = method.map_optimizer_state(model, gradients, 1)
    second = method.map_optimizer_state(model, {key: value**2 for key, value in gradients.items()}, 2)
    model = fallow.merge(model)
    loss_of(model, example).backward()
    own = dict(model.named_parameters())
    assert first.keys() == second.keys() == own.keys()
    for key, parameter in own.items():
        assert parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(first[key], parameter.grad, rtol=1e-3, atol=2e-5 * scale + 1e-9)
        torch.testing.assert_close(second[key], parameter.grad**2, rtol=2e-3, atol=(2e-5 * scale + 1e-9) ** 2)


def test_converged_gates_end_a_stage_that_waits_for_them() -> None:
    model = sheared(preset="reachable")
    waits = method_of("shear", to=HALF, until="converged")
    assert not waits.should_stop(model, 10)
    with torch.no_grad():
        for axis, group in model.gates.groups.items():
            model.gates.log_alpha[axis].fill_(-HardConcrete.CEILING)[..., : group.keep] = HardConcrete.CEILING
    assert waits.should_stop(model, 10) and not waits.should_stop(model, 11)
    assert not method_of("shear", to=HALF).should_stop(model, 10)
