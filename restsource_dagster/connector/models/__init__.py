"""The models of a connector file: what dlt's `rest_api` schema and this project accept in it."""
