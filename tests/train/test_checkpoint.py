import errno
import hashlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from fallow.errors import UserError
from fallow.train import Checkpointing, Duration, storage
from tests.train.tiny import BreakAfter, CrashError, loop, settings, weights


def broken_off(folder: Path, step: int = 8, **changes: Any) -> None:
    with pytest.raises(CrashError):
        loop(folder, callbacks=(BreakAfter(step),), **changes).fit()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_last_k_stay(tmp_path: Path) -> None:
    loop(tmp_path, settings(checkpoint=Checkpointing(every=Duration(steps=2), keep=3))).fit()
    assert names(tmp_path) == ["step-000008", "step-000010", "step-000012"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])


def alter(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, alter, Path.unlink])
@pytest.mark.parametrize("pattern", ["*.distcp", "state.json", ".metadata", "manifest.json"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, caplog: Any, harm: Any, pattern: str) -> None:
    calm = loop(tmp_path / "calm")
    calm.fit()
    broken_off(tmp_path / "run")
    harm(next((tmp_path / "run/checkpoints/step-000006").glob(pattern)))
    again = loop(tmp_path / "run")
    again.fit()
    if (harm, pattern) != (alter, "manifest.json"):  # one bit there may or may not matter
        assert "step-000006 is damaged" in caplog.text
        assert again.method.steps[0] == 4
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(calm).items())
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes()


def lose(state: Any, key: str) -> None:
    *outer, last = key.split(".")
    for name in outer:
        state = state[int(name) if name.isdigit() else name]
    del state[last]


@pytest.mark.parametrize(
    ("key", "named"),
    [
        *((key, key) for key in ("identity", "tokens", "result", "callbacks")),
        ("mixture.position", "position"),
        ("generators.0.torch", "torch"),
    ],
)
def test_numbers_that_are_absent_though_the_checksum_agrees(tmp_path: Path, key: str, named: str) -> None:
    broken_off(tmp_path)
    path = tmp_path / "checkpoints/step-000006"
    state = storage.read_json(path / "state.json")
    lose(state, key)
    storage.write_json(path / "state.json", state)
    manifest = storage.read_json(path / "manifest.json")
    data = (path / "state.json").read_bytes()
    manifest["files"]["state.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    storage.write_json(path / "manifest.json", manifest)
    with pytest.raises(UserError, match=rf"step-000006/state.json is damaged \(it has no {named}\). Remove"):
        loop(tmp_path).fit()
    shutil.rmtree(path)
    assert loop(tmp_path).fit().steps == 12


@pytest.mark.parametrize(
    "manifest", ['{"files": null}', '{"files": {"state.json": 3}}', '{"files": {"../../../x": {}}}', "[]", "\\xff"]
)
def test_a_manifest_that_makes_no_sense(tmp_path: Path, caplog: Any, manifest: str) -> None:
    broken_off(tmp_path)
    (tmp_path / "checkpoints/step-000006/manifest.json").write_text(manifest)
    again = loop(tmp_path)
    again.fit()
    assert "step-000006 is damaged" in caplog.text
    assert again.method.steps[0] == 4


def test_a_log_cut_within_a_line_stays_readable(tmp_path: Path) -> None:
    broken_off(tmp_path)
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:100])
    loop(tmp_path).fit()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()][-1] > 6


def test_when_all_are_damaged_the_run_begins_again(tmp_path: Path, caplog: Any) -> None:
    broken_off(tmp_path)
    for file in tmp_path.glob("checkpoints/*/state.json"):
        file.unlink()
    again = loop(tmp_path)
    again.fit()
    assert again.method.steps[0] == 1
    assert "no whole checkpoint" in caplog.text


def test_a_partial_one_is_removed(tmp_path: Path, caplog: Any) -> None:
    broken_off(tmp_path)
    (tmp_path / "checkpoints/.step-000009.0123456789abcdef.tmp").mkdir()
    again = loop(tmp_path)
    again.fit()
    assert "step-000009 was not finished" in caplog.text
    assert again.method.steps[0] == 7
    assert names(tmp_path) == ["step-000009", "step-000012"]


@pytest.mark.parametrize("where", ["write_json", "file_sha256", "FileSystemWriter"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: Any, where: str) -> None:
    calm = loop(tmp_path / "calm")
    calm.fit()

    class Full:
        """Room for the first two checkpoints."""

        def __init__(self) -> None:
            self.real = getattr(storage, where)

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            path = Path(arguments[0])
            if "step-000009" in str(path):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return self.real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(storage, where, Full())
        with pytest.raises(UserError) as caught:
            loop(tmp_path / "run").fit()
    assert "saving step 9" in str(caught.value)
    assert "the disk is full" in str(caught.value)
    assert "The checkpoint of step 6 is whole" in str(caught.value)
    assert names(tmp_path / "run") == ["step-000003", "step-000006"]
    again = loop(tmp_path / "run")
    again.fit()
    assert again.method.steps[0] == 7
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(calm).items())
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes()


def test_a_shard_that_cannot_be_written_is_the_disks_fault(tmp_path: Path, monkeypatch: Any) -> None:
    """The error comes from inside torch's writer, which wraps it."""

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"saving step 3 in .* failed: the disk is full.*No checkpoint exists yet"):
        loop(tmp_path).fit()
    assert names(tmp_path) == []


def test_a_full_disk_under_the_log(tmp_path: Path, monkeypatch: Any) -> None:
    from fallow.train import JsonLog

    def full(self: Any, line: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JsonLog, "_write", full)
    with pytest.raises(UserError, match="the disk is full"):
        loop(tmp_path).fit()


def test_another_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    def identity(lr: float) -> dict[str, Any]:
        return {"stages": [{"optimizer": {"lr": lr, "betas": [0.9, 0.95]}}], "seed": 0}

    broken_off(tmp_path, identity=identity(0.001))
    with pytest.raises(UserError) as caught:
        loop(tmp_path, identity=identity(0.002)).fit()
    assert str(caught.value) == (
        f"{tmp_path} was made by another recipe: stages.0.optimizer.lr is 0.001 there and 0.002 here. "
        "Use another --output, or --restart to begin again in an empty folder."
    )
    assert loop(tmp_path, identity=identity(0.001)).fit().finished


def through_the_metadata_module(touched: Path) -> bytes:
    """A call of os.system by way of a module that an index may name, which imports os."""
    words = ("torch.distributed.checkpoint.metadata", "os.system", f"touch {touched}")
    module, name, command = (b"\x8c" + bytes([len(word)]) + word.encode() for word in words)
    return b"\x80\x04" + module + name + b"\x93" + command + b"\x85R."


def by_reduce(touched: Path) -> bytes:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (touched,))

    return pickle.dumps(Evil())


def by_getattr(touched: Path) -> bytes:
    """What some versions of Python write for members of enumerations, asked of something else."""

    class Evil:
        def __reduce__(self) -> Any:
            return (getattr, (Path, "touch"))

    return pickle.dumps(Evil())


@pytest.mark.parametrize("evil", [by_reduce, through_the_metadata_module, by_getattr])
def test_nothing_is_executed_when_reading(evil: Any, tmp_path: Path, caplog: Any) -> None:
    """torch writes the index as a pickle; one that names anything else is no checkpoint, whatever its checksum."""
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"

    (folder / ".metadata").write_bytes(evil(tmp_path / "executed"))
    manifest = json.loads((folder / "manifest.json").read_text())
    size, digest = (folder / ".metadata").stat().st_size, storage.file_sha256(folder / ".metadata")
    manifest["files"][".metadata"] = {"bytes": size, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    again = loop(tmp_path)
    again.fit()
    assert "which is not part of a checkpoint) and is passed over" in caplog.text
    assert again.method.steps[0] == 4
    assert not (tmp_path / "executed").exists()


def test_members_of_enumerations_are_read_as_any_python_writes_them(tmp_path: Path, monkeypatch: Any) -> None:
    def by_name(member: Any, protocol: Any) -> Any:  # that of Python 3.11.2
        return getattr, (type(member), member.name)

    with monkeypatch.context() as patched:
        patched.setattr(_MEM_FORMAT_ENCODING, "__reduce_ex__", by_name)
        broken_off(tmp_path)
    index = (tmp_path / "checkpoints/step-000006/.metadata").read_bytes()
    assert b"getattr" in index
    again = loop(tmp_path)
    assert again.fit().finished
    assert again.method.steps[0] == 7


def test_the_optimizer_is_part_of_it_and_supports_are_not(tmp_path: Path) -> None:
    run = loop(tmp_path)
    run.fit()
    held = storage.describe_tensors(tmp_path / "checkpoints/step-000012")
    assert "model.blocks.0.values" in held
    assert "optimizer.blocks.0.values.exp_avg" in held
    assert not any("places" in name for name in held)
    assert not any("head" in name for name in held), "a tied weight is stored once"
