"""What a run imports, imported beforehand; and whether it is still what is on the disk."""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["ImportedFiles", "count_threads", "import_run_modules"]

_RUN_MODULES = (
    "dagster._cli.api",
    "restsource_dagster.definitions",
    "restsource_dagster.orchestration.op",
    "restsource_dagster.orchestration.backfills.partition_op",
    # what `dagster.yaml` names
    "restsource_dagster.local_runtime.queue",
    "restsource_dagster.local_runtime.sqlite_storage",
)
_LATE_MODULES = (
    "dagster._core.assets",
    "dagster._core.definitions.external_asset",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.op_concurrency_limits_counter",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.system_config.composite_descent",
    "dagster._core.types.primitive_mapping",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
    "dagster._daemon.auto_run_reexecution.auto_run_reexecution",
    "dagster._utils.storage",
    "dagster._utils.temp_file",
    "dlt._workspace._plugins",
    "dlt._workspace.cli._plugins",
    "dlt.common.configuration.plugins",
    "dlt.common.libs.sql_alchemy_compat",
    "dlt.destinations.impl.duckdb.duck",
    "dlt.destinations.impl.duckdb.sql_client",
    "dlt.sources.helpers.requests",
    "encodings.utf_8_sig",
    "fsspec.implementations.local",
    "pendulum.locales.en.locale",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.engine.strategies",
    "sqlalchemy.ext.compiler",
    "upath.implementations.local",
)
"""What Dagster and dlt import while a run goes on. A version that lacks one of them does without."""
_WITHOUT_THREADS = {
    # numpy's OpenBLAS has a thread for each core from its import on
    "OPENBLAS_NUM_THREADS": "1",
    # pyarrow's allocator has one to give memory back
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def import_run_modules() -> None:
    """Import what runs import, such that no thread is started by it."""
    with _environment_set(_WITHOUT_THREADS):
        for module in _RUN_MODULES:
            importlib.import_module(module)
        for module in _LATE_MODULES:
            with suppress(ImportError):
                importlib.import_module(module)


def count_threads() -> int:
    """How many threads this process has, those of libraries included. Linux only."""
    return len(list(Path("/proc/self/task").iterdir()))


@contextmanager
def _environment_set(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class ImportedFiles:
    """The files of the modules that were imported since a moment (`begun`, nanoseconds)."""

    def __init__(self, begun: int) -> None:
        files = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())}
        self._states = {file: _file_state(file) for file in files if file}
        self._old = any(state is None or state[0] > begun for state in self._states.values())

    @property
    def changed(self) -> bool:
        """Whether any of them was changed or removed since: the code in memory is old then."""
        return self._old or any(_file_state(file) != state for file, state in self._states.items())


def _file_state(file: str) -> tuple[int, int, int] | None:
    try:
        state = os.stat(file)  # noqa: PTH116 - of thousands of files, before each run
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino
