import errno
import hashlib
import json
import os
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

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
@pytest.mark.parametrize("pattern", ["*.distcp", "state.json", "tensors.json", "manifest.json"])
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


def sign_state(path: Path) -> None:
    """Put size and checksum of the state into the manifest, as somebody would who has changed it on purpose."""
    manifest = storage.read_json(path / "manifest.json")
    data = (path / "state.json").read_bytes()
    manifest["files"]["state.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    storage.write_json(path / "manifest.json", manifest)


@pytest.mark.parametrize("content", [b"\x80\x04", b"{", b"[]", b"null"])
def test_a_state_that_is_none_though_the_checksum_agrees(tmp_path: Path, content: bytes) -> None:
    broken_off(tmp_path)
    path = tmp_path / "checkpoints/step-000006"
    (path / "state.json").write_bytes(content)
    sign_state(path)
    with pytest.raises(UserError, match=r"step-000006/state.json is damaged \(.*Remove"):
        loop(tmp_path).fit()


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
    sign_state(path)
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


@pytest.mark.parametrize("where", ["write_json", "file_sha256", "IndexWriter"])
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


def signed(folder: Path, name: str) -> None:
    """Put the size and checksum of a file into the manifest, as whoever made the folder can."""
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / name).read_bytes()
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


class Evil:
    """A pickle of it touches a file when it is opened."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return (Path.touch, (self.touched,))


def test_a_pickled_index_is_not_opened(tmp_path: Path) -> None:
    """torch writes its index as a pickle, and so did earlier versions."""
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"
    (folder / ".metadata").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    signed(folder, ".metadata")
    with pytest.raises(UserError, match="written by an earlier version of fallow"):
        loop(tmp_path).fit()
    assert not (tmp_path / "executed").exists()


WEIGHT = "model.blocks.0.linear.weight"


@pytest.mark.parametrize("save", [torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("value", ["evil", {"a": 1}, torch.zeros(12, 12, dtype=torch.int32), torch.zeros(3)])
def test_what_is_stored_as_a_tensor_is_one(save: Any, value: Any, tmp_path: Path) -> None:
    """A shard whose author put something else in the place of a tensor, with checksums that agree."""
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"
    index = json.loads((folder / "tensors.json").read_text())
    piece = index["tensors"][WEIGHT]["pieces"][0]
    save(Evil(tmp_path / "executed") if value == "evil" else value, tmp_path / "payload")
    payload = (tmp_path / "payload").read_bytes()
    shard = folder / piece["file"]
    piece |= {"offset": shard.stat().st_size, "length": max(len(payload), 576)}
    shard.write_bytes(shard.read_bytes() + payload.ljust(576, b"\0"))
    (folder / "tensors.json").write_text(json.dumps(index))
    signed(folder, "tensors.json")
    signed(folder, piece["file"])
    with pytest.raises(UserError, match=r"step-000006 is damaged .* Remove it, and the same command goes on from"):
        loop(tmp_path).fit()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.update(dtype="save"), "gives .* the type save"),
        (lambda entry: entry.update(dtype=["float32"]), "the type"),
        (lambda entry: entry.update(pieces=[]), "do not make up its shape"),
        (lambda entry: entry.update(shape=[10**12, 12]), "do not make up its shape"),
        (lambda entry: entry.update(shape=10**12), "needs numbers"),
        (lambda entry: entry.update(pieces=entry["pieces"] * 2), "do not make up its shape"),
        (lambda entry: entry["pieces"][0].update(offsets=[1, 0]), "do not make up its shape"),
        (lambda entry: entry["pieces"][0].update(sizes=[10**9, 10**9]), "at bytes"),
        (lambda entry: entry["pieces"][0].update(sizes=[True, 144]), "needs numbers"),
        (lambda entry: entry["pieces"][0].update(offset=-1), "needs numbers"),
        (lambda entry: entry["pieces"][0].update(offset=10**9), "at bytes"),
        (lambda entry: entry["pieces"][0].update(file="../evil"), "no file of the checkpoint"),
        (lambda entry: entry["pieces"][0].update(file="/etc/passwd"), "no file of the checkpoint"),
        (lambda entry: entry["pieces"][0].update(file={}), "cannot be read"),
        (lambda entry: entry["pieces"][0].pop("file"), "has no file"),
        (lambda entry: entry.pop("pieces"), "has no pieces"),
    ],
)
def test_an_index_says_nothing_but_whole_tensors(change: Any, message: str, tmp_path: Path, caplog: Any) -> None:
    """Of files that the manifest lists: else the checkpoint is passed over, whatever its checksums."""
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"
    index = json.loads((folder / "tensors.json").read_text())
    change(index["tensors"][WEIGHT])
    (folder / "tensors.json").write_text(json.dumps(index))
    signed(folder, "tensors.json")
    again = loop(tmp_path)
    again.fit()
    assert re.search(rf"step-000006 is damaged \(tensors.json .*{message}.* and is passed over", caplog.text)
    assert again.method.steps[0] == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tensors": []}', '{"tensors": {"a": 5}}', "[" * 100_000])
def test_an_index_that_is_none(content: str, tmp_path: Path, caplog: Any) -> None:
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"
    (folder / "tensors.json").write_text(content)
    signed(folder, "tensors.json")
    loop(tmp_path).fit()
    assert "step-000006 is damaged (tensors.json" in caplog.text


def test_an_absent_tensor_is_no_fresh_one(tmp_path: Path) -> None:
    broken_off(tmp_path)
    folder = tmp_path / "checkpoints/step-000006"
    index = json.loads((folder / "tensors.json").read_text())
    del index["tensors"][WEIGHT]
    (folder / "tensors.json").write_text(json.dumps(index))
    signed(folder, "tensors.json")
    with pytest.raises(UserError, match=f"step-000006 is damaged .*{WEIGHT}"):
        loop(tmp_path).fit()


def link(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent.parent / "outside")
    (folder / name).symlink_to(folder.parent.parent / "outside")


def climb(folder: Path, name: str) -> None:
    shutil.copy(folder / name, folder.parent.parent / "outside")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../outside"] = manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("harm", [link, climb])
@pytest.mark.parametrize("name", ["state.json", "tensors.json", "__0_0.distcp"])
def test_files_of_a_checkpoint_lie_in_its_folder(harm: Any, name: str, tmp_path: Path, caplog: Any) -> None:
    broken_off(tmp_path)
    harm(tmp_path / "checkpoints/step-000006", name)
    loop(tmp_path).fit()
    assert "is no file of the folder itself) and is passed over" in caplog.text


def test_the_optimizer_is_part_of_it_and_supports_are_not(tmp_path: Path) -> None:
    run = loop(tmp_path)
    run.fit()
    held = storage.describe_tensors(tmp_path / "checkpoints/step-000012")
    assert "model.blocks.0.values" in held
    assert "optimizer.blocks.0.values.exp_avg" in held
    assert not any("places" in name for name in held)
    assert not any("head" in name for name in held), "a tied weight is stored once"


def test_used_up_inodes_are_not_told_as_a_full_disk(tmp_path: Path, monkeypatch: Any) -> None:
    def used_up(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    facts = SimpleNamespace(f_files=100, f_favail=0, f_bavail=1000)
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    monkeypatch.setattr(storage, "IndexWriter", used_up)
    with pytest.raises(UserError, match=r"no inode left for another file\. No checkpoint exists yet\. Remove"):
        loop(tmp_path).fit()


def test_a_passing_shortage_while_reading_is_no_damage(tmp_path: Path, monkeypatch: Any) -> None:
    broken_off(tmp_path)

    def short(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(storage, "load", short)
    with pytest.raises(UserError, match=r"no more threads .* while reading .* run the same command again"):
        loop(tmp_path).fit()
    monkeypatch.undo()
    loop(tmp_path).fit()
