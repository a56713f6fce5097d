"""Secrets are recognised, and redacted in every encoding."""

import base64
import html
import json
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import settings as at_most
from hypothesis import strategies as st

from restsource_dagster.engine.errors import IngestError
from restsource_dagster.engine.http.redaction import Redactor, find_secrets
from restsource_dagster_tests.faults.http_parts import connector_of
from restsource_dagster_tests.faults.secret_places import CANARY, assert_clean

pytestmark = pytest.mark.faults(row=16)


@given(
    secret=st.text(min_size=6, max_size=40).filter(lambda text: len(text.strip()) >= 6),
    before=st.text(max_size=10),
    after=st.text(max_size=10),
)
@at_most(max_examples=200, deadline=None)
def test_a_secret_is_redacted_in_every_encoding(secret: str, before: str, after: str) -> None:
    redact = Redactor([secret])
    raw = secret.encode("utf-8", "surrogatepass")
    spelled = {
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        quote(quote(raw)),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        html.escape(secret),
    }
    for text in spelled:
        assert redact(f"<{text}>") == "<[secret]>", text
    joined = (before.encode("utf-8", "surrogatepass") + raw) + after.encode(
        "utf-8", "surrogatepass"
    )
    for encoded in (base64.b64encode(joined), base64.urlsafe_b64encode(joined)):
        found = redact(encoded.decode())
        assert found != encoded.decode()


def test_a_short_secret_is_hidden_inside_of_a_login() -> None:
    redact = Redactor(["abc", "me:abc"])
    assert redact("Basic " + base64.b64encode(b"me:abc").decode()) == "Basic [secret]"


def test_an_exception_with_a_secret_in_its_chain_is_replaced() -> None:
    redact = Redactor([CANARY])

    def fail() -> None:
        try:
            raise KeyError(CANARY)
        except KeyError:
            raise ValueError("something else") from None

    with pytest.raises(IngestError) as caught, redact.redacted_errors(IngestError):
        fail()
    assert_clean("".join(traceback.format_exception(caught.value)), "exception")
    with pytest.raises(ZeroDivisionError), redact.redacted_errors(IngestError):
        raise ZeroDivisionError


@pytest.mark.parametrize("part", ["headers", "params", "json", "data"])
def test_literals_with_a_secrets_name_or_look_are_secrets(part: str) -> None:
    given = {"api-key": "abcd", "anything": "0123456789abcdef0123", "plain": "words of a text"}
    connector = connector_of(
        "https://me:passw@a.example/?sig=s1gn&page=two",
        {"name": "orders", "endpoint": {part: given}},
    )
    environment = {"HTTPS_PROXY": "http://user:pr0xy@proxy.example"}
    assert find_secrets(connector, connector.resolved(environment), environment) == {
        "abcd",
        "0123456789abcdef0123",
        "me:passw",
        "passw",
        "s1gn",
        "user:pr0xy",
        "pr0xy",
    }


def test_what_is_no_secret_stays_readable() -> None:
    connector = connector_of(
        "https://${HOST}.example.com/${TENANT}",
        {"name": "orders", "endpoint": {"params": {"sort": "updated_at", "page_token": "x"}}},
        client={"headers": {"Accept": "application/json", "X-Version": "2024-01"}},
    )
    environment = {"HOST": "api-of-shop", "TENANT": "tenant-17", "UNUSED": "whatever"}
    assert find_secrets(connector, connector.resolved(environment), environment) == frozenset()


def test_a_literal_that_the_path_takes_is_a_secret_by_its_name() -> None:
    endpoint = {"path": "bot{token}/updates", "params": {"token": "123:AbCd", "limit": 5}}
    connector = connector_of("https://a.example", {"name": "updates", "endpoint": endpoint})

    assert find_secrets(connector, connector.resolved({}), {}) == {"123:AbCd"}
