"""Exchanges that are slow or never end are ended by the deadline."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from restsource_dagster.engine.errors import RequestError
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import (
    At,
    FakeTime,
    Notes,
    connector_of,
    items,
    rows_of,
    session_for,
)
from restsource_dagster_tests.making import load
from restsource_dagster_tests.ports import closed_port
from restsource_dagster_tests.servers.faults import FaultServer, Reply
from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.faults(row=8)

GOOD = [{"id": 1}]
ENOUGH_SECONDS = 2.0
"""A timeout within which a good answer comes on a busy machine, too, and a slow one doesn't."""
LONG_SECONDS = 30.0
"""Much longer than what is bounded takes on a busy machine; much less than it takes without bounds."""


def test_a_closed_port_is_a_clear_error(server: FaultServer) -> None:
    with closed_port() as port, pytest.raises(RequestError, match="Is the API up"):
        rows_of(At(f"http://127.0.0.1:{port}"))


# Without a limit for the exchange as a whole, each of these would end well, or never.
SLOW = {
    "no answer": Reply(GOOD, delay=PATIENCE_SECONDS),
    "dripping headers": Reply(GOOD, drip_head=0.05),
    "dripping body": Reply([{"id": number} for number in range(99)], drip_body=0.05),
    "endless dripping without a length": Reply(b"[" + b" " * 999, drip_body=0.05, unframed=True),
    "length longer than the body": Reply(GOOD, missing=100),
}


@pytest.mark.parametrize("slow", SLOW)
def test_an_exchange_as_a_whole_ends_in_time(server: FaultServer, slow: str) -> None:
    server.plan["/items"] = SLOW[slow]
    fake = FakeTime()
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"no complete answer within 0\.3 s"):
        rows_of(server, session=session_for(server, time=fake, timeout_seconds=0.3))
    # five tries, each bounded as a whole
    assert 1.5 <= time.monotonic() - started < LONG_SECONDS
    assert len(fake.slept) == 4


@pytest.mark.parametrize("slow", SLOW)
def test_a_reused_connection_obeys_the_deadline_too(server: FaultServer, slow: str) -> None:
    server.plan["/items"] = (GOOD, SLOW[slow], GOOD)
    session = session_for(server, timeout_seconds=ENOUGH_SECONDS)
    assert rows_of(server, session=session) == GOOD
    assert rows_of(server, session=session) == GOOD
    assert session.rules.usage_counter.usage.retries == 1


def test_slow_bytes_that_are_there_in_time_are_read(server: FaultServer) -> None:
    server.plan["/items"] = Reply(GOOD, drip_head=0.001, drip_body=0.01)
    assert rows_of(server) == GOOD


def test_the_timeout_of_the_file_counts_and_the_retry_is_reported(
    server: FaultServer, settings: Settings
) -> None:
    server.plan["/items"] = (Reply(GOOD, missing=5), GOOD)
    notes = Notes()
    connector = connector_of(server.url, items(), http={"timeout_seconds": ENOUGH_SECONDS})
    outcome = load(connector, settings, observer=notes)["items"]
    assert (outcome.rows_loaded, outcome.usage.requests, outcome.usage.retries) == (1, 2, 1)
    assert any("the request failed (Timeout); waiting 1" in text for text in notes.texts)


@contextmanager
def dripping_handshake() -> Iterator[str]:
    """An https server that sends a handshake record byte by byte, for ever."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(connected: socket.socket) -> None:
            with connected:
                connected.sendall(b"\x16\x03\x03\x40\x00")
                while not stop.wait(0.05):
                    try:
                        connected.sendall(b"\x02")
                    except OSError:
                        return

        def accept() -> None:
            while not stop.is_set():
                connected, _ = listener.accept()
                threading.Thread(target=drip, args=(connected,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            socket.create_connection(listener.getsockname()).close()


def test_a_tls_handshake_is_part_of_the_time() -> None:
    with dripping_handshake() as url:
        started = time.monotonic()
        with pytest.raises(RequestError, match=r"no complete answer within 0\.3 s"):
            rows_of(
                At(url),
                session=session_for(At(url), timeout_seconds=0.3),
            )
        assert time.monotonic() - started < LONG_SECONDS


@contextmanager
def full_listener(port: int = 0, host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """A place whose queue of connections is full: nothing answers there."""
    with socket.socket() as full:
        full.bind((host, port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()
        for client in waiting:
            client.close()


def test_a_connection_that_is_not_accepted_is_part_of_the_time() -> None:
    with full_listener() as (_, port):
        place = At(f"http://127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(RequestError, match="Timeout"):
            rows_of(place, session=session_for(place, timeout_seconds=0.3))
        assert time.monotonic() - started < LONG_SECONDS


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str], port: int) -> None:
    """Give the host `api.invalid` these addresses."""
    theirs = socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "api.invalid":
            return theirs(host, *args, **kwargs)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_host_with_several_silent_addresses_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with full_listener() as one, full_listener(one[1], "127.0.0.2") as two:
        silent = [one[0], two[0]] * 20  # 60 seconds, if each had the whole time in each try
        resolve_to(monkeypatch, silent, one[1])
        place = At(f"http://api.invalid:{one[1]}")
        started = time.monotonic()
        with pytest.raises(RequestError, match="Timeout"):
            rows_of(place, session=session_for(place, timeout_seconds=0.3))
        assert time.monotonic() - started < LONG_SECONDS


def test_the_next_address_of_a_host_is_tried(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan["/items"] = GOOD
    resolve_to(monkeypatch, ["127.0.0.2", "127.0.0.1"], server.port)
    place = At(f"http://api.invalid:{server.port}")
    assert rows_of(place, session=session_for(place)) == GOOD
    assert server.arrivals[0].headers["host"] == f"api.invalid:{server.port}"


def test_no_thread_and_no_socket_is_left_behind(server: FaultServer) -> None:
    server.plan["/items"] = GOOD
    session = session_for(server)
    rows_of(server, session=session)
    before = threading.active_count()
    for _ in range(50):
        rows_of(server, session=session)
    wait_until(lambda: threading.active_count() <= before, f"{before} threads")
    assert server.connections == 1
    session.close()
