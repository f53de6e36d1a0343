"""Updates outside of their model: as a LoRA that stock PEFT loads, as one small file, and back."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import fallow
from fallow.cli.main import main
from fallow.errors import UserError
from fallow.hf.peft_export import base_model, to_peft
from fallow.hf.peft_import import from_peft
from fallow.hf.update_file import load_update, save_update
from fallow.methods import DSEE
from fallow.methods.base import reparam_layers
from fallow.pruning import Heads, Weights, prune
from tests.conformance.families import tiny, tokens
from tests.pruning.tuned import tuned

peft = pytest.importorskip("peft")


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=tokens()).logits


@pytest.mark.parametrize(
    ("family", "method", "rank"),
    [
        ("gpt2", "dsee", 2 * (2 + 4)),
        ("gpt2", "lora", 2 * 2),
        ("llama", "dsee", 2 + 4),
        ("roberta", "dsee", 2 + 4),
        ("bert classifier", "dsee", 2 + 4),
    ],
)
def test_stock_peft_loads_the_update_with_equal_outputs(family: str, method: str, rank: int, tmp_path: Path) -> None:
    model = tuned(family, method).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("classifier"):
                parameter.add_(0.3)  # a head that was trained belongs to the update
    expected = logits(model)
    assert to_peft(model, tmp_path, base="somewhere") == rank
    loaded = peft.PeftModel.from_pretrained(tiny(family), tmp_path)
    assert (expected - logits(tiny(family))).abs().max() > 1e-3
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), expected, rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "somewhere"


@pytest.mark.parametrize("settings", [Weights(ratio=0.5), Heads(num=1)], ids=["weights", "heads"])
def test_a_pruned_model_goes_out_as_its_base_and_a_lora(settings: Weights | Heads, tmp_path: Path) -> None:
    model = tuned("llama", modules=("q", "v", "o")).float()
    prune(model, settings)
    expected = logits(model)
    to_peft(model, tmp_path / "adapter")
    base_model(model).save_pretrained(tmp_path / "base")
    base = fallow.load(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-5)
    assert logits(model).equal(expected)  # it stays as it is


def of_peft(family: str, folder: Path, targets: list[str], **settings: object) -> torch.Tensor:
    """A LoRA that PEFT made and saved; the logits with it."""
    torch.manual_seed(5)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False, **settings)
    model = peft.get_peft_model(tiny(family), config)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize(
    ("family", "targets", "settings"),
    [("gpt2", ["c_attn"], {"fan_in_fan_out": True}), ("llama", ["q_proj", "v_proj"], {"use_rslora": True})],
)
def test_a_lora_of_peft_is_taken_over(family: str, targets: list[str], settings: dict, tmp_path: Path) -> None:
    expected = of_peft(family, tmp_path, targets, **settings)
    model = tiny(family)
    method = from_peft(model, tmp_path)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)
    entries = tiny(family)
    from_peft(entries, tmp_path, method=DSEE(rank=4, alpha=method.alpha, entries=3, modules=()))
    torch.testing.assert_close(logits(entries), expected, rtol=0, atol=1e-5)  # S begins at zero
    assert sum(layer.values.numel() for layer in reparam_layers(entries).values()) == 3 * len(reparam_layers(entries))
    with pytest.raises(UserError, match="method.rank is 2, but the adapter in .* has 4. Write rank: 4"):
        from_peft(tiny(family), tmp_path, method=DSEE(rank=2))
    if family == "gpt2":
        with pytest.raises(UserError, match=r"keys as well, but the method adapts a part of them. Write modules: \[\]"):
            from_peft(tiny(family), tmp_path, method=DSEE(rank=4, alpha=8.0))


def test_adapters_of_other_bases_and_kinds_are_refused(tmp_path: Path) -> None:
    of_peft("llama", tmp_path / "llama", ["q_proj"])
    with pytest.raises(UserError, match="was made for another base: it adapts model.layers.0.self_attn.q_proj, which"):
        from_peft(tiny("gpt2"), tmp_path / "llama")
    of_peft("opt", tmp_path / "opt", ["fc1"])
    wide = fallow.folder.build({**tiny("opt").config.to_dict(), "ffn_dim": 96})
    with pytest.raises(UserError, match="another base: .* is 64 x 32 there, and 96 x 32 here"):
        from_peft(wide, tmp_path / "opt")
    of_peft("opt", tmp_path / "dora", ["fc1"], use_dora=True)
    with pytest.raises(UserError, match="use_dora is True, which has no counterpart here"):
        from_peft(tiny("opt"), tmp_path / "dora")
    with pytest.raises(UserError, match="holds no adapter of PEFT"):
        from_peft(tiny("opt"), tmp_path)
    (tmp_path / "opt" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="files of pickle are not read"):
        from_peft(tiny("opt"), tmp_path / "opt")
    with pytest.raises(UserError, match="has no update beside its weights"):
        to_peft(tiny("opt"), tmp_path / "nothing")


def test_a_lora_that_names_another_base_needs_a_word(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Equal shapes, and other weights: only the name that PEFT noted can tell."""
    for name in ("trained-on", "another", "copies/trained-on"):
        tiny("gpt2").save_pretrained(tmp_path / name)
    base = fallow.load(tmp_path / "trained-on")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    command = ["import", str(tmp_path / "adapter"), "--base"]
    assert main([*command, str(tmp_path / "trained-on"), "--output", str(tmp_path / "a")]) == 0
    assert main([*command, str(tmp_path / "another"), "--output", str(tmp_path / "b")]) == 2
    assert "was made for the base" in (said := capsys.readouterr().err) and "write --renamed" in said
    assert main([*command, str(tmp_path / "another"), "--output", str(tmp_path / "b"), "--renamed"]) == 0
    with pytest.raises(UserError, match="another name"):  # both folders are here, and they are two
        fallow.from_peft(fallow.load(tmp_path / "copies/trained-on"), tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    (tmp_path / "adapter/adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": "someone/trained-on"})
    )
    fallow.from_peft(fallow.load(tmp_path / "copies/trained-on"), tmp_path / "adapter")  # of the Hub, and a copy here
    with pytest.raises(UserError, match="for the base someone/trained-on, and this model is"):
        fallow.from_peft(fallow.load(tmp_path / "another"), tmp_path / "adapter")


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert classifier"])
def test_one_small_file_holds_the_whole_update(family: str, tmp_path: Path) -> None:
    model = tuned(family).float()
    size = save_update(model, tmp_path / "update.safetensors")
    numbers = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad)
    entries = sum(layer.values.numel() for layer in reparam_layers(model).values())
    assert 4 * (numbers + entries) < size < 4 * (numbers + entries) + 600 + 450 * len(reparam_layers(model))
    again = tiny(family)
    load_update(again, tmp_path / "update.safetensors")
    assert logits(again).equal(logits(model))
    other = tiny(family)
    with torch.no_grad():
        next(
            p for n, p in other.named_parameters() if n.endswith(("c_attn.weight", "q_proj.weight", "query.weight"))
        ).mul_(1.01)
    with pytest.raises(UserError, match="was made for another base: the weights of its layers have another checksum"):
        load_update(other, tmp_path / "update.safetensors")
    with pytest.raises(UserError, match="was made for another base: it changes"):
        load_update(tiny("opt"), tmp_path / "update.safetensors")
    (tmp_path / "cut").write_bytes((tmp_path / "update.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match="is no update of fallow.save_update, or damaged"):
        load_update(tiny(family), tmp_path / "cut")


def test_the_size_that_peft_needs_for_as_many_entries_is_not_exceeded(tmp_path: Path) -> None:
    """Width 256, 4 layers, rank 4, 16 entries in q and v: PEFT's Super-Tuning with LoRA saves 71 kB there."""
    for kind in ("llama", "gpt2"):
        config = {"model_type": kind, "vocab_size": 64, "hidden_size": 256, "num_hidden_layers": 4}
        names = (
            {"n_embd": 256, "n_layer": 4, "n_head": 4}
            if kind == "gpt2"
            else {"intermediate_size": 64, "num_attention_heads": 4}
        )
        config = {"model_type": kind, "vocab_size": 64, **names} if kind == "gpt2" else {**config, **names}
        model = fallow.folder.build(config)
        fallow.convert(model, "dsee", rank=4, entries=16, support="magnitude")
        assert save_update(model, tmp_path / kind) <= 71_000


def test_commands_take_updates_out_and_in(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = tuned("gpt2").float()
    prune(model, Weights(ratio=0.3))
    fallow.save(model, tmp_path / "tuned")
    where = str(tmp_path)
    for kind, out in (("file", "update.safetensors"), ("peft", "adapter")):
        extra = ["--base-output", f"{where}/base"] if kind == "file" else []
        assert main(["export", f"{where}/tuned", "--output", f"{where}/{out}", "--to", kind, "--json", *extra]) == 0
    assert '"rank": 12' in capsys.readouterr().out
    assert main(["import", f"{where}/update.safetensors", "--base", f"{where}/base", "--output", f"{where}/a"]) == 0
    assert logits(fallow.load(tmp_path / "a")).equal(logits(model))
    assert main(["import", f"{where}/adapter", "--base", f"{where}/base", "--output", f"{where}/b"]) == 0
    torch.testing.assert_close(logits(fallow.load(tmp_path / "b")), logits(model), rtol=0, atol=1e-5)
    tiny("gpt2").save_pretrained(tmp_path / "other")
    assert main(["import", f"{where}/update.safetensors", "--base", f"{where}/other", "--output", f"{where}/c"]) == 2
    assert main(["export", f"{where}/other", "--output", f"{where}/d"]) == 2
    assert main(["import", f"{where}/adapter", "--base", f"{where}/other", "--output", f"{where}/e"]) == 2
    errors = capsys.readouterr().err
    assert (
        errors.count("was made for another base") == 2
        and "holds a merged model, whose update cannot be told apart" in errors
    )
