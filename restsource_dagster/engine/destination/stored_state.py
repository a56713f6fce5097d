"""The state and the schema that count are the last ones written, whatever the clocks say.

dlt stores a state with each load, and a schema when it changes, and takes for the newest the one
with the latest time of the machine that wrote it. After a run whose clock was ahead, all later runs
would begin at its cursors, and append the rows since then again and again. Both carry a version that
grows by one with each change. This module removes what dlt would take for newer and is not.
"""

import time
from datetime import UTC, datetime

import dlt
from dlt.common.schema import Schema

from restsource_dagster.engine.destination.tables import SqlClient
from restsource_dagster.engine.dlt_compat import (
    DatabaseUndefinedRelation,
    DestinationUndefinedEntity,
    SqlJobClientWithStagingDataset,
    WithStateSync,
)
from restsource_dagster.engine.errors import IngestError

__all__ = [
    "check_clock",
    "has_sql_tables",
    "let_schema_be_stored",
    "remove_outdated_schemas",
    "remove_outdated_states",
]


def has_sql_tables(pipeline: dlt.Pipeline) -> bool:
    """Return True if the destination's tables are those of a database, not files."""
    return issubclass(pipeline.destination.client_class, SqlJobClientWithStagingDataset)


def remove_outdated_states(client: SqlClient, pipeline: str, schema: Schema) -> None:
    """Remove states of a pipeline that were written before the last one and look newer.

    `client` is connected. Call it before dlt restores the state. States of loads that did not complete never count.
    """
    states = client.make_qualified_table_name(schema.state_table_name)
    loads = client.make_qualified_table_name(schema.loads_table_name)
    complete = (
        f"FROM {states} AS s JOIN {loads} AS l ON l.load_id = s._dlt_load_id "
        "WHERE s.pipeline_name = %s AND l.status = 0"
    )
    try:
        newest = client.execute_sql(f"SELECT max(s.version) {complete}", pipeline)
    except DatabaseUndefinedRelation:  # no load has stored a state yet
        return
    version = newest[0][0] if newest else None
    if version is None:
        return
    outdated = client.execute_sql(
        f"SELECT s._dlt_load_id {complete} AND s.version < %s AND s._dlt_load_id > "
        f"(SELECT max(s._dlt_load_id) {complete} AND s.version = %s)",
        *(pipeline, version, pipeline, version),
    )
    for (load_id,) in outdated or ():
        client.execute_sql(
            f"DELETE FROM {states} WHERE pipeline_name = %s AND _dlt_load_id = %s",  # noqa: S608 - dlt quotes it
            *(pipeline, load_id),
        )


def remove_outdated_schemas(client: SqlClient, schema: Schema) -> None:
    """Remove versions of a schema that were written before the last one and look newer."""
    table = client.make_qualified_table_name(schema.version_table_name)
    of_schema = f"FROM {table} WHERE schema_name = %s"
    try:
        newest = client.execute_sql(f"SELECT max(version) {of_schema}", schema.name)
    except DatabaseUndefinedRelation:
        return
    version = newest[0][0] if newest else None
    if version is None:
        return
    outdated = client.execute_sql(
        f"SELECT version_hash {of_schema} AND version < %s AND inserted_at >= "
        f"(SELECT max(inserted_at) {of_schema} AND version = %s)",
        *(schema.name, version, schema.name, version),
    )
    for (version_hash,) in outdated or ():
        client.execute_sql(
            f"DELETE {of_schema} AND version_hash = %s AND version < %s",
            *(schema.name, version_hash, version),
        )


def let_schema_be_stored(client: SqlClient, schema: Schema) -> None:
    """Remove an older version that equals the schema, so that dlt stores the schema as the newest.

    dlt stores no schema whose content it has stored before. One that a setting was added to and taken
    out of again would be restored with the setting. Call it right before the load.
    """
    table = client.make_qualified_table_name(schema.version_table_name)
    try:
        client.execute_sql(
            f"DELETE FROM {table} WHERE schema_name = %s AND version_hash = %s AND version < "  # noqa: S608 - dlt quotes it
            f"(SELECT max(version) FROM {table} WHERE schema_name = %s)",
            *(schema.name, schema.stored_version_hash, schema.name),
        )
    except DatabaseUndefinedRelation:
        return


def check_clock(pipeline: dlt.Pipeline, now: float | None = None) -> None:
    """Raise `IngestError` if a state written to files now would not count as the newest.

    `now` is a Unix time; the machine's if left out.
    """
    with pipeline.destination_client() as client:
        if not isinstance(client, WithStateSync):
            return
        try:
            stored = client.get_stored_state(pipeline.pipeline_name)
        except DestinationUndefinedEntity:  # no load has stored a state yet
            return
    if stored is None or stored._dlt_load_id is None:
        return
    written = float(stored._dlt_load_id)  # dlt names a load by its time
    if written >= (time.time() if now is None else now):
        moment = datetime.fromtimestamp(written, UTC).isoformat(timespec="seconds")
        raise IngestError(
            f"the last load was stored at {moment}, which is later than the clock of this machine. "
            "A load now would not count as the last one, and rows would be loaded twice. Set the "
            "clock right, or run after that time"
        )
