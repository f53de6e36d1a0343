"""Settings from YAML and back: what is accepted, what is refused and in which words."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fallow.config import (
    Choices,
    Words,
    apply_overrides,
    difference,
    dump,
    field_docs,
    flatten,
    from_dict,
    json_schema,
    leaves,
    load,
    parse,
    parse_flags,
    to_dict,
)
from fallow.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    kind: Literal["text"] = "text"
    size: int
    """How many. A second sentence."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size is {self.size}, but it must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    kind: Literal["pairs"] = "pairs"
    share: float = 0.5


class Base:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparse(Base):
    name: ClassVar[str] = "sparse"
    sparsity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense(Base):
    name: ClassVar[str] = "dense"


def registry() -> dict[str, type]:
    return {"sparse": Sparse, "dense": Dense}


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    name: str
    method: Annotated[Base, Choices("name", registry)] = Dense()
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    title: str = ""
    on: bool = False
    tokens: int = 0
    limit: int | None = None
    mode: Literal["auto", "cpu"] = "auto"
    words: tuple[str, ...] = ()
    data: dict[str, Text | Pairs] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    free: dict[str, Any] = field(default_factory=dict)


def read(text: str, *flags: str) -> Whole:
    return from_dict(Whole, apply_overrides(parse(text), parse_flags(flags)))


ACCEPTED = {
    "tokens: 2.5e9": ("tokens", 2_500_000_000),
    "tokens: 400_000": ("tokens", 400_000),
    "tokens: 010": ("tokens", 10),
    "on: true": ("on", True),
    "limit: 3": ("limit", 3),
    "limit: null": ("limit", None),
    "words: [a, b]": ("words", ("a", "b")),
    "words: [on, 12:30, 2024-01-01]": ("words", ("on", "12:30", "2024-01-01")),
    "data: {a: {kind: pairs, share: 1}}": ("data", {"a": Pairs(share=1.0)}),
    "data: {a: {kind: pairs, share: 1e-3}}": ("data", {"a": Pairs(share=0.001)}),
    "parts: [{name: x, method: {name: sparse, sparsity: .5}}]": (
        "parts",
        (Part(name="x", method=Sparse(sparsity=0.5)),),
    ),
    "free: {a: 1e-5, b: [x, {c: null}]}": ("free", {"a": 1e-5, "b": ["x", {"c": None}]}),
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepts(text) -> None:
    key, value = ACCEPTED[text]
    found = getattr(read(text), key)
    assert found == value
    assert type(found) is type(value)


REFUSED = {
    "tokns: 1": "unknown key tokns (line 1). Did you mean tokens?",
    "zebra: 1": "unknown key zebra (line 1). Known keys: title, on, tokens, limit, mode, words, data, parts, free.",
    "tokens: 1.5": "tokens (line 1) is the number 1.5, but it must be a whole number.",
    "tokens: '3'": 'tokens (line 1) is the text "3", but it must be a whole number. Write it without quotes.',
    "tokens: true": "tokens (line 1) is true, but it must be a whole number.",
    "tokens: .inf": "tokens (line 1) is the number inf, but it must be a whole number.",
    "title: 3": 'title (line 1) is the number 3, but it must be text. Put it in quotes: "3".',
    "on: yes": 'on (line 1) is the text "yes", but it must be true or false.',
    "mode: gpu": 'mode (line 1) is the text "gpu", but it must be one of: auto, cpu. Did you mean cpu?',
    "words: a": 'words (line 1) is the text "a", but it must be a list. Write [a].',
    "data: {a: {share: 1}}": "data.a.kind is missing. Choose one of: pairs, text.",
    "data: {a: {kind: txt}}": 'data.a.kind (line 1): unknown kind "txt". Did you mean "text"?',
    "data: {a: {kind: text}}": "data.a.size is missing. How many.",
    "data:\n  a:\n    kind: text\n    size: 0": "data.a.size (line 4) is 0, but it must be at least 1.",
    "data: {a: text}": 'data.a (line 1) is the text "text", but it must be keys and values. Write {kind: text}.',
    "parts: [{name: x}, {method: {name: dense}}]": "parts.1.name is missing.",
    "parts: [{name: x, method: {name: spars}}]": (
        'parts.0.method.name (line 1): unknown method "spars". Did you mean "sparse"?'
    ),
    "parts: [{name: x, method: {name: sparse, sparsty: 1}}]": (
        "unknown key parts.0.method.sparsty (line 1). Did you mean parts.0.method.sparsity?"
    ),
    "parts: [{name: x, betas: [0.9]}]": "parts.0.betas (line 1) holds 1 values, but it must hold 2.",
    "parts: [{name: x, betas: [0.9, .nan]}]": "parts.0.betas.1 is nan, but it must be a finite number.",
    "title: a\ntitle: b": "key title is given twice (line 2). Remove one of them.",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refuses(text) -> None:
    with pytest.raises(UserError) as error:
        read(text)
    assert str(error.value) == REFUSED[text]


def test_broken_yaml_names_the_line() -> None:
    with pytest.raises(UserError, match=r"not valid YAML \(line 2\): mapping values"):
        parse("title: a\n  on: true")


def test_the_empty_key_is_unknown_too() -> None:
    with pytest.raises(UserError, match="unknown key"):
        read('"": 1')


def test_files(tmp_path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("tokens: 3")
    assert load(Whole, path).tokens == 3
    path.write_text("- 3")
    with pytest.raises(UserError, match="must hold keys and values, but it holds a list"):
        load(Whole, path)
    path.write_bytes(b"title: \xff")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        load(Whole, path)
    with pytest.raises(UserError, match="does not exist"):
        load(Whole, tmp_path / "b.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load(Whole, tmp_path)


def test_yaml_cannot_make_objects() -> None:
    for text in ("a: !!int x", "a: !!float x", "a: " + "9" * 5000):
        with pytest.raises(UserError, match="not valid YAML"):
            parse(text)
    with pytest.raises(UserError, match="not valid YAML"):
        parse("title: !!python/object/apply:os.system [echo]")


MERGED = """
data:
  a: &a {kind: text, size: 1}
  b: {<<: *a, size: 2}
  c: *a
"""


def test_anchors_and_merges() -> None:
    assert read(MERGED).data == {"a": Text(size=1), "b": Text(size=2), "c": Text(size=1)}


def test_an_override_reaches_one_place_only() -> None:
    assert read(MERGED, "--data.a.size", "5").data == {"a": Text(size=5), "b": Text(size=2), "c": Text(size=1)}


PARTS = "parts: [{name: one, method: {name: dense}}, {name: two, method: {name: sparse, sparsity: 0.5}}]"


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (["--parts.1.method.sparsity", "0.75"], "parts.1.method.sparsity", 0.75),
        (["--parts.two.method.sparsity=0.75"], "parts.1.method.sparsity", 0.75),
        (["--parts.all.betas", "0", "0.5"], "parts.0.betas.1", 0.5),
        (["--parts.one.betas", "[0, 0.5]"], "parts.0.betas.1", 0.5),
        (["--parts.one.method", "{name: sparse, sparsity: 0.1}"], "parts.0.method.sparsity", 0.1),
        (["--title", "2024"], "title", "2024"),
        (["--tokens", "1e3"], "tokens", 1000),
        (["--on"], "on", True),
        (["--on", "false"], "on", False),
        (["--words", "a", "b"], "words.1", "b"),
        (["--words", "-1"], "words.0", "-1"),
        (["--free.n_embd", "8"], "free.n_embd", 8),
        (["--data.x.kind", "text", "--data.x.size", "2"], "data.x.size", 2),
        (["--limit", "null"], "limit", None),
        (["--tokens", "1", "--tokens", "2"], "tokens", 2),
    ],
)
def test_overrides(flags, key, value) -> None:
    assert flatten(to_dict(read(PARTS, *flags)))[key] == value


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parts.tow.betas", "1"], "parts has no tow. Did you mean two?"),
        (["--parts.7.betas", "1"], "parts.7 does not exist: parts has 2 entries, numbered from 0."),
        (["--parts.0.method.sparsity", "1"], "unknown key parts.0.method.sparsity. Known keys there: name."),
        (["--token", "1"], "unknown key token. Did you mean tokens?"),
        (["--tokens", "1", "2"], "tokens takes one value, but 2 were given: --tokens 1 2"),
        (["--tokens"], "tokens takes one value, but 0 were given: --tokens"),
        (
            ["--parts.0.name.x", "1"],
            'parts.0.name is the text "one" and has no keys, so --parts.0.name.x means nothing.',
        ),
        (["tokens", "1"], '"tokens" is not expected here. Settings are written --key value, such as --seed 1.'),
    ],
)
def test_overrides_refused(flags, message) -> None:
    with pytest.raises(UserError) as error:
        read(PARTS, *flags)
    assert str(error.value) == message


def test_a_changed_value_has_no_line() -> None:
    with pytest.raises(UserError, match=r"^tokens is"):
        read("tokens: 1", "--tokens", "x")


wholes = st.builds(
    Whole,
    title=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))),
    on=st.booleans(),
    tokens=st.integers(-(10**15), 10**15),
    limit=st.none() | st.integers(-9, 9),
    words=st.lists(st.text("abc0123456789.:-+eExon ~<", max_size=8), max_size=4).map(tuple),
    data=st.dictionaries(
        st.text("abc0~.-", min_size=1, max_size=3), st.builds(Pairs, share=st.floats(-1e30, 1e30)), max_size=2
    ),
    parts=st.lists(
        st.builds(
            Part,
            name=st.sampled_from(["a", "yes", "1e3", "null"]),
            method=st.builds(Sparse, sparsity=st.floats(0, 1)) | st.just(Dense()),
        ),
        max_size=3,
    ).map(tuple),
)


@given(wholes)
def test_a_dump_reads_back_equal(whole) -> None:
    text = dump(whole)
    again = from_dict(Whole, parse(text))
    assert again == whole
    assert dump(again) == text


@given(wholes)
def test_other_readers_understand_the_dump(whole) -> None:
    """The reader of PyYAML follows YAML 1.1; quotes must protect what the two versions read differently."""
    assert yaml.safe_load(dump(whole)) == to_dict(whole)


def test_the_dump_is_in_order_and_complete() -> None:
    part = Part(name="x", method=Sparse(sparsity=0.5))
    assert dump(part) == "name: x\nmethod:\n  name: sparse\n  sparsity: 0.5\nbetas: [0.9, 0.95]\n"


def test_difference() -> None:
    first, second = read(PARTS), read(PARTS, "--parts.two.method.sparsity", "0.75", "--words", "a")
    assert difference(to_dict(first), to_dict(second)) == {
        "words": ([], "absent"),
        "parts.1.method.sparsity": (0.5, 0.75),
        "words.0": ("absent", "a"),
    }
    assert difference(to_dict(first), to_dict(first)) == {}
    assert difference({"a": 1}, {"a": True}) == {"a": (1, True)}


def test_texts_and_leaves() -> None:
    assert field_docs(Text) == {"size": "How many. A second sentence."}
    found = {leaf.key: leaf for leaf in leaves(read(PARTS + "\ndata: {x: {kind: text, size: 2}}"))}
    assert found["data.x.size"].text == "How many. A second sentence."
    assert found["data.x.size"].value == 2
    assert found["parts.1.method.name"].type == "one of dense, sparse"
    assert found["parts.0.betas"].value == (0.9, 0.95)


def test_schema() -> None:
    schema = json_schema(Whole)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["mode"] == {"enum": ["auto", "cpu"], "default": "auto"}
    text = schema["$defs"]["Text"]
    assert text["properties"]["kind"]["const"] == "text"
    assert text["required"] == ["kind", "size"]
    assert schema["$defs"]["Sparse"]["properties"]["name"] == {"const": "sparse"}


def test_words_are_read_by_the_type_they_meet() -> None:
    assert from_dict(Whole, {"title": Words(("1e3",)), "tokens": Words(("1e3",))}) == Whole(title="1e3", tokens=1000)
