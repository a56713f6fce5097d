"""Whether a port is free, and what a person is told if not."""

import socket
from collections.abc import Iterator

import pytest

from restsource_dagster_tests.ports import reserve_ports
from sample.ports import is_free, port_number, problems_with_ports


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])  # noqa: S104 - another program may do so
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_a_port_that_nobody_listens_on_is_free() -> None:
    assert is_free(reserve_ports(1)[0])


def test_a_taken_port_is_reported_with_the_variable_to_set(taken: int) -> None:
    (problem,) = problems_with_ports({"PORT": reserve_ports(1)[0], "API_PORT": taken})
    assert f"Port {taken} on 127.0.0.1 is taken" in problem
    assert f"make run API_PORT={taken + 1}" in problem


def test_the_same_port_twice_is_reported() -> None:
    port = reserve_ports(1)[0]
    (problem,) = problems_with_ports({"PORT": port, "API_PORT": port})
    assert problem.startswith(f"PORT and API_PORT are both {port}.")


@pytest.mark.parametrize("text", ["", "abc", "0", "65536", "-1", "80 "])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a port: give a number from 1 to 65535"):
        port_number(text)


def test_a_port_is_a_number() -> None:
    assert port_number("3000") == 3000
