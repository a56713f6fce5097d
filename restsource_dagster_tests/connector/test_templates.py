"""A file that uses a template stands for a connector file, and its problems are shown where they are written."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from restsource_dagster.connector.json_schema import connector_schema
from restsource_dagster.connector.loader import LoadedFile, fingerprint_folder, load_file
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.templates import (
    Template,
    find_shipped_template,
    find_template,
    known_templates,
    shipped_templates,
)

SHOP: dict[str, Any] = {
    "title": "Shop",
    "version": "3",
    "inputs": {
        "subdomain": {"description": "The part before .shop.example.", "pattern": "[a-z0-9-]+"},
        "token": {"description": "An API token.", "secret": True},
        "page_size": {"description": "Rows of a page.", "type": "number", "default": 100},
        "all": {"description": "Closed ones, too.", "type": "boolean", "default": False},
        "note": {"description": "A note that is sent along.", "default": None},
    },
    "client": {
        "base_url": "https://${input.subdomain}.shop.example/v1",
        "auth": {"type": "bearer", "token": "${input.token}"},
        "headers": {"X-Note": "${input.note}", "X-Client": "restsource"},
        "paginator": {"type": "json_link", "next_url_path": "next"},
    },
    "resource_defaults": {
        "primary_key": "id",
        "endpoint": {"data_selector": "data", "params": {"limit": "${input.page_size}"}},
    },
    "resources": [
        {
            "name": "orders",
            "endpoint": {
                "path": "orders",
                "params": {"closed": "${input.all}"},
                "incremental": {
                    "cursor_path": "updated_at",
                    "initial_value": "2026-01-01T00:00:00Z",
                    "start_param": "since",
                },
            },
        },
        {"name": "lines", "endpoint": "orders/{resources.orders.id}/lines"},
        {"name": "parts", "endpoint": "lines/{resources.lines.id}/parts"},
        "customers",
    ],
}
INPUTS = {"subdomain": "acme", "token": "${SHOP_TOKEN}"}
MANUAL = {"schedule": {"mode": "manual"}}


def loaded(folder: Path, shop: Any = SHOP, /, *, file: str = "acme", **fields: Any) -> LoadedFile:
    """Load a file that uses the template `shop`; `fields` are the file's, each on a line of its own."""
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "templates" / "shop.json").write_text(json.dumps(shop, indent=1))
    path = folder / f"{file}.json"
    path.write_text(
        json.dumps({"template": "shop", "inputs": INPUTS, **MANUAL, **fields}, indent=1)
    )
    return load_file(path)


def connector(file: LoadedFile) -> Connector:
    assert file.connector is not None, file.problems
    assert not file.problems
    return file.connector


def line_of(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_a_file_of_five_lines_is_the_connector_that_it_stands_for(tmp_path: Path) -> None:
    used = connector(loaded(tmp_path))
    written = json.loads(
        json.dumps({key: SHOP[key] for key in ("client", "resource_defaults", "resources")})
        .replace("${input.subdomain}", "acme")
        .replace("${input.token}", "${SHOP_TOKEN}")
        .replace('"${input.page_size}"', "100")
        .replace('"${input.all}"', "false")
        .replace('"X-Note": "${input.note}", ', "")
    )
    (tmp_path / "plain.json").write_text(json.dumps({**written, **MANUAL}))
    plain = connector(load_file(tmp_path / "plain.json"))
    same = {resource.pointer: 1 for resource in plain.resources}
    assert replace(
        used.with_lines(same), name=plain.name, path=plain.path, template=None
    ) == plain.with_lines(same)
    assert used.template == "shop 3"
    assert used.references == {"SHOP_TOKEN"}


def test_a_picked_resource_brings_its_parents_which_are_not_loaded(tmp_path: Path) -> None:
    file = connector(loaded(tmp_path, resources=["parts"]))
    selected = {resource.name: resource.selected for resource in file.resources}
    assert selected == {"orders": False, "lines": False, "parts": True}


def test_fields_are_merged_as_defaults_are_and_the_files_own_win(tmp_path: Path) -> None:
    endpoint = {"params": {"limit": 7}, "data_selector": "orders"}
    file = connector(
        loaded(
            tmp_path,
            client={"headers": {"X-Client": "mine"}, "paginator": "single_page"},
            resources=[
                {"name": "orders", "endpoint": endpoint, "write_disposition": "append"},
                "*",
                {"name": "visits", "endpoint": "visits"},
            ],
        )
    )
    assert [resource.name for resource in file.resources] == [
        "orders",
        "lines",
        "parts",
        "customers",
        "visits",
    ]
    orders = file.resource("orders")
    assert orders.endpoint.path == "orders"
    assert orders.endpoint.params == {"limit": 7, "closed": False}
    assert orders.endpoint.data_selector == "orders"
    assert orders.incremental is not None
    assert orders.disposition.value == "append"
    assert file.client.headers == {"X-Client": "mine"}
    assert file.client.base_url == "https://acme.shop.example/v1"


PROBLEMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such template": ({"template": "shpo"}, '"template"', 'Write "shop"'),
    "no name of a template": ({"template": 5}, '"template"', "given by its name"),
    "a path in place of a name": ({"template": "../shop"}, '"template"', "There is no template"),
    "an unknown input": (
        {"inputs": {**INPUTS, "tokn": "x"}},
        '"tokn"',
        "has no input `tokn`. Write `token`",
    ),
    "a missing input": ({"inputs": {"token": "${T}"}}, '"inputs"', "`subdomain` is missing"),
    "an input of another form": (
        {"inputs": {**INPUTS, "subdomain": "Acme!"}},
        '"Acme!"',
        "a text that matches `[a-z0-9-]+`",
    ),
    "an input of another type": (
        {"inputs": {**INPUTS, "page_size": "many"}},
        '"many"',
        "expected a number",
    ),
    "inputs that are no object": ({"inputs": ["acme"]}, '"inputs"', "expected an object"),
    "an unknown resource": ({"resources": ["custmers"]}, '"custmers"', 'Write "customers"'),
    "resources that are no list": ({"resources": "orders"}, '"resources"', "a list"),
    "a mistake in an override": (
        {"resources": ["*", {"name": "orders", "write_disposition": "appendd"}]},
        '"appendd"',
        'Write "append"',
    ),
    "a mistake that an input makes": (
        {"inputs": {**INPUTS, "note": "${x y}"}},
        '"${x y}"',
        "${",
    ),
    "an unknown field": ({"ressources": ["orders"]}, '"ressources"', "`resources`"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_is_shown_at_the_line_of_the_file_that_causes_it(
    tmp_path: Path, case: str
) -> None:
    fields, where, text = PROBLEMS[case]
    file = loaded(tmp_path, **fields)
    assert file.connector is None
    assert [problem.path for problem in file.problems] == [file.path], file.problems
    (problem,) = file.problems
    assert problem.line == line_of(file.path, where), problem
    assert text in problem.as_text()


def test_a_problem_of_the_template_is_shown_there(tmp_path: Path) -> None:
    broken = {**SHOP, "client": {**SHOP["client"], "paginator": "jsonlink"}}
    file = loaded(tmp_path, broken)
    (problem,) = file.problems
    assert problem.path == tmp_path / "templates" / "shop.json"
    assert problem.line == line_of(problem.path, '"jsonlink"')


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"version": None}, "/version"),
        ({"inputs": {"a": {"description": "A.", "type": "date"}}}, "/inputs/a/type"),
        ({"inputs": {"a": {"description": "A.", "pattern": "["}}}, "/inputs/a/pattern"),
        (
            {"inputs": {"a": {"description": "A.", "type": "number", "default": "x"}}},
            "/inputs/a/default",
        ),
        ({"client": {"base_url": "https://${input.sub}"}}, "/client/base_url"),
        ({"resources": {"orders": {}}}, "/resources"),
        ({"name": "shop"}, "/name"),
    ],
)
def test_a_template_with_a_mistake_is_refused_at_its_place(
    tmp_path: Path, fields: dict[str, Any], pointer: str
) -> None:
    plain = {
        "title": "T",
        "version": "1",
        "client": {"base_url": "https://a.b"},
        "resources": ["r"],
    }
    file = loaded(tmp_path, {**plain, **fields}, inputs={})
    assert [problem.pointer for problem in file.problems] == [pointer]
    assert {problem.path.name for problem in file.problems} == {"shop.json"}


def test_a_secret_in_a_file_is_a_warning_and_is_not_shown(tmp_path: Path) -> None:
    file = loaded(tmp_path, inputs={**INPUTS, "token": "s3cr3t-t0ken"})
    (problem,) = file.problems
    assert problem.severity == "warning"
    assert "${TOKEN}" in problem.as_text()
    assert "s3cr3t" not in problem.as_text()


def test_a_reference_may_stand_for_any_input(tmp_path: Path) -> None:
    file = connector(loaded(tmp_path, inputs={**INPUTS, "subdomain": "${SHOP_NAME}"}))
    assert file.references == {"SHOP_NAME", "SHOP_TOKEN"}
    resolved = file.resolved({"SHOP_NAME": "acme", "SHOP_TOKEN": "t"})
    assert resolved.client.base_url == "https://acme.shop.example/v1"


def test_an_input_is_not_needed_where_all_that_uses_it_is_overridden(tmp_path: Path) -> None:
    login = {"type": "http_basic", "username": "ann", "password": "${PASSWORD}"}
    file = connector(
        loaded(tmp_path, inputs={"subdomain": "acme"}, client={"auth": login}, resources=["*"])
    )
    assert file.references == {"PASSWORD"}


def test_an_own_template_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    own = {
        "title": "Mine",
        "version": "9",
        "client": {"base_url": "https://a.b"},
        "resources": ["r"],
    }
    (tmp_path / "templates" / "github.json").write_text(json.dumps(own))
    found = find_template("github", tmp_path)
    assert isinstance(found, Template)
    assert found.label == "github 9"
    assert "github" in known_templates(tmp_path)


def test_a_changed_template_changes_the_fingerprint_of_the_folder(tmp_path: Path) -> None:
    loaded(tmp_path)
    before = fingerprint_folder(tmp_path)
    loaded(tmp_path, {**SHOP, "version": "4.1"})
    assert fingerprint_folder(tmp_path) != before


def test_a_value_that_ends_is_warned_of_in_time(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    days = {"old": -1, "near": 80, "later": 120, "last": 400}
    ends = {name: (today + timedelta(days=n)).isoformat() for name, n in days.items()}
    given = {"description": "The version.", "default": "near", "ends": ends}
    shop = {**SHOP, "inputs": {**SHOP["inputs"], "version_of_api": given}}
    told = {}
    for value in ("old", "near", "later", "last", "unknown"):
        file = loaded(tmp_path, shop, inputs={**INPUTS, "version_of_api": value})
        assert file.connector is not None
        told[value] = [(one.severity, one.pointer, one.fix) for one in file.problems]
    warning = (
        "warning",
        "/inputs/version_of_api",
        'Write "version_of_api": "last" in `inputs`',
    )
    assert told == {"old": [warning], "near": [warning], "later": [], "last": [], "unknown": []}
    (by_default,) = loaded(tmp_path, shop).problems
    assert (by_default.pointer, by_default.line) == ("/template", 2)
    assert f"ends on {ends['near']}" in by_default.message
    given["ends"] = {"old": "soon"}
    assert loaded(tmp_path, shop).problems[0].pointer == "/inputs/version_of_api/ends/old"


def test_a_query_is_in_a_file_beside_the_one_that_names_it(tmp_path: Path) -> None:
    theirs = {"name": "orders", "endpoint": {"graphql": {"query_file": "orders.graphql"}}}
    mine = {"name": "visits", "endpoint": {"graphql": {"query_file": "visits.gql"}}}
    template = {**SHOP, "resources": [theirs]}
    (tmp_path / "visits.gql").write_text("{ visits { id } }")
    problems = loaded(tmp_path, template, resources=["orders", mine]).problems
    assert [(problem.path.name, problem.pointer) for problem in problems] == [
        ("shop.json", "/resources/0/endpoint/graphql/query_file")
    ]
    (tmp_path / "templates" / "orders.graphql").write_text("{ orders { id } }")
    file = loaded(tmp_path, template, resources=["orders", mine])
    sent = [resource.endpoint.json_["query"] for resource in connector(file).resources]
    assert sent == ["{{ orders {{ id }} }}", "{{ visits {{ id }} }}"]
    assert file.expanded is not None
    blocks = [resource["endpoint"]["graphql"] for resource in file.expanded["resources"]]
    assert blocks == [{"query": "{ orders { id } }"}, {"query": "{ visits { id } }"}]


def test_resources_have_the_lines_of_the_file(tmp_path: Path) -> None:
    file = loaded(tmp_path, resources=["orders", {"name": "visits", "endpoint": "visits"}])
    lines = {resource.name: resource.line for resource in connector(file).resources}
    assert lines["visits"] == line_of(file.path, '"visits"') - 1
    assert lines["orders"] == line_of(file.path, '"orders"')
    whole = connector(loaded(tmp_path, file="whole"))
    assert {resource.line for resource in whole.resources} == {line_of(whole.path, '"template"')}


@pytest.mark.parametrize("name", shipped_templates())
def test_every_shipped_template_is_used_with_its_needed_inputs_only(
    tmp_path: Path, name: str
) -> None:
    template = find_shipped_template(name)
    assert template.head.documentation
    inputs = {
        key: f"${{{key.upper()}}}" for key, each in template.head.inputs.items() if each.is_needed
    }
    value = {"template": name, "inputs": inputs, **MANUAL}
    (tmp_path / "used.json").write_text(json.dumps(value))
    file = connector(load_file(tmp_path / "used.json"))
    assert [resource.name for resource in file.resources] == list(template.resources)
    schema = jsonschema.Draft202012Validator(connector_schema())
    assert list(schema.iter_errors(value)) == []
    assert not schema.is_valid({**value, "inputs": {**inputs, "nope": "x"}})


def test_the_schema_knows_files_with_and_without_a_template() -> None:
    schema = jsonschema.Draft202012Validator(connector_schema())
    assert schema.is_valid({"template": "mine", **MANUAL, "client": {"headers": {"a": "b"}}})
    assert not schema.is_valid({**MANUAL, "client": {"headers": {"a": "b"}}, "resources": ["a"]})
    assert not schema.is_valid({**MANUAL, "client": {"base_url": "https://a.b"}})
