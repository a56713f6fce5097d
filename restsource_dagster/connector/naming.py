"""Names as Dagster and the destination see them."""

import re
from functools import lru_cache

__all__ = ["asset_identifier", "is_asset_name", "table_identifier"]

_ASSET_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_NOT_ALPHANUMERIC = re.compile(r"[^a-zA-Z\d_]+")
_BREAK_BEFORE_WORD = re.compile(r"([^_])([A-Z][a-z]+)")
_BREAK_AFTER_LOWER = re.compile(r"([a-z0-9])([A-Z])")
_LEADING_DIGITS = re.compile(r"^\d+")
_UNDERSCORES = re.compile(r"__+")
_REDUCED = str.maketrans("+-*@|", "x_xal")


def is_asset_name(name: str) -> bool:
    """Whether Dagster can hold an asset of this name: it derives an output's name from it."""
    return _ASSET_NAME.fullmatch(name) is not None


def asset_identifier(name: str) -> str:
    """The part of an output's name that Dagster makes of an asset's name."""
    return name.replace("-", "_").replace(".", "_")


@lru_cache(maxsize=4096)
def table_identifier(name: str) -> str:
    """The table's name under dlt's default naming convention, snake_case.

    Two names that come out the same are one table. Long names are not shortened here: how long
    is too long depends on the destination. See `dlt.common.normalizers.naming.snake_case`.
    """
    text = _NOT_ALPHANUMERIC.sub("_", name.strip().translate(_REDUCED))
    text = _BREAK_BEFORE_WORD.sub(r"\1_\2", text)
    text = _BREAK_AFTER_LOWER.sub(r"\1_\2", text).lower()
    if _LEADING_DIGITS.match(text):
        text = "_" + text
    stripped = text.rstrip("_")
    return _UNDERSCORES.sub("_", stripped + "x" * (len(text) - len(stripped)))
