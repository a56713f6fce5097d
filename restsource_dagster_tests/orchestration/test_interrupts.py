"""An interrupt ends a load, also where a library swallows it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import NoReturn

import duckdb
import pytest

from restsource_dagster.orchestration.op import until_interrupted
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

AGAIN_SECONDS = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class Interrupted(BaseException):
    """What Dagster raises into an op, by another name."""


@pytest.fixture(autouse=True)
def _raising_handlers() -> Iterator[None]:
    """Handlers as Dagster sets them around an op; afterwards all are as before."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Interrupted

    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    inside = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    assert {number: signal.getsignal(number) for number in SIGNALS} == inside
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_comes_again_while_the_load_waits(number: int) -> None:
    swallowed: list[Interrupted] = []

    def load() -> Iterator[str]:
        yield "orders"
        for _ in range(2):
            try:
                interrupt(number)
                threading.Event().wait(PATIENCE_SECONDS)
            except Interrupted as error:
                swallowed.append(error)
        threading.Event().wait(PATIENCE_SECONDS)
        yield "customers"

    items = until_interrupted(load(), again_seconds=AGAIN_SECONDS)
    assert next(items) == "orders"
    started = time.monotonic()
    with pytest.raises(Interrupted):
        next(items)
    assert len(swallowed) == 2
    assert time.monotonic() - started < PATIENCE_SECONDS


def test_no_resource_is_loaded_after_one_whose_statement_was_interrupted() -> None:
    loaded = []

    def load() -> Iterator[str]:
        # as dlt does with the statements that it expects to fail
        timer = threading.Timer(AGAIN_SECONDS, interrupt)
        timer.start()
        # with more threads this one may wait for another, and look for signals at the statement's end only
        database = duckdb.connect(config={"threads": 1})
        with database as connection, pytest.raises(RuntimeError, match="interrupted"):
            connection.execute("SELECT count(*) FROM range(100000000000) a WHERE sin(a.range) = 2")
        timer.join()
        yield "orders"
        loaded.append("customers")
        yield "customers"

    with pytest.raises(Interrupted):
        next(until_interrupted(load()))
    assert loaded == []


def test_an_error_that_an_interrupt_has_become_is_an_interrupt() -> None:
    def load() -> Iterator[str]:
        try:
            interrupt()
        except Interrupted:
            raise RuntimeError("Query interrupted") from None
        yield "orders"

    with pytest.raises(Interrupted):
        next(until_interrupted(load()))


def test_without_an_interrupt_items_and_errors_are_as_they_are() -> None:
    def load() -> Iterator[int]:
        yield from (1, 2)
        raise RuntimeError("no table")

    items = until_interrupted(load())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(RuntimeError, match="no table"):
        next(items)


def test_in_another_thread_items_are_as_they_are() -> None:
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(lambda: list(until_interrupted(iter("ab")))).result() == ["a", "b"]
