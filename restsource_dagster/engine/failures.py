"""From an exception to the outcome of a resource that was not loaded."""

import time

from dlt.pipeline.exceptions import PipelineStepFailed

from restsource_dagster.config.connector import Family, Resource
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.outcome import Failure, Outcome, Usage
from restsource_dagster.engine.redaction import Redactor
from restsource_dagster.engine.source import FamilySource

__all__ = ["failed_outcome", "reason_of"]


def reason_of(error: Exception) -> str:
    """What went wrong at the root of dlt's wrappers, in one line."""
    return _message(_cause(error)[1]).partition("\n")[0]


def failed_outcome(
    error: Exception,
    family: Family,
    resource: Resource,
    source: FamilySource | None,
    started: float,
    redactor: Redactor,
) -> Outcome:
    """The outcome of a member of a family that failed; `started` is a `time.monotonic()`."""
    step, cause = _cause(error)
    if source and step == "normalize":
        # a number that was too big shows here, long after its row has been read
        beyond = (values.first_big for values in source.values.values())
        cause = next((known for known in beyond if known), cause)
    culprit = getattr(cause, "resource", None) or family.root.name
    tally = source.tallies.get(resource.name) if source else None
    return Outcome(
        resource=resource.name,
        table=resource.table,
        seconds=time.monotonic() - started,
        usage=tally.meter.usage if tally else Usage(),
        failure=Failure(culprit, step, redactor(_message(cause))),
    )


def _cause(error: BaseException) -> tuple[str, BaseException]:
    """The step that failed and the error at the root of dlt's wrappers."""
    step = "prepare"
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, IngestError):
            return step, current
        if isinstance(current, PipelineStepFailed):
            step = current.step
        error, current = current, current.__cause__ or current.__context__
    return step, error


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, IngestError) else f"{type(error).__name__}: {error}"
