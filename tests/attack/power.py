"""Power losses: what fsync did not bring to the disk is gone; then the same command, and nothing told finished is lost.

Two ways. A recorder notes the content of each file and the names in each folder when they are flushed, and at a chosen
change of a file builds what a disk could then hold: `strict`, names and bytes that were flushed and nothing else;
`names`, every name as it is now, and zeros in files that were never flushed, as on ext4 with delayed allocation;
`mixed`, each name as it was flushed or as it is now. Where loop devices are allowed, the image of a real ext4 is copied
without sync, and mounted.
"""

import os
import random
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fallow.files import is_temporary
from tests.attack.bench import COMMAND, OUT, Base, again
from tests.attack.cases import Task
from tests.attack.child import Child, run

KINDS = ("strict", "names", "mixed")
"""Disks that are built at one moment."""
_IMAGE_LOSSES = 10
"""Copies of one image."""


def tasks(bases: Sequence[Base], seed: int, num: int) -> list[Task]:
    """About `num` losses; two runs of them on a file system of its own, where loop devices are allowed."""
    draw = random.Random(f"{seed} power")
    found: list[Task] = []
    while sum(task.weight for task in found) < num:
        base = bases[len(found) % len(bases)]
        at = base.changes + 1 if len(found) < len(bases) else draw.randrange(1, base.changes + 1)  # the end as well
        work = partial(_lost, base, at, len(found))
        found.append(Task(area="power", name=f"{base.family}: at change {at}", weight=len(KINDS), work=work))
    if num >= 2 * _IMAGE_LOSSES and loop_devices():
        for base in bases[:2]:
            work = partial(_image_lost, base, seed)
            name = f"{base.family}: an ext4 image"
            found.append(Task(area="power", name=name, weight=_IMAGE_LOSSES, work=work, limit=900))
    return found


class Recorder:
    """In the process that writes: what was flushed, and the disk that a loss would leave.

    Args:
        folder: its tree is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self._held: list[int] = []  # so that no number of an inode is given twice
        self._fsync = os.fsync

    def install(self) -> None:
        """From now on every flush is noted."""
        self._note(os.open(self.folder, os.O_RDONLY))
        os.fsync = self._flush

    def _flush(self, file: int | object) -> None:
        number = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
        self._fsync(number)
        self._note(os.open(f"/proc/self/fd/{number}", os.O_RDONLY))

    def _note(self, number: int) -> None:
        facts = os.fstat(number)
        known = facts.st_ino in self.contents or facts.st_ino in self.names
        if stat.S_ISDIR(facts.st_mode):
            self.names[facts.st_ino] = {e.name: e.inode() for e in os.scandir(number)}
            for entry in os.scandir(number):
                with suppress(OSError):
                    self._held.append(os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=number))
        else:
            self.contents[facts.st_ino] = os.pread(number, facts.st_size, 0)
        if known:
            os.close(number)
        else:
            self._held.append(number)

    def build(self, target: Path, how: str, draw: random.Random) -> None:
        """The tree as a loss would leave it."""
        kinds = {os.fstat(number).st_ino: os.fstat(number).st_mode for number in self._held}
        live = {path.stat().st_ino: path for path in self.folder.rglob("*") if not path.is_symlink()}
        live[self.folder.stat().st_ino] = self.folder
        kinds |= {inode: path.stat().st_mode for inode, path in live.items()}
        self._build(self.folder.stat().st_ino, target, how, draw, kinds, live, set())

    def _build(
        self,
        inode: int,
        target: Path,
        how: str,
        draw: random.Random,
        kinds: dict[int, int],
        live: dict[int, Path],
        above: set[int],
    ) -> None:
        if not stat.S_ISDIR(kinds.get(inode, 0)):
            now = live[inode].read_bytes() if inode in live else b""
            flushed = self.contents.get(inode)
            if flushed is None:
                flushed = b"" if how == "strict" else bytes(len(now))
            target.write_bytes(flushed)
            return
        target.mkdir()
        flushed_names = self.names.get(inode, {})
        here = {e.name: e.inode() for e in os.scandir(live[inode])} if inode in live else {}
        names = {"strict": flushed_names, "names": here}.get(how)
        if names is None:
            names = {}
            for name in sorted(flushed_names.keys() | here.keys()):
                old, new = flushed_names.get(name), here.get(name)
                if (chosen := draw.choice([old, new])) is not None:
                    names[name] = chosen
        for name, child in sorted(names.items()):
            if child not in above:  # a folder cannot be in two places after its rename was half seen
                self._build(child, target / name, how, draw, kinds, live, above | {inode})


def _lost(base: Base, at: int, number: int, scratch: Path) -> tuple[str, str]:
    folder = base.fresh(scratch / "run")
    (scratch / "disks").mkdir()
    recorder = Recorder(folder)

    def cut() -> None:
        draw = random.Random(number)
        for how in KINDS:
            recorder.build(scratch / "disks" / how, how, draw)

    ended = run(COMMAND, folder, kill_at=at, limit=120, before=recorder.install, at_end=cut)
    if ended.code not in (0, -9) or ended.is_late:
        return ended.outcome, ended.why
    for how in KINDS:
        outcome, detail = _continued(base, scratch / "disks" / how, ended.err, is_over=ended.code == 0)
        if outcome != "held":
            return outcome, f"{how}: {detail}"
    return "held", ""


def _continued(base: Base, folder: Path, said: str, *, is_over: bool) -> tuple[str, str]:
    """The same command on what is left: what was told finished is as it was, and all ends with the same bits."""
    base.fresh(folder)
    finished = _finished(said, is_over=is_over)
    before = {name: _contents(folder / OUT / name) for name in finished}
    for name, files in before.items():
        if "stage.json" not in files:
            return "loss", f"stage {name} was told finished, and its record is gone"
    outcome, detail = again(folder, base)
    if outcome != "held":
        return ("loss" if finished and outcome == "refusal" else outcome), detail
    for name, files in before.items():
        now = _contents(folder / OUT / name)
        if changed := [file for file in files if now.get(file) != files[file]]:
            return "loss", f"stage {name} was told finished, and was made again: {changed[0]}"
    return "held", ""


def _finished(said: str, *, is_over: bool) -> list[str]:
    """The stages whose end was told: by the line of the next one, or by the end of the command."""
    begun = [line.split("] ")[1].split(":")[0] for line in said.splitlines() if line.startswith("[")]
    return begun if is_over else begun[:-1]


def _contents(folder: Path) -> dict[str, bytes]:
    """Files of a finished stage that stay; what is removed at its end may be there still, under any name."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    passing = {"checkpoints", "best", "trials"}
    return {
        name.as_posix(): path.read_bytes()
        for name, path in files.items()
        if not passing & set(name.parts) and not any(map(is_temporary, name.parts))
    }


def loop_devices() -> bool:
    """Whether an image can be mounted here."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        try:
            _make_image(Path(scratch, "image"), 8)
            with _mounted(Path(scratch, "image"), Path(scratch, "mounted")):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _image_lost(base: Base, seed: int, scratch: Path) -> tuple[str, str]:
    """One run on a file system of its own, whose image is copied without sync now and then and once after the end."""
    draw = random.Random(f"{seed} {base.family}")
    image, place = scratch / "image", scratch / "mounted"
    _make_image(image, 96)
    copies: list[tuple[Path, str, bool]] = []
    with _mounted(image, place):
        base.fresh(place / "run")
        os.sync()
        child = Child(COMMAND, place / "run")
        begun, length = time.monotonic(), base.seconds
        moments = sorted(draw.uniform(0, 1.1 * length) for _ in range(_IMAGE_LOSSES - 1))
        for moment in moments:
            while child.is_running and time.monotonic() - begun < moment:
                time.sleep(0.002)
            if not child.is_running:
                break
            child.kill(signal.SIGSTOP)  # a copy takes a while, a loss does not
            copies.append((_copied(image, scratch / f"copy-{len(copies)}"), child.said(), False))
            child.kill(signal.SIGCONT)
        ended = child.wait(300)
        if ended.code:
            return ended.outcome, ended.why
        copies.append((_copied(image, scratch / f"copy-{len(copies)}"), ended.err, True))
    for number, (copy, said, is_over) in enumerate(copies):
        with _mounted(copy, scratch / f"mounted-{number}") as left:
            outcome, detail = _continued(base, left / "run", said, is_over=is_over)
        copy.unlink()
        if outcome != "held":
            return outcome, f"copy {number} of {len(copies)}: {detail}"
    return "held", ""


def _make_image(image: Path, megabytes: int) -> None:
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)


def _copied(image: Path, copy: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)
    return copy


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)
