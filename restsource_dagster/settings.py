"""The settings of a project: folders, the destination and limits, from the environment or `.env`."""

import os
import re
from pathlib import Path

from dotenv import dotenv_values
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "read_environment"]

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
    destination: str = Field(default="duckdb", description="The dlt destination to load into.")
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
        "file there. `make run` sets it.",
    )

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


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the variables that `${NAME}` references of connector files refer to.

    The `.env` file of `folder` (by default the current one) overrides the process environment, as in
    `dagster dev`. It is read at each call, so a change takes effect with the next run.
    """
    # `Settings` reads `.env` too, but only for its own fields.
    file = (folder or Path.cwd()) / ".env"
    stored = dotenv_values(file) if file.is_file() else {}
    return dict(os.environ) | {name: value for name, value in stored.items() if value is not None}
