"""From a connector to a dlt source."""
