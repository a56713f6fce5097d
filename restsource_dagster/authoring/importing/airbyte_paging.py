"""Map the paginators, cursors and error handlers of an Airbyte manifest."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any

from restsource_dagster.authoring.importing.airbyte_components import (
    Component,
    Expressions,
    as_python,
    field_steps,
)
from restsource_dagster.authoring.importing.imported_api import ImportedPaginator
from restsource_dagster.authoring.importing.openapi_schemas import field_path
from restsource_dagster.authoring.importing.source_pieces import Piece
from restsource_dagster.connector.models.incremental_cursor import Incremental
from restsource_dagster.connector.models.paginators import (
    CursorPaginator,
    HeaderCursorPaginator,
    HeaderLinkPaginator,
    JsonLinkPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
)
from restsource_dagster.connector.models.response_action import ResponseAction

__all__ = ["SentParts", "cursor_of", "paginator_of", "response_actions_of"]

_NO_EXPRESSION = "this expression has no counterpart"


@dataclass
class SentParts:
    """What the requests of a stream have: params, headers and a JSON body."""

    target: str
    params: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] = field(default_factory=dict)

    def put(self, option: Component, value: Any) -> str | None:
        """Put a value where a request option says; return the name, or None if that has no counterpart."""
        place = option.get("inject_into").text
        name = option.get("field_name").text or _joined(option.get("field_path").value)
        parts = {"request_parameter": self.params, "header": self.headers, "body_json": self.json}
        if place not in parts or not name or "{{" in name:
            option.not_mapped("this place of a value in a request is not supported")
            return None
        parts[place][name] = value
        self.note(option)
        return name

    def note(self, option: Component) -> None:
        """Note that an option is mapped."""
        place = option.get("inject_into").text or "path"
        word = {"request_parameter": "params", "header": "headers", "body_json": "json"}.get(
            place, place
        )
        for name in ("type", "inject_into", "field_name", "field_path"):
            option.get(name).mapped(f"{self.target}.{word}")


def _joined(value: Any) -> str | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ".".join(value) or None
    return None


# ---- paging


def paginator_of(
    paginator: Component, expressions: Expressions, sent: SentParts, selector: str
) -> ImportedPaginator | None:
    """Return the paginator of a stream. Note one without a counterpart, and return None."""
    target = f"{sent.target}.paginator"
    if not paginator.exists:
        return SinglePagePaginator(type="single_page")
    if paginator.type == "NoPagination":
        paginator.mapped(target)
        return SinglePagePaginator(type="single_page")
    strategy = paginator.part("pagination_strategy")
    token, size_option = paginator.part("page_token_option"), paginator.part("page_size_option")
    size = _page_size(strategy, expressions)
    reader = _PagingReader(strategy, token, size_option, size, sent, selector)
    maker = {
        "PageIncrement": reader.page_number,
        "OffsetIncrement": reader.offset,
        "CursorPagination": reader.cursor,
    }.get(strategy.type)
    made = maker() if maker else None
    if made is None:
        paginator.not_mapped("this paginator has no counterpart; dlt's detection takes its place")
        return None
    for each in (paginator, strategy):
        each.mapped(target)
    # the offset paginator sends the size itself, as its limit
    if size is not None and size_option.exists and not isinstance(made, OffsetPaginator):
        sent.put(size_option, size)
    return made


def _page_size(strategy: Component, expressions: Expressions) -> int | None:
    piece = strategy.get("page_size")
    text = expressions.text(piece.value, strategy.parameters)
    # a setting with a default: `${SIZE:-100}`
    default = re.search(r":-(\d+)\}$", text or "")
    if text is not None and text.isdigit():
        piece.mapped("the size of pages")
        return int(text)
    if default:
        piece.guessed("the size of pages", "the default of the setting")
        return int(default[1])
    return None


@dataclass
class _PagingReader:
    strategy: Component
    token: Component
    size_option: Component
    size: int | None
    sent: SentParts
    selector: str

    @property
    def target(self) -> str:
        return f"{self.sent.target}.paginator"

    def _sent_by(self, kind: str) -> dict[str, str] | None:
        """Return the field of a paginator that sends its place, such as `page_param`, with the name."""
        place = self.token.get("inject_into").text
        name = self.token.get("field_name").text or _joined(self.token.get("field_path").value)
        suffix = {"request_parameter": "param", "body_json": "body_path"}.get(place or "")
        if not suffix or not name or "{{" in name:
            return None
        self.sent.note(self.token)
        return {f"{kind}_{suffix}": name}

    def page_number(self) -> ImportedPaginator | None:
        start, where = self.strategy.get("start_from_page"), self._sent_by("page")
        start.mapped(f"{self.target}.base_page")
        if where is None:
            return None
        self.strategy.get("inject_on_first_request").mapped(self.target)
        return PageNumberPaginator.of(
            {"type": "page_number", "base_page": start.number or 0, **where, "total_path": None}
        )

    def offset(self) -> ImportedPaginator | None:
        where = self._sent_by("offset")
        if where is None:
            return None
        self.strategy.get("inject_on_first_request").mapped(self.target)
        name = self.size_option.get("field_name").text or _joined(
            self.size_option.get("field_path").value
        )
        is_body = self.size_option.get("inject_into").text == "body_json"
        if name:
            self.sent.note(self.size_option)
        limit = {f"limit_{'body_path' if is_body else 'param'}": name} if name else {}
        return OffsetPaginator.of(
            {"type": "offset", "limit": self.size or 100, **where, **limit, "total_path": None}
        )

    def cursor(self) -> ImportedPaginator | None:
        value = self.strategy.get("cursor_value")
        steps = _steps_of(value.text)
        stops = self._stops(steps)
        if steps is None:
            return None
        made = self._cursor_of(steps, stops)
        if made is not None:
            value.mapped(f"{self.target}.cursor_path")
        return made

    def _cursor_of(self, steps: list[str | int], stops: dict[str, str]) -> ImportedPaginator | None:
        is_link = self.token.type == "RequestPath" or self.token.get("inject_into").text == "path"
        if is_link:
            self.sent.note(self.token)
        name = str(steps[0])
        if name == "headers":
            return self._of_headers([str(step).lower() for step in steps[1:]], is_link=is_link)
        if name == "response" and is_link:
            return JsonLinkPaginator.of(
                {"type": "json_link", "next_url_path": _path(steps[1:]), **stops}
            )
        where = self._sent_by("cursor")
        path = None
        if name == "response" and len(steps) > 1:
            path = _path(steps[1:])
        elif name == "last_record" or steps[:2] == ["last_records", -1]:
            start = "" if self.selector == "$" else self.selector
            rest = steps[1:] if name == "last_record" else steps[2:]
            # the last of several lists is not the last row
            path = f"{start}[-1].{_path(rest)}" if rest and "[*]" not in start else None
        if where is None or path is None:
            return None
        return CursorPaginator.of({"type": "cursor", "cursor_path": path, **where, **stops})

    def _of_headers(self, steps: list[str], *, is_link: bool) -> ImportedPaginator | None:
        if steps[:1] == ["link"]:
            rel = steps[1] if len(steps) > 1 else "next"
            return HeaderLinkPaginator.of({"type": "header_link", "links_next_key": rel})
        if len(steps) != 1:
            return None
        if is_link:
            return HeaderLinkPaginator.of({"type": "header_link", "next_url_header": steps[0]})
        where = self._sent_by("cursor")
        param = (where or {}).get("cursor_param")
        if param is None:
            return None
        return HeaderCursorPaginator(type="header_cursor", cursor_key=steps[0], cursor_param=param)

    def _stops(self, cursor: list[str | int] | None) -> dict[str, str]:
        """Return what ends the paging beside a missing cursor."""
        piece = self.strategy.get("stop_condition")
        text = (piece.text or "").strip()
        inner = re.fullmatch(r"\{\{(.*)\}\}", text, re.DOTALL)
        node = as_python(inner[1]) if inner else None
        if node is None:
            piece.not_mapped(_NO_EXPRESSION)
            return {}
        negated = False
        # each `not` turns the condition round
        while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            node, negated = node.operand, not negated
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            node, negated = _plain_comparison(node, negated=negated)
        steps = field_steps(node) if node is not None else None
        # no cursor ends the paging anyway
        if steps is not None and steps == cursor and negated:
            piece.mapped(f"{self.target}.cursor_path")
            return {}
        if steps is None or steps[0] != "response" or len(steps) < 2:
            if "last_records" in text or "last_page_size" in text:
                piece.guessed(self.target, "an empty page ends the paging")
                return {"stop_after_empty_page": True}  # type: ignore[dict-item]
            piece.not_mapped(_NO_EXPRESSION)
            return {}
        field_name = "has_more_path" if negated else "end_path"
        piece.mapped(f"{self.target}.{field_name}")
        return {field_name: _path(steps[1:])}


def _plain_comparison(node: ast.Compare, *, negated: bool) -> tuple[ast.expr | None, bool]:
    """Return what `x == false` or `x is none` asks of x, and whether it asks for the opposite."""
    right = node.comparators[0]
    word = right.id.lower() if isinstance(right, ast.Name) else None
    value = (
        right.value
        if isinstance(right, ast.Constant)
        else {"true": True, "false": False}.get(word or "")
    )
    is_none = word in ("none", "null") or (isinstance(right, ast.Constant) and right.value is None)
    if not (is_none or isinstance(value, bool)):
        return None, negated
    wants_false = is_none or value is False
    if isinstance(node.ops[0], ast.NotEq | ast.IsNot):
        wants_false = not wants_false
    return node.left, negated != wants_false


def _steps_of(text: str | None) -> list[str | int] | None:
    found = re.fullmatch(r"\s*\{\{(.*)\}\}\s*", text or "", re.DOTALL)
    node = as_python(found[1]) if found else None
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        # `x or y`: the second one is for when the first is missing
        node = node.values[0]
    return field_steps(node) if node is not None else None


def _path(steps: list[str | int]) -> str:
    made = ""
    for step in steps:
        made += (
            f"[{step}]" if isinstance(step, int) else f"{'.' if made else ''}{field_path((step,))}"
        )
    return made


# ---- cursors

_FORMATS = {
    "%s": "epoch_seconds",
    "%s_as_float": "epoch_seconds",
    "%ms": "epoch_milliseconds",
    "%epoch_microseconds": "epoch_microseconds",
    "%Y-%m-%d": "date",
}
_STANDARD = re.compile(r"%Y-%m-%dT%H:%M:%S(\.%f|\.%_ms)?(Z|%z)?")


def cursor_of(cursor: Component, expressions: Expressions, sent: SentParts) -> Incremental | None:
    """Return the cursor of a stream; None if it has none. Note a cursor without a counterpart, and return None."""
    if not cursor.exists:
        return None
    target = f"{sent.target}.incremental"
    field_piece = cursor.get("cursor_field")
    name = expressions.text(field_piece.value, cursor.parameters)
    if cursor.type not in ("DatetimeBasedCursor", "IncrementingCountCursor") or not name:
        cursor.not_mapped("this cursor has no counterpart: each run loads all rows")
        return None
    cursor.mapped(target)
    field_piece.mapped(f"{target}.cursor_path")
    given: dict[str, Any] = {"cursor_path": name}
    if cursor.type == "IncrementingCountCursor":
        start = cursor.get("start_value")
        start.mapped(f"{target}.initial_value")
        given["initial_value"] = start.number or 0
    else:
        given.update(_times_of(cursor, expressions, target))
    given.update(_sent_times(cursor, sent))
    return Incremental.of(given)


def _times_of(cursor: Component, expressions: Expressions, target: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    start = cursor.part("start_datetime")
    piece = start.get("datetime") if start.get("datetime").exists else start.pieces[-1]
    start.mapped(f"{target}.initial_value")
    initial = expressions.text(piece.value, cursor.parameters)
    if initial is None:
        piece.not_mapped(_NO_EXPRESSION)
        # before any row: the first run loads all of them
        initial = "1970-01-01T00:00:00Z"
    else:
        piece.mapped(f"{target}.initial_value")
    given["initial_value"] = initial
    given.update(_formats_of(cursor, target))
    if (step := _duration(cursor.get("step"), expressions)) and cursor.part(
        "end_time_option"
    ).exists:
        default = re.fullmatch(r"\$\{\w+:-([^{}]+)\}", initial)
        if default:
            # windows are cut from the start on, so it must be known before a run
            piece.guessed(f"{target}.initial_value", "the default of the setting")
            given["initial_value"] = default[1]
        if default or not initial.startswith("${"):
            cursor.get("step").mapped(f"{target}.window")
            given["window"] = {"size": step}
        else:
            cursor.get("step").not_mapped("windows need a start that is no variable")
    if lag := _duration_seconds(_duration(cursor.get("lookback_window"), expressions)):
        cursor.get("lookback_window").mapped(f"{target}.lag")
        given["lag"] = lag
    if cursor.get("is_data_feed").value is True:
        cursor.get("is_data_feed").mapped(f"{target}.row_order")
        # a feed has its newest rows first, so reading may stop early
        given["row_order"] = "desc"
    cursor.get("is_client_side_incremental").mapped(target)
    return given


def _formats_of(cursor: Component, target: str) -> dict[str, Any]:
    """Return how the cursor is sent and read, if not as ISO 8601."""
    given: dict[str, Any] = {}
    sent = cursor.get("datetime_format")
    sent.mapped(f"{target}.convert")
    if sent.text and not _STANDARD.fullmatch(sent.text):
        given["convert"] = _FORMATS.get(sent.text, sent.text)
    read = [piece.text or "" for piece in cursor.get("cursor_datetime_formats").elements()]
    cursor.get("cursor_datetime_formats").mapped(f"{target}.cursor_format")
    others = [_FORMATS.get(each, each) for each in read if not _STANDARD.fullmatch(each)]
    known = ("epoch_seconds", "epoch_milliseconds", "date")
    # seconds, milliseconds and dates are read without a format
    if others and len(others) == len(read) and not all(each in known for each in others):
        given["cursor_format"] = others[0] if len(others) == 1 else others
    return given


def _sent_times(cursor: Component, sent: SentParts) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, field_name, value in (
        ("start_time_option", "start_param", "{incremental.start_value}"),
        ("end_time_option", "end_param", "{incremental.end_value}"),
        ("start_value_option", "start_param", "{incremental.start_value}"),
    ):
        option = cursor.part(name)
        if not option.exists:
            continue
        param = option.get("field_name").text
        if option.get("inject_into").text == "request_parameter" and param and "{{" not in param:
            sent.note(option)
            given[field_name] = param
        else:
            sent.put(option, value)
    return given


_ISO_DURATION = re.compile(r"P(?:(\d+)([YMWD])|T(\d+)([HMS]))")
_UNITS = {"Y": "y", "M": "mo", "W": "w", "D": "d"}
_UNIT_SECONDS = {
    "y": 31_536_000,
    "mo": 2_592_000,
    "w": 604_800,
    "d": 86_400,
    "h": 3600,
    "m": 60,
    "s": 1,
}


def _duration(piece: Piece, expressions: Expressions) -> str | None:
    """Return an ISO 8601 duration of one unit as the file has it: `30d` for `P30D`."""
    text = expressions.text(piece.value, {}) or ""
    found = _ISO_DURATION.fullmatch(text)
    if found is None:
        return None
    return f"{found[1]}{_UNITS[found[2]]}" if found[1] else f"{found[3]}{found[4].lower()}"


def _duration_seconds(text: str | None) -> int | None:
    found = re.fullmatch(r"(\d{1,9})([a-z]+)", text or "")
    return int(found[1]) * _UNIT_SECONDS[found[2]] if found else None


# ---- responses

_ACTIONS = {"IGNORE": "ignore", "RETRY": "retry", "FAIL": "fail", "RATE_LIMITED": "retry"}


def response_actions_of(handler: Component, target: str) -> tuple[ResponseAction, ...]:
    """Return the response actions of an error handler; what has no counterpart is noted."""
    if not handler.exists:
        return ()
    if handler.type == "CompositeErrorHandler":
        handler.mapped(f"{target}.response_actions")
        inner = [response_actions_of(each, target) for each in handler.parts("error_handlers")]
        return tuple(action for actions in inner for action in actions)
    if handler.type not in ("DefaultErrorHandler", ""):
        handler.not_mapped("this error handler has no counterpart")
        return ()
    handler.mapped(f"{target}.response_actions")
    handler.get("backoff_strategies").not_mapped("waits: those that the API asks for are kept")
    handler.get("max_retries").not_mapped("retries are bounded by `http.max_wait_seconds`")
    made: list[ResponseAction] = []
    for each in handler.parts("response_filters"):
        made.extend(_actions_of(each, f"{target}.response_actions"))
    return tuple(made)


def _actions_of(each: Component, target: str) -> list[ResponseAction]:
    action = _ACTIONS.get(each.get("action").text or "FAIL")
    predicate = each.get("predicate")
    condition: dict[str, Any] = {}
    text = each.get("error_message_contains")
    if text.text:
        condition["content"] = text.text
    if predicate.exists:
        body = _equality(predicate.text)
        if body is None:
            each.not_mapped(_NO_EXPRESSION)
            return []
        condition["body"] = body
    codes = [code.number for code in each.get("http_codes").elements() if code.number]
    if action is None or not (codes or condition):
        each.not_mapped("this response filter has no counterpart")
        return []
    each.mapped(target)
    for name in ("action", "http_codes", "error_message_contains", "predicate"):
        each.get(name).mapped(target)
    choices: list[dict[str, Any]] = [{"status_code": code} for code in codes] or [{}]
    return [ResponseAction.of({**choice, **condition, "action": action}) for choice in choices]


def _equality(text: str | None) -> dict[str, Any] | None:
    """Return the path and the value of `{{ response.a.b == 'c' }}`."""
    found = re.fullmatch(r"\s*\{\{(.*)\}\}\s*", text or "", re.DOTALL)
    node = as_python(found[1]) if found else None
    if not isinstance(node, ast.Compare) or not isinstance(node.ops[0], ast.Eq):
        return None
    steps, right = field_steps(node.left), node.comparators[0]
    if not steps or steps[0] != "response" or not isinstance(right, ast.Constant) or len(steps) < 2:
        return None
    return {_path(steps[1:]): right.value}
