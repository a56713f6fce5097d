"""`http` of a file and of a resource: timeouts, limits of requests, and what a failed call means."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, Tag, WithJsonSchema, model_validator

from restsource_dagster.connector.models.fields import (
    FileModel,
    count_from_one,
    refuse_explained,
    refuse_type,
    refuse_value,
    word_or_object,
)

__all__ = ["USUAL_CONCURRENCY", "HttpSettings", "RateLimit", "ResourceHttp", "SkipChildErrors"]

USUAL_CONCURRENCY = 8
"""Requests in progress at the same time before the API has shown that it keeps up with more."""

_HOST_PATTERN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)


def _check_number_up_to(value: Any, expected: str, most: float) -> float:
    # `True` is an `int` in Python; here no rule of dlt makes it pass for a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse_type(expected)
    if not 0 < value <= most or not math.isfinite(value):
        refuse_value(expected)
    return float(value)


def _check_seconds(value: Any) -> float:
    return _check_number_up_to(value, "a number of seconds above 0 and up to a day", 86_400)


def _check_rate(value: Any) -> float:
    return _check_number_up_to(value, "a number of requests above 0 and up to 10,000", 10_000)


def _check_hosts(value: Any) -> tuple[str, ...]:
    expected = "a list of hosts, such as `files.example.com` or `files.example.com:8443`"
    if not isinstance(value, list) or not all(isinstance(host, str) for host in value):
        refuse_type(expected)
    if not all(_HOST_PATTERN.fullmatch(host) for host in value):
        refuse_value(expected)
    # Names of hosts have no case (RFC 4343).
    return tuple(host.lower() for host in value)


def _above_zero_schema(most: float) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": most})


Seconds = Annotated[float, PlainValidator(_check_seconds), _above_zero_schema(86_400)]
Rate = Annotated[float, PlainValidator(_check_rate), _above_zero_schema(10_000)]
_SHARED = re.compile("[a-z0-9][a-z0-9_-]{0,63}")


def _check_shared(value: Any) -> str:
    expected = "a name of small letters, digits, `-` and `_`, such as `acme-zendesk`"
    if not isinstance(value, str):
        refuse_type(expected)
    return value if _SHARED.fullmatch(value) else refuse_value(expected)


class SkipChildErrors(FileModel):
    """Skips a parent whose child request fails. Fails after `skip_up_to` skipped parents."""

    skip_up_to: Annotated[int, *count_from_one(1_000_000)] = Field(
        description="Maximum number of skipped parents. One more fails the family."
    )


OnChildError = Annotated[
    Annotated[Literal["fail"], Tag("#word")] | Annotated[SkipChildErrors, Tag("#object")],
    word_or_object('`fail`, or an object such as {"skip_up_to": 10}'),
]


_PERIOD = re.compile(r"([1-9][0-9]{0,4})(s|m|h|d)")
_PERIOD_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _check_period(value: Any) -> str:
    expected = "a time up to a day, such as `60s`, `1m`, `1h` or `1d`"
    if not isinstance(value, str):
        refuse_type(expected)
    found = _PERIOD.fullmatch(value)
    if found is None or int(found[1]) * _PERIOD_SECONDS[found[2]] > _PERIOD_SECONDS["d"]:
        refuse_value(expected)
    return value


def _check_path_pattern(value: Any) -> str:
    expected = "a path after `base_url`, with `*` for any text, such as `incremental/*`"
    if not isinstance(value, str):
        refuse_type(expected)
    if not value.strip("/") or any(char in value for char in "[]?{}"):
        refuse_value(expected)
    return value.lstrip("/")


PathPattern = Annotated[
    str, PlainValidator(_check_path_pattern), WithJsonSchema({"type": "string"})
]


class RateLimit(FileModel):
    """A limit of the API: so many requests, or what they cost, in any period."""

    requests: Annotated[int, *count_from_one(1_000_000_000)] = Field(
        description="Maximum number of requests in any period of this length; with `costs`, the most that "
        "they may cost together."
    )
    per: Annotated[
        str,
        PlainValidator(_check_period),
        WithJsonSchema({"type": "string", "pattern": f"^{_PERIOD.pattern}$"}),
    ] = Field(description="The length of the period: `60s`, `1m`, `1h`, up to `1d`.")
    match: PathPattern = Field(
        default="*",
        description="The paths after `base_url` whose requests count, with `*` for any text: "
        "`incremental/*`. If left out, all.",
    )
    costs: dict[PathPattern, Annotated[int, *count_from_one(1_000_000)]] = Field(
        default={},
        description="What one request costs, by path, for an API that counts tokens or units: "
        '`{"api/v1/*": 20, "*": 10}`. The longest path that matches holds; without one a request costs 1.',
    )
    when_used_up: Literal["wait", "fail"] = Field(
        default="wait",
        description="`wait`: a request waits until the limit allows it. `fail`: the resource fails at once, and "
        "the next run continues. For limits of a day, for which nobody wants to wait. Runs count together only with "
        "`http.shared`.",
    )

    @model_validator(mode="after")
    def _check_costs(self) -> "RateLimit":
        if self.greatest_cost > self.requests:
            refuse_explained(
                f"a request that costs {self.greatest_cost} is never sent: the limit allows {self.requests}",
                "Raise `requests`, or lower the cost.",
            )
        return self

    @property
    def greatest_cost(self) -> int:
        """What the dearest request costs; 1 without `costs`."""
        return max(self.costs.values(), default=1)

    @property
    def seconds(self) -> float:
        """The length of the period in seconds."""
        return float(int(self.per[:-1]) * _PERIOD_SECONDS[self.per[-1]])


class ResourceHttp(FileModel):
    """Settings of the requests of one resource: limits beside those of `http`, and other values."""

    timeout_seconds: Seconds | None = Field(default=None, description="In place of that of `http`.")
    max_wait_seconds: Seconds | None = Field(
        default=None, description="In place of that of `http`."
    )
    max_pages: Annotated[int, *count_from_one(100_000_000)] | None = Field(
        default=None, description="In place of that of `http`."
    )
    max_response_mb: Annotated[int, *count_from_one(1_000_000)] | None = Field(
        default=None, description="In place of that of `http`."
    )
    requests_per_second: Rate | None = Field(
        default=None,
        description="Maximum number of requests of this resource in any second. The limits of `http` hold, "
        "too.",
    )
    rate_limits: list[RateLimit] = Field(
        default=[],
        description="Limits of this resource's requests. The limits of `http` hold, too.",
    )


class HttpSettings(FileModel):
    """Timeouts, rate limits, concurrency and allowed hosts of all requests."""

    timeout_seconds: Seconds = Field(
        default=60.0,
        description="Maximum duration of one request in seconds, from connecting to the last byte "
        "of the response.",
    )
    max_wait_seconds: Seconds = Field(
        default=300.0,
        description="Maximum total wait of one request in seconds, over all its retries "
        "(`Retry-After`, rate limits). If the API asks for more, the resource fails.",
    )
    requests_per_second: Rate | None = Field(
        default=None,
        description="Rate limit: maximum number of requests in any second, over the whole run. If "
        "left out, there is no limit.",
    )
    rate_limits: list[RateLimit] = Field(
        default=[],
        description="Further limits. Each request keeps to all that match its path.",
    )
    shared: (
        Annotated[
            str,
            PlainValidator(_check_shared),
            WithJsonSchema({"type": "string", "pattern": f"^{_SHARED.pattern}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="A name. The limits count the requests of all connectors that have this name here, in "
        "all processes that use the same state folder, and a pause that the API asks for holds for all. "
        "Give each of them the same limits.",
    )
    max_concurrency: Annotated[int, *count_from_one(256)] = Field(
        default=20,
        description="Maximum number of requests in progress at the same time, over the whole run. A run begins "
        "with 8 (or this number, if it is smaller). It sends more at once while the API keeps up, and half as "
        "many after a 429, a 503 or when responses become slow. If this is left out and the file limits the rate "
        "of requests or has `shared`, the maximum is 8. With more than 1, pages are prefetched, and several "
        "parents and resources are requested at once. With 1, requests are sent one by one, in order.",
    )
    max_pages: Annotated[int, *count_from_one(100_000_000)] = Field(
        default=100_000,
        description="Maximum number of pages of one call. After that, the paging counts as endless "
        "and fails.",
    )
    max_response_mb: Annotated[int, *count_from_one(1_000_000)] = Field(
        default=256,
        description="Maximum size of one response in megabytes, unpacked. A resource with a larger one "
        "fails; the rest of that response is not read.",
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        PlainValidator(_check_hosts),
        WithJsonSchema({"type": "array", "items": {"type": "string"}}),
    ] = Field(
        default=(),
        description="Other hosts to which links and redirects of the API may lead. Links are "
        "followed with credentials, redirects without.",
    )
    on_child_error: OnChildError = Field(
        default="fail",
        description="What happens if the request for one parent's children fails: `fail` fails the "
        "family; an object skips this parent, up to a number of parents.",
    )
