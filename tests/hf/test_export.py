"""A merged folder written layer by layer is the one that merging in memory would give."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

import fallow
from fallow.counting import count
from fallow.hf.export import export
from tests.conformance.families import tiny, tokens

METHODS = {
    "sltrain": {"rank": 4, "density": 0.1},
    "relora": {"rank": 4, "every": 9, "warmup": 0},
    "sparse": {"sparsity": 0.75},
}


def stored(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return found


@pytest.mark.parametrize(
    ("family", "method"),
    [("gpt2", "sltrain"), ("llama tied", "sltrain"), ("gpt_neox", "sltrain"), ("gpt2", "relora"), ("gpt2", "sparse")],
)
def test_the_files_are_those_of_save_pretrained(family: str, method: str, tmp_path: Path) -> None:
    model = tiny(family)
    fallow.convert(model, method, **METHODS[method])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        before = model(input_ids=tokens()).logits
    counted = export(model, tmp_path / "ours", shard_bytes=20_000)
    assert len(list((tmp_path / "ours").glob("model-*.safetensors"))) > 2
    fallow.merge(model).save_pretrained(tmp_path / "theirs")
    ours, theirs = stored(tmp_path / "ours"), stored(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    torch.testing.assert_close(loaded(input_ids=tokens()).logits, before, rtol=0, atol=1e-5)
    assert counted == count(model)


def test_one_file_when_it_fits_and_types_come_along(tmp_path: Path) -> None:
    model = tiny("llama").to(torch.bfloat16)
    fallow.convert(model, "sltrain", rank=4)
    export(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "generation_config.json", "model.safetensors",
    ]  # fmt: skip
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert next(loaded.parameters()).dtype == torch.bfloat16


def test_no_more_than_a_file_and_a_layer_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.hf import export as module

    model = tiny("llama")
    fallow.convert(model, "sltrain", rank=4)
    held = []
    write = module._Writer._write
    monkeypatch.setattr(module._Writer, "_write", lambda writer: (held.append(writer.size), write(writer)))
    export(model, tmp_path, shard_bytes=30_000)
    largest = max(4 * p.numel() for p in fallow.merge(model).parameters())
    assert len(held) > 3 and max(held) <= max(30_000, largest)
