"""Random records give the same tables as rows and as columns."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from restsource_dagster_tests.engine.columnar.comparing import (
    COLUMNS,
    Pages,
    assert_written,
    compare,
)
from restsource_dagster_tests.servers.api import ApiServer

EXAMPLES = int(os.environ.get("COLUMN_EXAMPLES", "2"))
AT_MOST = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes an hour
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(-(2**63), 2**63 - 1),
    "x": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "text": st.text(max_size=6),
    "flag": st.booleans(),
    "at": st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    "naive": st.datetimes().map(lambda moment: moment.isoformat(" ")),
    "day": st.dates().map(lambda day: day.isoformat()),
}
ODD = st.one_of(
    st.just(2**70),
    st.just("2026-13-45T00:00:00Z"),
    st.just("12"),
    st.just({}),
    st.just([]),
    st.just([[1], [2]]),
    st.just([{"a": 1}, 2, None]),
    st.just({"deep": {"er": 1}}),
    *KINDS.values(),
)
ITEM = st.fixed_dictionaries(
    {"sku": KINDS["text"]}, optional={"price": KINDS["x"], "tags": st.lists(KINDS["n"])}
)
RECORD = st.fixed_dictionaries(
    {"id": KINDS["n"]},
    optional={
        **{name: st.one_of(kind, st.none()) for name, kind in KINDS.items()},
        "customer": st.one_of(
            st.none(),
            st.fixed_dictionaries({"Name": KINDS["text"]}, optional={"vip": KINDS["flag"]}),
        ),
        "items": st.one_of(st.none(), st.lists(ITEM, max_size=3)),
        "numbers": st.lists(KINDS["n"], max_size=2),
    },
)
MOSTLY_PLAIN = st.tuples(
    RECORD, st.dictionaries(st.sampled_from(sorted(KINDS)), ODD, max_size=1)
).map(lambda both: {**both[0], **both[1]})
PAGE = st.one_of(st.lists(RECORD, max_size=5), st.lists(MOSTLY_PLAIN, max_size=5))
REGULAR_RUN = st.lists(RECORD, min_size=1, max_size=9, unique_by=lambda record: record["id"]).map(
    lambda records: [records[at : at + 3] for at in range(0, len(records), 3)]
)


@given(runs=st.lists(st.lists(PAGE, min_size=1, max_size=3), min_size=1, max_size=2))
@AT_MOST
def test_columns_and_rows_agree_on_random_records(
    api: ApiServer, tmp_path_factory: pytest.TempPathFactory, runs: list[Pages]
) -> None:
    for mode in compare(api, tmp_path_factory.mktemp("tables"), runs):
        # rows without a reason would say that columns were not tried
        assert mode != "rows"


@given(runs=st.lists(REGULAR_RUN, min_size=1, max_size=2))
@AT_MOST
def test_records_whose_fields_keep_their_types_become_columns(
    api: ApiServer, tmp_path_factory: pytest.TempPathFactory, runs: list[Pages]
) -> None:
    modes = compare(api, tmp_path_factory.mktemp("tables"), runs)
    assert_written(modes, [COLUMNS] * len(runs))
