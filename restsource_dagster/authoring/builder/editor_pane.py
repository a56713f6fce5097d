"""The middle of the page: the file, what is wrong with it, and how it is saved."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from nicegui import events, run, ui

from restsource_dagster.authoring.builder.edited_file import (
    ChangedOnDiskError,
    EditedFile,
    FileNotOpenedError,
)
from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.connector.parsing.document import YAML_SUFFIXES
from restsource_dagster.connector.validation.diagnostics import Problem

__all__ = ["EditorPane", "draw_diff"]

_CHECK_SECONDS = 0.3


class EditorPane:
    """The editor of one file in one browser tab. `on_edit` is called after each change of the text."""

    def __init__(
        self, open_files: OpenFiles, file: EditedFile, on_saved: Callable[[], Awaitable[None]]
    ) -> None:
        """Nothing is drawn yet."""
        self._open_files = open_files
        self._file = file
        self._on_saved = on_saved
        self.on_edit: Callable[[], None] = lambda: None
        self._conflict: str | None = None
        self._failure: str | None = None
        self._was_saved = False
        self._checked: str | None = None

    def draw(self) -> None:
        """Draw bar, editor and problems."""
        with ui.element("div").classes("pane"):
            with ui.element("div").classes("bar"):
                ui.label(self._file.path.name).classes("cut").style("font-weight: 600")
                self._state()
                ui.space()
                ui.button("Revert", on_click=self._revert).props("flat dense color=grey-8")
                ui.button("Save", on_click=self._save).props("unelevated dense padding='4px 14px'")
            self._notices()
            is_yaml = self._file.path.suffix.lower() in YAML_SUFFIXES
            self._editor = ui.codemirror(
                self._file.text,
                language="YAML" if is_yaml else "JSON",
                indent="  ",
                line_wrapping=True,
                on_change=self._typed,
                keymap={"Mod-s": self._save},
            ).classes("editor")
            self._problems()
        ui.timer(0.1, lambda: self._add_help(is_yaml=is_yaml), once=True)
        ui.timer(_CHECK_SECONDS, self._check)

    def _add_help(self, *, is_yaml: bool) -> None:
        ui.run_javascript(f"window.addEditorHelp({self._editor.id}, {str(is_yaml).lower()})")

    def show_text(self) -> None:
        """Show the text of the file after something else than typing has changed it."""
        self._editor.value = self._file.text

    def _typed(self, change: events.ValueChangeEventArguments[str]) -> None:
        self._file.text = change.value
        self._was_saved = False

    async def _check(self) -> None:
        """Report what `check` says, once the text has changed."""
        if self._checked == self._file.text:
            return
        self._checked = self._file.text
        await run.io_bound(lambda: self._file.problems)
        self._state.refresh()
        self._problems.refresh()
        self._mark_lines()
        self.on_edit()

    def _mark_lines(self) -> None:
        # by the methods of the element: a change of its properties would send the text along, which takes
        # back what is typed meanwhile
        lines = self._file.text.count("\n") + 1
        shown = [one for one in self._own_problems() if one.line <= lines]
        marks = [
            {"kind": "line", "line": one.line, "class": f"line-{one.severity}"} for one in shown
        ]
        self._editor.run_method("setDecorations", marks)
        self._editor.run_method(
            "setLineTooltips", {str(one.line): one.explanation for one in shown}
        )

    def _own_problems(self) -> list[Problem]:
        return [one for one in self._file.problems if one.path == self._file.path]

    @ui.refreshable_method
    def _state(self) -> None:
        if self._file.is_edited:
            ui.label("not saved").classes("small warn")
        elif self._was_saved:
            ui.label("saved").classes("small good")

    @ui.refreshable_method
    def _notices(self) -> None:
        if self._file.notice:
            with ui.element("div").classes("notice"):
                ui.label(self._file.notice).classes("grow small")
                ui.button("OK", on_click=self._forget_notice).props("flat dense")
        if self._conflict is not None:
            with ui.element("div").classes("notice"):
                ui.label(
                    "The file was changed by somebody else since you opened it. Nothing was written."
                ).classes("grow")
                ui.button("Show the difference", on_click=self._show_conflict).props("flat dense")
                ui.button("Take theirs", on_click=self._revert).props("flat dense")
                ui.button("Keep mine", on_click=self._keep_mine).props("flat dense")
        if self._failure is not None:
            with ui.element("div").classes("notice wrong"):
                ui.label(self._failure)
        if self._was_saved and self._open_files.dagster:
            with ui.element("div").classes("notice").style("background: #f0fdf4; border: 0"):
                ui.label("Saved. Dagster has it in some seconds:").classes("small")
                connector = self._file.loaded.connector
                for name in self._file.resources[:3] if connector else ():
                    target = f"{self._open_files.dagster}/assets/{connector.name}/{name}"  # type: ignore[union-attr]
                    ui.link(name, target, new_tab=True).classes("small")

    def _forget_notice(self) -> None:
        self._file.notice = ""
        self._notices.refresh()

    def _show_conflict(self) -> None:
        with ui.dialog(value=True) as dialog, ui.card().style("min-width: 700px"):
            ui.label("From the file on disk to what you have typed")
            draw_diff(self._conflict or "")
            ui.button("Close", on_click=dialog.close).props("flat dense")

    @ui.refreshable_method
    def _problems(self) -> None:
        problems = self._file.problems
        with ui.column().classes("problems"):
            if not problems:
                ui.label("No problems").classes("small good").style("padding: 3px 12px")
            for problem in problems:
                self._draw_problem(problem)

    def _draw_problem(self, problem: Problem) -> None:
        with ui.element("div").classes("problem small"):
            is_own = problem.path == self._file.path
            where = f"line {problem.line}" if is_own else Path(problem.path).name
            label = ui.label(where).classes("where")
            if is_own:
                label.on("click", lambda: self._editor.reveal_line(problem.line))
            colour = "bad" if problem.severity == "error" else "warn"
            ui.label(problem.explanation).classes(f"grow {colour}")
            if self._file.can_fix(problem):
                ui.button("Fix", on_click=lambda: self._fix(problem)).props("dense flat size=sm")

    def _fix(self, problem: Problem) -> None:
        self._file.fix(problem)
        self.show_text()

    async def _save(self) -> None:
        self._failure = self._conflict = None
        try:
            await run.io_bound(self._file.save)
            self._was_saved = True
        except ChangedOnDiskError as error:
            self._conflict = error.diff
        except (OSError, FileNotOpenedError) as error:
            self._failure = f"The file can't be written: {error}"
        await self._show_saved()

    async def _show_saved(self) -> None:
        self._notices.refresh()
        self._state.refresh()
        self.on_edit()
        await self._on_saved()

    async def _revert(self) -> None:
        self._failure = self._conflict = None
        if self._file.opened is None:
            self._open_files.forget(self._file)
            ui.navigate.to("/")
            return
        try:
            self._file.revert()
        except FileNotOpenedError as error:
            self._failure = str(error)
        self.show_text()
        await self._show_saved()

    async def _keep_mine(self) -> None:
        self._file.keep_mine()
        await self._save()


def draw_diff(diff: str) -> None:
    """Draw a unified diff."""
    kinds = {"+": "added", "-": "removed", "@": "head"}
    with ui.column().classes("mono full-width").style("gap: 0; overflow: auto"):
        for line in diff.splitlines():
            is_head = line.startswith(("---", "+++"))
            kind = "head" if is_head else kinds.get(line[:1], "")
            ui.label(line).classes(f"diff {kind}")
