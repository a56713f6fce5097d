"""Writes variables into the file `.env` of a folder: the only place where secrets that people type go."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from restsource_dagster.whole_file import write_file_whole

__all__ = ["AddedVariables", "add_variables", "set_variable"]

_PRIVATE_MODE = 0o600


@dataclass(frozen=True)
class AddedVariables:
    """What became of variables that were to be added."""

    missing: tuple[str, ...]
    """New lines without a value: a person has to fill them in."""
    kept: tuple[str, ...]
    """Variables that had a line already, and keep its value."""


def add_variables(values: Mapping[str, str], folder: Path | None = None) -> AddedVariables:
    """Add variables to `.env` of a folder, by default the current one; its other lines stay.

    A variable that has a line keeps it. Raises `OSError`.
    """
    file = (folder or Path.cwd()) / ".env"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    known = set(re.findall(r"^(?:export\s+)?(\w+)=", text, re.MULTILINE))
    new_ones = {key: value for key, value in values.items() if key not in known}
    if new_ones:
        # opened so that a new file is private from its first byte
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE_MODE)
        with os.fdopen(handle, "a", encoding="utf-8") as opened:
            opened.write("" if text.endswith("\n") or not text else "\n")
            opened.writelines(f"{key}={_quoted(value)}\n" for key, value in new_ones.items())
    return AddedVariables(
        tuple(key for key, value in new_ones.items() if not value),
        tuple(sorted(known & {key for key, value in values.items() if value})),
    )


def set_variable(name: str, value: str, folder: Path | None = None) -> None:
    """Set a variable in `.env`, in place of the value that it has there. Raises `OSError`."""
    file = (folder or Path.cwd()) / ".env"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    line = re.compile(rf"^((?:export[ \t]+)?{re.escape(name)}=).*$", re.MULTILINE)
    if not line.search(text):
        add_variables({name: value}, folder)
        return
    changed = line.sub(lambda found: found[1] + _quoted(value), text)
    write_file_whole(file.resolve(), changed.encode())


def _quoted(value: str) -> str:
    """Return a value as `.env` files have it: in single quotes, if it holds more than plain characters."""
    if re.fullmatch(r"[\w.:/@+=-]*", value, re.ASCII):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
