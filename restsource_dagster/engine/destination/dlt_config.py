"""What we set of dlt's configuration, below everything that a person sets.

dlt asks its providers in order: environment, secrets.toml, config.toml, ... Ours is the last, so
any of these values can be changed where dlt's documentation says.
"""

from typing import Any, ClassVar

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.doc import BaseDocProvider
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.runtime.telemetry import stop_telemetry

__all__ = ["configure_dlt"]

_DLT_DEFAULTS: dict[str, Any] = {
    # no network but the API's own
    "runtime": {"dlthub_telemetry": False, "log_level": "ERROR"},
    # one resource after the other, and what is below a page before the next one: rows reach the tables
    # in the order of the API, and types don't depend on how fast it answers
    "extract": {"next_item_mode": "fifo"},
    # intermediate files live for seconds: compressing them costs more than it saves
    "normalize": {
        "data_writer": {"disable_compression": True},
        # if a person sets `normalize.workers`: forked workers would outlive a killed run and keep
        # its locks
        "start_method": "spawn",
    },
    "data_writer": {"disable_compression": True},
}


class _DefaultsProvider(BaseDocProvider):
    NAME: ClassVar[str] = "restsource defaults"

    @property
    def name(self) -> str:
        return self.NAME

    @property
    def supports_secrets(self) -> bool:
        return False

    @property
    def supports_sections(self) -> bool:
        return True


def configure_dlt() -> None:
    """Make our defaults known to dlt, once per process."""
    providers = Container()[PluggableRunContext].providers
    if _DefaultsProvider.NAME not in (provider.name for provider in providers.providers):
        dlt.config.register_provider(_DefaultsProvider(_DLT_DEFAULTS))
        _restart_runtime()


def _restart_runtime() -> None:
    """dlt has started its log and its telemetry by now, before it could know our defaults."""
    runtime = resolve_configuration(RuntimeConfiguration())
    Container()[PluggableRunContext].context.initialize_runtime(runtime)
    if not runtime.dlthub_telemetry:
        stop_telemetry()
