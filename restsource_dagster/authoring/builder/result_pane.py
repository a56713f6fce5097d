"""The right side of the page: a preview of the chosen resource, and what follows from it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nicegui import events, ui

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.builder.editor_pane import draw_diff
from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.authoring.builder.resource_guesses import (
    AnswerOffer,
    ShownGuess,
    guesses_of,
    offers_at,
    take,
)
from restsource_dagster.authoring.builder.text_edits import TextEditError
from restsource_dagster.authoring.env_variables import set_variable
from restsource_dagster.authoring.forecast import forecast_facts
from restsource_dagster.authoring.guesses import SeenAnswer
from restsource_dagster.authoring.preview_answers import seen_answers
from restsource_dagster.engine.preview.previewed import (
    PreviewedRequest,
    PreviewedResource,
    PreviewedTable,
)

__all__ = ["ResultPane"]

_LOOK_SECONDS = 0.25
_SHOWN_CHARS = 20_000
_MAX_CELL = 120
_MAX_ITEMS = 5
"""Of a list, in the tree of an answer at first."""
_MORE_ITEMS = 50
"""That a click on the rest of a list adds."""
_REST = "..."
_MAX_TREE_DEPTH = 12
_TABS = ("Rows", "Columns", "Requests", "Answer", "Guesses", "Forecast", "Diff")
_VERDICTS = {"proved": "good", "single page": "good", "not proved": "warn", "failed": "bad"}


_Steps = tuple[str | int, ...]


class ResultPane:
    """What is known of one resource of a file, in one browser tab."""

    def __init__(
        self, open_files: OpenFiles, file: EditedFile, on_changed: Callable[[], None]
    ) -> None:
        """Nothing is drawn yet. `on_changed` is called when a guess was written into the file."""
        self._open_files = open_files
        self._file = file
        self._missing_names: Sequence[str] = ()
        self._preview = open_files.preview_of(file)
        self._on_changed = on_changed
        self._resource = next(iter(file.resources), None)
        self._was_running = self._preview.is_running
        self._page = 0
        self._node: _Steps | None = None
        self._shown_items: dict[_Steps, int] = {}
        """How many items of a list are shown, if more than at first."""
        self._failure: str | None = None

    def draw(self) -> None:
        """Draw the bar, the tabs, and what is in them."""
        with ui.element("div").classes("pane"):
            with ui.element("div").classes("bar"):
                self._draw_choice()
            self._failed()
            self._missing()
            with ui.tabs().props("dense align=left no-caps").classes("full-width") as tabs:
                for name in _TABS:
                    ui.tab(name)
            ui.separator()
            with ui.element("div").classes("results"), ui.tab_panels(tabs, value="Rows"):
                panels = (
                    self._rows,
                    self._columns,
                    self._requests,
                    self._answer,
                    self._guesses,
                    self._forecast,
                    self._diff,
                )
                for name, panel in zip(_TABS, panels, strict=True):
                    with ui.tab_panel(name), ui.element("div").classes("full"):
                        panel()
        self._panels = panels
        ui.timer(_LOOK_SECONDS, self._look)

    def refresh_file(self) -> None:
        """Show what has changed with the text of the file."""
        names = list(self._file.resources)
        if not names and self._file.problems:
            return  # half a word is typed: what was chosen stays
        if self._resource not in names:
            self._resource = names[0] if names else None
            for panel in self._panels:
                panel.refresh()
        self._select.set_options(names, value=self._resource)
        if self._missing_names != self._open_files.missing_variables(self._file):
            self._missing.refresh()
        self._guesses.refresh()
        self._diff.refresh()

    @property
    def _seen(self) -> PreviewedResource | None:
        return self._preview.seen(self._resource)

    def _draw_choice(self) -> None:
        self._select = ui.select(
            list(self._file.resources), value=self._resource, on_change=self._choose
        )
        self._select.props("dense outlined options-dense").style("min-width: 150px")
        self._go = ui.button("Preview", on_click=self._start).props("unelevated dense")
        self._go.style("padding: 0 12px").props(
            'title="Asks the API for two pages, with the text as it is typed. Nothing is stored."'
        )
        self._stop = ui.button("Stop", on_click=self._preview.stop).props("outline dense")
        self._stop.style("padding: 0 12px")
        self._spinner = ui.spinner(size="18px")
        self._progress = ui.label().classes("small muted cut grow")
        self._show_progress()

    def _choose(self, change: events.ValueChangeEventArguments[Any]) -> None:
        if change.value == self._resource:
            return
        self._resource, self._page, self._node = change.value, 0, None
        self._shown_items = {}
        for panel in self._panels:
            panel.refresh()

    def _start(self) -> None:
        self._failure = None
        self._preview.start(self._resource)
        self._look()

    def _look(self) -> None:
        """Show the progress, and the result when there is one."""
        is_running = self._preview.is_running
        if is_running or self._was_running:
            self._show_progress()
        if self._was_running and not is_running:
            self._page, self._node, self._shown_items = 0, None, {}
            self._failure = self._preview.failure
            self._failed.refresh()
            for panel in self._panels:
                panel.refresh()
        self._was_running = is_running

    def _show_progress(self) -> None:
        is_running = self._preview.is_running
        self._go.set_visibility(not is_running)
        self._stop.set_visibility(is_running)
        self._spinner.set_visibility(is_running)
        self._progress.set_text(self._progress_text())

    def _progress_text(self) -> str:
        if self._preview.is_running:
            said = self._preview.messages[-1:] or [""]
            count = len(self._preview.requests)
            text = f"{count} request{'s' * (count != 1)}, {self._preview.seconds:.0f} s"
            return f"{text}. {said[0]}" if said[0] else text
        found = self._preview.result
        if found is None:
            return ""
        ended = f", ended early: {found.ended}" if found.ended else ""
        return f"{found.seconds:.1f} s{ended}. Nothing was loaded."

    @ui.refreshable_method
    def _failed(self) -> None:
        if self._failure:
            with ui.element("div").classes("notice wrong"):
                ui.label(self._failure)

    @ui.refreshable_method
    def _missing(self) -> None:
        """Ask for the variables without a value. What is typed goes into `.env`, and never comes back."""
        self._missing_names = self._open_files.missing_variables(self._file)
        for name in self._missing_names:
            with ui.element("div").classes("notice"):
                ui.label(f"{name} has no value").classes("grow small")
                field = ui.input(placeholder="its value", password=True)
                field.props("dense outlined autocomplete=off").style("width: 170px")
                button = ui.button("Write into .env")
                button.props("outline dense padding='3px 10px' size=sm")
                button.on_click(lambda name=name, field=field: self._set_variable(name, field))

    def _set_variable(self, name: str, field: ui.input) -> None:
        value, field.value = (field.value or "").strip(), ""
        if not value:
            return
        try:
            set_variable(name, value)
            self._failure = None
        except OSError as error:
            self._failure = f".env can't be written: {error.strerror}."
        self._failed.refresh()
        self._missing.refresh()

    def _problems(self) -> None:
        """What is wrong with the preview as a whole."""
        result = self._preview.result
        for problem in result.problems if result else ():
            with ui.element("div").classes("notice wrong").style("margin-bottom: 8px"):
                ui.label(problem)

    @ui.refreshable_method
    def _rows(self) -> None:
        self._problems()
        seen = self._seen
        if seen is None:
            _empty("Nothing was read yet.", "Preview asks the API for the first two pages.")
            return
        _draw_facts(seen)
        if seen.table is not None and seen.table.rows:
            _draw_rows(seen.table)
        elif seen.table is None or not seen.table.columns:
            _empty("There are no rows.", "The tab Answer shows what came.")

    @ui.refreshable_method
    def _columns(self) -> None:
        seen = self._seen
        if seen is None or seen.table is None:
            _empty("No columns are known yet.")
            return
        for table in (seen.table, *seen.nested):
            with ui.element("div").classes("card"):
                rows = f"{table.rows_read:,} row{'s' * (table.rows_read != 1)}"
                ui.label(f"{table.name}, {rows}").style("font-weight: 600")
                listed = [
                    {
                        "name": one.name,
                        "type": one.data_type,
                        "null": "" if one.nullable else "not null",
                        "hints": ", ".join(one.hints),
                    }
                    for one in table.columns
                ]
                _draw_table(["name", "type", "null", "hints"], listed)

    @ui.refreshable_method
    def _requests(self) -> None:
        seen = self._seen
        if seen is None:
            _empty("No request was sent yet.")
            return
        for request in seen.requests:
            _draw_request(request)

    @ui.refreshable_method
    def _answer(self) -> None:
        answers = seen_answers(self._seen) if self._seen else []
        if not answers:
            _empty("No answer in JSON came yet.", "The tab Requests has the others as text.")
            return
        if len(answers) > 1:
            pages = {at: f"Answer {at + 1}" for at in range(len(answers))}
            toggle = ui.toggle(pages, value=self._page, on_change=self._turn)
            toggle.props("dense unelevated no-caps padding='2px 10px' size=sm")
        answer = answers[min(self._page, len(answers) - 1)]
        with ui.row().classes("offers items-center"):
            self._offers(answer)
        nodes = [_tree_node((), "answer", answer.body, 0, self._shown_items)]
        tree = ui.tree(nodes, label_key="label", on_select=lambda event: self._pick(event, answer))
        opened = [json.dumps(at[:n]) for at in self._shown_items for n in range(len(at) + 1)]
        tree.props("dense no-connectors").classes("mono")
        tree.expand([*_first_nodes(answer.body), *opened])

    def _turn(self, change: events.ValueChangeEventArguments[Any]) -> None:
        self._page, self._node, self._shown_items = change.value, None, {}
        self._answer.refresh()

    def _pick(self, event: events.ValueChangeEventArguments[Any], answer: SeenAnswer) -> None:
        steps = None if event.value is None else tuple(json.loads(event.value))
        if steps and steps[-1] == _REST:
            above = steps[:-1]
            self._shown_items[above] = self._shown_items.get(above, _MAX_ITEMS) + _MORE_ITEMS
            self._answer.refresh()
            return
        self._node = steps
        self._offers.refresh(answer)

    @ui.refreshable_method
    def _offers(self, answer: SeenAnswer) -> None:
        if self._node is None:
            ui.label("Click on a part of the answer to say what it is.").classes("muted small")
            return
        selector = self._file.in_resource(self._resource or "", "endpoint.data_selector")
        offers = offers_at(answer, self._node, selector=selector)
        ui.label(_shown_path(self._node)).classes("mono")
        for offer in offers:
            button = ui.button(offer.label, on_click=lambda offer=offer: self._take_offer(offer))
            button.props("outline dense size=sm padding='3px 10px'")
        if not offers:
            ui.label("says nothing that the file needs").classes("muted small")

    def _take_offer(self, offer: AnswerOffer) -> None:
        self._write(offer.place, offer.value)

    def _write(self, place: str, value: Any, sent: Mapping[str, str] | None = None) -> None:
        try:
            take(self._file, self._resource or "", place, value, sent)
        except TextEditError as error:
            self._failure = f"The file was not changed: {error}."
            self._failed.refresh()
            return
        self._failure = None
        self._failed.refresh()
        self._on_changed()
        self._progress.set_text(f"{place} is in the file. Preview again to see what it does.")

    @ui.refreshable_method
    def _guesses(self) -> None:
        seen = self._seen
        shown = guesses_of(self._file, seen) if seen else ()
        if not shown:
            _empty("Nothing can be guessed yet.", "A preview with an answer in JSON is needed.")
            return
        for one in shown:
            self._draw_guess(one)

    def _draw_guess(self, shown: ShownGuess) -> None:
        guess = shown.guess
        with ui.element("div").classes("card"):
            with ui.row().classes("items-center full-width no-wrap").style("gap: 8px"):
                ui.label(guess.place).style("font-weight: 600").classes("cut grow")
                ui.label(guess.confidence).classes(f"chip {guess.confidence}")
                if shown.is_in_file:
                    ui.label("in the file").classes("good small")
                elif shown.can_take:
                    button = ui.button(
                        "Take it",
                        on_click=lambda: self._write(guess.place, guess.value, guess.params),
                    )
                    button.props("outline dense size=sm padding='3px 10px'")
            if guess.value is not None:
                ui.label(json.dumps(guess.value, ensure_ascii=False)).classes("mono")
            ui.label(guess.evidence).classes("muted small")

    @ui.refreshable_method
    def _forecast(self) -> None:
        made = self._preview.forecast
        if made is None:
            _empty("There is no forecast yet.", "It counts on from a preview.")
            return
        names = ", ".join(one.name for one in made.resources)
        ui.label(f"What a load will ask of the API, from the preview of {names}").classes("muted")
        with ui.column().classes("facts").style("padding-top: 10px"):
            for label, text in forecast_facts(made):
                _fact(label, text, "")

    @ui.refreshable_method
    def _diff(self) -> None:
        diff = self._file.diff
        if not diff:
            _empty("The file is saved as it is here.")
            return
        draw_diff(diff)


def _empty(title: str, detail: str = "") -> None:
    with ui.column().classes("empty"):
        ui.label(title)
        if detail:
            ui.label(detail).classes("small")


def _draw_facts(seen: PreviewedResource) -> None:
    with ui.column().classes("facts"):
        rows = f"{seen.received:,} row{'s' * (seen.received != 1)} received"
        below = f" below {seen.parent}" if seen.parent else ""
        _fact("rows", f"{rows}{below}; written by {seen.write_disposition}", "")
        paging = seen.paging
        _fact("paging", f"{paging.verdict}: {paging.evidence}", _VERDICTS[paging.verdict])
        if seen.key is not None:
            said = "unique" if seen.key.is_unique else "NOT unique"
            kind = "good" if seen.key.is_unique else "bad"
            _fact("key", f"{', '.join(seen.key.columns)}: {said}", kind)
        if seen.cursor is not None:
            _fact(
                "cursor", f"{seen.cursor.path}: {seen.cursor.lowest} to {seen.cursor.highest}", ""
            )
        for note in seen.notes:
            _fact("note", note, "warn")
        for problem in seen.problems:
            _fact("wrong", problem, "bad")


def _fact(name: str, text: str, kind: str) -> None:
    with ui.element("div").classes("fact"):
        ui.label(name).classes("name")
        ui.label(text).classes(kind).style("overflow-wrap: anywhere")


def _draw_rows(table: PreviewedTable) -> None:
    used = [one.name for one in table.columns if any(one.name in row for row in table.rows)]
    _draw_table(used, [{name: _cell(row, name) for name in used} for row in table.rows])


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}..."


def _draw_table(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    columns = [
        {"name": f"c{at}", "label": name, "field": f"c{at}", "align": "left"}
        for at, name in enumerate(names)
    ]
    cells = [
        {"id": at, **{f"c{number}": row.get(name, "") for number, name in enumerate(names)}}
        for at, row in enumerate(rows)
    ]
    table = ui.table(columns=columns, rows=cells, row_key="id").classes("rows")
    table.props("dense flat bordered hide-pagination :rows-per-page-options=[0]")


def _draw_request(request: PreviewedRequest) -> None:
    is_ok = request.status is not None and request.status < 400
    retries = f", {request.retries} retries" if request.retries else ""
    head = f"{request.status or 'no answer'}, {request.milliseconds} ms, {request.bytes:,} bytes{retries}"
    with ui.expansion().classes("card").style("padding: 0") as expansion:
        with expansion.add_slot("header"), ui.column().classes("full-width").style("gap: 2px"):
            ui.label(f"{request.method} {request.url}").classes("mono").style(
                "overflow-wrap: anywhere"
            )
            ui.label(head).classes(f"small {'good' if is_ok else 'bad'}")
        # drawn when it is opened: all bodies together may be large
        body = ui.column().classes("full-width")

    def show(change: events.ValueChangeEventArguments[Any]) -> None:
        if change.value and not body.default_slot.children:
            with body:
                _draw_exchange(request)

    expansion.on_value_change(show)


def _draw_exchange(request: PreviewedRequest) -> None:
    for title, headers in (
        ("Request headers", request.request_headers),
        ("Answer headers", request.answer_headers),
    ):
        ui.label(title).classes("muted small")
        ui.label("\n".join(f"{key}: {text}" for key, text in headers.items())).classes("mono code")
    ui.label("Answer").classes("muted small")
    ui.label(_pretty(request.answer)).classes("mono code")


def _pretty(text: str) -> str:
    try:
        shown = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        shown = text
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}\n..."


def _tree_node(
    steps: _Steps, name: str, value: Any, depth: int, shown_items: Mapping[_Steps, int]
) -> dict[str, Any]:
    children: list[dict[str, Any]] = []
    label = f"{name}: {_cell({'': json.dumps(value, ensure_ascii=False)}, '')}"
    if isinstance(value, dict | list):
        label = f"{name}  {_size_of(value)}"
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        # all rows at once would be slow to draw
        most = shown_items.get(steps, _MAX_ITEMS) if isinstance(value, list) else len(items)
        if depth < _MAX_TREE_DEPTH:
            children = [
                _tree_node((*steps, key), str(key), one, depth + 1, shown_items)
                for key, one in items[:most]
            ]
        if most < len(items):
            more = f"and {len(items) - most:,} more: click to see them"
            children.append({"id": json.dumps([*steps, _REST]), "label": more})
    return {"id": json.dumps(steps), "label": label, "children": children}


def _size_of(value: Any) -> str:
    count = len(value)
    if isinstance(value, list):
        return f"[ {count:,} item{'s' * (count != 1)} ]"
    return f"{{ {count:,} field{'s' * (count != 1)} }}"


def _first_nodes(body: Any) -> list[str]:
    """Return the nodes that are open at first: the answer, its lists, and the first row of each."""
    return [json.dumps(steps) for steps in _first_steps((), body)]


def _first_steps(steps: tuple[str | int, ...], value: Any) -> Iterator[tuple[str | int, ...]]:
    yield steps
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value[:1])
        if isinstance(value, list)
        else ()
    )
    for key, one in items:
        if isinstance(one, dict | list) and len(steps) < 2:
            yield from _first_steps((*steps, key), one)


def _shown_path(steps: Sequence[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.lstrip(".") or "the whole answer"
