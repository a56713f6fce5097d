"""What all tests share: their order, a folder of their own and, if they ask for it, a server."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from restsource_dagster_tests.destinations import destination, parametrize_destinations
from restsource_dagster_tests.servers.postgres import postgres_server, postgres_url

if TYPE_CHECKING:  # the process that hands out the tests needs none of it
    from restsource_dagster.settings import Settings
    from restsource_dagster_tests.servers.api import ApiServer

__all__ = ["destination", "postgres_server", "postgres_url"]

HERE = Path(__file__).parent
ONE_PROJECT = (
    "e2e/test_whole_way.py",
    "e2e/test_backfill.py",
    "e2e/test_working_on.py",
    "e2e/test_builder_page.py",
)
"""Files whose tests share a running project, in the order in which they continue each other."""
LONG = (
    *ONE_PROJECT,
    *("agreement/", "templates/test_histories", "faults/test_flaky", "local_runtime/"),
    *("engine/columnar/test_same_tables", "recipes/"),
    *(f"faults/test_{name}" for name in ("checkpoint", "prefetch", "killed")),
    *("faults/", "cli/", "engine/", "orchestration/", "templates/", "sample/", "e2e/"),
)
"""Beginnings of the paths of what takes long: it is begun first, so that nothing waits for it."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize_destinations(metafunc)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE).as_posix()
        return next((n for n, start in enumerate(LONG) if path.startswith(start)), len(LONG))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `loadfile`, all that share the running project go to one process, as one file does."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ONE_PROJECT[0] if file.endswith(ONE_PROJECT) else file

    return ByFile(config, log)


def pytest_configure() -> None:
    """No test fails for being slow, or by chance; and Ctrl-C reaches what tests start, also where a
    shell has them in its background.

    The examples of the property tests are the same in each run. `--hypothesis-profile=new_examples`
    looks for others, and for twice as many.
    """
    unhurried = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    hypothesis_settings.register_profile("new_examples", unhurried)
    hypothesis_settings.register_profile(
        "same_examples", unhurried, derandomize=True, max_examples=50
    )
    hypothesis_settings.load_profile("same_examples")
    # modules and tests are a million objects that stay: to look at them all takes a twentieth of the time
    gc.set_threshold(50_000, 20, 50)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def api() -> "Iterator[ApiServer]":
    """A server that answers 404 until a test tells it otherwise."""
    from restsource_dagster_tests.servers.api import ApiServer

    with ApiServer() as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Settings":
    """Settings in a folder of the test's own, which is also the current folder."""
    from restsource_dagster_tests.making import make_settings

    monkeypatch.chdir(tmp_path)
    return make_settings(tmp_path)


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes a folder the home of a Dagster instance in which nothing has happened yet.

    Its databases are copies: making them anew takes Dagster longer than most tests.
    """
    import dagster as dg

    made = tmp_path_factory.mktemp("home")
    (made / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(made)):
        pass

    def copy(folder: Path) -> Path:
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """Take back what a test changes in the environment: commands in this process read `.env` into it."""
    before = dict(os.environ)
    yield
    for name in {*before, *os.environ} - {"PYTEST_CURRENT_TEST"}:
        if os.environ.get(name) != before.get(name):
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
