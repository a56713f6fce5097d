import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest

from restsource_dagster.connector.loader import fingerprint_folder
from restsource_dagster.orchestration.sensors.watch_files import (
    ReloadError,
    ReloadResult,
    build_watch_sensor,
)

ASKED = ReloadResult("asked", "Asked.", "code server")
FAILED = ReloadResult("failed", "The code server did not reload: it is gone.")
UNSUPPORTED = ReloadResult("unsupported", "Click Reload.")
CONTENT = '{"schedule": {"mode": "manual"}}'


@dataclass
class Watch:
    """A watcher over a real folder, with a clock to turn and a reload to choose."""

    folder: Path
    result: ReloadResult = ASKED
    now: float = field(default_factory=time.time)
    last_tick: float | None = None
    cursor: str | None = None
    reloads: int = 0

    def __post_init__(self) -> None:
        self.load()

    def load(self) -> None:
        self.sensor = build_watch_sensor(
            self.folder,
            fingerprint_folder(self.folder),
            reload=self._reload,
            clock=lambda: self.now,
        )

    def _reload(self, _: dg.SensorEvaluationContext) -> ReloadResult:
        self.reloads += 1
        return self.result

    def tick(self, after: float = 5.0) -> str:
        """One tick, so many seconds after the last one and after the last change in the folder."""
        files = [path.stat() for path in (self.folder, *self.folder.glob("*")) if path.exists()]
        changed = [moment for file in files for moment in (file.st_mtime, file.st_ctime)]
        self.now = max([self.now, *changed]) + after
        context = dg.SensorEvaluationContext(
            instance_ref=None,
            last_tick_completion_time=self.last_tick,
            last_run_key=None,
            cursor=self.cursor,
            repository_name=None,
        )
        self.last_tick = self.now
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message or ""


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    (tmp_path / "shop.json").write_text(CONTENT)
    return Watch(tmp_path)


def test_nothing_changed_nothing_reloaded(watch: Watch) -> None:
    assert [watch.tick(), watch.tick()] == ["No file changed."] * 2
    assert watch.reloads == 0


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_new_file_reloads(watch: Watch, suffix: str) -> None:
    (watch.folder / f"crm.{suffix}").write_text(CONTENT)

    assert watch.tick() == "Asked."
    assert watch.reloads == 1


def test_a_changed_file_reloads(watch: Watch) -> None:
    (watch.folder / "shop.json").write_text(CONTENT + "\n")
    watch.tick()

    assert watch.reloads == 1


def test_a_changed_file_of_the_same_size_reloads(watch: Watch) -> None:
    (watch.folder / "shop.json").write_text(CONTENT.replace("manual", "MANUAL"))
    watch.tick()

    assert watch.reloads == 1


def test_a_removed_file_reloads(watch: Watch) -> None:
    (watch.folder / "shop.json").unlink()
    watch.tick()

    assert watch.reloads == 1


def test_a_file_moved_in_with_an_old_date_reloads(watch: Watch, tmp_path: Path) -> None:
    other = tmp_path.parent / f"{tmp_path.name}-crm.json"
    other.write_text(CONTENT)
    os.utime(other, (1, 1))
    other.rename(watch.folder / "crm.json")
    watch.tick()

    assert watch.reloads == 1


def test_other_files_do_not_reload(watch: Watch) -> None:
    (watch.folder / "README.md").write_text("hello")
    (watch.folder / ".shop.json.swp").write_text("half")
    watch.tick()

    assert watch.reloads == 0


def test_a_file_written_a_moment_ago_is_reloaded_at_the_next_look(watch: Watch) -> None:
    (watch.folder / "crm.json").write_text("{")

    assert "being written" in watch.tick(after=0.1)
    assert watch.reloads == 0
    assert watch.tick() == "Asked."


def test_the_new_definitions_rest(watch: Watch) -> None:
    (watch.folder / "crm.json").write_text(CONTENT)
    watch.tick()
    watch.load()

    assert watch.tick() == "No file changed."
    assert watch.reloads == 1


def test_a_reload_that_fails_is_shown_fails_a_tick_and_pauses(watch: Watch) -> None:
    watch.result = FAILED
    (watch.folder / "crm.json").write_text(CONTENT)

    assert watch.tick() == FAILED.detail
    with pytest.raises(ReloadError, match="it is gone"):
        watch.tick()
    assert "Next try in 5 s" in watch.tick()
    assert watch.reloads == 1

    watch.result = ASKED
    assert watch.tick() == "Asked."
    assert watch.reloads == 2


def test_a_reload_that_always_fails_is_tried_seldom(watch: Watch) -> None:
    watch.result = FAILED
    (watch.folder / "crm.json").write_text(CONTENT)
    failures = 0
    for _ in range(720):
        try:
            watch.tick()
        except ReloadError:
            failures += 1

    assert 8 <= watch.reloads <= 15
    assert failures == watch.reloads


def test_a_reload_without_effect_is_shown(watch: Watch) -> None:
    (watch.folder / "crm.json").write_text(CONTENT)
    watch.tick()

    texts = [watch.tick(), watch.tick()]

    assert "waiting for the new definitions" in texts[0]
    assert "still serves definitions" in texts[1]
    with pytest.raises(ReloadError, match="still serves definitions"):
        watch.tick()


def test_where_no_server_can_reload_each_tick_says_what_to_do(watch: Watch) -> None:
    watch.result = UNSUPPORTED
    (watch.folder / "crm.json").write_text(CONTENT)

    assert [watch.tick(), watch.tick()] == ["Click Reload."] * 2


def test_a_folder_that_is_missing_rests_until_it_appears(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "configs")
    assert watch.tick() == "No file changed."

    watch.folder.mkdir()
    (watch.folder / "crm.json").write_text(CONTENT)
    watch.tick()

    assert watch.reloads == 1


def test_it_is_switched_on_and_has_the_fixed_name(watch: Watch) -> None:
    assert watch.sensor.name == "restsource_watch"
    assert watch.sensor.default_status is dg.DefaultSensorStatus.RUNNING
