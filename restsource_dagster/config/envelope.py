"""The envelope of a connector file: who, when and how; dlt's own part is in `rest_api`."""

import re
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.config.fields import Part, Text, not_this, not_valid
from restsource_dagster.config.http import HttpSettings
from restsource_dagster.config.rest_api import Client, ResourceDefaults, ResourceOrName
from restsource_dagster.config.schedule import Moment, Schedule

__all__ = ["NAME", "ConnectorFile"]

NAME = "[a-z][a-z0-9_]{0,63}"
"""The pattern of a connector's name."""
_OWNER = re.compile(r"team:.+|\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}\b", re.DOTALL)
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_RESERVED_TAGS = ("dagster/", "restsource/")


def _matching(pattern: str | re.Pattern[str], expected: str) -> PlainValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            not_this(expected)
        return value if re.fullmatch(pattern, value) else not_valid(expected)

    return PlainValidator(check)


def _tags(value: Any) -> Any:
    if not isinstance(value, dict):
        not_this("an object of texts")
    for key, text in value.items():
        fine = _TAG_KEY.fullmatch(key) and isinstance(text, str) and _TAG_VALUE.fullmatch(text)
        if not fine or key.startswith(_RESERVED_TAGS):
            message = (
                "A tag has a key and a text of letters, digits, `_`, `-` and `.`, up to 63 "
                "characters; keys may have one prefix, but not `dagster/` or `restsource/`"
            )
            raise PydanticCustomError("rule", "{text}", {"field": key, "text": message})
    return value


class ConnectorFile(Part):
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
            _matching(NAME, "a small letter, then small letters, digits and underscores, up to 64"),
            WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"}),
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
            _matching(_OWNER, "an e-mail address, or `team:` and a name"),
            WithJsonSchema({"type": "string", "pattern": "^(team:.+|.+@.+)$"}),
        ]
    ] = Field(default=[], description="Who looks after it: e-mail addresses, or `team:data`.")
    tags: Annotated[
        dict[str, str],
        PlainValidator(_tags),
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
