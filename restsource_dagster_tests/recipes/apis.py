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


def users(*given: tuple[int, str, str]) -> Any:
    return {"users": [{"id": n, "name": name, "updated_at": at} for n, name, at in given]}


ISSUE = {"id": 7, "key": "SHOP-7", "fields": {"updated": "2026-11-20T09:00:30.000+0100"}}
APIS: Mapping[str, RecipeApi] = {
    "cursor_in_epoch_seconds": RecipeApi(
        {
            "/api/v2/incremental/users.json": users(
                (1, "Ann", "2026-11-19T08:00:00Z"), (2, "Bob", "2026-11-20T08:00:00Z")
            )
        },
        [
            {
                "/api/v2/incremental/users.json": users(
                    (2, "Bob", "2026-11-20T08:00:00Z"), (1, "Ann B.", "2026-11-21T09:30:00Z")
                )
            }
        ],
    ),
    "cursor_in_a_query_language": RecipeApi({"/rest/api/2/search": {"issues": [ISSUE]}}, [{}]),
    "cursor_in_local_time": RecipeApi(
        {
            "/orders": [
                {"id": 1, "changed": "27.11.2026 10:00"},
                {"id": 2, "changed": "27.11.2026 10:00:05"},
            ]
        },
        [{"/orders": [{"id": 2, "changed": "01.12.2026 08:30"}]}],
    ),
    "range_of_time_series": RecipeApi(
        {
            "/api/v1/query_range": {
                "status": "success",
                "data": {
                    "resultType": "matrix",
                    "result": [
                        {"metric": {"instance": f"{name}:9100"}, "values": [[1795770030, "1"]]}
                        for name in "ab"
                    ],
                },
            }
        }
    ),
    "last_30_days": RecipeApi(
        {
            "/daily/2026": {
                "days": [
                    {"day": "2026-10-28", "amount": 12.5},
                    {"day": "2026-11-26", "amount": 7.25},
                ]
            }
        }
    ),
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
