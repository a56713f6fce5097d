"""The envelope of a connector file: who, when and how; dlt's own part is in `rest_api`.

How a connector's requests behave: the `http` part of a file, which dlt does not have.

dlt's `rest_api` configuration, as far as JSON can say it: client, defaults, resources.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#source-configuration
"""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.auth import Auth
from restsource_dagster.connector.models.backfill import BackfillBlock
from restsource_dagster.connector.models.endpoint import Endpoint, EndpointDefaults
from restsource_dagster.connector.models.fields import (
    FileModel,
    Flag,
    PythonOnly,
    Text,
    by_kind,
    refuse_type,
    refuse_value,
)
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.schedule import Moment, Schedule
from restsource_dagster.connector.models.table_hints import TableHints
from restsource_dagster.connector.resources import WriteMode

__all__ = [
    "CONNECTOR_NAME_PATTERN",
    "Client",
    "ConnectorFile",
    "HttpSettings",
    "ResourceDefaults",
    "ResourceObject",
    "ResourceOrName",
    "SkipChildErrors",
]

_HOST_PATTERN = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)


def _check_number_up_to(value: Any, expected: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse_type(expected)
    if not 0 < value <= most or not math.isfinite(value):
        refuse_value(expected)
    return float(value)


def _check_seconds(value: Any) -> float:
    return _check_number_up_to(value, "a number of seconds above 0 and up to a day", 86_400)


def _check_rate(value: Any) -> float:
    return _check_number_up_to(value, "a number of requests above 0 and up to 10,000", 10_000)


def _check_count_up_to(value: Any, most: int) -> int:
    expected = f"a whole number from 1 to {most:,}"
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type(expected)
    if not 1 <= value <= most:
        refuse_value(expected)
    return int(value)


def _check_hosts(value: Any) -> tuple[str, ...]:
    expected = "a list of hosts, such as `files.example.com` or `files.example.com:8443`"
    if not isinstance(value, list) or not all(isinstance(host, str) for host in value):
        refuse_type(expected)
    if not all(_HOST_PATTERN.fullmatch(host) for host in value):
        refuse_value(expected)
    return tuple(host.lower() for host in value)


def _above_zero_schema(most: float) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": most})


def _from_one_schema(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "integer", "minimum": 1, "maximum": most})


Seconds = Annotated[float, PlainValidator(_check_seconds), _above_zero_schema(86_400)]


class SkipChildErrors(FileModel):
    """Goes on without the children of a parent whose call fails, up to a number of parents."""

    skip_up_to: Annotated[
        int,
        PlainValidator(lambda value: _check_count_up_to(value, 1_000_000)),
        _from_one_schema(1_000_000),
    ] = Field(description="How many parents may be skipped before the family fails after all.")


def _child_error_kind(value: Any) -> str:
    return "#skip" if isinstance(value, dict) else "#fail"


OnChildError = Annotated[
    Annotated[Literal["fail"], Tag("#fail")] | Annotated[SkipChildErrors, Tag("#skip")],
    by_kind(_child_error_kind, '`fail`, or an object such as {"skip_up_to": 10}'),
]


class HttpSettings(FileModel):
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
    requests_per_second: (
        Annotated[float, PlainValidator(_check_rate), _above_zero_schema(10_000)] | None
    ) = Field(
        default=None,
        description="How many requests may start in any second, over the whole run. No limit if "
        "left out.",
    )
    max_concurrency: Annotated[
        int, PlainValidator(lambda value: _check_count_up_to(value, 256)), _from_one_schema(256)
    ] = Field(
        default=8,
        description="How many requests may be under way at once, over the whole run: for pages ahead "
        "of those that are read, below several parents, for several resources. With 1, requests "
        "are sent one by one, in order.",
    )
    max_pages: Annotated[
        int,
        PlainValidator(lambda value: _check_count_up_to(value, 100_000_000)),
        _from_one_schema(100_000_000),
    ] = Field(
        default=100_000,
        description="How many pages one call may have before paging is taken for endless.",
    )
    allowed_hosts: Annotated[
        tuple[str, ...],
        PlainValidator(_check_hosts),
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


_RESOURCE_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"})


class Client(FileModel):
    """What all endpoints of the API have in common."""

    base_url: Text = Field(
        description="The URL that all paths start with, such as `https://api.example.com/v1`."
    )
    headers: dict[str, Text] | None = Field(
        default=None, description="Headers that go with every request."
    )
    auth: Auth | None = Field(
        default=None, description="How requests are authenticated. Left out, they are not."
    )
    paginator: Paginator | None = Field(
        default=None, description="How pages follow one another. Left out, dlt finds out."
    )
    session: PythonOnly = Field(default=None, description="Python only; leave it out.")


class ResourceBase(TableHints):
    """What resources and their defaults have in common."""

    selected: Flag | None = Field(
        default=True,
        description="`false`: asked for only because dependents need it, not loaded itself.",
    )
    parallelized: Flag | None = Field(
        default=False,
        description="dlt's; it changes nothing here. Requests are sent side by side whatever it says, "
        "as many as `http.max_concurrency` allows.",
    )
    include_from_parent: list[Text] | None = Field(
        default=None, description="Fields of the parent's row to copy into each row."
    )
    mode: WriteMode | None = Field(
        default="auto",
        description="Not dlt's. How rows are written: `auto` as columns, which is several times "
        "faster, where that leads to the same tables, else one by one; `columnar` the same, with "
        "nested values as JSON unless `nested` says otherwise; `rows` always one by one.",
    )
    nested: Literal["json", "tables"] | None = Field(
        default=None,
        description="Not dlt's. Lists of a row as `tables` of their own, or all nested values as "
        "`json` columns, which `max_table_nesting: 0` says, too.",
    )
    processing_steps: list[PythonOnly] = Field(
        default=[], description="Python only; leave it out.", max_length=0
    )


class ResourceDefaults(ResourceBase):
    """Fields that all resources have unless they say otherwise.

    `params` and `json` are merged key by key, `columns` column by column; anything else that a
    resource gives replaces the default.
    """

    endpoint: EndpointDefaults = Field(
        default=EndpointDefaults(), description="Defaults of all endpoints."
    )


def _endpoint_kind(value: Any) -> str | None:
    return "#path" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


class ResourceObject(ResourceBase):
    """One kind of thing that the API knows; it becomes one table and one asset."""

    name: Annotated[Text, _RESOURCE_NAME_SCHEMA] = Field(
        description="The resource's name: letters, digits, `_`, `-` and `.`. The table and the "
        "asset are called so."
    )
    endpoint: Annotated[
        Annotated[Text, Tag("#path")] | Annotated[Endpoint, Tag("#object")],
        by_kind(_endpoint_kind, "a path, or an object"),
    ] = Field(
        default=Endpoint(),
        description="The endpoint, or just its path. Left out, the path is the resource's name.",
    )
    backfill: BackfillBlock | None = Field(
        default=None,
        description="The history to load in windows beside the live stream. Not dlt's; for "
        "incremental resources whose cursor is a time.",
    )


def _resource_kind(value: Any) -> str | None:
    return "#name" if isinstance(value, str) else "#object" if isinstance(value, dict) else None


ResourceOrName = Annotated[
    Annotated[Text, Tag("#name"), _RESOURCE_NAME_SCHEMA]
    | Annotated[ResourceObject, Tag("#object")],
    by_kind(_resource_kind, "the name of a resource, or an object"),
]

CONNECTOR_NAME_PATTERN = "[a-z][a-z0-9_]{0,63}"
"""The pattern of a connector's name."""
_OWNER_PATTERN = re.compile(
    r"team:.+|\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}\b", re.DOTALL
)
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_RESERVED_TAGS = ("dagster/", "restsource/")


def _matching_pattern(pattern: str | re.Pattern[str], expected: str) -> PlainValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            refuse_type(expected)
        return value if re.fullmatch(pattern, value) else refuse_value(expected)

    return PlainValidator(check)


def _check_tags(value: Any) -> Any:
    if not isinstance(value, dict):
        refuse_type("an object of texts")
    for key, text in value.items():
        fine = _TAG_KEY.fullmatch(key) and isinstance(text, str) and _TAG_VALUE.fullmatch(text)
        if not fine or key.startswith(_RESERVED_TAGS):
            message = (
                "A tag has a key and a text of letters, digits, `_`, `-` and `.`, up to 63 "
                "characters; keys may have one prefix, but not `dagster/` or `restsource/`"
            )
            raise PydanticCustomError("rule", "{text}", {"field": key, "text": message})
    return value


class ConnectorFile(FileModel):
    """One connector: an API, what to load from it, and when.

    `client`, `resource_defaults` and `resources` are dlt's `rest_api` configuration.
    """

    model_config = ConfigDict(title="Connector", serialize_by_alias=True)

    schema_: Text | None = Field(
        default=None, alias="$schema", description="The JSON Schema, for editors."
    )
    name: (
        Annotated[
            str,
            _matching_pattern(
                CONNECTOR_NAME_PATTERN,
                "a small letter, then small letters, digits and underscores, up to 64",
            ),
            WithJsonSchema({"type": "string", "pattern": f"^{CONNECTOR_NAME_PATTERN}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="The connector's name; the file's name without its ending if left out. "
        "Assets, job, schedule, pipeline and dataset are called after it.",
    )
    description: Text | None = Field(default=None, description="A text for people.")
    owners: list[
        Annotated[
            str,
            _matching_pattern(_OWNER_PATTERN, "an e-mail address, or `team:` and a name"),
            WithJsonSchema({"type": "string", "pattern": "^(team:.+|.+@.+)$"}),
        ]
    ] = Field(default=[], description="Who looks after it: e-mail addresses, or `team:data`.")
    tags: Annotated[
        dict[str, str],
        PlainValidator(_check_tags),
        WithJsonSchema(
            {
                "type": "object",
                "propertyNames": {
                    "pattern": "^(?!dagster/|restsource/)"
                    "([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$"
                },
                "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,63}$"},
            }
        ),
    ] = Field(default={}, description="Labels for Dagster's UI, such as `tier`: `gold`.")
    created_at: Moment | None = Field(
        default=None,
        description="The moment from which the schedule counts. When the file was first seen, if "
        "left out. UTC unless it names a time zone.",
    )
    schedule: Schedule = Field(description="When the connector runs by itself.")
    http: HttpSettings = Field(default_factory=HttpSettings, description="How requests behave.")
    client: Client = Field(description="What all endpoints of the API have in common.")
    resource_defaults: ResourceDefaults | None = Field(
        default=None, description="Fields that all resources have unless they say otherwise."
    )
    resources: list[ResourceOrName] = Field(
        description="What to load: each becomes a table and an asset.",
        json_schema_extra={"minItems": 1},
    )
