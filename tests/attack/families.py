"""One small recipe for each kind of run, so that together they write every kind of file; and the text they read.

Every path is relative: a command runs in the folder that holds recipe and text, and folders can be copied anywhere.
"""

import json
import random
from pathlib import Path

from tests.data.labelled import vocabulary, write_sst2

SPARSE = """
name: sparse
seed: 1
device: cpu
tokenizer: {vocab_size: 300}
datasets:
  text: {kind: text, sources: [{path: "text.jsonl"}], context: 16, valid_share: 0.2}
  pairs: {kind: pairs, format: jsonl, train: "pairs.jsonl", valid: "pairs.jsonl", context: 64}
stages:
  - name: pretrain
    label: sparse
    model:
      config: {model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 2, n_positions: 64, resid_pdrop: 0.1, attn_pdrop: 0.0}
    method: {name: sparse, sparsity: 0.75}
    dataset: text
    budget: {steps: 12}
    batch: {sequences: 8, micro: 4}
    optimizer: {lr: 3e-3}
    schedule: {warmup: {steps: 3}}
    validation: {every: {steps: 4}}
    checkpoint: {every: {steps: 5}}
  - name: tune
    label: then dense
    model: {stage: pretrain}
    method: {name: dense}
    dataset: pairs
    budget: {steps: 12}
    batch: {sequences: 4, micro: 4}
    optimizer: {lr: 1e-3}
    validation: {every: {steps: 3}, keep: best}
    checkpoint: {every: {steps: 4}}
    evaluate: {decoding: {max_new_tokens: 4, max_contexts: 6}}
"""

SHEAR = """
name: shear
seed: 1
device: cpu
tokenizer: {vocab_size: 300}
datasets:
  text:
    kind: text
    sources: [{path: "text.jsonl", domain: field, weight: 3}, {path: "more.jsonl", domain: house, weight: 1}]
    context: 16
    valid_share: 0.2
x-common: &common
  dataset: text
  batch: {sequences: 8, micro: 4}
  optimizer: {lr: 1e-3}
  validation: {every: {steps: 4}, first: true}
  checkpoint: {every: {steps: 3}}
  budget: {steps: 8}
x-target: &target {layers: 1, hidden: 16, heads: 2, inner: 24}
stages:
  - <<: *common
    name: pretrain
    model:
      config: {model_type: llama, num_hidden_layers: 2, hidden_size: 32, intermediate_size: 48, num_attention_heads: 4,
               num_key_value_heads: 2, max_position_embeddings: 64}
    method: {name: dense}
  - <<: *common
    name: prune
    model: {stage: pretrain}
    method: {name: shear, to: *target, warmup: 4, preset: released}
    mixture: &follow {rule: paper, references: {stage: pretrain}}
  - <<: *common
    name: continue
    model: {stage: prune, moments: true}
    method: {name: dense}
    mixture: {<<: *follow, start: prune}
  - <<: *common
    name: by-score
    model: {stage: pretrain, cut: {to: *target, by: taylor, sequences: 6}}
    method: {name: sparse, sparsity: 0.5}
"""

DSEE = """
name: dsee
seed: 1
device: cpu
tokenizer: {vocab_size: 300}
datasets:
  text: {kind: text, sources: [{path: "text.jsonl"}], context: 16, valid_share: 0.2}
x-tune: &tune
  dataset: text
  budget: {steps: 6}
  batch: {sequences: 4, micro: 4}
  optimizer: {lr: 1e-2}
  checkpoint: {every: {steps: 2}}
stages:
  - <<: *tune
    name: pretrain
    model: {config: {model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 4, n_positions: 64}}
    method: {name: dense}
  - {<<: *tune, name: tune, model: {stage: pretrain}, method: {name: dsee, rank: 2, entries: 3, support: gradient}}
  - name: prune
    model: {stage: tune}
    method: {name: dsee, rank: 2, entries: 3, support: gradient}
    prune: {kind: weights, ratio: 0.5}
    dataset: text
    batch: {sequences: 4, micro: 4}
  - {<<: *tune, name: retune, model: {stage: prune}, method: {name: dsee, rank: 2, entries: 3, values: frozen}}
"""

GRID = """
name: grid
seed: 1
device: cpu
tokenizer: {vocab_size: 300}
datasets:
  pairs: {kind: pairs, format: jsonl, train: "pairs.jsonl", valid: "pairs.jsonl", context: 64}
stages:
  - name: choose
    model: {config: {model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 2, n_positions: 64}}
    method: {name: lora, rank: 2}
    dataset: pairs
    budget: {steps: 6}
    batch: {sequences: 4, micro: 4}
    optimizer: {lr: 1e-3}
    grid: {optimizer.lr: [1e-5, 1e-2]}
    validation: {every: {steps: 3}, keep: best}
    checkpoint: {every: {steps: 2}}
    evaluate: {decoding: {max_new_tokens: 4, max_contexts: 4, num_beams: 2}}
  - name: after
    model: {config: {model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 2, n_positions: 64}}
    method: {name: sltrain, rank: 2}
    dataset: pairs
    budget: {steps: 4}
    batch: {sequences: 4, micro: 4}
    optimizer: {lr: 1e-3}
    evaluate: {decoding: {max_new_tokens: 4, max_contexts: 4}}
"""

LABELS = """
name: labels
seed: 1
device: cpu
tokenizer: {path: vocab.txt}
datasets:
  mood: {kind: classification, task: sst2, train: [train.tsv], valid: [dev.tsv], context: 16}
stages:
  - name: tune
    model:
      config: {model_type: bert, num_hidden_layers: 2, hidden_size: 32, intermediate_size: 64, num_attention_heads: 2,
               max_position_embeddings: 32, hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.0}
    method: {name: sparse, sparsity: 0.5}
    dataset: mood
    budget: {steps: 12}
    batch: {sequences: 8, micro: 4}
    optimizer: {lr: 5e-3}
    validation: {every: {steps: 4}, keep: best, by: score}
    checkpoint: {every: {steps: 5}}
  - name: again
    model: {stage: tune}
    method: {name: dsee, rank: 2, entries: 3}
    dataset: mood
    budget: {steps: 6}
    batch: {sequences: 8, micro: 8}
    optimizer: {lr: 1e-3}
"""

RECIPES = {"sparse": SPARSE, "shear": SHEAR, "dsee": DSEE, "grid": GRID, "labels": LABELS}
"""Family -> its recipe."""

STAGES = {
    "sparse": ("pretrain", "tune"),
    "shear": ("pretrain", "prune", "continue", "by-score"),
    "dsee": ("pretrain", "tune", "prune", "retune"),
    "grid": ("choose", "after"),
    "labels": ("tune", "again"),
}
"""Family -> its stages in order."""

WORDS = ["seed", "field", "rain", "crop", "rest", "soil", "year", "grain", "the", "a", "of", "and", "lies", "grows"]


def write(folder: Path, family: str) -> None:
    """Recipe and texts of a family: `recipe.yaml`, text.jsonl, more.jsonl, pairs.jsonl, train.tsv, dev.tsv, vocab.txt.

    The same in every call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    for name, words in (("text", WORDS), ("more", [word[::-1] for word in WORDS])):
        texts = [" ".join(draw.choices(words, k=60)) for _ in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pairs = [{"context": f"{a} and {b}", "target": f"{b} {a}"} for a in WORDS for b in WORDS[:3]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    write_sst2(folder / "train.tsv", 48)
    write_sst2(folder / "dev.tsv", 16, start=49)
    vocabulary(folder)
    (folder / "recipe.yaml").write_text(RECIPES[family])
