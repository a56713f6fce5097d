"""A token of the API in place of a cursor: it says what a run has seen, and the next run sends it."""

from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from restsource_dagster.connector.models.fields import (
    FileModel,
    SingleValuePath,
    Text,
    refuse_type,
    refuse_value,
)

__all__ = ["TOKEN_PLACEHOLDER", "SyncToken"]

TOKEN_PLACEHOLDER = "{incremental.token"  # noqa: S105 - the beginning of a placeholder
"""The beginning of the placeholder of a token."""
_FIRST_ERROR, _LAST_ERROR = 400, 599


def _check_status(value: object) -> int:
    expected = f"a status code of an error, from {_FIRST_ERROR} to {_LAST_ERROR}, such as 410"
    if isinstance(value, bool) or not isinstance(value, int):
        refuse_type(expected)
    return value if _FIRST_ERROR <= value <= _LAST_ERROR else refuse_value(expected)


ErrorStatus = Annotated[
    int,
    PlainValidator(_check_status),
    WithJsonSchema({"type": "integer", "minimum": _FIRST_ERROR, "maximum": _LAST_ERROR}),
]


class SyncToken(FileModel):
    """A token in place of a cursor: each run sends the token of the last one, and gets what changed since.

    The token is stored together with the rows. Without `token_param` and without the placeholder
    `{incremental.token}` the token is a link, which the next run requests in place of path and params.
    Not part of dlt's configuration.
    """

    token_path: SingleValuePath = Field(
        description="JSON path of the token in an answer, such as `$.nextSyncToken`. The last one of a run is "
        "stored; an answer without one, or with null, leaves the one before."
    )
    token_param: Text | None = Field(
        default=None,
        description="The query parameter that sends the token. `{incremental.token}` sends it elsewhere: in "
        "a param, a header or the body, which is left out as long as there is no token.",
        min_length=1,
    )
    first_run_params: list[Text] = Field(
        default=[],
        description="The names of params that are sent only as long as there is no token, such as "
        "`start_time`.",
    )
    reset_on: list[ErrorStatus] = Field(
        default=[],
        description="Statuses with which the API refuses a token, such as `[410]`: then all rows are loaded "
        "without a token, and replace those in the table.",
    )
