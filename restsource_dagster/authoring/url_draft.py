"""Drafts a connector file from the URL of an API: asks it, guesses, and keeps what a preview confirms."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from restsource_dagster.authoring.detect_fields import (
    guess_cursors,
    guess_primary_key,
    parent_in_path,
    texts_without_order,
)
from restsource_dagster.authoring.detect_paging import (
    SINGLE_PAGE,
    guess_paginators,
    names_next_page,
)
from restsource_dagster.authoring.detect_records import FoundRecords, find_records
from restsource_dagster.authoring.guesses import Guess, SeenAnswer, params_sent_by
from restsource_dagster.authoring.importing.imported_api import literal, resource_name
from restsource_dagster.authoring.importing.param_names import CURSOR_PARAMS, is_named
from restsource_dagster.authoring.preview_answers import (
    content_type,
    first_rows,
    format_of_answer,
    guess_delimiter,
    is_same_row,
    last_answered,
    rows_of_answers,
    rows_seen,
)
from restsource_dagster.authoring.sent_body import SentBody
from restsource_dagster.connector.cursor_format import NANOSECONDS_PER_SECOND, moment_of
from restsource_dagster.engine.preview.preview_limits import PreviewEnd, PreviewLimits
from restsource_dagster.engine.preview.preview_run import CursorBounds, preview_text
from restsource_dagster.engine.preview.previewed import Preview, PreviewedResource
from restsource_dagster.settings import Settings

__all__ = ["ApiLogin", "UrlDraft", "draft_from_url"]

_DAY = 86_400 * NANOSECONDS_PER_SECOND
_MAX_TRIES = 8
"""Paginators that are tried with two requests each."""
_METHOD_NOT_ALLOWED = 405
_LOGIN_STATUSES = (401, 403)
_LINE_FORMATS = ("csv", "jsonl")
"""Formats in which each line is a row, so that nothing says where in it rows are."""
_MAX_LINES = 1_000
"""Rows of a file that are looked at."""
_ANSWER_CHARS = 20_000_000
_VERBS = frozenset({"search", "query", "list", "find", "filter", "export", "all"})
"""Last parts of a path that say what is done with what stands before: `tickets/search`."""
_PREFIX = re.compile(r"v?\d+(\.\d+)*|api|rest", re.IGNORECASE)
"""Parts of a path that stand before all resources of an API."""
_ROW_WORDS = frozenset({"data", "nodes", "edges", "node", "items", "results"})
_SCHEDULE = {"mode": "hours", "interval": 1}
_LONG_AGO = "1970-01-01T00:00:00Z"
_OTHER_FIRST_PAGE = "its first page is not the one that comes without a number"


@dataclass(frozen=True)
class ApiLogin:
    """How to authenticate: the block `auth` and headers as they stand in the file, with references."""

    auth: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UrlDraft:
    """A drafted file, and how each part of it was found."""

    value: Mapping[str, Any]
    guesses: tuple[Guess, ...] = ()
    """What was written into the file, and what was not sure enough for it."""
    refuted: tuple[str, ...] = ()
    """What was tried and did not pass, in sentences."""
    failure: str | None = None
    """Why nothing could be guessed."""
    preview: Preview | None = None
    """The last preview, that of the file as it is."""

    @property
    def written(self) -> tuple[Guess, ...]:
        """The guesses that are in the file."""
        return tuple(guess for guess in self.guesses if guess.confidence != "possible")


def draft_from_url(
    name: str,
    url: str,
    *,
    login: ApiLogin,
    settings: Settings,
    environment: Mapping[str, str],
    body: SentBody | None = None,
    limits: PreviewLimits | None = None,
    end: PreviewEnd | None = None,
) -> UrlDraft:
    """Ask an API and return a file of the guesses that passed. Only the host of the URL is asked.

    `url` is that of a list, with params that its documentation names. It holds references in place of
    secrets. With a `body` the list is asked by POST.
    """
    # two pages prove a paging, and the whole answer is needed to guess from
    limits = replace(limits or PreviewLimits(), pages=2, answer_chars=_ANSWER_CHARS)
    given = {"settings": settings, "environment": environment, "limits": limits}
    drafter = _Drafter(name, url, login, given, end or PreviewEnd(), body)
    return drafter.draft()


@dataclass
class _Drafter:
    name: str
    url: str
    login: ApiLogin
    given: Mapping[str, Any]
    end: PreviewEnd
    body: SentBody | None = None
    guesses: list[Guess] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)
    rows: Sequence[Any] = ()
    """The rows that were read."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._params = {
            # a reference stays one; other braces stand for themselves
            key: text if "${" in text else literal(text)
            for key, text in parse_qsl(parts.query, keep_blank_values=True)
        }
        path = [part for part in parts.path.split("/") if part]
        parent = parent_in_path(path)
        # what stands before the resource, such as /v1, is the same for all resources of the API
        above = len(parent.parent.split("/")) - 1 if parent else max(len(path) - 1, 0)
        is_verb = len(path) > 1 and path[-1].lower() in _VERBS and not _PREFIX.fullmatch(path[-2])
        if path and not parent and (re.fullmatch(r"\d+", path[-1]) or is_verb):
            above = max(above - 1, 0)
        self._base = "/".join([f"{parts.scheme}://{parts.netloc}", *path[:above]])
        self._path = "/".join(path[above:]) + ("/" if parts.path.endswith("/") and path else "")
        self._parent = parent_in_path(path[above:]) if parent else None
        self._parents: list[Mapping[str, Any]] = []

    def draft(self) -> UrlDraft:
        resource: dict[str, Any] = {
            "name": _resource_name(self._path),
            "endpoint": {
                "path": self._path,
                **({"params": self._params} if self._params else {}),
                **(self.body.endpoint() if self.body else {}),
            },
        }
        # one page first: a wrong paginator would hide what the API answers
        first = self._look(
            {**resource, "endpoint": {**resource["endpoint"], "paginator": SINGLE_PAGE}}
        )
        answer, failure = _answer_of(first)
        if answer is None:
            made = self._draft_of_lines(resource, first)
            return made or self._draft(resource, failure=failure, preview=first)
        records = find_records(replace(answer, url=self.url))
        # such an answer has fields, too, which would be taken for a record
        if answer.status in _LOGIN_STATUSES and not (self.login.auth or self.login.headers):
            failure = f"the API answered {answer.status}, and no login was given"
            return self._draft(resource, failure=failure, preview=first)
        if records.failure is not None:
            problems = [text for one in first.resources for text in one.problems]
            failure = f"{records.failure}. {problems[0]}" if problems else records.failure
            return self._draft(resource, failure=failure, preview=first)
        self.guesses += records.guesses
        self._apply_records(resource, records)
        seen = self._prove_paging(resource, answer, records)
        self._apply_fields(resource, answer, records, seen)
        final = self._add_parent(resource) or self._confirm(resource)
        return self._draft(resource, preview=final)

    def _draft_of_lines(self, resource: dict[str, Any], first: Preview) -> UrlDraft | None:
        """Return the draft of an answer in CSV or JSON Lines; None if it is none, or can't be read."""
        last = last_answered(first)
        kind = format_of_answer(last) if last is not None and last.status == 200 else None
        if last is None or kind not in _LINE_FORMATS:
            return None
        response: dict[str, Any] = {"format": kind}
        if kind == "csv" and (delimiter := guess_delimiter(last.answer)) is not None:
            response["delimiter"] = delimiter
        endpoint = {**resource["endpoint"], "response": response, "paginator": SINGLE_PAGE}
        tried = {**resource, "endpoint": endpoint}
        limits = replace(self.given["limits"], rows=_MAX_LINES)
        seen = next(iter(self._look(tried, limits=limits).resources), None)
        if seen is None or seen.problems or not seen.records:
            return None
        said = f"the type of the answer is {content_type(last)}"
        if "delimiter" in response:
            said += f", and {response['delimiter']!r} stands equally often in its lines"
        self.guesses += [
            Guess("endpoint.response", response, said, "likely"),
            Guess(
                "endpoint.paginator",
                SINGLE_PAGE,
                "a file is one answer; pages are not tried",
                "likely",
            ),
        ]
        asked = SeenAnswer(self.url, None, 200, last.answer_headers)
        self._guess_fields(tried, asked, seen.records)
        return self._draft(tried, preview=self._confirm(tried))

    def _draft(
        self, resource: Mapping[str, Any], *, failure: str | None = None, preview: Preview | None
    ) -> UrlDraft:
        value = self._file(resource)
        return UrlDraft(value, tuple(self.guesses), tuple(self.refuted), failure, preview)

    def _file(self, *resources: Mapping[str, Any]) -> Mapping[str, Any]:
        client: dict[str, Any] = {"base_url": self._base}
        if self.login.headers:
            client["headers"] = dict(self.login.headers)
        if self.login.auth:
            client["auth"] = dict(self.login.auth)
        return {"schedule": _SCHEDULE, "client": client, "resources": [*self._parents, *resources]}

    def _look(self, resource: Mapping[str, Any], **given: Any) -> Preview:
        text, path = json.dumps(self._file(resource)), Path(f"{self.name}.json")
        return preview_text(
            text, path, **{"with_tables": False, "end": self.end, **self.given, **given}
        )

    def _apply_records(self, resource: dict[str, Any], records: FoundRecords) -> None:
        if records.selector is not None:
            resource["endpoint"]["data_selector"] = records.selector
            # all queries of GraphQL have one URL, so the rows have the name
            if self.body is not None and self.body.query is not None:
                resource["name"] = _name_of_selector(records.selector) or resource["name"]
        if records.steps:
            resource["processing_steps"] = [dict(step) for step in records.steps]

    def _prove_paging(
        self, resource: dict[str, Any], answer: SeenAnswer, records: FoundRecords
    ) -> PreviewedResource | None:
        """Write the first paginator that a second page proves; return what was read with it."""
        if not records.listed:
            self.guesses.append(
                Guess(
                    "endpoint.paginator",
                    None,
                    "the answer has no rows, so no paging can be seen",
                    "possible",
                )
            )
            return None
        self.guesses += self._missing_variable(answer)
        for guess in guess_paginators(self._asked(answer), records.listed)[:_MAX_TRIES]:
            for value in self._readings(guess.value):
                if self.end.reason is not None:
                    return None
                tried = self._with_paginator(resource, value)
                seen = self._read_with(tried)
                reason = _refutation(seen, records, value)
                if reason is None and seen is not None:
                    resource.clear()
                    resource.update(tried)
                    self.body = _body_beside(self.body, value) if self.body else None
                    self.guesses.append(_confirmed(guess, value, seen))
                    return seen
                self.refuted.append(f"paginator {json.dumps(value)} ({guess.evidence}): {reason}")
                # another number of the first page is worth a try only if the number counts
                if reason != _OTHER_FIRST_PAGE:
                    break
        return None

    def _missing_variable(self, answer: SeenAnswer) -> Iterator[Guess]:
        """Yield what to write into a GraphQL query that can't ask for its next page."""
        if self.body is None or self.body.query is None:
            return
        where = names_next_page(answer.body)
        if where and not any(is_named(name, CURSOR_PARAMS) for name in self.body.places):
            advice = "add `$after: String` to the query, and `after: $after` to its list"
            said = f"`{where}` names a next page, and the query has no variable for it: {advice}"
            yield Guess("endpoint.paginator", None, said, "possible")

    def _read_with(self, resource: Mapping[str, Any]) -> PreviewedResource | None:
        found = self._look(resource).resources
        return next((one for one in found if one.name == resource["name"]), None)

    def _asked(self, answer: SeenAnswer) -> SeenAnswer:
        """Return the answer with what was asked: the URL as it was given, and the values of the body."""
        return replace(answer, url=self.url, sent=self.body.params if self.body else {})

    def _readings(self, value: Any) -> Iterator[Any]:
        """Yield a paginator as the request can have it, and for page numbers the other number of the first page."""
        made = self.body.paginator(value) if self.body else value
        if made is None:
            return
        yield made
        if isinstance(made, Mapping) and made.get("type") == "page_number":
            yield {**made, "base_page": 1 - made["base_page"]}

    def _with_paginator(self, resource: Mapping[str, Any], value: Any) -> dict[str, Any]:
        endpoint = dict(resource["endpoint"])
        endpoint["paginator"] = value
        if self.body is not None:
            endpoint.update(_body_beside(self.body, value).endpoint())
        else:
            _leave_out_params(endpoint, params_sent_by(value))
        return {**resource, "endpoint": endpoint}

    def _apply_fields(
        self,
        resource: dict[str, Any],
        answer: SeenAnswer,
        records: FoundRecords,
        seen: PreviewedResource | None,
    ) -> None:
        rows, pages = rows_seen(seen, records)
        self._guess_fields(resource, self._asked(answer), rows, pages=pages)

    def _guess_fields(
        self, resource: dict[str, Any], asked: SeenAnswer, rows: Sequence[Any], *, pages: int = 1
    ) -> None:
        """Write the key and the cursor that rows and request show; `pages` is how many pages the rows are from."""
        self.rows = rows
        if key := guess_primary_key(rows, resource["name"], pages=pages):
            self.guesses.append(key)
            if key.confidence != "possible":
                resource["primary_key"] = key.value
        cursors = guess_cursors(asked, rows)
        cursors = self._untried_filter(asked, cursors, rows) or cursors
        sure = [guess for guess in cursors if guess.confidence != "possible"][:1]
        others = [replace(one, confidence="possible") for one in cursors if one not in sure]
        for guess in sure:
            self._apply_cursor(resource, guess)
        is_filter = bool(sure) and ("start_param" in sure[0].value or bool(sure[0].params))
        if is_filter and self.end.reason is None:
            sure = [self._prove_filter(resource, sure[0], rows)]
        if sure and is_filter and self._is_unused(sure[0]) and sure[0].confidence == "likely":
            # the query does not show that this variable filters, so a request has to prove it
            reason = "nothing shows that it filters; give it a time in --data to try it"
            sure = [self._without_filter(resource, sure[0], reason)]
        # one cursor is written; a second one would be another reading
        self.guesses += [*sure, *others]
        self.guesses += [replace(one, confidence="possible") for one in texts_without_order(rows)]

    def _is_unused(self, guess: Guess) -> bool:
        """True if a guess sends its start in a variable that was asked without a value."""
        param = guess.value.get("start_param") if isinstance(guess.value, Mapping) else None
        return self.body is not None and param is not None and not self.body.params.get(param, "-")

    def _untried_filter(
        self, asked: SeenAnswer, cursors: Sequence[Guess], rows: Sequence[Any]
    ) -> tuple[Guess, ...]:
        """Return a cursor by a variable that a GraphQL query declares, that has no value and is called as a filter."""
        if self.body is None or self.body.query is None or any(_is_sure(one) for one in cursors):
            return ()
        for name, text in self.body.params.items():
            if text or is_named(name, CURSOR_PARAMS):
                continue
            made = guess_cursors(replace(asked, sent={name: _LONG_AGO}), rows)
            if found := [one for one in made if _is_sure(one)][:1]:
                return (*found, *cursors)
        return ()

    def _prove_filter(self, resource: dict[str, Any], guess: Guess, rows: Sequence[Any]) -> Guess:
        """Ask for the newest rows only, and take the filter back if older ones come, too."""
        cursor = guess.value
        values = [row[cursor["cursor_path"]] for row in rows if isinstance(row, Mapping)]
        dated = [(moment, value) for value in values if (moment := moment_of(value)) is not None]
        # all rows are of one day, so a filter by days would send all of them
        if not dated or min(dated)[0] > max(dated)[0] - _DAY:
            return guess
        newest, start = max(dated, key=lambda one: one[0])
        # a file has no JSON answer to look at, so its rows are read
        limits = replace(self.given["limits"], rows=_MAX_LINES)
        found = self._look(resource, bounds=CursorBounds(str(start)), limits=limits).resources
        seen = next((one for one in found if one.name == resource["name"]), None)
        if seen is None:
            return guess
        if seen.problems:
            problem = seen.problems[0].partition("\n")[0]
            return self._without_filter(resource, guess, f"asked from {start} on, {problem}")
        moments = [moment_of(row.get(cursor["cursor_path"])) for row in rows_of_answers(seen)]
        # a filter by days sends the rows of the whole day
        if any(moment is not None and moment < newest - _DAY for moment in moments):
            reason = f"asked from {start} on, the API sends older rows, too"
            return self._without_filter(resource, guess, reason)
        if self._is_unused(guess) and not moments:
            return guess
        said = f"asked from {start} on, it sends {len(moments)} rows and none that is older"
        return replace(guess, confidence="proved", evidence=f"{guess.evidence}; {said}")

    def _without_filter(self, resource: dict[str, Any], guess: Guess, reason: str) -> Guess:
        """Take a cursor with its filter out of the resource; return it as one that may be so."""
        cursor, endpoint = guess.value, resource["endpoint"]
        param = cursor.get("start_param") or ", ".join(guess.params)
        self.refuted.append(f"`{param}` as a filter: {reason}")
        endpoint.pop("incremental")
        if self.body is not None:
            endpoint.update(self.body.endpoint())
        for name in guess.params:
            # the text as it was asked
            if self.body is None or name not in self.body.places:
                endpoint["params"] = {**endpoint["params"], name: self._params[name]}
        kept = {name: cursor[name] for name in ("cursor_path", "cursor_format") if name in cursor}
        return Guess(guess.place, kept, guess.evidence, "possible")

    def _apply_cursor(self, resource: dict[str, Any], guess: Guess) -> None:
        endpoint, cursor = resource["endpoint"], guess.value
        endpoint["incremental"] = dict(cursor)
        for name, text in guess.params.items():
            if self.body is not None and name in self.body.places:
                endpoint.update(self.body.with_value(name, text).endpoint())
            else:
                endpoint["params"] = {**endpoint["params"], name: text}
        param = cursor.get("start_param")
        if self.body is not None and param is not None and param in self.body.places:
            del endpoint["incremental"]["start_param"]
            endpoint.update(self.body.with_value(param, "{incremental.start_value}").endpoint())
        else:
            _leave_out_params(endpoint, params_sent_by(cursor))

    def _add_parent(self, resource: dict[str, Any]) -> Preview | None:
        """Read the parent that the path names from its own list; return the preview if that works."""
        parent = self._parent
        if parent is None:
            return None
        text = f"`{parent.value}` in the path looks like the id of one of `{parent.parent}`"
        above = _Drafter(
            self.name, f"{self._base}/{parent.parent}", self.login, self.given, self.end
        )
        made = above.draft()
        rows = above.rows
        names = [
            key
            for row in rows
            if isinstance(row, Mapping)
            for key, value in row.items()
            if str(value) == parent.value
        ]
        name = (
            names[0]
            if names
            else next((one.value for one in made.written if one.place == "primary_key"), None)
        )
        if made.failure is None and name is not None:
            below = {
                **resource,
                "endpoint": {**resource["endpoint"], "path": parent.path_with(name)},
                # a row says of which parent it is
                "include_from_parent": [name],
            }
            self._parents = [*made.value["resources"]]
            found = self._look(below, with_tables=True)
            if found.is_fine:
                said = f"{text}, and each of them has a `{name}`"
                self.guesses = [
                    *_named(parent.name, made.guesses),
                    *_named(resource["name"], self.guesses),
                ]
                self.guesses.append(
                    Guess(f"{resource['name']}.endpoint.path", parent.path_with(name), said)
                )
                self.refuted += made.refuted
                resource.clear()
                resource.update(below)
                return found
            self._parents = []
            self.refuted.append(f"parent {parent.parent}: {next(_problems(found), '')}")
        self.guesses.append(
            Guess("endpoint.path", parent.path_with(name or "id"), text, "possible")
        )
        return None

    def _confirm(self, resource: dict[str, Any]) -> Preview:
        """Preview the file as it is; take back what the preview refutes, the cursor first."""
        found = self._look(resource, with_tables=True)
        for place, remove in (
            ("endpoint.incremental", self._without_cursor),
            ("primary_key", _without_key),
        ):
            if found.is_fine or self.end.reason is not None:
                break
            if not any(guess.place == place for guess in self.guesses):
                continue
            other = remove(resource)
            again = self._look(other, with_tables=True)
            # only what helps is taken back
            if len(list(_problems(again))) < len(list(_problems(found))):
                problem = next(_problems(found), "")
                self.refuted.append(f"{place}: {problem}")
                self.guesses = [
                    replace(one, confidence="possible") if one.place == place else one
                    for one in self.guesses
                ]
                resource.clear()
                resource.update(other)
                found = again
        return found

    def _without_cursor(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        endpoint = {
            key: value for key, value in resource["endpoint"].items() if key != "incremental"
        }
        if self.body is not None:
            # without the placeholder of the cursor
            endpoint.update(self.body.endpoint())
        return {**resource, "endpoint": endpoint}


def _body_beside(body: SentBody, paginator: Any) -> SentBody:
    """Return the body without what the paginator sends itself."""
    return body.without({path.rpartition(".")[2] for path in params_sent_by(paginator)})


def _leave_out_params(endpoint: dict[str, Any], names: Collection[str]) -> None:
    params = {key: text for key, text in endpoint.pop("params", {}).items() if key not in names}
    if params:
        endpoint["params"] = params


def _named(resource: str, guesses: Sequence[Guess]) -> Iterator[Guess]:
    """Yield the guesses with the name of their resource."""
    for guess in guesses:
        yield replace(guess, place=f"{resource}.{guess.place}")


def _problems(found: Preview) -> Iterator[str]:
    yield from found.problems
    for one in found.resources:
        yield from one.problems


def _is_sure(guess: Guess) -> bool:
    return guess.confidence != "possible"


def _without_key(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "primary_key"}


def _answer_of(found: Preview) -> tuple[SeenAnswer | None, str | None]:
    """Return the last answer of a preview, or why there is none to guess from."""
    problems = list(_problems(found))
    last = last_answered(found)
    if last is None:
        return None, problems[0] if problems else "no answer came"
    if last.status == _METHOD_NOT_ALLOWED and problems:
        post = "for a list that is asked by POST give its body with --data: JSON such as '{}', or a GraphQL query"
        return None, f"{problems[0]}. It was asked by GET; {post}"
    try:
        body = json.loads(last.answer)
    except ValueError:
        kind = format_of_answer(last)
        hint = (
            f'; its type says {kind}: set "response": {{"format": "{kind}"}} in the endpoint'
            if kind not in (None, "json")
            else ""
        )
        said = problems[0] if problems else f"the answer, with status {last.status}, is not JSON"
        return None, f"{said}{hint}"
    return SeenAnswer(last.url, body, last.status or 0, last.answer_headers), None


def _refutation(seen: PreviewedResource | None, records: FoundRecords, value: Any) -> str | None:
    """Return why a paginator is not the right one; None if the pages prove it."""
    if seen is None:
        return "the file would not be valid"
    if seen.problems:
        return seen.problems[0].partition("\n")[0]
    wanted = "single page" if value == SINGLE_PAGE else "proved"
    if seen.paging.verdict != wanted:
        return f"{seen.paging.verdict}: {seen.paging.evidence}"
    if any("were on page 1, too" in note for note in seen.notes):
        return "page 2 has rows of page 1"
    first = first_rows(seen)
    is_same = not first or is_same_row(first[0], records.rows[0])
    return None if is_same else _OTHER_FIRST_PAGE


def _confirmed(guess: Guess, value: Any, seen: PreviewedResource) -> Guess:
    if value == SINGLE_PAGE:
        return replace(
            guess, confidence="likely", evidence=f"{guess.evidence}: {seen.paging.evidence}"
        )
    return Guess(guess.place, value, f"{guess.evidence}; {seen.paging.evidence}", "proved")


def _name_of_selector(selector: str) -> str | None:
    """Return the last word of a path to the rows that is no word for rows: `orders` of `data.orders.nodes`."""
    words = [word for word in re.findall(r"\w+", selector) if word not in _ROW_WORDS]
    return resource_name(words[-1]) if words else None


def _resource_name(path: str) -> str:
    """Return a name for the resource of a path: its last part that names something, not what is done with it."""
    words = [
        resource_name(part)
        for part in path.split("/")
        if part and not re.fullmatch(r"\d+|\{.*\}", part)
    ]
    named = [word for word in words if word not in _VERBS and not _PREFIX.fullmatch(word)] or words
    return named[-1] if named else "records"
