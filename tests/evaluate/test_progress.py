import io

import pytest

from fallow.evaluate import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_with_the_time_left(clock: list[float]) -> None:
    out = io.StringIO()
    with progress.shown("generating texts", stream=out, lines=4) as show:
        for done in range(100, 2001, 100):  # the first 100 were there before
            clock[0] += 10.0
            show(done, 2000)
    lines = out.getvalue().splitlines()
    assert lines[0] == "  generating texts: 500 of 2,000, 0:02:30 left"
    assert lines[-1] == "  generating texts: 2,000 of 2,000"
    assert len(lines) == 4


def test_nothing_for_what_is_short(clock: list[float]) -> None:
    out = io.StringIO()
    with progress.shown("generating texts", stream=out) as show:
        clock[0] += 1.0
        show(5, 5)
    assert out.getvalue() == ""


def test_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with progress.shown("generating texts", stream=out) as show:
        show(2, 8)
        show(8, 8)
    assert "generating texts" in out.getvalue() and "8/8" in out.getvalue()
