"""What a new version of a template changes for tables that an earlier one has loaded.

Each load notes the version by resource in the state folder, so that `check` knows it without the destination.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from restsource_dagster.connector.models.template_head import TemplateChange, version_number
from restsource_dagster.connector.templates import Template
from restsource_dagster.connector.validation.diagnostics import Finding, quoted_list, quoted_name
from restsource_dagster.settings import make_private_folder

__all__ = ["LoadedVersions", "change_findings"]


class LoadedVersions:
    """The template and version with which each resource of a connector was loaded last, on this machine.

    They are in `<state_dir>/templates/<connector>.json`. A run holds the connector's lock while it writes.
    """

    def __init__(self, state_dir: Path, connector: str) -> None:
        self._path = state_dir / "templates" / f"{connector}.json"

    def read(self) -> Mapping[str, str]:
        """Return the labels by resource, such as `shop 2`; empty if no load is noted here."""
        try:
            noted = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {str(name): str(label) for name, label in noted.items()}

    def note(self, resource: str, label: str) -> None:
        """Note that a load of a resource has ended well. Raises `OSError`."""
        noted = self.read()
        if noted.get(resource) != label:
            self._write({**noted, resource: label})

    def forget(self, resources: Collection[str]) -> None:
        """Forget resources whose tables are dropped. Raises `OSError`."""
        noted = self.read()
        if noted.keys() & set(resources):
            self._write({name: label for name, label in noted.items() if name not in resources})

    def _write(self, noted: Mapping[str, str]) -> None:
        make_private_folder(self._path.parent)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(noted), encoding="utf-8")
        new.replace(self._path)


def change_findings(
    template: Template, loaded: Mapping[str, str], resources: Collection[str]
) -> Iterator[Finding]:
    """Yield a warning for each change that the next load makes to a table; `loaded` has labels by resource."""
    for change in template.head.changes:
        concerned = [
            name
            for name in resources
            if (not change.resources or name in change.resources)
            and _is_newer(change, template.name, loaded.get(name))
        ]
        if concerned:
            before = sorted({loaded[name] for name in concerned})
            yield Finding(
                "/template",
                f"Version {change.version} of the template {quoted_name(template.name)} changes what "
                f"{quoted_list(before, 'and')} loaded: {change.change}",
                fix=f"It concerns {quoted_list(concerned, 'and')}. The next load does it; to keep the tables, copy "
                f"the template of before to templates/{template.name}.json beside this file",
                severity="warning",
            )


def _is_newer(change: TemplateChange, template: str, label: str | None) -> bool:
    """True if a change came after the version in a label of this template."""
    name, _, version = (label or "").partition(" ")
    if name != template:
        return False  # never loaded, or with another template, whose versions are others
    before = version_number(version)
    return before is None or (version_number(change.version) or ()) > before
