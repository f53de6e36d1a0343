"""METEOR 1.5 (Denkowski and Lavie, 2014) by its own program.

The program, a table of paraphrases and WordNet's synonyms come with the package pycocoevalcap, and it needs Java.
Nothing of it is part of fallow; without it METEOR is absent, and nothing takes its place.
"""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fallow.evaluate.metrics.metric import AbsentError

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
        output = _run([*command, str(texts), str(lines), *_OPTIONS, "-r", str(width)], "")
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
    command = [*_command(), "-", "-", "-stdio", *_OPTIONS]
    asked = "".join(
        " ||| ".join(("SCORE", *group, text.replace("|||", "").replace("  ", " "))) + "\n"
        for text, group in zip(hypotheses, references, strict=True)
    )
    statistics = _run(command, asked).splitlines()
    if len(statistics) != len(hypotheses):
        raise AbsentError(f"METEOR gave {len(statistics)} lines for {len(hypotheses)} texts")
    output = _run(command, " ||| ".join(("EVAL", *statistics)) + "\n").split()
    if len(output) != len(hypotheses) + 1:
        raise AbsentError(f"METEOR gave {len(output) - 1} scores for {len(hypotheses)} texts")
    return float(output[-1]), list(map(float, output[:-1]))


def _command() -> list[str]:
    java = shutil.which("java")
    if java is None:
        raise AbsentError("METEOR needs Java (8 or later), which is not on the PATH. Install a Java runtime")
    spec = importlib.util.find_spec("pycocoevalcap")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    jars = [jar for folder in folders if (jar := Path(folder, "meteor", "meteor-1.5.jar")).is_file()]
    if not jars:
        raise AbsentError('METEOR needs the package pycocoevalcap. Install it: pip install "fallow[meteor]"')
    return [java, "-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", str(jars[0])]


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise AbsentError(f"METEOR stopped with code {done.returncode}: {words[0] if words else 'it said nothing'}")
    return done.stdout
