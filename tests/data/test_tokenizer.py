import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from fallow.data.settings import TokenizerSettings
from fallow.data.tokenizer import encode_batch, keep_tokenizer, load_tokenizer, tokenizer_fingerprint, train_tokenizer
from fallow.errors import UserError
from tests.data.helpers import story


def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ("alpha beta", "  two\n\n\tlines ", "caf\u00e9 \u4e16\u754c \U0001f600", "\x00\x7f"):
        assert tokenizer.decode(encode_batch(tokenizer, [text])[0], clean_up_tokenization_spaces=False) == text
    assert len(tokenizer) == 300
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.sep_token) == ("<|endoftext|>", "<|pad|>", "<|sep|>")


def test_it_is_an_ordinary_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    keep_tokenizer(tokenizer, tmp_path / "kept")
    stock = AutoTokenizer.from_pretrained(tmp_path / "kept")
    assert stock("gamma delta")["input_ids"] == encode_batch(tokenizer, ["gamma delta"])[0]
    assert stock.eos_token_id == tokenizer.eos_token_id
    assert tokenizer_fingerprint(load_tokenizer(str(tmp_path / "kept"))) == tokenizer_fingerprint(tokenizer)


def test_training_is_deterministic_across_processes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fallow.data import *; from fallow.data.tokenizer import *;"
        "from tests.data.helpers import story;"
        "t = train_tokenizer(TokenizerSettings(vocab_size=320), [story(i) for i in range(50)], Path(sys.argv[1]));"
        "print(tokenizer_fingerprint(t))"
    )
    root = Path(__file__).parents[2]
    found = set()
    for number, threads in enumerate(("1", "4")):
        path = os.pathsep.join((str(root / "src"), str(root)))
        env = {**os.environ, "PYTHONPATH": path, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": str(number)}
        command = [sys.executable, "-c", code, str(tmp_path / str(number))]
        found.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


def test_padding_settings_do_not_change_the_fingerprint(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    keep_tokenizer(tokenizer, tmp_path / "copy")
    copy = load_tokenizer(str(tmp_path / "copy"))
    copy(["a", "b c d"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(copy) == tokenizer_fingerprint(tokenizer)
    assert len(encode_batch(copy, ["alpha " * 50])[0]) > 2


def test_too_little_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only gives \d+ tokens. Write \d+ or less"):
        train_tokenizer(TokenizerSettings(vocab_size=5000), [story(1)], tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_mistakes(tokenizer: PreTrainedTokenizerFast, other_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"holds no tokenizer \(no tokenizer\.json\)"):
        load_tokenizer(str(tmp_path))
    keep_tokenizer(tokenizer, tmp_path / "kept")
    with pytest.raises(UserError, match="holds another tokenizer"):
        keep_tokenizer(other_tokenizer, tmp_path / "kept")
    config = tmp_path / "kept" / "tokenizer_config.json"
    facts = json.loads(config.read_text(encoding="utf-8"))
    facts.pop("eos_token")
    config.write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "kept" / "fallow-tokenizer.json").unlink()  # else the change itself is refused
    with pytest.raises(UserError, match="has no end token"):
        load_tokenizer(str(tmp_path / "kept"))
    (tmp_path / "kept" / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="could not be loaded"):
        load_tokenizer(str(tmp_path / "kept"))
