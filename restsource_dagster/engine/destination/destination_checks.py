"""What `restsource check` says of a connector whose destination is known; needs no connection."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dlt.common.destination import AnyDestination

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.engine.destination.merge_sql import destination_refusals
from restsource_dagster.engine.destination.replace_rows import can_replace_rows

__all__ = ["DestinationProblem", "find_destination_problems"]


@dataclass(frozen=True)
class DestinationProblem:
    """Something that a resource asks for and its destination can't do."""

    resource: Resource
    message: str
    severity: Literal["error", "warning"] = "error"


def find_destination_problems(
    destination: AnyDestination, connector: Connector
) -> Iterator[DestinationProblem]:
    """Yield what a run would refuse, by the rules that it calls itself."""
    for resource in connector.resources:
        for refusal in destination_refusals(destination, resource):
            yield DestinationProblem(resource, refusal)
        if (
            resource.backfill is not None
            and resource.disposition.value == "append"
            and not can_replace_rows(destination)
        ):
            yield DestinationProblem(
                resource,
                "a window of its backfill replaces rows in one transaction, and "
                f"{destination.destination_name} has none: such windows fail. With a "
                '"primary_key" the rows are merged',
                "warning",
            )
