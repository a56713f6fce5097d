"""Log in to an API as a person, for the logins of a connector that need it."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from restsource_dagster.connector.env_references import read_references
from restsource_dagster.connector.model import Connector
from restsource_dagster.connector.models.oauth_logins import OAuth2RefreshTokenAuth
from restsource_dagster.engine.destination.dlt_config import configure_dlt, dlt_setting
from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.authorization_code import authorize
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster.engine.http.token_store import TokenStore
from restsource_dagster.engine.run_progress import Observer, Progress, ResourceCounts
from restsource_dagster.engine.source.endpoint_factory import EndpointFactory
from restsource_dagster.settings import Settings
from restsource_dagster.state.store import open_state

__all__ = ["log_in", "logins_of"]


def logins_of(connector: Connector) -> tuple[OAuth2RefreshTokenAuth, ...]:
    """Return the logins of a connector in which a person allows access, each once."""
    found: list[OAuth2RefreshTokenAuth] = []
    for auth in (connector.client.auth, *(one.endpoint.auth for one in connector.resources)):
        if isinstance(auth, OAuth2RefreshTokenAuth) and auth.authorization and auth not in found:
            found.append(auth)
    return tuple(found)


def log_in(
    connector: Connector,
    settings: Settings,
    environment: Mapping[str, str],
    observer: Observer,
    *,
    show: Callable[[str], None],
    seconds: float,
) -> None:
    """Have a person allow access for each login of a connector, and store the tokens.

    `show` shows a page by its URL; its answer is waited for so many seconds. Raises
    `MissingReferencesError`, and `IngestError` if anything fails.
    """
    configure_dlt()
    values = read_references(connector.references, environment, dlt_setting)
    resolved = connector.resolved(values)
    redactor, state = Redactor(find_secrets(connector, resolved, values)), open_state(settings)
    tokens = TokenStore(state)
    redactor.add_secrets(*tokens.secrets)
    progress = Progress(observer, redactor)
    with (
        redactor.redacted_errors(IngestError),
        tempfile.TemporaryDirectory(prefix="restsource-login-") as folder,
        closing(
            EndpointFactory(resolved, redactor, progress, None, Path(folder), state, tokens)
        ) as endpoints,
    ):
        for login in logins_of(resolved):
            grant = endpoints.refreshing_grant(login, ResourceCounts())
            if login.authorization is not None:
                authorize(grant, login.authorization, show, seconds)
