"""Connectors for tests, made of a few parts or taken from the corpus."""

from pathlib import Path
from typing import Any

from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.connector.stock_dlt import CORPUS, read

SHOP = Path("shop.json")


def connector(**parts: Any) -> Connector:
    value = {"schedule": {"mode": "manual"}, "client": {"base_url": "https://a.example"}, **parts}
    parsed, findings = parse_connector({"resources": ["items"], **value}, SHOP)
    assert parsed is not None, findings
    return parsed


def from_corpus(name: str) -> Connector:
    path = CORPUS / "valid" / f"{name}.json"
    parsed, findings = parse_connector(read(path), path)
    assert parsed is not None, findings
    return parsed
