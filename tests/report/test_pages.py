import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fallow.report
from fallow.errors import UserError
from fallow.report.pages import run_page
from fallow.report.runs import read_results

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Checker(HTMLParser):
    """Every element is closed in order; collects tags, texts and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(results: dict[str, Any]) -> Checker:
    checker = Checker()
    checker.feed(run_page(results))
    assert checker.open == []
    return checker


def test_is_self_contained_and_well_formed(results: dict[str, Any]) -> None:
    checker, text = parsed(results), run_page(results)
    names = {tag for tag, _ in checker.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert not any(key.startswith("on") or key in ("src", "href") for _, attrs in checker.tags for key in attrs)


def test_everything_is_shown_and_escaped(results: dict[str, Any]) -> None:
    said = " ".join(parsed(results).texts)
    for text in (
        "spdf <demo>", "What was run & why.", "rate chosen by <sweep>", "<script>alert(1)</script>", "A second one.",
        "return x < 1 & True", "Rate chosen by a sweep > 3.", "lr: 0.002", "(nothing)", "References (2)",
    ):  # fmt: skip
        assert text in said
    for row in results["rows"]:
        assert row["arm"] in said


def test_one_chart_a_stage_and_one_colour_a_model(results: dict[str, Any]) -> None:
    results["curves"].append(
        {"label": "75% sparse", "stage": "Fine-tuning", "kind": "valid", "points": [[1, 2], [2, 1]]}
    )
    text = run_page(results)
    assert text.count("<svg") == 2
    ids = re.findall(r'id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert 'class="mark series-2"' in text.split("<svg")[2]


def test_best_values_are_marked_and_exact_ones_told(results: dict[str, Any]) -> None:
    text = run_page(results)
    assert re.search(r'<td class="number best" title="3.5"><span>3.500</span>', text)
    assert "14.20 \N{PLUS-MINUS SIGN} 0.1" in text


def test_light_and_dark(results: dict[str, Any]) -> None:
    assert run_page(results).count("prefers-color-scheme: dark") == 2


def test_the_same_results_give_the_same_page(results: dict[str, Any]) -> None:
    assert run_page(results) == run_page(json.loads(json.dumps(results)))


def test_parts_that_are_absent_are_left_out(results: dict[str, Any]) -> None:
    for key in ("curves", "samples", "notes", "recipe"):
        del results[key]
    text = run_page(results)
    assert "<svg" not in text
    for title in ("Generated texts", "Notes", "Settings", ">Loss<"):
        assert title not in text
    assert parsed({}).open == []


def test_results_on_disk_give_the_report_again(results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert run_page(read_results(tmp_path / "results.json")) == run_page(results)


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), ("{", "not JSON"), ("{}", "no columns")])
def test_bad_files(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(path)


def test_templates_escape_everything_that_is_not_drawn_by_us() -> None:
    """A template may switch escaping off by a filter or a block; none does."""
    templates = Path(fallow.report.__file__).parent / "templates"
    assert len(list(templates.glob("*.html"))) == 5
    for template in templates.glob("*.html"):
        assert not re.search(r"\bsafe\b|autoescape", template.read_text(encoding="utf-8")), template
