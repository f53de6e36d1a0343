"""Model folders of strangers: nothing in them is executed, nothing outside them is read, and one line says why."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from fallow.cli.json_text import as_json
from fallow.cli.main import main
from fallow.data import TokenizerSettings, train_tokenizer
from fallow.errors import UserError
from fallow.folder import build, load
from fallow.integrity import TOKENIZER_RECORD
from fallow.stock import config_from, new_model, read_config, weight_map

CODE = """
import pathlib
pathlib.Path({touched!r}).touch()
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
class OwnConfig(GPT2Config):
    model_type = "own"
class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 with its tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "gpt2"
    tokenizer = train_tokenizer(TokenizerSettings(vocab_size=270), ["the cat sat on the mat and ran " * 40], folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0
        )
    ).save_pretrained(folder)
    (folder / TOKENIZER_RECORD).unlink(missing_ok=True)  # a stranger's tokenizer has none
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with; nothing is on standard output."""
    capsys.readouterr()
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("fallow")]
    assert len(lines) == 1, err
    return lines[0]


def commands(folder: Path, tmp_path: Path) -> list[list[str]]:
    """Every command that loads a model folder as a language model."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 20)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"""
name: tiny
device: cpu
tokenizer: {{path: "{folder}"}}
datasets: {{text: {{kind: text, sources: [{{path: "{text}"}}], context: 8}}}}
stages:
  - {{name: tune, model: {{path: "{folder}"}}, method: {{name: dense}}, dataset: text, budget: {{steps: 1}},
     batch: {{sequences: 1, micro: 1}}, optimizer: {{lr: 1e-3}}}}
""")
    return [
        ["generate", str(folder), "--prompt", "the", "--json"],
        ["evaluate", str(folder), "--data", str(text), "--context", "8", "--json"],
        ["run", str(recipe), "--output", str(tmp_path / "out")],
    ]


@pytest.mark.parametrize("asked", ["model", "tokenizer"])
def test_python_files_of_a_folder_are_not_run_even_after_yes(asked: str, folder: Path, tmp_path: Path) -> None:
    """transformers would ask, and take a `y` from standard input."""
    touched = tmp_path / "executed"
    (folder / "own.py").write_text(CODE.format(touched=str(touched)))
    if asked == "model":
        auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
        change(folder / "config.json", model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    else:
        auto_map = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
        change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=auto_map)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "fallow", "generate", str(folder), "--prompt", "the", "--json"],
        input="y\n" * 9, capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert not touched.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    if asked == "tokenizer":  # that of the model's type is used
        assert json.loads(done.stdout)[0]["prompt"] == "the"
        return
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "needs Python code of its author (auto_map in its files), which fallow does not run" in line


def test_python_files_of_a_type_that_has_no_language_model() -> None:
    auto_map = {"AutoModelForCausalLM": "own.OwnModel"}
    with pytest.raises(UserError, match="needs Python code of its author"):
        new_model(config_from({"model_type": "vit", "auto_map": auto_map}))


@pytest.mark.parametrize(
    "values",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel@main:forward"},
        {"attn_implementation": {"": "paged|someone/kernel"}},
        {"experts_implementation": "someone/kernel"},
        {"text_config": {"attn_implementation": "someone/kernel"}},
    ],
)
def test_compiled_code_from_the_hub(values: dict[str, Any], folder: Path, tmp_path: Path, capsys: Any) -> None:
    change(folder / "config.json", **values)
    for command in commands(folder, tmp_path):
        assert "compiled code from the Hub, which fallow does not run" in refused(command, capsys)
    with pytest.raises(UserError, match="compiled code from the Hub"):
        build({"model_type": "gpt2", **values})
    with pytest.raises(UserError, match="compiled code from the Hub"):
        read_config(str(folder))


def pickled(folder: Path, name: str = "pytorch_model.bin") -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / name)
    (folder / "model.safetensors").unlink()


def evil(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder.parent / "executed",))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    (folder / "model.safetensors").unlink()


def sharded(folder: Path) -> None:
    pickled(folder, "pytorch_model-00001-of-00001.bin")
    names = torch.load(folder / "pytorch_model-00001-of-00001.bin", weights_only=True)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model-00001-of-00001.bin")}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("harm", [pickled, evil, sharded, lambda folder: pickled(folder, "model.pt")])
def test_pickles_are_not_opened(harm: Callable[[Path], None], folder: Path, tmp_path: Path, capsys: Any) -> None:
    harm(folder)
    for command in commands(folder, tmp_path):
        line = refused(command, capsys)
        assert "A pickle can run code when it is opened, and fallow does not open it" in line
        assert "save it again with save_pretrained, which writes safetensors" in line
        assert "weights_only" not in line
    assert not (tmp_path / "executed").exists()


def test_other_ways_to_name_a_pickle(folder: Path, capsys: Any) -> None:
    change(folder / "config.json", transformers_weights="adapter_model.bin")
    torch.save(load_file(folder / "model.safetensors"), folder / "adapter_model.bin")
    assert "transformers_weights is adapter_model.bin" in refused(["generate", str(folder), "--prompt", "a"], capsys)


def test_an_adapter_beside_a_model_is_not_put_on_it(folder: Path, capsys: Any) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "someone/else"}')
    line = refused(["generate", str(folder), "--prompt", "a"], capsys)
    assert "has adapter_config.json beside a model" in line
    assert "fallow import" in line


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/outside.safetensors", "sub/a.safetensors", "a.bin", "", 5]
)
def test_files_of_an_index_lie_beside_it(name: Any, folder: Path, tmp_path: Path, capsys: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    shutil.move(folder / "model.safetensors", tmp_path / "outside.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}))
    for command in commands(folder, tmp_path):
        assert "but only safetensors files beside it are read" in refused(command, capsys)
    for reader in (["compare", str(folder), str(folder)], ["cut", str(folder), "--dry-run", "--parameters", "1000"]):
        assert main(reader) == 2
    with pytest.raises(UserError, match="beside it"):
        weight_map(folder)


def test_several_files_are_read(folder: Path) -> None:
    before = load(folder).state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({n: t for n, t in tensors.items() if names[n] == file}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    after = load(folder).state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value: float, folder: Path, tmp_path: Path, capsys: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"][3, 3] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for command in commands(folder, tmp_path):
        line = refused(command, capsys)
        assert "transformer.h.0.mlp.c_fc.weight holds values that are not finite numbers" in line


@pytest.mark.parametrize("name", ["transformer.h.0.mlp.c_fc.weight", "transformer.wte.weight"])
def test_bits_of_weights_are_not_taken_for_whole_numbers(name: str, folder: Path, tmp_path: Path, capsys: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name].view(torch.int32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for command in commands(folder, tmp_path):
        assert f"{name} is stored as I32, but it is a weight" in refused(command, capsys)


def test_a_panic_of_the_tokenizers_library_is_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """A regular expression without end makes the library panic, which is no `Exception`."""
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a|a|aa)+$"}, "behavior": "Isolated", "invert": False}
    facts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, facts["pre_tokenizer"]]}
    path.write_text(json.dumps(facts))
    text = "a" * 60 + "b"
    assert "the tokenizer fails on a text" in refused(["generate", str(folder), "--prompt", text], capsys)
    assert "the tokenizer fails on a text" in refused(["generate", str(folder), "--prompt", text, "--pairs"], capsys)
    (tmp_path / "text.txt").write_text(text + "\n")
    data = ["--data", str(tmp_path / "text.txt"), "--context", "8"]
    assert "the tokenizer fails on a text" in refused(["evaluate", str(folder), *data], capsys)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"context": text, "target": text}) + "\n")
    command = ["evaluate", str(folder), "--format", "jsonl", "--data", str(pairs)]
    assert "the tokenizer fails on a text" in refused(command, capsys)


def test_a_loss_that_is_no_number_is_no_result(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Finite weights can overflow: here those of a position that two short sequences do not reach."""
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"][7] = torch.finfo(torch.float32).max
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 20)
    command = ["evaluate", str(folder), "--data", str(tmp_path / "text.txt"), "--context", "8", "--json"]
    assert re.search(r"the loss of .* on these data is nan", refused(command, capsys))


def test_json_has_no_word_for_what_is_not_finite() -> None:
    text = as_json({"a": [1.0, float("nan"), (float("-inf"),)], "b": {"c": float("inf")}, "d": "NaN"})
    assert json.loads(text) == {"a": [1.0, None, [None]], "b": {"c": None}, "d": "NaN"}
