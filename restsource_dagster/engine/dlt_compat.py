"""Every name of dlt that its guides don't document and that the engine uses.

dlt's guides are https://dlthub.com/docs without the API reference. What they don't show may change
in any release, so it is imported here and nowhere else. Each entry says why the engine needs it and
what happens without it:

- Names in the first block are needed by every run. Without one of them this module raises
  `UnsupportedDltError`, which names the version of dlt and what it lacks.
- A feature that a run can do without has a block of its own. Without one of its names dlt_compat
  still imports, and the use of that name raises `UnsupportedDltError`; the feature catches it.
- Fallbacks stand beside the names that they replace.

`UNDOCUMENTED_ATTRIBUTES` lists methods and attributes of documented classes. The tests of this
module check each name, so an upgrade of dlt fails there first.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from dlt import __version__ as dlt_version
from dlt.common.pipeline import NormalizeInfo
from dlt.common.schema import Schema

from restsource_dagster.engine.errors import IngestError

__all__ = [
    "NON_RECORD_KEY_PATTERNS",
    "RECORD_KEY_PATTERNS",
    "UNDOCUMENTED_ATTRIBUTES",
    "ConfigSectionContext",
    "ConfigurationException",
    "Container",
    "DataItemNormalizer",
    "DatabaseUndefinedRelation",
    "DestinationException",
    "DestinationTerminalException",
    "DestinationTransientException",
    "DestinationUndefinedEntity",
    "DuckDbClient",
    "DuckDbClientConfiguration",
    "FollowupJobRequest",
    "HasFollowupJobs",
    "JobClientBase",
    "JsonLItemsNormalizer",
    "LoadJob",
    "NormalizeConfiguration",
    "PackageStorage",
    "PaginatorFactory",
    "ParsedLoadJobFileName",
    "PluggableRunContext",
    "PreparedTableSchema",
    "ResolvedParam",
    "RunnableLoadJob",
    "RuntimeConfiguration",
    "SqlClientBase",
    "SqlClientNotAvailable",
    "SqlJobClientWithStagingDataset",
    "SqlLoadJob",
    "SqlMergeFollowupJob",
    "SqlStagingCopyFollowupJob",
    "StateInjectableContext",
    "UndocumentedAttributes",
    "UnknownDestinationModule",
    "UnsupportedDltError",
    "WithStateSync",
    "apply_lag",
    "coerce_value",
    "column_identifier",
    "count_normalized_rows",
    "create_auth",
    "create_paginator",
    "detect_datetime_format",
    "dlt_version",
    "find_all_lists",
    "find_response_page_data",
    "get_context_timezone_name",
    "get_nested_tables",
    "get_py_arrow_datatype",
    "get_root_table",
    "inject_section",
    "is_complete_column",
    "is_nullable_column",
    "join_url",
    "json_normalizer",
    "jsonpath",
    "known_sections",
    "load_pipeline_state_from_destination",
    "normalize_table_identifiers",
    "pipeline_drop",
    "reset_resource_state",
    "resolve_column_value",
    "resolve_configuration",
    "single_entity_path",
    "stop_telemetry",
    "table_identifier",
]


class UnsupportedDltError(IngestError):
    """The installed version of dlt lacks a name that the engine needs."""

    def __init__(self, lacks: object) -> None:
        super().__init__(
            f"dlt {dlt_version} does not work with this version of restsource-dagster: {lacks}. "
            "Install a version of dlt that restsource-dagster names in its requirements."
        )


try:
    # Reads cursor paths, data selectors and parent fields, so that the engine finds the same values
    # as dlt does.
    from dlt.common import jsonpath

    # Reaches the contexts of a thread: the run context, and the destination's capabilities during
    # an extraction. dlt has no other way to ask for them.
    from dlt.common.configuration.container import Container

    # Raised for a destination without credentials. Such a destination has no SQL client.
    from dlt.common.configuration.exceptions import ConfigurationException

    # Restarts dlt's log and telemetry with the engine's defaults: dlt starts both on import. Without
    # these, telemetry would be sent although the default is off, so no run starts.
    from dlt.common.configuration.resolve import resolve_configuration
    from dlt.common.configuration.specs import RuntimeConfiguration
    from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

    # Tells whether dlt fits a value into a column, or makes a column for it.
    from dlt.common.data_types import coerce_value

    # Types of what load jobs take and return, and the classes of a job of one's own, which copies rows
    # into Postgres. `WithStateSync` tells a destination that stores dlt's schema and state from one that
    # doesn't.
    from dlt.common.destination.client import (
        FollowupJobRequest,
        HasFollowupJobs,
        JobClientBase,
        LoadJob,
        RunnableLoadJob,
        WithStateSync,
    )

    # Tell a table or dataset that does not exist yet from a failure of the destination, and a misspelt
    # destination from a driver that is missing.
    # A step of a load that raises it is not tried again: another run has taken over.
    from dlt.common.destination.exceptions import (
        DestinationException,
        DestinationTerminalException,
        DestinationTransientException,
        DestinationUndefinedEntity,
        SqlClientNotAvailable,
        UnknownDestinationModule,
    )
    from dlt.common.destination.typing import PreparedTableSchema

    # Name tables and columns as the extraction does: each part of a name with `__` by itself.
    from dlt.common.normalizers.json.helpers import (
        normalize_identifier as _normalize_identifier,
    )
    from dlt.common.normalizers.json.helpers import (
        normalize_table_identifier as _normalize_table_identifier,
    )

    # Stops the telemetry that dlt has started on import. See `RuntimeConfiguration` above.
    from dlt.common.runtime.telemetry import stop_telemetry

    # Find the tables nested in a table and the root of a nested one, as the load does; name the tables
    # and columns of a resource's hints as the extraction does.
    from dlt.common.schema.utils import (
        get_nested_tables,
        get_root_table,
        normalize_table_identifiers,
    )

    # Read the table's name from the name of a load file, and find the files of a load.
    from dlt.common.storages import PackageStorage, ParsedLoadJobFileName

    # The format in which `apply_lag` below returns a cursor value.
    from dlt.common.time import detect_datetime_format

    # Tells a table that does not exist yet from a failing statement.
    from dlt.destinations.exceptions import DatabaseUndefinedRelation

    # The destination, the client and the jobs that the engine extends to replace rows in one
    # transaction: see destination/replace_rows.py, which checks them before a row is written.
    from dlt.destinations.impl.duckdb.configuration import DuckDbClientConfiguration
    from dlt.destinations.impl.duckdb.duck import DuckDbClient
    from dlt.destinations.job_client_impl import SqlJobClientWithStagingDataset, SqlLoadJob
    from dlt.destinations.sql_client import SqlClientBase
    from dlt.destinations.sql_jobs import SqlMergeFollowupJob, SqlStagingCopyFollowupJob

    # Subtracts a cursor's `lag` as dlt does.
    from dlt.extract.incremental.lag import apply_lag

    # The value of a row's key, one or several columns.
    from dlt.extract.utils import resolve_column_value

    # Reads the live cursor that another pipeline of the same dataset has stored.
    from dlt.pipeline.state_sync import load_pipeline_state_from_destination

    # Guess the paginator and the data selector where the file names none: of a response, or of a path
    # that ends in an id.
    from dlt.sources.helpers.rest_client.detector import (
        NON_RECORD_KEY_PATTERNS,
        RECORD_KEY_PATTERNS,
        PaginatorFactory,
        find_all_lists,
        find_response_page_data,
        single_entity_path,
    )

    # Joins `base_url` and `path` the way that dlt documents for `rest_api`.
    from dlt.sources.helpers.rest_client.utils import join_url

    # Make auth, paginators and the fields that records take from their parent as `rest_api_source()`
    # does.
    from dlt.sources.rest_api.config_setup import (
        create_auth,
        create_paginator,
    )

    # The type of what a dependent resource takes from its parent's records.
    from dlt.sources.rest_api.typing import ResolvedParam
except ImportError as error:
    raise UnsupportedDltError(error) from error

_missing: list[ImportError] = []
"""The import errors of the features below."""

# Pages as columns (engine/columnar). Names, nesting, types and file names have to be those of dlt's
# own normalizer. Without them rows are loaded one by one: slower, the same tables.
try:
    from dlt.common.libs.pyarrow import get_py_arrow_datatype
    from dlt.common.normalizers.json import helpers as json_normalizer
    from dlt.common.normalizers.json.relational import DataItemNormalizer
    from dlt.common.schema.utils import is_complete_column, is_nullable_column
    from dlt.normalize.configuration import NormalizeConfiguration
    from dlt.normalize.items_normalizers import JsonLItemsNormalizer
except ImportError as error:
    _missing.append(error)

# The first page of the families that come next (engine/run/ingest.py), planned on a copy of
# a resource's state. Without these names each family asks for its first page in its turn.
try:
    from dlt.common.configuration.resolve import inject_section
    from dlt.common.configuration.specs import known_sections
    from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
    from dlt.common.pipeline import StateInjectableContext
    from dlt.extract.state import reset_resource_state
except ImportError as error:
    _missing.append(error)

# What `dlt pipeline drop` calls. Without it `restsource reset` fails with this error.
try:
    from dlt.pipeline.helpers import pipeline_drop
except ImportError as error:
    _missing.append(error)

# The time zone that dlt gives timestamps. dlt has one to choose since 1.31; before, it is always UTC.
try:
    from dlt.common.time import get_context_timezone_name
except ImportError:

    def get_context_timezone_name() -> str:
        """Return the IANA name of the time zone that dlt gives timestamps."""
        return "UTC"


if _missing and not TYPE_CHECKING:

    def __getattr__(name: str) -> NoReturn:
        """Raise `UnsupportedDltError` for a name of a feature that this version of dlt lacks."""
        if name in __all__:
            raise UnsupportedDltError("; ".join(map(str, _missing)))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def table_identifier(schema: Schema, name: str) -> str:
    """Return the table that dlt makes for a resource's table name, or a list's name in a nested one.

    The naming convention alone would fold `user__events` to `user_events`, which is another table.
    """
    return _normalize_table_identifier(schema, schema.naming, name)


def column_identifier(schema: Schema, name: str) -> str:
    """Return the column that dlt makes for a field's name."""
    return _normalize_identifier(schema, schema.naming, name)


def count_normalized_rows(info: NormalizeInfo) -> Mapping[str, int]:
    """Return the rows that dlt normalized, by table.

    `NormalizeInfo.row_counts` counts only some of a table's files before dlt 1.31: it groups files
    by table without sorting them. This sums the metrics of each file, which are right in all
    versions. A file is named after its table.
    """
    counts: Counter[str] = Counter()
    for packages in info.metrics.values():
        for package in packages:
            for file in package["job_metrics"].values():
                name = ParsedLoadJobFileName.parse(file.file_path)
                counts[name.table_name] += file.items_count
    return counts


@dataclass(frozen=True)
class UndocumentedAttributes:
    """Attributes of one class or module of dlt that its guides don't show."""

    owner: str
    """The class or module by its full name."""
    names: tuple[str, ...]
    why: str
    without: str
    """What happens if dlt renames or removes one."""


_NO_RUN = "every run fails with an AttributeError before rows are written"
_ROWS = "rows are loaded one by one, into the same tables"

UNDOCUMENTED_ATTRIBUTES = (
    UndocumentedAttributes(
        "dlt.common.jsonpath",
        ("compile_path", "extract_simple_field_name", "find_values"),
        "read cursor paths, data selectors and parent fields",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.configuration.container.Container",
        ("__getitem__", "injectable_context"),
        "reach the contexts of a thread",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.configuration.specs.pluggable_run_context.PluggableRunContext",
        ("context", "providers"),
        "restart dlt's log and telemetry with the engine's defaults, and set the number of workers",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.configuration.specs.config_providers_context.ConfigProvidersContainer",
        ("providers",),
        "keep an environment variable `WORKERS` of another program away from dlt",
        "a run with such a variable fails with an AttributeError before it makes a request",
    ),
    UndocumentedAttributes(
        "dlt.destinations.sql_jobs.SqlMergeFollowupJob",
        ("from_table_chain", "gen_upsert_merge_sql"),
        "merge without tombstones and rows that come twice",
        "dlt's own statement is used, which inserts tombstones",
    ),
    UndocumentedAttributes(
        "dlt.destinations.sql_jobs.SqlMergeFollowupJob",
        ("gen_merge_key_present_clause",),
        "compare the pairs of a merge key of several columns in scd2",
        "such a merge is refused: dlt's own statement mixes up the pairs",
    ),
    UndocumentedAttributes(
        "dlt.destinations.job_client_impl.SqlJobClientWithStagingDataset",
        (
            "_create_merge_followup_jobs",
            "_create_replace_followup_jobs",
            "create_load_job",
            "create_table_chain_completed_followup_jobs",
            "in_staging_dataset_mode",
            "initialize_storage",
            "prepare_load_table",
            "should_load_data_to_staging_dataset",
        ),
        "replace rows in one transaction, in one load or in several",
        "a load that replaces rows fails before it writes: see `check_row_replacement`",
    ),
    UndocumentedAttributes(
        "dlt.destinations.job_client_impl.SqlLoadJob",
        ("_file_path", "_job_client", "_schema", "is_sql_job"),
        "replace rows in one transaction",
        "a load that replaces rows fails before it writes: see `check_row_replacement`",
    ),
    UndocumentedAttributes(
        "dlt.common.destination.client.RunnableLoadJob",
        ("_file_path", "_job_client", "load_table_name"),
        "copy rows into Postgres",
        "a load into Postgres fails before it writes a row",
    ),
    UndocumentedAttributes(
        "dlt.destinations.sql_client.SqlClientBase",
        ("_make_database_exception", "execute_query", "native_connection", "open_connection"),
        "copy rows into Postgres, tell which errors may pass, and name who holds a lock",
        "a load into Postgres fails before it writes a row",
    ),
    UndocumentedAttributes(
        "dlt.destinations.impl.postgres.sql_client.Psycopg2SqlClient",
        ("credentials", "staging_dataset_name", "capabilities"),
        "give sessions in Postgres a name and limits",
        "a run into Postgres fails with an AttributeError before it writes a row",
    ),
    UndocumentedAttributes(
        "dlt.destinations.impl.filesystem.filesystem.FilesystemClient",
        ("dataset_path", "get_table_dir", "initialize_storage", "is_storage_initialized"),
        "find and remove the files of a killed load",
        "a run into files fails with an AttributeError before it writes a row",
    ),
    UndocumentedAttributes(
        "dlt.destinations.sql_jobs.SqlStagingCopyFollowupJob",
        ("from_table_chain", "generate_sql"),
        "copy the staged rows in the same transaction",
        "a load that replaces rows fails before it writes: see `check_row_replacement`",
    ),
    UndocumentedAttributes(
        "dlt.Pipeline",
        (
            "default_schema_name",
            "destination_client",
            "get_load_package_info",
            "list_normalized_load_packages",
            "sql_client",
            "sync_destination",
        ),
        "tell which tables a load touches, and talk to the destination beside it",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.extract.DltResource",
        ("compute_nested_table_schemas", "compute_table_schema"),
        "tell what the file says of a table from what the stored schema says",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.schema.Schema",
        (
            "data_item_normalizer",
            "data_tables",
            "from_dict",
            "get_table_columns",
            "loads_table_name",
            "naming",
            "resolve_contract_settings_for_table",
            "state_table_name",
            "stored_version_hash",
            "tables",
            "version_table_name",
        ),
        "name tables and columns as dlt does, and find the tables of a load",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.normalizers.naming.NamingConvention",
        ("PATH_SEPARATOR", "normalize_identifier"),
        "name tables and columns as dlt does",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.normalizers.json.helpers",
        (
            "get_root_row_id_type",
            "get_table_nesting_level",
            "is_nested_type",
            "shorten_fragments",
        ),
        "give columns the names and the nesting of dlt's normalizer",
        _ROWS,
    ),
    UndocumentedAttributes(
        "dlt.common.normalizers.json.relational.DataItemNormalizer",
        (
            "c_dlt_id",
            "c_dlt_list_idx",
            "c_dlt_load_id",
            "c_dlt_parent_id",
            "c_dlt_root_id",
            "c_value",
            "extend_table",
            "max_nesting",
        ),
        "name the columns that dlt adds to each table",
        _ROWS,
    ),
    UndocumentedAttributes(
        "dlt.normalize.items_normalizers.JsonLItemsNormalizer",
        ("_normalize_chunk",),
        "let a schema learn from rows without writing them",
        _ROWS,
    ),
    UndocumentedAttributes(
        "dlt.common.storages.PackageStorage",
        ("COMPLETED_JOBS_FOLDER", "NEW_JOBS_FOLDER", "build_job_file_name"),
        "add parquet files to a load package, and delete those of a complete one",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.storages.ParsedLoadJobFileName",
        ("new_file_id", "parse", "table_name"),
        "name load files, and read a table's name from one",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.common.destination.client.WithStateSync",
        ("get_stored_schema", "get_stored_state"),
        "read the schema that a first load left when it crashed, and when a state was written",
        "the first load after such a crash fails",
    ),
    UndocumentedAttributes(
        "dlt.destinations.sql_client.SqlClientBase",
        (
            "begin_transaction",
            "create_dataset",
            "escape_column_name",
            "execute_many",
            "execute_sql",
            "has_dataset",
            "make_qualified_table_name",
            "native_connection",
            "truncate_tables",
            "with_alternative_dataset_name",
            "with_staging_dataset",
        ),
        "count rows, note pending loads, delete replaced rows and drop constraints",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.sources.incremental",
        (
            "cursor_path",
            "end_value",
            "get_state",
            "initial_value",
            "lag",
            "last_value_func",
            "on_cursor_value_missing",
            "primary_key",
            "range_end",
            "range_start",
            "row_order",
            "start_value",
        ),
        "read the settings of a cursor, and give placeholders a cursor without dlt's state",
        _NO_RUN,
    ),
    UndocumentedAttributes(
        "dlt.sources.helpers.rest_client.paginators.RangePaginator",
        (
            "_has_next_page",
            "base_index",
            "current_value",
            "has_more_path",
            "initial_value",
            "maximum_value",
            "param_body_path",
            "param_name",
            "stop_after_empty_page",
            "total_path",
            "value_step",
        ),
        "end the paging at a total that can be trusted, and predict the pages to prefetch",
        "the resource fails with an AttributeError on its first page",
    ),
    UndocumentedAttributes(
        "dlt.sources.helpers.rest_client.paginators.OffsetPaginator",
        ("limit",),
        "advance the offset by the number of records that arrived",
        "the resource fails with an AttributeError on its first page",
    ),
    UndocumentedAttributes(
        "dlt.sources.helpers.rest_client.paginators.JSONLinkPaginator",
        ("_next_reference",),
        "treat an empty link as the last page",
        "the resource fails with an AttributeError on its first page",
    ),
    UndocumentedAttributes(
        "dlt.sources.helpers.rest_client.detector.PaginatorFactory",
        ("create_paginator",),
        "guess the paginator of a response",
        "a resource without a paginator in its file fails on its first page",
    ),
    UndocumentedAttributes(
        "dlt.sources.helpers.rest_client.auth.OAuth2ClientCredentials",
        (
            "access_token",
            "access_token_request_data",
            "access_token_url",
            "client_id",
            "client_secret",
            "default_token_expiration",
        ),
        "request a token with what dlt has found in secrets.toml and its vaults",
        "a resource with this auth fails before its first page",
    ),
    UndocumentedAttributes(
        "dlt.pipeline.helpers.pipeline_drop",
        ("info", "is_empty"),
        "say which tables `restsource reset` drops",
        "`restsource reset` fails with an AttributeError before it drops anything",
    ),
)
"""Undocumented attributes that the engine uses, of documented classes and of those imported above."""
