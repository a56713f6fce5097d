"""The connector file that a file with a `template` stands for.

A file that names a template gives the `inputs`, picks resources, adds its own, and overrides fields.
`expand` makes of both the connector file that they stand for. It keeps for each part of that file where
it is written, so that a problem is shown there.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from restsource_dagster.connector.models.template_head import (
    TemplateInput,
)
from restsource_dagster.connector.parsing.document import TEMPLATES_FOLDER, Document
from restsource_dagster.connector.templates import (
    HEAD_FIELDS,
    INPUT_REFERENCE,
    Template,
    find_template,
    fits_input,
    items_inside,
    known_templates,
    name_in_resource,
    texts_inside,
)
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    Problem,
    describe_value,
    json_pointer,
    nearest_name,
    pointer_steps,
    quoted_list,
    quoted_name,
)

__all__ = ["ALL_OTHERS", "Expansion", "expand"]

ALL_OTHERS = "*"
"""In `resources` of a file that uses a template: all of the template's that the list doesn't name."""


_PARENT = re.compile(r"\{resources\.([^{}.]+)\.")


# merged field by field, as `resource_defaults` are; of all others the file's own wins as a whole
_MERGED_FIELDS = frozenset(
    {"client", "http", "resource_defaults", "endpoint", "params", "headers", "json", "columns"}
)


_OWN_FIELDS = ("template", "inputs")


# the value in place of one that is missing or wrong: it leads to no second finding
_STANDS_FOR: Mapping[str, Any] = {"text": "${MISSING}", "number": 1, "boolean": False}


@dataclass(frozen=True)
class _Node:
    """A JSON value with the place where it is written. The values of objects and lists are nodes."""

    document: Document
    path: FieldPath
    value: Any

    @classmethod
    def of(cls, document: Document, value: Any, path: FieldPath = ()) -> "_Node":
        """Return the nodes of a value of a document."""
        if isinstance(value, dict):
            value = {key: cls.of(document, item, (*path, key)) for key, item in value.items()}
        elif isinstance(value, list):
            value = [cls.of(document, item, (*path, at)) for at, item in enumerate(value)]
        return cls(document, path, value)

    @property
    def plain(self) -> Any:
        """The JSON value."""
        if isinstance(self.value, dict):
            return {key: node.plain for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain for node in self.value]
        return self.value

    def leaves(self) -> Iterator["_Node"]:
        """Yield the nodes that hold no others."""
        if not isinstance(self.value, dict | list):
            yield self
        for _, node in items_inside(self.value):
            yield from node.leaves()

    def child(self, token: str) -> "_Node | None":
        """Return the node at a key or an index; None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(token)
        if isinstance(self.value, list) and token.isdecimal() and int(token) < len(self.value):
            return self.value[int(token)]  # type: ignore[no-any-return]
        return None

    def overridden_by(self, other: "_Node") -> "_Node":
        """Return this object with the fields of another one; both hold objects."""
        fields = dict(self.value)
        for key, node in other.value.items():
            mine = fields.get(key)
            both = (
                mine is not None and isinstance(mine.value, dict) and isinstance(node.value, dict)
            )
            merges = both and key in _MERGED_FIELDS
            fields[key] = mine.overridden_by(node) if merges and mine is not None else node
        return _Node(other.document, other.path, fields)


@dataclass(frozen=True)
class Expansion:
    """The connector file that a file and its template stand for."""

    template: Template
    value: dict[str, Any]
    findings: tuple[Finding, ...]
    """What is wrong with how the file uses the template. Its pointers are in the file."""
    _document: Document = field(repr=False)
    _root: _Node = field(repr=False)

    def located(self, finding: Finding) -> Problem:
        """Return a finding about `value` with the place in the file, else in the template."""
        node = self._root
        # followed as far as it goes: a missing field is reported at the object that lacks it
        rest = pointer_steps(finding.pointer)
        while rest:
            child = node.child(rest[0])
            if child is None:
                break
            node, rest = child, rest[1:]
        pointer = json_pointer((*node.path, *rest))
        return node.document.located(replace(finding, pointer=pointer))

    def line(self, pointer: str) -> int:
        """Return the line of the file that a part of `value` comes from; else that of `template`."""
        problem = self.located(Finding(pointer, ""))
        # a line of the template says nothing to an editor that has the file open
        is_own = problem.path == self._document.path
        return problem.line if is_own else self._document.position("/template")[0]


def expand(document: Document) -> Expansion | tuple[Problem, ...]:
    """Return what a file that uses a template stands for; its problems if there is no such template."""
    name, configs = document.value["template"], document.path.parent
    if not isinstance(name, str):
        found = describe_value(name)
        finding = Finding("/template", "A template is given by its name", found, "a text")
        return (document.located(finding),)
    template = find_template(name, configs)
    if template is None:
        return (document.located(_unknown_template(name, known_templates(configs))),)
    if not isinstance(template, Template):
        return template
    return _expand(document, template)


def _unknown_template(name: str, known: Sequence[str]) -> Finding:
    close = nearest_name(name, known)
    own = f"or write it as {TEMPLATES_FOLDER}/{name}.json in this folder"
    fix = f'Write "{close}", {own}' if close else f"There are {quoted_list(known, 'and')}; {own}"
    return Finding("/template", f"There is no template {quoted_name(name)}", fix=fix)


def _expand(document: Document, template: Template) -> Expansion:
    mine = _Node.of(document, document.value)
    inputs, findings = _given_inputs(mine, template)
    theirs = _filled_fields(_Node.of(template.document, template.document.value), inputs)
    fields = {key: node for key, node in theirs.value.items() if key not in HEAD_FIELDS}
    own = {key: node for key, node in mine.value.items() if key not in _OWN_FIELDS}
    # chosen by name, and not merged by their places in the list
    offered = fields.pop("resources").value
    picked = own.pop("resources", None)
    root = _Node(template.document, (), fields).overridden_by(_Node(document, (), own))
    if picked is not None and not isinstance(picked.value, list):
        resources = picked  # its problem is found as that of any file
    else:
        chosen, more = _choose_resources(picked.value if picked else None, offered)
        findings.extend(more)
        place = picked or _Node(template.document, ("resources",), None)
        resources = _Node(place.document, place.path, chosen)
    root.value["resources"] = resources
    # last: what the file overrides needs no input
    findings.extend(_missing_inputs(mine, template, root))
    return Expansion(template, root.plain, tuple(findings), document, root)


def _given_inputs(mine: _Node, template: Template) -> tuple[dict[str, _Node], list[Finding]]:
    """Return the value of each input, with its place, and what is wrong with those of the file."""
    at, declared = mine.value.get("inputs"), template.head.inputs
    if at is not None and not isinstance(at.value, dict):
        shown = describe_value(at.plain)
        wrong = Finding("/inputs", "Inputs are given by name", shown, "an object")
        return {name: _stand_in(template, name) for name in declared}, [wrong]
    given: Mapping[str, _Node] = at.value if at else {}
    findings = [_unknown_input(name, template) for name in given if name not in declared]
    values = {}
    for name, expected in declared.items():
        if name in given:
            found = list(_input_findings(name, expected, given[name].plain))
            is_refused = any(finding.severity == "error" for finding in found)
            # a warning, such as of a secret in the file, leaves the value in force
            values[name] = _stand_in(template, name) if is_refused else given[name]
            findings.extend(found)
        elif expected.is_needed:
            values[name] = _stand_in(template, name)
        else:
            place = ("inputs", name, "default")
            values[name] = _Node(template.document, place, expected.default)
        # a default that ends is a matter of the template's version
        used_at = ("inputs", name) if name in given else ("template",)
        findings.extend(_end_findings(name, expected, values[name].plain, used_at))
    return values, findings


def _end_findings(
    name: str, expected: TemplateInput, value: Any, at: FieldPath
) -> Iterator[Finding]:
    """Yield a warning if the API takes the value of an input no longer, or not for long."""
    told = expected.warning_of_end(value, datetime.now(UTC).date())
    if told is None:
        return
    said, latest = told
    yield Finding(
        json_pointer(at),
        f"The input {quoted_name(name)} is {describe_value(value, at)}, which {said}",
        fix=f'Write "{name}": "{latest}" in `inputs`'
        if latest
        else f"Write a newer {quoted_name(name)} in `inputs`, or install a newer restsource-dagster",
        severity="warning",
        on_key=at == ("template",),
    )


def _stand_in(template: Template, name: str) -> _Node:
    """Return a value for an input that is missing or wrong, which leads to no second finding."""
    value = _STANDS_FOR[template.head.inputs[name].type]
    return _Node(template.document, ("inputs", name), value)


def _unknown_input(name: str, template: Template) -> Finding:
    declared = template.head.inputs
    close = nearest_name(name, declared)
    known = f"Its inputs: {quoted_list(declared, 'and')}" if declared else "It has none"
    return Finding(
        json_pointer(("inputs", name)),
        f"The template {quoted_name(template.name)} has no input {quoted_name(name)}",
        fix=f"Write `{close}`" if close else known,
        on_key=True,
    )


def _missing_inputs(mine: _Node, template: Template, root: _Node) -> Iterator[Finding]:
    """Yield the needed inputs that the file leaves out, unless it overrides all that they are for."""
    at = mine.value.get("inputs")
    given = at.value if at else {}
    if not isinstance(given, dict):
        return
    # what is left of an input after the overrides: its place is that of the value
    used = {node.path[1] for node in root.leaves() if node.path[:1] == ("inputs",)}
    for name, expected in template.head.inputs.items():
        if expected.is_needed and name not in given and name in used:
            yield Finding(
                "/inputs" if at else "/template",
                f"The input {quoted_name(name)} is missing: {expected.description}",
                fix=f'Add "{name}": "{_example(name, expected)}" to `inputs`',
                on_key=True,
            )


def _example(name: str, expected: TemplateInput) -> str:
    return f"${{{name.upper()}}}" if expected.secret else "..."


def _input_findings(name: str, expected: TemplateInput, value: Any) -> Iterator[Finding]:
    at: FieldPath = ("inputs", name)
    # its value is known in a run only
    is_reference = isinstance(value, str) and "${" in value
    # `null` leaves an optional input out
    if value is None and not expected.is_needed:
        return
    if not fits_input(expected, value):
        yield Finding(
            json_pointer(at),
            f"The input {quoted_name(name)} has another type: {expected.description}",
            describe_value(value, at),
            f"a {expected.type}",
        )
    elif expected.secret and not is_reference:
        yield Finding(
            json_pointer(at),
            f"The input {quoted_name(name)} is a secret, and a secret in a file is read by all who have it",
            fix=f'Write "${{{name.upper()}}}", and the value into .env',
            severity="warning",
        )
    elif expected.pattern and not is_reference and not re.fullmatch(expected.pattern, str(value)):
        yield Finding(
            json_pointer(at),
            f"The input {quoted_name(name)} has another form: {expected.description}",
            None if expected.secret else describe_value(value, at),
            f"a text that matches `{expected.pattern}`",
        )


def _filled(node: _Node, inputs: Mapping[str, _Node]) -> _Node | None:
    """Return a node of a template with its inputs filled in; None for one that is left out.

    A text that is nothing but an input becomes the input's value, of any type; the place of a text
    with an input is that of the input.
    """
    if isinstance(node.value, dict):
        return _filled_fields(node, inputs)
    if isinstance(node.value, list):
        items = [_filled(item, inputs) for item in node.value]
        return _Node(node.document, node.path, [item for item in items if item is not None])
    names = INPUT_REFERENCE.findall(node.value) if isinstance(node.value, str) else []
    if not names:
        return node
    first = inputs[names[0]]
    if node.value == f"${{input.{names[0]}}}":
        # the field goes with its input
        return None if first.value is None else first
    text = INPUT_REFERENCE.sub(lambda match: _as_text(inputs[match[1]].plain), node.value)
    return _Node(first.document, first.path, text)


def _filled_fields(node: _Node, inputs: Mapping[str, _Node]) -> _Node:
    made = {key: _filled(item, inputs) for key, item in node.value.items()}
    fields = {key: item for key, item in made.items() if item is not None}
    return _Node(node.document, node.path, fields)


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _choose_resources(
    picked: Sequence[_Node] | None, offered: Sequence[_Node]
) -> tuple[list[_Node], list[Finding]]:
    """Return the resources of the expansion: those picked, with overrides, and their parents.

    Without a list, all of the template's. A parent that isn't picked is there for its dependents and
    is not loaded (`selected`).
    """
    by_name = {name_in_resource(node.plain): _as_object(node) for node in offered}
    if picked is None:
        return list(by_name.values()), []
    findings, chosen = [], {}
    named = {name_in_resource(item.plain) for item in picked}
    for index, item in enumerate(picked):
        name = name_in_resource(item.plain)
        if item.value == ALL_OTHERS:
            # at the place of the `*`, so that the order stays the file's
            chosen.update({key: node for key, node in by_name.items() if key not in named})
        elif name in by_name:
            own = item if isinstance(item.value, dict) else _Node(item.document, item.path, {})
            chosen[name] = by_name[name].overridden_by(own)
        else:
            # a resource of the file's own; its mistakes are found as those of any file
            chosen[name or f"#{index}"] = item
            if isinstance(item.value, str):
                findings.append(_unknown_resource(item, by_name))
    parents = _missing_parents(chosen, by_name)
    return [*parents, *chosen.values()], findings


def _as_object(node: _Node) -> _Node:
    if isinstance(node.value, dict):
        return node
    return _Node(node.document, node.path, {"name": node})


def _unknown_resource(item: _Node, known: Iterable[str]) -> Finding:
    names = list(known)
    close = nearest_name(item.value, names)
    return Finding(
        json_pointer(item.path),
        f"The template has no resource {quoted_name(item.value)}",
        fix=f'Write "{close}"'
        if close
        else f"It has {quoted_list(names, 'and')}. A resource of your own is an object with `name` and "
        "`endpoint`",
    )


def _missing_parents(chosen: Mapping[str, _Node], offered: Mapping[str, _Node]) -> list[_Node]:
    """Return the parents that chosen resources need, deselected, each before its dependents."""
    found: dict[str, _Node] = {}
    # a parent may have a parent itself
    waiting = list(chosen.values())
    while waiting:
        for name in _parents_of(waiting.pop().plain):
            if name in offered and name not in chosen and name not in found:
                parent = offered[name]
                off = _Node(parent.document, parent.path, False)
                found[name] = _Node(parent.document, parent.path, {**parent.value, "selected": off})
                waiting.append(parent)
    # found from the dependents upwards
    return list(reversed(found.values()))


def _parents_of(resource: Any) -> set[str]:
    parents = {name for _, text in texts_inside(resource, ()) for name in _PARENT.findall(text)}
    rename = resource.get("rename_from") if isinstance(resource, dict) else None
    if isinstance(rename, dict) and "resource" in rename:
        parents.add(str(rename["resource"]))
    return parents | {
        str(value["resource"])
        for value in _objects(resource)
        if value.get("type") == "resolve" and "resource" in value
    }


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for _, item in items_inside(value):
        yield from _objects(item)
