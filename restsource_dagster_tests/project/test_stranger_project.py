"""A Dagster project that is not ours uses `RestSourceComponent`, by the commands of `dg`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import duckdb
import yaml

from restsource_dagster_tests.servers.api import ApiServer

TYPE = "restsource_dagster.components.RestSourceComponent"
# All commands in one process: `dg` alone takes two seconds to be imported.
RUN_COMMANDS = """
import json, os, sys
from click.testing import CliRunner
from dagster_dg_cli.cli import create_dg_cli
cli, results = create_dg_cli(), []
for folder, *arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    result = CliRunner().invoke(cli, arguments)
    results.append([result.exit_code, result.output])
print("RESULTS", json.dumps(results))
"""
PROJECT = {
    "pyproject.toml": """
        [project]
        name = "acme"
        version = "0.1.0"

        [tool.dg]
        directory_type = "project"

        [tool.dg.project]
        root_module = "acme"
        """,
    "acme/__init__.py": "",
    "acme/definitions.py": """
        from pathlib import Path

        import dagster as dg
        from restsource_dagster import build_definitions


        @dg.definitions
        def defs():
            return dg.Definitions.merge(
                dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
                # Two folders in one location, and an executor of the project's own.
                build_definitions("one", prefix="one"),
                build_definitions("two", prefix="two"),
                dg.Definitions(executor=dg.multiprocess_executor),
            )
        """,
    "acme/parts.py": """
        import dagster as dg
        from restsource_dagster import RestSourceComponent


        class LoudSource(RestSourceComponent):
            def get_asset_spec(self, connector, resource, spec):
                ours = super().get_asset_spec(connector, resource, spec)
                return ours.replace_attributes(description=f"LOUD {resource.name}")

            def execute(self, context, connector, runs, config):
                context.log.warning(f"LOUD {connector.name}")
                yield from super().execute(context, connector, runs, config)
        """,
    "acme/defs/inline/defs.yaml": """
        type: acme.parts.LoudSource
        attributes:
          translation:
            group_name: "acme_{{ connector.name }}"
            tags: {table: "{{ resource.table }}"}
          op:
            pool: apis
            tags: {team: data}
            retry_policy: {max_retries: 2}
          connector:
            name: inventory
            schedule: {mode: manual}
            client: {base_url: API, headers: {X-Token: "${TOKEN:-none}"}}
            resources:
              - name: items
                endpoint:
                  path: items
                  params: {since: "{incremental.start_value}", q: "{{x}}"}
                  incremental: {cursor_path: at, initial_value: "2026-01-01"}
                  paginator: single_page
        """,
    "acme/defs/files/defs.yaml": """
        type: restsource_dagster.components.RestSourceComponent
        attributes: {path: shop.json}
        """,
    "acme/defs/files/shop.json": '{"schedule": {"mode": "hours"}, "client": {"base_url": "API"}, '
    '"resources": ["orders"]}',
    "one/geo.json": '{"schedule": {"mode": "manual"}, "client": {"base_url": "API"}, '
    '"resources": ["countries"]}',
    "one/broken.json": "{",
    "two/crm.json": '{"schedule": {"mode": "manual"}, "client": {"base_url": "API"}, '
    '"resources": ["deals"]}',
    "two/broken.json": "{",
    "template.yaml": "schedule: {mode: manual}\nclient: {base_url: API}\nresources: [prices]\n",
}
EMPTY_PROJECT = {name: PROJECT[name] for name in ("pyproject.toml", "acme/__init__.py")}
WRONG = """
type: restsource_dagster.components.RestSourceComponent
attributes:
  connector:
    schedule: {mode: manual}
    client: {base_url: "https://api.example.com"}
    resources: [{name: a, primry_key: id}]
"""


class Result(NamedTuple):
    code: int
    output: str

    @property
    def value(self) -> Any:
        """The JSON that the command prints."""
        assert self.code == 0, self.output
        start = min(self.output.find(bracket) for bracket in "[{" if bracket in self.output)
        return json.JSONDecoder().raw_decode(self.output[start:])[0]


def write_project(folder: Path, files: Mapping[str, str], url: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).replace("API", url))


def run_dg(folder: Path, *commands: Sequence[str]) -> tuple[list[Result], str]:
    """Run commands of dg, and return their results and what the processes they start print.

    Each command begins with the folder, below `folder`, in which it runs.
    """
    (folder / "home").mkdir()
    (folder / "home/dagster.yaml").touch()
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DAGSTER_HOME": str(folder / "home"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    arguments = [[str(folder / where), *rest] for where, *rest in commands]
    done = subprocess.run(
        [sys.executable, "-c", RUN_COMMANDS, json.dumps(arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RESULTS" in done.stdout, done.stderr
    results = json.loads(done.stdout.rpartition("RESULTS ")[2])
    return [Result(*each) for each in results], done.stdout + done.stderr


def test_a_project_of_somebody_else_lists_checks_and_launches_our_component(
    api: ApiServer, tmp_path: Path
) -> None:
    api.answers["/items"] = [{"id": 1, "at": "2026-02-01"}]
    write_project(tmp_path, PROJECT, api.url)
    write_project(tmp_path / "other", {**EMPTY_PROJECT, "acme/defs/wrong/defs.yaml": WRONG}, "")
    results, printed = run_dg(
        tmp_path,
        [".", "list", "components", "--json"],
        [".", "scaffold", "defs", TYPE, "prices", "--file", "template.yaml"],
        [".", "check", "yaml"],
        ["other", "check", "yaml"],
        [".", "list", "defs", "--json"],
        [".", "check", "defs", "--no-check-yaml"],
        [".", "launch", "--assets", 'key:"inventory/items"'],
    )
    components, scaffolded, yaml_is_fine, yaml_is_wrong, listed, defs_are_fine, launched = results
    assert TYPE in json.dumps(components.value)
    assert scaffolded.code == 0, scaffolded.output
    made = yaml.safe_load((tmp_path / "acme/defs/prices/defs.yaml").read_text())
    assert made == {"type": TYPE, "attributes": {"path": "template.yaml"}}
    assert yaml_is_fine.code == 0, yaml_is_fine.output
    assert yaml_is_wrong.code == 1
    assert "defs.yaml:7" in yaml_is_wrong.output
    assert "primry_key" in yaml_is_wrong.output
    assert defs_are_fine.code == 0, defs_are_fine.output
    assert_definitions_are_merged(listed.value)
    assert launched.code == 0, launched.output
    # The project's executor runs our step, in a process of its own, by the component's `execute`.
    assert "Executing steps using multiprocess executor" in printed
    assert "LOUD inventory" in printed
    # The braces of a connector are not those of a template.
    assert [dict(seen.query) for seen in api.seen] == [{"since": "2026-01-01", "q": "{x}"}]
    with duckdb.connect(str(tmp_path / "data/warehouse.duckdb"), read_only=True) as database:
        assert database.execute("select id from inventory.items").fetchall() == [(1,)]


def assert_definitions_are_merged(listed: Mapping[str, Any]) -> None:
    """Two folders, three components and the project's translation are in one code location."""
    assets = {asset["asset_key"]: asset for asset in listed["assets"]}
    assert {key: asset["group_name"] for key, asset in assets.items()} == {
        "inventory/items": "acme_inventory",
        "shop/orders": "shop",
        "template/prices": "template",
        "geo/countries": "geo",
        "crm/deals": "crm",
        "one_broken_configs/broken": "one_broken_configs",
        "two_broken_configs/broken": "two_broken_configs",
    }
    assert assets["inventory/items"]["description"] == "LOUD items"
    assert {"key": "table", "value": "items"} in assets["inventory/items"]["tags"]
    sensors = {sensor["name"] for sensor in listed["sensors"]}
    assert {"one_restsource_watch", "two_restsource_watch", "files_restsource_runs"} <= sensors
