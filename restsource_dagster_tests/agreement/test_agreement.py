"""What `check` says of an option is what the engine does with it, for every option of a file.

Each group is one file or a few, in which every row of the table is a resource. The file is checked,
and if it isn't refused it is loaded from a real server into a real DuckDB.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from typing import Any

import duckdb
import pytest
from pydantic import ValidationError

from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.models.connector_file import ConnectorFile
from restsource_dagster.connector.validation.diagnostics import Problem
from restsource_dagster.engine.run.ingest import ingest
from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.agreement import (
    bodies,
    cursors,
    families,
    logins,
    paginators,
    requests,
    response_actions,
    tables,
)
from restsource_dagster_tests.agreement.coverage import Option, known_options, used_options
from restsource_dagster_tests.agreement.rows import QUERY_FILE, QUERY_TEXT, Result, Row
from restsource_dagster_tests.making import warehouse
from restsource_dagster_tests.servers.api import ApiServer

GROUPS: Mapping[str, Sequence[Row]] = {
    "response_actions": response_actions.ROWS,
    "paginators": paginators.ROWS,
    "cursors": cursors.ROWS,
    "families": families.ROWS,
    "requests": requests.ROWS,
    "logins": logins.ROWS,
    "bodies": bodies.ROWS,
    "tables": tables.ROWS,
}
ENVIRONMENT = {
    "TOKEN": "t0ken",
    "USER_NAME": "ann",
    "PASSWORD": "pass word",
    **logins.ENVIRONMENT,
}

ROWS_OF_A_FILE = 40
"""Most rows of a file: dlt validates all tables of a file in each of its steps."""
SECRETS = {
    "TOKEN": "t0ken",
    "API_KEY": "t0ken",
    "USERNAME": "ann",
    "PASSWORD": "pass word",
    "CLIENT_ID": "ann",
    "CLIENT_SECRET": "pass word",
    "ACCESS_TOKEN_URL": "{api}/word_oauth/token",
}
"""What dlt finds where it looks for secrets that the file leaves out."""


ELSEWHERE = {
    "NestedHints": "the fields of TableHints, which have rows; `columns` has one here, too",
    "Backfill": "tests of backfills",
    "ResourceObject.backfill": "tests of backfills",
    "AssetOptions": "tests of a connector's definitions",
    "CronAutomation": "tests of a connector's definitions",
    "Checks": "tests of asset checks",
    "CheckSettings": "tests of asset checks",
    "CompletenessCheck": "tests of asset checks",
    "FreshnessLimit": "tests of asset checks",
    "LagCheck": "tests of asset checks",
    "PrimaryKeyCheck": "tests of asset checks",
    "RowsCheck": "tests of asset checks",
    "DeletesFrom": "tests of deleted rows, which load two resources",
    "ResourceObject.deletes_from": "tests of deleted rows, which load two resources",
    "Sweep": "tests of sweeps, which need days",
    "ConnectorFile": "tests of the envelope",
    "IntervalSchedule": "tests of schedules",
    "ManualSchedule": "tests of schedules",
    "UnknownAuth": "only to report a misspelt type",
    "UnknownPaginator": "only to report a misspelt type",
    "UnknownParam": "only to report a misspelt type",
    "UnknownStrategy": "only to report a misspelt type",
}
"""Models whose options need no row here, and why."""
SAME_VALUES = ("Client", "NestedHints")
"""Models whose fields have rows, but not for each value: they share the types of other fields."""


def test_every_option_of_the_models_has_a_row() -> None:
    used = {option for rows in GROUPS.values() for row in rows for option in options_of(row)}
    missing = [
        str(option)
        for option in known_options() - used
        if option.model not in ELSEWHERE
        and str(option) not in ELSEWHERE
        and not (option.model in SAME_VALUES and option.value is not ...)
    ]
    assert not missing, "\n".join(sorted(missing))


def options_of(row: Row) -> set[Option]:
    """The options that a row uses, if its file has the right structure."""
    try:
        return used_options(ConnectorFile.model_validate(file_of([row], "http://127.0.0.1:80")))
    except ValidationError:
        return set()


@pytest.mark.parametrize("group", GROUPS)
def test_check_says_what_the_engine_does(
    group: str, api: ApiServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(f"CREDENTIALS__{name}", secret.replace("{api}", api.url))
    found = [
        f"{row.name}: {problem}"
        for row in GROUPS[group]
        if row.says == "error"
        for problem in refusal_disagreements(row, api, settings)
    ]
    accepted = [row for row in GROUPS[group] if row.says != "error"]
    for number, rows in enumerate(files_of(accepted)):
        found.extend(load_disagreements(rows, f"options{number}", api, settings))
    assert not found, "\n".join(found)


def files_of(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that share a file: those that fail have their own, so that the others share load packages."""
    for _, alike in groupby(sorted(rows, key=file_key), key=file_key):
        left = list(alike)
        while left:
            yield left[:ROWS_OF_A_FILE]
            del left[:ROWS_OF_A_FILE]


def file_key(row: Row) -> tuple[str, bool]:
    return json.dumps(row.file, sort_keys=True), bool(row.fails)


def file_of(rows: Sequence[Row], url: str) -> dict[str, Any]:
    """The connector file in which each row is a resource, in order; their parents come after.

    `{api}` stands for the server's URL, `{other}` for its host and port under another name.
    """
    value = {
        "schedule": {"mode": "manual"},
        **rows[0].file,
        "client": {"base_url": url, **rows[0].file.get("client", {})},
        "resources": [
            *(row.as_resource() for row in rows),
            *(resource for row in rows for resource in row.more),
        ],
    }
    text = json.dumps(value).replace("{api}", url)
    filled: dict[str, Any] = json.loads(
        text.replace("{other}", url.removeprefix("http://").replace("127.0.0.1", "localhost"))
    )
    return filled


def checked(value: Mapping[str, Any], name: str, settings: Settings) -> Any:
    path = settings.configs / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    (path.parent / QUERY_FILE).write_text(QUERY_TEXT)
    path.write_text(json.dumps(value))
    return load_file(path)


def refusal_disagreements(row: Row, api: ApiServer, settings: Settings) -> Iterator[str]:
    """A refused file has no connector that could be run."""
    loaded = checked(file_of([row], api.url), row.name, settings)
    errors = [problem for problem in loaded.problems if problem.severity == "error"]
    if loaded.connector is not None or not errors:
        yield "the file is not refused"


def load_disagreements(
    rows: list[Row], name: str, api: ApiServer, settings: Settings
) -> Iterator[str]:
    loaded = checked(file_of(rows, api.url), name, settings)
    told = {row.name: problems_of(index, loaded.problems) for index, row in enumerate(rows)}
    for row in rows:
        yield from warning_disagreements(row, told[row.name])
    twins = [
        without_warned(row, index, told[row.name])
        for index, row in enumerate(rows)
        if row.says == "no effect" and told[row.name]
    ]
    loaded = checked(file_of([*rows, *twins], api.url), name, settings)
    if loaded.connector is None:
        yield f"the file is refused: {[problem.as_text() for problem in loaded.problems]}"
        return
    for row, result in run([*rows, *twins], loaded.connector, api, settings):
        yield from effect_disagreements(row, result)


def problems_of(index: int, problems: Sequence[Problem]) -> list[Problem]:
    start = f"/resources/{index}"
    return [
        problem
        for problem in problems
        if f"{problem.pointer}/".startswith(f"{start}/") or "/resources/" not in problem.pointer
    ]


def warning_disagreements(row: Row, told: Sequence[Problem]) -> Iterator[str]:
    texts = [problem.as_text() for problem in told]
    if row.says == "nothing" and texts:
        yield f"{row.name}: check says {texts}"
    if row.says != "nothing" and not texts:
        yield f"{row.name}: check says nothing"


def without_warned(row: Row, index: int, told: Sequence[Problem]) -> Row:
    """The same row without what the warnings point to: it has to do the same."""
    resource = deepcopy(row.as_resource())
    start = f"/resources/{index}/"
    for pointer in {problem.pointer for problem in told}:
        *steps, last = pointer.removeprefix(start).split("/")
        holder: Any = resource
        for step in steps:
            holder = holder[int(step)] if isinstance(holder, list) else holder[step]
        if "response_actions" in steps[:2] or last.isdigit():
            resource["endpoint"].pop("response_actions", None)
        else:
            del holder[last]
    name = f"{row.name}_without"
    endpoint = resource.pop("endpoint")
    resource.pop("name")
    return replace(row, name=name, endpoint={**endpoint, "path": name}, resource=resource)


def run(
    rows: Sequence[Row], connector: Any, api: ApiServer, settings: Settings
) -> Iterator[tuple[Row, Result]]:
    """Load all rows, those with a second answer twice, and yield what is to be seen of each."""
    for row in rows:
        api.answers[f"/{row.name}"] = row.answers
        api.answers.update({f"/{row.name}{end}": body for end, body in row.paths.items()})
    outcomes = ingested(connector, settings, [row.name for row in rows])
    seen = {row.name: api.asked(f"/{row.name}") for row in rows}
    twice = [row for row in rows if row.again is not None]
    if twice:
        api.seen.clear()
        api.answers.update({f"/{row.name}": row.again for row in twice})
        outcomes |= ingested(connector, settings, [row.name for row in twice])
        seen |= {row.name: api.asked(f"/{row.name}") for row in twice}
    with warehouse(settings) as connection:
        for row in rows:
            yield row, Result(row.name, outcomes[row.name], seen[row.name], connection)


def ingested(connector: Any, settings: Settings, names: Sequence[str]) -> dict[str, Outcome]:
    outcomes = ingest(
        connector,
        settings=settings,
        environment=ENVIRONMENT,
        resources=names,
        sleep=lambda _: None,
    )
    return {outcome.resource: outcome for outcome in outcomes}


def effect_disagreements(row: Row, result: Result) -> Iterator[str]:
    if bool(row.fails) != bool(result.failure) or row.fails not in result.failure:
        yield f"{row.name}: {result.failure[:300] or 'does not fail'}"
    elif not row.fails or row.gives is not None:
        try:
            seen = row.see(result)
        except (AssertionError, LookupError, duckdb.Error) as error:
            seen = repr(error)
        if seen != row.gives:
            yield f"{row.name}: gives {seen}, expected {row.gives}"
