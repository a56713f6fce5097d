"""`restsource new`: write a connector file, from the URL of an API or with a template."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from restsource_dagster.authoring.template_draft import template_file, typed_input
from restsource_dagster.authoring.typed_login import LoginOptions
from restsource_dagster.cli.common import read_settings
from restsource_dagster.cli.env_file import add_to_env
from restsource_dagster.cli.new_from_url import write_from_url
from restsource_dagster.cli.options import (
    ApiKeyOption,
    BasicOption,
    BearerOption,
    ConfigsOption,
    DataOption,
    HeaderOption,
    InputOption,
    JsonOption,
    NewNameArgument,
    ResourceOption,
    TemplateOption,
    UrlOption,
)
from restsource_dagster.cli.output import EXIT_FAILED, print_json, print_lines, print_notice
from restsource_dagster.cli.preview_command import preview_command
from restsource_dagster.connector.loader import load_file
from restsource_dagster.connector.models.connector_file import CONNECTOR_NAME_PATTERN
from restsource_dagster.connector.models.template_head import TemplateInput
from restsource_dagster.connector.templates import (
    Template,
    find_template,
    known_templates,
)
from restsource_dagster.connector.validation.diagnostics import nearest_name, printable

__all__ = ["new"]


def new(
    name: NewNameArgument = None,
    url: UrlOption = None,
    data: DataOption = None,
    bearer: BearerOption = None,
    basic: BasicOption = None,
    api_key: ApiKeyOption = None,
    headers: HeaderOption = None,
    template: TemplateOption = None,
    inputs: InputOption = None,
    resources: ResourceOption = None,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a connector file, from the URL of an API or with a template; its schedule is once an hour.

    With --url it asks the API and writes what a second page and a preview have confirmed: where the rows are,
    the paging, the key, the cursor, a parent in the path. What was seen, how sure each guess is, and what did
    not pass, stand in `.restsource/reports/NAME.md`. Only the host of the URL is asked: by GET, or with --data by
    POST. Answers in CSV and JSON Lines are read as one file.

    With --template it asks for the inputs that --input leaves out, and whether to preview the new file; without
    a terminal it prints the command for that. Without either it asks, step by step.

    A secret goes into `.env` in the current folder, and the file refers to it. Without a terminal to ask at,
    all inputs of a template without a default are required; a secret may be left out, and its line in `.env`
    is then to be filled in.

    Exit code 1 if the file exists already, if nothing could be guessed, or if what was written, or its preview,
    has a problem.

    Example: restsource new shop --url https://api.example.com/v1/orders --bearer '${SHOP_TOKEN}'
    """
    settings = read_settings(configs, makes_folder=True)
    login = LoginOptions(bearer, basic, api_key, tuple(headers or ()))
    if name is None or (url is None and template is None):
        name, url, template, login = _ask_all(name, url, template, login)
    if url is not None and (template is not None or inputs or resources):
        raise typer.BadParameter("give either --url or a template", param_hint="--url")
    if template is not None and login != LoginOptions():
        raise typer.BadParameter(
            "a login is for --url; a template has inputs", param_hint="--input"
        )
    if data is not None and url is None:
        raise typer.BadParameter("a body is for --url", param_hint="--data")
    path = _free_path(settings.configs, name)
    if url is not None:
        write_from_url(name, path, url, login, settings, data=data, as_json=as_json)
    elif template is not None:
        _write_from_template(name, path, template, inputs or [], resources, as_json=as_json)


def _free_path(folder: Path, name: str) -> Path:
    if not re.fullmatch(CONNECTOR_NAME_PATTERN, name):
        raise typer.BadParameter(
            "a small letter, then small letters, digits and underscores", param_hint="NAME"
        )
    path = folder / f"{name}.json"
    if path.exists() or path.is_symlink():
        print_notice(f"{printable(str(path))} exists already; it is left as it is.")
        raise typer.Exit(EXIT_FAILED)
    return path


def _ask_all(
    name: str | None, url: str | None, template: str | None, login: LoginOptions
) -> tuple[str, str | None, str | None, LoginOptions]:
    """Ask for what the command line leaves out. Raises `typer.BadParameter` without a terminal."""
    if not sys.stdin.isatty():
        missing = "NAME" if name is None else "--url or --template"
        raise typer.BadParameter(
            f"{missing} is missing, and there is no terminal to ask at", param_hint=missing
        )
    name = name or _prompt("The connector's name, such as shop")
    if url is None and template is None:
        given = _prompt("The URL of a list that the API answers, or the name of a template")
        if "://" not in given:
            return name, None, given, login
        url = given
        if login == LoginOptions():
            login = _ask_login()
    return name, url, template, login


def _ask_login() -> LoginOptions:
    kind = _prompt(
        "How it authenticates: none, bearer, basic (user:password) or api-key (header=key)"
    )
    if kind.strip().lower() in ("", "none", "no"):
        return LoginOptions()
    # hidden: whatever it is, it holds a secret
    value = _prompt(f"The value for {printable(kind)}", is_secret=True)
    known = {
        "bearer": LoginOptions(bearer=value),
        "basic": LoginOptions(basic=value),
        "api-key": LoginOptions(api_key=value),
    }
    login = known.get(kind.strip().lower().replace("_", "-"))
    if login is None:
        raise typer.BadParameter("write none, bearer, basic or api-key", param_hint="login")
    return login


def _prompt(text: str, *, is_secret: bool = False) -> str:
    return str(typer.prompt(f"{text}\n", hide_input=is_secret, prompt_suffix="> ")).strip()


def _write_from_template(
    name: str,
    path: Path,
    template: str,
    inputs: Sequence[str],
    resources: Sequence[str] | None,
    *,
    as_json: bool,
) -> None:
    used = _find(template, path.parent)
    given = _with_asked(used, _given(inputs, used))
    value, secrets = template_file(name, used, given, resources)
    # "x": never over a file that was made meanwhile
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    missing = add_to_env(secrets)
    _report(path, missing, as_json=as_json)
    if not as_json:
        _offer_preview(path, is_complete=not missing)


def _find(name: str, folder: Path) -> Template:
    found = find_template(name, folder)
    if isinstance(found, Template):
        return found
    if found is None:
        known = known_templates(folder)
        close = nearest_name(name, known)
        hint = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
        raise typer.BadParameter(f"no such template; {hint}", param_hint="--template")
    for problem in found:
        print_notice(problem.as_text())
    raise typer.Exit(EXIT_FAILED)


def _given(texts: Sequence[str], template: Template) -> Mapping[str, Any]:
    """Return the inputs of the command line by name, in the types that the template says."""
    given = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in template.head.inputs:
            known = ", ".join(template.head.inputs) or "none"
            raise typer.BadParameter(
                f"{printable(text)}: write NAME=VALUE, with one of {known}", param_hint="--input"
            )
        given[key] = _typed(key, value, template.head.inputs[key])
    return given


def _typed(name: str, text: str, expected: TemplateInput) -> Any:
    try:
        return typed_input(text, expected)
    except ValueError:
        raise typer.BadParameter(f"{name} is a number", param_hint="--input") from None


def _with_asked(template: Template, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inputs with those that a person was asked for.

    Raises `typer.BadParameter` if one is missing and there is no terminal to ask at.
    """
    return {
        key: _ask(key, expected)
        if given.get(key) is None and expected.is_needed
        else given.get(key)
        for key, expected in template.head.inputs.items()
    }


def _ask(key: str, expected: TemplateInput) -> Any:
    if not sys.stdin.isatty():
        if expected.secret:
            return ""
        raise typer.BadParameter(
            f"{key} is missing ({printable(expected.description)}), and there is no terminal to ask at; "
            f"add --input {key}=...",
            param_hint="--input",
        )
    text = typer.prompt(
        f"{key}: {printable(expected.description)}\n",
        hide_input=expected.secret,
        prompt_suffix="> ",
    )
    return _typed(key, text, expected)


def _offer_preview(path: Path, *, is_complete: bool) -> None:
    """Preview the new file if a person says so; print the command if nobody can be asked.

    A file whose secrets are still to be filled in can't be previewed yet.
    """
    if is_complete and sys.stdin.isatty():
        if typer.confirm("Preview it now?", default=True, prompt_suffix="> "):
            preview_command(str(path))
    else:
        shown = printable(str(path))
        print_lines([f"To see its first rows without loading them: restsource preview {shown}"])


def _report(path: Path, missing: Iterable[str], *, as_json: bool) -> None:
    """Say what was written, what is to be filled in, and what is wrong with it."""
    loaded = load_file(path)
    missing = list(missing)
    if as_json:
        print_json(
            {
                "path": str(path),
                "missing": missing,
                "problems": [problem.as_dict() for problem in loaded.problems],
            }
        )
    else:
        print_lines([f"Wrote {printable(str(path))}."])
        for variable in missing:
            print_notice(f"Write the value of {variable} into .env.")
        for problem in loaded.problems:
            print_notice(problem.as_text())
    if loaded.connector is None:
        raise typer.Exit(EXIT_FAILED)
