"""From a call of an endpoint to the records of all its pages."""
