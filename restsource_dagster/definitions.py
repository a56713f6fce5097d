"""What `dagster dev` loads: the connectors of the configured folder."""

import os

import dagster as dg

from restsource_dagster.orchestration.code_location import build_definitions

__all__ = ["defs"]

JOB_VARIABLE = "DAGSTER_RUN_JOB_NAME"
"""Set by Dagster's launchers for containers, and by ours, where a process carries out a single run."""


@dg.definitions
def defs() -> dg.Definitions:
    """The code location of the folder that `RESTSOURCE_CONFIGS` names.

    In the process of a run, only the connector that it runs.
    """
    return build_definitions(job=os.environ.get(JOB_VARIABLE))
