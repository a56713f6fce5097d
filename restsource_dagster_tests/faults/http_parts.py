"""Short ways to a connector, a session and a failure, for the tests of faults."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dlt.sources.helpers.rest_client.paginators import BasePaginator
from pydantic import TypeAdapter

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.response_action import ResponseAction
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.engine.http.origins import OriginPolicy
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.http.session import ApiSession, SessionRules
from restsource_dagster.engine.http.waits import RateLimiter
from restsource_dagster.engine.paging.calls import Call
from restsource_dagster.engine.paging.endpoint_reader import EndpointReader
from restsource_dagster.engine.paging.records import knows_page_size
from restsource_dagster.engine.paging.response_checks import matching_action
from restsource_dagster.engine.plan.dlt_adapter import make_paginator
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.engine.run_progress import UsageCounter

__all__ = [
    "At",
    "FakeTime",
    "Notes",
    "connector_of",
    "endpoint_for",
    "failure_of",
    "items",
    "paginator_of",
    "response_actions",
    "rows_of",
    "session_for",
]


def connector_of(
    base_url: str,
    *resources: Any,
    client: Mapping[str, Any] | None = None,
    http: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Connector:
    """Return the connector `shop` of these resources; fail the test if the file has errors."""
    value = {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "http": dict(http or {}),
        "client": {"base_url": base_url, **(client or {})},
        "resource_defaults": dict(defaults or {}),
        "resources": list(resources),
    }
    connector, findings = parse_connector(value, Path("configs/shop.json"))
    assert connector is not None, findings
    return connector


def items(**endpoint: Any) -> dict[str, Any]:
    """A resource `items` at the path of that name."""
    return {"name": "items", "endpoint": {"path": "items", **endpoint}}


def response_actions(given: Iterable[Mapping[str, Any]]) -> tuple[ResponseAction, ...]:
    """The response actions of a file, as the engine takes them."""
    return tuple(map(ResponseAction.model_validate, given))


def failure_of(outcome: Outcome) -> str:
    """Return why a resource failed; fail the test if it did not."""
    assert outcome.failure is not None, f"{outcome.rows_loaded} rows were loaded"
    return outcome.failure.message


class Place(Protocol):
    """A place where a server is, or should be."""

    @property
    def url(self) -> str:
        """The base URL."""


@dataclass(frozen=True)
class At:
    """A place where none of our servers is."""

    url: str


@dataclass
class FakeTime:
    """A clock that moves only by `sleep` and `wait`; `slept` has every sleep, in seconds."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.now += seconds


@dataclass
class Notes:
    """An observer that keeps the messages."""

    texts: list[str] = field(default_factory=list)

    def page(self, resource: str, pages: int, rows: int, rows_per_second: float) -> None:
        return

    def phase(self, family: str, phase: str) -> None:
        return

    def checkpoint(self, resource: str, rows: int) -> None:
        return

    def message(self, text: str) -> None:
        self.texts.append(text)


def session_for(
    server: Place,
    *,
    time: FakeTime | None = None,
    say: Callable[[str], None] = lambda _: None,
    **rules: Any,
) -> ApiSession:
    """A session whose own origin is the server, on a fake clock."""
    time = time or FakeTime()
    return ApiSession(
        SessionRules(
            origins=OriginPolicy.for_url(server.url),
            rate_limiter=RateLimiter(clock=time.clock, wait=time.wait),
            usage_counter=UsageCounter(),
            on_wait=say,
            sleep=time.sleep,
            **rules,
        )
    )


def paginator_of(given: Any, *, knows_page_size: bool = True) -> BasePaginator | None:
    """The paginator of a file's `paginator`."""
    return make_paginator(
        TypeAdapter[Any](Paginator).validate_python(given),
        knows_page_size=knows_page_size,
    )


def endpoint_for(
    server: Place,
    *,
    selector: str | None = None,
    paginator: Any = "single_page",
    actions: Any = (),
    session: ApiSession | None = None,
    **more: Any,
) -> EndpointReader:
    """Return the reader of a resource `items`. Quick: there is no dlt pipeline around it."""
    actions = response_actions(actions)
    return EndpointReader(
        resource="items",
        base_url=server.url,
        session=session
        or session_for(server, action_for=lambda response: matching_action(response, actions)),
        redactor=Redactor(),
        paginator=paginator_of(paginator, knows_page_size=knows_page_size(selector)),
        data_selector=selector,
        actions=actions,
        **more,
    )


def rows_of(server: Place, **endpoint: Any) -> list[Any]:
    """All rows of the path `items`."""
    pages = endpoint_for(server, **endpoint).pages(Call("items"))
    return [row for page in pages for row in page]
