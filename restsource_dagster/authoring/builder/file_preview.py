"""Previews of an open file, in a thread of their own, so that the page can show progress and stop them."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.forecast import Forecast, forecast
from restsource_dagster.connector.loader import load_text
from restsource_dagster.engine.preview.preview_limits import PreviewEnd, PreviewLimits
from restsource_dagster.engine.preview.preview_run import preview
from restsource_dagster.engine.preview.previewed import (
    Preview,
    PreviewedRequest,
    PreviewedResource,
)
from restsource_dagster.settings import Settings

__all__ = ["STOPPED", "FilePreview"]

STOPPED = "stopped"
_ANSWER_CHARS = 2_000_000
_ROWS = 50
# dlt has one active pipeline in a process
_ONE_AT_A_TIME = threading.Lock()


@dataclass
class FilePreview:
    """The last preview of a file, and the one that is under way."""

    file: EditedFile
    settings: Settings
    environment: Callable[[], Mapping[str, str]]
    result: Preview | None = None
    requests: list[PreviewedRequest] = field(default_factory=list)
    """Those of the preview that is under way, as they come."""
    messages: list[str] = field(default_factory=list)
    failure: str | None = None
    """Why there is no result: a mistake of ours."""
    forecast: Forecast | None = None
    _seen: dict[str, PreviewedResource] = field(default_factory=dict)
    _end: PreviewEnd | None = None
    _thread: threading.Thread | None = None
    _started: float = 0.0

    @property
    def is_running(self) -> bool:
        """True while one is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """How long the one that is under way takes."""
        return time.monotonic() - self._started

    def seen(self, resource: str | None) -> PreviewedResource | None:
        """Return what was last read of a resource; None if it was not previewed."""
        return self._seen.get(resource or "")

    def start(self, resource: str | None, *, pages: int = 2) -> None:
        """Preview a resource and those above it, or all; nothing if one is under way, or without a file.

        The text is previewed as it is typed, saved or not. Its requests go to the hosts that it names.
        """
        if self.is_running:
            return
        self.requests, self.messages, self.failure = [], [], None
        self._end, self._started = PreviewEnd(), time.monotonic()
        limits = PreviewLimits(pages=pages, rows=_ROWS, answer_chars=_ANSWER_CHARS)
        arguments = (self.file.text, resource, limits, self._end)
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the one that is under way; what was read by then is its result."""
        if self._end is not None:
            self._end.stop(STOPPED)

    def wait(self, seconds: float) -> None:
        """Wait for the end of the one that is under way."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, text: str, resource: str | None, limits: PreviewLimits, end: PreviewEnd) -> None:
        with _ONE_AT_A_TIME:
            try:
                self._read(text, resource, limits, end)
            except Exception as error:  # noqa: BLE001 - the page shows what a person can't see otherwise
                self.failure = f"The preview failed: {type(error).__name__}: {error}"

    def _read(
        self, text: str, resource: str | None, limits: PreviewLimits, end: PreviewEnd
    ) -> None:
        loaded = load_text(text, self.file.path)
        if loaded.connector is None:
            errors = tuple(one.as_text() for one in loaded.problems if one.severity == "error")
            self.result = Preview(self.file.path.stem, problems=errors)
            return
        found = preview(
            loaded.connector,
            settings=self.settings,
            environment=self.environment(),
            resources=None if resource is None else {resource},
            limits=limits,
            end=end,
            on_message=self.messages.append,
            on_request=self.requests.append,
        )
        self.result = found
        self._seen |= {one.name: one for one in found.resources}
        self.forecast = forecast(loaded.connector, found)
