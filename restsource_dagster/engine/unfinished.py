"""Changes of a cursor whose load died between the rows and the cursor.

A full refresh, or a cursor that is set back, replaces rows of an appended table and moves the cursor
in one load. dlt can't do both in one transaction: if the run dies in between, the table is new and
the cursor old, and the next run would append rows that are there. So the change is written down
before the load; if the load did not complete, the next run makes the change again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlt.destinations.exceptions import DatabaseUndefinedRelation

from restsource_dagster.engine.connected import connected
from restsource_dagster.engine.ranges import SqlClient

__all__ = ["CHANGES_TABLE", "Change", "forget_changes", "note_changes", "read_unfinished"]

CHANGES_TABLE = "_restsource_changes"
"""In each dataset: the changes of cursors under way, one row each."""

Change = Mapping[str, Any]
"""`{"refresh": true}` or `{"set": value}`."""


def note_changes(
    client: SqlClient | None, load_ids: Sequence[str], changes: Mapping[str, Change]
) -> None:
    """Write down what a load is about to change, by resource."""
    if client is None or not load_ids or not changes:
        return
    with connected(client):
        if not client.has_dataset():
            client.create_dataset()
        name = client.make_qualified_table_name(CHANGES_TABLE)
        with client.begin_transaction():
            client.execute_sql(
                f"CREATE TABLE IF NOT EXISTS {name} (load_id VARCHAR(64) NOT NULL, "
                "resource VARCHAR(1024) NOT NULL, change VARCHAR(4096) NOT NULL)"
            )
            for resource, change in changes.items():
                client.execute_sql(
                    f"INSERT INTO {name} (load_id, resource, change) VALUES (%s, %s, %s)",  # noqa: S608 - dlt quotes it
                    load_ids[0],
                    resource,
                    json.dumps(change, default=str),
                )


def forget_changes(client: SqlClient | None, resources: Iterable[str]) -> None:
    """Cross out the changes of these resources: their load completed."""
    names = list(resources)
    if client is None or not names:
        return
    with connected(client):
        name = client.make_qualified_table_name(CHANGES_TABLE)
        for resource in names:
            client.execute_sql(f"DELETE FROM {name} WHERE resource = %s", resource)  # noqa: S608 - dlt quotes it


def read_unfinished(client: SqlClient | None, loads_table: str) -> dict[str, Change]:
    """The changes, by resource, whose load did not complete. `loads_table` is dlt's."""
    if client is None:
        return {}
    with connected(client):
        name = client.make_qualified_table_name(CHANGES_TABLE)
        loads = client.make_qualified_table_name(loads_table)
        try:
            noted = client.execute_sql(f"SELECT load_id, resource, change FROM {name}")  # noqa: S608 - dlt quotes it
        except DatabaseUndefinedRelation:
            return {}
        if not noted:
            return {}
        done = client.execute_sql(f"SELECT load_id FROM {loads} WHERE status = 0")  # noqa: S608 - dlt quotes it
    complete = {row[0] for row in done or ()}
    return {
        resource: json.loads(text)
        for load_id, resource, text in sorted(noted, key=tuple)
        if load_id not in complete
    }
