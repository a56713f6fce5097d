"""Each request is signed when it is sent: ahead of time, again, or after a redirect. Other hosts get no signature."""

import json
from dataclasses import replace
from typing import Any

import pytest

from restsource_dagster.engine.run.outcome import Outcome
from restsource_dagster.settings import Settings
from restsource_dagster_tests.faults.http_parts import connector_of, failure_of
from restsource_dagster_tests.faults.secret_places import MARK
from restsource_dagster_tests.making import load
from restsource_dagster_tests.servers.faults import Arrival, FaultServer, Reply
from restsource_dagster_tests.servers.signed_api import (
    PASSWORD,
    AwsGate,
    DigestGate,
    Gate,
    HmacGate,
)

pytestmark = pytest.mark.faults(row=7)

DIGEST = {"type": "digest", "username": "ann", "password": "${SECRET}"}
HMAC = {
    "type": "hmac",
    "secret": "${SECRET}",
    "message": "{nonce}\n{timestamp}\n{method}\n{path}\n{query}\n{body}",
    "headers": {
        "X-Signature": "v1={signature}",
        "X-Time": "{timestamp}",
        "X-Nonce": "{nonce}",
    },
}
AWS = {
    "type": "aws_sigv4",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "${SECRET}",
    "region": "eu-central-1",
    "service": "execute-api",
}
KINDS: dict[str, tuple[dict[str, Any], type[Gate]]] = {
    "digest": (DIGEST, DigestGate),
    "hmac": (HMAC, HmacGate),
    "aws_sigv4": (AWS, AwsGate),
}


def resource(name: str, path: str, **endpoint: Any) -> dict[str, Any]:
    given = {"path": path, "data_selector": "data", "paginator": "single_page", **endpoint}
    return {"name": name, "endpoint": given}


PAGES = {"paginator": {"type": "page_number", "base_page": 1, "total_path": "total"}}


def run(
    server: FaultServer, settings: Settings, auth: dict[str, Any], *resources: Any, **http: Any
) -> dict[str, Outcome]:
    connector = connector_of(server.url, *resources, client={"auth": auth}, http=http)
    outcomes = load(connector, settings, environment={"SECRET": PASSWORD})
    assert MARK not in json.dumps([str(one) for one in outcomes.values()])
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_each_page_retry_and_hop_is_signed_anew(
    kind: str, server: FaultServer, settings: Settings
) -> None:
    auth, gate_type = KINDS[kind]
    gate = gate_type()
    spellings = ("/a%20b+%C3%BC", "/a%20b%2B%C3%BC")
    server.plan |= dict.fromkeys(("/items", "/old", *spellings), gate.answer)
    params = {"q": "a b+c/ü&=", "empty": ""}
    outcomes = run(
        server,
        settings,
        auth,
        resource("pages", "items", params=params, **PAGES),
        resource("moved", "old"),
        resource("search", "items", method="POST", json={"q": "ü"}),
        resource("odd", "a b+ü"),
    )
    rows = {name: outcome.rows_loaded for name, outcome in outcomes.items()}
    assert rows == {"pages": 4, "moved": 1, "search": 1, "odd": 1}
    # four pages, one of them twice; the redirect and where it leads to; two more. A page that was read ahead
    # of the refused one may be asked for again.
    assert len(gate.accepted) in {9, 10}
    if kind != "aws_sigv4":  # which has the second in it, and no nonce
        assert len(set(gate.accepted)) == len(gate.accepted)


@pytest.mark.parametrize("kind", KINDS)
def test_another_host_gets_no_signature_and_a_wrong_secret_is_a_clear_error(
    kind: str, server: FaultServer, settings: Settings
) -> None:
    auth, gate_type = KINDS[kind]
    gate = gate_type()
    with FaultServer() as other:

        def away(seen: Arrival) -> Any:
            accepted = gate.answer(seen)
            if isinstance(accepted, Reply) and accepted.status == 401:
                return accepted
            return Reply(status=302, headers={"Location": f"{other.url}/items"})

        # it asks for the password, too
        other.plan["/items"] = DigestGate().answer
        server.plan |= {"/away": away, "/refused": lambda _: gate.refuse()}
        allowed = [f"127.0.0.1:{other.port}"]
        away_too, refused = resource("away", "away"), resource("refused", "refused")
        outcomes = run(server, settings, auth, away_too, refused, allowed_hosts=allowed)
        (arrived,) = other.arrivals
        assert not {"authorization", "x-signature", "x-amz-date"} & set(arrived.headers)
    message = failure_of(outcomes["refused"])
    assert "answered 401" in message
    assert "check client.auth" in message
    assert MARK not in message
    assert len(server.asked("/refused")) == (2 if kind == "digest" else 1)


def test_a_digest_that_is_used_up_is_asked_for_again(
    server: FaultServer, settings: Settings
) -> None:
    gate = DigestGate(algorithm="MD5", uses=1, is_tired=False)
    server.plan["/items"] = gate.answer
    (outcome,) = run(server, settings, DIGEST, resource("pages", "items", **PAGES)).values()
    assert outcome.rows_loaded == 4
    assert gate.nonces >= 4


DIGESTS = {
    "body": DigestGate(qop="auth-int"),
    "either": DigestGate(qop="auth-int, auth"),
    "rfc_2069": DigestGate(algorithm="MD5", qop=""),
    "session": DigestGate(algorithm="SHA-256-sess", qop="auth-int, auth"),
    "body_of_a_session": DigestGate(algorithm="MD5-sess", qop="auth-int"),
    "sha_1": DigestGate(algorithm="SHA"),
    "sha_512": DigestGate(algorithm="SHA-512"),
    "sha_512_256": DigestGate(algorithm="SHA-512-256"),
}
"""What the challenges of an API may ask for beside a digest of method and path."""


def test_a_digest_covers_what_the_api_asks_for(server: FaultServer, settings: Settings) -> None:
    gates = {name: replace(gate, name=name, accepted=[]) for name, gate in DIGESTS.items()}
    server.plan |= {f"/{name}": gate.answer for name, gate in gates.items()}
    resources = [resource(name, name, method="POST", json={"q": "ü"}) for name in gates]
    resources += [resource(f"{name}_plain", name) for name in gates]
    outcomes = run(server, settings, DIGEST, *resources)
    assert not [outcome for outcome in outcomes.values() if outcome.failed]
    assert {name: len(gate.accepted) for name, gate in gates.items()} == dict.fromkeys(gates, 2)


def test_a_digest_of_something_unknown_is_refused(server: FaultServer, settings: Settings) -> None:
    server.plan["/items"] = DigestGate(qop="auth-conf").answer
    (outcome,) = run(server, settings, DIGEST, resource("pages", "items")).values()
    assert "a digest that is not supported: algorithm SHA-256, qop auth-conf" in failure_of(outcome)


def test_a_digest_that_nobody_can_answer_names_its_algorithm(
    server: FaultServer, settings: Settings
) -> None:
    gate = DigestGate(algorithm="SHA3-256")
    server.plan["/items"] = gate.answer
    (outcome,) = run(server, settings, DIGEST, resource("pages", "items")).values()
    assert "a digest that is not supported: algorithm SHA3-256" in failure_of(outcome)
