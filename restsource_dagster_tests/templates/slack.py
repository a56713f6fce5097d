"""A small Slack: channels with messages and threads, and users.

As in https://docs.slack.dev/reference/methods/conversations.history: errors come with status 200 and `"ok": false`,
pages have an opaque cursor that is empty at the end, messages are newest first, and a channel without the bot
gives none.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from restsource_dagster_tests.servers.api import Answer, Seen
from restsource_dagster_tests.templates.histories import Api
from restsource_dagster_tests.templates.stand_ins import TOKEN, Record, StandIn

__all__ = ["Slack"]

_PAGE = {"limit", "cursor"}


class Slack(StandIn):
    """The server's truth, by channel and time."""

    template = "slack"
    inputs: ClassVar[Mapping[str, Any]] = {
        "token": TOKEN,
        "history_requests_per_minute": 10_000,
        "list_requests_per_minute": 10_000,
    }
    base_path = "/api"
    unauthorized = Answer({"ok": False, "error": "invalid_auth"})
    refusal = "invalid_auth"
    too_many = Answer({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": "0"})
    bad_request = Answer({"ok": False, "error": "invalid_arguments"})
    expired_cursor = Answer({"ok": False, "error": "invalid_cursor"})

    def __init__(self, api: Api, seed: int) -> None:
        super().__init__(api, seed)
        self.channels = {f"C{number}": {"id": f"C{number}"} for number in range(9)}
        self.messages: dict[str, dict[str, Record]] = {"C1": {}, "C2": {}}
        """By channel, for those that the bot is in."""
        self.replies: dict[str, dict[str, Record]] = {}
        """By the thread's first message."""
        self.users = [{"id": f"U{number}", "deleted": number == 3} for number in range(9)]
        channels = partial(self._list, "channels", list(self.channels.values()))
        self.serve("/conversations.list", channels, _PAGE | {"types"})
        self.serve("/users.list", partial(self._list, "members", self.users), _PAGE)
        history = _PAGE | {"channel", "oldest", "inclusive"}
        self.serve("/conversations.history", self._history, history)
        self.serve("/conversations.replies", self._thread, _PAGE | {"channel", "ts"})
        groups = {"ok": True, "usergroups": [{"id": "S1"}]}
        asked = {"include_disabled", "include_users"}
        self.serve("/usergroups.list", lambda _: Answer(groups), asked)
        self.expect("channels", "id", lambda: [(key,) for key in self.channels])
        self.expect("messages", "ts, _channels_id, text", self._message_rows)
        self.expect("replies", "ts, text", self._reply_rows)
        self.expect("users", "id", lambda: [(one["id"],) for one in self.users])
        self.expect("user_groups", "id", lambda: [("S1",)])

    def change_one(self) -> None:
        """Write a message or a reply, or edit one of the last days."""
        channel, kind = self.random.choice(list(self.messages)), self.random.random()
        messages = self.messages[channel]
        if not messages or kind < 0.5:
            ts = self._stamp()
            messages[ts] = {"ts": ts, "text": self.text()}
        elif kind < 0.8:
            first = self.random.choice(list(messages))
            replies = self.replies.setdefault(first, {})
            ts = self._stamp()
            replies[ts] = {"ts": ts, "thread_ts": first, "text": self.text()}
            messages[first] |= {"thread_ts": first, "reply_count": len(replies)}
        else:
            messages[self.random.choice(list(messages))]["text"] = self.text()

    def _stamp(self) -> str:
        return f"{self.epoch}.{self.new_id():06}"

    def _message_rows(self) -> Iterable[tuple[Any, ...]]:
        for channel, messages in self.messages.items():
            yield from ((ts, channel, one["text"]) for ts, one in messages.items())

    def _reply_rows(self) -> Iterable[tuple[Any, ...]]:
        for replies in self.replies.values():
            yield from ((ts, one["text"]) for ts, one in replies.items())

    def _history(self, seen: Seen) -> Answer:
        messages = self.messages.get(seen.query["channel"])
        if messages is None:
            return Answer({"ok": False, "error": "not_in_channel"})
        oldest = float(seen.query["oldest"])
        is_inclusive = seen.query.get("inclusive") == "true"
        found = [
            one
            for ts, one in messages.items()
            if float(ts) > oldest or (is_inclusive and float(ts) == oldest)
        ]
        return self._list("messages", sorted(found, key=_stamp_of, reverse=True), seen)

    def _thread(self, seen: Seen) -> Answer:
        first = self.messages[seen.query["channel"]][seen.query["ts"]]
        replies = self.replies[seen.query["ts"]].values()
        return self._list("messages", [first, *replies], seen)

    def _list(self, name: str, records: list[Record], seen: Seen) -> Answer:
        page = self.by_cursor(records, seen.query.get("cursor"))
        if page is None or int(seen.query["limit"]) > 999:
            return self.expired_cursor or self.bad_request
        shown, following = page
        more = {"response_metadata": {"next_cursor": following or ""}}
        return Answer({"ok": True, name: shown, **more})


def _stamp_of(message: Record) -> str:
    return str(message["ts"])
