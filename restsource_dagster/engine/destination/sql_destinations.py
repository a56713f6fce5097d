"""dlt's destinations with what the engine adds: rows replaced in one transaction, exact merges, COPY.

dlt leaves `supports_transactions` unset for most databases, which does not mean that they have none. So
an SQL destination has transactions if it says so, or if it has them even for changes of tables. Such a
destination gets a client that can replace rows (see replace_rows.py) and replaces tables from staged
rows: with dlt's default, readers find a table empty, and a killed run leaves it so.

DuckDB and Postgres also merge exactly (see merge_sql.py), and take rows as columns.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, cast

from dlt.common.configuration import configspec
from dlt.common.destination import AnyDestination, Destination, DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.destinations import duckdb as duckdb_destination
from dlt.destinations import postgres as postgres_destination

from restsource_dagster.connector.model import Connector, Resource
from restsource_dagster.engine.destination.merge_sql import ExactMergeClient, destination_refusals
from restsource_dagster.engine.destination.replace_parts import ReplacePart
from restsource_dagster.engine.destination.replace_rows import (
    DeletionsByTable,
    LeasedClient,
    ReplaceRowsClient,
)
from restsource_dagster.engine.dlt_compat import (
    DuckDbClient,
    DuckDbClientConfiguration,
    SqlJobClientWithStagingDataset,
)

__all__ = [
    "ONE_TRANSACTION",
    "DestinationProblem",
    "DuckDBDestination",
    "LeasedDestination",
    "PostgresDestination",
    "ReplacingDestination",
    "can_note_texts",
    "can_replace_rows",
    "exact_destination",
    "find_destination_problems",
    "takes_columns",
]

# dlt reads from a class' own `__init__` which of its settings are given, so our classes have none
ONE_TRANSACTION: dict[str, Any] = {
    # a replaced table and those nested in it change in one transaction ...
    "replace_strategy": "insert-from-staging",
    # ... which dlt begins only for a destination that declares transactions
    "supports_transactions": True,
}


def exact_destination(destination: AnyDestination) -> AnyDestination:
    """Return dlt's destination as one whose loads end when another run has taken over.

    The loads of a database with transactions also replace rows. Takes no connection. Raises dlt's error
    if its driver is missing.
    """
    made = type(destination)
    if issubclass(made, LeasedDestination):
        return destination
    settings = {**destination.config_params, **destination.caps_params}
    if not _has_transactions(destination):
        plain = _extended_class(made, LeasedDestination, LeasedClient)(**settings)
        return cast("AnyDestination", plain)
    settings |= ONE_TRANSACTION
    # a destination of a name of its own has dlt's class of its type
    if issubclass(made, duckdb_destination) and made.__name__ == duckdb_destination.__name__:
        return cast("AnyDestination", DuckDBDestination(**settings))
    if issubclass(made, postgres_destination):
        return cast("AnyDestination", PostgresDestination(**settings))
    replacing = _extended_class(made, ReplacingDestination, ReplaceRowsClient)(**settings)
    return cast("AnyDestination", replacing)


def takes_columns(destination: AnyDestination) -> bool:
    """Return True if parquet files of rows are its cheapest load, and lose nothing."""
    return isinstance(destination, DuckDBDestination | PostgresDestination)


def can_replace_rows(destination: AnyDestination) -> bool:
    """Return True if loads into the destination can replace rows in one transaction."""
    return isinstance(destination, ReplacingDestination) and bool(
        destination.capabilities().supports_transactions
    )


def can_note_texts(destination: AnyDestination) -> bool:
    """Return True if loads can note a text of any length beside the tables that they replace rows of."""
    return can_replace_rows(destination) and bool(getattr(destination, "has_long_texts", False))


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
        if _leaves_killed_rows(destination, resource):
            yield DestinationProblem(
                resource,
                f"rows that a killed load has appended to a {resource.hints.table_format} table stay, and the next "
                'run appends them again. With a "primary_key" they are merged, and plain files ("table_format" left '
                "out) are removed",
                "warning",
            )
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


def _leaves_killed_rows(destination: AnyDestination, resource: Resource) -> bool:
    """Return True if rows that a killed load has appended can't be found there."""
    return (
        destination.destination_type == "dlt.destinations.filesystem"
        and resource.disposition.value == "append"
        and resource.hints.table_format in ("delta", "iceberg")
    )


def _has_transactions(destination: AnyDestination) -> bool:
    caps = destination.capabilities()
    declared = caps.supports_transactions
    return (
        bool(caps.supports_ddl_transactions if declared is None else declared)
        and "insert-from-staging" in (caps.supported_replace_strategies or ())
        # files have no transactions, whatever their capabilities say
        and issubclass(destination.client_class, SqlJobClientWithStagingDataset)
    )


@cache
def _extended_class(made: Hashable, destination: type[Any], client: Hashable) -> type[Any]:
    """Return a destination's class with these mixins, for itself and for its client."""

    def client_class(self: Any) -> type[Any]:
        return _with_mixins(super(extended, self).client_class, client)

    theirs = cast("type[Any]", made)
    attributes = {
        # dlt stores the name of its own class in a pipeline's state, whichever destination loads
        "destination_type": f"dlt.destinations.{theirs.__name__}",
        "client_class": property(client_class),
    }
    extended: Any = type(theirs.__name__, (destination, theirs), attributes)
    return cast("type[Any]", extended)


@cache
def _with_mixins(theirs: type[Any], *mixins: type[Any]) -> type[Any]:
    return type(theirs.__name__, (*mixins, theirs), {})


@configspec(init=False)
class _DuckDBConfiguration(DuckDbClientConfiguration):
    def __str__(self) -> str:
        # dlt builds the same text with SQLAlchemy, whose import takes as long as a small load
        return f"duckdb:///{self.credentials.database}"


class _DuckDBClient(ReplaceRowsClient, ExactMergeClient, DuckDbClient):
    """dlt's DuckDB client, whose loads can replace rows."""


class LeasedDestination(Destination[Any, Any]):
    """Mixin for the destination class of a `LeasedClient`."""

    check_lease: Callable[[], None] = staticmethod(lambda: None)

    def client(self, schema: Schema, initial_config: Any = None) -> Any:
        """Return a client whose loads check the lease."""
        client = super().client(schema, initial_config)
        client.check_lease = self.check_lease
        return client


class ReplacingDestination(LeasedDestination):
    """Mixin for the destination class of a `ReplaceRowsClient`. Set its attributes before each load."""

    deletions: DeletionsByTable = {}  # noqa: RUF012 - each instance is given its own
    part: ReplacePart | None = None
    has_long_texts = False
    """True if VARCHAR has no limit there, which notes beside the tables need. In Redshift it has 256 bytes."""

    def client(self, schema: Schema, initial_config: Any = None) -> ReplaceRowsClient:
        """Return a client whose loads replace the rows of `deletions`, or are the part `part`."""
        client: ReplaceRowsClient = super().client(schema, initial_config)
        client.deletions, client.part = self.deletions, self.part
        return client


class _ResolvedOnce(ReplacingDestination):
    """Mixin: the configuration and the capabilities are resolved once, not for each step of a load."""

    @cached_property
    def _capabilities(self) -> dict[Any, DestinationCapabilitiesContext]:
        return {}

    @cached_property
    def _configurations(self) -> dict[Any, Any]:
        return {}

    def configuration(self, initial_config: Any, accept_partial: bool = False) -> Any:
        """Return the configuration, resolved once for each dataset.

        dlt makes a client for each step of a load, and resolves the same fields for each of them. The
        clients of DuckDB share the pool of connections, as those of one `pipeline.load` do anyway.
        """
        if initial_config is None or initial_config.is_resolved():
            return super().configuration(initial_config, accept_partial)
        key = (accept_partial, initial_config.dataset_name, initial_config.default_schema_name)
        if key not in self._configurations:
            self._configurations[key] = super().configuration(initial_config, accept_partial)
        return self._configurations[key]

    def capabilities(
        self, config: Any = None, naming: Any = None
    ) -> DestinationCapabilitiesContext:
        """Return what the destination can do, resolved once for each naming convention.

        dlt asks dozens of times in each load, and resolves the whole configuration each time. What
        DuckDB and Postgres can do does not depend on it.
        """
        if config is not None:
            return super().capabilities(config, naming)
        key = naming and (type(naming), naming.max_length)
        if key not in self._capabilities:
            self._capabilities[key] = super().capabilities(self.spec(), naming)
        return self._capabilities[key].copy()  # dlt changes what it is given


class DuckDBDestination(_ResolvedOnce, duckdb_destination):
    """dlt's DuckDB destination, whose loads can replace rows."""

    spec = cast("Any", _DuckDBConfiguration)
    destination_type = "dlt.destinations.duckdb"
    has_long_texts = True
    client_class = cast("Any", _DuckDBClient)


class PostgresDestination(_ResolvedOnce, postgres_destination):
    """dlt's Postgres destination, whose loads can replace rows and come by COPY."""

    destination_type = "dlt.destinations.postgres"
    has_long_texts = True
    wait_seconds = 0.0
    """How long a statement waits for a lock that another session holds."""

    def client(self, schema: Schema, initial_config: Any = None) -> ReplaceRowsClient:
        """Return a client whose sessions have a name and limits."""
        from restsource_dagster.engine.destination.postgres_client import bounded_session

        client = super().client(schema, initial_config)
        session = bounded_session(client.sql_client, self.wait_seconds)
        session.check_lease = self.check_lease
        client.sql_client = session
        return client

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        caps = super()._raw_capabilities()
        caps.preferred_loader_file_format = "parquet"
        # dlt takes parquet files away unless it finds a driver (ADBC), which COPY does not need
        caps.loader_file_format_selector = cast("Any", None)
        caps.type_mapper = _with_mixins(cast("Any", caps.type_mapper), _JsonbColumns)
        return caps

    @property
    def client_class(self) -> type[Any]:
        """dlt's client with the methods that replace rows. Needs psycopg2."""
        from restsource_dagster.engine.destination.postgres_client import PostgresLoads

        return _with_mixins(super().client_class, ReplaceRowsClient, PostgresLoads)


class _JsonbColumns:
    """Mixin for dlt's type mapper: JSON is `jsonb` also in tables that are loaded from parquet files."""

    def to_destination_type(self, column: Any, table: Any) -> str:
        mapper: Any = super()
        # dlt makes it `json` for such tables, as the driver ADBC does not know `jsonb`
        made: str = mapper.to_destination_type(column, {**table, "file_format": None})
        return made
