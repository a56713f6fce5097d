"""Ask a running Dagster what its UI asks it, over the same GraphQL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

from restsource_dagster_tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["ASSET_JOB", "Asset", "DagsterApi", "Run", "until"]

ASSET_JOB = "__ASSET_JOB"
"""The job that "Materialize" in the UI runs."""

_LOOK_AGAIN_SECONDS = 0.4
_OVER = ("SUCCESS", "FAILURE", "CANCELED")
_LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "restsource"}

_ENTRIES = """metadataEntries { label
  ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
  ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr }
  ... on UrlMetadataEntry { url } }"""
_ASSETS = "query { assetNodes { assetKey { path } } }"
_ASSET = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  dependencyKeys { path } ENTRIES assetMaterializations { runId ENTRIES } } } }"""
_RUNS = """query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs { results {
  runId jobName status startTime endTime tags { key value } } } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } } }"""
_TICKS = """query($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
  ... on Sensor { sensorState { ticks(limit: 5) { error { message errorChain { error { message } } } } } } } }"""

Answer = TypeVar("Answer")


def until(question: Callable[[], Answer], what: str) -> Answer:
    """Ask until the answer is neither empty nor false, and return it.

    GraphQL has no event for something that isn't there yet. See `wait_until`.
    """
    return wait_until(question, what, every=_LOOK_AGAIN_SECONDS)


@dataclass(frozen=True)
class Run:
    """A run; times are seconds since the epoch, 0 while they have not come."""

    id: str
    job: str
    status: str
    start: float
    end: float
    tags: Mapping[str, str]

    @property
    def over(self) -> bool:
        return self.status in _OVER


@dataclass(frozen=True)
class Asset:
    """An asset: its metadata, and by run that of its materializations, the latest first."""

    parents: tuple[str, ...]
    metadata: Mapping[str, Any]
    materializations: Mapping[str, Mapping[str, Any]]

    @property
    def latest(self) -> Mapping[str, Any]:
        """The metadata of the latest materialization; empty if there is none."""
        return next(iter(self.materializations.values()), {})


class DagsterApi:
    """The GraphQL of the Dagster at an address."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/graphql"
        self._session = requests.Session()
        self._session.trust_env = False

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that answers a query. Raises `AssertionError` with Dagster's errors."""
        body = {"query": query, "variables": variables}
        response = self._session.post(self._url, json=body, timeout=PATIENCE_SECONDS)
        answer = response.json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def assets(self) -> set[str]:
        """The keys of all assets, such as `shop/orders`."""
        return {_key(node["assetKey"]) for node in self.ask(_ASSETS)["assetNodes"]}

    def asset(self, key: str) -> Asset:
        """One asset; it has to be there."""
        query = _ASSET.replace("ENTRIES", _ENTRIES)
        node = self.ask(query, key={"path": key.split("/")})["assetNodeOrError"]
        return Asset(
            parents=tuple(map(_key, node["dependencyKeys"])),
            metadata=_metadata(node),
            materializations={m["runId"]: _metadata(m) for m in node["assetMaterializations"]},
        )

    def runs(self, **tags: str) -> list[Run]:
        """The runs with these of our tags (`connector`, `trigger`), the latest first."""
        wanted = [{"key": f"restsource/{key}", "value": value} for key, value in tags.items()]
        runs = self.ask(_RUNS, filter={"tags": wanted})["runsOrError"]["results"]
        return [_run(run) for run in runs]

    def run(self, run_id: str) -> Run:
        """One run by its id."""
        (run,) = self.ask(_RUNS, filter={"runIds": [run_id]})["runsOrError"]["results"]
        return _run(run)

    def launch(self, job: str, assets: Sequence[str] = ()) -> str:
        """Start a job as the UI does, for some of its assets if any are named; the run's id."""
        selection = [{"path": key.split("/")} for key in assets]
        selector = {**_LOCATION, "jobName": job} | ({"assetSelection": selection} if assets else {})
        launched = self.ask(_LAUNCH, params={"selector": selector, "mode": "default"})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def wait_for_run(self, run_id: str) -> Run:
        """The run once it is over."""
        until(lambda: self.run(run_id).over, f"the end of run {run_id}")
        return self.run(run_id)

    def wait_for_first_run(self, connector: str) -> Run:
        """A connector's first run once it is over."""
        runs = until(
            lambda: self.runs(connector=connector, trigger="first_run"),
            f"the first run of {connector}",
        )
        return self.wait_for_run(runs[-1].id)

    def failed_ticks(self, sensor: str) -> list[str]:
        """What the latest ticks of a sensor failed with; none if there is no such sensor."""
        answer = self.ask(_TICKS, sensor={**_LOCATION, "sensorName": sensor})["sensorOrError"]
        ticks = answer.get("sensorState", {}).get("ticks", [])
        errors = [tick["error"] for tick in ticks if tick["error"]]
        chains = [[error, *(link["error"] for link in error["errorChain"])] for error in errors]
        return ["\n".join(error["message"] for error in chain) for chain in chains]


def _key(key: Mapping[str, Sequence[str]]) -> str:
    return "/".join(key["path"])


def _metadata(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        entry["label"]: next((value for key, value in entry.items() if key != "label"), None)
        for entry in holder["metadataEntries"]
    }


def _run(run: Mapping[str, Any]) -> Run:
    return Run(
        id=run["runId"],
        job=run["jobName"],
        status=run["status"],
        start=run["startTime"] or 0,
        end=run["endTime"] or 0,
        tags={tag["key"]: tag["value"] for tag in run["tags"]},
    )
