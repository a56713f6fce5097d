"""The builder's page: the list of connectors, the editor beside it, and what the API answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI
from nicegui import run, ui
from pydantic import BaseModel

from restsource_dagster.authoring.builder.edited_file import FileNotOpenedError
from restsource_dagster.authoring.builder.editor_pane import EditorPane
from restsource_dagster.authoring.builder.new_pane import NewFilePane
from restsource_dagster.authoring.builder.open_files import ListedFile, OpenFiles, RunTimes
from restsource_dagster.authoring.builder.result_pane import ResultPane
from restsource_dagster.authoring.builder.schema_help import help_at

__all__ = ["BuilderPage"]

_FOLDER = Path(__file__).parent
_LIST_SECONDS = 10.0


class HelpRequest(BaseModel):
    """The text of an editor and a position in it, in UTF-16 units as browsers count."""

    text: str
    position: int
    yaml: bool = False


class BuilderPage:
    """Draws the page for each browser tab. All state is that of the open files, but for what is chosen."""

    def __init__(self, open_files: OpenFiles) -> None:
        """Nothing is drawn yet."""
        self._open_files = open_files

    def add_to(self, application: FastAPI) -> None:
        """Add what the page's scripts ask for, and the pages."""
        application.post("/help")(self._help)
        ui.page("/")(self.draw)
        ui.page("/open/{name}")(self.draw)
        ui.page("/new")(self.draw_new)

    def _help(self, asked: HelpRequest) -> dict[str, object]:
        # JavaScript counts an emoji as two units, and Python as one character
        encoded = asked.text.encode("utf-16-le", "surrogatepass")
        offset = len(encoded[: 2 * asked.position].decode("utf-16-le", "replace"))
        found = help_at(asked.text, offset, is_yaml=asked.yaml)
        return {
            "begin": _units(asked.text[: found.begin]),
            "end": _units(asked.text[: found.end]),
            "completions": [one.as_dict() for one in found.completions],
            "explanation": found.explanation,
        }

    def draw(self, name: str = "") -> None:
        """Draw the page with a connector open; without a name with none."""
        with self._frame(name) as listed:
            self._draw_work(name, listed)

    def draw_new(self) -> None:
        """Draw the page on which a new file begins."""
        with self._frame(""):
            NewFilePane(self._open_files).draw()

    @contextmanager
    def _frame(self, name: str) -> "Iterator[_ConnectorList]":
        """Draw what all pages have; the block draws the rest."""
        ui.add_css((_FOLDER / "page.css").read_text(encoding="utf-8"))
        # read for each page, so that a developer sees a change after a reload
        script = (_FOLDER / "editor_help.js").read_text(encoding="utf-8")
        ui.add_body_html(f'<script type="module">{script}</script>')
        ui.colors(primary="#4f43dd")
        with ui.element("div").classes("whole"):
            with ui.element("div").classes("side"):
                listed = _ConnectorList(self._open_files, name)
                listed.draw()
            work = ui.element("div").classes("work")
        with work:
            yield listed

    def _draw_work(self, name: str, listed: "_ConnectorList") -> None:
        path = next((one for one in self._open_files.paths if one.stem == name), None)
        if not name or path is None:
            _say(
                f"There is no connector {name}."
                if name
                else "Choose a connector, or make a new one.",
                f"Connectors are the files in {self._open_files.settings.configs}.",
            )
            return
        try:
            file = self._open_files.open(path)
        except FileNotOpenedError as error:
            _say(f"{path.name} can't be opened.", str(error))
            return
        with ui.splitter(value=47, limits=(28, 72)).classes("work full-width") as splitter:
            with splitter.before:
                editor = EditorPane(self._open_files, file, listed.refresh)
                editor.draw()
            with splitter.after:
                results = ResultPane(self._open_files, file, editor.show_text)
                results.draw()
        # set last: the results exist only now
        editor.on_edit = results.refresh_file


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _say(title: str, detail: str) -> None:
    with ui.column().classes("empty"):
        ui.label(title).style("font-size: 17px; color: var(--ink)")
        ui.label(detail)


class _ConnectorList:
    """The left side."""

    def __init__(self, open_files: OpenFiles, chosen: str) -> None:
        self._open_files = open_files
        self._chosen = chosen
        self._files: tuple[ListedFile, ...] = ()
        self._drawn: tuple[_Item, ...] = ()

    def draw(self) -> None:
        with ui.element("div").classes("bar"):
            ui.label("Connectors").classes("grow").style("font-weight: 600")
            button = ui.button("New", on_click=lambda: ui.navigate.to("/new"))
            button.props("outline dense padding='2px 10px'")
        with ui.column().classes("list"):
            self._items()
        ui.timer(_LIST_SECONDS, self.refresh, immediate=True)

    async def refresh(self) -> None:
        """Read the files and their runs again, beside the event loop."""
        # reading the files would hold up all pages
        found = await run.io_bound(self._open_files.list_files)
        # None while the server stops
        if found is not None:
            self._files = tuple(found)
            # a click on what is drawn anew between its press and its release is lost
            if self._listed() != self._drawn:
                self._items.refresh()

    def _listed(self) -> "tuple[_Item, ...]":
        # the paths are known at once, and what is known of the files when it was read
        files = {file.path: file for file in self._files}
        return tuple(self._item(path, files.get(path)) for path in self._open_files.paths)

    def _item(self, path: Path, listed: ListedFile | None) -> "_Item":
        unsaved = " *" if self._open_files.is_unsaved(path) else ""
        title = (listed.name if listed else path.stem) + unsaved
        return _Item(path.stem, title, _state_of(listed), tuple(_run_lines(listed)))

    @ui.refreshable_method
    def _items(self) -> None:
        self._drawn = self._listed()
        for item in self._drawn:
            chosen = " chosen" if item.stem == self._chosen else ""
            with ui.link(target=f"/open/{item.stem}").classes(f"listed{chosen}"):
                ui.element("div").classes(f"dot {item.state}")
                with ui.column().classes("grow").style("gap: 0"):
                    ui.label(item.title).classes("cut full-width")
                    for line in item.lines:
                        ui.label(line).classes("muted small cut full-width")
        if not self._drawn:
            ui.label("No connector yet.").classes("muted small")


@dataclass(frozen=True)
class _Item:
    """One file as the list shows it."""

    stem: str
    title: str
    state: str
    lines: tuple[str, ...]


def _state_of(listed: ListedFile | None) -> str:
    if listed is None:
        return ""
    return "bad" if listed.errors else "warn" if listed.warnings else "good"


def _run_lines(listed: ListedFile | None) -> list[str]:
    if listed is None:
        return []
    if listed.errors:
        return [f"{listed.errors} problem{'s' * (listed.errors > 1)}"]
    runs = listed.runs or RunTimes()
    lines = []
    if runs.last_status:
        lines.append(f"{runs.last_status.lower()} {_time(runs.last_ended)}".strip())
    if runs.next_due:
        lines.append(f"next {_time(runs.next_due)}")
    return lines


def _time(moment: datetime | None) -> str:
    if moment is None:
        return ""
    utc = moment.astimezone(UTC)
    # the list is narrow: a date is shown only where it says something
    is_today = utc.date() == datetime.now(UTC).date()
    return utc.strftime("%H:%M UTC" if is_today else "%d %b %H:%M UTC")
