"""The tables of docs/speed.md are those of the newest records."""

import importlib.util

from tests.house.source import ROOT


def test_the_tables_come_from_the_records() -> None:
    path = ROOT / "benchmarks" / "speed_page.py"
    spec = importlib.util.spec_from_file_location("speed_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.PAGE.read_text(encoding="utf-8")
    assert text.count("<!-- table:") == len(module.TABLES)
    assert module.filled(text) == text, "run: python benchmarks/speed_page.py"
