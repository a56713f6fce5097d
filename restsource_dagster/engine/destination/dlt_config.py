"""Set the engine's defaults in dlt's configuration.

dlt asks its providers in order: the environment, secrets.toml, config.toml, and so on. The engine's
provider is the last, so each of its values can be changed in the ways that dlt documents.
"""

import os
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
    # a run uses no network but the API's and the destination's
    "runtime": {"dlthub_telemetry": False, "log_level": "ERROR"},
    # one resource after the other, and the dependents of a page before the next page: rows reach
    # the tables in the order of the API, and types don't depend on how fast it answers
    "extract": {"next_item_mode": "fifo"},
    # intermediate files live for seconds: compressing them costs more than it saves
    "normalize": {
        "data_writer": {"disable_compression": True},
        # for a person who sets `normalize.workers`: forked workers outlive a killed run and keep
        # its locks
        "start_method": "spawn",
    },
    "data_writer": {"disable_compression": True},
}
_DLT_WORKERS = {"extract": 5, "normalize": 1, "load": 20}
"""dlt's own number of workers for each step: threads, for `normalize` processes."""
_DEFAULTS_NAME = "restsource defaults"
_WORKERS_NAME = "restsource workers"


def configure_dlt() -> None:
    """Register the engine's defaults with dlt, once per process."""
    if _DEFAULTS_NAME in (provider.name for provider in dlt.config.config_providers):
        return
    dlt.config.register_provider(_provider(_DEFAULTS_NAME, _DLT_DEFAULTS))
    if "WORKERS" in os.environ:
        _set_workers()
    _restart_runtime()


def _set_workers() -> None:
    """Set the number of workers of each step before dlt reads it from `WORKERS`.

    dlt also looks settings up by their bare names. A variable `WORKERS` that is meant for another
    program would make each load start that many processes, which takes seconds. What dlt documents
    (`NORMALIZE__WORKERS`, or `workers` below `[normalize]`) still applies.
    """
    workers = {
        step: {"workers": dlt.config.get(f"{step}.workers", int) or default}
        for step, default in _DLT_WORKERS.items()
    }
    # dlt asks its providers in order and registers new ones at the end, after the environment's
    providers = Container()[PluggableRunContext].providers.providers
    providers.insert(0, _provider(_WORKERS_NAME, workers))


def _provider(name: str, values: dict[str, Any]) -> CustomLoaderDocProvider:
    # None, the default for locations, breaks the text of dlt's error about a missing secret
    return CustomLoaderDocProvider(name, lambda: values, supports_secrets=False, locations=[])


def _restart_runtime() -> None:
    """Apply the defaults to dlt's log and telemetry, which dlt starts when it is imported."""
    runtime = resolve_configuration(RuntimeConfiguration())
    Container()[PluggableRunContext].context.initialize_runtime(runtime)
    if not runtime.dlthub_telemetry:
        stop_telemetry()
