"""Previews a connector: reads the first pages of its resources without a destination.

It is a load up to dlt's normalize step, in a temporary folder that is removed afterwards. Neither the
database nor the state of the project is opened, so cursors start where those of a first run do.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import dlt
from dlt.common.destination import AnyDestination, Destination
from dlt.extract import Incremental

from restsource_dagster.connector.cursor_format import detect_cursor_format
from restsource_dagster.connector.env_references import MissingReferencesError, read_references
from restsource_dagster.connector.loader import load_text
from restsource_dagster.connector.model import Connector, Family, Resource
from restsource_dagster.connector.partitions import Window, split_into_windows
from restsource_dagster.engine.destination.dlt_config import configure_dlt, dlt_setting
from restsource_dagster.engine.destination.warehouse import warehouse_from_settings
from restsource_dagster.engine.errors import IngestError, ResourceError
from restsource_dagster.engine.http.cancellation import RequestCancelled, Sleep
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.http.token_store import TokenStore
from restsource_dagster.engine.incremental.cursor_overrides import (
    check_resources_exist,
    parse_cursor_value,
)
from restsource_dagster.engine.incremental.window_filter import BackfillWindow
from restsource_dagster.engine.plan.resource_plan import ResourcePlan, build_resource_plans
from restsource_dagster.engine.preview.preview_limits import (
    PreviewEnd,
    PreviewLimits,
    PreviewWatch,
    hosts_of,
)
from restsource_dagster.engine.preview.preview_pages import PreviewEndpoints, SeenPages
from restsource_dagster.engine.preview.preview_tables import (
    PreviewTables,
    RedactedValues,
    previewed_cursor,
    previewed_key,
    problems_of_key,
)
from restsource_dagster.engine.preview.previewed import (
    Preview,
    PreviewedRequest,
    PreviewedResource,
)
from restsource_dagster.engine.run.outcome import root_cause
from restsource_dagster.engine.run_progress import Progress, SilentObserver
from restsource_dagster.engine.source.checkpoint import LoadPart
from restsource_dagster.engine.source.dlt_source import FamilySource, build_family_source
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

__all__ = ["preview", "preview_text"]

_logger = logging.getLogger(__name__)

TokenRequests = "token"


class _Messages(SilentObserver):
    """Keeps what the engine says."""

    def __init__(self, forward: Callable[[str], None] | None) -> None:
        self.texts: list[str] = []
        self._forward = forward

    def message(self, text: str) -> None:
        """Keep a sentence, and hand it on."""
        self.texts.append(text)
        if self._forward is not None:
            self._forward(text)


@dataclass(frozen=True)
class CursorBounds:
    """From where on, and up to where, rows with a cursor are previewed; texts that a person typed."""

    start: str | None = None
    end: str | None = None

    def __bool__(self) -> bool:
        return self.start is not None or self.end is not None

    def plan(self, plan: ResourcePlan) -> ResourcePlan:
        """Return the plan of a root that starts at `start`. Raises `IngestError` for a wrong value."""
        given = plan.incremental
        if given is None or self.start is None:
            return plan
        # typed as a text, and compared in the form of the cursor
        value = parse_cursor_value(plan.resource.name, self.start, given.initial_value)
        moved: Incremental[Any] = Incremental(
            cursor_path=given.cursor_path,
            initial_value=value,
            end_value=given.end_value,
            last_value_func=given.last_value_func,
            row_order=given.row_order,
            lag=given.lag,
            on_cursor_value_missing=given.on_cursor_value_missing,
        )
        return replace(plan, incremental=moved)

    def window(self, plan: ResourcePlan) -> BackfillWindow | None:
        """Return the window of a root; None without an end. Raises `ResourceError` for wrong ends."""
        if plan.incremental is None or self.end is None:
            return None
        initial = plan.incremental.initial_value
        start = initial if self.start is None else self.start
        if start is None:
            raise ResourceError(plan.resource.name, "--to needs --from: there is no initial_value")
        try:
            form = None if initial is None else detect_cursor_format(initial)
            window: Window = split_into_windows(start, self.end, cursor_format=form)[0]
        except ValueError as error:
            raise ResourceError(plan.resource.name, str(error)) from None
        return BackfillWindow(window, window)


def preview_text(text: str, path: Path, **given: Any) -> Preview:
    """Preview the connector of a text that is not saved; `path` names it, its suffix says JSON or YAML.

    The other arguments are those of `preview`. Errors of the file are the preview's problems.
    """
    loaded = load_text(text, path)
    if loaded.connector is None:
        errors = tuple(one.as_text() for one in loaded.problems if one.severity == "error")
        return Preview(path.stem, problems=errors)
    return preview(loaded.connector, **given)


def preview(
    connector: Connector,
    *,
    settings: Settings,
    environment: Mapping[str, str],
    resources: Collection[str] | None = None,
    limits: PreviewLimits | None = None,
    bounds: CursorBounds | None = None,
    end: PreviewEnd | None = None,
    on_message: Callable[[str], None] | None = None,
    on_request: Callable[[PreviewedRequest], None] | None = None,
    sleep: Sleep | None = None,
    with_tables: bool = True,
) -> Preview:
    """Read the first pages of a connector's resources, or of the named ones and those above them.

    Nothing is written, and no cursor moves. Errors are problems of the result. `bounds` limits the cursors
    of roots. `end` ends it from another thread; what was read by then is returned. `settings` gives the
    destination whose types the columns have; it is not opened. `on_message` gets the engine's sentences,
    `on_request` each try of a request, as they come. `sleep` replaces the wait, in seconds,
    before a request is retried. Without tables, which take most of the time, there are requests, records
    and the paging only. Raises `UnknownResourceError`.
    """
    started = time.monotonic()
    if resources is not None:
        check_resources_exist(connector, resources)
    configure_dlt()
    try:
        values = read_references(connector.references, environment, dlt_setting)
        resolved = connector.resolved(values)
    except MissingReferencesError as error:
        return Preview(connector.name, problems=(str(error),))
    limits, end = limits or PreviewLimits(), end or PreviewEnd()
    messages = _Messages(on_message)
    watch = PreviewWatch(
        Redactor(find_secrets(connector, resolved, values)),
        limits.hosts or hosts_of(resolved),
        limits.answer_chars,
        on_request,
    )
    tokens = TokenStore(open_state(settings))
    resolved = _without_prefetch(resolved)
    with (
        _open_endpoints(resolved, messages, sleep, tokens, limits, watch) as (endpoints, folder),
        end.limited(limits),
    ):
        reader = _PreviewReader(
            resolved,
            endpoints,
            settings,
            limits,
            bounds or CursorBounds(),
            watch,
            messages,
            folder,
            with_tables,
        )
        read = tuple(reader.read(_wanted(resolved, resources)))
    return Preview(
        connector.name, read, reader.problems_of_all(), end.reason, time.monotonic() - started
    )


@contextmanager
def _open_endpoints(
    connector: Connector,
    messages: _Messages,
    sleep: Sleep | None,
    tokens: TokenStore,
    limits: PreviewLimits,
    watch: PreviewWatch,
) -> Iterator[tuple[PreviewEndpoints, str]]:
    """Yield the endpoints of a preview, and a folder that is removed after it."""
    redactor = watch.redactor
    redactor.add_secrets(*tokens.secrets)
    with (
        # first, because any error from here on may quote a secret
        redactor.redacted_errors(IngestError),
        tempfile.TemporaryDirectory(prefix="restsource-preview-") as folder,
        closing(
            PreviewEndpoints(
                connector,
                redactor,
                Progress(messages, redactor),
                sleep,
                Path(folder),
                tokens,
                limits=limits,
                watch=watch,
            )
        ) as endpoints,
    ):
        yield endpoints, folder


def _without_prefetch(connector: Connector) -> Connector:
    """Return the connector with one request at a time: none is sent that may turn out to be unneeded.

    A log of requests that connectors share is a file of the project, so it is left out.
    """
    return replace(
        connector,
        http=connector.http.model_copy(update={"max_concurrency": 1, "shared": None}),
    )


def _wanted(connector: Connector, resources: Collection[str] | None) -> frozenset[str]:
    """Return the resources to preview, with those above them."""
    chosen = (
        {one.name for one in connector.resources if one.selected}
        if resources is None
        else {*resources}
    )
    names = set(chosen)
    for family in connector.families:
        # from the dependents upwards, as a parent may have one itself
        for member in reversed(family.members):
            if member.name in names and member.parent:
                names.add(member.parent)
    return frozenset(names)


@dataclass
class _PreviewPart(LoadPart):
    """The only part of a load, in which the root makes no more calls than a preview may."""

    may_call: Callable[[], bool] = lambda: True

    def goes_on_within(self, *, has_rows: bool) -> bool:
        """Return True if the root makes its next call: for its next window, or after its last cursor."""
        # asked last: what it counts is left
        return super().goes_on_within(has_rows=has_rows) and self.may_call()


@dataclass
class _PreviewReader:
    """Reads families one after the other, each in a dlt pipeline of its own."""

    connector: Connector
    endpoints: PreviewEndpoints
    settings: Settings
    limits: PreviewLimits
    bounds: CursorBounds
    watch: PreviewWatch
    messages: _Messages
    folder: str
    with_tables: bool
    _is_bounded: bool = False
    _errors: dict[str, list[str]] = field(default_factory=dict)

    def read(self, wanted: frozenset[str]) -> Iterator[PreviewedResource]:
        """Yield what was read of each resource, family by family."""
        for number, family in enumerate(self.connector.families):
            members = [one for one in family.members if one.name in wanted]
            if members:
                yield from self._read_family(family, members, str(number))

    def problems_of_all(self) -> tuple[str, ...]:
        """Return what is wrong with the preview as a whole."""
        if self.bounds and not self._is_bounded:
            return ("--from and --to are values of a cursor, and none of these resources has one",)
        return ()

    def _read_family(
        self, family: Family, members: Sequence[Resource], folder: str
    ) -> Iterator[PreviewedResource]:
        # what the engine says belongs to the family that is read
        first_message = len(self.messages.texts)
        plans: dict[str, ResourcePlan] = {}
        tables: PreviewTables | None = None
        try:
            found = build_resource_plans(family, self.connector, [one.name for one in members])
            plans = {plan.resource.name: plan for plan in found}
            tables = self._normalize(family.root.name, plans, folder)
        except Exception as error:  # noqa: BLE001 - families are isolated: any error is a problem
            self._note_error(error, family)
        texts = self.messages.texts[first_message:]
        for member in members:
            yield self._previewed(member, plans.get(member.name), tables, family, texts)

    def _normalize(
        self, root: str, plans: dict[str, ResourcePlan], folder: str
    ) -> "PreviewTables | None":
        """Extract a family and normalize it; return its tables. Raises what went wrong."""
        window = self.bounds.window(plans[root])
        if self.bounds and plans[root].incremental is not None:
            self._is_bounded = True
            plans[root] = plans[root] if window else self.bounds.plan(plans[root])
        source = build_family_source(
            self.connector,
            self.endpoints,
            plans,
            root,
            notify=lambda text: self.messages.message(self.watch.redactor(text)),
            window=window,
            part=_PreviewPart(root, may_call=partial(self._may_call, root)),
        )
        if not self.with_tables:
            # dlt reads a source without a pipeline, too, and keeps its state in memory
            for _ in source.source:
                continue
            self._conclude(source)
            return None
        pipeline = dlt.pipeline(
            pipeline_name=self.connector.name,
            pipelines_dir=f"{self.folder}/{folder}",
            destination=self._destination(),
            dataset_name=self.connector.name,
        )
        # text files, which can be read here without the destination
        pipeline.extract(source.source, loader_file_format="jsonl")
        self._conclude(source)
        pipeline.normalize()
        return PreviewTables.of(pipeline)

    def _may_call(self, root: str) -> bool:
        return self.endpoints.seen[root].may_call()

    def _destination(self) -> AnyDestination:
        """Return the destination of the project, or DuckDB if its load files can't be read here."""
        try:
            settings = self.settings.for_destination(self.connector.destination)
            made = warehouse_from_settings(settings).destination()
            if "jsonl" in made.capabilities().supported_loader_file_formats:
                return made
        except Exception as error:  # noqa: BLE001 - its driver may be missing, and a preview needs none
            _logger.debug("the destination's types are not known: %s", type(error).__name__)
        return cast("AnyDestination", Destination.from_reference("duckdb"))

    def _conclude(self, source: FamilySource) -> None:
        for name, tools in source.tools.items():
            try:
                tools.watch.conclude()
            except IngestError as error:
                self._errors.setdefault(name, []).append(str(error))

    def _note_error(self, error: Exception, family: Family) -> None:
        cause = root_cause(error)[1]
        # the preview was stopped, and says so once
        if isinstance(cause, RequestCancelled):
            return
        name = getattr(cause, "resource", None) or family.root.name
        text = str(cause) if isinstance(cause, IngestError) else f"{type(cause).__name__}: {cause}"
        self._errors.setdefault(str(name), []).append(self.watch.redactor(text))

    def _previewed(
        self,
        resource: Resource,
        plan: ResourcePlan | None,
        tables: "PreviewTables | None",
        family: Family,
        texts: Sequence[str],
    ) -> PreviewedResource:
        name, redacted = resource.name, RedactedValues(self.watch.redactor)
        seen = self.endpoints.seen.get(name) or SeenPages(name, self.limits, self.watch)
        rows = tables.rows_of(resource) if tables else ()
        key = previewed_key(resource, rows, tables, redacted) if tables else None
        # the paging is judged first: it adds notes
        paging = seen.paging()
        prefix = f"{name}: "
        said = [text.removeprefix(prefix) for text in texts if text.startswith(prefix)]
        found = tables.previewed(resource, self.limits.rows, redacted) if tables else ()
        is_root = name == family.root.name
        # a token serves all resources: it is shown with the first one
        tokens = self.watch.noted.pop(TokenRequests, []) if is_root else []
        problems = [*seen.problems, *self._errors.get(name, ()), *problems_of_key(resource, key)]
        return PreviewedResource(
            name=name,
            parent=resource.parent,
            write_disposition=resource.disposition.value,
            requests=(*tokens, *self.watch.noted.get(name, ())),
            received=seen.received,
            paging=replace(paging, evidence=self.watch.redactor(paging.evidence)),
            table=found[0] if found else None,
            nested=tuple(found[1:]),
            key=key,
            cursor=previewed_cursor(plan, rows, tables, self.bounds.start, redacted),
            calls=seen.calls,
            calls_left=seen.calls_left,
            records=tuple(redacted(record) for record in seen.records),
            # each once: a problem of all pages comes with each of them
            problems=tuple(dict.fromkeys(map(self.watch.redactor, problems))),
            notes=tuple(dict.fromkeys([*seen.notes, *said])),
        )
