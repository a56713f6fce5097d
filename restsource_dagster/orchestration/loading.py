"""From an order to the engine. Imported by ops only: this module brings dlt."""

from collections.abc import Collection, Iterator

import dagster as dg

from restsource_dagster.config.connector import Connector
from restsource_dagster.engine.history import ingest_window
from restsource_dagster.engine.ingest import ingest
from restsource_dagster.engine.outcome import Outcome
from restsource_dagster.orchestration.history.plans import live_from
from restsource_dagster.orchestration.load_config import LoadOrder
from restsource_dagster.orchestration.run_log import RunLog
from restsource_dagster.orchestration.run_settings import RunSettings
from restsource_dagster.settings import read_environment

__all__ = ["carry_out"]


def carry_out(
    context: dg.AssetExecutionContext,
    connector: Connector,
    wanted: Collection[str],
    order: LoadOrder,
    runs: RunSettings,
) -> Iterator[Outcome]:
    """Load what the order says, an outcome for each resource."""
    observer = RunLog(context.log, runs.observer)
    if order.windows:
        if order.left_out:
            context.log.warning(f"Left out, as they have no cursor: {', '.join(order.left_out)}")
        for root, span in order.windows.items():
            context.log.info(f"{root}: the window {span.name}; the stored cursor stays as it is")
            yield from ingest_window(
                connector,
                root,
                span,
                settings=runs.settings,
                environment=read_environment(),
                observer=observer,
            )
        return
    yield from ingest(
        connector,
        settings=runs.settings,
        environment=read_environment(),
        resources=wanted,
        observer=observer,
        live_from=live_from(connector, runs.settings),
        full_refresh=order.full_refresh,
        set_cursor=order.set_cursor,
    )
