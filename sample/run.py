"""Start the sample API and Dagster together. `make run` calls this after the installation."""

import argparse
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from sample.billing import seed_billing
from sample.env_file import SampleVariables, write_sample_variables
from sample.ports import HOST, port_number, problems_with_ports
from sample.seed import age, is_seeded, seed
from sample.service import Service
from sample.supervisor import Supervisor

__all__ = ["main"]

ROOT = Path(__file__).resolve().parent.parent
DATABASE = ROOT / "sample" / "data" / "nycflights.db"
BILLING = ROOT / "sample" / "data" / "billing.db"
DAGSTER_HOME = ROOT / ".dagster"
LOGS = DAGSTER_HOME / "output"  # Dagster clears a folder named logs
COMMON_VARIABLES = {
    "DAGSTER_HOME": str(DAGSTER_HOME),
    # dlt sends telemetry unless this variable turns it off
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    # a log shows each line at once
    "PYTHONUNBUFFERED": "1",
}
"""The variables that Dagster and the builder both get."""


def main() -> int:
    """Start everything and wait for Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(prog="make run", description=main.__doc__)
    parser.add_argument("--port", default="3000", help="of Dagster's UI (make run PORT=...)")
    parser.add_argument("--api-port", default="8001", help="of the API (make run API_PORT=...)")
    parser.add_argument("--builder-port", default="3002", help="(make run BUILDER_PORT=...)")
    arguments = parser.parse_args()
    try:
        ports = {
            "PORT": _port("PORT", arguments.port),
            "API_PORT": _port("API_PORT", arguments.api_port),
            "BUILDER_PORT": _port("BUILDER_PORT", arguments.builder_port),
        }
        if problems := problems_with_ports(ports):
            raise SystemExit("\n".join(problems))
        _prepare_data()
        return _run(
            port=ports["PORT"], api_port=ports["API_PORT"], builder_port=ports["BUILDER_PORT"]
        )
    except KeyboardInterrupt:
        _say("Stopped.")
        return 0


def _port(variable: str, text: str) -> int:
    try:
        return port_number(text)
    except ValueError as error:
        raise SystemExit(f"{variable}: {error}, for instance: make run {variable}=4000") from None


def _prepare_data() -> None:
    if not is_seeded(DATABASE):
        _say("Preparing the sample data (only the first time) ...")
        begun = monotonic()
        seed(DATABASE)
        _say(f"... done in {monotonic() - begun:.0f} s")
    elif age(DATABASE, datetime.now(UTC)) > timedelta(days=330):
        _say("The sample's year of flights is over: `make reset` and `make run` begin a new one.")
    seed_billing(BILLING)


def _run(*, port: int, api_port: int, builder_port: int) -> int:
    variables = write_sample_variables(ROOT / ".env", port=api_port, environment=os.environ)
    os.chdir(ROOT)
    token = secrets.token_urlsafe(24)
    builder = f"http://{HOST}:{builder_port}"
    services = (
        _api(variables),
        _dagster(port, variables, builder),
        _builder(builder_port, variables, token, dagster=f"http://{HOST}:{port}"),
    )
    _say("Starting the sample API, Dagster and the builder ...")
    return Supervisor(output=sys.stdout).run(
        services,
        {
            "api": f"Sample API: http://{HOST}:{api_port}/{DATABASE.stem} (bearer token: see .env)",
            "dagster": (
                f"Dagster UI: http://{HOST}:{port}\n"
                "The first runs start by themselves; the tables arrive in data/warehouse.duckdb.\n"
                f"Logs: {LOGS.relative_to(ROOT)}/. Stop everything with Ctrl-C."
            ),
            "builder": f"Builder: {builder}/?token={token}",
        },
    )


def _api(variables: SampleVariables) -> Service:
    return Service(
        name="api",
        command=(
            sys.executable,
            "-m",
            "sample.serve",
            str(DATABASE),
            str(BILLING),
            "--port",
            str(variables.port),
        ),
        environment=os.environ | variables.as_environment(),
        log=LOGS / "api.log",
        port=variables.port,
        health_path="/-/versions.json",
        headers={"Authorization": f"Bearer {variables.token}"},
    )


def _dagster(port: int, variables: SampleVariables, builder: str) -> Service:
    environment = {**COMMON_VARIABLES, "RESTSOURCE_BUILDER": builder}
    return Service(
        name="dagster",
        command=(
            *(sys.executable, "-m", "dagster", "dev"),
            *("--host", HOST, "--port", str(port), "--workspace", "workspace.yaml"),
        ),
        environment=os.environ | variables.as_environment() | environment,
        log=LOGS / "dagster.log",
        port=port,
        health_path="/server_info",
    )


def _builder(port: int, variables: SampleVariables, token: str, *, dagster: str) -> Service:
    environment = {
        **COMMON_VARIABLES,
        "RESTSOURCE_BUILDER_TOKEN": token,
        "RESTSOURCE_WEBSERVER": dagster,
    }
    return Service(
        name="builder",
        command=(
            *(sys.executable, "-m", "restsource_dagster.cli", "build"),
            *("--port", str(port), "--stop-after", "0"),
        ),
        environment=os.environ | variables.as_environment() | environment,
        log=LOGS / "builder.log",
        port=port,
        health_path="/",
        headers={"Authorization": f"Bearer {token}"},
    )


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the output of a command


if __name__ == "__main__":
    sys.exit(main())
