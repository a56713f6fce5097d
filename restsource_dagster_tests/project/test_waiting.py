"""What tests wait with, and the ports that they give to servers."""

import socket
import subprocess
import sys

import pytest

from restsource_dagster_tests.ports import closed_port, reserve_ports
from restsource_dagster_tests.processes import is_running, process_of, wait_until_gone
from restsource_dagster_tests.waiting import Background, wait_until


def test_waiting_in_vain_tells_what_for_and_what_was_seen_last() -> None:
    with pytest.raises(TimeoutError, match=r"not within 0 s: three rows; seen last: \[\]"):
        wait_until(list, "three rows", seconds=0)


def test_a_call_in_the_background_returns_or_raises() -> None:
    assert Background(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        Background(divmod, 7, 0).result()


def test_reserved_ports_differ_and_a_server_can_take_them() -> None:
    ports = reserve_ports(5)
    assert len({*ports, *reserve_ports(5)}) == 10
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_closed_port_refuses_connections_and_can_not_be_taken() -> None:
    with closed_port() as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))


def test_a_process_that_ended_is_not_running_and_not_another_with_its_id() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = process_of(process.pid)
        assert is_running(found)
    wait_until_gone(found, process.pid)
    assert process_of(process.pid) is None
