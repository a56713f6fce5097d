"""The result of a run, as JSON and as lines for the terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.text import Text

from restsource_dagster.connector.validation.diagnostics import printable

__all__ = ["ResourceReport", "RunReport"]

_RESOURCE_STYLES = {
    "loaded": "green",
    "left as it is": "yellow",
    "failed": "red",
    "not loaded": "yellow",
}


@dataclass(frozen=True)
class ResourceReport:
    """The result of one resource. Rows, seconds, table and cursor are known if it was loaded."""

    name: str
    status: Literal["loaded", "left as it is", "failed", "not loaded"]
    rows_loaded: int | None = None
    seconds: float | None = None
    table: str | None = None
    cursor_path: str | None = None
    start_value: Any = None
    last_value: Any = None
    checkpoints: int | None = None
    """How often rows were stored before all were read; None if never."""
    resumed_from: str | None = None
    """Where the load of an earlier run went on."""
    left_as_it_is: str | None = None
    """Why it was not loaded although the run succeeded (`skip` in `response_actions`)."""


@dataclass(frozen=True)
class RunReport:
    """The result of a run. `recorded` is False if no Dagster instance stores it."""

    connector: str
    run_id: str
    recorded: bool
    status: str
    """Dagster's status: SUCCESS, FAILURE or CANCELED."""
    seconds: float
    failure: str | None
    resources: tuple[ResourceReport, ...]

    @property
    def succeeded(self) -> bool:
        """True if every resource was loaded."""
        return self.status == "SUCCESS"

    def as_dict(self) -> Mapping[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}

    def lines(self) -> Iterator[Text]:
        """Return a line per resource, then the failure, then a summary."""
        width = max((len(resource.name) for resource in self.resources), default=0)
        for resource in self.resources:
            yield _resource_line(resource, width)
        if self.failure:
            yield from (Text(printable(line), "red") for line in self.failure.splitlines())
        where = "" if self.recorded else ", not recorded"
        style = "bold green" if self.succeeded else "bold red"
        yield Text(f"{self.status} in {self.seconds:.1f} s, run {self.run_id}{where}", style)


def _resource_line(resource: ResourceReport, width: int) -> Text:
    line = Text.assemble(
        (f"{printable(resource.name):{width}}", "bold"),
        "  ",
        (resource.status, _RESOURCE_STYLES[resource.status]),
    )
    if resource.rows_loaded is not None:
        line.append(f"  {resource.rows_loaded:,} row{'' if resource.rows_loaded == 1 else 's'}")
    if resource.seconds is not None:
        line.append(f"  {resource.seconds:.1f} s")
    if resource.cursor_path and resource.last_value is not None:
        line.append(printable(f"  {resource.cursor_path} {resource.last_value}"))
    if resource.checkpoints:
        line.append(
            f"  {resource.checkpoints:,} checkpoint{'' if resource.checkpoints == 1 else 's'}"
        )
    if resource.resumed_from:
        line.append(printable(f"  resumed from {resource.resumed_from}"))
    if resource.left_as_it_is:
        line.append(printable(f"  {resource.left_as_it_is}"))
    return line
