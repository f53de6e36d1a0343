import ast
import gzip
import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallow.data.formats import Pair, read_pairs
from fallow.data.formats.docstrings import read_docstrings, role_of
from fallow.data.formats.webnlg import read_webnlg
from fallow.data.settings import PairData
from fallow.errors import UserError

E2E = """mr,ref
"name[The Vaults], eatType[pub], area[city centre]",The Vaults is a pub.
"name[A, B]","Two, ""A"" and B."
"""
WEBNLG = """<benchmark><entries><entry category="{}" eid="Id1" size="2"><originaltripleset><otriple>x | y | z</otriple>
</originaltripleset><modifiedtripleset><mtriple>Aarhus_Airport | cityServed | "Aarhus, Denmark"</mtriple>
<mtriple>Aarhus | country | Denmark</mtriple></modifiedtripleset><lex comment="good" lid="Id1">Aarhus.</lex>
<lex comment="toFix" lid="Id2">Bad.</lex></entry></entries></benchmark>"""
AARHUS = Pair('Aarhus_Airport : cityServed : "Aarhus, Denmark" | Aarhus : country : Denmark', "Aarhus.")
DART = [
    {
        "tripleset": [["Mars Hill", "JOINED_In", "1973"]],
        "annotations": [{"source": "a", "text": "It joined."}, {"source": "b", "text": "Joined in 1973."}],
    }
]


def load(path: Path, form: str, role: Any = "train", **changes: Any) -> list[Pair]:
    files = {"train": str(path), role: str(path)}
    return read_pairs(PairData(format=form, context=64, **files, **changes), role, path.parent)  # type: ignore[arg-type]


def test_e2e(tmp_path: Path) -> None:
    path = tmp_path / "trainset.csv"
    path.write_text(E2E, encoding="utf-8")
    assert load(path, "e2e") == [
        Pair("name : The Vaults | eatType : pub | area : city centre", "The Vaults is a pub."),
        Pair("name : A, B", 'Two, "A" and B.'),
    ]
    packed = tmp_path / "trainset.csv.gz"
    packed.write_bytes(gzip.compress(E2E.encode()))
    assert load(packed, "e2e") == load(path, "e2e")


def test_webnlg_in_all_its_forms(tmp_path: Path) -> None:
    root = tmp_path / "release"
    for name, category in (
        ("train/1triples/a", "Airport"),
        ("dev/2triples/b", "Airport"),
        ("test/testdata_with_lex", "Artist"),
    ):
        file = root / f"{name}.xml"
        file.parent.mkdir(parents=True)
        file.write_text(WEBNLG.format(category), encoding="utf-8")
    with tarfile.open(tmp_path / "release.tar.gz", "w:gz") as tar:
        tar.add(root, arcname="webnlg")
    row = {
        "category": "Airport",
        "triples": [["Aarhus_Airport", "cityServed", '"Aarhus, Denmark"'], ["Aarhus", "country", "Denmark"]],
        "lexs": [{"text": "Aarhus.", "comment": "good"}, {"text": "Bad.", "comment": "toFix"}],
    }
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    for path in (root, tmp_path / "release.tar.gz", tmp_path / "train.jsonl", root / "train/1triples/a.xml"):
        assert load(path, "webnlg") == [AARHUS]
    for role in ("train", "valid", "test"):
        assert read_webnlg(root, role) == [AARHUS]  # type: ignore[arg-type]
    assert load(root, "webnlg", "test", subset="unseen") == [AARHUS]
    with pytest.raises(UserError, match="holds no pair"):
        load(root, "webnlg", "test", subset="seen")


def test_dart(tmp_path: Path) -> None:
    path = tmp_path / "dart.json"
    path.write_text(json.dumps(DART), encoding="utf-8")
    context = "Mars Hill : joined_in : 1973"
    assert load(path, "dart") == [Pair(context, "It joined."), Pair(context, "Joined in 1973.")]


def test_curation(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    article = "long " * 40_000  # beyond the csv module's own limit of 128 KB
    path.write_text(f'Title,Summary,URL,Article_Content\nt,"a\nb",u,{article}\nt,s,u,\n', encoding="utf-8")
    assert load(path, "curation") == [Pair(article.strip(), "a\nb")]
    path.write_text("title,summary,url\nt,s,u\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no column for the article .* its columns are: title, summary, url"):
        load(path, "curation")


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"context": "a", "target": "b"}\n\n{"context": "c", "references": ["d", "e"]}\n', encoding="utf-8")
    assert load(path, "jsonl") == [Pair("a", "b"), Pair("c", "d"), Pair("c", "e")]
    path.write_text('{"q": "a", "r": "b"}\n', encoding="utf-8")
    assert load(path, "jsonl", context_field="q", target_field="r") == [Pair("a", "b")]


@pytest.mark.parametrize(
    ("form", "name", "text", "message"),
    [
        ("e2e", "a.csv", "MR\nname[x]\n", "For the test set name testset_w_refs.csv"),
        ("e2e", "a.csv", "a,b\n1,2\n", "has no column mr. It has: a, b"),
        ("e2e", "a.csv", "mr,ref\nplain,text\n", r"a\.csv:2 has no slots"),
        ("e2e", "a.csv", "", "is empty"),
        ("e2e", "a.csv", "mr,ref\n", "holds no pair"),
        ("e2e", "a.csv", "mr,ref\rname[x],y\r", r"a\.csv:1 holds a CR .* \(tr"),
        ("e2e", "a.csv", 'mr,ref\nname[x],y\nname[z],"cut off\nname[a],b\n', r"a\.csv:3 opens a quotation mark"),
        ("e2e", "a.csv", "mr,ref\nname[x],y\nname[x]\n", r"a\.csv:3 has 1 cells, but there are 2 columns"),
        ("e2e", "a.csv", "mr,ref\nname[x],y,z\n", r"a\.csv:2 has 3 cells, but there are 2 columns"),
        ("e2e", "a.csv", "mr,ref\nname[x], \n", r"a\.csv:2 has no text in ref"),
        ("e2e", "a.csv", "mr,ref,ref\nname[x],y,z\n", "has 2 columns named ref"),
        ("e2e", "a.csv", "mr,ref\nname[x],\0\n", r"a\.csv:2 holds the character NUL"),
        ("e2e", "a.csv", f"mr,ref\n{'x' * 400_000},y\n", r"a\.csv:2 has no slots"),
        ("e2e", "a.csv", f"mr,ref\n{'x[' * 200_000},y\n", r"a\.csv:2 has no slots"),
        ("e2e", "a.csv", 'mr,ref\n"name[x], cut",y\n', r"a\.csv:2 has no slots"),
        ("dart", "a.json", "null", "holds null, but DART is a list"),
        ("dart", "a.json", "5", "holds a number, but DART is a list"),
        ("dart", "a.json", "[" * 100_000, "has lists or objects in each other"),
        ("dart", "a.json", f"[{'7' * 5000}]", "has a number of thousands of digits"),
        ("dart", "a.json", '[{"tripleset": ["abc"], "annotations": [{"text": "a"}]}]', "entry 0 is not of DART"),
        ("dart", "a.json", '[{"tripleset": [["a", "b", "c"]], "annotations": [{"text": null}]}]', "entry 0 is not"),
        ("dart", "a.json", "<xml/>", "is not JSON"),
        ("dart", "a.json", '[{"tripleset": [["a", "b"]], "annotations": []}]', "entry 0 is not of DART"),
        ("webnlg", "a.txt", "x", "is not WebNLG"),
        ("webnlg", "a.xml", "<a>", "is not XML"),
        ("webnlg", "a.xml", '<?xml version="1.0" encoding="x-none"?><a/>', "is not XML"),
        ("webnlg", "a.xml", '<?xml version="1.0" encoding="utf-7"?><a/>', "is not XML"),
        (
            "webnlg",
            "a.xml",
            '<a><entry category="x"><lex comment="good">t</lex></entry></a>',
            "entry 1 is not a WebNLG",
        ),
        (
            "webnlg",
            "a.jsonl",
            '{"category": "x", "triples": "abc", "lexs": []}\n',
            "its triples are not lists of three",
        ),
        ("webnlg", "a.jsonl", '{"category": "x", "triples": null, "lexs": []}\n', "its triples are not lists of three"),
        ("webnlg", "a.jsonl", '{"category": "x", "triples": [[1, 2, 3]], "lexs": []}\n', "its triples are not"),
        (
            "webnlg",
            "a.jsonl",
            '{"category": "x", "triples": [["a", "b", "c"]], "lexs": [{"comment": "good", "text": null}]}\n',
            "a.jsonl:1 .* one of its texts is missing",
        ),
        ("webnlg", "a.tar.gz", "x", "is damaged"),
        ("webnlg", "a.jsonl", "{}\n", "a.jsonl:1 is not a WebNLG entry"),
        ("jsonl", "a.jsonl", '{"contex": "a"}\n', "has no field context. Did you mean contex"),
        ("jsonl", "a.jsonl", '{"context": "a", "references": []}\n', r"a\.jsonl:1 has an empty list in references"),
        (
            "jsonl",
            "a.jsonl",
            '{"context": "a", "target": "b", "references": ["c"]}\n',
            "has both target and references",
        ),
        ("jsonl", "a.jsonl", '{"context": "a"}\n', "has neither target .* nor references"),
        ("jsonl", "a.jsonl", '{"context": 1}\n', "has a number in context"),
    ],
)
def test_bad_files(tmp_path: Path, form: str, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load(tmp_path / name, form)


def test_a_missing_file_says_where_the_data_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist .*tuetschek/e2e-dataset"):
        load(tmp_path / "absent.csv", "e2e")


def test_docstrings_of_the_standard_library(tmp_path: Path) -> None:
    roles = {role: read_docstrings(role, tmp_path) for role in ("train", "valid", "test")}  # type: ignore[arg-type]
    assert len(roles["train"]) > 3000
    assert min(len(roles["valid"]), len(roles["test"])) > 100
    contexts = [pair.context for pairs in roles.values() for pair in pairs]
    assert len(set(contexts)) == len(contexts)
    for pair in roles["test"]:
        function = ast.parse(pair.context).body[0]
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        assert ast.get_docstring(function) is None
        assert 3 <= len(pair.target.split()) <= 40
    made = next(tmp_path.glob("docstrings-*.jsonl"))
    row = '["argparse", "def f(): pass", "Kept in the folder."]\n'
    head = json.dumps({"sha256": hashlib.sha256(row.encode()).hexdigest()}) + "\n"
    made.write_text(head + row, encoding="utf-8")
    assert read_docstrings(role_of("argparse"), tmp_path) == [Pair("def f(): pass", "Kept in the folder.")]
    made.write_text(head + row.replace("Kept", "Kapt"), encoding="utf-8")
    assert read_docstrings("test", tmp_path) == roles["test"]


Shared = Callable[[str], Path]


def test_e2e_as_published(shared: Shared) -> None:
    files = {"train": "trainset", "valid": "devset", "test": "testset_w_refs"}
    found = {role: load(shared(f"nlg/e2e/{name}.csv.gz"), "e2e", role) for role, name in files.items()}
    assert {role: len(pairs) for role, pairs in found.items()} == {"train": 42061, "valid": 4672, "test": 4693}
    groups = Counter(pair.context for pair in found["test"])
    assert len(groups) == 630
    assert (min(groups.values()), max(groups.values())) == (1, 45)
    assert found["train"][0].context.startswith("name : The Vaults | eatType : pub | priceRange : more than")
    with pytest.raises(UserError, match=r"testset_w_refs\.csv"):
        load(shared("nlg/e2e/testset.csv.gz"), "e2e")


def test_webnlg_as_published(shared: Shared) -> None:
    archive = shared("nlg/webnlg2017/webnlg_challenge_2017.tar.gz")
    counts = {}
    for role, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        pairs = load(shared(f"nlg/webnlg2017/{name}.jsonl.gz"), "webnlg", role)
        assert load(archive, "webnlg", role) == pairs
        counts[role] = len(pairs)
    assert counts == {"train": 18025, "valid": 2258, "test": 4928}
    assert len(load(archive, "webnlg", "test", subset="seen")) == 2495


def test_dart_as_published(shared: Shared) -> None:
    train = load(shared("nlg/dart/dart-v1.1.1-full-train.json.gz"), "dart")
    assert len(train) == 62659
    assert len(load(shared("nlg/dart/dart-v1.1.1-full-dev.json.gz"), "dart")) == 6980
    assert len(load(shared("nlg/dart/dart-v1.1.1-full-test.json.gz"), "dart")) == 12552
    assert train[0].context.count(" : ") >= 2


def test_a_template_stands_around_every_context(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"context": "Add {a}.", "target": "1"}\n{"context": "x", "target": "2"}\n')
    settings = PairData(
        format="jsonl", train=str(tmp_path / "train.jsonl"), context=16, template="You help.\n{context}\nAnswer:"
    )
    pairs = read_pairs(settings, "train", tmp_path)
    assert [pair.context for pair in pairs] == ["You help.\nAdd {a}.\nAnswer:", "You help.\nx\nAnswer:"]
    assert [pair.target for pair in pairs] == ["1", "2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "You help."}, r"template holds \{context\} 0 times, but it needs it once"),
        ({"template": "{context} {context}"}, "2 times"),
        ({"template": "{context}", "overflow": "cut"}, "overflow: cut would cut the template"),
    ],
)
def test_templates_that_cannot_be(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PairData(format="embedded", context=16, **settings)
