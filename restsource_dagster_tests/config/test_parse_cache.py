"""Files that were not changed are not parsed again, and nothing is ever different because of it."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from restsource_dagster.config.connector import Connector
from restsource_dagster.config.files import load_folder
from restsource_dagster.config.known_connector import KnownConnector
from restsource_dagster.config.loaded import Folder
from restsource_dagster.config.parse_cache import ParseCache
from restsource_dagster_tests.config.stock_dlt import CORPUS

ROOT = Path(__file__).resolve().parents[2]
SHOP = {
    "schedule": {"mode": "hours"},
    "client": {"base_url": "https://api.example.com/"},
    "resources": ["orders", "customers"],
}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "shop.json").write_text(json.dumps(SHOP))
    return folder


def load(configs: Path) -> Folder:
    """Load the folder as a new process does; the state folder is beside it."""
    return load_folder(configs, ParseCache(configs.parent / "state", configs))


def cache_file(configs: Path) -> Path:
    [path] = (configs.parent / "state" / "parsed").iterdir()
    return path


def names_of_parsed(folder: Folder) -> set[str]:
    """The connectors that have been parsed in full, here and now."""
    return {each.name for each in folder.connectors if "in_full" in vars(each)}


def initial_values(connector: Connector) -> list[Any]:
    return [each.incremental.initial_value for each in connector.resources if each.incremental]


def same(one: Connector, other: Connector) -> bool:
    return all(getattr(one, each.name) == getattr(other, each.name) for each in fields(Connector))


def test_a_known_file_is_parsed_only_when_a_run_asks_for_what_it_needs(configs: Path) -> None:
    load(configs)
    again = load(configs)
    [shop] = again.connectors
    assert [resource.name for resource in shop.resources] == ["orders", "customers"]
    assert (shop.description, shop.owners, shop.tags, shop.created_at) == (None, (), {}, None)
    assert names_of_parsed(again) == set()
    assert shop.rest_api_config()["resources"] == ["orders", "customers"]
    assert shop.http.timeout_seconds == 60
    assert names_of_parsed(again) == {"shop"}


def test_whatever_a_file_may_say_it_comes_back_as_it_was(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    shutil.copytree(CORPUS / "valid", configs)
    fresh = load_folder(configs)
    load(configs)
    again = load(configs)
    assert [file.path for file in again.files] == [file.path for file in fresh.files]
    assert [file.problems for file in again.files] == [file.problems for file in fresh.files]
    assert len(again.connectors) > 50
    for known, connector in zip(again.connectors, fresh.connectors, strict=True):
        assert isinstance(known, KnownConnector), connector.path
        assert same(known, connector), connector.path
        assert [type(value) for value in initial_values(known)] == [
            type(value) for value in initial_values(connector)
        ]
        assert known.families == connector.families


def _replace(path: Path) -> None:
    before = path.stat()
    path.write_text(path.read_text().replace("orders", "things"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: path.write_text(json.dumps({**SHOP, "description": "new"})),
    "replaced, its time kept": _replace,
    "written by another name": lambda path: path.rename(path.with_name("other.json")),
    "other format": lambda path: path.rename(path.with_suffix(".yaml")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_what_it_is_now(configs: Path, change: str) -> None:
    load(configs)
    CHANGES[change](configs / "shop.json")
    [fresh], [known] = load_folder(configs).connectors, load(configs).connectors
    assert same(known, fresh)
    [again] = load(configs).connectors
    assert same(again, fresh)


def test_a_broken_file_is_looked_at_each_time_and_a_removed_one_forgotten(configs: Path) -> None:
    (configs / "bad.json").write_text("{")
    first, again = load(configs), load(configs)
    assert [file.problems for file in first.files] == [file.problems for file in again.files]
    assert b"shop.json" in cache_file(configs).read_bytes()
    assert b"bad.json" not in cache_file(configs).read_bytes()
    (configs / "shop.json").unlink()
    load(configs)
    assert b"shop.json" not in cache_file(configs).read_bytes()


def test_warnings_of_a_known_file_are_told_again(configs: Path) -> None:
    literal = {
        **SHOP,
        "client": {"base_url": "https://a.example", "headers": {"X-Api-Key": "sk5e"}},
    }
    (configs / "shop.json").write_text(json.dumps(literal, indent=1))
    first, again = load(configs), load(configs)
    assert [problem.severity for problem in again.problems] == ["warning"]
    assert again.problems == first.problems


def test_the_rule_for_namesakes_holds_for_known_files_too(configs: Path) -> None:
    (configs / "tenders.json").write_text(json.dumps({**SHOP, "name": "shop"}))
    first, again = load(configs), load(configs)
    assert [file.path.name for file in again.broken] == ["tenders.json"]
    assert again.problems == first.problems


def test_a_connector_is_complete_after_the_cache_has_given_its_memory_back(configs: Path) -> None:
    load(configs)
    cache = ParseCache(configs.parent / "state", configs)
    [shop] = load_folder(configs, cache).connectors
    cache.release()
    [fresh] = load_folder(configs).connectors
    assert same(shop, fresh)


def test_an_unknown_field_of_a_connector_is_told_as_such(configs: Path) -> None:
    load(configs)
    [shop] = load(configs).connectors
    with pytest.raises(AttributeError, match="a connector has no colour"):
        _ = shop.colour  # type: ignore[attr-defined]


def _with_sum(content: bytes, body: bytes) -> bytes:
    version = content.split(b"\n", 1)[0]
    return b"\n".join((version, hashlib.sha256(body).hexdigest().encode(), body))


def _body(content: bytes) -> bytes:
    return content.split(b"\n", 2)[2]


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.abort, ())


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "a bit flipped": lambda content: content.replace(b"orders", b"ordert"),
    "another version": lambda content: b"0" + content[1:],
    "no text": lambda _: bytes(range(256)) * 10,
    "a pickle": lambda _: pickle.dumps(_Trap()),
    "a pickle with the right sum": lambda content: _with_sum(content, pickle.dumps(_Trap())),
    "another form with the right sum": lambda content: _with_sum(content, b'{"shop.json": 1}'),
    "deep, with the right sum": lambda content: _with_sum(content, b"[" * 100_000),
    "an entry that is none, with the right sum": lambda content: _with_sum(
        content,
        json.dumps(
            {name: [row[0], row[1], True, "{}"] for name, row in json.loads(_body(content)).items()}
        ).encode(),
    ),
    "an entry without its resources, with the right sum": lambda content: _with_sum(
        content, _body(content).replace(rb"\"resources\"", rb"\"resource\"")
    ),
    "resources that are none, with the right sum": lambda content: _with_sum(
        content, _body(content).replace(rb"\"method\":\"GET\"", rb"\"method\":[1]")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cache_that_is_wrong_is_as_good_as_none(configs: Path, damage: str) -> None:
    load(configs)
    path = cache_file(configs)
    damaged = DAMAGES[damage](path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    [fresh], [shop] = load_folder(configs).connectors, load(configs).connectors
    assert same(shop, fresh)
    [shop] = load(configs).connectors
    assert same(shop, fresh)


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_a_cache_that_others_may_write_is_not_read(configs: Path, mode: int) -> None:
    load(configs)
    path = cache_file(configs)
    path.write_bytes(
        _with_sum(path.read_bytes(), _body(path.read_bytes()).replace(b"orders", b"x"))
    )
    path.chmod(mode)
    [shop] = load(configs).connectors
    assert [resource.name for resource in shop.resources] == ["orders", "customers"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_pipe_in_its_place_is_not_waited_for(configs: Path) -> None:
    load(configs)
    path = cache_file(configs)
    path.unlink()
    os.mkfifo(path, 0o600)
    [shop] = load(configs).connectors
    assert [resource.name for resource in shop.resources] == ["orders", "customers"]


def test_where_no_state_can_be_kept_files_are_parsed_each_time(configs: Path) -> None:
    (configs.parent / "state").write_text("a file where the folder should be")
    for _ in range(2):
        [shop] = load(configs).connectors
        assert [resource.name for resource in shop.resources] == ["orders", "customers"]


def test_an_unchanged_folder_is_not_written_again(configs: Path) -> None:
    load(configs)
    before = cache_file(configs).stat().st_ino
    load(configs)
    assert cache_file(configs).stat().st_ino == before


def test_processes_that_load_at_the_same_moment_do_not_harm_each_other(configs: Path) -> None:
    for number in range(20):
        (configs / f"shop_{number}.json").write_text(json.dumps(SHOP))
    code = (
        "from pathlib import Path\n"
        "from restsource_dagster.config.files import load_folder\n"
        "from restsource_dagster.config.parse_cache import ParseCache\n"
        "for _ in range(20):\n"
        "    folder = load_folder(Path('configs'), ParseCache(Path('state'), Path('configs')))\n"
        "    assert len(folder.connectors) == 21, folder.problems\n"
        "    next(iter(Path('configs').glob('shop_1*.json'))).touch()\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=configs.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(3)
    ]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert [path.suffix for path in (configs.parent / "state" / "parsed").iterdir()] == [".json"]
    assert all(isinstance(each, KnownConnector) for each in load(configs).connectors)


def test_two_folders_have_a_cache_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shop.json").write_text(json.dumps({**SHOP, "description": name}))
        load(tmp_path / name)
    for name in ("a", "b"):
        [shop] = load(tmp_path / name).connectors
        assert shop.description == name
