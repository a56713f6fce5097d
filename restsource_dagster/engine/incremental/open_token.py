"""The token of a run: what the last run has stored, and the one that this run stores for the next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from restsource_dagster.connector.models.incremental_cursor import SyncToken
from restsource_dagster.connector.validation.diagnostics import describe_value
from restsource_dagster.connector.validation.input_checks import is_full_url
from restsource_dagster.engine.errors import ResourceError, ResponseError, SyncTokenRefusedError
from restsource_dagster.engine.http.redaction import Redactor
from restsource_dagster.engine.incremental.cursor_state import (
    STATE_KEY,
    ResourceState,
    read_token,
    store_token,
)
from restsource_dagster.engine.paging.place import CallProgress
from restsource_dagster.engine.plan.resource_plan import ResourcePlan

__all__ = ["OpenToken"]


@dataclass
class OpenToken:
    """The token of a resource while its pages are read."""

    plan: ResourcePlan
    model: SyncToken
    state: ResourceState
    """The resource's part of dlt's state, which is stored with the rows."""
    redactor: Redactor
    value: Any = field(init=False)
    """The token of the last run; None in the first one."""

    def __post_init__(self) -> None:
        self.value = read_token(self.state, self.model)

    def checked(self, pages: Iterator[Any]) -> Iterator[Any]:
        """Yield the pages. Raises `SyncTokenRefusedError` if the API refuses the stored token."""
        try:
            yield from pages
        except ResponseError as error:
            if self.value is None or error.status not in self.model.reset_on:
                raise
            status = error.status
        else:
            return
        raise SyncTokenRefusedError(self.plan.resource.name, status)

    def save(self, progress: CallProgress, notify: Callable[[str], None]) -> None:
        """Store the token that a call has brought. Call it after the last page.

        Raises `ResourceError` if it brought none and the next run would append rows again, and if the
        token can't be stored.
        """
        token, path = progress.token, self.model.token_path
        if token is not None:
            self._check(token)
            store_token(self.state.setdefault(STATE_KEY, {}), self.model, token)
        elif progress.pages and not progress.has_token_place:
            self._refuse(f"no answer has a token at {path}. Correct `token_path`")
        elif progress.totals and progress.totals.rows:
            said = f"the API sent rows, and null in place of a token at {path}"
            if self.plan.appends:
                self._refuse(f"{said}, so the next run would append the same rows again")
            notify(f"{said}, so the next run asks for the same rows again")

    def _check(self, token: Any) -> None:
        path = self.model.token_path
        if isinstance(token, bool) or not isinstance(token, str | int):
            self._refuse(f"the token at {path} is {describe_value(token)}, and a text is needed")
        text = str(token)
        if self.plan.endpoint.follows_token and not is_full_url(text):
            self._refuse(
                f"the token at {path} is no link. Send it with `token_param`, or by the placeholder "
                "`{incremental.token}`"
            )
        if self.redactor(text) != text:
            self._refuse(
                f"the token at {path} holds one of the file's secrets, and tokens are stored with the "
                "tables. Send the secret in a header, so that no link repeats it"
            )

    def _refuse(self, problem: str) -> NoReturn:
        raise ResourceError(self.plan.resource.name, problem)
