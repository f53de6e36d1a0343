"""The model card of a trained model: README.md beside its weights."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fallow import __version__

Plain = Mapping[str, Any]
"""What JSON can hold."""


def model_card(recipe: Plain, stage: Plain, record: Plain) -> str:
    """The text of README.md: what the model is, how it was made, what it cost, what it scored, how to load it.

    Only what was recorded is said; what is absent is left out.

    Args:
        recipe: the recipe's values; `name` and `description` are used.
        stage: the stage's values: name, label, model, method, dataset, optimizer, batch and so on.
        record: what the stage measured: `training` (counts, FLOPs, speed, memory), `scores`, `data`, and `grid`.
    """
    training, scores = record.get("training", {}), record.get("scores", {})
    title = f"{recipe.get('name', 'fallow')}: {stage.get('label') or stage.get('name', '')}"
    parts = [
        _front_matter(recipe, stage, scores),
        f"# {_inline(title)}\n",
        _introduction(recipe, stage),
        _section("Method", _method(stage, training)),
        _section("Parameters and cost", _cost(training)),
        _section("Data", _data(stage, record.get("data", {}))),
        _section("Results", _results(training, scores)),
        _use(scores, unmerged=bool(record.get("unmerged"))),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(recipe: Plain, stage: Plain, scores: Plain) -> str:
    import yaml

    method = str(stage.get("method", {}).get("name", ""))
    facts: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if scores.get("task") else "text-generation",
        "tags": [tag for tag in ("fallow", method, str(recipe.get("name", ""))) if tag],
    }
    path = str(stage.get("model", {}).get("path", ""))
    if path.startswith("hub:"):
        facts["base_model"] = path.removeprefix("hub:")
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n"


def _introduction(recipe: Plain, stage: Plain) -> str:
    about = _inline(str(recipe.get("description", "")))
    made = f"Stage `{stage.get('name', '')}` of the recipe `{recipe.get('name', '')}`, trained by fallow {__version__}."
    return f"{made} {about}".strip() + "\n"


def _method(stage: Plain, training: Plain) -> list[tuple[str, str]]:
    method = dict(stage.get("method", {}))
    rows = [("method", str(method.pop("name", "")))]
    rows += [(key, _nested(value)) for key, value in method.items()]
    model = stage.get("model", {})
    config = model.get("config") or {}
    begins = f"stage {model['stage']}" if model.get("stage") else model.get("path") or ""
    rows.append(("begins with", begins or f"random weights ({config.get('model_type', 'new model')})"))
    rate = (stage.get("optimizer") or {}).get("lr")
    rows.append(("peak learning rate", "" if rate is None else f"{rate:g}"))
    rows.append(("global batch", _counted(stage.get("batch", {}).get("sequences"), "sequences")))
    rows.append(("updates", _counted(training.get("steps"), "")))
    rows.append((f"{training.get('counts_of_loss', 'tokens')} with a loss", _counted(training.get("tokens"), "")))
    rows.append(("the gates have", str((training.get("method") or {}).get("verdict", ""))))
    return rows


def _cost(training: Plain) -> list[tuple[str, str]]:
    counts, memory = training.get("counts", {}), training.get("memory", {})
    positions, nonzero, left = counts.get("positions"), counts.get("nonzero"), training.get("parameters_left")
    rows = [("parameters", _counted(positions, "")), ("of them not zero while training", _counted(nonzero, ""))]
    if left is not None:
        rows = [("parameters", _counted(left, "")), ("while training, before the cut", _counted(positions, ""))]
    is_frozen = counts.get("trainable") is not None and counts["trainable"] < counts.get("stored", 0)
    if is_frozen:
        rows.append(("of them trained", _counted(counts["trainable"], "")))
    pruned = training.get("pruned") or {}
    if pruned:
        rows.append(("pruned of the blocks' linear layers", f"{pruned['sparsity']:.4f}"))
        left = pruned["linear_flops_left"]
        rows.append(("multiplications of these layers left, with the update", f"{left:.1%}"))
        rows.append(("not zero, with the update kept apart", _counted(counts.get("apart"), "")))
    if positions and nonzero is not None and left is None:
        rows.append(("density of the whole model", f"{nonzero / positions:.4f}"))
    for key, title in (
        ("flops", "training FLOPs, needed"),
        ("flops_executed", "training FLOPs, executed"),
        ("flops_dense", "training FLOPs of a dense model"),
    ):
        rows.append((title, "" if training.get(key) is None else f"{training[key]:.4g}"))
    if training.get("reduction") is not None and is_frozen:
        rows.append(("reduction", f"{training['reduction']:.3f}x, by frozen weights and zeros"))
    elif training.get("reduction") is not None and training.get("ceiling") is not None:
        rows.append(("reduction, and its ceiling", f"{training['reduction']:.3f}x of {training['ceiling']:.3f}x"))
    speed = training.get("tokens_per_second")
    rows.append(("measured speed", "" if speed is None else f"{speed:,.0f} tokens/s"))
    rows.append(("weights, gradients, optimizer states, indices", _counted(memory.get("total"), "bytes")))
    return rows


def _data(stage: Plain, report: Plain) -> list[tuple[str, str]]:
    rows = [("data set", str(stage.get("dataset", "")))]
    for name, facts in report.items():
        if isinstance(facts, Mapping):
            rows.append((str(name), ", ".join(f"{key} {_shown(value)}" for key, value in facts.items())))
    return rows


def _results(training: Plain, scores: Plain) -> list[tuple[str, str]]:
    split = f" ({scores['split']})" if scores.get("split") else ""
    rows = _loss(scores, split)
    metrics = scores.get("metrics", {})
    rows += [(f"{key}{split}", f"{value:.4f}") for key, value in metrics.get("scores", {}).items()]
    if metrics:
        rows.append(("scored by", f"{metrics.get('profile', '')}: {metrics.get('script', '')}"))
    rows += [(f"{key} is", str(text)) for key, text in metrics.get("variants", {}).items()]
    rows += [(f"{key} is absent", str(reason)) for key, reason in metrics.get("absent", {}).items()]
    rows += [
        *_preference(scores.get("preference", {})),
        *_labels(scores, split),
        *_benchmarks(scores.get("benchmarks", {})),
    ]
    rows.append(("texts by", str(scores.get("decoding", {}).get("words", ""))))
    if scores.get("num_contexts") is not None:
        rows.append(("contexts decoded", f"{scores['num_contexts']} of {scores.get('num_contexts_total', '?')}"))
    rows += [(f"validation {key}", f"{value:.4f}") for key, value in training.get("validation", {}).items()]
    return rows


def _loss(scores: Plain, split: str) -> list[tuple[str, str]]:
    titles = {"loss": "loss", "perplexity": "perplexity", "bits_per_byte": "bits per byte"}
    parts = scores.get("parts", {}) if len(scores.get("parts", {})) > 1 and not scores.get("task") else {}
    rows = [(title + split, f"{scores[key]:.4f}") for key, title in titles.items() if scores.get(key) is not None]
    for name, part in parts.items():
        found = [f"{title} {part[key]:.4f}" for key, title in titles.items() if part.get(key) is not None]
        rows.append((f"{name}{split}", ", ".join(found)))
    if scores.get("stride"):
        rows.append(("loss by windows", f"a new one every {scores['stride']} tokens, every token counted once"))
    for name, part in scores.get("n_plus_one", {}).items():
        figures = f"loss {part['loss']:.4f}, perplexity {part['perplexity']:.4f}, N = {part['num_batches']}"
        rows.append((f'{name}, "N + 1" figure{split}', figures))
    return rows


def _preference(found: Plain) -> list[tuple[str, str]]:
    if not found:
        return []
    words = f"{found['win_rate']:.1%} ({found['low']:.1%} to {found['high']:.1%}, {found['num_judged']:,} pairs)"
    return [(f"win rate against {found['against']}", words), ("judge", str(found["judge"]))]


def _labels(scores: Plain, split: str) -> list[tuple[str, str]]:
    task = scores.get("task")
    if not task:
        return []
    known = ("matthews", "f1", "accuracy", "pearson", "spearman")
    rows = [(f"{task} {key}{split}", f"{scores[key]:.4f}") for key in known if key in scores]
    for name, part in scores.get("parts", {}).items():
        rows.append((f"{name}{split}", ", ".join(f"{key} {value:,.4g}" for key, value in part.items())))
    return rows


def _benchmarks(found: Plain) -> list[tuple[str, str]]:
    rows = []
    for name in found.get("asked", ()):
        task = found["tasks"][name]
        shots = f"{task['shots']} shots" if task["shots"] else "0 shots"
        rows.append((f"{name} {task['metric']}, {shots}", f"{task['value']:.4f} ({task['num']:,} questions)"))
    if "average" in found:
        rows.append((f"average of {found['preset']}", f"{found['average']:.4f}"))
    return [*rows, ("tasks by", str(found["harness"]))] if rows else []


def _use(scores: Plain, *, unmerged: bool) -> str:
    if unmerged:
        return _USE_UNMERGED
    if scores.get("task"):
        return _USE_LABELS
    # A model tuned on pairs expects the end token between context and text, as in training.
    prompt = '"..." + tokenizer.eos_token' if "metrics" in scores else '"..."'
    return f"""\
## Use

The weights are stock ones: transformers loads them without fallow.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # the folder of this file
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))
```
"""


_USE_UNMERGED = """\
## Use

This model is not merged, and `from_pretrained` does not load it. With fallow it is used like any other:

```python
import fallow
from transformers import AutoTokenizer

folder = "."  # the folder of this file
model, tokenizer = fallow.load(folder), AutoTokenizer.from_pretrained(folder)
print(model(**tokenizer("...", return_tensors="pt")).logits)
```
"""


_USE_LABELS = """\
## Use

The weights are stock ones: transformers loads them without fallow. Two texts are given as
`tokenizer("...", "...", return_tensors="pt")`.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # the folder of this file
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
logits = model(**tokenizer("...", return_tensors="pt")).logits[0]
print(logits.tolist(), model.config.id2label)
```
"""


def _section(title: str, rows: Sequence[tuple[str, str]]) -> str:
    said = [f"| {_inline(key)} | {_inline(value)} |" for key, value in rows if value]
    return "\n".join([f"## {title}\n", "| | |", "| --- | --- |", *said, ""]) if said else ""


def _counted(value: Any, unit: str) -> str:
    return "" if value is None else f"{value:,} {unit}".strip()


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _nested(value: Any) -> str:
    """Settings inside a setting, without those that say nothing."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{key} {item}" for key, item in value.items() if item)


def _inline(text: str) -> str:
    """On one line, with nothing that Markdown would take for a column, an element, a link or an image."""
    line = " ".join(text.split()).replace("<", "&lt;")
    return re.sub(r"([|\[\]])", r"\\\1", line)
