"""The published formats of GLUE, row by row, and what is wrong with a file."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from fallow.data.formats.glue import Example, read_glue
from fallow.data.task import TASKS
from fallow.errors import UserError

FILES: dict[str, tuple[str, list[Example]]] = {
    "cola": (
        "gj04\t1\t\tOur friends won't buy this.\nks08\t0\t*\tThey drank the pub.\n",
        [Example("Our friends won't buy this.", "", 1), Example("They drank the pub.", "", 0)],
    ),
    "sst2": (
        'sentence\tlabel\nhide "new" secretions \t0\na \u201cjoy\u201d \t1\n',
        [Example('hide "new" secretions ', "", 0), Example("a \u201cjoy\u201d ", "", 1)],
    ),
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t70\t71\tHe said so.\tSo he said.\r\n",
        [Example("He said so.", "So he said.", 1)],
    ),
    "stsb": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tmain\tMSRvid\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t5.000\n"
        "1\tmain\tMSRvid\t2012\t4\tnone\tnone\tA man.\tA flute.\t0.250\n",
        [Example("A plane.", "An air plane.", 5.0), Example("A man.", "A flute.", 0.25)],
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        "0\t1\t2\tHow?\tWhy?\t0\nbroken row\n1\t3\t4\tWho?\tWho?\t1\n",
        [Example("How?", "Why?", 0), Example("Who?", "Who?", 1)],
    ),
    "mnli": (
        "index\tpromptID\tpairID\tgenre\tp1\tp2\tp3\tp4\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t1\t1n\tgov\t(\t(\t(\t(\tIt rains.\tIt is wet.\tneutral\tneutral\n"
        "1\t2\t2c\tgov\t(\t(\t(\t(\tIt rains.\tIt is dry.\tneutral\t-\n"
        "2\t3\t3c\tgov\t(\t(\t(\t(\tIt rains.\tIt is hot.\tneutral\tcontradiction\n",
        [Example("It rains.", "It is wet.", 1), Example("It rains.", "It is hot.", 2)],
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel\n0\tWhen?\tIn May.\tentailment\n1\tWhere?\tIn May.\tnot_entailment\n",
        [Example("When?", "In May.", 0), Example("Where?", "In May.", 1)],
    ),
    "rte": (
        "index\tsentence1\tsentence2\tlabel\n0\tIt rained.\tIt was wet.\tentailment\n",
        [Example("It rained.", "It was wet.", 0)],
    ),
}


@pytest.mark.parametrize("task", FILES)
def test_published_form(task: str, tmp_path: Path) -> None:
    text, expected = FILES[task]
    path = tmp_path / "train.tsv"
    path.write_bytes(text.encode())
    examples, left_out = read_glue(path, TASKS[task])
    assert examples == expected
    assert left_out == (1 if task in ("qqp", "mnli") else 0)
    packed = tmp_path / "train.tsv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_glue(packed, TASKS[task]) == (expected, left_out)


def test_every_task_is_read() -> None:
    assert set(FILES) == set(TASKS)


@pytest.mark.parametrize(
    ("task", "raw", "message"),
    [
        ("sst2", b"", "holds no example of sst2"),
        ("sst2", b"sentence\tlabel\n", "holds no example of sst2"),
        ("sst2", b"text\tlabel\nfine\t1\n", "has no column sentence, which a file of sst2 has. It has: text, label"),
        ("sst2", b"index\tsentence\n0\tfine\n", "has no column label: GLUE keeps the labels of its test sets"),
        ("sst2", b"sentence\tlabel\nfine\t2\n", r':2 has the label "2", but sst2 knows only 0, 1'),
        ("sst2", b"sentence\tlabel\nfine\n", ":2 has 1 columns, but sst2 has 2 there"),
        ("sst2", b"sentence\tlabel\nf\xffne\t1\n", "is not UTF-8: byte 0xff at offset 16"),
        ("rte", b"index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailed\n", "Did you mean entailment?"),
        ("cola", b"index\tsentence\n0\tfine\n", "GLUE keeps the labels"),
        ("cola", b"fine\t1\n", ":1 has 2 columns, but cola has 4"),
        ("stsb", b"sentence1\tsentence2\tscore\na\tb\t5.5\n", r'the value "5.5", but stsb has values from 0 to 5'),
        ("stsb", b"sentence1\tsentence2\tscore\na\tb\thigh\n", r'the value "high"'),
        ("stsb", b"sentence1\tsentence2\tscore\na\tb\tnan\n", r'the value "nan"'),
    ],
)
def test_what_is_wrong_is_said(task: str, raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(raw)
    with pytest.raises(UserError, match=message):
        read_glue(path, TASKS[task])


def test_a_test_set_without_labels_is_read_on_request(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("index\tsentence1\tsentence2\n0\ta\tb\n")
    assert read_glue(path, TASKS["rte"], labelled=False) == ([Example("a", "b", None)], 0)


def test_damaged_gzip_and_absent_file(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv.gz"
    path.write_bytes(gzip.compress(b"sentence\tlabel\n" + b"fine\t1\n" * 500)[:-20])
    with pytest.raises(UserError, match="is damaged"):
        read_glue(path, TASKS["sst2"])
    with pytest.raises(UserError, match="Did you mean"):
        read_glue(tmp_path / "dev.tsv", TASKS["sst2"])


@pytest.mark.parametrize(
    ("task", "files", "sizes", "share"),
    [
        ("cola", ["in_domain_dev", "out_of_domain_dev"], [527, 516], 0.689),
        ("sst2", ["dev"], [872], 0.509),
        ("rte", ["dev"], [277], 0.473),
    ],
)
def test_the_real_files(
    task: str, files: list[str], sizes: list[int], share: float, shared: Callable[[str], Path]
) -> None:
    """Counts of rows are those of GLUE; the share of class 1 is what a count of the second column gives."""
    folder = {"cola": "CoLA", "sst2": "SST-2", "rte": "RTE"}[task]
    found = [read_glue(shared(f"glue/{folder}/{name}.tsv.gz"), TASKS[task])[0] for name in files]
    assert [len(examples) for examples in found] == sizes
    labels = [example.label for examples in found for example in examples]
    assert sum(labels) / len(labels) == pytest.approx(share, abs=0.001)
