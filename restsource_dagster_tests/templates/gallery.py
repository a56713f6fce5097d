"""The smaller stand-ins."""

from restsource_dagster_tests.templates.airtable import Airtable
from restsource_dagster_tests.templates.freshdesk import Freshdesk
from restsource_dagster_tests.templates.hubspot import HubSpot
from restsource_dagster_tests.templates.intercom import Intercom
from restsource_dagster_tests.templates.jira import Jira
from restsource_dagster_tests.templates.klaviyo import Klaviyo
from restsource_dagster_tests.templates.notion import Notion
from restsource_dagster_tests.templates.slack import Slack
from restsource_dagster_tests.templates.stand_ins import StandIn
from restsource_dagster_tests.templates.stripe import Stripe

__all__ = ["GALLERY"]

GALLERY: tuple[type[StandIn], ...] = (
    *(Airtable, Freshdesk, HubSpot, Intercom, Jira, Klaviyo, Notion, Slack, Stripe),
)
