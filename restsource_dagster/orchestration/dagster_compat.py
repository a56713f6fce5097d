"""Every undocumented name of Dagster that orchestration and the command line use.

Dagster may rename or remove these names in any release, so they stand here alone. `UNDOCUMENTED_NAMES`
says for each why it is used and what happens without it: a slower or plainer way, or an
`UnsupportedDagsterError` that gives Dagster's version and the name. A test per name fails by that name.

The names are looked up when they are needed. Importing this module brings `dagster` and nothing else.
"""

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.schedule_definition import ScheduleExecutionData
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition as UnresolvedJob,
    )
    from dagster._core.instance import InstanceRef
    from dagster._core.remote_origin import RemoteJobOrigin

    from restsource_dagster.engine.run.outcome import DltLoad
else:  # types only: nothing looks at them when the program runs
    UnresolvedJob = InstanceRef = RemoteJobOrigin = object

__all__ = [
    "UNDOCUMENTED_NAMES",
    "CodeLocation",
    "InstanceFreeSchedule",
    "InstanceRef",
    "RemoteJobOrigin",
    "UndocumentedName",
    "UnresolvedJob",
    "UnsupportedDagsterError",
    "assets_of_job",
    "cancel_run",
    "code_location_of",
    "create_run",
    "dagster_without",
    "enqueue_run",
    "execute_run",
    "fail_run",
    "find_name",
    "instance_ref_of",
    "job_origin_beside",
    "job_origin_in_module",
    "open_instance_ref",
    "read_data_versions",
    "read_dlt_load_metadata",
    "read_queue_heartbeat",
    "read_unrequested_partitions",
    "require_names",
    "resolve_jobs",
    "translate_asset_spec",
]


class UnsupportedDagsterError(Exception):
    """The installed Dagster lacks a name for which there is no fallback."""


@dataclass(frozen=True)
class UndocumentedName:
    """One undocumented name of Dagster, with the reason for it."""

    path: str
    """`module:attribute.attribute`."""
    reason: str
    without: str
    """What happens on a Dagster that lacks it."""
    needed_to_load: bool = False
    """True if the code location does not load without it."""


_NO_LOAD = "the code location does not load and names what is missing"
_NO_CLI_RUN = "`restsource run` and `restsource backfill` stop and name what is missing"
_SLOWER_JOBS = "`Definitions` of each connector make its jobs: slower, the same jobs"
_SLOWER_TICKS = "each tick opens an instance: slower, the same ticks"

_NAMES = (
    # making definitions
    UndocumentedName(
        "dagster._core.definitions.assets.graph.asset_graph:AssetGraph.from_assets",
        "look for a job's assets among those of one connector, not of all connectors",
        _SLOWER_JOBS,
    ),
    UndocumentedName(
        "dagster._core.definitions.unresolved_asset_job_definition:UnresolvedAssetJobDefinition.resolve",
        "make a job without a repository around it",
        _SLOWER_JOBS,
    ),
    UndocumentedName(
        "dagster._core.definitions.job_definition:default_job_io_manager_with_fs_io_manager_schema",
        "give a job the IO manager that `Definitions` gives it",
        _SLOWER_JOBS,
    ),
    UndocumentedName(
        "dagster:Definitions.resolve_job_def",
        "make a job where the way above is closed, and for the command line",
        "the older `get_job_def` is asked",
    ),
    # components
    UndocumentedName(
        "dagster.components.utils.translation:TranslatorResolvingInfo",
        "apply the `translation` of a component to an asset's spec, templates included",
        "a component with a `translation` is refused",
    ),
    # ticks of schedules and sensors
    UndocumentedName(
        "dagster:ScheduleDefinition.evaluate_tick",
        "answer a tick without opening an instance in case of dynamic partitions",
        _SLOWER_TICKS,
    ),
    UndocumentedName(
        "dagster._core.definitions.schedule_definition:ScheduleExecutionData",
        "the answer of a tick",
        _SLOWER_TICKS,
    ),
    UndocumentedName(
        "dagster:ScheduleEvaluationContext.instance_ref", "tell instances apart", _SLOWER_TICKS
    ),
    UndocumentedName(
        "dagster:SensorEvaluationContext.instance_ref", "tell instances apart", _SLOWER_TICKS
    ),
    UndocumentedName(
        "dagster:DagsterInstance.from_ref", "keep one instance open for all ticks", _SLOWER_TICKS
    ),
    UndocumentedName(
        "dagster:SensorEvaluationContext.code_location_origin",
        "find the code server of a sensor, to reload it",
        "the sensor asks for a click on Reload",
    ),
    UndocumentedName(
        "dagster._grpc.client:DagsterGrpcClient.reload_code",
        "reload the code location after a connector file changed",
        "the sensor asks for a click on Reload",
    ),
    # what an instance knows of runs
    UndocumentedName(
        "dagster:DagsterInstance.get_runs",
        "see a connector's runs, by tags and statuses",
        _NO_LOAD,
        needed_to_load=True,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.get_runs_count",
        "count the attempts at a partition",
        _NO_LOAD,
        needed_to_load=True,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.get_records_for_run",
        "see which assets a retried run materialized before",
        _NO_LOAD,
        needed_to_load=True,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.add_run_tags",
        "note on a run which process executes it",
        _NO_LOAD,
        needed_to_load=True,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.get_materialized_partitions",
        "see which partitions are loaded, where there are no data versions",
        _NO_LOAD,
        needed_to_load=True,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.report_run_failed",
        "mark a run whose process was killed",
        "such a run stays in progress until somebody terminates it",
    ),
    # backfills
    UndocumentedName(
        "dagster:DagsterInstance.event_log_storage",
        "read the data versions of all partitions in one query",
        "the tags of successful runs say which partitions are loaded",
    ),
    UndocumentedName(
        "dagster._core.storage.event_log.base:EventLogStorage.get_latest_tags_by_partition",
        "read the data versions of all partitions in one query",
        "the tags of successful runs say which partitions are loaded",
    ),
    UndocumentedName(
        "dagster._check:CheckError",
        "notice that the query above takes other arguments now",
        "the query's error fails the tick",
    ),
    UndocumentedName(
        "dagster:DagsterInstance.get_backfills",
        "see the backfills that people launch in the UI",
        "the sensor may load a partition that such a backfill loads too: twice the work, the same rows",
    ),
    UndocumentedName(
        "dagster._core.execution.backfill:BulkActionsFilter",
        "leave out the backfills that are over",
        "as without `get_backfills`",
    ),
    UndocumentedName(
        "dagster._core.execution.backfill:BulkActionStatus",
        "leave out the backfills that are over",
        "as without `get_backfills`",
    ),
    UndocumentedName(
        "dagster._core.execution.asset_backfill:AssetBackfillData.target_subset",
        "the partitions that a backfill of the UI is for",
        "as without `get_backfills`",
    ),
    UndocumentedName(
        "dagster._core.execution.asset_backfill:AssetBackfillData.requested_subset",
        "the partitions that such a backfill has requested so far",
        "as without `get_backfills`",
    ),
    # dagster-dlt's account of a load
    UndocumentedName(
        "dagster_dlt:DagsterDltResource.extract_resource_metadata",
        "show what dagster-dlt shows of a load",
        "the asset shows our own metadata only",
    ),
    UndocumentedName(
        "dagster_dlt:DagsterDltResource._extract_table_schema_metadata",
        "keep dagster-dlt from removing columns from dlt's schema",
        "the asset shows our own metadata only",
    ),
    # runs of the command line
    UndocumentedName(
        "dagster:DagsterInstance.create_run_for_job",
        "file a run under its job in the UI; `execute_in_process` can't",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster._core.definitions.job_base:InMemoryJob", "execute such a run", _NO_CLI_RUN
    ),
    UndocumentedName("dagster._core.execution.api:execute_run", "execute such a run", _NO_CLI_RUN),
    UndocumentedName(
        "dagster:JobDefinition.asset_layer",
        "tell whether a run selects all assets of its job",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster:JobDefinition.run_tags", "give a run the tags of its job", _NO_CLI_RUN
    ),
    UndocumentedName(
        "dagster:DagsterRun.remote_job_origin",
        "see under which code location the UI files a connector's runs",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster._core.remote_origin:RemoteJobOrigin", "name a job of a code location", _NO_CLI_RUN
    ),
    UndocumentedName(
        "dagster._core.remote_origin:RemoteRepositoryOrigin",
        "name a job of a code location",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster._core.remote_origin:ManagedGrpcPythonEnvCodeLocationOrigin",
        "name the code location of workspace.yaml",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster._core.types.loadable_target_origin:LoadableTargetOrigin",
        "name the code location of workspace.yaml",
        _NO_CLI_RUN,
    ),
    UndocumentedName(
        "dagster:DagsterInstance.report_run_canceling",
        "record that Ctrl-C, not an error, ended a run",
        "such a run is recorded as failed",
    ),
    UndocumentedName("dagster:DagsterEvent.job_enqueue", "put a run into the queue", _NO_CLI_RUN),
    UndocumentedName(
        "dagster:DagsterInstance.report_dagster_event", "put a run into the queue", _NO_CLI_RUN
    ),
    UndocumentedName(
        "dagster:DagsterInstance.run_coordinator",
        "see whether the instance has a queue",
        "the command executes its runs itself",
    ),
    UndocumentedName(
        "dagster:DagsterInstance.get_daemon_heartbeats",
        "see whether a daemon takes runs from the queue",
        "the command executes its runs itself",
    ),
)

UNDOCUMENTED_NAMES: Mapping[str, UndocumentedName] = {name.path: name for name in _NAMES}
"""All names by their path."""


_hidden_names: set[str] = set()


@contextmanager
def dagster_without(path: str) -> Iterator[None]:
    """Act as if the installed Dagster lacks a name, to see what happens then."""
    _hidden_names.add(UNDOCUMENTED_NAMES[path].path)
    try:
        yield
    finally:
        _hidden_names.discard(path)


def find_name(path: str) -> Any:
    """Return what a path of `UNDOCUMENTED_NAMES` names; None if the installed Dagster lacks it."""
    # Looked up each time: most names are used rarely, and importing them early slows down loading.
    if path in _hidden_names:
        return None
    module, _, attributes = UNDOCUMENTED_NAMES[path].path.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return None
    for attribute in attributes.split("."):
        found = getattr(found, attribute, None)
    return found


def _require(path: str) -> Any:
    """Return what a path names. Raises `UnsupportedDagsterError` if the installed Dagster lacks it."""
    found = find_name(path)
    if found is None:
        name = UNDOCUMENTED_NAMES[path]
        raise UnsupportedDagsterError(
            f"Dagster {dg.__version__} has no {path.replace(':', '.')}, which restsource-dagster needs "
            f"to {name.reason}. Install a version of Dagster that pyproject.toml allows."
        )
    return found


def require_names() -> None:
    """Raise `UnsupportedDagsterError` if Dagster lacks a name that every code location needs."""
    for name in _NAMES:
        if name.needed_to_load:
            _require(name.path)


def _has_all(*paths: str) -> bool:
    return all(find_name(path) is not None for path in paths)


def resolve_jobs(
    assets: Sequence[dg.AssetsDefinition], jobs: Sequence[UnresolvedJob]
) -> list[dg.JobDefinition]:
    """Return the jobs of one connector, made among its assets alone.

    Left to the code location, Dagster looks for each job's assets among those of all connectors: a
    million look-ups for a thousand connectors.
    """
    from_assets = find_name(
        "dagster._core.definitions.assets.graph.asset_graph:AssetGraph.from_assets"
    )
    io_manager = find_name(
        "dagster._core.definitions.job_definition:default_job_io_manager_with_fs_io_manager_schema"
    )
    has_resolve = _has_all(
        "dagster._core.definitions.unresolved_asset_job_definition:UnresolvedAssetJobDefinition.resolve"
    )
    if from_assets is None or io_manager is None or not has_resolve:
        return _resolve_jobs_in_definitions(assets, jobs)
    # `Definitions` of one connector would copy the assets and keep a repository.
    graph = from_assets(assets)
    resources = {"io_manager": io_manager}
    return [job.resolve(graph, dg.in_process_executor, resources) for job in jobs]


def _resolve_jobs_in_definitions(
    assets: Sequence[dg.AssetsDefinition], jobs: Sequence[UnresolvedJob]
) -> list[dg.JobDefinition]:
    """The same by public means. It copies the assets and keeps a repository."""
    definitions = dg.Definitions(assets=assets, jobs=jobs, executor=dg.in_process_executor)
    if _has_all("dagster:Definitions.resolve_job_def"):
        return [definitions.resolve_job_def(job.name) for job in jobs]
    return [definitions.get_job_def(job.name) for job in jobs]


def translate_asset_spec(
    spec: dg.AssetSpec, translation: Any, context: Any, known: Mapping[str, Any]
) -> dg.AssetSpec:
    """Return a spec with the attributes of a component's `translation`.

    `translation` is the model or text of the file, `context` the component's resolution context, and `known`
    what its templates may name. Raises `UnsupportedDagsterError` if Dagster can't do it.
    """
    info = _require("dagster.components.utils.translation:TranslatorResolvingInfo")
    translated: dg.AssetSpec = info(
        asset_attributes=translation, resolution_context=context, model_key="translation"
    ).get_asset_spec(spec, known)
    return translated


class InstanceFreeSchedule(dg.ScheduleDefinition):
    """A schedule whose ticks open no instance.

    After each evaluation Dagster opens an instance, in case a run request is for a dynamic partition.
    Ours never are: `evaluate` returns a skip reason, or one run request with a run key and tags.
    """

    def __init__(
        self,
        evaluate: Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason],
        **options: Any,
    ) -> None:
        """`options` are those of `ScheduleDefinition`."""
        super().__init__(execution_fn=evaluate, **options)
        self._evaluate = evaluate

    def evaluate_tick(self, context: dg.ScheduleEvaluationContext) -> "ScheduleExecutionData":
        """Return what the tick starts, with the tags that Dagster gives to a schedule's runs."""
        answer_type = find_name(
            "dagster._core.definitions.schedule_definition:ScheduleExecutionData"
        )
        if answer_type is None:
            return super().evaluate_tick(context)
        result = self._evaluate(context)
        if isinstance(result, dg.SkipReason):
            answer = answer_type(run_requests=[], skip_message=result.skip_message)
        else:
            # Dagster finds a schedule's runs by this tag; its own evaluation adds it, too.
            tags = {**result.tags, _TAG_SCHEDULE: self.name}
            answer = answer_type(run_requests=[dg.RunRequest(run_key=result.run_key, tags=tags)])
        return answer  # type: ignore[no-any-return]


_TAG_SCHEDULE = "dagster/schedule_name"
"""By this tag Dagster finds the runs of a schedule."""


def instance_ref_of(
    context: dg.ScheduleEvaluationContext | dg.SensorEvaluationContext,
) -> InstanceRef | None:
    """Return the reference of a tick's instance; None if the caller must use `context.instance`."""
    if not _has_all("dagster:DagsterInstance.from_ref"):
        return None
    return getattr(context, "instance_ref", None)


def open_instance_ref(ref: InstanceRef) -> dg.DagsterInstance:
    """Open the instance that `instance_ref_of` returned."""
    return dg.DagsterInstance.from_ref(ref)


@dataclass(frozen=True)
class CodeLocation:
    """The code location that a sensor belongs to."""

    name: str
    reload: Callable[[int], None] | None
    """Makes its code server load the files again, within these seconds; None if it can't be asked."""


def code_location_of(context: dg.SensorEvaluationContext) -> CodeLocation | None:
    """Return the code location of a sensor's tick; None outside of one."""
    origin = getattr(context, "code_location_origin", None)
    if origin is None:
        return None
    # Only the origin of a code server that webserver and daemon share has this method.
    create_client = getattr(origin, "create_client", None)
    if not callable(create_client):
        return CodeLocation(origin.location_name, None)

    def reload(timeout_seconds: int) -> None:
        # Checked at the call: the sensor reports the error with the tick.
        _require("dagster._grpc.client:DagsterGrpcClient.reload_code")
        create_client().reload_code(timeout=timeout_seconds)

    return CodeLocation(origin.location_name, reload)


def fail_run(instance: dg.DagsterInstance, run: dg.DagsterRun, reason: str) -> bool:
    """Mark a run as failed. Return False if Dagster has no way to."""
    if not _has_all("dagster:DagsterInstance.report_run_failed"):
        return False
    instance.report_run_failed(run, reason)
    return True


_TAG_DATA_VERSION = "dagster/data_version"


def read_data_versions(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> Mapping[str, str | None] | None:
    """Return the data version that each partition was last materialized with, by partition key.

    One query for all partitions. None if this Dagster can't answer it.
    """
    if not _has_all(
        "dagster:DagsterInstance.event_log_storage",
        "dagster._core.storage.event_log.base:EventLogStorage.get_latest_tags_by_partition",
    ):
        return None
    check_error = find_name("dagster._check:CheckError") or TypeError
    try:
        tags = instance.event_log_storage.get_latest_tags_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, [_TAG_DATA_VERSION]
        )
    except (AttributeError, TypeError, NotImplementedError, check_error):
        return None
    return {partition: found.get(_TAG_DATA_VERSION) for partition, found in tags.items()}


def read_unrequested_partitions(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]
) -> Iterator[tuple[dg.AssetKey, set[str]]]:
    """Yield, by asset of `keys`, the partitions that backfills launched in the UI will still request.

    One query for all unfinished backfills.
    """
    # These take long to import, and only code locations with backfills need them.
    backfill_filter = find_name("dagster._core.execution.backfill:BulkActionsFilter")
    status = find_name("dagster._core.execution.backfill:BulkActionStatus")
    subsets = (
        "dagster._core.execution.asset_backfill:AssetBackfillData.target_subset",
        "dagster._core.execution.asset_backfill:AssetBackfillData.requested_subset",
    )
    if backfill_filter is None or status is None:
        return
    if not _has_all("dagster:DagsterInstance.get_backfills", *subsets):
        return
    unfinished = backfill_filter(statuses=[status.REQUESTED, status.CANCELING, status.FAILING])
    for backfill in instance.get_backfills(filters=unfinished):
        data = backfill.asset_backfill_data
        for key in backfill.asset_selection or ():
            if key in keys and data is not None:
                requested = _partition_keys_in(data.requested_subset, key)
                yield key, _partition_keys_in(data.target_subset, key) - requested


def _partition_keys_in(subset: Any, key: dg.AssetKey) -> set[str]:
    partitions = subset.partitions_subsets_by_asset_key.get(key)
    return set(partitions.get_partition_keys()) if partitions is not None else set()


_DAGSTER_DLT_KEYS = ("dataset_name", "destination_name", "destination_type", "first_run")


def read_dlt_load_metadata(context: dg.AssetExecutionContext, load: "DltLoad") -> Mapping[str, Any]:
    """Return what dagster-dlt shows of where a load went, which is the same for all its resources.

    Ask once for each load: dagster-dlt reads the whole load for each of its resources.
    """
    if not _has_all(
        "dagster_dlt:DagsterDltResource.extract_resource_metadata",
        "dagster_dlt:DagsterDltResource._extract_table_schema_metadata",
    ):
        return {}
    # The code location loads without dlt, so only a run may import this.
    from dagster_dlt import DagsterDltResource

    class MetadataReader(DagsterDltResource):
        # dagster-dlt's own method takes the columns out of the schema that the pipeline still uses.
        def _extract_table_schema_metadata(self, *_: Any) -> dg.TableSchema:
            return dg.TableSchema(columns=[])

    found = MetadataReader().extract_resource_metadata(
        context, load.resource, load.info, load.pipeline
    )
    return {key: found[key] for key in _DAGSTER_DLT_KEYS if key in found}


def assets_of_job(job: dg.JobDefinition) -> frozenset[dg.AssetKey]:
    """Return the assets that a job materializes. Raises `UnsupportedDagsterError`."""
    _require("dagster:JobDefinition.asset_layer")
    return frozenset(job.asset_layer.selected_asset_keys)


def create_run(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: frozenset[dg.AssetKey] | None,
    origin: RemoteJobOrigin,
) -> dg.DagsterRun:
    """Create a run that the UI lists with its job; `tags` are added to the job's own.

    `assets` are the assets to materialize; None means all of the job. Raises `UnsupportedDagsterError`.
    """
    # The public `execute_in_process` creates a run without an origin. The UI then neither lists it with its job
    # nor offers to run it again.
    _require("dagster:DagsterInstance.create_run_for_job")
    _require("dagster:JobDefinition.run_tags")
    return instance.create_run_for_job(
        job_def=job,
        tags={**job.run_tags, **tags},
        run_config=run_config,
        asset_selection=assets,
        remote_job_origin=origin,
    )


def execute_run(
    instance: dg.DagsterInstance, job: dg.JobDefinition, run: dg.DagsterRun
) -> Sequence[dg.DagsterEvent]:
    """Execute a created run in this process and return its events, also if it fails.

    Raises `UnsupportedDagsterError`.
    """
    in_memory_job = _require("dagster._core.definitions.job_base:InMemoryJob")
    execute = _require("dagster._core.execution.api:execute_run")
    result = execute(in_memory_job(job), run, instance, raise_on_error=False)
    return tuple(result.all_events)


def cancel_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record that somebody cancels a run, so that Dagster does not take its end for a failure."""
    if not instance.is_ephemeral and _has_all("dagster:DagsterInstance.report_run_canceling"):
        instance.report_run_canceling(run)


def enqueue_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Put a created run into the queue of its instance. Raises `UnsupportedDagsterError`."""
    # The event also sets the run's status. The daemon takes it from there.
    event = _require("dagster:DagsterEvent.job_enqueue")(run)
    _require("dagster:DagsterInstance.report_dagster_event")
    instance.report_dagster_event(event, run_id=run.run_id)


_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"


def read_queue_heartbeat(instance: dg.DagsterInstance) -> float | None:
    """Return when a daemon last looked at the instance's queue, in seconds since the epoch.

    None if there is no queue, or no daemon was ever there.
    """
    if instance.is_ephemeral or not _has_all(
        "dagster:DagsterInstance.run_coordinator", "dagster:DagsterInstance.get_daemon_heartbeats"
    ):
        return None
    if not isinstance(instance.run_coordinator, dg.QueuedRunCoordinator):
        return None
    heartbeat = instance.get_daemon_heartbeats().get(_QUEUE_DAEMON)
    return heartbeat.timestamp if heartbeat is not None else None


def job_origin_beside(run: dg.DagsterRun, job: str) -> RemoteJobOrigin | None:
    """Return the origin of a job in the code location of a run; None if the run names none."""
    origin = getattr(run, "remote_job_origin", None)
    if origin is None:
        return None
    job_origin = _require("dagster._core.remote_origin:RemoteJobOrigin")
    return job_origin(origin.repository_origin, job)  # type: ignore[no-any-return]


def job_origin_in_module(location: str, module: str, job: str) -> RemoteJobOrigin:
    """Return the origin of a job in a code location that is a module of the current folder.

    Raises `UnsupportedDagsterError`.
    """
    target = _require("dagster._core.types.loadable_target_origin:LoadableTargetOrigin")(
        module_name=module, working_directory="."
    )
    # The same origin as that of the code server of workspace.yaml, so the UI links the run to it.
    place = _require("dagster._core.remote_origin:ManagedGrpcPythonEnvCodeLocationOrigin")(
        target, location_name=location
    )
    repository = _require("dagster._core.remote_origin:RemoteRepositoryOrigin")(
        place, "__repository__"
    )
    job_origin = _require("dagster._core.remote_origin:RemoteJobOrigin")
    return job_origin(repository, job)  # type: ignore[no-any-return]
