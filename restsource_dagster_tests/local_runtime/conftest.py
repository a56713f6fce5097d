"""Skips tests of plug-ins that are off with the installed Dagster."""

import pytest

from restsource_dagster.local_runtime import unsupported_reason


@pytest.fixture
def plugins() -> None:
    """Skip the test if the plug-ins of the local runtime are off."""
    reason = unsupported_reason()
    if reason is not None:
        pytest.skip(f"The local runtime is off: {reason}.")
