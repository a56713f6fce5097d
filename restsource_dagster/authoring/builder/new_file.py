"""New files: from the URL of an API, from what people paste, from a template. Secrets go into `.env` only."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.authoring.builder.edited_file import EditedFile
from restsource_dagster.authoring.builder.file_preview import STOPPED
from restsource_dagster.authoring.builder.open_files import OpenFiles
from restsource_dagster.authoring.env_variables import add_variables
from restsource_dagster.authoring.importing.connector_draft import file_text
from restsource_dagster.authoring.importing.import_source import (
    ImportKind,
    ImportResult,
    import_source,
)
from restsource_dagster.authoring.importing.imported_api import EnvVariables
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile
from restsource_dagster.authoring.sent_body import SentBody
from restsource_dagster.authoring.template_draft import template_file, typed_input
from restsource_dagster.authoring.typed_login import (
    LoginOptions,
    read_auth,
    read_body,
    read_headers,
    url_without_secrets,
)
from restsource_dagster.authoring.url_draft import ApiLogin, UrlDraft, draft_from_url
from restsource_dagster.connector.templates import Template, find_template, known_templates
from restsource_dagster.engine.preview.preview_limits import PreviewEnd

__all__ = ["PastedSource", "TemplateInputError", "UrlAttempt", "add_from_template", "templates_of"]


@dataclass(frozen=True)
class PastedSource:
    """A text that was pasted, and the connector that it makes.

    It holds secrets until the file is added, so nothing shows it but `names` and `report`.
    """

    result: ImportResult = field(repr=False)
    _file: SourceFile = field(repr=False)

    @classmethod
    def read(cls, text: str, kind: ImportKind | None = None) -> "PastedSource":
        """Read a cURL command, an OpenAPI document, a Postman collection, a HAR file or another source.

        Raises `SourceError` if nothing can be made of it.
        """
        file = SourceFile("what was pasted", text)
        return cls(import_source([file], kind), file)

    @property
    def name(self) -> str:
        """A name for the connector."""
        return self.result.draft.name

    @property
    def names(self) -> Sequence[str]:
        """The resources to choose from."""
        return [str(one["name"]) for one in self.result.draft.value["resources"]]

    @property
    def report(self) -> Sequence[str]:
        """What was guessed and what was not mapped, in sentences."""
        fates = self.result.fates
        guessed = [f"Guessed {one.target}: {one.reason}" for one in fates if one.state == "guessed"]
        guessed += [
            f"Suggested: {one.target}: {one.reason}" for one in fates if one.state == "suggested"
        ]
        left = sorted({one.reason for one in fates if one.state == "not_mapped"})
        return [*guessed, *(f"Not mapped: {reason}" for reason in left)]

    def add_to(self, open_files: OpenFiles, name: str, resources: Sequence[str]) -> EditedFile:
        """Open the file of the chosen resources, and write its secrets into `.env`.

        Raises `NameTakenError`, and `SourceError` if no resource is chosen or no file can be made.
        """
        open_files.free_path(name)
        if not resources:
            raise SourceError("choose a resource")
        # no pattern at all, so that a resource with a name like a pattern comes, too
        chosen = () if set(resources) == set(self.names) else tuple(resources)
        # read again: names of variables begin with the connector's name
        made = import_source([self._file], self.result.kind, name=name, include=chosen)
        if made.errors:
            raise SourceError(made.errors[0].message)
        return _add(open_files, name, made.text, made.draft.variables.values())


@dataclass
class UrlAttempt:
    """A draft from a URL while the API is asked, in a thread of its own."""

    open_files: OpenFiles
    name: str
    draft: UrlDraft | None = None
    failure: str | None = None
    _variables: EnvVariables = field(default_factory=lambda: EnvVariables(""), repr=False)
    _end: PreviewEnd = field(default_factory=PreviewEnd)
    _thread: threading.Thread | None = None

    @classmethod
    def start(
        cls, open_files: OpenFiles, name: str, url: str, login: LoginOptions, data: str = ""
    ) -> "UrlAttempt":
        """Begin to ask the API, only the host of the URL; by POST if there is a body (`data`).

        Raises `NameTakenError`, and `TypedLoginError` for a URL or a login that is written wrongly.
        """
        open_files.free_path(name)
        variables = EnvVariables(name)
        asked = url_without_secrets(url, variables)
        block = ApiLogin(read_auth(login, variables), read_headers(login, variables))
        body = read_body(data, variables)
        made = cls(open_files, name, _variables=variables)
        made._thread = threading.Thread(target=made._ask, args=(asked, block, body), daemon=True)
        made._thread.start()
        return made

    @property
    def is_running(self) -> bool:
        """True while the API is asked."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End it at once."""
        self._end.stop(STOPPED)

    def wait(self, seconds: float) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _ask(self, url: str, login: ApiLogin, body: SentBody | None) -> None:
        # what was just typed is not in `.env` yet
        known = {key: text for key, text in self._variables.values().items() if text}
        try:
            draft = draft_from_url(
                self.name,
                url,
                login=login,
                body=body,
                settings=self.open_files.settings,
                environment={**self.open_files.environment(), **known},
                end=self._end,
            )
        except Exception as error:  # noqa: BLE001 - the page shows what a person can't see otherwise
            self.failure = f"The API could not be asked: {type(error).__name__}: {error}"
            return
        self.draft = draft
        # a draft that a person stopped is half of one, whatever it says
        self.failure = self._end.reason or draft.failure

    def add(self) -> EditedFile:
        """Open the file that was drafted, and write its secrets into `.env`. Raises `NameTakenError`.

        A draft without guesses is opened, too: it has the URL and the login.
        """
        if self.draft is None:
            raise RuntimeError("there is no draft")
        return _add(
            self.open_files, self.name, file_text(self.draft.value), self._variables.values()
        )


def _add(open_files: OpenFiles, name: str, text: str, variables: Mapping[str, str]) -> EditedFile:
    open_files.free_path(name)
    # before the file is opened: its preview needs them at once
    added = add_variables(variables)
    file = open_files.add(name, text)
    if added.kept:
        names = ", ".join(added.kept)
        file.notice = (
            f"{names}: in .env already, with the value that stays. The new one is not written."
        )
    return file


class TemplateInputError(Exception):
    """What is wrong with the inputs of a template; the text says which one."""


def templates_of(open_files: OpenFiles) -> Mapping[str, Template]:
    """Return the templates that can be used, by name."""
    folder = open_files.settings.configs
    found = {name: find_template(name, folder) for name in known_templates(folder)}
    return {name: one for name, one in found.items() if isinstance(one, Template)}


def add_from_template(
    open_files: OpenFiles, name: str, template: Template, typed: Mapping[str, str]
) -> EditedFile:
    """Open a file that uses a template, and write its secrets into `.env`.

    `typed` are the inputs as they were typed; an empty one is left out. Raises `NameTakenError` and
    `TemplateInputError`.
    """
    open_files.free_path(name)
    given: dict[str, Any] = {}
    for key, expected in template.head.inputs.items():
        text = typed.get(key, "").strip()
        # a secret may be left out: its line in `.env` is filled in later
        if not text and expected.is_needed and not expected.secret:
            raise TemplateInputError(f"{key} is missing: {expected.description}")
        try:
            if text or expected.is_needed:
                given[key] = typed_input(text, expected)
        except ValueError:
            raise TemplateInputError(f"{key} is a number") from None
    value, secrets = template_file(name, template, given)
    return _add(open_files, name, file_text(value), secrets)
