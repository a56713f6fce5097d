"""What we added to dlt's resources: taken out of what is handed to dlt, which would refuse it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

__all__ = ["MODE_FIELDS", "without_own_fields"]

MODE_FIELDS = ("mode", "nested")
"""How the rows of a resource are written; also allowed in `resource_defaults`."""


def without_own_fields(source: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of dlt's part of a file without the fields that dlt doesn't know."""
    copy: dict[str, Any] = deepcopy(dict(source))
    for resource in (copy.get("resource_defaults"), *copy.get("resources", ())):
        if isinstance(resource, dict):
            for name in ("backfill", *MODE_FIELDS):
                resource.pop(name, None)
    return copy
