"""What stock dlt accepts we accept, and what it refuses we refuse, but for the documented list.

`PARITY_MUTANTS` sets how many mutants of files there are (250 by default).
"""

import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlt.common.jsonpath import compile_path
from hypothesis import example, given
from hypothesis import strategies as st

from restsource_dagster.connector.models.fields import is_jsonpath
from restsource_dagster.connector.validation.connector_builder import parse_connector
from restsource_dagster_tests.connector.stock_dlt import (
    SECRETS,
    corpus,
    disagreement,
    harvest,
    mutated,
    read,
    stock_refusal,
)

FILES = [*corpus("valid"), *corpus("invalid")]
MUTANTS = int(os.environ.get("PARITY_MUTANTS", "250"))


@pytest.fixture(autouse=True, scope="module")
def _every_secret_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in SECRETS:
            monkeypatch.setenv(name, "known")
        monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_corpus_has_the_verdict_of_stock_dlt(path: Path) -> None:
    assert disagreement(read(path)) is None


@pytest.mark.parametrize("path", corpus("valid"), ids=lambda path: path.stem)
def test_stock_dlt_builds_every_valid_file(path: Path) -> None:
    assert stock_refusal(read(path)) is None


@given(st.text(alphabet="abwhere$@.*[]'\"?()=<>0123-_ :|`ü", max_size=14))
@example("where")
@example("a.wherenot.b")
@example("where_x")
@example("@odata.nextLink")
@example("links[?(@.rel=='next')].href")
def test_a_json_path_is_one_exactly_if_dlt_can_read_it(text: str) -> None:
    try:
        compile_path(text)
    except Exception:  # noqa: BLE001 - the parser raises anything
        assert not is_jsonpath(text)
    else:
        assert is_jsonpath(text)


def test_mutants_of_valid_files_have_the_verdict_of_stock_dlt() -> None:
    rng = random.Random(20_261_123)
    paths = corpus("valid")
    pool = harvest(paths)
    values = [read(path) for path in paths]
    accepted = 0
    for _ in range(MUTANTS):
        mutant = mutated(rng.choice(values), rng, pool)
        assert disagreement(mutant) is None, mutant
        accepted += parse_connector(mutant, Path("mutant.json"))[0] is not None
    assert MUTANTS // 10 < accepted < MUTANTS // 2
