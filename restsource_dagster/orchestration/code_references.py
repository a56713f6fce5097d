"""Links from assets to the lines of connector files that they come from."""

import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import dagster as dg

__all__ = ["CodeFile"]


class CodeFile:
    """A file that assets come from; `label` tells people what the link leads to."""

    def __init__(self, path: Path, label: str) -> None:
        self._path = path
        self._label = label

    @cached_property
    def _absolute(self) -> str:
        return str(self._path.absolute())

    def at(self, line: int) -> Mapping[str, dg.CodeReferencesMetadataValue]:
        """The metadata of an asset that comes from this line (counted from 1)."""
        with warnings.catch_warnings():
            # Dagster calls them beta at every use; the pinned version and a test hold them in place
            warnings.simplefilter("ignore", dg.BetaWarning)
            reference = dg.LocalFileCodeReference(
                file_path=self._absolute, line_number=line, label=self._label
            )
            value = dg.CodeReferencesMetadataValue(code_references=[reference])
        return {"dagster/code_references": value}
