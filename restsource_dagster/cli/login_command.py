"""`restsource login`: allow access to an API in the browser, once."""

import webbrowser
from pathlib import Path

import typer
from dotenv import load_dotenv

from restsource_dagster.cli.common import find_connector, read_settings
from restsource_dagster.cli.options import (
    BrowserOption,
    ConfigsOption,
    JsonOption,
    LoginSecondsOption,
    NameArgument,
)
from restsource_dagster.cli.output import (
    EXIT_FAILED,
    print_json,
    print_notice,
    result_console,
    stdout_to_stderr,
)
from restsource_dagster.cli.progress_bars import show_progress
from restsource_dagster.connector.validation.diagnostics import printable
from restsource_dagster.settings import read_environment

__all__ = ["login"]


def login(
    name: NameArgument,
    browser: BrowserOption = True,
    seconds: LoginSecondsOption = 300.0,
    configs: ConfigsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Allow a connector access to its API in the browser, and store the tokens for all later runs.

    For a connector whose `auth` is `oauth2_refresh_token` with `authorization`. Opens the page of the API, and
    waits on 127.0.0.1 for the answer. Log in again when the API refuses the stored tokens.

    Exit code 1 if access is not allowed, or nobody answers in time.

    Example: restsource login shop
    """
    settings = read_settings(configs)
    connector = find_connector(settings, name)
    # as in `run`: dlt looks secrets up in the environment
    load_dotenv(Path.cwd() / ".env", override=True)
    with stdout_to_stderr(), show_progress(connector, bars=False) as observer:
        from restsource_dagster.connector.env_references import MissingReferencesError
        from restsource_dagster.engine.errors import IngestError
        from restsource_dagster.engine.run.first_login import log_in, logins_of

        count = len(logins_of(connector))
        if not count:
            raise typer.BadParameter(
                f"no `auth` of {name} is of the type oauth2_refresh_token with `authorization`, so nobody has to "
                "log in",
                param_hint="NAME",
            )

        def show(url: str) -> None:
            print_notice(f"Allow access here: {url}")
            if browser:
                webbrowser.open(url)

        try:
            log_in(connector, settings, read_environment(), observer, show=show, seconds=seconds)
        except (IngestError, MissingReferencesError) as error:
            print_notice(printable(str(error)))
            raise typer.Exit(EXIT_FAILED) from error
    if as_json:
        print_json({"connector": name, "logins": count})
        return
    result_console().print(printable(f"Logged in. The next run of {name} uses the tokens."))
