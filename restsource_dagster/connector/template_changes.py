"""What a new version of a template changes for tables that an earlier one has loaded."""

from collections.abc import Collection, Iterator, Mapping

from restsource_dagster.connector.models.template_head import TemplateChange, version_number
from restsource_dagster.connector.templates import Template
from restsource_dagster.connector.validation.diagnostics import Finding, quoted_list, quoted_name

__all__ = ["change_findings"]


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
