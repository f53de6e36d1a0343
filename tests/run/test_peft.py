"""Stages that tune through PEFT: trained, judged, kept, handed on or not."""

from pathlib import Path

import pytest
import torch
import yaml

import fallow
from fallow.cli.main import main
from tests.run.test_classification import recipe_file
from tests.run.tiny import results, write_recipe

peft = pytest.importorskip("peft")


def test_a_prefix_is_trained_generates_and_is_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, out = write_recipe(tmp_path), tmp_path / "out"
    plain = yaml.safe_load(file.read_text())
    first, tune = plain["stages"]
    plain["datasets"]["pairs"]["context"] = 56
    first["budget"] = {"steps": 8}
    decoding = {"decoder": "lora", "num_beams": 2, "max_new_tokens": 4, "max_contexts": 6}
    method = {"name": "peft", "kind": "prefix", "tokens": 8, "hidden": 16}
    tune |= {"model": {"stage": "pretrain"}, "method": method, "name": "prefix", "optimizer": {"lr": 1e-2}}
    tune["evaluate"]["decoding"] = decoding
    file.write_text(yaml.safe_dump(plain))
    assert main(["run", str(file), "--output", str(out), "--json"]) == 0
    found = results(out)["stages"]["prefix"]
    assert found["training"]["counts"]["trainable"] == 8 * 32 + 32 * 16 + 16 + 16 * 128 + 128
    model, frozen = fallow.load(out / "prefix/model"), fallow.load(out / "pretrain/model")
    ids = torch.arange(5, 15)[None]
    loaded = peft.PeftModel.from_pretrained(frozen, out / "prefix/model/adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, loaded(input_ids=ids).logits, rtol=0, atol=1e-6)
    assert "fallow.load(folder)" in (out / "prefix/model/README.md").read_text()

    changed = tune | {"evaluate": {"decoding": {**decoding, "decoder": "generate"}}}
    file.write_text(yaml.safe_dump({**plain, "stages": [first, changed]}))
    assert main(["run", str(file), "--output", str(out), "--json"]) == 0  # judged anew, by the search of transformers
    assert results(out)["stages"]["prefix"]["scores"]["perplexity"] == found["scores"]["perplexity"]
    plain["stages"].append({**changed, "name": "more", "model": {"stage": "prefix"}, "method": {"name": "dense"}})
    capsys.readouterr()
    file.write_text(yaml.safe_dump({**plain, "stages": [first, changed, plain["stages"][-1]]}))
    assert main(["run", str(file), "--output", str(tmp_path / "other"), "--json"]) == 2
    assert "stage more cannot come after stage prefix, whose method peft trains what is" in capsys.readouterr().err
    assert main(["merge", str(out / "prefix/model"), "--output", str(tmp_path / "merged")]) == 2
    assert "is no part of the weights and cannot be merged" in capsys.readouterr().err
    assert main(["generate", str(out / "prefix/model"), "--prompt", "seed", "--max-new-tokens", "2"]) == 0


@pytest.mark.parametrize("kind", ["p_tuning_v2", "ia3"])
def test_classifiers_are_tuned_with_their_heads(kind: str, tmp_path: Path) -> None:
    tokens = {"tokens": 4} if kind == "p_tuning_v2" else {}
    file = recipe_file(tmp_path, method={"name": "peft", "kind": kind, **tokens}, budget={"steps": 10})
    plain = yaml.safe_load(file.read_text())
    plain["stages"][0]["model"]["config"]["max_position_embeddings"] = 64
    file.write_text(yaml.safe_dump(plain))
    assert main(["run", str(file), "--output", str(tmp_path / "run"), "--json"]) == 0
    stage = results(tmp_path / "run")["stages"][plain["stages"][0]["name"]]
    model = fallow.load(tmp_path / "run" / plain["stages"][0]["name"] / "model")
    assert stage["scores"]["accuracy"] >= 0 and type(model).__name__ == "BertForSequenceClassification"
    assert hasattr(model, "prefix") == (kind == "p_tuning_v2")
