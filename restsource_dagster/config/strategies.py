"""The options of merge strategies that dlt checks when it builds a resource.

Follows `validate_write_disposition_hint` in `dlt.extract.hints`.
"""

import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.config.problems import Finding
from restsource_dagster.config.references import without_references
from restsource_dagster.config.wording import pointer_to, rendered

__all__ = ["strategy_findings"]

Path = tuple[str | int, ...]
_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?")
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_800
"""Seconds from 1970 to the years 1 and 10000."""
_CONDITION_PLACEHOLDERS = {"table", "staging_table"}


def strategy_findings(given: dict[str, Any], at: Path) -> Iterator[Finding]:
    """What is wrong with the options of a merge; nothing for other dispositions."""
    if given.get("disposition") != "merge":
        return
    for name in ("source_filter", "destination_scope"):
        if isinstance(given.get(name), str) and given[name]:
            yield from _condition_findings(given[name], (*at, name))
    if given.get("strategy") != "scd2":
        return
    for name in ("active_record_timestamp", "boundary_timestamp"):
        if not _is_moment(given.get(name)):
            yield Finding(
                pointer_to((*at, name)),
                f"`{name}` is no time",
                rendered(given.get(name)),
                "a time such as 2026-11-23T10:03:00Z",
            )
    columns = given.get("validity_column_names")
    if isinstance(columns, list) and len(columns) != 2:
        yield Finding(
            pointer_to((*at, "validity_column_names")),
            "`validity_column_names` are two: the start and the end of a version",
            f"{len(columns)} names",
            mend='Write ["valid_from", "valid_to"]',
            code="deliberate:validity-columns",
        )


def _condition_findings(condition: str, at: Path) -> Iterator[Finding]:
    text = without_references(condition)
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        names = {"?"}
    if names - _CONDITION_PLACEHOLDERS:
        yield Finding(
            pointer_to(at),
            "The condition has a placeholder or a brace that dlt doesn't know",
            expected="`{table}` and `{staging_table}` only",
            mend="Write a literal brace twice: `{{` or `}}`",
        )


def _is_moment(value: Any) -> bool:
    """Whether dlt can read a time: ISO 8601, a month, a day of the year, seconds since 1970."""
    if value is None:
        return True
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return any(_reads(value, form) for form in (None, "%Y-%m", "%Y/%m/%d", "%Y-%j"))
    seconds = float(value) if isinstance(value, str) else value
    return isinstance(seconds, int | float) and _EARLIEST <= seconds < _LATEST


def _reads(text: str, form: str | None) -> bool:
    if " +" in text or " -" in text:
        return False
    try:
        if form is None:
            datetime.fromisoformat(text)
        else:
            datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True
