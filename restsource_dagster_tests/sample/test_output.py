"""Which lines of a log a person sees."""

from sample.output import NotableLines, plain

STAMP = "2026-11-24 05:48:24 +0000"
INFO = f"{STAMP} - dagster.daemon.SensorDaemon - INFO - Checking for new runs"
WARNING = f"{STAMP} - dagster - WARNING - a_job - something is odd"
ERROR = f"{STAMP} - dagster - ERROR - a_job - something failed"


FRAME = ['  File "/a/file.py", line 3, in function', "    call()", "    ^^^^^^"]
TRACEBACK = ["Traceback (most recent call last):", *FRAME]


def shown(*lines: str, longest: int = 12) -> list[str]:
    notable = NotableLines(longest)
    return [text for line in lines if (text := notable.shown(line)) is not None]


def test_warnings_and_errors_are_shown_and_the_rest_is_not() -> None:
    assert shown("banner", INFO, WARNING, INFO, ERROR) == [WARNING, ERROR]


def test_the_messages_that_belong_to_an_error_are_shown_with_it_and_the_frames_are_not() -> None:
    chain = [
        *TRACEBACK,
        "TickError: the tick failed",
        "",
        "The above exception was caused by the following exception:",
        "BrokenFilesError: 1 connector file is broken",
        "configs/shop.json:5:22: error: so it is",
        "",
        "Stack Trace:",
        *FRAME,
    ]
    assert shown(ERROR, *chain, INFO, "quiet") == [
        ERROR,
        "TickError: the tick failed",
        "BrokenFilesError: 1 connector file is broken",
        "configs/shop.json:5:22: error: so it is",
    ]


def test_an_error_outside_of_the_log_is_shown() -> None:
    assert shown("banner", *TRACEBACK, "ImportError: no", INFO) == ["ImportError: no"]


def test_what_was_shown_is_not_shown_again_for_ten_minutes() -> None:
    now = 0.0
    notable = NotableLines(clock=lambda: now)
    again = ERROR.replace("05:48:24", "05:49:24")
    assert notable.shown(ERROR) == ERROR
    now = 599.0
    assert notable.shown(again) is None
    assert notable.shown("ValueError: of it") == "ValueError: of it"
    now = 600.0
    assert notable.shown(again) == again


def test_a_long_record_is_cut_and_the_next_one_is_whole_again() -> None:
    lines = [ERROR, "1", "2", "3", "4", WARNING]
    assert shown(*lines, longest=2) == [ERROR, "1", "... (the rest is in the log)", WARNING]


def test_colours_are_removed() -> None:
    assert plain("\x1b[32m2026\x1b[0m - \x1b[34mINFO\x1b[0m\r\n") == "2026 - INFO"
