"""The API of each recipe. To add a recipe: a page in docs/recipes, and its API in `APIS` by the page's name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["APIS", "RecipeApi"]


@dataclass(frozen=True)
class RecipeApi:
    """What the API of a recipe answers, and what its references stand for."""

    answers: Mapping[str, Any]
    """By path: JSON, an `Answer`, or a function of the request."""
    later: Sequence[Mapping[str, Any]] = ()
    """What it answers differently in the second run and in each one after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of the files below /run/secrets, by name."""


def only(condition: Callable[[Seen], bool], answer: Any) -> Callable[[Seen], Any]:
    """Answer the requests that are as they should be, and refuse the others."""
    return lambda seen: answer if condition(seen) else Answer({"error": "refused"}, 400)


def has_both_secrets(seen: Seen) -> bool:
    return (
        seen.headers.get("authorization") == "Bearer t0ken-of-the-file"
        and seen.headers.get("x-client-secret") == "secret-of-dlt"
    )


APIS: Mapping[str, RecipeApi] = {
    "secrets_from_files": RecipeApi(
        {"/orders": only(has_both_secrets, [{"id": 1, "amount": 9.5}])},
        environment={"SOURCES__SHOP__CLIENT_SECRET": "secret-of-dlt"},
        files={"shop_token": "t0ken-of-the-file\n"},
    ),
    "arrays_as_records": RecipeApi(
        {
            "/forecast": {"hourly": {"time": ["10:00", "11:00"], "temperature": [3.5, 4.0]}},
            "/rates": {"rates": {"EUR": 1.1, "GBP": 1.3}},
            "/trades": [[1, 9.5], [2, -1]],
        },
    ),
    "personal_data": RecipeApi(
        {
            "/tickets": [
                {
                    "id": 1,
                    "requester": {"email": "ann@x.test"},
                    "description": "My card is ...",
                    "comments": [{"author": "ben", "body": "Thanks, Ann"}],
                }
            ]
        },
        environment={"HASH_KEY": "k3y-of-hashes"},
    ),
    "json_in_texts": RecipeApi(
        {
            "/events": [
                {"Event No": 1, "payload": '{"amount": 12}'},
                {"Event No": 2, "payload": ""},
            ]
        },
    ),
}
