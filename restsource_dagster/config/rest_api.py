"""dlt's `rest_api` configuration, as far as JSON can say it: client, defaults, resources.

https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic#source-configuration
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, WithJsonSchema

from restsource_dagster.config.auth import Auth
from restsource_dagster.config.backfill import BackfillBlock
from restsource_dagster.config.endpoint import Endpoint, EndpointDefaults
from restsource_dagster.config.fields import Flag, Nothing, Part, Text, by_kind
from restsource_dagster.config.hints import TableHints
from restsource_dagster.config.paginators import Paginator
from restsource_dagster.config.resources import Mode

_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"})

__all__ = ["Client", "ResourceDefaults", "ResourceObject", "ResourceOrName"]


class Client(Part):
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
    session: Nothing = Field(default=None, description="Python only; leave it out.")


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
    mode: Mode | None = Field(
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
    processing_steps: list[Nothing] = Field(
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

    name: Annotated[Text, _NAME_SCHEMA] = Field(
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
    Annotated[Text, Tag("#name"), _NAME_SCHEMA] | Annotated[ResourceObject, Tag("#object")],
    by_kind(_resource_kind, "the name of a resource, or an object"),
]
