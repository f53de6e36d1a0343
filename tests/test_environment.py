"""What the environment says of processes: read in one place, and refused in one line."""

import pytest

from fallow.environment import Place, is_main, place
from fallow.errors import UserError
from fallow.train import Mesh

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
RIGHT = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch):
    def change(**values: str | None) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return change


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK", "RANK", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", "\u0663", "9" * 5000, " 1"])
def test_a_variable_that_is_no_number(name: str, value: str, environment) -> None:
    environment(**{**RIGHT, name: value})
    with pytest.raises(UserError, match=f"the environment variable {name} is .*, but it must be a whole number"):
        Mesh.start("cpu")


@pytest.mark.parametrize("name", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_that_is_missing(name: str, environment) -> None:
    environment(**{**RIGHT, name: None})
    with pytest.raises(UserError, match=f"WORLD_SIZE is 2, but {name} is not set. Start several processes by torchrun"):
        Mesh.start("cpu")


def test_a_rank_outside(environment) -> None:
    environment(**{**RIGHT, "RANK": "2"})
    with pytest.raises(UserError, match="RANK is '2', but it must be a whole number from 0 to 1"):
        place()


def test_what_torchrun_says(environment) -> None:
    environment(**RIGHT)
    assert place() == Place(1, 2, 1)
    assert not is_main()
    environment()
    assert place() == Place()
    assert is_main()


def test_another_process_that_ended_is_told_in_a_line() -> None:
    with pytest.raises(UserError, match="another process has ended, and this one cannot go on alone"), Mesh(0, 2):
        raise RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4321\nmore")
    with pytest.raises(RuntimeError, match="mat1 and mat2"), Mesh(0, 2):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
