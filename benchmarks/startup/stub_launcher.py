"""A run launcher whose runs succeed at once without any work, to measure everything else."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData

__all__ = ["StubLauncher"]


class StubLauncher(RunLauncher, ConfigurableClass):
    """Reports that a run has started and succeeded."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The configuration data."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> Any:
        """The launcher has no configuration."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Return a launcher."""
        del config_value
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Report the run as started and succeeded."""
        run = context.dagster_run
        for event in (dg.DagsterEventType.RUN_START, dg.DagsterEventType.RUN_SUCCESS):
            told = dg.DagsterEvent(event_type_value=event.value, job_name=run.job_name)
            self._instance.report_dagster_event(told, run.run_id)

    def terminate(self, run_id: str) -> bool:
        """Return False: no run is ever in progress."""
        del run_id
        return False
