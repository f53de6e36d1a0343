"""The example that makes a Hugging Face folder of a llama2.c model, against the published text and logits."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

_ROOT = Path(__file__).resolve().parents[2]


def test_stories260k_writes_the_published_story() -> None:
    shared = Path(os.environ.get("FALLOW_DEV_DATA") or _ROOT.parent / "shared")
    folder = shared / "models" / "stories260K"
    if not (folder / "golden.json").exists():
        pytest.skip(f"development data absent: {folder}")
    spec = importlib.util.spec_from_file_location("llama2c", _ROOT / "benchmarks" / "llama2c.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = example.read_model(folder / "stories260K.bin")
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    tokenizer = example.read_tokenizer(folder / "tok512.bin", model.config.vocab_size)
    prompt, wanted = golden["prompt"], golden["greedy"]["token_ids"][:40]
    ids = [1, *tokenizer(prompt["text"], add_special_tokens=False).input_ids]
    assert ids == prompt["token_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1, :10]
        written = model.generate(torch.tensor([wanted[:1]]), max_new_tokens=39, do_sample=False)
    torch.testing.assert_close(logits, torch.tensor(prompt["last_position_logits_first10"]), rtol=1e-4, atol=1e-4)
    assert written[0].tolist() == wanted
    assert tokenizer.decode(ids, skip_special_tokens=True) == prompt["text"]
