"""What a load changed about its tables, in sentences for people."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dlt.common.schema import Schema

__all__ = ["Table", "Tables", "changes_of", "read_tables"]

_VARIANT = "__v_"


@dataclass(frozen=True)
class Table:
    """A table at one moment: its columns with their types, its key, what loads do to its rows."""

    columns: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    disposition: str = "append"


Tables = Mapping[str, Table]


def read_tables(schema: Schema | None) -> Tables:
    """The tables that a schema knows to be there; none without one."""
    if schema is None:
        return {}
    found = {}
    for table in schema.data_tables(seen_data_only=True):
        columns = table.get("columns", {})
        found[str(table["name"])] = Table(
            columns={
                name: str(column["data_type"])
                for name, column in columns.items()
                if column.get("data_type")
            },
            key=tuple(name for name, column in columns.items() if column.get("primary_key")),
            disposition=str(table.get("write_disposition") or "append"),
        )
    return found


def changes_of(table: str, before: Tables, after: Tables) -> tuple[str, ...]:
    """What became different about a table and those nested in it."""
    if table not in before:
        return (f"table {table} is new",) if table in after else ()
    names = [name for name in after if name == table or name.startswith(f"{table}__")]
    return tuple(change for name in names for change in _changes(name, before, after))


def _changes(name: str, before: Tables, after: Tables) -> Iterator[str]:
    new = after[name]
    if name not in before:
        yield f"table {name} is new"
        return
    old = before[name]
    for column, kind in new.columns.items():
        if column not in old.columns and not column.startswith("_dlt_"):
            base = column.split(_VARIANT, 1)[0]
            variant = (
                f": values of {base} that are no {new.columns[base]}"
                if (_VARIANT in column and base in new.columns)
                else ""
            )
            yield f"column {name}.{column} ({kind}) is new{variant}"
    if new.key != old.key:
        yield f"the primary key of {name} is {_named(new.key)} now, was {_named(old.key)}"
    if new.disposition != old.disposition:
        yield f"{name} is loaded by {new.disposition} now, was {old.disposition}"


def _named(key: tuple[str, ...]) -> str:
    return ", ".join(key) or "none"
