"""What we set of dlt's configuration, below everything that a person sets.

dlt asks its providers in order: environment, secrets.toml, config.toml, ... Ours is the last, so
any of these values can be changed where dlt's documentation says.
"""

from typing import Any

import dlt
from dlt.common.configuration.providers import CustomLoaderDocProvider

from restsource_dagster.engine.dlt_compat import (
    Container,
    PluggableRunContext,
    RuntimeConfiguration,
    resolve_configuration,
    stop_telemetry,
)

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


_PROVIDER_NAME = "restsource defaults"


def configure_dlt() -> None:
    """Register the engine's defaults with dlt, once per process."""
    if _PROVIDER_NAME not in (provider.name for provider in dlt.config.config_providers):
        defaults = CustomLoaderDocProvider(
            _PROVIDER_NAME, lambda: _DLT_DEFAULTS, supports_secrets=False
        )
        dlt.config.register_provider(defaults)
        _restart_runtime()


def _restart_runtime() -> None:
    """Apply the defaults to dlt's log and telemetry, which dlt starts when it is imported."""
    runtime = resolve_configuration(RuntimeConfiguration())
    Container()[PluggableRunContext].context.initialize_runtime(runtime)
    if not runtime.dlthub_telemetry:
        stop_telemetry()
