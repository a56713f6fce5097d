"""The connector file: its own fields, `http`, and dlt's `rest_api` configuration.

`client`, `resource_defaults` and `resources` are dlt's, as far as JSON can express them. The
other fields, such as `schedule` and `http`, are not part of dlt's configuration.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#source-configuration
"""

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, Tag, WithJsonSchema

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
    refuse_type,
    refuse_value,
    text_or_object,
    word_or_object,
)
from restsource_dagster.connector.models.http_settings import HttpSettings, ResourceHttp
from restsource_dagster.connector.models.paginators import Paginator
from restsource_dagster.connector.models.processing_steps import ProcessingStep
from restsource_dagster.connector.models.schedule import Moment, Schedule
from restsource_dagster.connector.models.table_hints import TableHints

__all__ = [
    "CONNECTOR_NAME_PATTERN",
    "ChildRows",
    "Children",
    "Client",
    "ConnectorFile",
    "RenameFrom",
    "ResourceDefaults",
    "ResourceObject",
    "ResourceOrName",
    "Tls",
    "WriteMode",
]

WriteMode = Literal["auto", "columnar", "rows"]
"""How rows are written: one by one by dlt, or as columns where the tables come out the same."""

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
