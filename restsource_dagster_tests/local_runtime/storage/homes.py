"""Homes of Dagster instances, and the events that tests write into them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEventBatchMetadata
from dagster._core.utils import make_new_run_id

__all__ = ["STOCK", "add_run", "make_home", "opened", "plan", "plans", "report"]

LIGHT = """
telemetry: {enabled: false}
instance_class:
  module: restsource_dagster.local_runtime
  class: LightInstance
"""
STOCK = "telemetry: {enabled: false}\n"


def make_home(folder: Path, *, stock: bool = False) -> Path:
    """Write the configuration of an instance."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dagster.yaml").write_text(STOCK if stock else LIGHT)
    return folder


def opened(home: Path, *, stock: bool = False) -> AbstractContextManager[dg.DagsterInstance]:
    """The instance of a home, with Dagster's own storage or ours."""
    return dg.DagsterInstance.from_config(str(make_home(home, stock=stock)))


def add_run(instance: dg.DagsterInstance) -> str:
    """A run that has not begun; its id."""
    run = dg.DagsterRun(job_name="shop_job", run_id=make_new_run_id(), tags={"tier": "gold"})
    instance.add_run(run)
    return run.run_id


def report(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> None:
    """An event of the run as a whole."""
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value=kind.value, job_name="shop_job"), run_id
    )


def plan(instance: dg.DagsterInstance, run_id: str, names: Sequence[str]) -> None:
    """Note, in one batch, that the run is going to materialize these assets."""
    for name in names:
        planned = AssetMaterializationPlannedData(dg.AssetKey(["shop", name]), None, None)
        event = dg.DagsterEvent.build_asset_materialization_planned_event(
            "shop_job", "load", planned
        )
        last = DagsterEventBatchMetadata(run_id, is_end=name == names[-1])
        instance.report_dagster_event(event, run_id, batch_metadata=last)


def plans(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The assets that a run has planned, by its own events, in order."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    entries = instance.all_logs(run_id, of_type=kind)
    return [entry.get_dagster_event().asset_key.path[-1] for entry in entries]  # type: ignore[union-attr]
