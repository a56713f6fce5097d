"""Read a path of a server with and without prefetching."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.waits import RateLimiter
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.prefetch.prefetcher import MEMORY_BUDGET_BYTES, Prefetcher
from restsource_dagster.engine.run_progress import UsageCounter
from restsource_dagster_tests.faults.http_parts import Place, endpoint_for, response_actions
from restsource_dagster_tests.waiting import wait_until

__all__ = ["Read", "prefetch_threads", "read", "session_of"]


@dataclass
class Read:
    """What the reader of a call gets to see."""

    pages: list[list[Any]] = field(default_factory=list)
    error: str | None = None
    reported: list[Any] = field(default_factory=list)

    def on_page(self, rows: int, nulls: int, *, ends_page: bool = True) -> None:
        self.reported.append(("page", rows, nulls))

    def on_call_end(self, stated_total: int | None, received: int) -> None:
        self.reported.append(("end", stated_total, received))

    def on_message(self, text: str) -> None:
        self.reported.append(("note", text))


def session_of(server: Place, max_concurrency: int, actions: Any = ()) -> ApiSession:
    """A session that does not wait before a retry."""
    rules = response_actions(actions)
    return ApiSession(
        SessionRules(
            origins=OriginPolicy.for_url(server.url),
            rate_limiter=RateLimiter(max_concurrency=max_concurrency),
            usage_counter=UsageCounter(),
            action_for=lambda response: matching_action(response, rules),
            sleep=lambda _: None,
        )
    )


def read(
    server: Place,
    max_concurrency: int,
    call: Call | None = None,
    *,
    memory_bytes: int = MEMORY_BUDGET_BYTES,
    may_stop_early: bool = False,
    stop_after: int | None = None,
    actions: Any = (),
    **endpoint: Any,
) -> Read:
    """Read `items`, or a call, with up to `max_concurrency` requests in flight.

    With `stop_after` it stops after so many pages, once all prefetches have ended.
    """
    session, seen = session_of(server, max_concurrency, actions), Read()
    prefetcher = (
        Prefetcher(max_concurrency, session.rules.rate_limiter, memory_bytes)
        if max_concurrency > 1
        else None
    )
    made = endpoint_for(
        server, session=session, prefetcher=prefetcher, listener=seen, actions=actions, **endpoint
    )
    pages = made.pages(call or Call("items"), may_stop_early=may_stop_early)
    try:
        for page in pages:
            seen.pages.append(page)
            if len(seen.pages) == stop_after:
                wait_until(
                    lambda: not prefetcher or prefetcher.is_idle, "the end of all prefetches"
                )
                break
    except IngestError as error:
        seen.error = f"{type(error).__name__}: {error}"
    finally:
        pages.close()
        if prefetcher:
            prefetcher.close()
        session.close()
    return seen


def prefetch_threads() -> Mapping[str, threading.Thread]:
    """The prefetch threads of this process."""
    return {
        thread.name: thread
        for thread in threading.enumerate()
        if thread.name.startswith("restsource-prefetch")
    }
