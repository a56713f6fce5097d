"""The connector file: find, parse and validate it. Independent of dlt's runtime and of Dagster."""
