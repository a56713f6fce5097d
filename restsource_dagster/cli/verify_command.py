"""`restsource verify`: compare the keys in the tables with those that the API lists."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import load_dotenv

from restsource_dagster.cli.common import find_connector, find_resources, read_settings
from restsource_dagster.cli.options import (
    ConfigsOption,
    JsonOption,
    NameArgument,
    RunResourcesArgument,
)
from restsource_dagster.cli.output import (
    exit_on_failure,
    print_json,
    print_lines,
    print_notice,
    stdout_to_stderr,
)
from restsource_dagster.connector.env_references import MissingReferencesError
from restsource_dagster.connector.validation.diagnostics import printable

if TYPE_CHECKING:
    from restsource_dagster.engine.destination.removed_rows import Key
    from restsource_dagster.engine.run.table_comparison import TableComparison

__all__ = ["verify"]


def verify(
    name: NameArgument,
    resources: RunResourcesArgument = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare whole tables with the API: which keys are missing, and which it no longer has.

    Asks for all records of each resource from its first one on, and reads the keys of its table. Nothing is
    loaded. No run of the connector starts meanwhile. A record that was created since the last run counts as
    missing, so verify right after a run. A resource whose records no single list has is named with the
    reason.

    Exit code 1 if a key is missing or too many, or nothing could be compared.

    Example: restsource verify shop orders
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    wanted = find_resources(connector, resources or [])
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    from restsource_dagster.engine.errors import IngestError
    from restsource_dagster.engine.run.table_comparison import compare_tables

    found: list[TableComparison] = []
    try:
        with stdout_to_stderr():
            found.extend(
                compare_tables(connector, wanted, settings=settings, environment=os.environ)
            )
    except (IngestError, MissingReferencesError) as error:
        print_notice(printable(str(error)))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_lines(line for one in found for line in _lines(one))
    compared = [one for one in found if one.problem is None]
    exit_on_failure(interrupted=False, failed=not compared or not all(c.is_equal for c in compared))


def _lines(one: "TableComparison") -> Iterator[str]:
    if one.problem is not None:
        yield printable(f"{one.resource}: not compared: {one.problem}")
        return
    stated = "" if one.stated_total is None else f", states {one.stated_total:,}"
    verdict = "equal" if one.is_equal else f"{one.missing:,} missing, {one.extra:,} too many"
    yield f"{one.resource}: {verdict} (table {one.in_table:,}, API lists {one.in_api:,}{stated})"
    for what, keys in (("missing", one.missing_keys), ("too many", one.extra_keys)):
        if keys:
            yield printable(f"  {what}: {_examples(keys)}")


def _examples(keys: "tuple[Key, ...]") -> str:
    return ", ".join("/".join(str(part) for part in key) for key in keys)
