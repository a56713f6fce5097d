"""What `dagster dev` loads: the connectors of the configured folder."""

import dagster as dg

from restsource_dagster.orchestration.definitions import build_definitions

__all__ = ["defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The code location of the folder that `RESTSOURCE_CONFIGS` names."""
    return build_definitions()
