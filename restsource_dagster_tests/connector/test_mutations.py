"""Valid files with one mistake each: `check` names the line of the mistake and what to write there."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from restsource_dagster.connector.fixes import fixed_text
from restsource_dagster.connector.loader import load_text
from restsource_dagster.connector.validation.diagnostics import Problem

SHOP: dict[str, Any] = {
    "description": "A shop",
    "client": {
        "base_url": "https://shop.example/v1/",
        "headers": {"Accept": "application/json"},
        "auth": {"type": "api_key", "name": "X-Key", "api_key": "${SHOP_KEY}", "location": "header"},
        "paginator": {"type": "offset", "limit": 100, "total_path": "total"},
    },
    "schedule": {"mode": "hours", "interval": 6, "offset": 0},
    "http": {"timeout_seconds": 30, "rate_limits": [{"requests": 10, "per": "60s"}]},
    "resource_defaults": {"primary_key": "id"},
    "resources": [
        {
            "name": "orders",
            "write_disposition": "merge",
            "table_name": "all_orders",
            "columns": {"total": {"data_type": "decimal"}},
            "endpoint": {
                "path": "orders",
                "method": "GET",
                "params": {"since": "{incremental.start_value}", "expand": "lines"},
                "data_selector": "data.orders",
                "incremental": {
                    "cursor_path": "updated_at",
                    "initial_value": "2024-01-01T00:00:00Z",
                    "row_order": "asc",
                },
                "paginator": {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": None},
            },
        },
        {
            "name": "refunds",
            "include_from_parent": ["id"],
            "endpoint": {
                "path": "orders/{resources.orders.id}/refunds",
                "response_actions": [{"status_code": 404, "action": "ignore"}],
            },
        },
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """A file with one mistake: where it is and what the fix has to name."""

    name: str
    text: str
    suffix: str
    lines: tuple[int, ...]
    fix: str
    mended: str | None = None
    """The text after `check --fix`, if that mends the mistake."""


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=200)


def objects(
    value: Any, at: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    if isinstance(value, dict):
        yield at, value
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for step, item in inner:
        yield from objects(item, (*at, step))


SHOP_JSON = as_json(SHOP)
SHOP_YAML = as_yaml(SHOP)


def object_at(value: Any, at: tuple[str | int, ...]) -> Any:
    for step in at:
        value = value[step]
    return value


def line_of(text: str, needle: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if needle in line)


OPEN = {"headers", "params", "columns"}
"""Objects whose names are the API's."""


def renamed(
    value: dict[str, Any], at: tuple[str | int, ...], name: str, wrong: str
) -> dict[str, Any]:
    changed = copy.deepcopy(value)
    target = object_at(changed, at)
    entries = [(wrong if key == name else key, item) for key, item in target.items()]
    target.clear()
    target.update(entries)
    return changed


def spelled_wrong(name: str) -> Iterator[str]:
    middle = len(name) // 2
    yield name[:middle] + name[middle + 1 :]
    yield name[:middle] + name[middle - 1] + name[middle:]
    yield name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]
    yield re.sub(r"_(\w)", lambda found: found[1].upper(), name)
    yield name.replace("_", "-")


def misspelled_fields() -> Iterator[Mutation]:
    for at, inner in objects(SHOP):
        if (at and at[-1] in OPEN) or "columns" in at:
            continue
        for name in inner:
            for wrong in dict.fromkeys(spelled_wrong(name)):
                if wrong == name or len(name) < 4 or wrong in inner:
                    continue
                text = as_json(renamed(SHOP, at, name, wrong))
                changed = text.replace(f'"{wrong}":', "\0")
                if changed.count("\0") != 1:
                    continue
                yield Mutation(
                    f"{'.'.join(map(str, at))}.{wrong}",
                    text,
                    ".json",
                    (line_of(text, f'"{wrong}":'),),
                    f"`{name}`",
                    SHOP_JSON,
                )


VALUES: dict[tuple[str | int, ...], list[tuple[Any, str, bool]]] = {
    ("schedule",): [("mode:manual", "a colon and a space", False)],
    ("schedule", "mode"): [("HOURS", '"hours"', True), (7, "`hours`", False), ("hour", '"hours"', True), ("hourz", '"hours"', True)],
    ("schedule", "interval"): [("6", "6", True), ("6h", "a whole number", False), (-1, "at least 1", False)],
    ("client", "auth", "type"): [("apikey", '"api_key"', True), ("api_kye", '"api_key"', True)],
    ("http", "rate_limits"): [({"requests": 10, "per": "60s"}, "list", False)],
    ("client", "auth", "location"): [("headers", '"header"', True)],
    ("client", "paginator", "type"): [("ofset", '"offset"', True)],
    ("client", "paginator", "limit"): [("100", "100", True)],
    ("http", "timeout_seconds"): [("30", "30", True)],
    ("resources", 0, "write_disposition"): [("megre", '"merge"', True), ("overwrite", '"replace"', False)],
    ("resources", 0, "columns", "total", "data_type"): [("decimall", '"decimal"', True), ("number", '"double"', False)],
    ("resources", 0, "endpoint", "params", "since"): [
        ("{start_value}", "{incremental.start_value}", True),
        ("${incremental.start_value}", "{incremental.start_value}", True),
        ("{incremental.start_valu}", "{incremental.start_value}", False),
    ],
    ("resources", 0, "endpoint", "data_selector"): [
        ("data[orders", "Close the bracket", False),
        ("data.orders]", "Leave the `]` out", False),
        ("data['orders", "bracket", False),
        ("data orders", "quotes", False),
        ("data/orders", "`data.orders`", False),
    ],
    ("resources", 0, "endpoint", "incremental", "cursor_path"): [("items[", "Close the bracket", False), ("items[*].at", "one value", False)],
    ("resources", 0, "endpoint", "incremental", "row_order"): [("ascending", '"asc"', True)],
    ("resources", 0, "endpoint", "paginator", "base_page"): [("1", "1", True)],
    ("resources", 1, "endpoint", "path"): [
        ("orders/{orders.id}/refunds", "{resources.orders.id}", True),
        ("orders/{id}/refunds", "{resources.orders.id}", False),
        ("orders/{resource.orders.id}/refunds", "{resources.orders.id}", False),
        ("orders/{resources.order.id}/refunds", "orders", False),
        ("orders/{resources.orders.id/refunds", "brace", False),
    ],
    ("resources", 1, "endpoint", "response_actions"): [({"status_code": 404, "action": "ignore"}, "list", False)],
    ("resources", 1, "include_from_parent"): [("id", '["id"]', True)],
    ("client", "base_url"): [("shop.example/v1/", "https://shop.example/v1/", True), ("<your-domain>/v1", "your own", False)],
    ("resources", 0, "endpoint"): [([{"path": "orders"}], "an object", False)],
    ("resources",): [({"name": "orders", "endpoint": {"path": "orders"}}, "list", False)],
}  # fmt: skip
"""Wrong values by their place, each with what the fix has to name, and whether `check --fix` mends it."""


def wrong_values() -> Iterator[Mutation]:
    for at, cases in VALUES.items():
        for wrong, fix, is_mended in cases:
            changed = copy.deepcopy(SHOP)
            object_at(changed, at[:-1])[at[-1]] = wrong
            text = as_json(changed)
            line = first_difference(text, SHOP_JSON)
            yield Mutation(
                f"{'.'.join(map(str, at))}={wrong}",
                text,
                ".json",
                (line, line + 1),
                fix,
                SHOP_JSON if is_mended and fix != '["id"]' else None,
            )


def first_difference(one: str, other: str) -> int:
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    return next(number for number, (left, right) in enumerate(pairs, 1) if left != right)


MOVES: list[tuple[tuple[str | int, ...], str, tuple[str | int, ...], str]] = [
    (("client",), "base_url", (), "`client`"),
    (("client",), "headers", (), "`client`"),
    (("client",), "auth", (), "`client`"),
    (("client",), "paginator", (), "`client`"),
    (("client",), "auth", ("resources", 0), "endpoint"),
    ((), "http", ("client",), "beside `client`"),
    ((), "schedule", ("client",), "beside `client`"),
    ((), "resources", ("client",), "beside `client`"),
    (("schedule",), "interval", (), "`schedule`"),
    (("schedule",), "mode", (), "`schedule`"),
    (("http",), "timeout_seconds", (), "`http`"),
    (("http",), "rate_limits", ("client",), "`http`"),
    (("resources", 0, "endpoint"), "path", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "params", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "method", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "data_selector", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "incremental", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "paginator", ("resources", 0), "`endpoint`"),
    (("resources", 0, "endpoint"), "data_selector", ("resources", 0, "endpoint", "incremental"), "`endpoint`"),
    (("resources", 0), "write_disposition", ("resources", 0, "endpoint"), "the resource"),
    (("resources", 0), "table_name", ("resources", 0, "endpoint"), "the resource"),
    (("resources", 0), "columns", ("resources", 0, "endpoint"), "the resource"),
    (("resources", 0, "endpoint", "incremental"), "cursor_path", ("resources", 0, "endpoint"), "`incremental`"),
    (("resources", 0, "endpoint", "incremental"), "row_order", ("resources", 0, "endpoint"), "`incremental`"),
    (("resources", 0, "endpoint", "incremental"), "initial_value", ("resources", 0, "endpoint"), "`incremental`"),
    (("resources", 0, "endpoint", "paginator"), "page_param", ("resources", 0, "endpoint"), "`paginator`"),
    (("resources", 1, "endpoint"), "response_actions", ("resources", 1), "`endpoint`"),
    (("resources", 1), "include_from_parent", ("resources", 1, "endpoint"), "the resource"),
]  # fmt: skip


def misspelt_parents() -> Iterator[Mutation]:
    """What else stands beside a misspelt parent is no mistake, and not told to be one."""
    for name, value in (("children", "replace"), ("include_from_parent", ["id"])):
        changed = copy.deepcopy(SHOP)
        changed["resources"][1][name] = value
        changed["resources"][1]["endpoint"]["path"] = "orders/{resources.order.id}/refunds"
        text = as_json(changed)
        line = line_of(text, "resources.order.id")
        yield Mutation(f"{name} beside a misspelt parent", text, ".json", (line,), "Write `orders`")


WORDS = [
    (("resources", 0), "endpoint", "request"),
    (("resources", 0, "endpoint"), "incremental", "cursor"),
    (("resources", 0, "endpoint", "incremental"), "cursor_path", "cursor_field"),
    (("resources", 0, "endpoint"), "paginator", "pagination"),
    (("client",), "base_url", "host"),
    (("client",), "auth", "authentication"),
    (("schedule",), "interval", "every"),
    ((), "resources", "streams"),
]
"""Fields by the words that other tools have for them."""


def words_of_other_tools() -> Iterator[Mutation]:
    for at, name, wrong in WORDS:
        text = as_json(renamed(SHOP, at, name, wrong))
        place = (line_of(text, f'"{wrong}":'),)
        yield Mutation(f"{wrong} for {name}", text, ".json", place, f"Write `{name}`")


SYNTAX = {
    "no comma": (r",$", "", "Write a comma"),
    "single quotes": (r'"', "'", "Write"),
    "an equals sign": (r'": ', '" = ', "a colon"),
    "a key without quotes": (r'"(\w+)":', r"\1:", 'Write "'),
    "an open quote": (r'",$', ",", "to close the text"),
    "a comment": (r"$", " # why", "Delete it"),
    "twice": (r"^(.*)$", r"\1\n\1", "Keep one"),
}
"""What is replaced in a line, by what, and what the fix has to name."""


def broken_json() -> Iterator[Mutation]:
    lines = as_json(SHOP).splitlines()
    chosen = [at for at, line in enumerate(lines) if re.search(r'^\s+"\w+": "\w+",$', line)]
    for at in chosen[::2]:
        for name, (pattern, new, fix) in SYNTAX.items():
            broken = re.sub(pattern, new, lines[at])
            text = "\n".join([*lines[:at], broken, *lines[at + 1 :]]) + "\n"
            # what is missing at the end of a line may be seen at the next one
            yield Mutation(f"{at + 1} {name}", text, ".json", (at + 1, at + 2), fix)


def misplaced_fields() -> Iterator[Mutation]:
    for source, name, target, fix in MOVES:
        changed = copy.deepcopy(SHOP)
        item = object_at(changed, source).pop(name)
        object_at(changed, target)[name] = item
        text = as_json(changed)
        indent = "  " * (len(target) + 1)
        line = next(
            number
            for number, each in enumerate(text.splitlines(), 1)
            if each.startswith(f'{indent}"{name}":')
        )
        yield Mutation(
            f"{name} in {'.'.join(map(str, target)) or 'file'}", text, ".json", (line,), fix
        )


def is_shop(text: str) -> bool:
    try:
        return bool(yaml.safe_load(text) == SHOP)
    except yaml.YAMLError:
        return False


def broken_yaml() -> Iterator[Mutation]:
    lines = SHOP_YAML.splitlines()
    for number, line in enumerate(lines, 1):
        entry = re.fullmatch(r"(\s*(?:- )?)([a-z_]+):( .*)?", line)
        if entry is None:
            continue
        start, name, value = entry.groups()

        def with_line(*new: str, number: int = number) -> str:
            return "\n".join([*lines[: number - 1], *new, *lines[number:]]) + "\n"

        if value and ": " not in value and "{" not in value and "'" not in value:
            yield Mutation(
                f"{number} {name}, no colon",
                with_line(f"{start}{name}{value}"),
                ".yaml",
                (number,),
                "colon|`" + name,
            )
            yield Mutation(
                f"{number} {name}, no space",
                with_line(f"{start}{name}:{value.strip()}"),
                ".yaml",
                (number,),
                f"`{name}|space",
            )
            yield Mutation(
                f"{number} {name}, quote",
                with_line(f'{start}{name}: "{value.strip()}'),
                ".yaml",
                (number,),
                "Close the quote",
            )
        if not value:
            yield Mutation(
                f"{number} {name}, no colon",
                with_line(f"{start}{name}"),
                ".yaml",
                (number,),
                "colon|`" + name,
            )
        if start.endswith("- "):
            yield Mutation(
                f"{number} {name}, no space after dash",
                with_line(f"{start.rstrip()}{name}:{value or ''}"),
                ".yaml",
                (number,),
                "dash",
            )
        if start and "-" not in start:
            yield Mutation(
                f"{number} {name}, tab",
                with_line("\t" + line.strip()),
                ".yaml",
                (number,),
                "not with tabs",
            )
            deeper = with_line(" " + line)
            if not is_shop(deeper):
                yield Mutation(
                    f"{number} {name}, indent",
                    deeper,
                    ".yaml",
                    (number - 1, number, number + 1),
                    "",
                )


MUTATIONS = [
    *misspelled_fields(),
    *wrong_values(),
    *misspelt_parents(),
    *words_of_other_tools(),
    *misplaced_fields(),
    *broken_json(),
    *broken_yaml(),
]


@cache
def told(mutation: Mutation) -> tuple[Problem, ...]:
    return load_text(mutation.text, Path(f"shop{mutation.suffix}")).problems


def has_right_place(mutation: Mutation) -> bool:
    return any(problem.line in mutation.lines for problem in told(mutation))


def has_right_fix(mutation: Mutation) -> bool:
    return any(
        re.search("|".join(map(re.escape, mutation.fix.split("|"))), problem.explanation)
        for problem in told(mutation)
    )


def test_base_file_is_right_in_both_notations() -> None:
    for suffix, text in ((".json", SHOP_JSON), (".yaml", SHOP_YAML)):
        assert load_text(text, Path(f"shop{suffix}")).problems == ()


def test_mistakes_are_many_and_all_found() -> None:
    assert len(MUTATIONS) >= 200
    assert [each.name for each in MUTATIONS if not told(each)] == []


def test_place_of_a_mistake_is_named() -> None:
    wrong = [
        (each.name, each.lines, [p.as_text() for p in told(each)])
        for each in MUTATIONS
        if not has_right_place(each)
    ]
    assert len(wrong) <= len(MUTATIONS) / 100, wrong


def test_nothing_else_is_told_beside_a_misspelt_parent() -> None:
    for mutation in misspelt_parents():
        [problem] = told(mutation)
        assert problem.line in mutation.lines


def test_what_to_write_is_named() -> None:
    wrong = [
        (each.name, each.fix, [p.as_text() for p in told(each)])
        for each in MUTATIONS
        if not has_right_fix(each)
    ]
    assert len(wrong) <= len(MUTATIONS) / 10, wrong


@pytest.mark.parametrize(
    "mutation", [each for each in MUTATIONS if each.mended], ids=lambda each: each.name
)
def test_replacement_of_a_mistake_gives_the_right_file_or_none(mutation: Mutation) -> None:
    mended = fixed_text(mutation.text, Path(f"shop{mutation.suffix}"))
    assert mended in (mutation.mended, mutation.text)


def test_misspelt_field_is_the_one_that_takes_its_value() -> None:
    changed = copy.deepcopy(SHOP)
    changed["resources"][0]["endpoint"]["atuh"] = {"type": "bearer", "token": "${T}"}
    problems = load_text(as_json(changed), Path("shop.json")).problems
    # `path` has as many letters in common with it
    assert [problem.fix for problem in problems] == ["Write `auth`"]
