"""cURL commands become resources: of documentation, of browsers on three shells, with all their options."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster_tests.authoring.importing.sources import (
    imported,
    loaded,
    paths_of,
    resources_of,
)
from restsource_dagster_tests.making import query
from restsource_dagster_tests.servers.api import Answer, ApiServer, Seen

LINES = json.loads((Path(__file__).parent / "curl_lines.json").read_text())["lines"]


@pytest.mark.parametrize("line", LINES, ids=[line["case"] for line in LINES])
def test_a_cURL_line_becomes_what_it_asks_for(line: dict[str, Any]) -> None:  # noqa: N802
    made = imported(line["command"])
    value = made.draft.value
    assert value["client"] == line["client"]
    assert value["resources"] == line["resources"]
    assert dict(made.draft.variables.values()) == line.get("variables", {})
    for state in ("guessed", "not_mapped"):
        assert ["/" + path for path in line.get(state, [])] == [
            pointer.replace("~1", "/") for pointer in paths_of(made, state)
        ]
    for secret in filter(None, line.get("variables", {}).values()):
        assert f'"{secret}"' not in made.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("curl", "cURL command"),
        ("curl -H 'A: b'", "without an address"),
        ("curl 'https://api.example.com", "no closing quotation"),
        ("curl -X DELETE https://api.example.com/orders/1", "no request that reads records"),
        ("curl ftp://api.example.com/x", "no address of a web server"),
        ("curl https://api.example.com:port/x", "can't be read"),
        ("wget https://api.example.com", "no cURL command"),
        ("curl https://api.example.com/orders -H", "expected one argument"),
        (
            "curl -d '" + "[" * 5000 + "' https://api.example.com/search -o",
            "expected one argument",
        ),
    ],
)
def test_what_can_not_be_read_is_told_without_its_values(text: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        imported(text, "curl")


def test_a_deep_body_is_sent_as_text() -> None:
    body = "[" * 50_000
    made = imported(f"curl https://api.example.com/search -d {body}")
    assert resources_of(made)["search"]["endpoint"]["data"] == body


def test_a_request_to_another_server_is_reported() -> None:
    made = imported(
        "curl https://a.example.com/orders\ncurl https://a.example.com/lines\n"
        "curl https://b.example.com/orders"
    )
    assert set(resources_of(made)) == {"orders", "lines"}
    assert paths_of(made, "not_mapped") == {"/3": "another server: it needs a connector of its own"}


def test_an_imported_command_loads_what_the_command_gets(tmp_path: Path) -> None:
    """Two pages of a query with a key, and a search with a JSON body, as cURL would send them."""
    rows = [{"id": number, "note": "{x}"} for number in range(5)]

    def orders(seen: Seen) -> Any:
        if seen.headers["authorization"] != "Basic a2V5Og==" or seen.query["tag"] != "{a}":
            return Answer({"error": "no"}, status=401)
        start = (int(seen.query["page"]) - 1) * int(seen.query["per_page"])
        return rows[start : start + int(seen.query["per_page"])]

    def search(seen: Seen) -> Any:
        return rows if json.loads(seen.body) == {"text": "it's {here}"} else Answer({}, status=400)

    with ApiServer({"/v1/orders": orders, "/v1/search": search}) as server:
        body = shlex.quote(json.dumps({"text": "it's {here}"}))
        made = imported(
            f"curl -u key: '{server.url}/v1/orders?page=1&per_page=3&tag=%7Ba%7D'\n"
            f"curl {server.url}/v1/search -u key: --json {body}",
            name="shop",
        )
        settings = loaded(made, tmp_path)
    assert query(settings, "select id, note from shop.orders order by id") == [
        (row["id"], row["note"]) for row in rows
    ]
    assert query(settings, "select count(*) from shop.search") == [(5,)]
