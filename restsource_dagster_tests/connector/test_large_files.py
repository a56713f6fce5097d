"""Large files: what they take grows with their size, not with its square."""

import gc
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

from restsource_dagster.connector.loader import iter_folder
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.validation.connector_builder import parse_connector


def _file(resources: int) -> dict[str, Any]:
    return {
        "name": "shop",
        "schedule": {"mode": "manual"},
        "client": {"base_url": "https://api.example.com"},
        "resources": [
            {"name": f"items_{number}", "endpoint": {"path": f"/items/{number}"}}
            for number in range(resources)
        ],
    }


def _peak_bytes(resources: int) -> int:
    value = _file(resources)
    tracemalloc.start()
    try:
        connector, findings = parse_connector(value, Path("configs/shop.json"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert connector is not None, findings
    return peak


def test_memory_grows_with_the_number_of_resources() -> None:
    _peak_bytes(10)  # what is made once
    assert _peak_bytes(2000) < 6 * _peak_bytes(500)


def test_files_of_a_folder_are_not_held_once_they_are_checked(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.json").write_text(
            '{"client": {"base_url": "https://a.example"}, "schedule": {"mode": "manual"}, "resources": ["x"]}'
        )
    earlier: list[weakref.ref[Connector]] = []
    for file in iter_folder(tmp_path):
        gc.collect()
        assert [held() for held in earlier] == [None] * len(earlier)
        assert file.connector is not None
        earlier.append(weakref.ref(file.connector))
        del file
    assert len(earlier) == 3
