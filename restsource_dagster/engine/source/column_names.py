"""Names of fields that the API gives by codes, taken from the rows of another resource (`rename_from`).

A field keeps the name that it got first: it is in dlt's state, with the rows. A label that changes later
is reported, and the column keeps its name. Where two labels give one name, or a label gives the name of
another field, the name ends with the code.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from restsource_dagster.connector.models.connector_file import RenameFrom
from restsource_dagster.engine.errors import ResourceError

__all__ = ["ColumnNames", "Lookup"]

_CODE_CHARS = 8
"""How much of a code follows a name that another field has."""
_EDGES = re.compile(r"^\W+|\W+$")
"""What dlt would write as `_` or `x` at the ends of a name: the bracket of `Region (EU)`."""

Lookup = Callable[[str], Iterable[Any]]
"""Returns all records of a resource, by its name; requests them once in a run."""


class ColumnNames:
    """Renames the fields of a resource's records. Use it in the thread that extracts."""

    def __init__(
        self,
        resource: str,
        rename: RenameFrom,
        look_up: Lookup,
        normalize: Callable[[str], str],
        read_state: Callable[[], dict[str, Any]],
        notify: Callable[[str], None],
    ) -> None:
        """`normalize` makes the name of a column. `read_state` returns the resource's state in dlt."""
        self._resource, self._rename = resource, rename
        self._look_up, self._normalize = look_up, normalize
        self._read_state, self._notify = read_state, notify
        self._names: Mapping[str, str] | None = None

    def apply(self, records: list[Any]) -> list[Any]:
        """Return the records with other names of fields, in place. A code without a label stays.

        Raises `ResourceError` if a record has a field of the new name already, or if the other
        resource has no such fields.
        """
        holders = [holder for record in records for holder in self._holders(record)]
        if not holders:
            return records
        if self._names is None:
            self._names = self._read_names({key for holder in holders for key in holder})
        for holder in holders:
            self._rename_fields(holder, self._names)
        return records

    def _holders(self, record: Any) -> Iterator[dict[str, Any]]:
        """Yield the object of a record that has the fields."""
        value = record
        for step in self._rename.at.split(".") if self._rename.at else ():
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, dict):
            yield value

    def _rename_fields(self, holder: dict[str, Any], names: Mapping[str, str]) -> None:
        # all are taken out first: a label may be the code of another field
        for code, value in [(code, holder.pop(code)) for code in list(holder) if code in names]:
            if names[code] in holder:
                raise ResourceError(
                    self._resource,
                    f"rename_from: a record has a field `{names[code]}` beside `{code}`, which has this "
                    "label. Reset the resource, so that names are given anew, or narrow `match`",
                )
            holder[names[code]] = value

    def _read_names(self, seen: Collection[str]) -> Mapping[str, str]:
        """Return the name of each code, and store the new ones. `seen` are the fields of the records."""
        state = self._read_state()
        names: dict[str, str] = state.setdefault("names", {})
        labels = dict(self._labels())
        # what is not renamed keeps its name
        taken = {self._normalize(key) for key in seen if key not in labels} | set(names.values())
        for code, label in labels.items():
            name = self._normalize(_EDGES.sub("", label) or label)
            if code not in names:
                names[code] = self._free_name(name, code, taken)
                taken.add(names[code])
            elif names[code] not in (name, *self._long_names(name, code)):
                self._notify(
                    f"{self._resource}: the field {code} is called {label!r} now; its column stays "
                    f"{names[code]}. Reset the resource to rename it"
                )
        # copied: the state is stored later, and what is renamed must not change in between
        return dict(names)

    def _labels(self) -> Iterator[tuple[str, str]]:
        """Yield code and label of each field that is renamed."""
        rename = self._rename
        pattern = re.compile(rename.match or "", re.DOTALL)
        rows = [row for row in self._look_up(rename.resource) if isinstance(row, dict)]
        if rows and not any(rename.from_ in row and rename.to in row for row in rows):
            raise ResourceError(
                self._resource,
                f"rename_from: no row of {rename.resource} has the fields `{rename.from_}` and "
                f"`{rename.to}`. The first one has {', '.join(list(rows[0])[:12])}",
            )
        for row in rows:
            code, label = row.get(rename.from_), row.get(rename.to)
            if not isinstance(code, str) or not isinstance(label, str) or not label.strip():
                continue
            if not rename.match or pattern.fullmatch(code):
                yield code, label

    def _free_name(self, name: str, code: str, taken: Collection[str]) -> str:
        names = (name, *self._long_names(name, code))
        return next((one for one in names if one and one not in taken), code)

    def _long_names(self, name: str, code: str) -> tuple[str, str]:
        return (
            self._normalize(f"{name}_{code[:_CODE_CHARS]}"),
            self._normalize(f"{name}_{code}"),
        )
