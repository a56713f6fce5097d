"""A row of the table of options: what the file says, what the API answers, what is to be seen."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = [
    "QUERY_FILE",
    "QUERY_TEXT",
    "Handler",
    "Result",
    "Row",
    "by",
    "by_json",
    "hint",
    "ids",
    "page",
    "records",
    "refused",
]

Handler = Callable[[Seen], Any]
QUERY_FILE, QUERY_TEXT = "query.graphql", "{ a(b: 1) }\n"
"""A file that stands beside each connector file, and the query in it."""


@dataclass(frozen=True)
class Result:
    """What became of a row's resource in its last run."""

    name: str
    outcome: Outcome
    seen: Sequence[Seen]
    """The requests of its last run, in order of arrival."""
    warehouse: duckdb.DuckDBPyConnection

    def table(self, columns: str = "id", table: str = "", order: str = "all") -> list[Any]:
        """Rows of its table, or the values if it is one column; an empty list without a table."""
        name = table or self.outcome.table or self.name
        known = f"select 1 from duckdb_tables() where table_name = '{name}'"
        if not self.warehouse.execute(known).fetchall():
            return []
        selected = f'select {columns} from "{self.dataset}"."{name}" order by {order}'
        rows = self.warehouse.execute(selected).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    @property
    def dataset(self) -> str:
        """The schema of its table."""
        return self.outcome.dataset or "options"

    @property
    def failure(self) -> str:
        """Why it failed; an empty text if it did not."""
        return self.outcome.failure.message if self.outcome.failure else ""

    def asked(self, param: str) -> list[str | None]:
        """The values of a query parameter, each once, in order."""
        return list(dict.fromkeys(seen.query.get(param) for seen in self.seen))

    def column(self, name: str) -> Mapping[str, Any]:
        """dlt's schema of a column."""
        assert self.outcome.load is not None, self.failure
        table = self.outcome.load.pipeline.default_schema.get_table(self.outcome.table)
        return dict(table["columns"].get(name, {}))


def ids(result: Result) -> list[Any]:
    """The ids in the table."""
    return result.table()


def hint(column: str, name: str) -> Callable[[Result], Any]:
    """A hint of a column in dlt's schema."""
    return lambda result: result.column(column).get(name)


@dataclass(frozen=True)
class Row:
    """An option of a resource with a value, and what it does.

    `see` takes the `Result` of the last run, and what it returns is `gives`. With `fails` the last
    run fails, with this text in its message. With `again` the resource is loaded a second time, and
    the API answers so. `says` is what `check` says; with "no effect", a warning, the row does what
    it does without what the warning points to.
    """

    name: str
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    answers: Any = None
    gives: Any = None
    see: Callable[[Result], Any] = ids
    fails: str = ""
    again: Any = None
    resource: Mapping[str, Any] = field(default_factory=dict)
    more: Sequence[Mapping[str, Any]] = ()
    """More resources, such as a parent, named after the row."""
    paths: Mapping[str, Any] = field(default_factory=dict)
    """What else the API answers, by the end of the path after the row's name."""
    file: Mapping[str, Any] = field(default_factory=dict)
    """Other parts of the file: rows with equal ones share a file."""
    says: Literal["nothing", "warning", "no effect", "error"] = "nothing"

    def as_resource(self) -> dict[str, Any]:
        """The resource in the file: rows at `items`, one page, unless the row says otherwise."""
        endpoint = {"path": self.name, "data_selector": "items", "paginator": "single_page"}
        given = {key: value for key, value in self.endpoint.items() if value is not ...}
        left_out = {key for key, value in self.endpoint.items() if value is ...}
        endpoint = {key: value for key, value in endpoint.items() if key not in left_out}
        return {"name": self.name, **self.resource, "endpoint": {**endpoint, **given}}


def refused(name: str, **row: Any) -> Row:
    """A row that `check` refuses."""
    return Row(name, says="error", **row)


def records(*given: Any) -> list[dict[str, Any]]:
    """Records of these ids, or as they are."""
    return [one if isinstance(one, dict) else {"id": one} for one in given]


def page(*given: Any, **more: Any) -> dict[str, Any]:
    """A page with these records at `items`, and what else stands in the body."""
    return {"items": records(*given), **more}


def by(param: str, pages: Mapping[Any, Any], **also: str) -> Handler:
    """Answers by a query parameter; 400 for a value that is not in the table."""

    def answer(seen: Seen) -> Any:
        if any(seen.query.get(name) != value for name, value in also.items()):
            return Answer({"error": f"not what was to be asked: {dict(seen.query)}"}, 400)
        value = seen.query.get(param)
        return pages.get(value, Answer({"error": f"no {param}={value}"}, 400))

    return answer


def by_json(path: str, pages: Mapping[Any, Any]) -> Handler:
    """Answers by a value in the JSON body; 400 for one that is not in the table."""

    def answer(seen: Seen) -> Any:
        value = json.loads(seen.body or b"{}")
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return pages.get(value, Answer({"error": f"no {path}={value}"}, 400))

    return answer
