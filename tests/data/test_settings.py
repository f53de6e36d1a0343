import subprocess
import sys
from typing import Any

import pytest

from fallow.data.settings import PairData, TextData, TextSource, TokenizerSettings
from fallow.errors import UserError


def test_settings_need_no_torch() -> None:
    code = "import sys, fallow.data.settings; print(any(m in sys.modules for m in ('torch', 'transformers', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("embedded:stdlib", "stdlib"),
        ("embedded:stdlib/asyncio", "stdlib-asyncio"),
        ("hub:owner/name", "name"),
        ("hub:owner/name/config:valid", "name-config"),
        ("a/b/wiki.v2.jsonl.gz", "wiki.v2"),
        ("books/", "books"),
        ("my text.txt", "my-text"),
    ],
)
def test_names_of_sources(path: str, name: str) -> None:
    assert TextSource(path=path).name == name
    assert TextSource(path=path, domain="given").name == "given"


ONE = (TextSource(path="a.txt"),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextSource(path=""), "path is empty"),
        (lambda: TextSource(path="embedded:stdlb"), 'Did you mean "embedded:stdlib"'),
        (lambda: TextSource(path="hub:name"), "hub:owner/name"),
        (lambda: TextSource(path="a", weight=0), "must be above 0"),
        (lambda: TextSource(path="a", weight=float("nan")), "must be above 0"),
        (lambda: TextSource(path="a", max_megabytes=-1), "at least 0"),
        (lambda: TextData(sources=(), context=8), "sources is empty"),
        (lambda: TextData(sources=ONE, context=1), "context is 1"),
        (lambda: TextData(sources=ONE, context=8, valid_share=1.0), "below 1"),
        (lambda: TextData(sources=ONE, context=8, valid_share=0.1, valid=ONE), "has no effect"),
        (lambda: TextData(sources=ONE * 2, context=8), "two sources are named a"),
        (lambda: PairData(format="e2", train="a", context=8), 'Did you mean "e2e"'),
        (lambda: PairData(format="e2e", context=8), "train is empty"),
        (lambda: PairData(format="embedded", train="a", context=8), "train has no effect"),
        (lambda: PairData(format="e2e", train="a", context=8, subset="seen"), "subset has no effect"),
        (lambda: PairData(format="e2e", train="a", context=8, target_field="x"), "target_field has no effect"),
        (lambda: PairData(format="e2e", train="a", context=8, cut="start"), "cut has no effect"),
        (lambda: PairData(format="e2e", train="a", context=8, max_pairs=-1), "max_pairs"),
        (lambda: TokenizerSettings(), "neither is given"),
        (lambda: TokenizerSettings(path="a", vocab_size=300), "both are given"),
        (lambda: TokenizerSettings(vocab_size=100), "260 to 1000000"),
    ],
)
def test_mistakes(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
