"""The arguments and options of the commands, each said once: their names, help and defaults."""

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "AllowOption",
    "ApiKeyOption",
    "AttacksOption",
    "BasicOption",
    "BearerOption",
    "BrowserOption",
    "BuilderPortOption",
    "CallsOption",
    "ConfigsOption",
    "ConnectOption",
    "DataOption",
    "DryRunOption",
    "EnvOption",
    "ExcludeOption",
    "ExpandedOption",
    "FixOption",
    "FromOption",
    "FullRefreshOption",
    "HeaderOption",
    "ImportArgument",
    "IncludeOption",
    "InputOption",
    "JsonOption",
    "LoginSecondsOption",
    "MaxMegabytesOption",
    "MaxSecondsOption",
    "NameArgument",
    "NameOrFileArgument",
    "NewNameArgument",
    "OfflineOption",
    "OutOption",
    "PagesOption",
    "PathsArgument",
    "PreviewFromOption",
    "PreviewResourcesArgument",
    "PreviewToOption",
    "QuietOption",
    "ResetResourcesArgument",
    "ResourceOption",
    "RowsOption",
    "RunResourcesArgument",
    "SetCursorOption",
    "StopAfterOption",
    "TemplateOption",
    "ToOption",
    "UrlOption",
    "VerboseOption",
    "WaitOption",
    "WindowOption",
    "WindowedResourceArgument",
    "WriteOption",
    "YesOption",
]


# `show_default=False`: typer would add `[default: None]` and the like, and the texts say it in words.


def _option(*names: str, text: str, metavar: str | None = None, min: float | None = None) -> Any:  # noqa: A002 - typer's name
    return typer.Option(*names, help=text, metavar=metavar, show_default=False, min=min)


def _argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False)


NameArgument = Annotated[str, _argument("NAME", "The connector, as `restsource list` names it.")]
PathsArgument = Annotated[
    list[Path] | None,
    _argument("PATH", "Connector files, or folders of them. By default the folder of --configs."),
]
RunResourcesArgument = Annotated[
    list[str] | None,
    _argument("RESOURCE", "Run only these resources. By default all that the file selects."),
]
ResetResourcesArgument = Annotated[
    list[str] | None, _argument("RESOURCE", "Reset only these resources. By default all.")
]
WindowedResourceArgument = Annotated[
    str,
    _argument(
        "RESOURCE",
        "A resource with an incremental cursor. Its dependents are loaded with it.",
    ),
]

NewNameArgument = Annotated[
    str | None, _argument("NAME", "The name of the new connector and its file.")
]
TemplateOption = Annotated[
    str | None,
    _option(
        "--template",
        text="The template to use; `restsource templates` lists them.",
        metavar="TEMPLATE",
    ),
]
UrlOption = Annotated[
    str | None,
    _option(
        "--url",
        metavar="URL",
        text="The URL of a list that the API answers, with params that its documentation names. The API is "
        "asked, and the file is guessed from its answers.",
    ),
]
DataOption = Annotated[
    str | None,
    _option(
        "--data",
        metavar="JSON",
        text="With --url: the body of a list that is asked by POST, such as '{\"page\": 1}' or a GraphQL query.",
    ),
]
BearerOption = Annotated[
    str | None,
    _option(
        "--bearer", metavar="TOKEN", text="With --url: a bearer token, such as '${SHOP_TOKEN}'."
    ),
]
BasicOption = Annotated[
    str | None,
    _option("--basic", metavar="USER:PASSWORD", text="With --url: a user's name and password."),
]
ApiKeyOption = Annotated[
    str | None,
    _option(
        "--api-key",
        metavar="NAME=KEY",
        text="With --url: a key in this header; with ?NAME=KEY in this param of the query.",
    ),
]
HeaderOption = Annotated[
    list[str] | None,
    _option(
        "--header",
        metavar="NAME=VALUE",
        text="With --url: a header of each request. May be repeated.",
    ),
]
InputOption = Annotated[
    list[str] | None,
    _option("--input", text="An input of the template. May be repeated.", metavar="NAME=VALUE"),
]
ResourceOption = Annotated[
    list[str] | None,
    _option(
        "--resource",
        text="A resource to load. May be repeated. By default all of the template's.",
        metavar="RESOURCE",
    ),
]
ImportArgument = Annotated[
    list[str] | None,
    _argument(
        "[KIND] [FILE]",
        "What to import: a kind (curl, openapi, postman, har, airbyte, dlt; found out if left out) and files. "
        "Further files are those that the first one refers to. `-` or no file is standard input.",
    ),
]
OutOption = Annotated[
    Path | None,
    _option(
        "--out",
        metavar="FILE",
        text="The file to write, which also names the connector; `-` prints it. By default the source's own "
        "name in the folder of --configs.",
    ),
]
IncludeOption = Annotated[
    list[str] | None,
    _option(
        "--include",
        metavar="PATTERN",
        text="Import only resources of such a name: `orders*`. May be repeated.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    _option(
        "--exclude",
        metavar="PATTERN",
        text="Leave out resources of such a name. May be repeated.",
    ),
]
EnvOption = Annotated[
    bool,
    _option(
        "--env",
        text="Write the variables that the file refers to into `.env`, with the secrets of the source.",
    ),
]
FixOption = Annotated[
    bool,
    _option(
        "--fix",
        text="Replace wrong names and values in the files, and print the changes.",
    ),
]
ConnectOption = Annotated[
    bool,
    _option(
        "--connect",
        text="Try each destination and each login that needs a token, once.",
    ),
]
ExpandedOption = Annotated[
    bool,
    _option(
        "--expanded", text="Print what files that use a template stand for, as connector files."
    ),
]
ConfigsOption = Annotated[
    Path | None,
    _option(
        "--configs",
        metavar="DIR",
        text="The folder of connector files. By default the setting RESTSOURCE_CONFIGS, or "
        "'configs'.",
    ),
]
JsonOption = Annotated[
    bool,
    _option("--json", text="Print one JSON document on standard output and nothing else there."),
]
QuietOption = Annotated[bool, _option("--quiet", "-q", text="Print only problems and the summary.")]
YesOption = Annotated[bool, _option("--yes", "-y", text="Don't ask before anything is dropped.")]

FullRefreshOption = Annotated[
    bool,
    _option(
        "--full-refresh",
        text="Load all rows of these resources again and replace those in the tables.",
    ),
]
SetCursorOption = Annotated[
    list[str] | None,
    _option(
        "--set-cursor",
        metavar="RESOURCE=VALUE",
        text="Continue from this cursor value instead of the stored one. Can be repeated.",
    ),
]
VerboseOption = Annotated[
    bool, _option("--verbose", "-v", text="Show the run's log instead of progress bars.")
]

FromOption = Annotated[
    str,
    _option(
        "--from",
        metavar="X",
        text="Start of the range: a time, a date or a number, like the cursor.",
    ),
]
ToOption = Annotated[
    str, _option("--to", metavar="Y", text="End of the range. Y itself is not part of it.")
]
WindowOption = Annotated[
    str | None,
    _option(
        "--window",
        metavar="LENGTH",
        text="Length of a window: 30s, 15min, 12h, 7d, 2w, 1mo, 1y; for numbers a number. By "
        "default the length of the partitions in the file, else one window.",
    ),
]
DryRunOption = Annotated[bool, _option("--dry-run", text="Only show the windows.")]
WaitOption = Annotated[
    bool,
    _option("--wait", text="Wait until all windows have ended, with a progress bar on a terminal."),
]

NameOrFileArgument = Annotated[
    str,
    _argument(
        "NAME|FILE",
        "The connector, as `restsource list` names it; or a file that ends in .json, .yaml or .yml, which "
        "may stand anywhere.",
    ),
]
PreviewResourcesArgument = Annotated[
    list[str] | None,
    _argument(
        "RESOURCE",
        "Preview only these resources, and those that they depend on. By default all that the file "
        "selects.",
    ),
]
PagesOption = Annotated[
    int, _option("--pages", metavar="N", text="The most pages of each call. 2 if left out.", min=1)
]
RowsOption = Annotated[
    int,
    _option("--rows", metavar="N", text="The rows to show of each table. 10 if left out.", min=0),
]
CallsOption = Annotated[
    int,
    _option(
        "--calls",
        metavar="N",
        text="The most calls of each resource: one for each parent, value of `for_each` or window. 3 if "
        "left out.",
        min=1,
    ),
]
MaxMegabytesOption = Annotated[
    float,
    _option(
        "--max-mb",
        metavar="N",
        text="End when all answers together are larger than so many megabytes. 20 if left out.",
        min=0.001,
    ),
]
BrowserOption = Annotated[
    bool,
    _option(
        "--browser/--no-browser",
        text="Open the page in the browser of this machine; its address is printed in any case. The answer comes "
        "to 127.0.0.1, so a browser elsewhere needs the port forwarded.",
    ),
]
LoginSecondsOption = Annotated[
    float,
    _option(
        "--max-seconds",
        metavar="N",
        text="Wait so many seconds for the answer. 300 if left out.",
        min=0.01,
    ),
]

MaxSecondsOption = Annotated[
    float,
    _option(
        "--max-seconds",
        metavar="N",
        text="End after so many seconds. 60 if left out.",
        min=0.01,
    ),
]
PreviewFromOption = Annotated[
    str | None,
    _option(
        "--from",
        metavar="X",
        text="Where cursors start in place of their initial value: a time, a date or a number.",
    ),
]
PreviewToOption = Annotated[
    str | None,
    _option("--to", metavar="Y", text="Where cursors end. Y itself is not part of the range."),
]
WriteOption = Annotated[
    bool, _option("--write", text="Let the assistant save files and run connectors, too.")
]
AllowOption = Annotated[
    list[str] | None,
    _option(
        "--allow",
        metavar="[NAME@]HOST",
        text="A host that the assistant's texts may ask although no saved file does, and with NAME@ the variable "
        "that they may send it. May be repeated.",
    ),
]
BuilderPortOption = Annotated[
    int | None,
    _option(
        "--port",
        metavar="N",
        text="The port on 127.0.0.1; 0 takes a free one. If left out 3002, or a free one if that is taken.",
        min=0,
    ),
]
StopAfterOption = Annotated[
    float,
    _option(
        "--stop-after",
        metavar="MINUTES",
        text="End when no page was open for so many minutes. 60 if left out; 0: never.",
        min=0,
    ),
]
OfflineOption = Annotated[
    bool,
    _option(
        "--offline",
        text="Ask the API for nothing: rows have the fields that the file names.",
    ),
]
AttacksOption = Annotated[
    str | None,
    _option(
        "--attacks",
        metavar="NAMES",
        text="Only these attacks, such as late,tie. By default all.",
    ),
]
