"""One API loaded twice, once row by row and once as columns where that can be, to be compared."""

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
    """Answer `/things` with these pages, each with a link to the next one."""

    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("page", 0))
        more = number + 1 < len(pages)
        return {"data": pages[number], "next": f"/things?page={number + 1}" if more else None}

    api.answers["/things"] = answer


def outcome_of(api: ApiServer, folder: Path, pages: Pages, **hints: Any) -> Outcome:
    """Load these pages."""
    serve(api, pages)
    connector = make_connector(api.url, {**THING, **hints})
    return load(connector, make_settings(folder))["things"]


def compare(api: ApiServer, folder: Path, runs: list[Pages], **hints: Any) -> list[str]:
    """Hold both ways against each other; how the second one has `written`, run by run.

    A load that fails one by one has to fail as columns, too: nothing is told of such a run.
    """
    by_rows, one_by_one = _loaded(api, folder / "rows", runs, mode="rows", **hints)
    by_itself, told = _loaded(api, folder / "columns", runs, mode="auto", **hints)
    assert by_itself == by_rows
    assert set(one_by_one) <= {"rows", ""}
    return told


def assert_written(told: Sequence[str], expected: Sequence[str]) -> None:
    """Hold what was told against how the reasons that are expected begin."""
    shown = [
        text if wanted == COLUMNS else text[: len(wanted)]
        for text, wanted in zip(told, expected, strict=True)
    ]
    assert shown == list(expected), told


def _loaded(
    api: ApiServer, folder: Path, runs: list[Pages], **hints: Any
) -> tuple[Dump | None, list[str]]:
    told = []
    for pages in runs:
        outcome = outcome_of(api, folder, pages, **hints)
        told.append(outcome.write_mode)
        if outcome.failed:
            return None, told
    return dump(make_settings(folder)), told
