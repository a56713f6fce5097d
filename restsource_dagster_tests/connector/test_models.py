"""What a connector is once its file is read: envelope, schedule, dlt's part."""

import gc
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from restsource_dagster.connector.models.auth import BearerAuth
from restsource_dagster.connector.models.connector_file import ConnectorFile
from restsource_dagster.connector.models.fields import as_json
from restsource_dagster.connector.models.http_settings import HttpSettings
from restsource_dagster.connector.models.schedule import IntervalSchedule, ManualSchedule
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.connector.helpers import connector, from_corpus
from restsource_dagster_tests.connector.stock_dlt import CORPUS, DLT_FIELDS, corpus, for_dlt, read


def test_the_name_is_the_files_stem_unless_given() -> None:
    assert connector().name == "shop"
    assert connector(name="store").name == "store"


def test_the_envelope_is_kept() -> None:
    envelope = from_corpus("envelope")

    assert envelope.owners == ("team:data", "ada@example.com")
    assert envelope.tags == {"tier": "gold", "acme/cost-centre": "42"}
    assert envelope.created_at == datetime(2026, 11, 23, 10, 3, tzinfo=UTC)
    assert envelope.http.timeout_seconds == 30.0
    assert connector().created_at is None
    assert connector().http.timeout_seconds == 60.0


def test_a_model_with_other_fields_leaves_the_first_one_and_what_it_shares_as_they_are() -> None:
    http = HttpSettings.of({})
    other = http.model_copy(update={"max_pages": 7})
    assert (other.max_pages, other.given) == (7, {"max_pages": 7})
    assert (http.given, HttpSettings.of({}).given) == ({}, {})


def test_a_time_without_a_zone_is_utc() -> None:
    parsed = connector(created_at="2026-11-23T10:03:00")

    assert parsed.created_at == datetime(2026, 11, 23, 10, 3, tzinfo=UTC)


def test_schedules_have_a_period() -> None:
    assert connector(schedule={"mode": "manual"}).schedule == ManualSchedule(mode="manual")
    hours = connector(schedule={"mode": "hours", "offset": 15}).schedule
    assert isinstance(hours, IntervalSchedule)
    assert (hours.interval, hours.offset, hours.period) == (1, 15, timedelta(hours=1))
    assert IntervalSchedule(mode="days", interval=60, offset=86_399).period == timedelta(days=60)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "minutes"},
        {"mode": "minutes", "interval": 10, "offset": 0},
        {"mode": "hours", "interval": 1, "offset": 60},
        {"mode": "days", "interval": 0},
        {"mode": "days", "interval": 10**40},
        {"mode": "days", "interval": True},
        {"mode": "hours", "offset": -1},
    ],
)
def test_an_impossible_schedule_cant_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IntervalSchedule(**fields)


def test_references_are_named_and_not_resolved() -> None:
    parsed = from_corpus("references_everywhere")

    assert parsed.references == {"TENANT", "KEY", "A", "B", "VERSION"}
    assert parsed.client.auth == BearerAuth(token="${A}${B}")


@pytest.mark.parametrize("path", corpus("valid"), ids=lambda path: path.stem)
def test_the_models_lose_nothing_of_what_dlt_reads(path: Path) -> None:
    value = read(path)
    file = ConnectorFile.model_validate(value)
    config = {name: as_json(getattr(file, name)) for name in DLT_FIELDS if name in value}

    assert for_dlt(config) == for_dlt(value)


def test_parsing_leaves_the_value_alone() -> None:
    path = CORPUS / "valid" / "defaults_merge.json"
    value = read(path)

    parse_connector(value, path)

    assert value == read(path)


def test_a_connector_takes_few_bytes_for_each_resource() -> None:
    endpoint = {
        "path": "things",
        "params": {"updated_since": "{incremental.start_value}"},
        "incremental": {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"},
    }
    names = [f"things_{number}" for number in range(200)]
    value = json.dumps([{"name": n, "primary_key": "id", "endpoint": endpoint} for n in names])
    connector(resources=json.loads(value))
    tracemalloc.start()
    try:
        kept = connector(resources=json.loads(value))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken / len(kept.resources) < 3_000
