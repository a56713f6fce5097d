"""`restsource check --fix` mends what another name or value mends, and keeps the file as it is written."""

import stat
from pathlib import Path

import pytest

from restsource_dagster_tests.cli.runner import invoke

BROKEN_JSON = """{
  "client": {"base_url": "https://a.example/",   "auth": {"tpe": "beerer", "tokn": "hunter2"}},
  "schedule": {"method": "hours", "interval": "6"},
  "resources": [{"name": "orders", "endpiont": {"path": "orders"}}]
}
"""
MENDED_JSON = (
    BROKEN_JSON.replace("tpe", "type")
    .replace("beerer", "bearer")
    .replace("tokn", "token")
    .replace("method", "mode")
    .replace('"6"', "6")
    .replace("endpiont", "endpoint")
)
BROKEN_YAML = """# the shop
client:
  base_url: shop.example   # no scheme
schedule: {mode: "hour", interval: 6}\r
resources:
  - {name: orders, endpiont: {path: orders}}
"""


def test_file_is_mended_in_rounds_and_the_change_is_shown_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_text(BROKEN_JSON)
    path.chmod(0o640)

    checked = invoke("check", path, "--fix")

    assert path.read_text() == MENDED_JSON
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert '+  "schedule": {"mode": "hours", "interval": 6},' in checked.stdout
    assert '"auth": {"type": "bearer", "token": "(not shown)"}' in checked.stdout
    assert "hunter2" not in checked.stdout
    assert checked.exit_code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["shop.json"]


def test_yaml_keeps_comments_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(BROKEN_YAML.encode())

    assert invoke("check", path, "--fix").exit_code == 0

    mended = BROKEN_YAML.replace("shop.example", '"https://shop.example"')
    mended = mended.replace('"hour"', '"hours"').replace("endpiont", "endpoint")
    assert path.read_bytes() == mended.encode()


def test_problem_without_a_replacement_is_left_and_told(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    text = MENDED_JSON.replace('"path": "orders"', '"path": "orders/{id}"')
    path.write_text(text)

    checked = invoke("check", path, "--fix")

    assert path.read_text() == text
    assert checked.exit_code == 1
    assert "`{id}` in the path is bound to nothing" in checked.stdout


@pytest.mark.parametrize("names", [("token", "tokn"), ("tokn", "tokenn")])
def test_no_name_is_written_twice_into_one_object(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "shop.json"
    both = f'{{"type": "bearer", "{names[0]}": "${{A}}", "{names[1]}": "${{B}}"}}'
    path.write_text(MENDED_JSON.replace('{"type": "bearer", "token": "hunter2"}', both))

    checked = invoke("check", path, "--fix")

    assert path.read_text().count('"token":') == 1
    assert "There is no field" in checked.stdout


def test_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "there.json"
    target.write_text(BROKEN_JSON)
    link = tmp_path / "shop.json"
    link.symlink_to(target)

    invoke("check", link, "--fix")

    assert link.is_symlink()
    assert target.read_text() == MENDED_JSON


def test_folder_without_connector_files_is_said_to_have_none(tmp_path: Path) -> None:
    assert "There is no connector file" in invoke("check", tmp_path).stdout
