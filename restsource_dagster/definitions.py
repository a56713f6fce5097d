"""The code location that `dagster dev` loads: the connectors of the configured folder."""

import os

import dagster as dg

from restsource_dagster.orchestration.code_location import build_definitions

__all__ = ["defs"]

JOB_VARIABLE = "DAGSTER_RUN_JOB_NAME"
"""The job's name, in a process that executes one run: set by our launcher and Dagster's for containers."""


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the folder that `RESTSOURCE_CONFIGS` names.

    In the process of one run, only those of its connector.
    """
    # A run that builds one connector instead of a thousand starts seconds earlier.
    connectors = build_definitions(job=os.environ.get(JOB_VARIABLE))
    # What the UI starts without a job is one step, too: a process per step would only cost time.
    return dg.Definitions.merge(connectors, dg.Definitions(executor=dg.in_process_executor))
