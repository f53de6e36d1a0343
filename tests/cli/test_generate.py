import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

import fallow
from fallow.cli.main import main
from fallow.integrity import with_mark


def expected(folder: Path, text: str, **settings: object) -> str:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    out = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
        pad_token_id=tokenizer.eos_token_id, **settings,
    )  # fmt: skip
    return tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_continues_as_transformers_does(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", str(model_folder), "--prompt", "the cat", "a dog ran", "--max-new-tokens", "9"]
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert plain.startswith("the cat" + expected(model_folder, "the cat", max_new_tokens=9))
    assert main([*command, "--json", "--num-beams", "3"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["prompt"] for row in rows] == ["the cat", "a dog ran"]
    assert rows[1]["text"] == expected(model_folder, "a dog ran", max_new_tokens=9, num_beams=3)


def test_pairs_put_the_end_token_after_the_context(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["generate", str(model_folder), "--pairs", "--prompt", "the mat", "--max-new-tokens", "6", "--json"]) == 0
    )
    text = json.loads(capsys.readouterr().out)[0]["text"]
    assert text == expected(model_folder, "the mat<|endoftext|>", max_new_tokens=6)


def test_prompts_from_a_file(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("the cat\nthe dog\n")
    assert main(["generate", str(model_folder), "--prompt-file", str(tmp_path / "p.txt"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_a_folder_that_is_not_merged(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    fallow.convert(model, "sparse", sparsity=0.5)
    fallow.save(model, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder / name, tmp_path)
    assert main(["generate", str(tmp_path), "--prompt", "the cat", "--max-new-tokens", "5", "--json"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ids = tokenizer("the cat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model.eval().generate(ids, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert json.loads(capsys.readouterr().out)[0]["text"] == text


def test_texts_are_kept_and_gone_on_from(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    command = ["generate", str(model_folder), "--prompt", "the cat", "a dog", "the cat", "--max-new-tokens", "5"]
    command += ["--decoder", "lora", "--num-beams", "2", "--texts", str(texts), "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first[0] == first[2]
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    assert [(row["context"], row["text"]) for row in rows[1:]] == [(r["prompt"], r["text"]) for r in first[:2]]
    texts.write_text("".join(json.dumps({**row, "text": "kept", "num_tokens": 3}) + "\n" for row in rows[1:]))
    assert main(command) == 2  # without its head it is not ours
    assert "holds something else" in capsys.readouterr().err
    changed = {**rows[1], "text": "kept"}
    texts.write_text(json.dumps(rows[0]) + "\n" + json.dumps(changed) + "\n" + json.dumps(rows[2]) + "\n")
    assert main(command) == 0  # a line that was changed does not count, nor those after it
    assert json.loads(capsys.readouterr().out) == first
    assert [json.loads(line) for line in texts.read_text().splitlines()] == rows
    del changed["check"]
    texts.write_text(json.dumps(rows[0]) + "\n" + json.dumps(with_mark(changed)) + "\n")
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in again] == ["kept", first[1]["text"], "kept"]
    assert main([*command, "--pairs"]) == 2  # other prompts
    assert "pairs is False there and True here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "a", "--num-beams", "0"], "num_beams is 0"),
        (["--prompt", "a", "--length-penalty", "0.5"], "no effect with num_beams 1"),
        (["--prompt", "a", "--decoder", "beam"], "--decoder"),
        ([], "neither is given"),
        (["--prompt", "a", "--prompt-file", "x"], "both are given"),
        (["--prompt", "a", ""], "prompt 2 is empty"),
        (["--prompt-file", "absent.txt"], "absent.txt cannot be read"),
        (["--prompt", "the cat " * 200], "leave no room"),
        (["--prompt", "a", "--device", "abacus"], "device is abacus"),
    ],
)
def test_mistakes_are_one_line(
    model_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(model_folder), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err.strip().splitlines()[-1]
    assert said.err.startswith("fallow generate: ")


def test_folders_without_a_model(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path / "absent"), "--prompt", "a"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    shutil.copytree(model_folder, tmp_path / "stage" / "model")
    assert main(["generate", str(tmp_path / "stage"), "--prompt", "a"]) == 2
    assert "Did you mean" in capsys.readouterr().err
    (tmp_path / "stage" / "model" / "tokenizer.json").unlink()
    assert main(["generate", str(tmp_path / "stage" / "model"), "--prompt", "a"]) == 2
    assert "holds no tokenizer" in capsys.readouterr().err


def test_damaged_weights(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model_folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(["generate", str(tmp_path / "m"), "--prompt", "a"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_the_wrong_tokenizer(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=50, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(tmp_path)
    assert main(["generate", str(tmp_path), "--tokenizer", str(model_folder), "--prompt", "a"]) == 2
    assert "wrong tokenizer" in capsys.readouterr().err


def test_weights_of_an_unmerged_model(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts by merged weights and by terms apart; which it was is said, and sizes decide where nobody does."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    fallow.convert(model, "sltrain", rank=2, density=0.2, path="factored")
    fallow.save(model, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder / name, tmp_path)
    command = ["generate", str(tmp_path), "--prompt", "the cat", "--max-new-tokens", "5"]
    texts, said = [], []
    for flags in (["--weights", "merged"], ["--weights", "apart"], []):
        assert main([*command, *flags]) == 0
        found = capsys.readouterr()
        texts.append(found.out)
        said.append(found.err)
    assert texts[0] == texts[1] == texts[2]
    assert said[0].startswith("weights merged: ") and said[0].endswith("asked for\n")
    assert said[1].startswith("weights apart: ") and "merged); asked for" in said[1]
    assert said[2].startswith("weights merged: ") and "its matrices are small" in said[2]
    monkeypatch.setattr("fallow.cli.weights._LARGE", 1)
    assert main(command) == 0
    assert capsys.readouterr().err.startswith("weights apart: ")
    assert main(["generate", str(model_folder), "--prompt", "the cat", "--weights", "apart"]) == 2
    assert "this model is merged" in capsys.readouterr().err
