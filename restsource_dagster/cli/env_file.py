"""Adds variables to the file `.env` in the current folder."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from restsource_dagster.cli.output import print_notice

__all__ = ["add_to_env"]

_ENV_FILE = Path(".env")
_PRIVATE_MODE = 0o600


def add_to_env(secrets: Mapping[str, str]) -> list[str]:
    """Add variables to `.env`, whose other lines stay; return those without a value.

    A variable that has a line already keeps it.
    """
    text = _ENV_FILE.read_text(encoding="utf-8") if _ENV_FILE.exists() else ""
    known = set(re.findall(r"^(?:export\s+)?(\w+)=", text, re.MULTILINE))
    for key in sorted(known & {key for key, value in secrets.items() if value}):
        print_notice(f"{key} is in .env already and keeps its value; the one given is not written.")
    new_ones = {key: value for key, value in secrets.items() if key not in known}
    if new_ones:
        # opened so that a new file is private from its first byte
        handle = os.open(_ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE_MODE)
        with os.fdopen(handle, "a", encoding="utf-8") as file:
            file.write("" if text.endswith("\n") or not text else "\n")
            file.writelines(f"{key}={_quoted(value)}\n" for key, value in new_ones.items())
    return [key for key, value in new_ones.items() if not value]


def _quoted(value: str) -> str:
    """Return a value as `.env` files have it: in single quotes, if it holds more than plain characters."""
    if re.fullmatch(r"[\w.:/@+=-]*", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
