"""The JSON Schema of connector files, with which editors complete and explain fields."""

from typing import Any

from restsource_dagster.connector.models.connector_file import ConnectorFile

__all__ = ["connector_schema"]


def connector_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the models, a new dict for each call.

    `restsource check` also finds what a schema can't express: placeholders, parents, keys of a merge,
    JSON paths.
    """
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
