"""Files of an attacker: none of them runs, nothing outside is read or written, no text becomes markup."""

import gzip
import io
import json
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

from tests.attack.bench import COMMAND, OUT, Base
from tests.attack.cases import Task, spread
from tests.attack.child import run

RAN = "RAN"
"""What a payload that ran leaves, in the folder of the case."""
VICTIM = "VICTIM"
"""A file beside the folder of the case, which nothing may touch."""

MODEL = f"{OUT}/tune/model"
USES: dict[str, tuple[str, ...]] = {
    "generate": ("generate", "M", "--prompt", "seed", "--max-new-tokens", "2"),
    "evaluate": ("evaluate", "M", "--data", "text.jsonl", "--context", "16"),
    "merge": ("merge", "M", "--output", "merged"),
    "cut": ("cut", "M", "--output", "small", "--layers", "1"),
    "cut by taylor": ("cut", "M", "--output", "small", "--layers", "1", "--by", "taylor", "--data", "text.jsonl"),
    "compare": ("compare", "M", MODEL),
    "export": ("export", "M", "--output", "exported"),
    "import": ("import", "M", "--base", MODEL, "--output", "imported"),
    "import-sltrain": ("import-sltrain", "M", "--output", "released"),
    "prepare": ("prepare", "text.jsonl", "--tokenizer", "M", "--output", "shards"),
    "run": (*COMMAND[:2], "--output", "new", "--stages.0.model", '{"path": "M"}', "--only", "pretrain"),
    "run with its tokenizer": (*COMMAND[:2], "--output", "new", "--tokenizer", '{"path": "M"}', "--only", "pretrain"),
}
"""Every command that opens a model's folder, which M stands for."""

Plant = Callable[[Path], None]
"""Puts something bad into a folder; the current folder of the case is two above a model's."""


class _Payload:
    """Pickles into a call that writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"echo ran > '{self.target}'",)


def tasks(base: Base, num: int) -> list[Task]:
    """`num` of all cases; there is nothing to draw."""
    named: dict[str, Callable[[Path], tuple[str, str]]] = {}
    for plant in MODEL_PLANTS:
        for use in USES:
            named[f"{plant.__name__.replace('_', ' ')}, {use}"] = partial(_model, base, plant, use)
    for damage in CHECKPOINT_PLANTS:
        named[f"checkpoint: {damage.__name__.replace('_', ' ')}"] = partial(_checkpoint, base, damage)
    for text in INJECTIONS:
        named[f"pages with {text[:30]!r}"] = partial(_pages, base, text)
    for name, lines in RECIPE_LINES.items():
        named[f"recipe: {name}"] = partial(_recipe, base, lines)
    for name, content in _archives():
        named[f"archive: {name}"] = partial(_archive, base, name, content)
    for name in LINKS:
        named[f"planted link {name}"] = partial(_link, base, name)
    return spread([Task(area="security", name=name, work=work) for name, work in named.items()], num)


def _begin(base: Base, scratch: Path) -> Path:
    (scratch / VICTIM).write_text("precious")
    return base.copy(scratch / "case")


def _judge(folder: Path, outcome: str, why: str) -> tuple[str, str]:
    """What a case came to: nothing ran, nothing outside changed, and no traceback."""
    if (folder / RAN).exists() or (folder.parent / RAN).exists():
        return "breach", "code of the attacker ran"
    if (folder.parent / VICTIM).read_text() != "precious":
        return "breach", "a file outside was changed"
    strangers = sorted(p.name for p in folder.parent.iterdir() if p.name not in (VICTIM, folder.name))
    if strangers:
        return "breach", f"files outside were made: {strangers}"
    return ("held", why) if outcome in ("named", "accepted") else (outcome, why)


def _model(base: Base, plant: Plant, use: str, scratch: Path) -> tuple[str, str]:
    """A model's folder of an attacker, given to a command; who types y to every question is no safer."""
    folder = _begin(base, scratch)
    shutil.copytree(folder / MODEL, folder / "evil/model")
    plant(folder / "evil/model")
    argv = tuple(part.replace("M", "evil/model") if part in ("M", '{"path": "M"}') else part for part in USES[use])
    done = run(argv, folder, stdin=b"y\n" * 20)
    if re.search(r"\[y/N\]|custom code\?", done.out + done.err):
        return "breach", "it asks whether to run the code"
    return _judge(folder, done.outcome, done.why)


def pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "pytorch_model.pt", "model.pt", "consolidated.00.pth", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(_Payload(folder.parents[1] / RAN)))


def zipped_weights(folder: Path) -> None:
    """In torch's own format, with the payload beside a tensor."""
    import zipfile

    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"w": _Payload(folder.parents[1] / RAN)}, protocol=2))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")


def code_of_a_new_model_type(folder: Path) -> None:
    _auto_map(folder, {"model_type": "evil"})


def code_of_a_known_model_type(folder: Path) -> None:
    _auto_map(folder, {})


def code_without_a_model_type(folder: Path) -> None:
    _auto_map(folder, {"model_type": None, "architectures": ["EvilForCausalLM"]})


def code_of_a_tokenizer(folder: Path) -> None:
    _write_code(folder)
    path = folder / "tokenizer_config.json"
    facts = json.loads(path.read_text())
    facts |= {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}}
    path.write_text(json.dumps(facts))


def code_of_generation(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(_code(folder) + "\ndef generate(model, **kwargs):\n    pass\n")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "custom_generate": "evil/model"}))


def pickles_of_fallow_names(folder: Path) -> None:
    """Where our own files are expected, with the code of an attacker in them."""
    content = pickle.dumps(_Payload(folder.parents[1] / RAN))
    for name in ("fallow.safetensors", "fallow-moments.safetensors", "fallow-kept.safetensors", "model.safetensors"):
        (folder / name).write_bytes(content)
    (folder / "fallow.json").write_text("{}")


def weights_outside(folder: Path) -> None:
    """An index that names a file outside of the folder."""
    (folder / "model.safetensors").rename(folder.parents[0] / "outside.safetensors")
    names = {"transformer.wte.weight": "../outside.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def _auto_map(folder: Path, changes: dict[str, object]) -> None:
    _write_code(folder)
    path = folder / "config.json"
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel", "AutoModel": "evil.EvilModel"}
    facts = {**json.loads(path.read_text()), "auto_map": names, **changes}
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))


def _write_code(folder: Path) -> None:
    (folder / "evil.py").write_text(_code(folder))


def _code(folder: Path) -> str:
    return f"open({str(folder.parents[1] / RAN)!r}, 'w').close()\nclass EvilConfig: pass\nclass EvilTokenizer: pass\n"


MODEL_PLANTS: tuple[Plant, ...] = (
    pickled_weights, zipped_weights, code_of_a_new_model_type, code_of_a_known_model_type, code_without_a_model_type,
    code_of_a_tokenizer, code_of_generation, pickles_of_fallow_names, weights_outside,
)  # fmt: skip


def _checkpoint(base: Base, plant: Plant, scratch: Path) -> tuple[str, str]:
    """A checkpoint of an attacker, whose manifest fits what lies in it."""
    (scratch / VICTIM).write_text("precious")
    folder = base.copy(scratch / "case", halfway=True)
    places = sorted(folder.glob(f"{OUT}/*/checkpoints/step-*"))
    for place in places:
        plant(place)
        _sign(place)
    done = run(COMMAND, folder)
    return _judge(folder, done.outcome if places else "unnamed", done.why)


def _payload_of(place: Path) -> bytes:
    return pickle.dumps(_Payload(place.parents[3] / RAN))


def index_of_torch(place: Path) -> None:
    (place / ".metadata").write_bytes(_payload_of(place))


def index_as_pickle(place: Path) -> None:
    (place / "tensors.json").write_bytes(_payload_of(place))


def shards_as_pickles(place: Path) -> None:
    for path in place.glob("*.distcp"):
        path.write_bytes(_payload_of(place))


def state_as_pickle(place: Path) -> None:
    (place / "state.json").write_bytes(_payload_of(place))


def files_outside(place: Path) -> None:
    """The index names files of another folder."""
    target = place.parents[3] / "outside.distcp"
    target.write_bytes(_payload_of(place))
    path = place / "tensors.json"
    for name in {shard.name for shard in place.glob("*.distcp")}:
        path.write_text(path.read_text().replace(f'"{name}"', json.dumps(os.path.relpath(target, place))))


def files_of_links(place: Path) -> None:
    target = place.parents[3] / "outside.distcp"
    target.write_bytes(_payload_of(place))
    for path in list(place.glob("*.distcp")):
        path.unlink()
        path.symlink_to(target)


CHECKPOINT_PLANTS: tuple[Plant, ...] = (
    index_of_torch, index_as_pickle, shards_as_pickles, state_as_pickle, files_outside, files_of_links,
)  # fmt: skip


def _sign(place: Path) -> None:
    """Put size and checksum of every file into the manifest, as an attacker would."""
    from fallow.files import file_sha256

    for manifest in place.glob("*.json"):
        try:
            facts = json.loads(manifest.read_bytes())
        except ValueError:
            continue
        files = facts.get("files") if isinstance(facts, dict) else None
        if isinstance(files, dict):
            for path in place.iterdir():
                if path != manifest and path.is_file():
                    files[path.name] = _entry(files.get(path.name), path.stat().st_size, file_sha256(path))
            manifest.write_text(json.dumps(facts))


def _entry(old: object, size: int, checksum: str) -> object:
    if isinstance(old, dict):
        return {key: size if isinstance(value, int) else checksum for key, value in old.items()}
    return (
        [size, checksum]
        if isinstance(old, list)
        else checksum
        if isinstance(old, str)
        else {"bytes": size, "sha256": checksum}
    )


INJECTIONS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></script><script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "[x](javascript:alert(1))",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "`</code><script>x</script>",
    "'; alert(1); '",
    "\u2028</script><script>alert(1)</script>",
    "<a href=javascript:alert(1)>x</a>",
    "![](http://x.invalid/a.png)",
)
"""Texts that become markup where somebody forgot to escape them."""


def _pages(base: Base, text: str, scratch: Path) -> tuple[str, str]:
    """Text with markup in it: as name, label, description, note, domain, data and prompt, through every page."""
    folder = _begin(base, scratch)
    plain = base.copy(scratch / "case/plain")
    quoted = json.dumps(text)
    recipe = (folder / "recipe.yaml").read_text()
    recipe = recipe.replace("label: sparse", f"label: {quoted}").replace("label: then dense", f"label: {quoted}")
    recipe = recipe.replace("name: sparse\nseed", f"name: sparse\ndescription: {quoted}\nseed")
    recipe = recipe.replace('{path: "text.jsonl"}', f'{{path: "text.jsonl", domain: {quoted}}}')
    (folder / "recipe.yaml").write_text(recipe)
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    content = "".join(json.dumps({k: f"{v} {text}" for k, v in line.items()}) + "\n" for line in lines[:12])
    (folder / "pairs.jsonl").write_text(content)
    again = run((*COMMAND[:2], "--output", "new"), folder)
    steps = [again]
    if again.code == 0:
        steps.append(run(("report", "new", OUT, "--output", "runs.html"), folder))
        steps.append(run(("compare", "new/pretrain/model", "new/tune/model", "--output", "comparison"), folder))
    for done in steps:
        if done.outcome not in ("named", "accepted"):
            return done.outcome, done.why
    known = set().union(*(_dangers(page) for page in plain.rglob("*.html")))
    pages = [*folder.glob("new/*.html"), *folder.glob("*.html"), *folder.glob("comparison/*.html")]
    for page in pages:
        if found := _dangers(page) - known:
            return "breach", f"{page.name}: {sorted(found)[:3]}"
    for card in folder.glob("new/*/model/README.md"):
        if text in card.read_text() and text.startswith(("<", '"><', "</", "![", "[x]", "`", "\u2028")):
            return "breach", f"{card.parent.parent.name}/README.md holds it as it is"
    return _judge(folder, "accepted", f"{len(pages)} pages: {again.line}")


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if tag in ("script", "img", "iframe", "object", "embed", "form", "base", "link", "meta") or any(
            name.startswith("on") for name in names
        ):
            self.found.add(f"<{tag} {' '.join(sorted(names))}>")
        for name, value in attrs:
            if name in ("href", "src", "xlink:href", "action") and value and not value.startswith("#"):
                self.found.add(f"{name}={value}")


def _dangers(page: Path) -> set[str]:
    """What can run or load something in a page."""
    tags = _Tags()
    tags.feed(page.read_text(errors="replace"))
    return tags.found


RECIPE_LINES = {
    "tag python/object/apply": "name: !!python/object/apply:os.system ['touch RAN']",
    "tag python/object/new": "name: !!python/object/new:os.system ['touch RAN']",
    "tag python/name": "name: !!python/name:os.system",
    "tag python/module": "name: !!python/module:os",
    "tag of an object": "x: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch RAN']",
    "variables": "name: $(touch RAN)`touch RAN`${HOME}",
    "output outside": "output: ../outside",
    "name outside": "name: ../../outside",
    "name absolute": "name: /no/such/outside",
}
"""What a recipe may not do; it comes in front, so that the first of two keys is ours."""


def _recipe(base: Base, lines: str, scratch: Path) -> tuple[str, str]:
    folder = _begin(base, scratch)
    key = lines.partition(":")[0]
    rest = re.sub(rf"(?m)^{key}:.*\n", "", (folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(f"{lines}\n{rest}")
    argv = ("run", "recipe.yaml", "--print") if key == "output" else ("run", "recipe.yaml", "--only", "pretrain")
    done = run(argv, folder)
    return _judge(folder, done.outcome, done.why)


def _archives() -> Iterator[tuple[str, bytes]]:
    def tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            content = b"<benchmark></benchmark>"
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            file.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
        return buffer.getvalue()

    yield "parent.tar.gz", tar("../train/1.xml")
    yield "absolute.tar.gz", tar("/train/1.xml")
    yield "symlink.tar.gz", tar("train/1.xml", tarfile.SYMTYPE, "../VICTIM")
    yield "hardlink.tar.gz", tar("train/1.xml", tarfile.LNKTYPE, "../VICTIM")
    yield "fifo.tar.gz", tar("train/1.xml", tarfile.FIFOTYPE)
    yield "device.tar.gz", tar("train/1.xml", tarfile.CHRTYPE)
    yield "laughs.xml", _laughs()
    yield (
        "quadratic.xml",
        b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 100_000 + b'">]><benchmark>' + b"&a;" * 20_000 + b"</benchmark>",
    )
    yield "external.xml", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><benchmark>&a;</benchmark>'
    yield "deep.xml", b"<a>" * 200_000 + b"</a>" * 200_000
    yield "bomb.jsonl.gz", gzip.compress(b'{"text": "' + b"a" * 300_000_000 + b'"}', compresslevel=1)
    yield "lines.txt.gz", gzip.compress(b"\n" * 30_000_000, compresslevel=1)


def _laughs() -> bytes:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{"&" + chr(97 + i) + ";"}{("&" + chr(97 + i) + ";") * 9}">' for i in range(12)
    )
    return f"<!DOCTYPE x [{entities}]><benchmark>&m;</benchmark>".encode()


def _archive(base: Base, name: str, content: bytes, scratch: Path) -> tuple[str, str]:
    folder = _begin(base, scratch)
    (folder / name).write_bytes(content)
    if name.endswith((".jsonl.gz", ".txt.gz")):
        argv: tuple[str, ...] = ("prepare", name, "--vocab-size", "300", "--output", "shards")
    else:
        argv = ("evaluate", MODEL, "--format", "webnlg", "--data", name, "--context", "64")
    done = run(argv, folder)
    return _judge(folder, done.outcome, done.why)


LINKS = (
    ".results.json.tmp", ".recipe.yaml.tmp", ".stage.json.tmp", ".lock", "results.json", "report.html", "recipe.yaml",
    ".report.html.tmp", "pretrain/log.jsonl", "tokenizer/tokenizer.json", "data",
)  # fmt: skip


def _link(base: Base, name: str, scratch: Path) -> tuple[str, str]:
    """A link to a victim, planted in the folder of a run where others can write; the victim stays as it is."""
    folder = _begin(base, scratch)
    place = folder / OUT / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(folder.parent / VICTIM)
    if name.startswith("pretrain/"):
        (folder / OUT / "pretrain/stage.json").unlink()
    outcomes = [run(argv, folder) for argv in (COMMAND, (*COMMAND, "--restart"))]
    for done in outcomes:
        judged = _judge(folder, done.outcome, done.why)
        if judged[0] != "held":
            return judged
    return "held", outcomes[0].line
