"""The settings of a project: folders, the destination and limits, from the environment or `.env`."""

import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "destination_type", "read_environment"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Settings(BaseSettings):
    """Settings from the environment (`RESTSOURCE_...`) or a `.env` file in the current folder.

    Relative paths are relative to the current folder. Raises `pydantic.ValidationError` for an invalid
    value.
    """

    model_config = SettingsConfigDict(
        env_prefix="RESTSOURCE_", env_file=".env", extra="ignore", frozen=True
    )

    configs: Path = Field(default=Path("configs"), description="The folder of connector files.")
    destination: str = Field(
        default="duckdb",
        description="The dlt destination to load into, unless a file names another one (`destination`).",
    )
    data_dir: Path = Field(default=Path("data"), description="The folder of the DuckDB database.")
    state_dir: Path = Field(
        default=Path(".restsource"),
        description="The folder for what is kept between runs: work folders; and the state, without `RESTSOURCE_STATE`.",
    )
    state: SecretStr = Field(
        default=SecretStr(""),
        description="Where creation times, starts of live runs, locks, tokens and shared budgets are kept: a "
        "folder, or a database (`postgresql://user:password@host/name`) that all machines share. Empty: the "
        "folder `RESTSOURCE_STATE_DIR`. [More](operations.md#more-than-one-machine)",
    )
    lease_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds after which a run that stands still, or whose machine is gone, loses its connector to "
        "another machine. Only with a database in `RESTSOURCE_STATE`.",
    )
    token_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="The key that stored tokens are encrypted with, by the package cryptography (Fernet). "
        "Several, separated by commas: the first one encrypts, all of them decrypt.",
    )
    lock_wait_seconds: float = Field(
        default=900.0,
        ge=0,
        description="Seconds to wait for another run of the connector, for another program that has the "
        "DuckDB file open, or for a lock in Postgres, before a run fails.",
    )
    duckdb_memory: str = Field(
        default="256MB",
        pattern=r"^([0-9]+(\.[0-9]+)? ?[KMGT]i?B)?$",
        description="How much memory DuckDB uses for a load, such as `1GB`. What does not fit goes to a "
        "temporary folder beside the database. Empty: DuckDB's own limit, most of the machine.",
    )
    checkpoint_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds after which a long extract loads what it has read so far, before it goes on. A "
        "run that fails or is killed later keeps these rows, and the next one continues after them.",
    )
    default_checks: bool = Field(
        default=True,
        description="With `false`, only the checks that files ask for. Each check takes Dagster about 0.15 ms to "
        "load, and two events of each run.",
    )
    webserver: str | None = Field(
        default=None,
        description="The address of the Dagster webserver, such as `http://127.0.0.1:3000`, if it and the "
        "daemon have a code server each. `dagster dev` does not need it.",
    )
    builder: str | None = Field(
        default=None,
        description="The address of a running builder, such as `http://127.0.0.1:3002`: each asset links to its "
        "file there. `make run` sets it. If left out, the builder that runs on this machine for this state folder.",
    )

    @property
    def builder_address(self) -> str | None:
        """The address of the builder, without its token: as it is set, else that of one that runs here."""
        # only assets link to it
        from restsource_dagster.builder_note import running_builder

        return self.builder or running_builder(self.state_dir)

    def for_destination(self, given: str | None) -> Self:
        """Return the settings of a connector whose file names a destination, or None."""
        return self.model_copy(update={"destination": given}) if given else self

    @property
    def destination_type(self) -> str:
        """The type of the destination, such as `postgres`; it may have another name."""
        return destination_type(self.destination)

    @property
    def state_url(self) -> str | None:
        """The database of the state, with its password; None if it is in the folder `state_folder`."""
        value = self.state.get_secret_value()
        # a misspelt URL is no folder
        return value if _URL.match(value) else None

    @property
    def state_folder(self) -> Path:
        """The folder of the state if no database has it."""
        value = self.state.get_secret_value()
        return Path(value) if value and self.state_url is None else self.state_dir


_DLT_FILES = ("secrets.toml", "config.toml")


def destination_type(name: str) -> str:
    """Return the type of a destination by its name, such as `postgres`, as dlt's configuration says.

    It is looked up where dlt looks first: in the environment (`DESTINATION__CRM__DESTINATION_TYPE`), then
    below `[destination.crm]` of the files in `.dlt`, here and in the home folder. Without one the name is the
    type. dlt is not imported: Dagster's definitions load without it.
    https://dlthub.com/docs/general-usage/destination#declare-external-destination
    """
    found = os.environ.get(f"DESTINATION__{name.upper()}__DESTINATION_TYPE")
    for folder in (Path(".dlt"), Path.home() / ".dlt"):
        for file in _DLT_FILES:
            found = found or _type_in(folder / file, name)
    # dlt takes the full name of a class, too
    return (found or name).rpartition(".")[2]


def _type_in(path: Path, name: str) -> str | None:
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    value: Any = _read_toml(path.absolute(), changed)
    for key in ("destination", name, "destination_type"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


@lru_cache(maxsize=8)
def _read_toml(path: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 - a changed file is read again
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # dlt reports it, with the place
        return {}


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the variables that `${NAME}` references of connector files refer to.

    The `.env` file of `folder` (by default the current one) overrides the process environment, as in
    `dagster dev`. It is read at each call, so a change takes effect with the next run.
    """
    # `Settings` reads `.env` too, but only for its own fields.
    file = (folder or Path.cwd()) / ".env"
    stored = dotenv_values(file) if file.is_file() else {}
    return dict(os.environ) | {name: value for name, value in stored.items() if value is not None}
