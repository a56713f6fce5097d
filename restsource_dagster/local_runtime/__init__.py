"""Plug-ins for a Dagster instance on one machine, which only `dagster.yaml` names.

- `WarmRunLauncher` forks each run from a process that has everything imported.
- `LightInstance` keeps Dagster's SQLite files open and writes events in batches.
- `QuickRunCoordinator` starts a queued run within half a second.

They build on parts of Dagster that are not documented, so they are used with tested versions only
(`TESTED_VERSIONS`). With another version, one warning is logged and the same three names mean Dagster's own
launcher, instance and queue. The variable `RESTSOURCE_LOCAL_RUNTIME_DAGSTER` replaces the tested versions:
`1.14` tries the plug-ins with a newer Dagster, an empty value switches them off.
"""

import importlib
import logging
import os
from functools import cache
from typing import Any

__all__ = ["TESTED_VERSIONS", "VERSIONS_VARIABLE", "unsupported_reason"]

TESTED_VERSIONS = "1.13"
"""The minor versions of Dagster with which the tests of this package pass, separated by commas."""
VERSIONS_VARIABLE = "RESTSOURCE_LOCAL_RUNTIME_DAGSTER"
_WARNED_VARIABLE = "RESTSOURCE_LOCAL_RUNTIME_WARNED"
_PLUGINS = {
    "LightInstance": "sqlite_storage",
    "QuickRunCoordinator": "run_launcher",
    "WarmRunLauncher": "run_launcher",
}
"""The module of each plug-in."""


def __getattr__(name: str) -> Any:
    """Return a plug-in, or Dagster's own part in its place.

    The fork server imports this package before it is allowed to import Dagster, so nothing is imported
    until a plug-in is wanted.
    """
    if name not in _PLUGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _is_supported():
        return getattr(importlib.import_module(f"{__name__}.{_PLUGINS[name]}"), name)
    return _dagsters_own(name)


def _dagsters_own(name: str) -> Any:
    import dagster as dg

    from restsource_dagster.local_runtime.dagster_internals import StockInstance

    return {
        "LightInstance": StockInstance,
        "QuickRunCoordinator": dg.QueuedRunCoordinator,
        "WarmRunLauncher": dg.DefaultRunLauncher,
    }[name]


@cache
def _is_supported() -> bool:
    """True if the plug-ins work with the installed Dagster. Log a warning once if they don't."""
    reason = unsupported_reason()
    # Child processes inherit the variable: `dagster dev` and all that it starts warn once.
    if reason is not None and _WARNED_VARIABLE not in os.environ:
        os.environ[_WARNED_VARIABLE] = "1"
        logging.getLogger("dagster.restsource.local_runtime").warning(
            "The run launcher, storage and queue of restsource-dagster are off: %s. Dagster's own are "
            "used; runs start more slowly, and nothing else changes.",
            reason,
        )
    return reason is None


def unsupported_reason() -> str | None:
    """Return why the plug-ins are off with the installed Dagster; None if they are used."""
    import dagster as dg

    from restsource_dagster.local_runtime.dagster_internals import find_missing_name

    tested = os.environ.get(VERSIONS_VARIABLE, TESTED_VERSIONS)
    minor = ".".join(dg.__version__.split(".")[:2])
    if minor not in [version.strip() for version in tested.split(",")]:
        return f"they are tested with Dagster {tested or 'none'}, and this is {dg.__version__}"
    missing = find_missing_name()
    return f"Dagster {dg.__version__} has no {missing}" if missing else None
