"""The JSON Schema of connector files, with which editors complete and explain fields."""

from typing import Any

from restsource_dagster.connector.models.connector_file import ConnectorFile
from restsource_dagster.connector.models.template_head import TemplateInput
from restsource_dagster.connector.templates import (
    Template,
    find_shipped_template,
    shipped_templates,
)

__all__ = ["connector_schema", "file_schema"]

_TEMPLATE_FIELDS = {
    "template": {
        "type": "string",
        "description": "The template that the file uses, shipped or in the folder `templates`.",
    },
    "inputs": {
        "type": "object",
        "description": "What the template needs to know, by the names that `restsource templates` "
        "lists.",
    },
}
_TYPES = {"text": "string", "number": "number", "boolean": "boolean"}


def connector_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of connector files, with or without a template.

    A new dict for each call. `restsource check` also finds what a schema can't express: placeholders,
    parents, keys of a merge, JSON paths, what an own template needs.
    """
    schema = file_schema()
    templates = [find_shipped_template(name) for name in shipped_templates()]
    names = {"anyOf": [{"enum": [template.name for template in templates]}, {"type": "string"}]}
    fields = {**_TEMPLATE_FIELDS, "template": {**_TEMPLATE_FIELDS["template"], **names}}
    client = schema["$defs"]["Client"]
    # a file that uses a template may give a part of the client only
    alone: dict[str, Any] = {
        "required": ["client", "resources"],
        "properties": {"client": {"required": client.pop("required")}, "inputs": False},
    }
    schema["properties"] |= fields
    schema["required"] = [name for name in schema["required"] if name not in alone["required"]]
    schema |= {"if": {"required": ["template"]}, "else": alone}
    schema["allOf"] = [_inputs_schema(template) for template in templates]
    return schema


def _inputs_schema(template: Template) -> dict[str, Any]:
    """Return the rule that a file with this template gives its inputs."""
    inputs = template.head.inputs
    needed = [name for name, each in inputs.items() if each.is_needed]
    given = {
        "properties": {name: _input_schema(each) for name, each in inputs.items()},
        "required": needed,
        "additionalProperties": False,
    }
    return {
        "if": {"properties": {"template": {"const": template.name}}, "required": ["template"]},
        "then": {"properties": {"inputs": given}, "required": ["inputs"] if needed else []},
    }


def _input_schema(each: TemplateInput) -> dict[str, Any]:
    kinds = [_TYPES[each.type], *([] if each.is_needed else ["null"])]
    schema: dict[str, Any] = {"type": kinds, "description": each.description}
    if each.default is not None:
        schema["default"] = each.default
    return schema


def file_schema() -> dict[str, Any]:
    """Return the schema of a file that uses no template: that of the models, a new dict for each call."""
    # By alias, as in the file: `$schema` is no name in Python, and `json` is a method of pydantic's
    # models.
    schema = _without_unknown_models(ConnectorFile.model_json_schema(by_alias=True))
    schema["$defs"] = {
        name: part for name, part in schema["$defs"].items() if not name.startswith("Unknown")
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_unknown_models(node: Any) -> Any:
    """Remove members that only catch misspelled types, and write every union as `anyOf`.

    With `oneOf`, editors complete nothing until exactly one member fits.
    """
    if isinstance(node, list):
        return [_without_unknown_models(item) for item in node if not _is_unknown_model(item)]
    if not isinstance(node, dict):
        return node
    cleaned = {
        key: _without_unknown_models(value) for key, value in node.items() if key != "discriminator"
    }
    if "oneOf" in cleaned:
        cleaned["anyOf"] = _flatten_unions(cleaned.pop("oneOf"))
    elif "anyOf" in cleaned:
        cleaned["anyOf"] = _flatten_unions(cleaned["anyOf"])
    return cleaned


def _flatten_unions(members: list[Any]) -> list[Any]:
    """Return the members, with a nested union replaced by its own members."""
    flat: list[Any] = []
    for member in members:
        flat.extend(member["anyOf"] if set(member) == {"anyOf"} else [member])
    return flat


def _is_unknown_model(node: Any) -> bool:
    return isinstance(node, dict) and str(node.get("$ref", "")).startswith("#/$defs/Unknown")
