"""How a connector's requests behave: the `http` part of a file, which dlt does not have."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, Tag, WithJsonSchema

from restsource_dagster.config.fields import Part, by_kind, not_this, not_valid

__all__ = ["HttpSettings", "SkipChildErrors"]

_HOST = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)


def _number(value: Any, expected: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        not_this(expected)
    if not 0 < value <= most or not math.isfinite(value):
        not_valid(expected)
    return float(value)


def _seconds(value: Any) -> float:
    return _number(value, "a number of seconds above 0 and up to a day", 86_400)


def _rate(value: Any) -> float:
    return _number(value, "a number of requests above 0 and up to 10,000", 10_000)


def _whole(value: Any, most: int) -> int:
    expected = f"a whole number from 1 to {most:,}"
    if isinstance(value, bool) or not isinstance(value, int):
        not_this(expected)
    if not 1 <= value <= most:
        not_valid(expected)
    return int(value)


def _hosts(value: Any) -> tuple[str, ...]:
    expected = "a list of hosts, such as `files.example.com` or `files.example.com:8443`"
    if not isinstance(value, list) or not all(isinstance(host, str) for host in value):
        not_this(expected)
    if not all(_HOST.fullmatch(host) for host in value):
        not_valid(expected)
    return tuple(host.lower() for host in value)


def _above(most: float) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": most})


def _from_one(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": 1, "maximum": most})


Seconds = Annotated[float, PlainValidator(_seconds), _above(86_400)]


class SkipChildErrors(Part):
    """Goes on without the children of a parent whose call fails, up to a number of parents."""

    skip_up_to: Annotated[
        int, PlainValidator(lambda value: _whole(value, 1_000_000)), _from_one(1_000_000)
    ] = Field(description="How many parents may be skipped before the family fails after all.")


def _child_error_kind(value: Any) -> str:
    return "#skip" if isinstance(value, dict) else "#fail"


OnChildError = Annotated[
    Annotated[Literal["fail"], Tag("#fail")] | Annotated[SkipChildErrors, Tag("#skip")],
    by_kind(_child_error_kind, '`fail`, or an object such as {"skip_up_to": 10}'),
]


class HttpSettings(Part):
    """How requests behave."""

    timeout_seconds: Seconds = Field(
        default=60.0,
        description="Seconds that one request may take as a whole, to the last byte of its answer.",
    )
    max_wait_seconds: Seconds = Field(
        default=300.0,
        description="Seconds that the API may make a request wait altogether (`Retry-After`, rate "
        "limits) before the resource fails.",
    )
    requests_per_second: Annotated[float, PlainValidator(_rate), _above(10_000)] | None = Field(
        default=None,
        description="How many requests may start in any second, over the whole run. No limit if "
        "left out.",
    )
    max_concurrency: Annotated[
        int, PlainValidator(lambda value: _whole(value, 256)), _from_one(256)
    ] = Field(
        default=8,
        description="How many requests may be under way at once, over the whole run: for pages ahead "
        "of those that are read, below several parents, for several resources. With 1, requests "
        "are sent one by one, in order.",
    )
    max_pages: Annotated[
        int, PlainValidator(lambda value: _whole(value, 100_000_000)), _from_one(100_000_000)
    ] = Field(
        default=100_000,
        description="How many pages one call may have before paging is taken for endless.",
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        PlainValidator(_hosts),
        WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    ] = Field(
        default=(),
        description="Other hosts that the API may lead to: links are followed there with "
        "credentials, redirects without.",
    )
    on_child_error: OnChildError = Field(
        default="fail",
        description="What a failing call for one parent's children does: `fail` the family, or "
        "skip that parent, up to a number of them.",
    )
