"""Checkpoints of SLTrain's released code: made here as that code makes them, imported, merged, generated from."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fallow
from fallow.cli.main import main
from fallow.errors import UserError
from fallow.hf.released import import_released
from fallow.methods.base import reparam_layers
from tests.conformance.families import tiny, tokens

RANK, DENSITY, ALPHA = 8, 0.07, 4


def released(folder: Path, *, seed: int = 42, scale: float | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """Write a checkpoint as the released code would, and give the dense model with its outputs.

    In place of each linear layer whose name contains attn or mlp: A, B (zero, then trained: here drawn), the first
    int(density * size) of a permutation of all positions, sorted, and the values, drawn in this order.
    """
    model = tiny("llama")
    torch.manual_seed(seed)
    drawn = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or not ("attn" in name or "mlp" in name):
            continue
        d_out, d_in = module.weight.shape
        a = torch.empty(RANK, d_in)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        index = torch.sort(torch.randperm(d_out * d_in)[: int(DENSITY * d_out * d_in)])[0]
        values = torch.empty(index.numel())
        nn.init.uniform_(values, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
        drawn[name] = {"lora_A": a, "lora_B": torch.zeros(d_out, RANK), "sparse_value": values, "sparse_index": index}
    draw = torch.Generator().manual_seed(7)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for name, parts in drawn.items():
        parts["lora_B"] = torch.randn(parts["lora_B"].shape, generator=draw)
        if scale is not None:
            parts["scaling"] = torch.tensor([scale])
        factor = ALPHA / RANK if scale is None else math.tanh(scale)
        weight = factor * parts["lora_B"] @ parts["lora_A"]
        weight.view(-1)[parts["sparse_index"]] += parts["sparse_value"]
        model.get_submodule(name).weight.data = weight
        del state[f"{name}.weight"]
        state |= {f"{name}.{leaf}": tensor for leaf, tensor in parts.items()}
    state = {key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()}
    folder.mkdir(exist_ok=True)
    save_file(
        {key: t.contiguous() for key, t in state.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    config = model.config.to_dict() | {"pad_token_id": -1, "max_sequence_length": 64}
    config.pop("max_position_embeddings")
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"]}))
    settings = {
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "sp_ratio": DENSITY,
        "target_modules": ["attn", "mlp"],
    }
    (folder / "splora_config.json").write_text(json.dumps(settings))
    return model.eval(), drawn


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("released")
    return folder, released(folder)[0]


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=tokens()).logits


@pytest.mark.parametrize("seed", [None, 42])
def test_outputs_are_those_of_the_checkpoint(checkpoint: tuple[Path, Any], seed: int | None, tmp_path: Path) -> None:
    folder, dense = checkpoint
    found = import_released(folder, seed=seed)
    assert found.seed == seed and len(found.notes) == 2
    torch.testing.assert_close(logits(found.model), logits(dense), rtol=1e-4, atol=1e-5)
    fallow.save(found.model, tmp_path / "unmerged")
    again = fallow.load(tmp_path / "unmerged")
    assert torch.equal(logits(again), logits(found.model))
    kept = [key for key in load_file(tmp_path / "unmerged" / "fallow.safetensors") if key.endswith("positions")]
    assert len(kept) == (0 if seed is not None else len(reparam_layers(again)))  # from the seed they need no storage
    prompt = tokens()[:1, :4]
    continued = again.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(continued, dense.generate(prompt, max_new_tokens=6, do_sample=False, pad_token_id=0))
    merged = fallow.merge(again)
    torch.testing.assert_close(logits(merged), logits(dense), rtol=1e-4, atol=1e-5)


def test_the_released_draws_are_repeated_state_by_state(tmp_path: Path) -> None:
    """Parity: our layers of preset released begin with the very numbers, whatever the global generator holds."""
    _, drawn = released(tmp_path, seed=5)
    model = tiny("llama")
    torch.manual_seed(99)
    fallow.convert(model, "sltrain", rank=RANK, density=DENSITY, alpha=float(ALPHA), preset="released", seed=5)
    layers = reparam_layers(model)
    assert list(layers) == list(drawn)
    for name, layer in layers.items():
        assert torch.equal(layer.support.flat(), drawn[name]["sparse_index"])
        assert torch.equal(layer.values.detach(), drawn[name]["sparse_value"])
        assert torch.equal(layer.low_rank_a.detach(), drawn[name]["lora_A"])
        assert not layer.low_rank_b.detach().any()


def test_a_trained_scale_goes_into_the_factors(tmp_path: Path) -> None:
    dense, _ = released(tmp_path, scale=0.6)
    found = import_released(tmp_path)
    assert "trained scale of 14 layers" in found.notes[-1]
    torch.testing.assert_close(logits(found.model), logits(dense), rtol=1e-4, atol=1e-5)


def test_types_come_along_and_shards_and_pickles_are_read(tmp_path: Path) -> None:
    released(tmp_path, dtype=torch.bfloat16)
    whole = import_released(tmp_path).model
    assert {p.dtype for p in whole.parameters()} == {torch.bfloat16}
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model.bin alone. A pickle can run code .* \(--pickle\)"):
        import_released(tmp_path)
    found = [import_released(tmp_path, pickle=True).model]
    names, places = sorted(tensors), {}
    for number in (1, 2):
        part = names[number - 1 :: 2]
        save_file({key: tensors[key] for key in part}, tmp_path / f"model-{number}.safetensors")
        places |= dict.fromkeys(part, f"model-{number}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found.append(import_released(tmp_path).model)
    assert all(torch.equal(logits(model), logits(whole)) for model in found)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match="model-2.safetensors is missing"):
        import_released(tmp_path)


def change(key: str, edit: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        new = edit(tensors.pop(key))
        save_file(tensors | ({} if new is None else {key: new}), folder / "model.safetensors")

    return harm


def rewrite(file: str, **values: object) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))

    return harm


Q = "model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "splora_config.json").unlink(), "not saved by the released code of SLTrain"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "damaged"),
        (rewrite("splora_config.json", r="many"), "r is 'many', but it must be a number above 0"),
        (rewrite("splora_config.json", sp_ratio=3), "sp_ratio is 3, but it must be below 1"),
        (rewrite("splora_config.json", r=4), r"do not belong together: .*lora_A is of shape \(8, 32\), "),
        (rewrite("splora_config.json", sp_ratio=0.2), r"sparse_index is of shape \(71,\), expected \(204,\)"),
        (rewrite("config.json", hidden_size=64), "do not belong together|does not fit"),
        (rewrite("config.json", num_hidden_layers=1), "has no such layer"),
        (rewrite("config.json", model_type="lama"), "config.json: unknown model_type"),
        (change(f"{Q}.sparse_index", lambda t: t + 2000), f"{Q}.sparse_index a position lies outside"),
        (change(f"{Q}.sparse_index", lambda t: t * 0), "is named twice"),
        (change(f"{Q}.lora_B", lambda t: None), f"{Q}.lora_B is not there"),
        (change("model.norm.weight", lambda t: None), "holds no model.norm.weight"),
        (change("lm_head.weight", lambda t: t[1:].clone()), "does not fit config.json: lm_head.weight has shape"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    harm: Callable[[Path], Any], message: str, checkpoint: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "harmed"
    shutil.copytree(checkpoint[0], folder)
    harm(folder)
    with pytest.raises(UserError, match=message):
        import_released(folder)


def test_another_seed_is_refused(checkpoint: tuple[Path, Any]) -> None:
    with pytest.raises(UserError, match=r"seed 43 does not repeat the support of model.layers.0.self_attn.q_proj"):
        import_released(checkpoint[0], seed=43)


def test_a_support_that_nobody_gives() -> None:
    with pytest.raises(UserError, match="is given by nobody. `fallow import-sltrain` brings one along"):
        fallow.convert(tiny("llama"), "sltrain", rank=8, support="given")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0, "preset": "released"}, "a rank of at least 1 and a density between 0 and 1"),
        (
            {"rank": 4, "preset": "released", "support": "vector:4"},
            "support is vector:4, which preset released does not",
        ),
        ({"rank": 4, "support": "given", "base": "frozen"}, "needs a density above 0 and base: none"),
        ({"rank": 4, "preset": "relesed"}, "Did you mean released"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fallow.convert(tiny("llama"), "sltrain", **settings)


def test_preset_released_leaves_other_layers_to_the_paper() -> None:
    with pytest.raises(UserError, match="replaces nn.Linear alone, and transformer.h.0.attn.c_attn"):
        fallow.convert(tiny("gpt2"), "sltrain", rank=4, preset="released")


def test_the_command(checkpoint: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, dense = checkpoint
    assert main(["import-sltrain", str(folder), "--output", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "an unmerged model, supports kept beside the weights" in out and "pad_token_id was -1" in out
    assert main(["import-sltrain", str(folder), "--output", str(tmp_path / "b"), "--merge", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["merged"] is True
    stock = type(dense).from_pretrained(tmp_path / "b")
    torch.testing.assert_close(logits(stock), logits(dense), rtol=1e-4, atol=1e-5)
    assert main(["merge", str(tmp_path / "a"), "--output", str(tmp_path / "c")]) == 0
    assert torch.equal(logits(type(dense).from_pretrained(tmp_path / "c")), logits(stock))
    for flags, message in (
        (["--output", str(tmp_path / "a")], "is there already and not empty"),
        (["--output", str(tmp_path / "d"), "--seed", "1"], "seed 1 does not repeat"),
        (["--output", str(tmp_path / "d"), "--seed", "42", "--merge"], "--seed has no effect on a merged model"),
    ):
        assert main(["import-sltrain", str(folder), *flags]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
