"""Models on disk: nothing random, nothing stale, nothing damaged is ever loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import fallow
from fallow.errors import UserError
from tests.conformance.families import tiny, tokens

WEIGHTS, RECORD = "fallow.safetensors", "fallow.json"


def converted() -> Any:
    model = tiny("gpt2")
    fallow.convert(model, "sparse", sparsity=0.75)
    return model


@pytest.fixture(scope="module")
def unmerged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder") / "unmerged"
    fallow.save(converted(), folder)
    return folder


def test_saved_and_loaded_is_the_same_model(unmerged: Path) -> None:
    state = torch.random.get_rng_state()
    model = fallow.load(unmerged)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training  # as from_pretrained gives it
    assert torch.equal(model(tokens()).logits, converted()(tokens()).logits)


def test_settings_of_generation_come_along(tmp_path: Path) -> None:
    model = converted()
    model.generation_config.max_new_tokens = 7
    fallow.save(model, tmp_path)
    assert fallow.load(tmp_path).generation_config.max_new_tokens == 7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_come_along(dtype: torch.dtype, tmp_path: Path) -> None:
    model = converted().to(dtype)
    fallow.save(model, tmp_path)
    assert torch.equal(fallow.load(tmp_path)(tokens()).logits, model(tokens()).logits)


def test_a_classifier_comes_back_as_one(tmp_path: Path) -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = hf.BertForSequenceClassification(hf.BertConfig(**small, vocab_size=96, num_labels=3)).eval()
    fallow.convert(model, "sparse", sparsity=0.5)
    before = model(tokens()).logits
    for step in (model, fallow.merge):
        fallow.save(step if step is model else step(model), tmp_path)
        again = fallow.load(tmp_path)
        assert type(again) is hf.BertForSequenceClassification
        torch.testing.assert_close(again(tokens()).logits, before)


CONFIG = hf.GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=96, n_positions=64)


@pytest.mark.parametrize(
    "load",
    [
        lambda path: hf.AutoModelForCausalLM.from_pretrained(path),
        lambda path: hf.AutoModelForCausalLM.from_pretrained(path, ignore_mismatched_sizes=True),
        lambda path: hf.AutoModel.from_pretrained(path),
        lambda path: hf.AutoConfig.from_pretrained(path),
        lambda path: hf.pipeline("text-generation", model=str(path)),
        lambda path: hf.GPT2LMHeadModel.from_pretrained(path),
        lambda path: hf.GPT2LMHeadModel.from_pretrained(path, config=CONFIG, ignore_mismatched_sizes=True),
        lambda path: hf.GPT2Model.from_pretrained(path, config=CONFIG),
        lambda path: hf.AutoModelForCausalLM.from_pretrained(path, config=CONFIG),
    ],
)
def test_transformers_never_loads_random_weights(load: Callable[[Path], Any], unmerged: Path) -> None:
    with pytest.raises((OSError, ValueError), match="not merged|no file named model.safetensors"):
        load(unmerged)


def change(path: Path, /, **values: Any) -> None:
    record = json.loads((path / RECORD).read_text())
    del record["sha256"]  # by a hand that knows of it
    for key, value in values.items():
        if value is None:
            del record[key]
        else:
            record[key] = {**record[key], **value} if isinstance(value, dict) else value
    (path / RECORD).write_text(json.dumps(record))


def replace(path: Path, old: str, new: str) -> None:
    text = (path / RECORD).read_text()
    assert old in text
    (path / RECORD).write_text(text.replace(old, new))


def flip(path: Path, position: int) -> None:
    raw = bytearray((path / WEIGHTS).read_bytes())
    raw[position] ^= 0x10
    (path / WEIGHTS).write_bytes(raw)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: flip(path, -100), f"{WEIGHTS} is damaged: it does not have the checksum"),
        (lambda path: flip(path, 30), f"{WEIGHTS} is damaged"),
        (lambda path: (path / WEIGHTS).write_bytes(b""), f"{WEIGHTS} is damaged"),
        (lambda path: (path / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (lambda path: (path / RECORD).unlink(), f"{RECORD} is missing"),
        (lambda path: (path / RECORD).write_text(""), f"{RECORD} is damaged"),
        (lambda path: (path / RECORD).write_text("[]"), f"{RECORD} is damaged"),
        (lambda path: (path / RECORD).write_bytes(b"\xff\xfe"), f"{RECORD} is damaged"),
        (
            lambda path: replace(path, '"layer_norm_epsilon": 1', '"layer_norm_epsilon": 3'),
            f"{RECORD} was changed or is",
        ),
        (lambda path: change(path, seed=1), "the support of .* does not have the checksum"),
        (lambda path: change(path, method={"sparsity": 0.5}), "the support of .* does not have the checksum"),
        (lambda path: change(path, method={"sparsity": 2}), "sparsity is 2"),
        (lambda path: change(path, method={"name": "zebra"}), 'unknown method "zebra"'),
        (lambda path: change(path, config={"n_layer": 3}), "the support of .* does not have the checksum"),
        (lambda path: change(path, config={"vocab_size": 97}), "does not belong to the record"),
        (lambda path: change(path, architecture="pipeline"), "has no class pipeline"),
        (lambda path: change(path, format=2), "format 2; this fallow reads format 1"),
        *(
            (lambda path, key=key: change(path, **{key: None}), f"{RECORD} is damaged")
            for key in ("architecture", "config", "method", "targets", "seed", "path", "supports")
        ),
    ],
)
def test_damage_is_told(harm: Callable[[Path], Any], message: str, unmerged: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(unmerged, tmp_path / "copy")
    harm(folder)
    with pytest.raises(UserError, match=message):
        fallow.load(folder)


def test_a_plain_folder_with_a_missing_weight_is_refused(tmp_path: Path) -> None:
    tiny("gpt2").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["transformer.h.0.attn.c_attn.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not hold all weights.*h.0.attn.c_attn.weight would be random"):
        fallow.load(tmp_path)


@pytest.mark.parametrize("save", [fallow.save, lambda model, path: model.save_pretrained(path)])
def test_the_model_saved_last_is_the_one_loaded(save: Callable[[Any, Path], None], tmp_path: Path) -> None:
    model = converted()
    fallow.save(model, tmp_path)
    model = fallow.merge(model)
    with torch.no_grad():
        model.transformer.wte.weight.add_(1.0)
    save(model, tmp_path)
    assert torch.equal(fallow.load(tmp_path)(tokens()).logits, model(tokens()).logits)

    fallow.convert(model, "sparse", sparsity=0.5)
    fallow.save(model, tmp_path)
    assert torch.equal(fallow.load(tmp_path)(tokens()).logits, model(tokens()).logits)


def test_no_part_of_an_older_plain_model_stays(tmp_path: Path) -> None:
    tiny("gpt2").save_pretrained(tmp_path, max_shard_size="20KB")
    fallow.save(converted(), tmp_path)
    assert not list(tmp_path.glob("model*"))


def test_arguments_of_save_pretrained(tmp_path: Path) -> None:
    model = converted()
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()

    gathered = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=gathered, max_shard_size="1KB", safe_serialization=True)
    assert not any(parameter.any() for parameter in fallow.load(tmp_path).parameters())

    with pytest.raises(UserError, match=r"state_dict has no transformer.wte.weight"):
        model.save_pretrained(tmp_path, state_dict={})


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="on the meta device"):
        fallow.save(converted().to("meta"), tmp_path / "meta")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, but a model needs a folder"):
        fallow.save(converted(), tmp_path / "file")
    with pytest.raises(UserError, match="is not a Hugging Face model"):
        fallow.save(torch.nn.Linear(2, 2), tmp_path / "linear")
    with pytest.raises(UserError, match="holds no model"):
        fallow.load(tmp_path / "nothing")


def test_a_full_disk_leaves_the_model_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    model = converted()
    fallow.save(model, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match="the disk is full while writing"):
        fallow.save(model, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_bytes_of_the_file_are_those_counted(unmerged: Path) -> None:
    stored = sum(tensor.numel() for tensor in load_file(unmerged / WEIGHTS).values())
    assert stored == fallow.count(fallow.load(unmerged)).stored


def test_the_trainer_of_transformers_saves_what_load_reads(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model = converted()
    rows = [{"input_ids": row, "labels": row} for row in tokens(6)]
    settings = hf.TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, save_steps=3, per_device_train_batch_size=2, report_to=[], use_cpu=True
    )
    hf.Trainer(model=model, args=settings, train_dataset=rows).train()
    assert torch.equal(fallow.load(tmp_path / "checkpoint-3")(tokens()).logits, model.eval()(tokens()).logits)
