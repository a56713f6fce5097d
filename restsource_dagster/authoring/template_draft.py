"""A new file that uses a template: its inputs as a person types them, with references in place of secrets."""

from collections.abc import Mapping, Sequence
from typing import Any

from restsource_dagster.connector.models.template_head import TemplateInput
from restsource_dagster.connector.templates import Template

__all__ = ["template_file", "typed_input"]

_SCHEDULE = {"mode": "hours", "interval": 1}
_FALSE_WORDS = frozenset({"false", "no", "0"})


def typed_input(text: str, expected: TemplateInput) -> Any:
    """Return an input in the type that the template says. Raises `ValueError` for no number."""
    if expected.type == "number":
        try:
            return int(text)
        except ValueError:
            return float(text)
    if expected.type == "boolean":
        return text.lower() not in _FALSE_WORDS
    return text


def template_file(
    name: str, template: Template, given: Mapping[str, Any], resources: Sequence[str] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the value of a file, and the variables that it refers to; an empty one is to be filled in.

    `given` has the inputs by name. A secret that is no reference becomes one.
    """
    values: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    for key, expected in template.head.inputs.items():
        value = given.get(key)
        if value is None:
            continue
        if expected.secret and not str(value).startswith("${"):
            variable = f"{name}_{key}".upper()
            values[key], secrets[variable] = f"${{{variable}}}", str(value)
        else:
            values[key] = value
    made = {
        "template": template.name,
        "inputs": values,
        "schedule": _SCHEDULE,
        **({"resources": list(resources)} if resources else {}),
    }
    return made, secrets
