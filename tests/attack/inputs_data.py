"""Bad data files: well-formed ones of every format that are cut, flipped, nested, doubled, packed or of other types.

`cases(seed)` gives them; `outcome_of` reads one in this process, within a time and a memory; `inputs(seed)` gives them
as commands, for `make attack`.
"""

import gzip
import io
import itertools
import json
import random
import resource
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fallow.data.files import list_files, read_file
from fallow.data.formats import read_pairs
from fallow.data.formats.glue import read_glue
from fallow.data.settings import PairData
from fallow.data.task import task_of
from fallow.errors import UserError
from fallow.evaluate.preference.responses import read_pairs as read_responses
from fallow.evaluate.transcript import Transcript
from fallow.metrics.corpus import read
from tests.attack.cases import Input


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data file with something wrong, or odd, in it.

    Attributes:
        name: what was done to it.
        path: how the file is called.
        content: what it holds.
        reader: how it is read: `text`, a format of pairs, a task of GLUE, `score`, `table`, `responses`, `transcript`.
        refused: whether it must be: it holds what no file of this form can.
    """

    name: str
    path: str
    content: bytes
    reader: str
    refused: bool = False


def _lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


_LINE = "The Vaults is a pub near the river, with caf\u00e9 prices."
_TRIPLES = [["Aarhus_Airport", "cityServed", "Aarhus"], ["Aarhus", "country", "Denmark"]]
_WEBNLG = {"category": "Airport", "triples": _TRIPLES, "lexs": [{"comment": "good", "text": _LINE}]}
_XML = (
    '<?xml version="1.0" encoding="utf-8"?><benchmark><entries><entry category="Airport" eid="Id1"><modifiedtripleset>'
    f'<mtriple>a | b | c</mtriple></modifiedtripleset><lex comment="good">{_LINE}</lex></entry></entries></benchmark>'
).encode()


def _parquet() -> bytes:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        return b""
    out = io.BytesIO()
    parquet.write_table(arrow.table({"text": [f"{i} {_LINE}" for i in range(300)]}), out)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        member = tarfile.TarInfo("webnlg/train/1triples/a.xml")
        member.size = len(_XML)
        tar.addfile(member, io.BytesIO(_XML))
    return out.getvalue()


def well_formed() -> Iterator[Case]:
    """One good file of each format."""
    rows = [{"text": f"{i} {_LINE}", "id": i, "meta": {"a": [1, 2.5, None, True]}} for i in range(20)]
    pairs = [{"context": f"{i} a", "target": _LINE} for i in range(10)] + [{"context": "b", "references": ["c", "d"]}]
    e2e = "mr,ref\n" + "".join(f'"name[A {i}], eatType[pub]","A, ""{i}"" is it."\n' for i in range(10))
    dart = [{"tripleset": _TRIPLES, "annotations": [{"source": "a", "text": _LINE}]}] * 5
    curation = f"title,summary,article_content\nt,{_LINE!r},x\n".replace("'", '"')
    responses = _lines(*({"id": i, "instruction": f"do {i}", "response": _LINE} for i in range(5)))
    texts = _lines({"format": "fallow-texts"}, *({"context": "a", "text": str(i), "prompt": str(i)} for i in range(3)))
    for path, content, reader in (
        ("a.txt", f"{_LINE}\n\n".encode() * 30, "text"),
        ("a.jsonl", _lines(*rows), "text"),
        ("a.parquet", _parquet(), "text"),
        ("p.jsonl", _lines(*pairs), "jsonl"),
        ("e.csv", e2e.encode(), "e2e"),
        ("d.json", json.dumps(dart).encode(), "dart"),
        ("w.jsonl", _lines(_WEBNLG, _WEBNLG), "webnlg"),
        ("w.xml", _XML, "webnlg"),
        ("w.tar.gz", _tar(), "webnlg"),
        ("c.csv", curation.encode(), "curation"),
        ("g.tsv", b"sentence\tlabel\n" + f"{_LINE}\t1\n".encode() * 9, "sst2"),
        (
            "v.tsv",
            b"index\tg\tf\ty\to1\to2\to3\tsentence1\tsentence2\tscore\n" + b"1\ta\tb\tc\td\te\tf\tx\ty\t2.5\n" * 3,
            "stsb",
        ),
        ("h.txt", f"{_LINE}\n".encode() * 6, "score"),
        ("h.tsv", b"mr\tref\n" + b"name[A]\tIt is A.\n" * 6, "table"),
        ("r.jsonl", responses, "responses"),
        ("r.json", json.dumps([json.loads(line) for line in responses.splitlines()]).encode(), "responses"),
        ("texts.jsonl", texts, "transcript"),
    ):
        if content:
            yield Case(name="well-formed", path=path, content=content, reader=reader)
            if not path.endswith((".gz", ".parquet")) and reader not in ("transcript", "table"):
                yield Case(name="packed", path=f"{path}.gz", content=gzip.compress(content, mtime=0), reader=reader)


VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1.5,
    1e999,
    "",
    "abc",
    [],
    [[]],
    {},
    [None],
    [1, 2, 3],
    ["a", "b", "c"],
    [["a"]],
)


def typed(good: Case) -> Iterator[Case]:
    """Every value of the first entry of a JSON file with each of other types, or left out."""
    if good.path.endswith(".gz") or ".json" not in good.path:
        return
    whole = json.loads(good.content.splitlines()[0])
    for place in _places(whole):
        for value in (*VALUES, KeyError):
            changed = json.loads(json.dumps(whole))
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            if value is KeyError:
                del parent[place[-1]]
            else:
                parent[place[-1]] = value
            shown = "left out" if value is KeyError else json.dumps(value)
            name = f"{'.'.join(map(str, place))} is {shown}"
            yield Case(name=name, path=good.path, content=_lines(changed), reader=good.reader)


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in _places(inner))


def harmed(good: Case, rng: random.Random) -> Iterator[Case]:
    """Cut, flipped, with pieces doubled, moved or put in."""

    def case(name: str, content: bytes) -> Case:
        return Case(name=name, path=good.path, content=content, reader=good.reader)

    raw = good.content
    for _ in range(12):
        at, other = sorted((rng.randrange(len(raw)), rng.randrange(len(raw))))
        yield case(f"cut at {at}", raw[:at])
        flipped = bytearray(raw)
        for place in rng.sample(range(len(raw)), rng.choice((1, 3))):
            flipped[place] ^= 1 << rng.randrange(8)
        yield case("flipped bits", bytes(flipped))
        yield case(f"bytes {at} to {other} twice", raw[:other] + raw[at:])
        piece = rng.choice(
            (b"\0", b"\r", b'"', b"\n\n", b"\xff", b"\xe2\x80\xa8", b"\xc2\x85", b"[", b"}", b"\t", b",", b"<")
        )
        yield case(f"{piece!r} at {at}", raw[:at] + piece * rng.choice((1, 3)) + raw[at:])
        yield case(f"zeros from {at}", raw[:at] + bytes(other - at) + raw[other:])
    for name, content in (
        ("empty", b""),
        ("a blank line", b"\n"),
        ("CRLF", raw.replace(b"\n", b"\r\n")),
        ("CR alone", raw.replace(b"\n", b"\r")),
        ("a BOM", b"\xef\xbb\xbf" + raw),
        ("UTF-16", raw.decode("utf-8", "replace").encode("utf-16")),
        ("Latin-1", raw.decode("utf-8", "replace").encode("latin-1", "replace")),
        ("packed under a plain name", gzip.compress(raw, mtime=0)),
        ("twice", raw + raw),
        ("reversed", raw[::-1]),
    ):
        yield case(name, content)


def made_to_harm() -> Iterator[Case]:
    """Bombs, depth, digits, length: must be refused, soon, in little memory."""
    deep, digits, long = b"[" * 200_000, b"7" * 5000, b"x" * (17 << 20)
    for path, reader in (("a.jsonl", "text"), ("p.jsonl", "jsonl"), ("w.jsonl", "webnlg"), ("r.jsonl", "responses")):
        for name, line in (
            ("deep lists", deep),
            ("deep objects", b'{"a":' * 200_000),
            ("deep and closed", b'{"text": ' + deep + b"]" * 200_000 + b"}"),
            ("5,000 digits", b'{"text": ' + digits + b"}"),
            ("a key twice", b'{"text": "a", "text": "b", "context": "c", "target": "d"}'),
            ("half a pair", b'{"text": "\\ud83d", "context": "\\ud83d", "target": "", "response": ""}'),
        ):
            yield Case(name=name, path=path, content=line + b"\n", reader=reader, refused=True)
        packed = gzip.compress(b'{"text": "' + b"x" * 100_000_000, 9, mtime=0)
        yield Case(name="a bomb of one line", path=f"{path}.gz", content=packed, reader=reader, refused=True)
        packed = gzip.compress(b"\n" * 100_000_000, 9, mtime=0)
        yield Case(name="100 million line feeds", path=f"{path}.gz", content=packed, reader=reader, refused=True)
        yield Case(name="a line of 17 MB", path=path, content=long, reader=reader, refused=True)
    for name, content in (("null", b"null"), ("5", b"5"), ("deep", deep), ("digits", b"[" + digits + b"]")):
        yield Case(name=name, path="d.json", content=content, reader="dart", refused=True)
    for name, text in (
        ("a long word", "x" * 300_000),
        ("open slots", "x[" * 150_000),
        ("closed slots", "x]" * 150_000),
        ("commas", '"' + "x," * 150_000 + '"'),
        ("blanks", '"' + " " * 300_000 + '"'),
        ("an open mark", '"name[A]'),
    ):
        yield Case(name=name, path="e.csv", content=f"mr,ref\n{text},y\n".encode(), reader="e2e", refused=True)
    for name, xml in (
        ("an unknown encoding", b'<?xml version="1.0" encoding="x-none"?><a/>'),
        ("a double byte encoding", b'<?xml version="1.0" encoding="gb2312"?><a/>'),
        ("billion laughs", b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + _entities() + b"]><a>&l9;</a>"),
        ("an outer entity", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
        ("deep", b"<a>" * 200_000 + b"</a>" * 200_000),
    ):
        yield Case(name=name, path="w.xml", content=xml, reader="webnlg", refused=True)
    yield Case(name="100 million line feeds", path="a.txt.gz", content=packed, reader="text", refused=True)
    yield Case(name="a bomb", path="w.tar.gz", content=packed, reader="webnlg", refused=True)
    for end in ("\r", "\0"):
        yield Case(
            name=f"lines end in {end!r}", path="h.txt", content=f"a{end}b{end}".encode(), reader="score", refused=True
        )
    swallowed = b'mr\tref\nname[A]\t"It is A.\nname[A]\tIt is.\n'
    yield Case(name="a swallowed row", path="h.tsv", content=swallowed, reader="table", refused=True)


def _entities() -> bytes:
    names = ["b", *(f"l{i}" for i in range(10))]
    return b"".join(f'<!ENTITY {b} "{f"&{a};" * 10}">'.encode() for a, b in itertools.pairwise(names))


def cases(seed: int) -> Iterator[Case]:
    """All of them; the same for the same seed. The first are the well-formed ones."""
    rng = random.Random(seed)
    good = list(well_formed())
    yield from good
    yield from made_to_harm()
    for one in good:
        yield from typed(one)
    while True:
        for one in good:
            yield from harmed(one, rng)


def outcome_of(case: Case, folder: Path, *, seconds: float = 20, megabytes: int = 2000) -> tuple[str, str]:
    """Read a case in this process: `refused`, `accepted`, `unnamed`, `traceback` or `hang`, and what was said.

    Args:
        case: the file is written into `folder` first.
        folder: may be used again.
        seconds: after these it is a hang.
        megabytes: that reading may take on top of what the process has.
    """
    path = folder / case.path
    path.write_bytes(case.content)
    try:
        with _bounds(seconds, megabytes):
            _read(case.reader, path)
    except UserError as error:
        text = str(error)
        named = case.path in text or "hypothes" in text
        # The command writes every kind of blank as a plain one.
        return ("refused" if named and "\n" not in text and len(text) < 900 else "unnamed"), text
    except _LateError:
        return "hang", f"more than {seconds} s"
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"[:300]
    finally:
        path.unlink(missing_ok=True)
    return "accepted", ""


def _read(reader: str, path: Path) -> None:
    if reader == "text":
        for file in list_files(path):
            for document in read_file(file):
                assert document.text
    elif reader in ("sst2", "stsb"):
        read_glue(path, task_of(reader))
    elif reader == "score":
        read(path, [path, path])
    elif reader == "table":
        read(path, [path])
    elif reader == "responses":
        read_responses(path, path)
    elif reader == "transcript":
        Transcript(path, {}, replace=True)
    else:
        settings = PairData(format=reader, context=64, train=str(path))  # type: ignore[arg-type]
        assert all(
            type(part) is str
            for pair in read_pairs(settings, "train", path.parent)
            for part in (pair.context, pair.target)
        )


class _LateError(BaseException):
    """Time is up; no `except Exception` on the way may take it."""


@contextmanager
def _bounds(seconds: float, megabytes: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise _LateError

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), before[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def inputs(seed: int) -> Iterator[Input]:
    """Each case as a command, those made to harm first."""
    for number, case in enumerate(cases(seed)):
        if case.reader == "transcript":
            continue
        name, place = f"{case.reader}: {case.path}: {case.name} ({number})", f"bad/{case.path}"
        if case.reader in ("score", "table"):
            argv: tuple[str, ...] = (
                "score",
                "--profile",
                "e2e",
                "--metrics",
                "bleu",
                "--hypotheses",
                place,
                "--references",
                place,
            )
        elif case.reader == "responses":
            argv = ("judge", place, place, "--judge", "false", "--timeout", "5")
        elif case.reader in ("sst2", "stsb"):
            argv = ("evaluate", "out/tune/model", "--data", place, "--format", case.reader, "--context", "16")
        elif case.reader == "text":
            argv = ("prepare", place, "--tokenizer", "out/tokenizer", "--output", "made")
        else:
            argv = (
                "inspect",
                "data",
                place,
                "--format",
                case.reader,
                "--tokenizer",
                "out/tokenizer",
                "--context",
                "64",
            )
        yield Input(name=name, argv=argv, files={place: case.content}, accepts=not case.refused)
