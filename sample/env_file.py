"""Keep the sample's variables in `.env`, where Dagster and the `restsource` command read them."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values, set_key

__all__ = ["PORT_VARIABLE", "TOKEN_VARIABLE", "SampleVariables", "write_sample_variables"]

TOKEN_VARIABLE = "NYC_FLIGHTS_TOKEN"  # noqa: S105 - the variable's name
PORT_VARIABLE = "NYC_FLIGHTS_PORT"


@dataclass(frozen=True)
class SampleVariables:
    """What `configs/nyc_flights.json` refers to."""

    token: str = field(repr=False)
    port: int

    def as_environment(self) -> dict[str, str]:
        """Return the variables by name."""
        return {TOKEN_VARIABLE: self.token, PORT_VARIABLE: str(self.port)}


def write_sample_variables(
    path: Path, *, port: int, environment: Mapping[str, str]
) -> SampleVariables:
    """Bring the two variables of the sample in `path` up to date and return them.

    The token is the environment's, else the file's, else a new random one. `dagster dev` lets the
    file win over the environment, so what is used must be what is written. All other lines stay as
    they are; a file that is written can then be read by its owner only, since it holds a secret.
    """
    found = dotenv_values(path)
    token = environment.get(TOKEN_VARIABLE) or found.get(TOKEN_VARIABLE)
    variables = SampleVariables(token=token or secrets.token_urlsafe(24), port=port)
    changed = {key: new for key, new in variables.as_environment().items() if found.get(key) != new}
    if changed and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    for key, value in changed.items():
        set_key(path, key, value, quote_mode="auto", follow_symlinks=True)
    if changed:
        path.chmod(0o600)
    return variables
