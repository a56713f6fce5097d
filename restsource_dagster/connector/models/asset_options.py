"""What an asset has in Dagster: owners, tags, kinds, and when Dagster's automation materializes it.

This block is not part of dlt's configuration.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from restsource_dagster.connector.models.fields import (
    FileModel,
    refuse_type,
    refuse_value,
    word_or_object,
)

__all__ = ["AssetOptions", "CronAutomation", "Owner", "Tags", "matching_pattern"]

# The patterns of owners and tags are Dagster's own checks: it refuses them only when the code location loads.
_OWNER_PATTERN = re.compile(
    r"team:.+|\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}\b", re.DOTALL
)
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
# Dagster acts on its own tags, for example on a priority or a concurrency key.
_RESERVED_TAGS = ("dagster/", "restsource/")
_MOST_KINDS = 3
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def matching_pattern(pattern: str | re.Pattern[str], expected: str) -> PlainValidator:
    """Return the validator of a text that matches a pattern as a whole; `expected` says it in words."""

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


def _check_kinds(value: Any) -> Any:
    expected = "a list of one to three words, such as `rest` and `gold`"
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        refuse_type(expected)
    is_word = all(re.fullmatch(r"[a-z0-9_-]{1,40}", one) for one in value)
    # https://docs.dagster.io/guides/build/assets/metadata-and-tags/kind-tags
    return value if 1 <= len(value) <= _MOST_KINDS and is_word else refuse_value(expected)


def _check_cron(value: Any) -> Any:
    expected = "five fields of numbers: minute, hour, day, month, weekday, such as `0 6 * * *`"
    if not isinstance(value, str):
        refuse_type(expected)
    fields = value.split()
    if len(fields) != len(_CRON_RANGES):
        refuse_value(expected)
    for text, (least, most) in zip(fields, _CRON_RANGES, strict=True):
        parts = [re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", p) for p in text.split(",")]
        numbers = [int(n) for found in parts if found for n in found.groups() if n]
        if not all(parts) or any(not least <= n <= most for n in numbers):
            refuse_value(expected)
    return value


Owner = Annotated[
    str,
    matching_pattern(_OWNER_PATTERN, "an e-mail address, or `team:` and a name"),
    WithJsonSchema({"type": "string", "pattern": "^(team:.+|.+@.+)$"}),
]
Tags = Annotated[
    dict[str, str],
    PlainValidator(_check_tags),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {
                "pattern": "^(?!dagster/|restsource/)([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}$"
            },
            "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{0,63}$"},
        }
    ),
]
Kinds = Annotated[
    list[str],
    PlainValidator(_check_kinds),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z0-9_-]{1,40}$"},
            "minItems": 1,
            "maxItems": _MOST_KINDS,
        }
    ),
]


class CronAutomation(FileModel):
    """Materializes the asset once after each tick, when its parents are materialized."""

    on_cron: Annotated[str, PlainValidator(_check_cron), WithJsonSchema({"type": "string"})] = (
        Field(description="The ticks, as five fields of a cron schedule in UTC: `0 6 * * *`.")
    )


Automation = Annotated[
    Annotated[Literal["eager"], Tag("#word")] | Annotated[CronAutomation, Tag("#object")],
    word_or_object('`eager`, or an object such as {"on_cron": "0 6 * * *"}'),
]


class AssetOptions(FileModel):
    """What the asset of a resource has in Dagster beside the rest."""

    owners: list[Owner] | None = Field(
        default=None, description="The owners, in place of those of the connector."
    )
    tags: Tags | None = Field(default=None, description="Labels beside those of the connector.")
    kinds: Kinds | None = Field(
        default=None,
        description="At most three kinds, which the UI shows as icons, in place of `dlt` and the destination.",
    )
    automation_condition: Automation | None = Field(
        default=None,
        description="When Dagster's automation materializes the asset, beside the schedule. `eager`: when "
        "an asset that it depends on was materialized. Its sensor has to be switched on in Dagster.",
    )
