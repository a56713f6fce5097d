"""Incremental cursors: kinds of values, and each option, as an object and as a param."""

from collections.abc import Callable
from typing import Any

from restsource_dagster_tests.agreement.rows import Result, Row, page, refused
from restsource_dagster_tests.servers.api import Answer, Seen

__all__ = ["ROWS"]


def at(*values: Any) -> dict[str, Any]:
    """A page of records with these cursors, whose ids count from 1; `...` has no cursor."""
    return page(
        *(
            {"id": n} if value is ... else {"id": n, "at": value}
            for n, value in enumerate(values, 1)
        )
    )


def since(result: Result) -> list[str | None]:
    return result.asked("since")


def until(result: Result) -> tuple[Any, ...]:
    return tuple(result.seen[0].query.get(name) for name in ("since", "until"))


def cursor(
    name: str, answers: Any, gives: Any, see: Callable[[Result], Any] = since, **row: Any
) -> Row:
    """A cursor `at`, sent as `since`; the row's other arguments are options of the cursor."""
    about = {key: row.pop(key) for key in ("again", "fails", "says", "resource") if key in row}
    given = {"cursor_path": "at", "start_param": "since", **row}
    return Row(name, {"incremental": given}, answers, gives, see, **about)


def kind(name: str, values: tuple[Any, Any], sent: str, **options: Any) -> Row:
    """A kind of cursor: the second run asks from the largest value on."""
    return cursor(f"kind_{name}", at(*values), [sent], again=at(*values), **options)


def taken(name: str, answers: Any, gives: list[int], **options: Any) -> Row:
    """Options that decide which rows are taken: everything comes, and the engine filters."""
    return cursor(name, answers, gives, lambda result: result.table(), start_param=None, **options)


def pages_by(order: list[Any]) -> Callable[[Seen], Any]:
    """A page of one record for each cursor in this order, numbered from 0."""

    def answer(seen: Seen) -> Any:
        number = int(seen.query.get("page", "0"))
        return page(*({"id": value, "at": value} for value in order[number : number + 1]))

    return answer


def ordered(name: str, order: list[Any], gives: list[Any], **options: Any) -> Row:
    given = {"cursor_path": "at", **options}
    paginator = {"type": "page_number", "total_path": None}
    return Row(name, {"incremental": given, "paginator": paginator}, pages_by(order), gives)


ONE_TO_THREE = at(1, 2, 3)

ROWS = (
    kind("integer", (1, 3), "3", initial_value=0),
    kind("decimal", (1.5, 3.25), "3.25", initial_value=0.5),
    kind("text", ("a", "c"), "c", initial_value="a"),
    kind("date", ("2024-01-01", "2024-01-03"), "2024-01-03", initial_value="2024-01-01"),
    kind(
        "moment",
        ("2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z"),
        "2024-01-03T00:00:00Z",
        initial_value="2024-01-01T00:00:00Z",
    ),
    kind(
        "moment_with_zone",
        ("2024-01-01T00:00:00+02:00", "2024-01-03T00:00:00+02:00"),
        "2024-01-03T00:00:00+02:00",
        initial_value="2024-01-01T00:00:00+02:00",
    ),
    kind("no_initial_value", (1, 3), "3"),
    kind("initial_null", (1, 3), "3", initial_value=None),
    cursor("initial_value", at(1), ["0"], initial_value=0),
    cursor("start_param", at(1), ["0"], initial_value=0),
    cursor("end_param", at(1), ("0", "9"), until, initial_value=0, end_value=9, end_param="until"),
    cursor("end_null", at(1), [1], lambda r: r.table(), initial_value=0, end_value=None),
    Row(
        "placeholder",
        {
            "params": {"from": "{incremental.start_value}"},
            "incremental": {"cursor_path": "at", "initial_value": 5},
        },
        at(7),
        ["7"],
        lambda result: result.asked("from"),
        again=at(8),
    ),
    Row(
        "cursor_in_depth",
        {"incremental": {"cursor_path": "a.at", "initial_value": 0, "start_param": "since"}},
        page({"id": 1, "a": {"at": 4}}),
        ["4"],
        since,
        again=page({"id": 1, "a": {"at": 5}}),
    ),
    Row(
        "as_param",
        {"params": {"since": {"type": "incremental", "cursor_path": "at", "initial_value": 0}}},
        at(3),
        ["3"],
        since,
        again=at(4),
    ),
    refused(
        "as_param_twice",
        endpoint={
            "params": {
                name: {"type": "incremental", "cursor_path": "at", "initial_value": 0}
                for name in ("a", "b")
            }
        },
    ),
    refused(
        "as_param_end",
        endpoint={"params": {"a": {"type": "incremental", "cursor_path": "at", "end_value": 3}}},
    ),
    Row(
        "as_param_and_object",
        {
            "params": {"since": {"type": "incremental", "cursor_path": "at", "initial_value": 0}},
            "incremental": {"cursor_path": "other", "initial_value": 5},
        },
        at(3),
        ["0"],
        since,
        says="no effect",
    ),
    refused("no_cursor_path", endpoint={"incremental": {"initial_value": 0}}),
    Row(
        "token_param",
        {"incremental": {"token_path": "next", "token_param": "since"}},
        page(1, next="a"),
        ["a"],
        since,
        again=page(2, next="b"),
    ),
    Row(
        "token_first_run",
        {
            "params": {"since": 1, "to": "{incremental.token}"},
            "incremental": {"token_path": "next", "first_run_params": ["since"]},
        },
        page(1, next="a"),
        [None, "a"],
        lambda result: [*since(result), *result.asked("to")],
        again=page(2, next="b"),
    ),
    Row(
        "token_reset",
        {"incremental": {"token_path": "next", "token_param": "since", "reset_on": [410]}},
        lambda seen: page(2, next="b") if "since" not in seen.query else Answer({}, 410),
        [2],
        again=lambda seen: page(2, next="b") if "since" not in seen.query else Answer({}, 410),
        # its second run fails at first, which makes all that share its file load again in halves
        file={"description": "a token that is refused"},
    ),
    refused("token_order", endpoint={"incremental": {"token_path": "next", "row_order": "asc"}}),
    refused("param_type", endpoint={"params": {"a": {"type": "increment", "cursor_path": "at"}}}),
    Row("incremental_null", {"incremental": None}, at(1), [1]),
    # which rows are taken
    taken("max", ONE_TO_THREE, [2, 3], initial_value=2, last_value_func="max"),
    taken("min", ONE_TO_THREE, [1, 2], initial_value=2, last_value_func="min"),
    taken("max_null", ONE_TO_THREE, [2, 3], initial_value=2, last_value_func=None),
    taken("start_closed", ONE_TO_THREE, [2, 3], initial_value=2, range_start="closed"),
    taken("start_open", ONE_TO_THREE, [3], initial_value=2, range_start="open"),
    taken("start_null", ONE_TO_THREE, [2, 3], initial_value=2, range_start=None),
    taken("end_open", ONE_TO_THREE, [1, 2], initial_value=0, end_value=3, range_end="open"),
    taken("end_closed", ONE_TO_THREE, [1, 2, 3], initial_value=0, end_value=3, range_end="closed"),
    taken("end_range_null", ONE_TO_THREE, [1, 2, 3], initial_value=0, end_value=3, range_end=None),
    taken(
        "missing_include", at(1, ...), [1, 2], initial_value=0, on_cursor_value_missing="include"
    ),
    taken("missing_exclude", at(1, ...), [1], initial_value=0, on_cursor_value_missing="exclude"),
    cursor(
        "missing_raise",
        at(1, ...),
        None,
        initial_value=0,
        on_cursor_value_missing="raise",
        fails="at",
    ),
    cursor("missing_by_default", at(1, ...), None, initial_value=0, fails="at"),
    # a boundary row that comes again is one row: by the key of the cursor, or as a whole
    taken("boundary", at(1, 3), [1, 2], again=at(1, 3), initial_value=0),
    taken(
        "boundary_key",
        page({"id": 1, "at": 3, "n": 1}),
        [1],
        again=page({"id": 1, "at": 3, "n": 2}),
        initial_value=0,
        primary_key="id",
    ),
    taken(
        "boundary_keys",
        page({"id": 1, "at": 3, "n": 1}),
        [1, 1],
        again=page({"id": 1, "at": 3, "n": 2}),
        initial_value=0,
        primary_key=["id", "n"],
    ),
    taken(
        "boundary_key_null",
        page({"id": 1, "at": 3, "n": 1}),
        [1, 1],
        again=page({"id": 1, "at": 3, "n": 2}),
        initial_value=0,
        primary_key=None,
    ),
    # a lag asks again for the last stretch
    cursor("lag_integer", at(1, 9), ["7"], again=at(9), initial_value=0, lag=2),
    cursor("lag_decimal", at(1.5, 9.5), ["9.0"], again=at(9.5), initial_value=0.5, lag=0.5),
    cursor(
        "lag_date",
        at("2024-01-09"),
        ["2024-01-07"],
        again=at("2024-01-09"),
        initial_value="2024-01-01",
        lag=2,
    ),
    cursor(
        "lag_moment",
        at("2024-01-09T00:00:00Z"),
        ["2024-01-08T23:00:00Z"],
        again=at("2024-01-09T00:00:00Z"),
        initial_value="2024-01-01T00:00:00Z",
        lag=3600,
    ),
    cursor("lag_null", at(1, 9), ["9"], again=at(9), initial_value=0, lag=None),
    # with an order the paging stops at the first row that is out of range
    ordered("order_asc", [1, 2, 5, 3, 4], [1, 2], initial_value=0, end_value=4, row_order="asc"),
    ordered("order_desc", [5, 4, 1, 3], [4, 5], initial_value=2, row_order="desc"),
    ordered("order_null", [5, 4, 1, 3], [3, 4, 5], initial_value=2, row_order=None),
    *(
        cursor(
            f"external_{value}",
            at(3),
            ["3"],
            again=at(4),
            initial_value=0,
            allow_external_schedulers=value,
        )
        for value in (True, False, None)
    ),
    refused("convert", endpoint={"incremental": {"cursor_path": "at", "convert": "int"}}),
    *(
        kind(
            f"convert_{name}",
            ("2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z"),
            sent,
            initial_value="2024-01-01T00:00:00Z",
            convert=written,
        )
        for name, written, sent in (
            ("seconds", "epoch_seconds", "1704240000"),
            ("milliseconds", "epoch_milliseconds", "1704240000000"),
            ("microseconds", "epoch_microseconds", "1704240000000000"),
            ("date", "date", "2024-01-03"),
            ("iso", "iso8601", "2024-01-03T00:00:00Z"),
            ("http", "rfc2822", "Wed, 03 Jan 2024 00:00:00 GMT"),
            ("pattern", "%d/%m/%Y", "03/01/2024"),
        )
    ),
    *(
        kind(f"format_{name}", values, sent, initial_value=values[0], cursor_format=form)
        for name, form, values, sent in (
            ("pattern", "%d/%m/%Y", ("27/11/2026", "01/12/2026"), "01/12/2026"),
            ("list", ["%d/%m/%Y", "%d.%m.%Y"], ("27.11.2026", "01/12/2026"), "01/12/2026"),
            ("seconds", "epoch_seconds", ("5", "20"), "20"),
            ("milliseconds", "epoch_milliseconds", (5000, 20000), "20000"),
            ("microseconds", "epoch_microseconds", (5000000, 20000000), "20000000"),
            ("date", "date", ("2026-11-27", "2026-12-01"), "2026-12-01"),
            (
                "iso",
                "iso8601",
                ("2026-11-27T00:00:00Z", "2026-12-01T00:00:00Z"),
                "2026-12-01T00:00:00Z",
            ),
            (
                "http",
                "rfc2822",
                ("Fri, 27 Nov 2026 00:00:00 GMT", "Tue, 01 Dec 2026 00:00:00 GMT"),
                "Tue, 01 Dec 2026 00:00:00 GMT",
            ),
        )
    ),
    kind("format_null", (1, 3), "3", initial_value=0, cursor_format=None),
    refused(
        "format_unknown", endpoint={"incremental": {"cursor_path": "at", "cursor_format": "day"}}
    ),
    kind("convert_null", (1, 3), "3", initial_value=0, convert=None),
    kind(
        "timezone",
        ("2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z"),
        "03 09:00",
        initial_value="2024-01-01T00:00:00Z",
        convert="%d %H:%M",
        timezone="Asia/Tokyo",
    ),
    *(
        cursor(
            f"window_{name}",
            at("2024-01-05T00:00:00Z"),
            asked,
            lambda result: list(until(result)),
            initial_value="2024-01-01T00:00:00Z",
            end_param="until",
            window=window,
            resource={"primary_key": "id"},
        )
        for name, window, asked in (
            ("size", {"size": "2y"}, ["2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
            (
                "delay",
                {"delay": "1m", "size": "2y"},
                ["2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"],
            ),
        )
    ),
    cursor(
        "first_of_several",
        page({"id": 1, "at": None, "made": 4}, {"id": 2, "at": 3}),
        ["4"],
        again=at(9),
        cursor_path=["at", "made"],
        initial_value=0,
    ),
    refused("no_paths", endpoint={"incremental": {"cursor_path": []}}),
    refused("no_such_path", endpoint={"incremental": {"cursor_path": ["at", 5]}}),
    refused("many_values", endpoint={"incremental": {"cursor_path": ["at", "a[*].at"]}}),
    cursor("window_null", at(1), ["0"], initial_value=0, window=None),
    refused(
        "window_without_an_end",
        endpoint={
            "incremental": {
                "cursor_path": "at",
                "initial_value": "2024-01-01",
                "start_param": "since",
                "window": {"size": "30d"},
            }
        },
    ),
    cursor(
        "retention",
        at("2024-01-05T00:00:00Z"),
        ["2024-01-01T00:00:00Z"],
        again=at("2024-01-05T00:00:00Z"),
        initial_value="2024-01-01T00:00:00Z",
        retention="30d",
        resource={"primary_key": "id"},
    ),
    cursor("retention_null", at(1), ["0"], initial_value=0, retention=None),
    kind("timezone_null", (1, 3), "3", initial_value=0, timezone=None),
    refused(
        "timezone_unknown", endpoint={"incremental": {"cursor_path": "at", "timezone": "Mars"}}
    ),
)
