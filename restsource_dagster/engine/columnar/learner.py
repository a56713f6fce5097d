"""New tables and columns: dlt's own normalizer is shown the rows that bring them.

So their names, types and hints are exactly those that loading row by row would give. dlt has no
public way to have a schema learn from rows; what is used here is guarded, and where it is gone
nothing is loaded as columns.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.schema import Schema
from dlt.normalize.configuration import NormalizeConfiguration
from dlt.normalize.items_normalizers import JsonLItemsNormalizer

from restsource_dagster.engine.columnar.errors import NotColumnarError

__all__ = ["Learner"]


class Learner:
    """Teaches a schema what dlt would learn from rows. Writes nothing."""

    def __init__(self, schema: Schema, caps: DestinationCapabilitiesContext) -> None:
        """Raises `NotColumnarError` if this version of dlt can't."""
        config = NormalizeConfiguration()
        config.destination_capabilities = caps
        nowhere: Any = None
        try:
            self._normalizer = JsonLItemsNormalizer(nowhere, nowhere, nowhere, schema, "", config)
            self._learn = self._normalizer._normalize_chunk
        except (TypeError, AttributeError) as error:
            raise NotColumnarError(
                f"this version of dlt does not show its inference: {error}"
            ) from None

    def show(self, table: str, rows: Sequence[Any]) -> None:
        """Let the schema learn from rows of a root table, in their order.

        Raises `NotColumnarError` for rows that dlt refuses: loaded one by one they are refused in
        the usual place, with the usual words.
        """
        try:
            self._learn(table, deepcopy(list(rows)), may_have_pua=False, skip_write=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, dlt says it again row by row
            raise NotColumnarError(f"dlt refuses a row: {error}") from None
