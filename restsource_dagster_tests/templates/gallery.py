"""The smaller stand-ins."""

from restsource_dagster_tests.templates.hubspot import HubSpot
from restsource_dagster_tests.templates.jira import Jira
from restsource_dagster_tests.templates.notion import Notion
from restsource_dagster_tests.templates.stand_ins import StandIn
from restsource_dagster_tests.templates.stripe import Stripe

__all__ = ["GALLERY"]

GALLERY: tuple[type[StandIn], ...] = (HubSpot, Jira, Notion, Stripe)
