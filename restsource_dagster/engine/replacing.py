"""Loads that put rows in the place of others, in one transaction: nobody ever sees half of it.

dlt replaces whole tables, and rows by their key. What is appended has no key; here its rows are
replaced by their cursor, or all of them. The new rows go into dlt's staging dataset first. Then one
transaction deletes the old ones, with what is nested in them, and takes over the new ones. A run
that dies before it leaves the old rows; one that dies after it, the new ones.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, cast

import dlt
from dlt.common.destination import AnyDestination, Destination
from dlt.common.destination.client import FollowupJobRequest, LoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.common.schema.utils import get_root_table
from dlt.common.storages import FileStorage
from dlt.destinations.job_client_impl import SqlJobClientWithStagingDataset, SqlLoadJob
from dlt.destinations.sql_jobs import SqlStagingCopyFollowupJob

from restsource_dagster.engine.connected import connected
from restsource_dagster.engine.ranges import Replacement, SqlClient, deletions

__all__ = ["Replacements", "can_replace", "replace_with_nothing", "replacing"]

Replacements = Mapping[str, Replacement]
"""By the name of the root table, as the destination has it."""


def replacing(destination: "str | AnyDestination", replacements: Replacements) -> AnyDestination:
    """The same destination, whose loads obey `replacements`, read at the moment of each load.

    It makes a difference only where `can_replace` says so.
    """
    made = cast("AnyDestination", Destination.from_reference(destination))
    kind = type(made)
    client = _client_class(made.client_class, replacements)
    # dlt names a destination by its class: what it stores must not change
    like = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    parts = {"client_class": client, "capabilities": _asked_once(kind.capabilities)}
    subclass = type(kind.__name__, (kind,), {**like, **parts})
    changed = copy(made)
    changed.__class__ = subclass
    return changed


def _asked_once(ask: Callable[..., Any]) -> Callable[..., Any]:
    """What a destination is capable of, found out once.

    dlt asks dozens of times in each load, and resolves the whole configuration for each answer.
    """
    known: dict[Any, Any] = {}

    def capabilities(self: Any, config: Any = None, naming: Any = None) -> Any:
        if config is not None:
            return ask(self, config, naming)
        key = naming and (type(naming), naming.max_length)
        if key not in known:
            known[key] = ask(self, None, naming)
        return known[key].copy()  # some who ask change it

    return capabilities


def can_replace(destination: AnyDestination) -> bool:
    """Whether the destination is an SQL database with transactions."""
    capabilities = destination.capabilities()
    return bool(
        issubclass(destination.client_class, _ReplacingClient)
        and capabilities.supports_transactions
    )


class _ReplacingJob(SqlLoadJob):
    """dlt's statements that take over staged rows, after those that make room for them."""

    def __init__(self, file_path: str, replacement: Replacement) -> None:
        super().__init__(file_path)
        self._replacement = replacement

    def run(self) -> None:
        client = self._job_client.sql_client
        with FileStorage.open_zipsafe_ro(self._file_path, "r", encoding="utf-8") as file:
            statements = self._split_fragments(file.read())
        main = self._job_client.config.normalize_dataset_name(self._schema)
        # dlt has switched to the staging dataset here
        with client.with_alternative_dataset_name(main):
            old = deletions(client, self._schema, self._replacement)
        with client.begin_transaction():
            for statement in old:
                client.execute_sql(statement.sql, *statement.values)
            client.execute_many(statements)


class _ReplacingClient(SqlJobClientWithStagingDataset):
    replacements: ClassVar[Replacements] = {}

    def should_load_data_to_staging_dataset(self, table_name: str) -> bool:
        root = get_root_table(self.schema.tables, table_name)["name"]
        return root in self.replacements or super().should_load_data_to_staging_dataset(table_name)

    def _create_append_followup_jobs(
        self, table_chain: Sequence[PreparedTableSchema]
    ) -> list[FollowupJobRequest]:
        if table_chain[0]["name"] in self.replacements:
            return [SqlStagingCopyFollowupJob.from_table_chain(table_chain, self.sql_client)]
        return super()._create_append_followup_jobs(table_chain)

    def create_load_job(
        self, table: PreparedTableSchema, file_path: str, load_id: str, restore: bool = False
    ) -> LoadJob:
        if SqlLoadJob.is_sql_job(file_path) and table["name"] in self.replacements:
            return _ReplacingJob(file_path, self.replacements[str(table["name"])])
        return super().create_load_job(table, file_path, load_id, restore)


def _client_class(base: type[Any], replacements: Replacements) -> type[Any]:
    if not issubclass(base, SqlJobClientWithStagingDataset):
        return base
    parts = {"replacements": replacements, "__module__": base.__module__}
    return type(base.__name__, (_ReplacingClient, base), parts)


def replace_with_nothing(
    pipeline: dlt.Pipeline, client: SqlClient | None, replacements: Replacements
) -> None:
    """Delete what the load that comes next replaces with no rows at all: dlt has no job for it."""
    if client is None or not replacements:
        return
    schema = pipeline.default_schema
    jobs = (
        job.job_file_info.table_name
        for load_id in pipeline.list_normalized_load_packages()
        for job in pipeline.get_load_package_info(load_id).jobs["new_jobs"]
    )
    filled = {get_root_table(schema.tables, table)["name"] for table in jobs}
    for table in replacements.keys() - filled:
        with connected(client):
            old = deletions(client, schema, replacements[table])
            with client.begin_transaction():
                for statement in old:
                    client.execute_sql(statement.sql, *statement.values)
