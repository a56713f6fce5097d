"""The names that Dagster and the destination derive from a resource's name."""

import keyword
import re
from functools import lru_cache

__all__ = [
    "RESERVED_NAMES",
    "asset_identifier",
    "dataset_identifier",
    "is_asset_name",
    "is_key_path",
    "key_column",
    "snake_case_table",
]

_DAGSTER_NAMES = (
    *("arg_dict", "bool", "conf", "config", "context", "dict", "float", "input", "input_arg_dict"),
    *("int", "meta", "output", "output_arg_dict", "str", "type"),
)
_DUCKDB_NAMES = ("information_schema", "main", "pg_catalog", "system", "temp", "warehouse")
RESERVED_NAMES = {
    **dict.fromkeys(keyword.kwlist, "Python"),
    **dict.fromkeys(_DAGSTER_NAMES, "Dagster"),
    **dict.fromkeys(_DUCKDB_NAMES, "DuckDB"),
}
"""Names that no connector can have, and who keeps them.

A group of assets can't have a name of Python's or Dagster's, a dataset none of DuckDB's schemas and
databases: `warehouse` is the database itself.
"""

_SEPARATOR = "__"

_ASSET_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_ALPHANUMERIC = re.compile(r"[^a-zA-Z\d_]+")
_BREAK_BEFORE_WORD = re.compile(r"([^_])([A-Z][a-z]+)")
_BREAK_AFTER_LOWER = re.compile(r"([a-z0-9])([A-Z])")
_LEADING_DIGITS = re.compile(r"^\d+")
_UNDERSCORES = re.compile(r"__+")
# dlt's spellings of these characters: `a+b` becomes `axb`.
_REDUCED = str.maketrans("+-*@|", "x_xal")


def is_asset_name(name: str) -> bool:
    """True if an asset can have this name: Dagster derives the name of an output from it."""
    return _ASSET_NAME.fullmatch(name) is not None


def asset_identifier(name: str) -> str:
    """Return the part of an output's name that Dagster derives from an asset's name."""
    return name.replace("-", "_").replace(".", "_")


@lru_cache(maxsize=4096)
def snake_case_table(name: str) -> str:
    """Return the table's name under dlt's default naming convention, snake_case.

    Two resources with the same result share a table. Each part of a name with `__` counts by itself:
    `user__events` is the table of the list `events` in `user`. Empty if nothing but `_` is left of
    the name. Long names are not shortened, because the limit depends on the destination. The rules are
    those of `dlt.common.normalizers.naming.snake_case`, repeated here because this package doesn't
    import dlt.
    """
    parts = (part for part in name.split(_SEPARATOR) if part.strip())
    return _SEPARATOR.join(_identifier(part) for part in parts)


@lru_cache(maxsize=4096)
def dataset_identifier(name: str) -> str:
    """Return the dataset's name under the same convention, which keeps no `__` in it."""
    return _identifier(name)


def _identifier(name: str) -> str:
    text = _NOT_ALPHANUMERIC.sub("_", name.strip().translate(_REDUCED))
    text = _BREAK_BEFORE_WORD.sub(r"\1_\2", text)
    text = _BREAK_AFTER_LOWER.sub(r"\1_\2", text).lower()
    if _LEADING_DIGITS.match(text):
        text = "_" + text
    # An `x` for each final underscore keeps `a` and `a_` two tables.
    stripped = text.rstrip("_")
    return _UNDERSCORES.sub("_", stripped + "x" * (len(text) - len(stripped)))


_KEY_PATH = re.compile(r"[^.\[\]'\"$ ]+(\.[^.\[\]'\"$ ]+)+")


def is_key_path(name: str) -> bool:
    """True if a key names a field inside of an object: `account.id`."""
    return _KEY_PATH.fullmatch(name) is not None


def key_column(name: str) -> str:
    """Return the column of a key: `account__id` for the field `id` of the object `account`."""
    return name.replace(".", "__") if is_key_path(name) else name
