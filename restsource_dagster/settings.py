"""Where things are: the settings a person can change without touching a connector file."""

import os
from pathlib import Path

from dotenv import dotenv_values
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "read_environment"]


class Settings(BaseSettings):
    """Settings from the environment (`RESTSOURCE_...`) or a `.env` file in the current folder.

    Relative paths are relative to the current folder. Raises `pydantic.ValidationError` for a
    value that can't be read.
    """

    model_config = SettingsConfigDict(
        env_prefix="RESTSOURCE_", env_file=".env", extra="ignore", frozen=True
    )

    configs: Path = Field(default=Path("configs"), description="The folder of connector files.")
    destination: str = Field(default="duckdb", description="The dlt destination to load into.")
    data_dir: Path = Field(default=Path("data"), description="The folder of the DuckDB database.")
    state_dir: Path = Field(
        default=Path(".restsource"),
        description="The folder for what must outlive a run: creation times, locks, work folders.",
    )
    lock_wait_seconds: float = Field(
        default=900.0,
        ge=0,
        description="Seconds to wait for another run of the connector, or for whoever has the DuckDB "
        "file open, before a run fails.",
    )
    duckdb_memory: str = Field(
        default="256MB",
        pattern=r"^([0-9]+(\.[0-9]+)? ?[KMGT]i?B)?$",
        description="How much memory DuckDB takes for a load, such as `1GB`; what does not fit goes to "
        "a temporary folder beside the database. Empty: DuckDB's own limit, most of the machine.",
    )
    webserver: str | None = Field(
        default=None,
        description="The address of the Dagster webserver, such as `http://127.0.0.1:3000`, where it and "
        "the daemon have a code server each; `dagster dev` needs no such thing.",
    )


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """The variables that `${NAME}` references of connector files mean.

    The `.env` file of `folder` (the current one if left out), over the process environment: that
    is what `dagster dev` makes of the two, and a changed file counts from the next run on.
    """
    file = (folder or Path.cwd()) / ".env"
    stored = dotenv_values(file) if file.is_file() else {}
    return dict(os.environ) | {name: value for name, value in stored.items() if value is not None}
