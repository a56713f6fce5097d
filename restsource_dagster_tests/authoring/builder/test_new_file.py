"""New files from a URL, a paste and a template; what is secret is in `.env` and nowhere else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from restsource_dagster.authoring.builder.new_file import (
    PastedSource,
    TemplateInputError,
    UrlAttempt,
    add_from_template,
    templates_of,
)
from restsource_dagster.authoring.builder.open_files import NameTakenError, OpenFiles
from restsource_dagster.authoring.importing.source_files import SourceError
from restsource_dagster.authoring.typed_login import LoginOptions, TypedLoginError
from restsource_dagster_tests.making import make_settings
from restsource_dagster_tests.servers.api import Answer, ApiServer
from restsource_dagster_tests.waiting import PATIENCE_SECONDS

SECRET = "s3cr3t-of-the-new-file"
PASTE = f"""
curl https://api.example.com/v1/orders -H 'Authorization: Bearer {SECRET}'
curl https://api.example.com/v1/customers -H 'Authorization: Bearer {SECRET}'
"""


@pytest.fixture
def open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenFiles:
    settings = make_settings(tmp_path)
    settings.configs.mkdir()
    monkeypatch.chdir(tmp_path)
    return OpenFiles(settings, lambda _: {}, dict)


def variables(tmp_path: Path) -> Mapping[str, Any]:
    return dotenv_values(tmp_path / ".env")


def test_a_paste_becomes_a_file_of_the_chosen_resources(
    open_files: OpenFiles, tmp_path: Path
) -> None:
    pasted = PastedSource.read(PASTE)
    assert (pasted.result.kind, pasted.name) == ("curl", "example")
    assert list(pasted.names) == ["orders", "customers"]
    assert SECRET not in repr(pasted)
    assert SECRET not in "".join(pasted.report)
    with pytest.raises(SourceError, match="choose"):
        pasted.add_to(open_files, "shop", [])
    file = pasted.add_to(open_files, "shop", ["orders"])
    assert file.resources == ["orders"]
    assert file.loaded.connector is not None
    assert SECRET not in file.text
    assert list(variables(tmp_path).values()) == [SECRET]
    [name] = variables(tmp_path)
    assert f"${{{name}}}" in file.text
    assert open_files.missing_variables(file) == [name]
    assert not file.path.exists()

    again = PastedSource.read(PASTE.replace(SECRET, "another-s3cr3t-value"))
    with pytest.raises(NameTakenError):
        again.add_to(open_files, "shop", ["orders"])
    open_files.forget(file)
    assert name in again.add_to(open_files, "shop", ["orders", "customers"]).notice
    assert list(variables(tmp_path).values()) == [SECRET]


def test_a_paste_of_which_nothing_can_be_made_is_told() -> None:
    with pytest.raises(SourceError):
        PastedSource.read("hello")


def test_a_url_becomes_a_file_of_what_its_answers_say(
    api: ApiServer, open_files: OpenFiles, tmp_path: Path
) -> None:
    api.answers["/v1/orders"] = [{"id": n} for n in range(1, 4)]
    attempt = UrlAttempt.start(
        open_files, "shop", f"{api.url}/v1/orders", LoginOptions(bearer=SECRET)
    )
    attempt.wait(PATIENCE_SECONDS)
    assert attempt.failure is None
    file = attempt.add()
    assert file.in_resource("orders", "primary_key") == "id"
    assert file.value_at(("client", "auth", "token")) == "${SHOP_TOKEN}"
    assert variables(tmp_path) == {"SHOP_TOKEN": SECRET}
    assert {seen.headers["authorization"] for seen in api.seen} == {f"Bearer {SECRET}"}
    assert SECRET not in repr(attempt)


def test_a_url_that_is_refused_or_written_wrongly_is_told(
    api: ApiServer, open_files: OpenFiles, tmp_path: Path
) -> None:
    api.answers["/no"] = Answer({"error": "who are you?"}, 401)
    attempt = UrlAttempt.start(open_files, "shop", f"{api.url}/no", LoginOptions(bearer=SECRET))
    attempt.wait(PATIENCE_SECONDS)
    assert attempt.failure is not None
    assert variables(tmp_path) == {}
    for name, url in (("shop", "ftp://x"), ("shop", "https://me:x@api.example.com")):
        with pytest.raises(TypedLoginError):
            UrlAttempt.start(open_files, name, url, LoginOptions())
    with pytest.raises(NameTakenError):
        UrlAttempt.start(open_files, "No", "https://api.example.com", LoginOptions())


def test_a_template_becomes_a_file_with_its_inputs(open_files: OpenFiles, tmp_path: Path) -> None:
    template = templates_of(open_files)["zendesk"]
    plain = {
        key: f"{key}-value" for key, one in template.head.inputs.items() if one.is_needed and not one.secret
    }  # fmt: skip
    [secret] = [key for key, one in template.head.inputs.items() if one.secret]
    with pytest.raises(TemplateInputError, match="is missing"):
        add_from_template(open_files, "desk", template, {secret: SECRET})
    file = add_from_template(open_files, "desk", template, {**plain, secret: SECRET})
    value = json.loads(file.text)
    assert (value["template"], value["schedule"]["mode"]) == ("zendesk", "hours")
    assert value["inputs"][secret] == f"${{DESK_{secret.upper()}}}"
    assert variables(tmp_path) == {f"DESK_{secret.upper()}": SECRET}
