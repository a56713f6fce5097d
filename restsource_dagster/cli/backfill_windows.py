"""The windows of a range that a person asks for, and how each is to be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from restsource_dagster.config.connector import Resource
from restsource_dagster.config.cursor_values import CursorFormat, CursorValueError, format_of
from restsource_dagster.config.resources import Backfill
from restsource_dagster.config.spans import Span, split
from restsource_dagster.config.windows import KEY_FORMATS, floor, following

__all__ = ["AskedWindow", "asked_windows"]

_LENGTHS = {"hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo"}


@dataclass(frozen=True)
class AskedWindow:
    """A window that was asked for."""

    span: Span
    partition: str | None
    """The partition of the history that it is exactly; None if it is none."""

    @property
    def name(self) -> str:
        """What it is called in the tag `restsource/window`."""
        return self.partition or self.span.name

    @property
    def run_config(self) -> Mapping[str, Any]:
        """The op's config that loads it on the live asset."""
        return {"window": {"from": self.span.start, "to": self.span.end}}


def asked_windows(
    resource: Resource, from_: str, to: str, window: str | None, history: frozenset[str]
) -> tuple[AskedWindow, ...]:
    """The windows from `from_` up to `to`, newest first.

    `window` is their length; left out, that of the resource's `backfill` block, else one window for
    all. `history` has the keys of the windows of its history. Raises `ValueError` with a sentence for
    the person if the range can't be cut so.
    """
    backfill = resource.backfill
    length = window or (_LENGTHS[backfill.partition] if backfill else None)
    spans = split(from_, to, length, form=_form(resource))
    return tuple(AskedWindow(span, _key(span, backfill, history)) for span in reversed(spans))


def _key(span: Span, backfill: Backfill | None, history: frozenset[str]) -> str | None:
    """The key of the window of the history that the span is, if it is one."""
    if backfill is None or not span.form.is_time:
        return None
    start, end = span.form.parse(span.start), span.form.parse(span.end)
    partition = backfill.partition
    if floor(partition, start) != start or following(partition, start) != end:
        return None
    key = str(start.strftime(KEY_FORMATS[partition]))
    return key if key in history else None


def _form(resource: Resource) -> CursorFormat | None:
    value = resource.incremental.initial_value if resource.incremental else None
    try:
        return None if value is None else format_of(value)
    except CursorValueError:
        return None
