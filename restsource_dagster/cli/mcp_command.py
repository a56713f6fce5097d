"""`restsource mcp`: lets an assistant write connector files, over the Model Context Protocol."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from pydantic import BaseModel, Field

from restsource_dagster.cli.common import read_settings
from restsource_dagster.cli.options import AllowOption, ConfigsOption, JsonOption, WriteOption
from restsource_dagster.cli.output import EXIT_FAILED, print_notice
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN

if TYPE_CHECKING:  # an extra
    from anyio.abc import ByteReceiveStream, ByteSendStream
    from mcp.server import MCPServer

__all__ = ["McpTools", "bound_lines", "mcp"]

_INSTRUCTIONS = (
    "Write connector files for REST APIs. Start with `detect` (from the URL of a list), `import` (from a cURL "
    "command, an OpenAPI document, a Postman collection, ...) or a template. `check` a text, then `preview` it until "
    "nothing is wrong and the paging is proved. `schema` explains the fields. Write ${NAME} in place of a secret: "
    "its value stands in .env, which only a person writes."
)
_MAX_ANSWER_BYTES = 2_000_000
"""More than a call answers; it is an error there."""
_MAX_LINE_BYTES = 64_000_000
"""Of one message: the sources of an import have 50 MB at most."""
_READ_BYTES = 65_536
_STOP_SECONDS = 15.0

# Texts that may be left out are empty, not None: the package reads the JSON of a text whose type is a union.
SavedName = Annotated[
    str, Field(pattern=f"^({CONNECTOR_NAME_PATTERN})?$", description="The name of a connector.")
]
NewName = Annotated[
    str, Field(pattern=f"^{CONNECTOR_NAME_PATTERN}$", description="The name of a connector.")
]
FileText = Annotated[
    str,
    Field(max_length=1_000_000, description="A connector file in JSON or YAML that is not saved."),
]
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$", max_length=200)]
ResourceNames = Annotated[
    list[ResourceName],
    Field(max_length=100, description="Only these resources; none for all of the file."),
]
Short = Annotated[str, Field(max_length=10_000)]
Patterns = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)]
Answer = dict[str, Any]
_Tool = Callable[..., Awaitable[Answer]]


class McpSource(BaseModel):
    """A file to import, or one that the first file refers to."""

    name: str = Field(max_length=200, description="Its name, as other files refer to it.")
    text: str = Field(max_length=5_000_000)


def mcp(
    write: WriteOption = False,
    allow: AllowOption = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the Model Context Protocol on standard input and output, for an assistant.

    Its tools are schema, templates, check, preview, detect, import, forecast, grade and list; with --write also
    run and save. Secrets never leave: the values of `${NAME}` are hidden in all answers, and a text of the
    assistant gets them only for the hosts to which a saved file sends them, or that --allow names.

    It needs the extra `mcp`, and exits with 1 without it. The output is the protocol's JSON, with --json or
    without.

    Example: restsource mcp --configs configs --allow SHOP_TOKEN@api.example.com
    """
    del as_json
    settings = read_settings(configs)
    from restsource_dagster.authoring.assistant_access import parse_allowance

    for text in allow or []:
        try:
            parse_allowance(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--allow") from None
    tools = McpTools(settings.configs, tuple(allow or ()), may_write=write)
    try:
        server = _build_server(tools)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        from restsource_dagster.engine.errors import MissingExtraError

        print_notice(str(MissingExtraError("`restsource mcp`", "mcp", "mcp")))
        raise typer.Exit(EXIT_FAILED) from None
    bound_lines(sys.stdin.fileno(), _MAX_LINE_BYTES)
    server.run("stdio")


def bound_lines(source: int, most: int) -> threading.Thread:
    """Put a pipe in place of a file descriptor, which ends before a line that has more bytes than `most`.

    The package reads whole lines, so a line without an end would take all memory.
    """
    given = os.dup(source)
    reader, writer = os.pipe()
    os.dup2(reader, source)
    os.close(reader)
    thread = threading.Thread(target=_copy_lines, args=(given, writer, most), daemon=True)
    thread.start()
    return thread


def _copy_lines(given: int, writer: int, most: int) -> None:
    length = 0
    try:
        while part := os.read(given, _READ_BYTES):
            last = part.rfind(b"\n")
            length = length + len(part) if last < 0 else len(part) - last - 1
            if length > most:
                print_notice(f"A message has more than {most:,} bytes; the server ends.")
                return
            _write_all(writer, part)
    except BrokenPipeError:
        return  # the server has ended
    finally:
        os.close(writer)
        os.close(given)


def _write_all(writer: int, part: bytes) -> None:
    while part:
        part = part[os.write(writer, part) :]


def _build_server(tools: "McpTools") -> "MCPServer":
    from mcp.server import MCPServer
    from mcp_types import ToolAnnotations

    server = MCPServer("restsource", instructions=_INSTRUCTIONS, log_level="WARNING")
    files: Mapping[str, _Tool] = {
        "schema": tools.schema,
        "templates": tools.templates,
        "check": tools.check,
        "list": tools.list_connectors,
        "import": tools.import_source,
    }
    asking: Mapping[str, _Tool] = {
        "preview": tools.preview,
        "detect": tools.detect,
        "forecast": tools.forecast,
        "grade": tools.grade,
    }
    writing: Mapping[str, _Tool] = {"run": tools.run, "save": tools.save}
    for name, tool in {**files, **asking, **(writing if tools.may_write else {})}.items():
        hints = ToolAnnotations(
            read_only_hint=name not in writing, open_world_hint=name in asking or name == "run"
        )
        server.add_tool(tool, name=name, annotations=hints)
    return server


@dataclass(frozen=True)
class McpTools:
    """The tools as the protocol shows them: their arguments with bounds. Each call is a process."""

    configs: Path
    allowed: tuple[str, ...]
    may_write: bool

    async def schema(self, part: Short = "") -> Answer:
        """The JSON Schema of connector files: the top of a file and the names of its parts, or one part."""
        return await self._call("schema", {"part": part})

    async def templates(self) -> Answer:
        """The templates for well-known APIs, with the inputs that each needs."""
        return await self._call("templates", {})

    async def list_connectors(self) -> Answer:
        """The connectors of the project: schedule, last run, rows and cursors."""
        return await self._call("list_connectors", {})

    async def check(self, name: SavedName = "", text: FileText = "") -> Answer:
        """Check a saved file or a text: all problems with line and column, and what to write instead."""
        return await self._call("check", {"name": name, "text": text})

    async def preview(
        self,
        name: SavedName = "",
        text: FileText = "",
        resources: ResourceNames = [],  # noqa: B006 - a default of the schema
        pages: Annotated[int, Field(ge=1, le=20)] = 2,
        rows: Annotated[int, Field(ge=0, le=100)] = 10,
        start: Short = "",
        end: Short = "",
    ) -> Answer:
        """Ask the API for the first pages of a saved file or a text, as a load would, without loading them.

        Shows requests, rows, columns with types, whether the key is unique, the cursor's range, and whether a
        second page has other rows than the first. `start` and `end` bound the cursor.
        """
        arguments = {"resources": resources, "pages": pages, "rows": rows, "start": start}
        return await self._call(
            "preview", {"name": name, "text": text, "end": end, **arguments}, 120
        )

    async def detect(
        self,
        name: NewName,
        url: Annotated[str, Field(max_length=5_000, description="The URL of a list.")],
        data: Annotated[
            Short, Field(description="The JSON body of a list that is asked by POST, as a text.")
        ] = "",
        bearer: Annotated[Short, Field(description="A reference, such as ${SHOP_TOKEN}.")] = "",
        basic: Annotated[Short, Field(description="USER:${NAME}")] = "",
        api_key: Annotated[
            Short, Field(description="HEADER=${NAME}, or ?PARAM=${NAME} in the query.")
        ] = "",
        headers: Annotated[Patterns, Field(description="NAME=VALUE, for each request.")] = [],  # noqa: B006
    ) -> Answer:
        """Ask the API of a URL, and return the file that its answers suggest, with the evidence of each guess.

        Only the host of the URL is asked. Nothing is saved.
        """
        login = {"bearer": bearer, "basic": basic, "api_key": api_key, "headers": headers}
        return await self._call("detect", {"name": name, "url": url, "data": data, **login}, 240)

    async def import_source(
        self,
        sources: Annotated[list[McpSource], Field(min_length=1, max_length=20)],
        kind: Literal["curl", "openapi", "postman", "har", "airbyte", "dlt"] | None = None,
        name: SavedName = "",
        include: Patterns = [],  # noqa: B006
        exclude: Patterns = [],  # noqa: B006
    ) -> Answer:
        """Return the file of a cURL command, an OpenAPI document, a Postman collection, a HAR file, an Airbyte
        manifest or dlt's Python code: what was mapped, guessed and not mapped. `include` and `exclude` are
        patterns of names of resources. Nothing is requested, executed or saved.
        """
        arguments = {"kind": kind, "name": name, "include": include, "exclude": exclude}
        files = [source.model_dump() for source in sources]
        return await self._call("import_source", {"sources": files, **arguments})

    async def forecast(self, name: SavedName = "", text: FileText = "") -> Answer:
        """Say how many requests a connector makes in its first load, each run and each day, from a preview."""
        return await self._call("forecast", {"name": name, "text": text}, 120)

    async def grade(
        self,
        name: SavedName = "",
        text: FileText = "",
        resources: ResourceNames = [],  # noqa: B006
        attacks: Patterns = [],  # noqa: B006
        offline: bool = False,
    ) -> Answer:
        """Try what a saved file or a text survives, on a twin of its API that misbehaves: pages twice, rows that
        come and go while paging, errors, a killed run, late rows, ties. Says what is lost or doubled, and which
        option would help. `offline` leaves the API alone.
        """
        arguments = {"resources": resources, "attacks": attacks, "offline": offline}
        return await self._call("grade", {"name": name, "text": text, **arguments}, 180)

    async def run(self, name: NewName, resources: ResourceNames = []) -> Answer:  # noqa: B006
        """Load a saved connector into the project's destination, and wait until it ends."""
        return await self._call("run", {"name": name, "resources": resources}, 900)

    async def save(
        self,
        name: NewName,
        text: Annotated[str, Field(max_length=1_000_000)],
        replaces: Annotated[
            Short, Field(description="The `sha256` that `check` told of the file to replace.")
        ] = "",
    ) -> Answer:
        """Save a text without errors as the file of a connector. Dagster has it seconds later."""
        return await self._call("save", {"name": name, "text": text, "replaces": replaces})

    async def _call(self, tool: str, arguments: Mapping[str, Any], seconds: float = 60) -> Answer:
        """Return the result of a tool that runs in a process of its own. Raises `ToolError`."""
        from mcp.server.mcpserver.exceptions import ToolError

        request = {
            "tool": tool,
            "arguments": {name: value for name, value in arguments.items() if value != ""},
            "configs": str(self.configs),
            "allowed": self.allowed,
            "write": self.may_write,
        }
        made = await _run_process(json.dumps(request).encode(), seconds)
        if made is None:
            raise ToolError(f"{tool} took more than {seconds:g} s and was ended")
        try:
            answer: Answer = json.loads(made)
        except ValueError:  # it has ended without an answer, or with far too much of one
            raise ToolError(
                f"{tool} failed; the command `restsource` shows why in a terminal"
            ) from None
        if "error" in answer:
            raise ToolError(answer["error"])
        return dict(answer["result"])


async def _run_process(request: bytes, seconds: float) -> bytes | None:
    """Return what a process of `mcp_tools` answers; None if the time is up. It never outlives the call."""
    import anyio

    process = await anyio.open_process(
        [sys.executable, "-m", "restsource_dagster.cli.mcp_tools"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # what libraries log is not redacted here, and a client may show it
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stdin, stdout = cast("ByteSendStream", process.stdin), cast("ByteReceiveStream", process.stdout)
    answer = b""
    try:
        with anyio.move_on_after(seconds):
            await stdin.send(request)
            await stdin.aclose()
            async for part in stdout:
                answer += part
                if len(answer) > _MAX_ANSWER_BYTES:
                    return b""
            await process.wait()
            return answer
        return None
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _end(process: Any) -> None:
    """End a process and those that it has started: a run first as Ctrl-C does, so that it can clean up."""
    import anyio

    for signal_, wait in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGKILL, 5.0)):
        if process.returncode is None:
            os.killpg(process.pid, signal_)
            with anyio.move_on_after(wait):
                await process.wait()
    await process.aclose()
