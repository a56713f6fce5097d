"""Where settings come from, and which source outranks which."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from restsource_dagster.settings import Settings


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without settings in the environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RESTSOURCE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_without_variables_each_setting_has_its_default() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert {name: getattr(Settings(), name) for name in defaults} == defaults


def test_an_argument_outranks_the_environment_and_that_the_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".env").write_text(
        "RESTSOURCE_CONFIGS=a\nRESTSOURCE_DATA_DIR=a\nRESTSOURCE_STATE_DIR=a\nOTHER=a\n"
    )
    monkeypatch.setenv("RESTSOURCE_CONFIGS", "b")
    monkeypatch.setenv("RESTSOURCE_DATA_DIR", "b")
    settings = Settings(configs=Path("c"))
    assert (settings.configs, settings.data_dir, settings.state_dir) == (
        Path("c"),
        Path("b"),
        Path("a"),
    )


def test_names_may_be_written_small_and_unknown_ones_are_ignored(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".env").write_text("restsource_lease_seconds = 5\nRESTSOURCE_NONE_OF_OURS=x\nSTATE=x\n")
    monkeypatch.setenv("restsource_default_checks", "false")
    settings = Settings()
    assert (settings.lease_seconds, settings.default_checks) == (5.0, False)
    assert settings.state.get_secret_value() == ""


def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".env").write_text("RESTSOURCE_LEASE_SECONDS=0\n")
    monkeypatch.setenv("RESTSOURCE_DUCKDB_MEMORY", "much")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert {fault["loc"] for fault in refused.value.errors()} == {
        ("duckdb_memory",),
        ("lease_seconds",),
    }
