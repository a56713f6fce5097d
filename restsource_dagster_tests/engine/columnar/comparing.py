"""Load one API row by row and as columns, and compare the tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster_tests.engine.columnar.tables import Dump, dump
from restsource_dagster_tests.making import load, make_connector, make_settings
from restsource_dagster_tests.servers.api import ApiServer, Seen

__all__ = ["COLUMNS", "PLAIN", "THING", "Pages", "assert_written", "compare", "outcome_of", "serve"]

Pages = list[list[Any]]
COLUMNS = "columns"
PLAIN = {"id": 1, "at": "2026-01-01T00:00:00Z", "x": 1.5, "items": [{"sku": "a"}, {"sku": "b"}]}
THING: dict[str, Any] = {
    "name": "things",
    "write_disposition": "append",
    "endpoint": {
        "data_selector": "data",
        "paginator": {"type": "json_link", "next_url_path": "next"},
    },
}


def serve(api: ApiServer, pages: Pages) -> None:
    """Answer `/things` with these pages, each with a link to the next."""

    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("page", 0))
        more = number + 1 < len(pages)
        return {"data": pages[number], "next": f"/things?page={number + 1}" if more else None}

    api.answers["/things"] = answer


def outcome_of(api: ApiServer, folder: Path, pages: Pages, **hints: Any) -> Outcome:
    """Load these pages and return the outcome."""
    serve(api, pages)
    connector = make_connector(api.url, {**THING, **hints})
    return load(connector, make_settings(folder))["things"]


def compare(api: ApiServer, folder: Path, runs: list[Pages], **hints: Any) -> list[str]:
    """Assert that both ways load the same tables; return the second one's write mode by run.

    A run that fails row by row has to fail as columns, too. Its write mode is empty.
    """
    row_tables, row_modes = _loaded(api, folder / "rows", runs, mode="rows", **hints)
    column_tables, column_modes = _loaded(api, folder / "columns", runs, mode="auto", **hints)
    assert column_tables == row_tables
    assert set(row_modes) <= {"rows", ""}
    return column_modes


def assert_written(modes: Sequence[str], expected: Sequence[str]) -> None:
    """Assert that each write mode begins as expected; `COLUMNS` has to be all of it."""
    shown = [
        text if wanted == COLUMNS else text[: len(wanted)]
        for text, wanted in zip(modes, expected, strict=True)
    ]
    assert shown == list(expected), modes


def _loaded(
    api: ApiServer, folder: Path, runs: list[Pages], **hints: Any
) -> tuple[Dump | None, list[str]]:
    modes = []
    for pages in runs:
        outcome = outcome_of(api, folder, pages, **hints)
        modes.append(outcome.write_mode)
        if outcome.failed:
            return None, modes
    return dump(make_settings(folder)), modes
