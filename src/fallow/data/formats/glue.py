"""GLUE's tasks (Wang et al., 2019) from their published files: tab-separated, without quoting."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fallow.data.task import Task
from fallow.errors import UserError, nearest
from fallow.unpack import read_lines


@dataclass(frozen=True, slots=True)
class Example:
    """A text or two, and what is to be told from them.

    Attributes:
        first: the text, or the first of two.
        second: the other one; empty for tasks on single texts.
        label: number of the class, or the value; None where a file has no labels.
    """

    first: str
    second: str
    label: int | float | None


@dataclass(frozen=True, slots=True)
class _Columns:
    first: str
    second: str
    label: str


_COLUMNS = {
    "cola": _Columns("sentence", "", "label"),
    "sst2": _Columns("sentence", "", "label"),
    "mrpc": _Columns("#1 String", "#2 String", "Quality"),
    "stsb": _Columns("sentence1", "sentence2", "score"),
    "qqp": _Columns("question1", "question2", "is_duplicate"),
    "mnli": _Columns("sentence1", "sentence2", "gold_label"),
    "qnli": _Columns("question", "sentence", "label"),
    "rte": _Columns("sentence1", "sentence2", "label"),
}
_COLA_HEADER = ["source", "label", "mark", "sentence"]  # its files for training and development have none
_UNDECIDED = "-"  # MNLI's original release: the annotators did not agree; left out by everyone


def read_glue(path: Path, task: Task, *, labelled: bool = True) -> tuple[list[Example], int]:
    """The examples of one file in its order, and the number of rows left out.

    Left out are rows of QQP with missing columns, of which the published file has a few, and rows of MNLI without a
    majority label, as the official readers do. Anything else that is not of the task's form is an error.

    Args:
        path: .tsv or .tsv.gz.
        task: whose file it is.
        labelled: whether labels are needed; GLUE's test sets have none.

    Raises:
        UserError: absent, empty, not UTF-8, without a column, or with a label outside the task's set; names the line.
    """
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        raise UserError(f"{path} does not exist." + (f" Did you mean {path.with_name(close)}?" if close else ""))
    columns, examples, left_out = _COLUMNS[task.name], [], 0
    places: dict[str, int] = {}
    for number, cells in _rows(path):
        if not places:
            header = _header(task, cells)
            places = _places(path, header, columns, task, labelled=labelled)
            width = len(header)
            if header == cells:
                continue
        where = f"{path}:{number}"
        if len(cells) != width:
            if task.name != "qqp":
                raise UserError(
                    f"{where} has {len(cells)} columns, but {task.name} has {width} there. Is it an unchanged file of "
                    "GLUE? It must be tab-separated, without quotes around texts."
                )
            left_out += 1
            continue
        label = cells[places["label"]] if "label" in places else ""
        if task.name == "mnli" and label == _UNDECIDED:
            left_out += 1
            continue
        second = cells[places["second"]] if columns.second else ""
        value = task.label(label, where) if "label" in places else None
        examples.append(Example(cells[places["first"]], second, value))
    if not examples:
        raise UserError(f"{path} holds no example of {task.name}. Get the file again.")
    return examples, left_out


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in read_lines(path):
        text = line.rstrip("\r\n")
        if number == 1:
            text = text.removeprefix("\ufeff")  # MRPC's original files begin with one
        if text:
            yield number, text.split("\t")


def _header(task: Task, first: list[str]) -> list[str]:
    if task.name == "cola" and "sentence" not in first:
        return _COLA_HEADER
    return first


def _places(path: Path, header: list[str], columns: _Columns, task: Task, *, labelled: bool) -> dict[str, int]:
    """Column number of each part; the label's only where it is there."""
    repeated = next((name for name in header if header.count(name) > 1 and name in asdict(columns).values()), "")
    if repeated:
        raise UserError(f"{path} has {header.count(repeated)} columns named {repeated}. Get the file again.")
    wanted = {"first": columns.first, "second": columns.second, "label": columns.label}
    places = {}
    for part, name in wanted.items():
        if not name:
            continue
        if name in header:
            places[part] = header.index(name)
        elif part == "label" and not labelled:
            continue
        elif part == "label" and all(wanted[p] in header for p in places):
            raise UserError(
                f"{path} has no column {name}: GLUE keeps the labels of its test sets to itself. Name a file with "
                "labels, such as the development set."
            )
        else:
            raise UserError(f"{path} has no column {name}, which a file of {task.name} has. It has: {_shown(header)}.")
    return places


def _shown(header: list[str]) -> str:
    text = ", ".join(header)
    return text if len(text) <= 120 else f"{text[:117]}..."
