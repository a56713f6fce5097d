"""A folder of connector files: which are found, which are loaded, and that none harms another."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restsource_dagster.connector.loader import (
    LoadedFolder,
    find_connector_files,
    fingerprint_folder,
    load_file,
    load_folder,
    load_wanted,
    mention_of,
)
from restsource_dagster.connector.naming import dataset_identifier


def shop(**changes: Any) -> str:
    value = {
        "schedule": {"mode": "hours"},
        "client": {"base_url": "https://api.example.com/"},
        "resources": ["orders", {"name": "countries", "primary_key": "code"}],
        **changes,
    }
    return json.dumps(value, indent=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.json").write_text(shop())
    return tmp_path


def test_json_and_yaml_files_of_the_folder_are_found_by_name(folder: Path) -> None:
    for name in ("b.yaml", "a.yml", "C.JSON", "notes.txt", "d.json.bak", "e.json~"):
        (folder / name).write_text("{}")
    (folder / "below").mkdir()
    (folder / "below" / "z.json").write_text("{}")
    assert [path.name for path in find_connector_files(folder)] == [
        "C.JSON",
        "a.yml",
        "b.yaml",
        "shop.json",
    ]


def test_hidden_files_and_those_of_editors_are_left_out(folder: Path) -> None:
    for name in (".shop.json", ".#shop.json", "#shop.json", "~shop.json", ".json", "~$shop.json"):
        (folder / name).write_text("{}")
    assert [path.name for path in find_connector_files(folder)] == ["shop.json"]


def test_folder_that_is_not_there_has_no_files_and_one_problem(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert find_connector_files(missing) == ()
    (broken,) = load_folder(missing).broken
    assert broken.path == missing
    assert "RESTSOURCE_CONFIGS" in broken.problems[0].as_text()


def test_file_where_a_folder_should_be_is_one_problem(folder: Path) -> None:
    assert len(load_folder(folder / "shop.json").problems) == 1


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda folder: (folder / "new.json").write_text("{}"),
    "changed": lambda folder: (folder / "shop.json").write_text("{}"),
    "removed": lambda folder: (folder / "shop.json").unlink(),
    "renamed": lambda folder: (folder / "shop.json").rename(folder / "shops.json"),
    "made readable": lambda folder: (folder / "shop.json").chmod(0o604),
    "replaced by one of the same size and time": lambda folder: _replace(folder / "shop.json"),
    "broken link added": lambda folder: (folder / "gone.json").symlink_to("nowhere"),
    "query added": lambda folder: (folder / "orders.graphql").write_text("{ orders { id } }"),
    "query of a template added": lambda folder: _write_query(folder / "templates"),
    "folder removed": shutil.rmtree,
}


def _write_query(folder: Path) -> None:
    folder.mkdir()
    (folder / "orders.gql").write_text("{ orders { id } }")


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_when_a_file_is(folder: Path, change: str) -> None:
    before = fingerprint_folder(folder)
    assert fingerprint_folder(folder) == before
    CHANGES[change](folder)
    assert fingerprint_folder(folder) != before


def test_fingerprint_does_not_change_with_other_files(folder: Path) -> None:
    before = fingerprint_folder(folder)
    (folder / "notes.txt").write_text("x")
    (folder / ".shop.json.swp").write_text("x")
    assert fingerprint_folder(folder) == before


def test_fingerprint_follows_links_as_mounted_configuration_has_them(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "shop.json").write_text(shop())
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "shop.json").symlink_to("..data/shop.json")
    before = fingerprint_folder(tmp_path)
    (tmp_path / "..data").unlink()
    (tmp_path / "..data").symlink_to("v2")
    assert fingerprint_folder(tmp_path) != before


def test_good_file_gives_a_connector_whose_resources_know_their_lines(folder: Path) -> None:
    loaded = load_file(folder / "shop.json")
    assert loaded.problems == ()
    assert loaded.connector is not None
    assert loaded.connector.name == "shop"
    lines = (folder / "shop.json").read_text().splitlines()
    for resource in loaded.connector.resources:
        found = lines[resource.line - 1 : resource.line + 1]
        assert any(resource.name in line for line in found)


def test_every_problem_of_a_file_is_located_and_none_hides_another(folder: Path) -> None:
    (folder / "shop.json").write_text(
        "{\n"
        '  "schedule": {"mode": "daily"},  // every day\n'
        '  "client": {"base_url": "https://api.example.com/", "auth": {"type": "oauth2"}},\n'
        '  "resources": ["orders", "orders"],\n'
        "}\n"
    )
    loaded = load_file(folder / "shop.json")
    assert loaded.connector is None
    assert sorted({problem.line for problem in loaded.problems}) == [2, 3, 4]
    assert list(loaded.problems) == sorted(loaded.problems)
    assert {"/schedule/mode", "/client/auth/type"} <= {p.pointer for p in loaded.problems}


def test_value_that_was_guessed_is_not_complained_about_twice(folder: Path) -> None:
    (folder / "shop.json").write_text(shop().replace('"hours"', "NaN"))
    (problem,) = load_file(folder / "shop.json").problems
    assert problem.pointer == "/schedule/mode"


def test_broken_file_harms_no_other(folder: Path) -> None:
    (folder / "a.json").write_bytes(b"\x00\xff")
    (folder / "b.json").mkdir()
    os.mkfifo(folder / "c.json")
    (folder / "d.yaml").write_text("- " * 5000)
    loaded = load_folder(folder)
    assert [file.path.name for file in loaded.broken] == ["a.json", "b.json", "c.json", "d.yaml"]
    assert [connector.name for connector in loaded.connectors] == ["shop"]
    assert loaded.fingerprint == fingerprint_folder(folder)


def test_the_first_of_two_namesakes_works_and_the_second_names_it(folder: Path) -> None:
    (folder / "tenders.json").write_text(shop(name="shop"))
    (folder / "shop.yaml").write_text(shop())
    loaded = load_folder(folder)
    assert [connector.path.name for connector in loaded.connectors] == ["shop.json"]
    yaml, tenders = loaded.broken
    assert "shop.json" in yaml.problems[0].as_text()
    assert tenders.problems[0].pointer == "/name"
    lines = tenders.path.read_text().splitlines()
    assert '"name": "shop"' in lines[tenders.problems[0].line - 1]


@pytest.mark.parametrize(("first", "second"), [("a_b", "a__b"), ("shop", "shop_staging")])
def test_names_that_mean_one_dataset_are_refused_in_the_later_file(
    tmp_path: Path, first: str, second: str
) -> None:
    content = {
        "schedule": {"mode": "manual"},
        "client": {"base_url": "https://api.example.com"},
        "resources": ["orders"],
    }
    for file, name in (("1.json", first), ("2.json", second)):
        (tmp_path / file).write_text(json.dumps({"name": name, **content}))
    folder = load_folder(tmp_path)
    assert [connector.name for connector in folder.connectors] == [first]
    [problem] = folder.problems
    assert (problem.path.name, problem.pointer) == ("2.json", "/name")
    assert first in problem.message
    assert "1.json" in (problem.found or "")


def wanted(folder: Path, name: str) -> LoadedFolder:
    return load_wanted(folder, {name}, lambda connector: connector.name == name)


def test_a_wanted_connector_comes_without_the_files_that_do_not_mention_it(folder: Path) -> None:
    for name in ("cafe", "shop_2", "workshop"):
        (folder / f"{name}.json").write_text(shop())
    (folder / "a.json").write_text("{")
    assert [file.path.name for file in wanted(folder, "shop").files] == ["shop.json"]
    assert wanted(folder, "shop").connectors == (load_file(folder / "shop.json").connector,)


@pytest.mark.parametrize("name", ["bakery", "a", "Shop", "", "(", "\udc80", "__ASSET_JOB"])
def test_all_files_come_where_the_wanted_connector_is_not_there(folder: Path, name: str) -> None:
    (folder / "a.json").write_text("{")
    assert wanted(folder, name) == load_folder(folder)


def test_a_missing_folder_is_a_problem_where_a_connector_is_wanted_too(tmp_path: Path) -> None:
    assert wanted(tmp_path / "missing", "shop") == load_folder(tmp_path / "missing")


NAMED = {
    "plain": ("b.json", shop(name="shop")),
    "escaped": ("b.json", shop(name="shop").replace('"shop"', '"sh\\u006fp"')),
    "a key that is escaped": ("b.json", shop(name="shop").replace('"name"', '"n\\u0061me"')),
    "YAML": ("b.yaml", f"{{name: shop, {shop()[1:]}"),
    "YAML, escaped": ("b.yaml", shop(name="shop").replace('"shop"', '"sh\\x6fp"')),
    "YAML, over two lines": ("b.yaml", shop(name="shop").replace('"shop"', '"sh\\\n  op"')),
    "the file's name": ("shop.json", shop()),
}


@pytest.mark.parametrize("spelling", NAMED)
def test_a_wanted_connector_is_found_however_its_name_is_written(
    tmp_path: Path, spelling: str
) -> None:
    name, content = NAMED[spelling]
    (tmp_path / name).write_text(content)
    (tmp_path / "cafe.json").write_text(shop())
    assert [file.path.name for file in wanted(tmp_path, "shop").files] == [name]


def test_a_wanted_connector_that_is_refused_is_refused_for_the_same_file(folder: Path) -> None:
    (folder / "a.json").write_text(shop(name="shop_staging"))
    chosen = wanted(folder, "shop")
    assert chosen.connectors == load_folder(folder).connectors
    assert chosen.problems == load_folder(folder).problems


names = st.lists(
    st.sampled_from(["x", "_", "staging", "_staging", "a", "2"]), min_size=1, max_size=5
).map(lambda parts: "s" + "".join(parts))


@given(name=names, other=names)
def test_a_namesake_is_always_mentioned(name: str, other: str) -> None:
    datasets = [
        {dataset_identifier(each), f"{dataset_identifier(each)}_staging"} for each in (name, other)
    ]
    if datasets[0] & datasets[1]:
        assert mention_of({name}).search(json.dumps({"name": other}).encode())
