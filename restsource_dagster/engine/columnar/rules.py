"""What dlt's schema says about names and nesting, asked once per name.

The normalizer of dlt asks for each value. The answers come from dlt's own functions, so that both
ways of loading give tables and columns the same names.
"""

from dlt.common.normalizers.json import helpers
from dlt.common.normalizers.json.relational import DataItemNormalizer
from dlt.common.schema import Schema

from restsource_dagster.engine.columnar.errors import NotColumnarError

__all__ = ["SchemaRules"]

_RESERVED = "_dlt_"


class SchemaRules:
    """Names and nesting, by dlt's schema. `forget` when the schema has changed."""

    def __init__(self, schema: Schema) -> None:
        """Raises `NotColumnarError` for a normalizer other than dlt's relational one."""
        if type(schema.data_item_normalizer) is not DataItemNormalizer:
            raise NotColumnarError("dlt is configured with another normalizer")
        self.schema = schema
        self.normalizer = schema.data_item_normalizer
        self._fragments: dict[str, str] = {}
        self._tables: dict[tuple[str, ...], str] = {}
        self._columns: dict[tuple[str, ...], str] = {}
        self._nested: dict[tuple[str, str, int], bool] = {}

    def forget(self) -> None:
        """Ask again whether a field is kept as JSON, for that depends on the tables there are."""
        self._nested.clear()

    def level(self, table: str) -> int:
        """How many levels of a root table's objects and lists become columns and tables."""
        most: int = self.normalizer.max_nesting
        return helpers.get_table_nesting_level(self.schema, table, most) or 0

    def fragment(self, key: str) -> str:
        """The part of a column's name that a field stands for. Raises `NotColumnarError`."""
        known = self._fragments.get(key)
        if known is None:
            known = self._fragments[key] = self._fragment(key)
        return known

    def column(self, path: tuple[str, ...]) -> str:
        """The name of a column, from the fragments on its way."""
        known = self._columns.get(path)
        if known is None:
            naming = self.schema.naming
            known = path[0] if len(path) == 1 else helpers.shorten_fragments(naming, *path)
            self._columns[path] = known
        return known

    def table(self, path: tuple[str, ...]) -> str:
        """The name of a nested table, from the fragments on its way."""
        known = self._tables.get(path)
        if known is None:
            known = self._tables[path] = helpers.shorten_fragments(self.schema.naming, *path)
        return known

    def table_fragment(self, key: str) -> str:
        """The part of a nested table's name that a field stands for."""
        return helpers.normalize_table_identifier(self.schema, self.schema.naming, key)

    def stays_json(self, table: str, column: str, level: int) -> bool:
        """Whether an object or a list there is a column of its own."""
        at = (table, column, level)
        known = self._nested.get(at)
        if known is None:
            known = self._nested[at] = helpers.is_nested_type(self.schema, table, column, level)
        return known

    def _fragment(self, key: str) -> str:
        if not key or key.isspace():
            raise NotColumnarError("a field has no name")
        try:
            key.encode()
        except UnicodeEncodeError:
            raise NotColumnarError("a field's name has half a character in it") from None
        name = helpers.normalize_identifier(self.schema, self.schema.naming, key)
        if name.startswith(_RESERVED):
            raise NotColumnarError(f"the field {key} has a name of dlt's own")
        return name
