"""One connection for several steps: opening one takes longer than most of what is done with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dlt.destinations.sql_client import SqlClientBase

__all__ = ["connected"]


@contextmanager
def connected(client: SqlClientBase[Any] | None) -> Iterator[None]:
    """Have a client connected: by the connection that it has, or by one of its own that is closed
    afterwards. Without a client nothing happens."""
    if client is None or client.native_connection:
        yield
        return
    with client:
        yield
