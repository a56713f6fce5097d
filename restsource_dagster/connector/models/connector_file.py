"""The connector file: its own fields, `http`, and dlt's `rest_api` configuration.

`client`, `resource_defaults` and `resources` are dlt's, as far as JSON can express them. The
other fields, such as `schedule` and `http`, are not part of dlt's configuration.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#source-configuration
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema, model_validator

from restsource_dagster.connector.models.asset_options import (
    AssetOptions,
    Owner,
    Tags,
    matching_pattern,
)
from restsource_dagster.connector.models.auth import Auth
from restsource_dagster.connector.models.backfill import Backfill
from restsource_dagster.connector.models.checks import Checks
from restsource_dagster.connector.models.deletes import (
    DeletedWhen,
    DeletesFromSetting,
    OnDelete,
    Sweep,
)
from restsource_dagster.connector.models.endpoint import Endpoint, EndpointDefaults
from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    PythonOnly,
    Text,
    count_from_one,
    refuse_explained,
    refuse_type,
    refuse_value,
    text_or_object,
    word_or_object,
)
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.processing_steps import ProcessingStep
from restsource_dagster.connector.models.schedule import Moment, Schedule
from restsource_dagster.connector.models.table_hints import TableHints

__all__ = [
    "CONNECTOR_NAME_PATTERN",
    "USUAL_CONCURRENCY",
    "ChildRows",
    "Children",
    "Client",
    "ConnectorFile",
    "HttpSettings",
    "RateLimit",
    "RenameFrom",
    "ResourceDefaults",
    "ResourceHttp",
    "ResourceObject",
    "ResourceOrName",
    "SkipChildErrors",
    "Tls",
    "WriteMode",
]

USUAL_CONCURRENCY = 8
"""Requests in progress at the same time before the API has shown that it keeps up with more."""

WriteMode = Literal["auto", "columnar", "rows"]
"""How rows are written: one by one by dlt, or as columns where the tables come out the same."""

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
        "the next run continues. For limits of a day, for which nobody wants to wait.",
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


_RESOURCE_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"})


class Tls(FileModel):
    """Certificates for https: the path of a PEM file, or its text by a reference."""

    cert: Text | None = Field(
        default=None,
        description="The client's certificate, such as `/run/secrets/client.pem` or `${file:/run/secrets/client.pem}`. "
        "It may have the key, too.",
    )
    key: Text | None = Field(default=None, description="The private key of `cert`.")
    ca: Text | None = Field(
        default=None,
        description="The authorities that the API's certificate may be from, in place of the usual ones.",
    )


class Client(FileModel):
    """Settings that all endpoints of the API share."""

    base_url: Text = Field(
        description="The URL that all paths are relative to, such as `https://api.example.com/v1`."
    )
    headers: dict[str, Text] | None = Field(default=None, description="Headers of every request.")
    auth: Auth | None = Field(
        default=None,
        description="Authentication of requests. If left out, requests are sent without it.",
    )
    paginator: Paginator | None = Field(
        default=None, description="How the next page is found. If left out, dlt detects it."
    )
    tls: Tls | None = Field(
        default=None,
        description="Certificates for requests to `base_url`, and for those that obtain tokens.",
    )
    session: PythonOnly = Field(default=None, description="Python only: not for files.")


class ResourceBase(TableHints):
    """Fields that resources and their defaults share."""

    selected: Flag | None = Field(
        default=True,
        description="`false`: the resource is requested for its dependent resources, but not "
        "loaded itself.",
    )
    parallelized: Flag | None = Field(
        default=False,
        description="A field of dlt without effect here: `http.max_concurrency` sets how many "
        "requests are sent at once.",
    )
    include_from_parent: list[Text] | None = Field(
        default=None,
        description="Fields of the parent's record to copy into each row, as `_<parent>_<field>`; "
        "`each.site` for a value of `for_each`, as `_each_site`.",
    )
    mode: WriteMode | None = Field(
        default="auto",
        description="How rows are written. `auto`: as columns, which is several times faster, if "
        "the tables stay the same, otherwise one by one. `columnar`: like `auto`, with "
        "nested values as JSON unless `nested` is set. `rows`: one by one. Not part of "
        "dlt's configuration.",
    )
    nested: Literal["json", "tables"] | None = Field(
        default=None,
        description="`tables`: lists in a record become tables of their own. `json`: all nested "
        "values become JSON columns, as with `max_table_nesting: 0`. Not part of dlt's "
        "configuration.",
    )
    processing_steps: list[ProcessingStep] = Field(
        default=[],
        description="What happens to the records of each page, step by step, before they are loaded. "
        "In place of dlt's Python functions there are jq programs (https://jqlang.org/manual/).",
    )
    checks: Checks | None = Field(
        default=None,
        description="What Dagster verifies of the table after each load, and within which time it must "
        "succeed. Not part of dlt's configuration.",
    )
    asset: AssetOptions | None = Field(
        default=None,
        description="Owners, tags, kinds and automation of the asset in Dagster. Not part of dlt's "
        "configuration.",
    )


class ResourceDefaults(ResourceBase):
    """Defaults for the fields of all resources.

    `params` and `json` are merged key by key, `columns` column by column, `checks` check by check. Any
    other field of a resource replaces the default.
    """

    endpoint: EndpointDefaults = Field(
        default=EndpointDefaults.of({}), description="Defaults for all endpoints."
    )


class ChildRows(FileModel):
    """Removes the rows of a parent that its call no longer returns, by a field of the rows."""

    replace_by: Text = Field(
        description="The field of a row that holds the value which the call takes from the parent, such as "
        "`deal_id`."
    )


def _check_pattern(value: Any) -> str:
    expected = "a regular expression, such as `[0-9a-f]{40}`"
    if not isinstance(value, str):
        refuse_type(expected)
    try:
        re.compile(value)
    except re.error:
        refuse_value(expected)
    return value


class RenameFrom(FileModel):
    """Names fields by the rows of another resource, which have the code of each field and its label."""

    model_config = ConfigDict(serialize_by_alias=True)

    resource: Text = Field(
        description="The resource with a row for each field. It is requested once in a run, before the rows "
        "here are read, whether it is loaded or not."
    )
    from_: Text = Field(
        alias="from", description="The field of its rows with the name that the API uses: the code."
    )
    to: Text = Field(description="The field of its rows with the name to use: the label.")
    at: Text | None = Field(
        default=None,
        description="The object in a record that has the fields, such as `custom_fields`; with dots between "
        "names. If left out, the record.",
    )
    match: (
        Annotated[str, PlainValidator(_check_pattern), WithJsonSchema({"type": "string"})] | None
    ) = Field(
        default=None,
        description="A regular expression: only codes that match it as a whole are renamed. If left out, "
        "all.",
    )


Children = Annotated[
    Annotated[Literal["replace"], Tag("#word")] | Annotated[ChildRows, Tag("#object")],
    word_or_object('`replace`, or an object such as {"replace_by": "order_id"}'),
]


class ResourceObject(ResourceBase):
    """One kind of record of the API. It becomes one table and one asset."""

    name: Annotated[Text, _RESOURCE_NAME_SCHEMA] = Field(
        description="The resource's name: letters, digits, `_`, `-` and `.`. The table and the "
        "asset have the same name."
    )
    endpoint: Annotated[
        Annotated[Text, Tag("#text")] | Annotated[Endpoint, Tag("#object")],
        text_or_object("a path, or an object"),
    ] = Field(
        default=Endpoint.of({}),
        description="The endpoint, or only its path. If left out, the path is the resource's name.",
    )
    children: Children | None = Field(
        default=None,
        description="`replace`: the rows that a call returns replace those of its parent, so a row that the "
        "API no longer returns there is removed, also the last one. Those of a parent that is removed itself "
        "(`hard_delete`) go with it, without a call. The rows of a parent are found by "
        "`include_from_parent`, or by a field of their own: an object with `replace_by`. Needs a "
        "`primary_key` and merged rows. Not part of dlt's configuration.",
    )
    deleted_when: DeletedWhen | None = Field(
        default=None,
        description="A jq condition on a record after `processing_steps` and `rename_from`, such as "
        '`.status == "deleted"`, or `.deleted_at` for a field that has a time or `true` in it: the record '
        "says that it is deleted. What becomes of its row, `on_delete` says. Needs a `primary_key` and "
        "merged rows. Not part of dlt's configuration.",
    )
    deletes_from: DeletesFromSetting | None = Field(
        default=None,
        description="Another resource whose records have the keys of deleted rows, such as an endpoint "
        "`/deleted_items`; it is loaded before this one, and has a table of its own. What becomes of the rows, "
        "`on_delete` says. Needs a `primary_key` and merged rows. Not part of dlt's configuration.",
    )
    sweep: Sweep | None = Field(
        default=None,
        description="Lists all records now and then, and takes the rows out whose keys are not listed. What "
        "becomes of them, `on_delete` says. Needs a `primary_key`, merged rows, and one list of all records. "
        "Not part of dlt's configuration.",
    )
    on_delete: OnDelete = Field(
        default="remove",
        description="What becomes of a row that is deleted (`deleted_when`, `deletes_from`, `sweep`). `remove`: it leaves the table, "
        "with the rows nested in it. `mark`: it stays, and the column `_deleted_at` has the start of the run "
        "that found it deleted; it is null in all others. Not part of dlt's configuration.",
    )
    rename_from: RenameFrom | None = Field(
        default=None,
        description="Names fields by their labels, which are in the rows of another resource. A field keeps "
        "the name that it got first. Not part of dlt's configuration.",
    )
    http: ResourceHttp | None = Field(
        default=None,
        description="Limits and timeouts of this resource's requests. Not part of dlt's configuration.",
    )
    backfill: Backfill | None = Field(
        default=None,
        description="Loads the past in partitions beside the live stream. For incremental "
        "resources whose cursor is a time. Not part of dlt's configuration.",
    )


ResourceOrName = Annotated[
    Annotated[Text, Tag("#text"), _RESOURCE_NAME_SCHEMA]
    | Annotated[ResourceObject, Tag("#object")],
    text_or_object("the name of a resource, or an object"),
]

CONNECTOR_NAME_PATTERN = "[a-z][a-z0-9_]{0,63}"
"""The pattern of a connector's name."""
DESTINATION_PATTERN = "[a-zA-Z][a-zA-Z0-9_]{0,63}"


class ConnectorFile(FileModel):
    """One connector: an API, what to load from it, and when.

    `client`, `resource_defaults` and `resources` are dlt's `rest_api` configuration.
    """

    model_config = ConfigDict(title="Connector", serialize_by_alias=True)

    # With an underscore, because `schema` is a method of pydantic's models.
    schema_: Text | None = Field(
        default=None, alias="$schema", description="The JSON Schema of the file, for editors."
    )
    name: (
        Annotated[
            str,
            matching_pattern(
                CONNECTOR_NAME_PATTERN,
                "a small letter, then small letters, digits and underscores, up to 64",
            ),
            WithJsonSchema({"type": "string", "pattern": f"^{CONNECTOR_NAME_PATTERN}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="The connector's name. If left out, the file's name without its extension. "
        "Assets, job, schedule, pipeline and dataset are named after it.",
    )
    description: Text | None = Field(default=None, description="A description for people.")
    owners: list[Owner] = Field(
        default=[], description="The owners: e-mail addresses, or teams such as `team:data`."
    )
    tags: Tags = Field(default={}, description="Labels for Dagster's UI, such as `tier`: `gold`.")
    created_at: Moment | None = Field(
        default=None,
        description="The time from which the schedule counts. If left out, the time at which the "
        "file is first seen. UTC unless it names a time zone.",
    )
    destination: (
        Annotated[
            str,
            matching_pattern(
                DESTINATION_PATTERN, "a letter, then letters, digits and underscores, up to 64"
            ),
            WithJsonSchema({"type": "string", "pattern": f"^{DESTINATION_PATTERN}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="The dlt destination to load into: its type, such as `postgres`, or a name that dlt's "
        "configuration gives one. If left out, the one of the setting `RESTSOURCE_DESTINATION`. "
        "[More](operations.md#another-destination)",
    )
    schedule: Schedule = Field(description="When the connector runs automatically.")
    http: HttpSettings = Field(
        default_factory=lambda: HttpSettings.of({}),
        description="Timeouts, rate limit, concurrency and allowed hosts of all requests.",
    )
    client: Client = Field(description="Settings that all endpoints of the API share.")
    resource_defaults: ResourceDefaults | None = Field(
        default=None, description="Defaults for the fields of all resources."
    )
    resources: list[ResourceOrName] = Field(
        description="What to load. Each resource becomes a table and an asset.",
        # Only in the schema: for an empty list, `build_resources` has a message of its own.
        json_schema_extra={"minItems": 1},
    )
