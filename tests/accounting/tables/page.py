"""Writes what `fallow tables` prints into its page of the documentation.

PYTHONPATH=src python -m tests.accounting.tables.page
"""

import re
from pathlib import Path

from fallow.accounting.tables import table
from fallow.accounting.tables.text import to_text

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tables.md"
OUTPUT = re.compile(r"(?<=<!-- output: fallow tables )([a-z-]+)( -->\n).*?(?=<!-- /output -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The page with every output as it is printed now."""
    return OUTPUT.sub(lambda match: f"{match[1]}{match[2]}\n```text\n{to_text(table(match[1]))}\n```\n\n", text)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
