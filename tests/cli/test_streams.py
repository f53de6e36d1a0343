"""Standard streams that are closed, full, or of a narrow encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

PREPARED = "from fallow.cli.streams import prepare; prepare(); import sys; "


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PY": sys.executable, **environment}
    return subprocess.run(["sh", "-c", command], capture_output=True, env=variables, timeout=120, check=False)


def test_standard_output_may_be_closed() -> None:
    ended = shell('"$PY" -m fallow recipes list >&-')
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_standard_error_may_be_closed() -> None:
    ended = shell('"$PY" -m fallow recipes lisst 2>&-')
    assert (ended.returncode, ended.stderr) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_progress_may_be_lost() -> None:
    code = PREPARED + "print('x' * 99999, file=sys.stderr); sys.stderr.flush(); print('went on')"
    ended = shell(f'"$PY" -c "{code}" 2>/dev/full')
    assert (ended.returncode, ended.stdout) == (0, b"went on\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_results_may_not_be_lost() -> None:
    ended = shell('"$PY" -m fallow recipes list >/dev/full')
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        b"fallow recipes: the disk is full. Free space and run the same command again; finished files are kept."
    ]


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_letter_that_the_encoding_lacks_is_escaped(environment: dict[str, str]) -> None:
    code = PREPARED + r"print('Gr\u00f6\u00dfe'); print('\u00fc', file=sys.stderr)"
    ended = shell(f'"$PY" -c "{code}"', **environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"Gr\\xf6\\xdfe\n", b"\\xfc\n")


def test_a_name_that_is_not_utf8_is_refused_in_one_line() -> None:
    ended = shell('"$PY" -m fallow run spdf-demo --output "$(printf \'/tmp/\\377\')"')
    assert ended.returncode == 2
    assert ended.stderr == b'fallow run: an argument is "/tmp/\\udcff", which is not UTF-8 text. Use another name.\n'
