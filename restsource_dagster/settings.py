"""Where things are: the settings a person can change without touching a connector file."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


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
