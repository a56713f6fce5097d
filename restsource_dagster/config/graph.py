"""Which resource depends on which: parents, families, cycles.

Follows `build_resource_dependency_graph` in `dlt.sources.rest_api.config_setup`.
"""

from typing import Any

from restsource_dagster.config.drafts import Draft
from restsource_dagster.config.wording import is_secret, listed, name_shown, nearest

__all__ = ["find_parents", "report_cycles", "report_duplicates"]


def report_duplicates(drafts: list[Draft]) -> None:
    """Reports each resource whose name an earlier one has."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        earlier = first.setdefault(draft.name, draft)
        if earlier is not draft:
            given = draft.at if "endpoint" not in draft.own and draft.own == {"name"} else None
            place = (*draft.at, "name") if given is None else _name_place(draft)
            draft.report(
                place,
                f"The name {name_shown(draft.name)} is taken by the resource at "
                f"`/resources/{earlier.index}`",
                mend=f'Give it another name, such as "{_free(draft.name, first)}"; its path can '
                "stay",
            )


def _name_place(draft: Draft) -> tuple[str | int, ...]:
    return draft.at if draft.path_at == draft.at else (*draft.at, "name")


def _free(name: str, taken: dict[str, Any]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def find_parents(drafts: list[Draft]) -> None:
    """Gives each draft its parent; reports unknown parents and more than one."""
    names = {draft.name for draft in drafts}
    for draft in drafts:
        if not draft.checkable:
            continue
        parents = _parents(draft)
        if len(parents) > 1:
            draft.report(
                draft.path_at,
                f"The resource depends on {_shown(parents)}, and dlt knows one parent only",
                mend="Take all fields from one parent; it can pass on its own parent's fields "
                "with `include_from_parent`",
            )
        for parent in parents:
            if parent not in names:
                _report_unknown(draft, parent, parents[parent], names)
        if len(parents) == 1:
            parent = next(iter(parents))
            draft.parent = parent if parent in names else None
        _check_include(draft, bool(parents))


def _parents(draft: Draft) -> dict[str, tuple[str | int, ...]]:
    parents: dict[str, tuple[str | int, ...]] = {}
    for name, value in draft.endpoint.get("params", {}).items():
        if isinstance(value, dict) and value.get("type") == "resolve":
            parents.setdefault(value["resource"], (*draft.param_place(name), "resource"))
    for expression, place in draft.resolved.items():
        parents.setdefault(expression.strip().split(".")[1], place)
    return parents


def _shown(parents: dict[str, tuple[str | int, ...]]) -> str:
    if any(is_secret(place) for place in parents.values()):
        return f"{len(parents)} parents"
    return listed(parents, "and")


def _report_unknown(
    draft: Draft, parent: str, place: tuple[str | int, ...], names: set[str]
) -> None:
    others = sorted(names - {draft.name})
    close = nearest(parent, others)
    known = f"The resources here: {listed(others[:8], 'and')}" if others else None
    shown = "of that name" if is_secret(place) else name_shown(parent)
    draft.report(
        place,
        f"There is no resource {shown} to depend on",
        mend=f"Write `{close}`" if close else known or "Add the parent resource",
    )


def _check_include(draft: Draft, has_parent: bool) -> None:
    if draft.resource.get("include_from_parent") and not has_parent:
        draft.report(
            draft.place("include_from_parent"),
            f"The resource {name_shown(draft.name)} has no parent to include fields from",
            mend="Put a field of the parent into the path: `{resources.<parent>.<field>}`; or "
            "leave `include_from_parent` out",
        )


def report_cycles(drafts: list[Draft]) -> None:
    """Reports each resource from which its parents lead back to itself."""
    parents = {draft.name: draft.parent for draft in drafts}
    for draft in drafts:
        chain = [draft.name]
        current = draft.parent
        while current is not None and current not in chain:
            chain.append(current)
            current = parents.get(current)
        if current == draft.name:
            way = " -> ".join([*chain, draft.name])
            draft.report(
                draft.path_at,
                "The resource depends on itself" + (f": {way}" if len(chain) > 1 else ""),
                mend="One of them must be asked for without the others",
            )
