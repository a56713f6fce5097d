"""Ports for servers that can't choose one themselves, and a port on which nobody listens."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["closed_port", "reserve_ports"]

_FIRST = 20_000
_AFTER_LAST = 30_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

# Each is bound for as long as this process lives: see `reserve_ports`.
_reservations: list[socket.socket] = []


def reserve_ports(number: int) -> list[int]:
    """Return ports for servers that start later; no other test gets them while this process lives.

    They lie outside of the range from which the system takes ports for outgoing connections and for
    port 0, so nobody takes one between this call and the server's start. A UDP socket of the same
    number reserves each among all tests of this machine; it doesn't hinder a TCP server.
    """
    candidates = list(range(_FIRST, _after_last()))
    random.shuffle(candidates)
    found: list[int] = []
    while len(found) < number:
        port = candidates.pop()
        if _reserve(port):
            found.append(port)
    return found


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take, until the block ends."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound without `listen`: connections are refused
        yield int(bound.getsockname()[1])


def _after_last() -> int:
    try:
        lowest = int(_RANGE.read_text().split()[0])
    except OSError:  # not Linux: there these ports begin at 49152
        return _AFTER_LAST
    return min(lowest, _AFTER_LAST) if lowest > _FIRST + 1000 else _AFTER_LAST


def _reserve(port: int) -> bool:
    reservation = socket.socket(type=socket.SOCK_DGRAM)
    try:
        reservation.bind(("127.0.0.1", port))
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    _reservations.append(reservation)
    return True
