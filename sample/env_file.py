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
    """The variables that `configs/nyc_flights.json` refers to."""

    token: str = field(repr=False)
    port: int

    def as_environment(self) -> dict[str, str]:
        """Return the variables by name."""
        return {TOKEN_VARIABLE: self.token, PORT_VARIABLE: str(self.port)}


def write_sample_variables(
    path: Path, *, port: int, environment: Mapping[str, str]
) -> SampleVariables:
    """Update the two variables of the sample in `path` and return them.

    The token comes from the environment, otherwise from the file, otherwise it is a new random one.
    In `dagster dev` the file overrides the environment, so the token in use must be the one in the
    file. All other lines stay unchanged. Only the owner can read the written file, because it
    contains a secret.
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
