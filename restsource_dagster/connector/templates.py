"""Templates: connector files with inputs, which other files use in a few lines.

Finds, reads and checks a template by itself; `template_expansion.py` puts a file and its template together.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from restsource_dagster.connector.models.template_head import (
    TemplateHead,
    TemplateInput,
    version_number,
)
from restsource_dagster.connector.parsing.document import TEMPLATES_FOLDER, Document, read_document
from restsource_dagster.connector.validation.diagnostics import (
    FieldPath,
    Finding,
    Problem,
    json_pointer,
    nearest_name,
    quoted_name,
)

__all__ = [
    "HEAD_FIELDS",
    "INPUT_REFERENCE",
    "Template",
    "find_shipped_template",
    "find_template",
    "fits_input",
    "items_inside",
    "known_templates",
    "name_in_resource",
    "shipped_templates",
    "texts_inside",
]

_SHIPPED = Path(__file__).parent.parent / TEMPLATES_FOLDER
_SUFFIXES = (".json", ".yaml", ".yml")
INPUT_REFERENCE = re.compile(r"\$\{input\.([^{}]*)\}")
HEAD_FIELDS = ("title", "version", "documentation", "limits", "changes", "inputs")

_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class Template:
    """A template that was read: its head, and its parts as JSON."""

    name: str
    document: Document
    head: TemplateHead

    @property
    def resources(self) -> tuple[str, ...]:
        """The names of its resources, in order."""
        return tuple(name_in_resource(item) for item in self.document.value.get("resources", ()))

    @property
    def label(self) -> str:
        """Name and version, as shown with assets."""
        return f"{self.name} {self.head.version}"


def known_templates(configs: Path) -> tuple[str, ...]:
    """Return the names of the project's own templates and of the shipped ones, sorted."""
    return tuple(sorted({*_names_in(configs / TEMPLATES_FOLDER), *_names_in(_SHIPPED)}))


def shipped_templates() -> tuple[str, ...]:
    """Return the names of the templates of this package, sorted."""
    return tuple(sorted(_names_in(_SHIPPED)))


def _names_in(folder: Path) -> set[str]:
    found = folder.iterdir() if folder.is_dir() else ()
    return {path.stem for path in found if path.suffix in _SUFFIXES}


def find_template(name: str, configs: Path) -> Template | tuple[Problem, ...] | None:
    """Return a template by name, its problems if it can't be used, or None if there is none.

    A project's own template comes before a shipped one of the same name.
    """
    for folder in (configs / TEMPLATES_FOLDER, _SHIPPED):
        if name in _names_in(folder):  # false for a name such as `../x`
            return _read_template(name, folder)
    return None


@cache
def find_shipped_template(name: str) -> Template:
    """Return a template of this package. Raises `LookupError` if there is none."""
    template = _read_template(name, _SHIPPED) if name in shipped_templates() else None
    if isinstance(template, Template):
        return template
    raise LookupError(name)


def _read_template(name: str, folder: Path) -> Template | tuple[Problem, ...]:
    places = (folder / f"{name}{suffix}" for suffix in _SUFFIXES)
    # JSON first, if there are several of one name
    document = read_document(next(place for place in places if place.is_file()))
    if not isinstance(document, Document):
        return document
    if document.problems:
        return document.problems
    if not isinstance(document.value, dict):
        return (document.located(Finding("", "A template holds one object")),)
    head = {key: value for key, value in document.value.items() if key in HEAD_FIELDS}
    try:
        model = TemplateHead.parse(head)
    except ValidationError as error:
        # only a template with errors needs it
        from restsource_dagster.connector.validation.schema_errors import schema_findings

        return tuple(map(document.located, schema_findings(TemplateHead, error, head)))
    template = Template(name, document, model)
    findings = tuple(_template_findings(template))
    return tuple(map(document.located, findings)) if findings else template


def _template_findings(template: Template) -> Iterator[Finding]:
    """Yield what is wrong with a template whatever its inputs are."""
    inputs = template.head.inputs
    for name, given in inputs.items():
        at = ("inputs", name)
        if given.default is not None and not fits_input(given, given.default):
            expected = f"a {given.type}"
            yield Finding(
                json_pointer((*at, "default")), "The default has another type", None, expected
            )
        try:
            re.compile(given.pattern or "")
        except re.error as error:
            yield Finding(json_pointer((*at, "pattern")), f"This is no regular expression: {error}")
    for path, text in texts_inside(template.document.value, ()):
        for name in INPUT_REFERENCE.findall(text):
            if name not in inputs:
                close = nearest_name(name, inputs)
                yield Finding(
                    json_pointer(path),
                    f"The template has no input {quoted_name(name)}",
                    fix=f"Write `${{input.{close}}}`" if close else "Add it to `inputs`",
                )
    if "name" in template.document.value:
        message = "A template has no `name`: each file that uses it is a connector of its own"
        yield Finding("/name", message, fix="Leave it out", on_key=True)
    resources = template.document.value.get("resources")
    if not isinstance(resources, list) or not all(map(name_in_resource, resources)):
        yield Finding("/resources", "A template has a list of resources, each with a name")
    else:
        yield from _change_findings(template)


def _change_findings(template: Template) -> Iterator[Finding]:
    """Yield what is wrong with `changes`: versions that can't be compared, and unknown resources."""
    changes = template.head.changes
    latest = version_number(template.head.version)
    if changes and latest is None:
        yield Finding(
            "/version",
            "The version can't be compared with those of `changes`",
            quoted_name(template.head.version),
            "a number, such as 2 or 2.1",
        )
    for index, change in enumerate(changes):
        at, number = ("changes", index), version_number(change.version)
        # a change of a version to come would warn of what no load does yet
        if number is None or (latest is not None and number > latest):
            yield Finding(
                json_pointer((*at, "version")),
                "No version of the template so far has this number",
                quoted_name(change.version),
                f"a number up to {template.head.version}"
                if latest
                else "a number, such as 2 or 2.1",
            )
        for place, name in enumerate(change.resources):
            if name not in template.resources:
                close = nearest_name(name, template.resources)
                yield Finding(
                    json_pointer((*at, "resources", place)),
                    f"The template has no resource {quoted_name(name)}",
                    fix=f'Write "{close}"' if close else "Leave it out",
                )


def texts_inside(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    """Yield the texts of a JSON value with their places; that of the value is `path`."""
    if isinstance(value, str):
        yield path, value
    for key, item in items_inside(value):
        yield from texts_inside(item, (*path, key))


def items_inside(value: Any) -> Iterable[tuple[str | int, Any]]:
    """Return the parts of an object or a list by key or index; none of another value."""
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def name_in_resource(item: Any) -> str:
    """Return the name of a resource as a file has it, a text or an object; empty if it has none."""
    name = item.get("name") if isinstance(item, dict) else item
    return name if isinstance(name, str) else ""


def fits_input(expected: TemplateInput, value: Any) -> bool:
    """True if a value has the type of an input."""
    # `True` is an `int` in Python
    if isinstance(value, bool) and expected.type != "boolean":
        return False
    return isinstance(value, _TYPES[expected.type])
