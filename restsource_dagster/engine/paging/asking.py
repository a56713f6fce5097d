"""One request of a page: credentials, the second try with a new token, and clear errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import requests
from requests.auth import AuthBase

from restsource_dagster.engine.errors import IngestError, RequestError, ResponseError
from restsource_dagster.engine.http.session import ApiSession
from restsource_dagster.engine.http.tokens import RenewingToken
from restsource_dagster.engine.paging.actions import Action, verdict_on
from restsource_dagster.engine.redaction import Redactor

__all__ = ["Asker"]


@dataclass(frozen=True)
class Asker:
    """Sends the requests of one resource."""

    resource: str
    session: ApiSession
    redactor: Redactor
    auth: AuthBase | None
    actions: Sequence[Action]

    def ask(self, request: requests.Request, page: int) -> requests.Response:
        """The answer to a request, whatever its status.

        A token that is refused is renewed, once. Raises `RequestError` if there is no answer, other
        `IngestError`s for what the rules of the session forbid, `ResponseError` if a new token is
        refused, too.
        """
        try:
            response = self._send(request)
            token = self._refused_token(response)
            if token is None:
                return response
            token.renew(response.request)
            again = self._send(request)
        except IngestError as error:
            error.at(self.resource, page, self.redactor)
            raise
        except (requests.RequestException, ValueError) as error:
            cause = self.redactor(f"{type(error).__name__}: {error}")
        else:
            return self._accepted(again, page)
        # out here, so that the error does not hang on to the request and its secrets
        raise RequestError(
            resource=self.resource, page=page, url=self.redactor(str(request.url)), cause=cause
        )

    def _send(self, request: requests.Request) -> requests.Response:
        prepared = self.session.prepare_request(request)
        settings = self.session.merge_environment_settings(prepared.url, {}, None, None, None)
        return self.session.send(prepared, **settings)

    def _refused_token(self, response: requests.Response) -> RenewingToken | None:
        """The token, if it was refused and the connector file does not expect that."""
        if response.status_code != requests.codes.unauthorized:
            return None
        if not isinstance(self.auth, RenewingToken) or verdict_on(response, self.actions):
            return None
        return self.auth

    def _accepted(self, response: requests.Response, page: int) -> requests.Response:
        if self._refused_token(response) is None:
            return response
        raise ResponseError(
            "the API refused the token and then a new one, too",
            resource=self.resource,
            page=page,
            response=response,
            redactor=self.redactor,
        )
