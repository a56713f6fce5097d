"""The secrets of a destination are found wherever dlt finds them, and as parsers may split them."""

import pytest

from restsource_dagster.engine.destination.dlt_config import (
    find_destination_secrets,
    secrets_in_credentials,
)
from restsource_dagster.engine.http.redaction import Redactor

PASSWORDS = [
    "pl4inpassword",
    "abc@Sup3rS3cret",
    "ab/cd?Sup3r:S3cret",
    "p%40ss#w0rdTail",
    "a?b=c@S3cretTail",
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("after", ["", "/db", "/db?connect_timeout=15", "/db?options=a@b"])
def test_no_part_of_a_password_in_a_url_is_shown(password: str, after: str) -> None:
    url = f"postgresql://loader:{password}@127.0.0.1:5432{after}"
    hide = Redactor(secrets_in_credentials(url))
    for at in range(len(password)):
        for shown in (password[at:], password[:at], password[at:].lower()):
            # what a parser that splits the URL here takes for a host, a port or a path
            if (at == 0 or not password[at - 1].isalnum()) and shown:
                left = hide(f"could not translate host name {shown!r} to address")
                assert not any(password[i : i + 6] in left for i in range(len(password) - 5))
    if "?" not in password:  # with one, nobody can tell where the host begins
        assert "127.0.0.1" in hide("connection to 127.0.0.1:5432 refused")


@pytest.mark.parametrize(
    ("variable", "text", "secret"),
    [
        ("DESTINATION__POSTGRES__CREDENTIALS__PASSWORD", "pa@ssw0rd!", "ssw0rd!"),
        ("DESTINATION__POSTGRES__PASSWORD", "s3cretpass", "s3cretpass"),
        ("SHOP__DESTINATION__CREDENTIALS", "mysql://u:s3cretpass@h/db", "s3cretpass"),
        ("CREDENTIALS", "mysql://u:s3cretpass@h/db", "s3cretpass"),
        ("DESTINATION__FILESYSTEM__CREDENTIALS__AWS_SECRET_ACCESS_KEY", "a1b2c3d4", "a1b2c3d4"),
        ("DESTINATION__MSSQL__CREDENTIALS", "Server=h;UID=u;PWD=s3cret0ne;", "s3cret0ne"),
        ("DESTINATION__MOTHERDUCK__CREDENTIALS", "md:db?motherduck_token=t0kenvalue", "t0kenvalue"),
        ("DESTINATION__BIGQUERY__CREDENTIALS", '{"private_key": "PRIV-KEY"}', "PRIV-KEY"),
    ],
)
def test_secrets_in_the_environment_are_found(variable: str, text: str, secret: str) -> None:
    assert secret in find_destination_secrets("postgres", {variable: text, "OTHER": "harmless"})


def test_what_is_no_secret_stays_readable() -> None:
    environment = {
        "DESTINATION__POSTGRES__CREDENTIALS__HOST": "db.example.com",
        "DESTINATION__POSTGRES__CREDENTIALS__USERNAME": "loader",
        "DESTINATION__DUCKDB__CREDENTIALS": "/data/warehouse.duckdb",
        "DESTINATION__FILESYSTEM__BUCKET_URL": "s3://bucket/folder",
    }
    assert find_destination_secrets("postgres", environment) == frozenset()
