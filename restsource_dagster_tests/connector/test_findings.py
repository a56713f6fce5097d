"""Every file of the corpus is judged as its `errors.txt` says, and no finding holds a secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster.connector.validation.diagnostics import Finding
from restsource_dagster.connector.validation.refusals import REFUSALS
from restsource_dagster_tests.connector.stock_dlt import corpus, read

FILES = [*corpus("valid"), *corpus("invalid")]
NEEDS_NO_FILE = {"depth", "not-json", "not-unicode"}
"""Tested beside the corpus, because the file's reader finds them first."""


def findings(path: Path) -> tuple[Finding, ...]:
    return parse_connector(read(path), path)[1]


def expected_lines(path: Path) -> list[str]:
    file = path.with_name(f"{path.stem}.errors.txt")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def says(finding: Finding, line: str) -> bool:
    place, fragment = line.split(": ", 1)
    parts = (finding.message, finding.found, finding.expected, finding.fix)
    text = " ".join(part for part in parts if part)
    return place == f"{finding.severity} {finding.pointer or '(file)'}" and fragment in text


def auth_file(auth: Any) -> dict[str, Any]:
    client = {"base_url": "https://a.example", "auth": auth}
    return {"schedule": {"mode": "manual"}, "client": client, "resources": ["a"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_has_the_findings_that_stand_beside_it(path: Path) -> None:
    lines = expected_lines(path)
    for finding in findings(path):
        line = next((line for line in lines if says(finding, line)), None)
        assert line is not None, f"not expected: {finding}"
        lines.remove(line)
    assert lines == [], "expected and not found"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_valid_files_are_accepted_and_invalid_ones_refused(path: Path) -> None:
    connector, found = parse_connector(read(path), path)

    assert (connector is not None) is (path.parent.name == "valid")
    assert any(finding.severity == "error" for finding in found) is (connector is None)


def test_every_deliberate_refusal_has_a_file_and_every_code_is_documented() -> None:
    codes = {f.code for path in corpus("invalid") for f in findings(path) if f.code}

    assert codes == {f"deliberate:{name}" for name in REFUSALS.keys() - NEEDS_NO_FILE}


@pytest.mark.parametrize(
    ("auth", "fix"),
    [
        (
            {"type": "oauth2"},
            'Write "oauth2_client_credentials" with `access_token_url`, `client_id`',
        ),
        ({"type": "apikey"}, 'Write "api_key" with'),
        ({"type": "basic"}, 'Write "http_basic" with `username` and `password`'),
        ({"type": "Bearer"}, 'Write "bearer" with `token`'),
        ({"type": "bearer_token"}, 'Write "bearer" with `token`'),
        ({"type": "token"}, 'Write "bearer" with `token`'),
        ({"type": "none"}, "Leave out `auth`"),
        ({"type": "jwt"}, 'Write "oauth2_jwt_bearer" with'),
        ("basic", 'Write "http_basic"'),
        ({"type": "api_key", "header_name": "X-Key"}, "Write `name`"),
        ({"type": "bearer", "token": "{{ dlt.secrets['shop.token'] }}"}, "Write `${SHOP_TOKEN}`"),
        ({"type": "bearer", "token": "{{ secrets.shop }}"}, "Write `${SHOP}`"),
    ],
)
def test_the_commonest_mistakes_in_auth_are_answered_with_what_to_write(
    auth: Any, fix: str
) -> None:
    _, found = parse_connector(auth_file(auth), Path("shop.json"))

    assert fix in " ".join(finding.fix or "" for finding in found)


@pytest.mark.parametrize(
    "text",
    ["query {{ viewer {{ config }} }}", "{{ secrets }}", "{{ environment.x }}", "my dlt.secret"],
)
def test_a_text_that_only_resembles_a_template_is_none(text: str) -> None:
    endpoint = {"path": "graphql", "method": "POST", "json": {"query": text}}
    value = {**auth_file(None), "resources": [{"name": "a", "endpoint": endpoint}]}

    assert parse_connector(value, Path("shop.json"))[1] == ()


@pytest.mark.parametrize("path", ["orders/{id}/lines", "orders/<id>/lines", "orders/:id/lines"])
def test_a_path_bound_to_nothing_is_answered_with_the_parents_field(path: str) -> None:
    value = {**auth_file(None), "resources": ["orders", {"name": "lines", "endpoint": path}]}

    _, found = parse_connector(value, Path("shop.json"))

    assert "{resources.orders.id}" in (found[0].fix or "")


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    path = next(path for path in corpus("invalid") if path.stem == "machine_written")

    assert len(findings(path)) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_finding_stays_short(path: Path) -> None:
    for finding in findings(path):
        assert len(finding.found or "") <= 60
        assert len(finding.message) <= 200
        assert "\n" not in finding.message


def test_no_finding_shows_a_secret_of_the_canary_file() -> None:
    path = next(path for path in corpus("invalid") if path.stem == "canary")
    assert "CANARY-1" in path.read_text(encoding="utf-8")

    assert "CANARY" not in json.dumps(
        [finding.at(path, 1, 1).as_dict() for finding in findings(path)]
    )
