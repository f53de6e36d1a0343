"""The frame of every page: one HTML file that needs nothing else, and the parts that pages share."""

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from fallow.report.frame import COLOURS, styles


def document(title: str, sections: str, footer: str) -> str:
    """A whole page: no script, no font, no image, no network; light and dark.

    Args:
        title: of the browser's tab; plain text.
        sections: HTML of the body.
        footer: where the numbers are from; plain text.
    """
    css = f"{styles()}\n{files('fallow.report').joinpath('page.css').read_text(encoding='utf-8')}"
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} - fallow</title>
<style>
{css}
</style>
</head>
<body>
<main>
{sections}
<footer>{escape(footer)}</footer>
</main>
</body>
</html>
"""


def write_page(text: str, path: Path) -> None:
    """Write a page; the file is whole or absent."""
    beside = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def header(kind: str, name: str, description: str) -> str:
    """What the page is about, from plain text."""
    text = f"<p>{escape(description)}</p>" if description else ""
    return f'<header><p class="kind">{escape(kind)}</p><h1>{escape(name)}</h1>{text}</header>\n'


def notes_section(notes: Iterable[str]) -> str:
    """Remarks as a list; empty without any."""
    items = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return f'<section><h2>Notes</h2><ul class="notes">{items}</ul></section>\n' if items else ""


def dot(label: str, style: Mapping[str, int]) -> str:
    """The colour of a label in the charts; nothing for one without a curve."""
    if label not in style:
        return ""
    return f'<span class="dot series-{style[label] % len(COLOURS)}" aria-hidden="true"></span>'
