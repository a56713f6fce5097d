"""`restsource templates`: the templates that a file can use."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from restsource_dagster.cli.common import read_settings
from restsource_dagster.cli.options import ConfigsOption, JsonOption
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    Style,
    choose_style,
    print_json,
    print_lines,
    print_notice,
)
from restsource_dagster.connector.models.template_head import TemplateInput
from restsource_dagster.connector.templates import (
    Template,
    find_template,
    known_templates,
)
from restsource_dagster.connector.validation.diagnostics import printable

__all__ = ["templates"]


def templates(configs: ConfigsOption = None, as_json: JsonOption = False) -> None:
    """List the templates: what they load, and the inputs that they need.

    Shipped templates, and a project's own in the folder `templates` of its connector files.

    Exit code 1 if a template of the project has errors.

    Example: restsource templates
    """
    folder = read_settings(configs).configs
    found = [find_template(name, folder) for name in known_templates(folder)]
    sound = [each for each in found if isinstance(each, Template)]
    if as_json:
        print_json({"templates": [_as_json(template) for template in sound]})
    else:
        style = choose_style()
        print_lines(line for template in sound for line in _lines(template, style))
    problems = [
        problem
        for each in found
        if each is not None and not isinstance(each, Template)
        for problem in each
    ]
    for problem in problems:
        print_notice(problem.as_text())
    if problems:
        raise typer.Exit(EXIT_FAILED)


def _lines(template: Template, style: Style) -> Iterator[str]:
    head = template.head
    yield f"{style(template.name, bold=True)}  {printable(head.title)}, version {printable(head.version)}"
    yield f"  resources: {printable(', '.join(template.resources))}"
    for name, each in head.inputs.items():
        yield f"  {name}: {printable(each.description)}{_kind(each)}"
    if head.documentation:
        yield f"  {printable(head.documentation)}"
    yield ""


def _kind(each: TemplateInput) -> str:
    parts = [*(["a secret"] if each.secret else []), *(["" if each.is_needed else "optional"])]
    if each.default is not None:
        parts.append(f"default {each.default}")
    said = [part for part in parts if part]
    return f" ({', '.join(said)})" if said else ""


def _as_json(template: Template) -> Mapping[str, Any]:
    head = template.head
    resources: Sequence[str] = template.resources
    return {
        "name": template.name,
        "title": head.title,
        "version": head.version,
        "documentation": head.documentation,
        "path": str(template.document.path),
        "resources": list(resources),
        "inputs": {
            name: {
                "description": each.description,
                "type": each.type,
                "secret": each.secret,
                "required": each.is_needed,
                "default": each.default,
                "pattern": each.pattern,
            }
            for name, each in head.inputs.items()
        },
    }
