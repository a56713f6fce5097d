"""dlt's configurations in Python code: literals are read, and nothing is executed."""

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

SHOP = (Path(__file__).parent / "shop.dlt.txt").read_text()
"""A module that would end the process if it were run."""


def source(client: str = "", resources: str = '["orders"]', before: str = "") -> str:
    """Code with a call of `rest_api_source`."""
    base = '"base_url": "https://api.example.com"'
    config = f'{{"client": {{{base}, {client}}}, "resources": {resources}}}'
    return f"{before}\nshop = rest_api_source({config}, name='shop')\n"


def test_a_module_becomes_a_connector() -> None:
    made = imported(SHOP)
    assert made.kind == "dlt"
    assert made.draft.name == "shop"
    assert made.draft.value["client"] == {
        "base_url": "${SHOP_URL}/v1",
        "auth": {"type": "bearer", "token": "${SHOP_TOKEN}"},
        "headers": {"X-Api-Key": "${SHOP_X_API_KEY}", "X-Shop": "${SHOP_NAME:-main}"},
        "paginator": {"type": "json_link", "next_url_path": "next"},
    }
    found = resources_of(made)
    assert set(found) == {"orders", "lines", "countries"}
    assert found["orders"]["endpoint"]["params"]["since"] == {
        "type": "incremental",
        "cursor_path": "updated_at",
        "initial_value": "2026-01-01T00:00:00Z",
    }
    assert "processing_steps" not in found["orders"]
    assert "s3cr3t" not in made.text
    assert set(paths_of(made, "not_mapped")) == {
        "/client/session",
        "/other",
        "/resources/0/endpoint/response_actions/1",
        "/resources/0/processing_steps/0/filter",
        "/resources/3",
        "/resources/4",
    }


@pytest.mark.parametrize(
    ("client", "part"),
    [
        (
            '"auth": {"token": "abc"}',
            {"auth": {"token": "${SHOP_TOKEN}"}},
        ),
        (
            '"auth": {"type": "bearer", "token": dlt.secrets["sources.shop.token"]}',
            {"auth": {"type": "bearer", "token": "${dlt:sources.shop.token}"}},
        ),
        (
            '"auth": APIKeyAuth("X-Key", os.environ["KEY"], location="header")',
            {
                "auth": {
                    "type": "api_key",
                    "name": "X-Key",
                    "api_key": "${KEY}",
                    "location": "header",
                }
            },
        ),
        (
            '"auth": HttpBasicAuth(username="bob", password=PASSWORD)',
            {
                "auth": {
                    "type": "http_basic",
                    "username": "${SHOP_USERNAME}",
                    "password": "${SHOP_PASSWORD}",
                }
            },
        ),
        (
            '"paginator": PageNumberPaginator(base_page=1, total_path=None)',
            {"paginator": {"type": "page_number", "base_page": 1, "total_path": None}},
        ),
        (
            '"paginator": JSONResponseCursorPaginator(cursor_path="next", cursor_param="c")',
            {"paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "c"}},
        ),
        ('"paginator": MyPaginator()', {}),
        ('"headers": {"A": "x" if DEBUG else "y", "B": "b"}', {"headers": {"B": "b"}}),
        ('**{"headers": {"B": f"{LETTER}1"}}', {"headers": {"B": "b1"}}),
    ],
)
def test_each_part_is_read_or_reported(client: str, part: Any) -> None:
    made = imported(source(client, before="PASSWORD = 'pw'\nLETTER = 'b'\nimport dlt, os"))
    value = dict(made.draft.value["client"])
    assert value.pop("base_url") == "https://api.example.com"
    assert value == part


def test_a_second_configuration_is_reported() -> None:
    made = imported(source() + source())
    assert list(paths_of(made, "not_mapped")) == ["/configuration in line 4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rest_api_source(", "line 1 is no Python"),
        ("import rest_api_source", "no call of rest_api_source"),
        ("rest_api_source(make())", "no dictionary"),
        ("a = b\nb = a\nrest_api_source(a)", "no dictionary"),
        (source(resources="make()"), "no list of resources"),
        (source(resources="[]"), "no resource"),
        (source(resources="[{'name': name_of()}]"), "no resource"),
        ("rest_api_source(" + "(" * 5000 + ")" * 5000 + ")", "nested too deeply|no Python"),
        ("rest_api_source(" + "[" * 90 + "]" * 90 + ")", "no dictionary"),
        ("rest_api_source(" + "-" * 50_000 + "1)", "nested too deeply|no dictionary"),
        (
            "a0 = ['x'] * 9\n"
            + "\n".join(f"a{n} = a{n - 1} + a{n - 1}" for n in range(1, 60))
            + "\nrest_api_source(a59)",
            "no dictionary",
        ),
    ],
)
def test_what_can_not_be_read_is_told(text: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        imported(text, "dlt")


def test_an_imported_module_loads_what_dlt_would(tmp_path: Path) -> None:
    rows = [{"id": n, "updated_at": f"2026-01-0{n}T00:00:00Z"} for n in range(1, 6)]

    def orders(seen: Seen) -> Any:
        is_login = seen.headers.get("authorization") == "Bearer t0ken"
        if not is_login or seen.headers["x-api-key"] != "s3cr3t" or seen.query["sort"] != "updated":
            return Answer({}, status=401)
        start = int(seen.query["offset"])
        return {"data": rows[start : start + int(seen.query["limit"])]}

    answers: dict[str, Any] = {"/v1/orders": orders, "/v1/countries": [{"id": 1, "code": "de"}]}
    answers |= {f"/v1/orders/{n}/lines": [{"id": n}] for n in range(1, 6)}
    with ApiServer(answers) as server:
        made = imported(SHOP)
        settings = loaded(made, tmp_path, SHOP_URL=server.url, SHOP_TOKEN="t0ken", SHOP_NAME="main")
    assert query(settings, "select id from shop.orders order by 1") == [(n,) for n in range(1, 6)]
    assert query(settings, "select count(*) from shop.lines") == [(5,)]
    assert query(settings, "select code from shop.countries") == [("de",)]
