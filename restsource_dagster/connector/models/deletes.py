"""How rows that the API no longer has leave the table: what says so, and what becomes of them."""

import re
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, WithJsonSchema

from restsource_dagster.connector.models.fields import refuse_value
from restsource_dagster.connector.models.processing_steps import check_jq

__all__ = ["DELETED_AT", "DeletedWhen", "OnDelete"]

DELETED_AT = "_deleted_at"
"""The column with the start of the run that found a row deleted; null in all others."""

OnDelete = Literal["remove", "mark"]

_BARE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def _check_condition(value: Any) -> Any:
    # jq would say that a function of this name is not defined
    if isinstance(value, str) and _BARE_NAME.fullmatch(value) and value not in ("true", "false"):
        refuse_value(f"a jq program: `.{value}` for the field")
    return check_jq(value)


DeletedWhen = Annotated[str, PlainValidator(_check_condition), WithJsonSchema({"type": "string"})]
"""A jq condition on a record as it is loaded."""
