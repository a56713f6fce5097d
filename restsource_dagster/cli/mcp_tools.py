"""The tools of `restsource mcp`, each call in a process of its own: read from standard input, answered on standard output.

A process, so that a call can be ended whatever it does, and so that what a library prints is not taken for
a message of the protocol.
"""

import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer
from dotenv import load_dotenv

from restsource_dagster.authoring.assistant_access import (
    AccessRefusedError,
    AssistantAccess,
    redacted,
)
from restsource_dagster.authoring.importing.import_source import import_source
from restsource_dagster.authoring.importing.imported_api import EnvVariables
from restsource_dagster.authoring.importing.source_files import SourceError, SourceFile
from restsource_dagster.authoring.typed_login import (
    LoginOptions,
    TypedLoginError,
    read_auth,
    read_body,
    read_headers,
    url_without_secrets,
)
from restsource_dagster.authoring.used_template import used_template
from restsource_dagster.cli.app import main
from restsource_dagster.cli.common import find_resources, read_settings
from restsource_dagster.cli.new_from_url import draft_as_dict
from restsource_dagster.cli.output import EXIT_FAILED, stdout_to_stderr
from restsource_dagster.connector.env_references import MissingReferencesError, find_references
from restsource_dagster.connector.json_schema import connector_schema
from restsource_dagster.connector.loader import LoadedFile, load_file, load_text, load_wanted
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.settings import Settings, read_environment

if TYPE_CHECKING:  # importing dlt takes a second
    from restsource_dagster.engine.preview.preview_limits import PreviewLimits
    from restsource_dagster.engine.preview.preview_run import CursorBounds
    from restsource_dagster.engine.preview.previewed import Preview

__all__ = ["McpToolError", "Tools", "answer"]

_MAX_ANSWER_BYTES = 1_000_000
_RESOURCE_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
"""No `-` first: it is an argument of a command."""
_PREVIEW_SECONDS = 60.0
_GRADE_SECONDS = 120.0


class McpToolError(Exception):
    """A call can't be answered. The text says why, and what to do."""


@dataclass(frozen=True)
class Tools:
    """The tools for a folder of connector files. Each returns JSON values, which are not redacted yet."""

    configs: Path | None
    allowed: tuple[str, ...] = ()
    may_write: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The settings, with the folder of connector files."""
        return read_settings(self.configs)

    @cached_property
    def access(self) -> AssistantAccess:
        """What texts may ask for, and the secrets that never leave."""
        return AssistantAccess(self.settings.configs, read_environment(), self.allowed)

    def schema(self, part: str | None = None) -> Mapping[str, Any]:
        """Return the JSON Schema of a part of a file; without a part, its top and the names of the parts."""
        whole = connector_schema()
        parts: Mapping[str, Any] = whole.pop("$defs")
        if part is None:
            return {"schema": whole, "parts": sorted(parts)}
        if part not in parts:
            raise McpToolError(f"There is no part of this name; there are {', '.join(parts)}")
        return {"schema": parts[part]}

    def templates(self) -> Any:
        """Return the templates with their inputs."""
        return self._command("templates")

    def list_connectors(self) -> Any:
        """Return the connectors, their schedule and last run, and the files that have errors."""
        return self._command("list")

    def check(self, name: str | None = None, text: str | None = None) -> Mapping[str, Any]:
        """Return the problems of a file or a text."""
        loaded = self._loaded(name, text)
        resources = loaded.connector.resources if loaded.connector else ()
        # the hash is that of the file as it stands, which `save` compares
        content = loaded.path.read_bytes() if text is None else (text or "").encode()
        changes = used_template(loaded, self.settings, text=text)[1]
        return {
            "fine": loaded.connector is not None,
            "problems": [problem.as_dict() for problem in (*loaded.problems, *changes)],
            "resources": [
                {"name": one.name, "write_disposition": one.disposition.value} for one in resources
            ],
            "sha256": sha256(content).hexdigest(),
        }

    def preview(
        self,
        name: str | None = None,
        text: str | None = None,
        resources: Sequence[str] = (),
        pages: int = 2,
        rows: int = 10,
        start: str | None = None,
        end: str | None = None,
    ) -> Mapping[str, Any]:
        """Return the preview of a file or a text."""
        from restsource_dagster.engine.preview.preview_limits import PreviewLimits
        from restsource_dagster.engine.preview.preview_run import CursorBounds

        limits = PreviewLimits(pages=pages, rows=rows, seconds=_PREVIEW_SECONDS)
        connector = self._connector(name, text)
        bounds = CursorBounds(start, end)
        return self._preview(connector, text, resources, limits, bounds).as_dict()

    def forecast(self, name: str | None = None, text: str | None = None) -> Mapping[str, Any]:
        """Return the forecast of a file or a text, and the problems of its preview."""
        from restsource_dagster.authoring.forecast import forecast
        from restsource_dagster.engine.preview.preview_limits import PreviewLimits
        from restsource_dagster.engine.preview.preview_run import CursorBounds

        connector = self._connector(name, text)
        limits = PreviewLimits(rows=0, seconds=_PREVIEW_SECONDS)
        seen = self._preview(connector, text, (), limits, CursorBounds())
        problems = [*seen.problems, *(text for one in seen.resources for text in one.problems)]
        return {**forecast(connector, seen).as_dict(), "problems": problems}

    def grade(
        self,
        name: str | None = None,
        text: str | None = None,
        resources: Sequence[str] = (),
        attacks: Sequence[str] = (),
        offline: bool = False,
    ) -> Mapping[str, Any]:
        """Return what a file or a text survives, tried on a twin of its API."""
        from restsource_dagster.authoring.grading.attacks import ATTACKS
        from restsource_dagster.authoring.grading.grade import grade
        from restsource_dagster.engine.preview.preview_limits import PreviewLimits
        from restsource_dagster.engine.preview.preview_run import CursorBounds

        if unknown := sorted({*attacks} - ATTACKS.keys()):
            known = ", ".join(ATTACKS)
            raise McpToolError(f"There is no attack {', '.join(unknown)}; there are {known}")
        connector = self._connector(name, text)
        wanted = find_resources(connector, resources)
        limits = PreviewLimits(rows=5, calls=1, seconds=_PREVIEW_SECONDS / 2)
        seen = (
            None if offline else self._preview(connector, text, resources, limits, CursorBounds())
        )
        made = grade(
            connector,
            seen,
            resources=wanted,
            attacks=attacks or tuple(ATTACKS),
            seconds=_GRADE_SECONDS,
        )
        return made.as_dict()

    def detect(
        self,
        name: str,
        url: str,
        data: str | None = None,
        bearer: str | None = None,
        basic: str | None = None,
        api_key: str | None = None,
        headers: Sequence[str] = (),
    ) -> Mapping[str, Any]:
        """Ask an API, and return the file that its answers suggest."""
        from restsource_dagster.authoring.url_draft import ApiLogin, draft_from_url
        from restsource_dagster.engine.preview.preview_limits import PreviewLimits

        variables = EnvVariables(name)
        login = LoginOptions(bearer, basic, api_key, tuple(headers))
        asked = url_without_secrets(url, variables)
        block = ApiLogin(read_auth(login, variables), read_headers(login, variables))
        body = read_body(data, variables)
        # an assistant has no business with a secret: it stays with the person
        if variables.values():
            names = ", ".join(f"${{{each}}}" for each in variables.values())
            raise McpToolError(f"Write {names} in place of a secret; a person writes it into .env")
        # which host is asked must be plain before any secret goes there
        if "${" in urlsplit(asked).netloc:
            raise McpToolError("Write the URL's host as it is")
        sent = body.endpoint() if body else {}
        references = find_references([asked, dict(block.auth or {}), dict(block.headers), sent])
        environment = self.access.check_url(asked, references)
        limits = PreviewLimits(seconds=_PREVIEW_SECONDS)
        draft = draft_from_url(
            name,
            asked,
            login=block,
            body=body,
            settings=self.settings,
            environment=environment,
            limits=limits,
        )
        return draft_as_dict(None, None, [], draft)

    def import_source(
        self,
        sources: Sequence[Mapping[str, str]],
        kind: Any = None,
        name: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Mapping[str, Any]:
        """Return the file of a cURL command, an OpenAPI document or another source; it is not saved."""
        files = [SourceFile(Path(each["name"]).name, each["text"]) for each in sources]
        try:
            made = import_source(files, kind, name=name, include=include, exclude=exclude)
        except SourceError as error:
            raise McpToolError(f"Nothing is imported: {error}") from None
        # the values of secrets in the source are nowhere in it
        return made.as_dict(Path(f"{made.draft.name}.json"), list(made.draft.variables.values()))

    def run(self, name: str, resources: Sequence[str] = ()) -> Any:
        """Run a saved connector."""
        self._check_may_write()
        return self._command("run", self._connector(name, None).name, *_plain(resources))

    def save(self, name: str, text: str, replaces: str | None = None) -> Mapping[str, Any]:
        """Write a file; one that exists only if its `sha256` is still `replaces`."""
        self._check_may_write()
        given = self._loaded(name, text)
        if given.connector is None:
            raise McpToolError("Nothing is saved: the text has errors; `check` shows them")
        # the file would load as another connector than it is called
        if given.connector.name != name:
            raise McpToolError(f"Nothing is saved: the text's `name` is not {name}")
        self.access.check_connector(given.connector)
        saved = self._saved(name)
        path = given.path if saved is None else saved.path
        if saved is not None and given.path.suffix != path.suffix and path.suffix == ".json":
            raise McpToolError(f"{path.name} is JSON, and the text is not")
        _write(path, text, replaces)
        return {
            "path": str(path),
            "problems": [each.as_dict() for each in load_file(path).problems],
        }

    def _check_may_write(self) -> None:
        if not self.may_write:
            raise McpToolError("A person can allow it: start the server with --write")

    def _preview(
        self,
        connector: Connector,
        text: str | None,
        resources: Sequence[str],
        limits: "PreviewLimits",
        bounds: "CursorBounds",
    ) -> "Preview":
        from restsource_dagster.engine.preview.preview_run import preview

        wanted = find_resources(connector, resources)
        if text is None:
            # a saved file may use all secrets: a person wrote it, or it passed this check when it was saved
            environment: Mapping[str, str] = read_environment()
        else:
            environment = self.access.check_connector(connector)
        return preview(
            connector,
            settings=self.settings,
            environment=environment,
            resources=wanted,
            limits=limits,
            bounds=bounds,
        )

    def _connector(self, name: str | None, text: str | None) -> Connector:
        loaded = self._loaded(name, text)
        if loaded.connector is None:
            errors = "\n".join(
                each.as_text() for each in loaded.problems if each.severity == "error"
            )
            raise McpToolError(f"The file has errors:\n{errors}")
        return loaded.connector

    def _loaded(self, name: str | None, text: str | None) -> LoadedFile:
        """Return a saved file by its connector's name, or a text as if it was saved under this name."""
        if name is not None and not re.fullmatch(CONNECTOR_NAME_PATTERN, name):
            raise McpToolError(
                "A name has a small letter, then small letters, digits and underscores"
            )
        if text is not None:
            # as people tell them apart
            suffix = "json" if text.lstrip().startswith("{") else "yaml"
            return load_text(text, self.settings.configs / f"{name or 'unsaved'}.{suffix}")
        if name is None:
            raise McpToolError("Give the `name` of a saved file, or a `text`")
        found = self._saved(name)
        if found is None:
            raise McpToolError(f"There is no connector {name}; `list` names them")
        return found

    def _saved(self, name: str) -> LoadedFile | None:
        folder = load_wanted(self.settings.configs, {name}, lambda one: one.name == name)
        for file in folder.files:
            known = file.path.stem if file.connector is None else file.connector.name
            if known == name:
                return file
        return None

    def _command(self, command: str, *arguments: str) -> Any:
        """Return the JSON of a command."""
        out, err = io.StringIO(), io.StringIO()
        options = ["--json", "--configs", str(self.settings.configs)]
        with redirect_stdout(out), redirect_stderr(err):
            # `--`, so that no argument becomes an option
            code = main([command, *options, "--", *arguments])
        if code > EXIT_FAILED or not out.getvalue():
            raise McpToolError(
                err.getvalue().strip() or f"`restsource {command}` ended with {code}"
            )
        said = {"messages": err.getvalue().splitlines()} if err.getvalue() else {}
        return {**json.loads(out.getvalue()), **said}


def _plain(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if not _RESOURCE_NAME.fullmatch(name):
            raise McpToolError(f"{name!r} is no name of a resource")
    return names


def _write(path: Path, text: str, replaces: str | None) -> None:
    """Write a file whole. Raises `McpToolError` if it is not the one that is to be replaced."""
    # it may lead out of the folder
    if path.is_symlink():
        raise McpToolError(f"Nothing is saved: {path.name} is a link")
    try:
        if replaces is None:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        if sha256(path.read_bytes()).hexdigest() != replaces:
            raise McpToolError(f"Nothing is saved: {path.name} has changed; `check` it again")
        # renamed, so that Dagster never reads half a file
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except FileExistsError:
        raise McpToolError(
            f"Nothing is saved: {path.name} exists; give its `sha256` in `replaces`"
        ) from None
    except OSError as error:
        raise McpToolError(f"{path.name} can't be written: {error.strerror}") from None


def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `result` or `error` of a call, without secrets."""
    configs = request["configs"]
    tools = Tools(Path(configs) if configs else None, tuple(request["allowed"]), request["write"])
    try:
        tool: Callable[..., Any] = getattr(tools, request["tool"])
        made = {"result": tool(**request["arguments"])}
        redactor = tools.access.redactor
    except (
        McpToolError,
        AccessRefusedError,
        MissingReferencesError,
        IngestError,
        typer.BadParameter,
        TypedLoginError,
    ) as error:
        made = {"error": getattr(error, "message", None) or str(error)}
        redactor = tools.access.redactor
    safe: Mapping[str, Any] = redacted(made, redactor)
    # an assistant reads the whole answer, and has little room for it
    size = len(json.dumps(safe))
    if size > _MAX_ANSWER_BYTES:
        fix = "ask for fewer resources, rows or pages"
        return {"error": f"The answer has {size:,} bytes, too many; {fix}"}
    return safe


def _main() -> None:
    request = json.load(sys.stdin)
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    with stdout_to_stderr():
        made = answer(request)
    sys.stdout.write(json.dumps(made))


if __name__ == "__main__":
    _main()
