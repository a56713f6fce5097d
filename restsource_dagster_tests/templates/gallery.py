"""The smaller stand-ins."""

from restsource_dagster_tests.templates.hubspot import HubSpot
from restsource_dagster_tests.templates.stand_ins import StandIn

__all__ = ["GALLERY"]

GALLERY: tuple[type[StandIn], ...] = (HubSpot,)
