"""The page on which a new file begins: from a URL, from a paste, or from a template."""

import re
from collections.abc import Callable
from typing import get_args

from nicegui import run, ui

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.builder.new_file import (
    PastedSource,
    TemplateInputError,
    UrlAttempt,
    add_from_template,
    templates_of,
)
from restsource_dagster.authoring.builder.open_files import NameTakenError, OpenFiles
from restsource_dagster.authoring.importing.import_source import ImportKind
from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster.authoring.typed_login import LoginOptions, TypedLoginError
from restsource_dagster.connector.templates import Template

__all__ = ["NewFilePane"]

# the attempt runs in a thread, which must not touch the page
_LOOK_SECONDS = 0.25
_SHOWN_LINES = 12
_LOGINS = {
    "none": "no login",
    "bearer": "bearer token",
    "basic": "USER:PASSWORD (basic)",
    "api_key": "NAME=KEY in a header",
    "api_key_param": "NAME=KEY in the URL",
}
_KINDS = {"": "find out what it is", **{kind: kind for kind in get_args(ImportKind)}}
_WRONG = (NameTakenError, SourceError, TemplateInputError, TypedLoginError, OSError)


class NewFilePane:
    """The three ways to a new file, in one browser tab.

    What is typed into a field for a secret is taken out of it as soon as it is read, so that the page never
    gets it back. It is kept here until there is a file, so that nobody types it again after a mistake elsewhere.
    """

    def __init__(self, open_files: OpenFiles) -> None:
        """Nothing is drawn yet."""
        self._open_files = open_files
        # once for each page: every template is a file that is read and checked
        self._templates = templates_of(open_files)
        self._pasted: PastedSource | None = None
        self._attempt: UrlAttempt | None = None
        self._failure = ""

    def draw(self) -> None:
        """Draw the forms."""
        with ui.element("div").classes("form"):
            ui.label("A new connector").style("font-size: 18px; font-weight: 600")
            ui.label("Secrets go into .env, and the file refers to them.").classes("muted")
            self._failed()
            tabs = ui.tabs().props("dense align=left no-caps").classes("full-width")
            with tabs:
                for title in ("From a URL", "Paste", "Template"):
                    ui.tab(title)
            ui.separator()
            with ui.tab_panels(tabs, value="From a URL").classes("full-width"):
                with ui.tab_panel("From a URL"), ui.element("div").classes("full"):
                    self._draw_url()
                with ui.tab_panel("Paste"), ui.element("div").classes("full"):
                    self._draw_paste()
                with ui.tab_panel("Template"), ui.element("div").classes("full"):
                    self._draw_template()

    @ui.refreshable_method
    def _failed(self) -> None:
        if self._failure:
            with ui.element("div").classes("notice wrong"):
                ui.label(self._failure)

    def _say(self, failure: str) -> None:
        self._failure = failure
        self._failed.refresh()

    def _open(self, add: Callable[[], EditedFile]) -> None:
        """Add a file and go to its page, or say what is wrong."""
        try:
            file = add()
        except _WRONG as error:
            self._say(_sentence(error))
            return
        ui.navigate.to(f"/open/{file.path.stem}")

    def _draw_url(self) -> None:
        ui.label(
            "Give the URL of a list, with the params that the documentation names. Its host is asked some "
            "twenty times at most, and what a second page confirms is written."
        ).classes("muted small")
        name = _field("Name of the connector", "such as shop")
        url = _field("URL", "https://api.example.com/v1/orders?updated_since=2026-01-01")
        data = _field("Body, if the list is asked by POST", '{"page": 1}, or a GraphQL query')
        with ui.row().classes("full-width no-wrap items-center"):
            kind = ui.select(_LOGINS, value="none", label="Login").props("dense outlined")
            kind.style("width: 230px")
            secret = _HiddenText(
                _field("Secret", "or a reference such as ${SHOP_TOKEN}", is_secret=True)
            )
            secret.field.bind_visibility_from(kind, "value", lambda value: value != "none")
        with ui.row().classes("items-center"):
            go = ui.button("Ask the API").props("unelevated")
            stop = ui.button("Stop", on_click=self._stop_asking).props("outline")
            spinner = ui.spinner(size="20px")

        def begin() -> None:
            # taken out before anything can fail
            host = re.sub(r"^\w+://", "", (url.value or "").strip()).split("/")[0]
            login = _login(kind.value, secret.take(f"{kind.value} {host}"))
            self._say("")
            try:
                self._attempt = UrlAttempt.start(
                    self._open_files,
                    (name.value or "").strip(),
                    (url.value or "").strip(),
                    login,
                    data.value or "",
                )
            except _WRONG as error:
                self._say(_sentence(error))

        def look() -> None:
            is_running = self._attempt is not None and self._attempt.is_running
            go.set_visibility(not is_running)
            stop.set_visibility(is_running)
            spinner.set_visibility(is_running)
            if self._attempt is not None and not is_running:
                self._end_asking()

        go.on_click(begin)
        look()
        ui.timer(_LOOK_SECONDS, look)

    def _stop_asking(self) -> None:
        if self._attempt is not None:
            self._attempt.stop()

    def _end_asking(self) -> None:
        """Open what was drafted, or say why there is nothing."""
        # once: the timer comes again
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        if attempt.failure is not None or attempt.draft is None:
            self._say(f"Nothing is written: {attempt.failure}")
            return
        self._open(attempt.add)

    def _draw_paste(self) -> None:
        ui.label(
            "A cURL command, an OpenAPI document, a Postman collection, a HAR file, an Airbyte manifest or dlt's "
            "Python code. It is read here, and nothing is requested."
        ).classes("muted small")
        text = ui.textarea(
            placeholder="curl https://api.example.com/v1/orders -H 'Authorization: ...'"
        )
        text.props("outlined input-style='height: 220px' spellcheck=false").classes(
            "full-width mono"
        )
        # a paste may hold secrets, too
        pasted = _HiddenText(text)
        with ui.row().classes("items-center"):
            kind = ui.select(_KINDS, value="").props("dense outlined").style("width: 200px")
            go = ui.button("Read it").props("unelevated")

        async def read() -> None:
            given = pasted.take()
            self._pasted = None
            self._say("")
            chosen: ImportKind | None = kind.value or None
            try:
                # an OpenAPI document of megabytes takes seconds
                self._pasted = await run.io_bound(PastedSource.read, given, chosen)
            except SourceError as error:
                self._say(f"Nothing can be made of it: {error}.")
            self._choice.refresh()

        go.on_click(read)
        self._choice()

    @ui.refreshable_method
    def _choice(self) -> None:
        pasted = self._pasted
        if pasted is None:
            return
        with ui.element("div").classes("card"):
            kind, count = pasted.result.kind, len(pasted.names)
            ui.label(f"{kind}: {count} resource{'s' * (count != 1)}").style("font-weight: 600")
            name = _field("Name of the connector", "such as shop", value=pasted.name)
            chosen = ui.select(list(pasted.names), value=list(pasted.names), multiple=True)
            chosen.props("dense outlined use-chips label=Resources").classes("full-width")
            for line in pasted.report[:_SHOWN_LINES]:
                ui.label(line).classes("muted small")
            if len(pasted.report) > _SHOWN_LINES:
                ui.label(f"and {len(pasted.report) - _SHOWN_LINES} more").classes("muted small")

            def add() -> EditedFile:
                return pasted.add_to(
                    self._open_files, (name.value or "").strip(), list(chosen.value or ())
                )

            button = ui.button("Make the file", on_click=lambda: self._open(add))
            button.props("unelevated").style("align-self: start")

    def _draw_template(self) -> None:
        titles = {name: one.head.title for name, one in self._templates.items()}
        choice = ui.select(titles, value=next(iter(titles), None), label="Template")
        choice.props("dense outlined").style("width: 320px")
        choice.on_value_change(lambda: self._inputs.refresh(self._templates.get(choice.value)))
        self._inputs(self._templates.get(choice.value))

    @ui.refreshable_method
    def _inputs(self, template: Template | None) -> None:
        if template is None:
            return
        name = _field("Name of the connector", "such as shop", value=template.name)
        fields: dict[str, ui.input] = {}
        secrets: dict[str, _HiddenText] = {}
        for key, expected in template.head.inputs.items():
            ui.label(expected.description).classes("muted small").style("margin-top: 4px")
            default = "" if expected.default is None else str(expected.default)
            fields[key] = _field(key, default, is_secret=expected.secret)
            if expected.secret:
                secrets[key] = _HiddenText(fields[key])

        def add() -> EditedFile:
            typed = {
                key: secrets[key].take() if key in secrets else one.value or ""
                for key, one in fields.items()
            }
            return add_from_template(self._open_files, (name.value or "").strip(), template, typed)

        button = ui.button("Make the file", on_click=lambda: self._open(add))
        button.props("unelevated").style("align-self: start")


class _HiddenText:
    """A field for a secret. Reading empties it, so that the page never gets the value back; it is kept here."""

    def __init__(self, field: ui.input | ui.textarea) -> None:
        self.field = field
        self._kept = self._purpose = ""

    def take(self, purpose: str = "") -> str:
        """Return what is typed, or else what was typed before for the same purpose. Empties the field."""
        if self.field.value:
            self._kept, self._purpose, self.field.value = self.field.value, purpose, ""
            self.field.props('hint="kept as typed; type here to replace it"')
        elif purpose != self._purpose:
            # typed for another host or another login, to which alone it may go
            self._kept, self._purpose = "", purpose
            self.field.props(remove="hint")
        return self._kept


def _field(label: str, hint: str, *, value: str = "", is_secret: bool = False) -> ui.input:
    made = ui.input(label, placeholder=hint, value=value, password=is_secret)
    made.props("dense outlined autocomplete=off spellcheck=false").classes("full-width")
    return made


def _login(kind: str, text: str) -> LoginOptions:
    text = text.strip()
    if kind == "bearer":
        return LoginOptions(bearer=text)
    if kind == "basic":
        return LoginOptions(basic=text)
    if kind in ("api_key", "api_key_param"):
        return LoginOptions(api_key=f"?{text}" if kind == "api_key_param" else text)
    return LoginOptions()


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
