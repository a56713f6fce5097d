"""Load one API row by row and as columns, and compare the tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster_tests.engine.columnar.tables import Dump, dump
from restsource_dagster_tests.making import load, make_connector, make_settings
from restsource_dagster_tests.servers.api import ApiServer, Seen

__all__ = [
    "COLUMNS",
    "PLAIN",
    "THING",
    "Pages",
    "assert_written",
    "compare",
    "compare_resources",
    "outcome_of",
    "serve",
]

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


def serve(api: ApiServer, pages: Pages, name: str = "things") -> None:
    """Answer the path of this name with these pages, each with a link to the next."""

    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("page", 0))
        more = number + 1 < len(pages)
        return {"data": pages[number], "next": f"/{name}?page={number + 1}" if more else None}

    api.answers[f"/{name}"] = answer


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


def compare_resources(
    api: ApiServer, folder: Path, cases: Mapping[str, tuple[list[Pages], Mapping[str, Any]]]
) -> dict[str, list[str]]:
    """Compare like `compare` all of these runs with their hints at once; none of them fails.

    Each case is a resource of one connector, so that they share load packages. What comes back
    calls each of them `things`.
    """
    row_tables, row_modes = _loaded_together(api, folder / "rows", cases, "rows")
    column_tables, column_modes = _loaded_together(api, folder / "columns", cases, "auto")
    for case in cases:
        assert row_tables[case], case
        assert column_tables[case] == row_tables[case], case
        assert set(row_modes[case]) == {"rows"}, case
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


def _loaded_together(
    api: ApiServer,
    folder: Path,
    cases: Mapping[str, tuple[list[Pages], Mapping[str, Any]]],
    mode: str,
) -> tuple[dict[str, Dump], dict[str, list[str]]]:
    settings = make_settings(folder)
    names = {case: f"case_{number}" for number, case in enumerate(cases)}
    modes: dict[str, list[str]] = {case: [] for case in cases}
    for run in range(max(len(runs) for runs, _ in cases.values())):
        resources = {}
        for case, (runs, hints) in cases.items():
            if run < len(runs):
                serve(api, runs[run], names[case])
                resources[case] = {**THING, **hints, "name": names[case], "mode": mode}
        outcomes = load(make_connector(api.url, *resources.values()), settings)
        for case in resources:
            outcome = outcomes[names[case]]
            assert outcome.failure is None, (case, outcome.failure)
            modes[case].append(outcome.write_mode.replace(outcome.table, "things"))
    tables: dict[str, Dump] = {case: {} for case in cases}
    for name, found in dump(settings).items():
        case = next(one for one in cases if _is_table_of(name, names[one]))
        tables[case][name.replace(names[case], "things", 1)] = found
    return tables, modes


def _is_table_of(table: str, name: str) -> bool:
    return f"{table}__".startswith(f"{name}__")
