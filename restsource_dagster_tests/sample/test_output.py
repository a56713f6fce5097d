"""Which lines of a log a person sees."""

from sample.output import NotableLines, plain

STAMP = "2026-11-24 05:48:24 +0000"
INFO = f"{STAMP} - dagster.daemon.SensorDaemon - INFO - Checking for new runs"
WARNING = f"{STAMP} - dagster - WARNING - a_job - something is odd"
ERROR = f"{STAMP} - dagster - ERROR - a_job - something failed"


def shown(*lines: str, longest: int = 12) -> list[str]:
    notable = NotableLines(longest)
    return [text for line in lines if (text := notable.shown(line)) is not None]


def test_warnings_and_errors_are_shown_and_the_rest_is_not() -> None:
    assert shown("banner", INFO, WARNING, INFO, ERROR) == [WARNING, ERROR]


def test_the_lines_that_belong_to_an_error_are_shown_with_it() -> None:
    assert shown(ERROR, "  File x", "ValueError", INFO, "quiet") == [
        ERROR,
        "  File x",
        "ValueError",
    ]


def test_a_traceback_outside_of_the_log_is_shown() -> None:
    traceback = ["Traceback (most recent call last):", "  File x", "ImportError"]
    assert shown("banner", *traceback, INFO) == traceback


def test_a_long_record_is_cut_and_the_next_one_is_whole_again() -> None:
    lines = [ERROR, "1", "2", "3", "4", WARNING]
    assert shown(*lines, longest=2) == [ERROR, "1", "... (the rest is in the log)", WARNING]


def test_colours_are_removed() -> None:
    assert plain("\x1b[32m2026\x1b[0m - \x1b[34mINFO\x1b[0m\r\n") == "2026 - INFO"
