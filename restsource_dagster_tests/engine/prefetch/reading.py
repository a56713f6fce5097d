"""Reading a path of a server one by one and ahead, to be compared."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.rate_limit import RateLimiter
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.usage import UsageCounter
from restsource_dagster.engine.paging.endpoint_reader import Call
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.prefetch.prefetcher import MEMORY_BUDGET_BYTES, Prefetcher
from restsource_dagster_tests.faults.http_parts import Place, endpoint_for, response_actions
from restsource_dagster_tests.waiting import wait_until

__all__ = ["Read", "ahead_threads", "read", "session_of"]


@dataclass
class Read:
    """All that a reader gets to see of a call."""

    pages: list[list[Any]] = field(default_factory=list)
    error: str | None = None
    told: list[Any] = field(default_factory=list)

    def page(self, rows: int, nulls: int) -> None:
        self.told.append(("page", rows, nulls))

    def end(self, promised: int | None, received: int) -> None:
        self.told.append(("end", promised, received))

    def note(self, text: str) -> None:
        self.told.append(("note", text))


def session_of(server: Place, most: int, actions: Any = ()) -> ApiSession:
    """A session that does not wait before it tries again."""
    rules = response_actions(actions)
    return ApiSession(
        SessionRules(
            origins=OriginPolicy.for_url(server.url),
            rate_limiter=RateLimiter(max_concurrency=most),
            usage_counter=UsageCounter(),
            action_for=lambda response: matching_action(response, rules),
            sleep=lambda _: None,
        )
    )


def read(
    server: Place,
    most: int,
    call: Call | None = None,
    *,
    room_bytes: int = MEMORY_BUDGET_BYTES,
    may_stop: bool = False,
    stop_after: int | None = None,
    actions: Any = (),
    **endpoint: Any,
) -> Read:
    """Read `items`, or a call, with up to `most` requests under way.

    A reader that stops after some pages stops when nothing more is fetched ahead.
    """
    session, seen = session_of(server, most, actions), Read()
    ahead = Prefetcher(most, session.rules.rate_limiter, room_bytes) if most > 1 else None
    made = endpoint_for(
        server, session=session, ahead=ahead, listener=seen, actions=actions, **endpoint
    )
    pages = made.pages(call or Call("items"), may_stop=may_stop)
    try:
        for page in pages:
            seen.pages.append(page)
            if len(seen.pages) == stop_after:
                wait_until(lambda: not ahead or ahead.is_idle, "the end of what is fetched ahead")
                break
    except IngestError as error:
        seen.error = f"{type(error).__name__}: {error}"
    finally:
        pages.close()
        if ahead:
            ahead.close()
        session.close()
    return seen


def ahead_threads() -> Mapping[str, threading.Thread]:
    """The threads of this process that read ahead."""
    return {
        thread.name: thread
        for thread in threading.enumerate()
        if thread.name.startswith("restsource-ahead")
    }
