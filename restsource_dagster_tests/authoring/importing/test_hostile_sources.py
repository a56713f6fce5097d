"""Random changes of each kind of source end in a file that `check` passes, or in a sentence; never in a crash.

`RESTSOURCE_TEST_MUTATIONS=2000` tries more of them.
"""

import ast
import copy
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.authoring.importing.import_source import ImportKind, import_source
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile, parse_data
from restsource_dagster.authoring.importing.source_pieces import leaves_of
from restsource_dagster.connector.validation.diagnostics import FieldPath
from restsource_dagster_tests.authoring.importing.sources import unaccounted
from restsource_dagster_tests.authoring.importing.test_postman_and_har import (
    archive,
    collection,
    entry,
    orders,
)

HERE = Path(__file__).parent
MUTATIONS = int(os.environ.get("RESTSOURCE_TEST_MUTATIONS", "60"))
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**70, 1.5, "", " ", "{", "}}", "{{", "${", "${X}", "$ref", "a b"),
    *("{x}", "{{ config['a'] }}", "{{ a", "\ud800", "\x00", "\ue000X\ue001", "é" * 300, "#/paths"),
    *("https://", "http://[", "//x", "a/b?c=d#e", "true", "-1", "resources", "{resources.a.b}"),
    *(
        [],
        {},
        [[]],
        [None],
        {"": ""},
        {"$ref": "#"},
        {"$ref": "#/"},
        {"a": {"b": [1, {"c": None}]}},
    ),
)


def documents() -> dict[ImportKind, Any]:
    """A document of each kind that is JSON."""
    base = "https://api.example.com/v1"
    return {
        "openapi": parse_data(SourceFile("", (HERE / "shop.openapi.yaml").read_text())),
        "airbyte": parse_data(SourceFile("", (HERE / "shop.airbyte.yaml").read_text())),
        "postman": collection(),
        "har": archive(
            entry(f"{base}/orders?limit=3", orders(1, 3, "c2")),
            entry(f"{base}/orders?limit=3&cursor=c2", orders(4, 3, None)),
        ),
    }


def places(value: Any) -> list[FieldPath]:
    """The paths of all values below the root."""
    found: list[FieldPath] = []
    for path, _ in leaves_of(value):
        found.extend(path[:length] for length in range(1, len(path) + 1))
    return found


def mutated(document: Any, chance: random.Random) -> Any:
    """The document with one to three values replaced, left out, moved or renamed."""
    made = copy.deepcopy(document)
    for _ in range(chance.randint(1, 3)):
        paths = places(made)
        if not paths:
            break
        path = chance.choice(paths)
        holder = made
        for step in path[:-1]:
            holder = holder[step]
        kind = chance.randrange(4)
        if kind == 0:
            del holder[path[-1]]
        elif kind == 1 and isinstance(holder, dict):
            holder[chance.choice(["x", "$ref", "name", "type", str(path[-1]).upper()])] = (
                holder.pop(path[-1])
            )
        elif kind == 2:
            other: Any = made
            for step in chance.choice(paths):
                try:
                    other = other[step]
                except (KeyError, IndexError, TypeError):
                    break
            holder[path[-1]] = copy.deepcopy(other)
        else:
            holder[path[-1]] = copy.deepcopy(chance.choice(ODD))
    return made


def imported_or_told(text: str, kind: ImportKind, document: Any) -> bool:
    """True if a file was made: one that is valid, or whose errors are told."""
    try:
        made = import_source([SourceFile("source", text)], kind)
    except SourceError:
        return False
    if document is not None:
        assert unaccounted(document, made) == []
    # only what a file can't do without is left: its address, and that it has resources
    assert {each.pointer.split("/")[1] for each in made.errors if each.pointer} <= {
        "client",
        "resources",
    }
    assert json.loads(made.text) == made.draft.value
    return not made.errors


@pytest.mark.parametrize("kind", ["openapi", "airbyte", "postman", "har"])
def test_random_changes_of_a_document_never_crash_the_import(kind: ImportKind) -> None:
    document = documents()[kind]
    made = 0
    for seed in range(MUTATIONS):
        changed = mutated(document, random.Random(f"{kind} {seed}"))
        text = json.dumps(changed)
        try:
            made += imported_or_told(text, kind, changed)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {kind}: {text[:2000]}") from error
    assert made > MUTATIONS / 3


def changed_text(text: str, chance: random.Random) -> str:
    """The text with some characters left out, doubled or replaced."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        length = chance.choice([1, 1, 2, 5, 20])
        new = chance.choice(
            ["", text[at : at + length] * 2, *"'\"\\{}[]()^`$&|@#:=-\n,%", "-d @x "]
        )
        text = text[:at] + new + text[at + length :]
    return text


def test_random_changes_of_commands_and_code_never_crash_the_import() -> None:
    lines = [
        each["command"] for each in json.loads((HERE / "curl_lines.json").read_text())["lines"]
    ]
    code = (HERE / "shop.dlt.txt").read_text()
    for seed in range(MUTATIONS * 3):
        chance = random.Random(f"text {seed}")
        text = changed_text(chance.choice(lines), chance)
        try:
            imported_or_told(text, "curl", None)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text}") from error
    for seed in range(MUTATIONS * 2):
        text = changed_text(code, random.Random(f"code {seed}"))
        try:
            ast.parse(text)
        except (SyntaxError, ValueError):
            if seed % 5:
                continue
        try:
            imported_or_told(text, "dlt", None)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text[400:2000]}") from error


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("curl", "\n" * 2_000_000),
        ("curl", "curl https://api.example.com/x -d '" + "{{" * 500_000 + "'"),
        ("curl", "curl " + "https://api.example.com/x " * 200_000),
        ("curl", "curl " + "'" * 999_999),
        ("curl", 'curl "' + "\\" * 999_999),
        ("curl", "Invoke-WebRequest -Headers @{" + '""' * 100_000),
        ("curl", 'Invoke-WebRequest -Uri "' + '""`' * 100_000),
        ("curl", "Invoke-WebRequest -Headers @{" + "'a'=\"b\" " * 50_000),
        ("postman", json.dumps(collection(item=[{"request": {"url": "{{" + " " * 1_000_000}}]))),
        ("postman", json.dumps(collection(item=[{"request": {"url": "{{" * 500_000}}]))),
        ("airbyte", json.dumps({"streams": [{"name": "{{" * 500_000}], "check": 1})),
        ("dlt", "rest_api_source({'client': {'base_url': " + "'a' + " * 20_000 + "''}})"),
        ("openapi", json.dumps({"paths": {"/{" * 100_000: {"get": {}}}})),
    ],
)
def test_texts_that_are_hard_to_read_take_no_time(kind: ImportKind, text: str) -> None:
    began = time.process_time()
    try:
        import_source([SourceFile("source", text)], kind)
    except SourceError:
        assert kind
    assert time.process_time() - began < 5
