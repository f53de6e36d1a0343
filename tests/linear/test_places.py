"""Path `update` keeps the places of few entries, wherever the layer goes, and derives those of many."""

import copy
import pickle

import torch

import fallow
from fallow.accounting.memory import measure_memory
from fallow.accounting.planned import plan_model
from fallow.linear.paths.update import places
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from tests.conformance.families import CONFIGS, tiny, tokens


def test_places_are_kept_copied_moved_and_counted() -> None:
    model = tiny("gpt2")
    fallow.convert(model, "dsee", rank=2, entries=5)
    layers = reparam_layers(model)
    with torch.no_grad():
        for layer in layers.values():
            assert layer.path == "update" and layer.values is not None
            layer.values.normal_(generator=torch.Generator().manual_seed(1))
    for layer in layers.values():
        rows, columns = layer.structure.unbind(0)
        assert (rows * layer.in_features + columns).equal(layer.support.flat())
        assert layer.structure.equal(places(layer.row_pointers, layer.columns))
    expected = model(tokens()).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model).double().float()):
        assert all(layer.structure is not None for layer in reparam_layers(other).values())
        assert other(tokens()).logits.equal(expected)
    for layer in layers.values():
        layer.structure = None  # derived in each pass
    assert model(tokens()).logits.equal(expected)


def test_many_entries_are_not_kept_and_bytes_are_those_of_the_estimate() -> None:
    for entries, kept in ((5, True), (600, False)):
        method = method_of("dsee", rank=2, entries=entries, support="magnitude")
        model = tiny("gpt2")
        fallow.convert(model, method)
        assert all((layer.structure is not None) == kept for layer in reparam_layers(model).values())
        assert measure_memory(model).layers.indices == plan_model(CONFIGS["gpt2"], method, device="cpu").index_bytes
