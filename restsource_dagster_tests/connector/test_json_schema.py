"""The generated files are current, and the JSON Schema judges structure as the models do."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema.protocols import Validator
from pydantic import ValidationError

from restsource_dagster.connector.json_schema import connector_schema
from restsource_dagster.connector.models.connector_file import ConnectorFile
from restsource_dagster.connector.reference_docs import GENERATED_FILES
from restsource_dagster_tests.connector.stock_dlt import corpus, read

ROOT = Path(__file__).parents[2]
FILES = [*corpus("valid"), *corpus("invalid")]

SCHEMA_CANT_SAY = {
    "backfill_end_first",  # one field after another
    "backfill_end_within",  # where a window begins
    "backfill_start_text",  # a date
    "backfill_start_too_early",
    "backfill_start_tuesday",
    "backfill_start_within",
    "convert_unknown_letter",  # a pattern of times
    "created_at_no_time",  # a time
    "cursor_format_without_a_day",
    "incremental_bad_path",  # a JSON path
    "incremental_path_of_many",
    "incremental_path_of_many_in_defaults",
    "paginator_bad_path",
    "schedule_offset_too_big",  # one field less than another
    "timezone_misspelt",  # the names of time zones
}
"""Structural problems that need more than a schema."""
SCHEMA_SAYS_TOO = {
    "auth_basic_half",  # dlt finds them when it builds the source; a schema can say them as well
    "resource_empty_name",
    "resource_name_reference",
    "resource_slash",
    "resources_empty",
    "numbers_as_flags",  # dlt takes true for 1, an editor shouldn't offer it
}


@cache
def validator() -> Validator:
    schema = connector_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def models_accept(value: Any) -> bool:
    try:
        ConnectorFile.model_validate(value)
    except ValidationError:
        return False
    return True


def descriptions_missing(node: Any, place: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    missing = []
    for name, field in node.get("properties", {}).items():
        if isinstance(field, dict) and not ("description" in field or "$ref" in field):
            missing.append(f"{place}/{name}")
    for name, part in node.get("$defs", {}).items():
        missing += [name] * ("description" not in part) + descriptions_missing(part, name)
    return missing


@pytest.mark.parametrize("path", GENERATED_FILES, ids=str)
def test_generated_files_are_current(path: Path) -> None:
    message = f"{path} is out of date: run python -m restsource_dagster.connector.reference_docs"

    assert (ROOT / path).read_text(encoding="utf-8") == GENERATED_FILES[path](), message


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_schema_agrees_with_the_models(path: Path) -> None:
    value = read(path)
    expected = models_accept(value)
    if path.stem in SCHEMA_CANT_SAY | SCHEMA_SAYS_TOO:
        expected = not expected

    assert validator().is_valid(value) is expected


def test_every_field_and_object_has_a_text_for_hovering() -> None:
    assert descriptions_missing(connector_schema()) == []


def test_no_reference_in_the_schema_leads_nowhere() -> None:
    schema = connector_schema()
    text = str(schema)

    assert "Unknown" not in text
    for name in schema["$defs"]:
        assert f"#/$defs/{name}'" in text
