"""Reload the code location from within, as the Reload button of the UI does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import dagster as dg

from restsource_dagster.orchestration.dagster_compat import code_location_of

__all__ = ["RELOAD_TIMEOUT_SECONDS", "ReloadResult", "reload_location"]

RELOAD_TIMEOUT_SECONDS = 50
"""Less than the 60 seconds that the daemon gives a sensor tick, so that the tick reports the failure."""
RELOAD_BY_HAND = "Click Reload beside the code location in Dagster's UI (Deployment)."


@dataclass(frozen=True)
class ReloadResult:
    """The result of requesting a reload; `detail` is a sentence or two for people.

    - `asked`: `via` accepted the request. The code server serves the new definitions to webserver and daemon
      within a second or two. The webserver has them, and the daemon renews its own about every minute.
    - `failed`: worth another try later.
    - `unsupported`: only a person can reload here.
    """

    outcome: Literal["asked", "failed", "unsupported"]
    detail: str
    via: Literal["code server", "webserver"] | None = None


def reload_location(
    context: dg.SensorEvaluationContext,
    *,
    webserver: str | None = None,
    timeout_seconds: int = RELOAD_TIMEOUT_SECONDS,
) -> ReloadResult:
    """Make the code location of this sensor load its files again. Never raises.

    Under `dagster dev` and `dagster code-server start`, webserver and daemon share a code server, which
    reloads. If each starts its own (a `workspace.yaml` with a module), the webserver reloads, provided its
    address is given (`http://host:3000`).

    The code server's part is not documented by Dagster. If a version lacks it, the result says so and what
    to do.
    """
    location = code_location_of(context)
    if location is None:
        return ReloadResult(
            "unsupported", f"This sensor runs outside of a code location. {RELOAD_BY_HAND}"
        )
    # The shared code server first: webserver and daemon see its new definitions at once.
    if location.reload is not None:
        return _ask_code_server(location.reload, timeout_seconds)
    if webserver is not None:
        return _ask_webserver(webserver, location.name, timeout_seconds)
    return ReloadResult(
        "unsupported",
        "The connector files changed, but this code location can't be reloaded from inside: it "
        f"has no code server of its own (start Dagster with `dagster dev`). {RELOAD_BY_HAND}",
    )


def _ask_code_server(reload: Callable[[int], None], timeout_seconds: int) -> ReloadResult:
    try:
        reload(timeout_seconds)
    except Exception as error:  # noqa: BLE001 - no documented API, so it may raise anything
        return ReloadResult(
            "failed", f"The code server did not reload: {_error_text(error)} {RELOAD_BY_HAND}"
        )
    return ReloadResult("asked", "The code server loaded the connector files again.", "code server")


def _ask_webserver(address: str, location_name: str, timeout_seconds: int) -> ReloadResult:
    # Few installations need it, and it takes long to import.
    from dagster_graphql import DagsterGraphQLClient, ReloadRepositoryLocationStatus

    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        client = DagsterGraphQLClient(
            parts.hostname or "",
            port_number=parts.port,
            use_https=parts.scheme == "https",
            path_prefix=parts.path.rstrip("/"),
            timeout=timeout_seconds,
        )
        answer = client.reload_repository_location(location_name)
    except Exception as error:  # noqa: BLE001 - a network client: any failure is the answer's text
        return ReloadResult(
            "failed",
            f"The webserver at {address} did not reload: {_error_text(error)} {RELOAD_BY_HAND}",
        )
    if answer.status is not ReloadRepositoryLocationStatus.SUCCESS:
        reason = answer.message or answer.failure_type or "it gave no reason."
        return ReloadResult("failed", f"The webserver at {address} did not reload: {reason}")
    return ReloadResult("asked", "The webserver loaded the connector files again.", "webserver")


def _error_text(error: Exception) -> str:
    # gRPC errors are pages long, and the text is stored with each tick.
    text = " ".join(str(error).split())[:500].rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."
