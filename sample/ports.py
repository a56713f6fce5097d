"""Check if a port of this machine is free."""

import socket

__all__ = ["HOST", "is_free", "port_number", "problems_with_ports"]

HOST = "127.0.0.1"
_LAST_PORT = 65535


def port_number(text: str) -> int:
    """Return the port in `text`. Raise `ValueError` if it is not a number from 1 to 65535."""
    if not (text.isdecimal() and 1 <= int(text) <= _LAST_PORT):
        raise ValueError(f"{text!r} is not a port: give a number from 1 to {_LAST_PORT}")
    return int(text)


def is_free(port: int) -> bool:
    """True if no program listens on `port`, on 127.0.0.1 or on all interfaces."""
    with socket.socket() as probe:
        # Without it, connections that were closed a moment ago make the port look used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    # macOS allows binding beside a program that listens on all interfaces, so connect as well.
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) != 0


def problems_with_ports(ports: dict[str, int]) -> list[str]:
    """Return one sentence per port that can't be used. `ports` maps make variables to ports."""
    problems: list[str] = []
    owners: dict[int, str] = {}
    for variable, port in ports.items():
        if port in owners:
            problems.append(
                f"{owners[port]} and {variable} are both {port}. "
                f"Set one of them to another port, for instance: make run {variable}={port + 1}"
            )
        elif not is_free(port):
            problems.append(
                f"Port {port} on {HOST} is taken: another program (or another `make run`) listens "
                f"there. Stop it or choose another port: make run {variable}={port + 1}"
            )
        owners.setdefault(port, variable)
    return problems
