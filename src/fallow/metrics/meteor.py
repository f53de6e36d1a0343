"""METEOR 1.5 (Denkowski and Lavie, 2014) by its own program.

The program, a table of paraphrases and WordNet's synonyms come with the package pycocoevalcap, and it needs Java.
Nothing of it is part of fallow; without it METEOR is absent, and nothing takes its place.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from fallow.metrics.corpus import AbsentError

_OPTIONS = ("-l", "en", "-norm")


def files(hypotheses: Sequence[str], references: Sequence[Sequence[str]], width: int) -> tuple[float, list[float]]:
    """Score of a corpus and of each hypothesis, from two files, as the challenges on WebNLG and DART call the program.

    Args:
        hypotheses: a text each.
        references: of each, at most `width`; where there are fewer, the file has empty lines.
        width: references of each hypothesis (option -r).

    Raises:
        AbsentError: Java or the package is missing, or the program fails.
    """
    command = _command()
    with tempfile.TemporaryDirectory(prefix="fallow-meteor-") as folder:
        texts, lines = Path(folder, "hypotheses"), Path(folder, "references")
        texts.write_text("".join(f"{text}\n" for text in hypotheses), encoding="utf-8")
        padded = (line for group in references for line in (*group, *[""] * (width - len(group))))
        lines.write_text("".join(f"{line}\n" for line in padded), encoding="utf-8")
        call = [*command, str(texts), str(lines), *_OPTIONS, "-r", str(width)]
        done = subprocess.run(call, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise AbsentError(f"METEOR stopped with code {done.returncode}: {_first_line(done.stderr or done.stdout)}")
    output = done.stdout
    found = [float(value) for value in re.findall(r"^Segment \d+ score:\s+(\S+)", output, re.MULTILINE)]
    final = re.search(r"^Final score:\s+(\S+)", output, re.MULTILINE)
    if final is None or len(found) != len(hypotheses):
        raise AbsentError(f"METEOR gave {len(found)} scores for {len(hypotheses)} texts")
    return float(final.group(1)), found


def lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """Score of a corpus and of each hypothesis, line by line, as the caption evaluation of e2e-metrics calls it.

    Raises:
        AbsentError: Java or the package is missing, or the program fails.
    """
    asked = (
        " ||| ".join(("SCORE", *group, text.replace("|||", "").replace("  ", " "))) + "\n"
        for text, group in zip(hypotheses, references, strict=True)
    )
    with tempfile.TemporaryFile() as complaints:
        command = [*_command(), "-", "-", "-stdio", *_OPTIONS]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": complaints}
        with subprocess.Popen(command, **pipes, encoding="utf-8") as program:  # type: ignore[call-overload]
            try:
                return _talk(program.stdin, program.stdout, asked, len(hypotheses))
            except (OSError, ValueError):
                program.kill()
        complaints.seek(0)
        raise AbsentError(f"METEOR stopped: {_first_line(complaints.read().decode(errors='replace'))}")


def _talk(to: IO[str], out: IO[str], asked: Iterable[str], count: int) -> tuple[float, list[float]]:
    """Statistics of each text, and scores from all of them: one start of the program, which takes most of the time."""

    def write() -> None:
        with contextlib.suppress(OSError):  # it stopped, which the reader notices
            for line in asked:
                to.write(line)
            to.flush()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    statistics = [out.readline().strip() for _ in range(count)]
    writer.join()
    to.write(" ||| ".join(("EVAL", *statistics)) + "\n")
    to.flush()
    scores = [float(out.readline()) for _ in range(count + 1)]
    return scores[-1], scores[:-1]


def _command() -> list[str]:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin")) if home else None)
    if java is None:
        where = f"in JAVA_HOME ({home})" if home else "on the PATH"
        raise AbsentError(f"METEOR needs Java (8 or later), which is not {where}. Install a Java runtime")
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    jars = [jar for folder in folders if (jar := Path(folder, "meteor", "meteor-1.5.jar")).is_file()]
    if not jars:
        raise AbsentError('METEOR needs the package pycocoevalcap. Install it: pip install "fallow[meteor]"')
    return [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jars[0])]


def _first_line(text: str) -> str:
    return next(filter(None, map(str.strip, text.splitlines())), "it said nothing")
