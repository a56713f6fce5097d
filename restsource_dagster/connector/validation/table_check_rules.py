"""Rules about `checks`: one that a resource gives itself and can't have is refused, with the reason."""

from collections.abc import Sequence

from restsource_dagster.connector.model import Resource
from restsource_dagster.connector.models.checks import CheckSettings, CompletenessCheck
from restsource_dagster.connector.table_checks import CHECK_NAMES, why_impossible
from restsource_dagster.connector.validation.merged_resource import MergedResource

__all__ = ["check_table_checks"]


def check_table_checks(
    merged_resources: Sequence[MergedResource], resources: Sequence[Resource]
) -> None:
    """Report each check that a resource gives and can't have.

    Those of `resource_defaults` hold for the resources that can have them.
    """
    by_name = {resource.name: resource for resource in resources}
    tables = [resource.table for resource in resources]
    for merged in merged_resources:
        resource, given = by_name.get(merged.name), merged.given.checks
        if resource is None or given is None:
            continue
        for name in CHECK_NAMES:
            check = getattr(given, name)
            if isinstance(check, CheckSettings) and (found := why_impossible(resource, name)):
                message, fix = found
                merged.report(
                    (*merged.at, "checks", name), message, fix=fix, code="deliberate:checks"
                )
        if _counts_shared_table(given.completeness, tables.count(resource.table)):
            merged.report(
                (*merged.at, "checks", "completeness", "counts"),
                "Other resources load into the same table, so its rows are not those of this one",
                fix='Write "query", or leave it out',
                code="deliberate:checks",
            )


def _counts_shared_table(completeness: object, users: int) -> bool:
    return (
        isinstance(completeness, CompletenessCheck) and completeness.counts == "table" and users > 1
    )
