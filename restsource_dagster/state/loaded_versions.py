"""The template and version with which each resource was loaded last, so that `check` needs no destination."""

import json
from collections.abc import Collection, Mapping

from restsource_dagster.state.store import StateStore

__all__ = ["LoadedVersions"]


class LoadedVersions:
    """The loads of a connector: labels such as `shop 2`, by resource.

    Methods raise `StateError` or `OSError` if the store can't be used. A run holds the lease of the connector
    while it writes.
    """

    def __init__(self, state: StateStore, connector: str) -> None:
        self._state, self._connector = state, connector

    @property
    def location(self) -> str:
        """Where they are, for messages."""
        return self._state.location("template_versions", self._connector)

    def read(self) -> Mapping[str, str]:
        """Return the labels by resource; empty if no load is noted."""
        stored = self._state.read("template_versions", self._connector)
        try:
            noted = json.loads(stored.content) if stored else {}
        except ValueError:
            return {}  # edited by hand: nothing is known
        return {str(name): str(label) for name, label in noted.items()}

    def note(self, resource: str, label: str) -> None:
        """Note that a load of a resource has ended well."""
        noted = self.read()
        if noted.get(resource) != label:
            self._write({**noted, resource: label})

    def forget(self, resources: Collection[str]) -> None:
        """Forget resources whose tables are dropped."""
        noted = self.read()
        if noted.keys() & set(resources):
            self._write({name: label for name, label in noted.items() if name not in resources})

    def _write(self, noted: Mapping[str, str]) -> None:
        self._state.write("template_versions", self._connector, json.dumps(noted))
