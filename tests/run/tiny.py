"""A recipe of two stages that runs in seconds on text made here, and helpers to run it in processes of their own."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

RECIPE = """
name: tiny
seed: 1
device: cpu
tokenizer: {{vocab_size: 300}}
datasets:
  text: {{kind: text, sources: [{{path: "{folder}/text.jsonl"}}], context: 16, valid_share: 0.2}}
  pairs: {{kind: pairs, format: jsonl, train: "{folder}/pairs.jsonl", valid: "{folder}/pairs.jsonl", context: 64}}
x-model: &model
  config: {{model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 2, n_positions: 64, resid_pdrop: 0.1, attn_pdrop: 0.0}}
stages:
  - name: pretrain
    label: sparse
    model: *model
    method: {{name: sparse, sparsity: 0.75, parametrization: supar}}
    dataset: text
    budget: {{steps: 24}}
    batch: {{sequences: 8, micro: 4}}
    optimizer: {{lr: 3e-3}}
    schedule: {{warmup: {{steps: 4}}}}
    validation: {{every: {{steps: 6}}}}
    checkpoint: {{every: {{steps: 5}}}}
  - name: tune
    label: then dense
    model: {{stage: pretrain}}
    method: {{name: dense}}
    dataset: pairs
    budget: {{steps: 16}}
    batch: {{sequences: 4, micro: 4}}
    optimizer: {{lr: 1e-3}}
    validation: {{every: {{steps: 4}}, keep: best}}
    checkpoint: {{every: {{steps: 3}}}}
    evaluate: {{decoding: {{max_new_tokens: 4, max_contexts: 6}}}}
"""


def write_recipe(folder: Path) -> Path:
    """Text, pairs and the recipe that reads them; the same in every call."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    words = ["seed", "field", "rain", "crop", "rest", "soil", "year", "grain", "the", "a", "of", "and", "lies", "grows"]
    texts = [" ".join(draw.choices(words, k=60)) for _ in range(80)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [{"context": f"{a} and {b}", "target": f"{b} {a}"} for a in words for b in words[:5]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(folder=folder))
    return recipe


def write_changed(folder: Path, changes: Iterable[tuple[str, str]]) -> Path:
    """The same recipe with texts in it replaced."""
    recipe = write_recipe(folder)
    text = recipe.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    recipe.write_text(text)
    return recipe


def start(recipe: Path, output: Path, *flags: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`fallow run` in a process of its own, or in several through a launcher."""
    command = [sys.executable, *launcher, "-m", "fallow", "run", str(recipe), "--output", str(output), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def run(recipe: Path, output: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The same, waited for."""
    process = start(recipe, output, *flags)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def environment() -> dict[str, str]:
    """One thread, no network, and this source tree."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


def weights(output: Path, stage: str) -> bytes:
    """The bytes of a stage's finished weights."""
    return (output / stage / "model" / "model.safetensors").read_bytes()


def results(output: Path) -> dict[str, Any]:
    """What the run wrote."""
    found: dict[str, Any] = json.loads((output / "results.json").read_text())
    return found


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fallow")]
    assert len(lines) == 1, lines
    return lines[0]
